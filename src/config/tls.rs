//! Certificates and keys that were read and fit together.
//!
//! Equal is what has the same files' content, so that a reload that finds the same changes nothing. No key is ever shown.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::sign::CertifiedKey;
use sha2::{Digest as _, Sha256};

use super::acme::Acme;
use crate::wire::SubjectName;

/// A digest of files' content: SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of these files' content, each with its length, so that no byte passes from one to the next.
    pub fn of(contents: &[&[u8]]) -> Self {
        let mut hasher = Sha256::new();
        for content in contents {
            hasher.update((content.len() as u64).to_be_bytes());
            hasher.update(content);
        }
        Self(hasher.finalize().into())
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Digest {
    /// Its first 8 bytes in hexadecimal digits: for names of files.
    pub fn short(&self) -> String {
        let number = self.0.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        format!("{number:016x}")
    }
}

impl fmt::Debug for Digest {
    /// The first bytes: enough to tell two from each other, and no help to guess a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(4).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A certificate with its chain and its key, which fit together.
#[derive(Clone)]
pub struct Credentials {
    /// What rustls signs with.
    pub certified: Arc<CertifiedKey>,
    /// The names in the certificate, in its order.
    pub names: Vec<SubjectName>,
    /// When it is valid, in seconds since 1970.
    pub valid: RangeInclusive<i64>,
    digest: Digest,
}

impl Credentials {
    /// The certificate and key of `certified`; `digest` is of the files that they were read from.
    pub fn new(
        certified: Arc<CertifiedKey>,
        names: Vec<SubjectName>,
        valid: RangeInclusive<i64>,
        digest: Digest,
    ) -> Self {
        Self { certified, names, valid, digest }
    }

    /// The digest of the files that they were read from.
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

impl PartialEq for Credentials {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for Credentials {}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { certified: _, names, valid, digest } = self;
        f.debug_struct("Credentials")
            .field("names", names)
            .field("valid", valid)
            .field("digest", digest)
            .finish_non_exhaustive()
    }
}

/// TLS on a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerTls {
    /// The certificates; at least one where there is no `acme`. Each has a name, and no two of one kind of key have one
    /// in common.
    pub certificates: Vec<Credentials>,
    /// A certificate that is got by ACME; it comes after the others, and has no name of theirs.
    pub acme: Option<Arc<Acme>>,
    /// What becomes of a client that asks for a name which no certificate has, or for none.
    pub unknown_name: UnknownName,
    /// The oldest version.
    pub min_version: TlsVersion,
    /// Whose certificates clients may, or must, have; `None`: they are not asked.
    pub clients: Option<Clients>,
}

/// Whose certificates clients may, or must, have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clients {
    /// The authorities of their certificates.
    pub authorities: Authorities,
    /// Whether a client without a certificate is refused.
    pub required: bool,
}

/// What becomes of a client that asks for a name which no certificate has, or for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UnknownName {
    /// It gets the first certificate.
    #[default]
    First,
    /// It is refused.
    Refuse,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[default]
    Tls12,
    /// TLS 1.3.
    Tls13,
}

/// The authorities whose certificates are believed.
#[derive(Clone)]
pub struct Authorities {
    /// What rustls believes.
    pub roots: Arc<RootCertStore>,
    digest: Digest,
}

impl Authorities {
    /// The authorities of `roots`; `digest` is of the file that they were read from.
    pub fn new(roots: Arc<RootCertStore>, digest: Digest) -> Self {
        Self { roots, digest }
    }

    /// The digest of the file that they were read from.
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

impl PartialEq for Authorities {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for Authorities {}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorities").field("roots", &self.roots.len()).field("digest", &self.digest).finish()
    }
}
