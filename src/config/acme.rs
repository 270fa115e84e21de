//! A certificate that an authority issues by ACME: what is asked for, of whom, and how it is shown that the names are
//! ours. Who asks, and what is kept, is `acme`'s.

use std::fmt;
use std::time::Duration;

use super::tls::{Authorities, Digest};

/// A certificate that an authority issues by ACME (RFC 8555).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acme {
    /// The names of the certificate in file order, at least one, each once: in lower case, ASCII, without a dot at the end.
    pub domains: Vec<String>,
    /// Where the authority writes to.
    pub email: Option<String>,
    /// The URL of the authority's directory; `https`.
    pub directory: String,
    /// Whom to believe that it is the directory's; `None`: whom the system trusts.
    pub directory_ca: Option<Authorities>,
    /// How the authority is shown that the names lead here.
    pub challenge: Challenge,
    /// How long before its end it is renewed; `None`: when a third of its time is left.
    pub renew_before: Option<Duration>,
}

/// How an authority is shown that a name leads here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Challenge {
    /// By a certificate made for it (RFC 8737).
    TlsAlpn01,
    /// By a page made for it (RFC 8555 §8.3).
    Http01,
}

/// Which certificate it is: the same over reloads and restarts, for every listener that wants the same names of the
/// same authority.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CertificateId(String);

/// Which account it is: the same for all certificates that are asked for at one directory with one e-mail address.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccountId(String);

impl Acme {
    /// Which certificate it is.
    pub fn certificate_id(&self) -> CertificateId {
        let mut names: Vec<_> = self.domains.iter().map(String::as_bytes).collect();
        names.sort_unstable();
        let mut parts = vec![self.directory.as_bytes()];
        parts.extend(names);
        // A name of its own, so that people find it, and the digest, so that it is no other's.
        let first = self.domains.first().map(String::as_str).unwrap_or_default();
        CertificateId(format!("{first}-{}", Digest::of(&parts).short()))
    }

    /// Which account it is.
    pub fn account_id(&self) -> AccountId {
        let email = self.email.as_deref().unwrap_or_default();
        AccountId(Digest::of(&[self.directory.as_bytes(), email.as_bytes()]).short())
    }
}

impl CertificateId {
    /// As a part of a file's name: letters, digits, `-`, `_` and `.`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AccountId {
    /// As a part of a file's name: hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for CertificateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TlsAlpn01 => "tls-alpn-01",
            Self::Http01 => "http-01",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acme(domains: &[&str], email: Option<&str>, directory: &str) -> Acme {
        Acme {
            domains: domains.iter().map(|name| (*name).to_owned()).collect(),
            email: email.map(str::to_owned),
            directory: directory.to_owned(),
            directory_ca: None,
            challenge: Challenge::TlsAlpn01,
            renew_before: None,
        }
    }

    #[test]
    fn certificate_is_the_same_for_the_same_names_of_the_same_authority_alone() {
        let one = acme(&["a.example", "b.example"], None, "https://ca/");
        let rows = [
            (acme(&["a.example", "b.example"], Some("a@b"), "https://ca/"), true),
            (acme(&["a.example"], None, "https://ca/"), false),
            (acme(&["a.example", "b.example", "c.example"], None, "https://ca/"), false),
            (acme(&["a.example", "b.example"], None, "https://other/"), false),
        ];
        for (other, is_same) in rows {
            assert_eq!(one.certificate_id() == other.certificate_id(), is_same, "{other:?}");
        }
        // The order is no difference to the digest; the first name stands in front of it.
        let turned = acme(&["b.example", "a.example"], None, "https://ca/").certificate_id();
        let digest = |id: &CertificateId| id.as_str().rsplit_once('-').unwrap().1.to_owned();
        assert_eq!(digest(&one.certificate_id()), digest(&turned));
    }

    #[test]
    fn account_is_one_for_each_directory_and_address() {
        let one = acme(&["a.example"], None, "https://ca/");
        let rows = [
            (acme(&["z.example"], None, "https://ca/"), true),
            (acme(&["a.example"], Some("a@b"), "https://ca/"), false),
            (acme(&["a.example"], None, "https://other/"), false),
        ];
        for (other, is_same) in rows {
            assert_eq!(one.account_id() == other.account_id(), is_same, "{other:?}");
        }
    }
}
