//! Certificates, their keys and authorities, from the files that the configuration names. Whoever serves with them and
//! whoever connects with them asks here; which names a certificate needs is for them to say.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{Error as TlsError, InconsistentKeys, RootCertStore};

use super::super::diagnostic::{Code, Severity};
use super::super::field::{Field, Text};
use super::super::source::{FileError, resolve};
use super::super::tls::{Authorities, Credentials, Digest};
use super::Lower;
use crate::wire::Certificate;

const IN_PEM: &str = "the file is PEM: text with `-----BEGIN CERTIFICATE-----`";
const ORDER: &str = "the owner's own certificate comes first, then those that lead to its authority";

impl Lower<'_, '_> {
    /// The certificate chain in the file `cert` with the key in the file `key`, which may be the same file.
    ///
    /// A certificate that has expired or is not valid yet is a warning: refusing to serve would make of one
    /// forgotten renewal the outage of every other name.
    pub(super) fn credentials(&mut self, cert: &Field<Text>, key: &Field<Text>) -> Option<Credentials> {
        let (chain_file, key_file) = (self.pem(cert), self.pem(key));
        let (chain_file, key_file) = (chain_file?, key_file?);
        let chain = self.certificates(cert, &chain_file);
        let signing = self.signing_key(key, &key_file);
        let chain = chain?;
        let leaf = self.leaf(cert, chain.first()?);
        let certified = CertifiedKey::new(chain, signing?);
        if !self.matches(cert, key, &certified) {
            return None;
        }
        let leaf = leaf?;
        self.in_time(cert, &leaf);
        let valid = leaf.not_before..=leaf.not_after;
        let digest = Digest::of(&[&chain_file, &key_file]);
        Some(Credentials::new(Arc::new(certified), leaf.names, valid, digest))
    }

    /// The authorities in the file `ca`.
    pub(super) fn authorities(&mut self, ca: &Field<Text>) -> Option<Authorities> {
        let content = self.pem(ca)?;
        let certificates = self.certificates(ca, &content)?;
        let mut roots = RootCertStore::empty();
        for (number, certificate) in (1..).zip(certificates) {
            if roots.add(certificate).is_err() {
                let message = format!("certificate {number} of the file cannot be an authority");
                self.invalid(Code::InvalidCertificate, ca, message)
                    .hint("X.509 version 3 is needed; `openssl x509 -text` shows what it is");
                return None;
            }
        }
        Some(Authorities::new(Arc::new(roots), Digest::of(&[&content])))
    }

    /// The content of the file that `field` names.
    fn pem(&mut self, field: &Field<Text>) -> Option<Vec<u8>> {
        let path = resolve(self.report.sources, field.span, field.get()?.as_ref());
        match self.files.pem_file(&path) {
            Ok(content) => Some(content),
            Err(error) => {
                let code = match error {
                    FileError::Unreadable(_) => Code::FileUnreadable,
                    FileError::TooLarge(_) => Code::FileTooLarge,
                };
                self.invalid(code, field, format!("the file cannot be used: {error}"))
                    .hint("a relative path begins at the folder of the file that names it");
                None
            }
        }
    }

    /// All certificates in `content`; at least one.
    fn certificates(&mut self, field: &Field<Text>, content: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
        let read: Result<Vec<_>, PemError> = CertificateDer::pem_slice_iter(content).collect();
        let message = match read {
            Ok(certificates) if !certificates.is_empty() => return Some(certificates),
            Ok(_) => "there is no certificate in the file".to_owned(),
            Err(error) => format!("the certificates in the file cannot be read: {}", in_words(&error)),
        };
        let hint = if content.first() == Some(&0x30) {
            "it looks like DER; `openssl x509 -inform der` makes PEM of it"
        } else {
            IN_PEM
        };
        self.invalid(Code::InvalidCertificate, field, message).hint(hint);
        None
    }

    fn leaf(&mut self, field: &Field<Text>, certificate: &CertificateDer<'_>) -> Option<Certificate> {
        let leaf = Certificate::parse(certificate);
        if leaf.is_err() {
            self.invalid(Code::InvalidCertificate, field, "the first certificate in the file is not X.509")
                .hint("`openssl x509 -text` shows what it is");
        }
        leaf.ok()
    }

    /// The key in `content`.
    fn signing_key(&mut self, field: &Field<Text>, content: &[u8]) -> Option<Arc<dyn SigningKey>> {
        let has = |text: &str| memchr::memmem::find(content, text.as_bytes()).is_some();
        if has("BEGIN ENCRYPTED PRIVATE KEY") || has("Proc-Type: 4,ENCRYPTED") {
            self.invalid(
                Code::InvalidPrivateKey,
                field,
                "the key is encrypted, and there is nobody to ask for its password",
            )
            .hint(
                "`openssl pkey -in OLD -out NEW` writes it in the clear; let only this proxy's user read it",
            );
            return None;
        }
        let key = match PrivateKeyDer::from_pem_slice(content) {
            Ok(key) => key,
            Err(error) => {
                let message = match error {
                    PemError::NoItemsFound => "there is no private key in the file".to_owned(),
                    error => format!("the key in the file cannot be read: {}", in_words(&error)),
                };
                self.invalid(Code::InvalidPrivateKey, field, message)
                    .hint("the file is PEM: text with `-----BEGIN PRIVATE KEY-----`");
                return None;
            }
        };
        // What the error says may show parts of the key.
        let signing = any_supported_type(&key);
        if signing.is_err() {
            self.invalid(
                Code::InvalidPrivateKey,
                field,
                "the key in the file is of no kind that can be used",
            )
            .hint("ECDSA of P-256, P-384 or P-521, RSA of 2048 to 8192 bits, or Ed25519");
        }
        signing.ok()
    }

    /// Whether certificate and key fit together.
    fn matches(&mut self, cert: &Field<Text>, key: &Field<Text>, certified: &CertifiedKey) -> bool {
        match certified.keys_match() {
            Ok(()) | Err(TlsError::InconsistentKeys(InconsistentKeys::Unknown)) => true,
            Err(TlsError::InconsistentKeys(_)) => {
                let of_another = certified.cert.iter().skip(1).any(|other| {
                    CertifiedKey::new(vec![other.clone()], Arc::clone(&certified.key)).keys_match().is_ok()
                });
                let hint = if of_another {
                    ORDER
                } else {
                    "each `cert` needs the key that its request was signed with; while both are being replaced, \
                     the old pair goes on"
                };
                let span = cert.span;
                self.invalid(Code::KeyMismatch, key, "the key does not belong to the certificate")
                    .related(span, "this certificate")
                    .hint(hint);
                false
            }
            Err(error) => {
                let message = format!("the first certificate in the file cannot be used: {error}");
                self.invalid(Code::InvalidCertificate, cert, message)
                    .hint("X.509 version 3 is needed; `openssl x509 -text` shows what it is");
                false
            }
        }
    }

    fn in_time(&mut self, field: &Field<Text>, leaf: &Certificate) {
        let now = self.now;
        let message = if now > leaf.not_after {
            "the certificate has expired"
        } else if now < leaf.not_before {
            "the certificate is not valid yet"
        } else {
            return;
        };
        let text =
            |seconds| jiff::Timestamp::from_second(seconds).map_or_else(|_| "?".into(), |t| t.to_string());
        let hint = format!("it is valid from {} to {}", text(leaf.not_before), text(leaf.not_after));
        self.report.add(Severity::Warning, Code::CertificateTime, field.span, message).hint(hint);
    }
}

/// What is wrong with PEM; nothing of the text itself, which may be a key.
fn in_words(error: &PemError) -> &'static str {
    match error {
        PemError::MissingSectionEnd { .. } => "an `-----END …-----` is missing",
        PemError::IllegalSectionStart { .. } => "a `-----BEGIN …-----` is broken",
        PemError::Base64Decode(_) => "what stands between the lines is not base64",
        PemError::SectionTooLarge => "it is too large",
        _ => "it is not PEM",
    }
}
