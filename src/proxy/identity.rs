//! Who a client is by its certificate: made once a connection, when its handshake is over. Whether the certificate is to
//! be believed was decided there.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use crate::logic::condition::ClientCertificate;
use crate::wire::{Certificate, CertificateError, SubjectName};

/// Who a client is by its certificate.
#[derive(Debug, Clone)]
pub struct Identity {
    certificate: ClientCertificate,
    element: Box<str>,
    not_after: i64,
}

impl Identity {
    /// Whom the certificate `der` names.
    ///
    /// # Errors
    /// [`CertificateError`] where it cannot be read.
    pub fn of(der: &[u8]) -> Result<Self, CertificateError> {
        let read = Certificate::parse(der)?;
        let mut fingerprint = String::with_capacity(64);
        for byte in Sha256::digest(der) {
            let _ = write!(fingerprint, "{byte:02x}");
        }
        let element = element(&fingerprint, &read);
        let mut names: Vec<_> = read.names.iter().collect();
        names.sort_by_key(|name| match name {
            SubjectName::Uri(_) => 0,
            SubjectName::Dns(_) => 1,
            SubjectName::Email(_) => 2,
            SubjectName::Address(_) => 3,
        });
        let names = names.into_iter().map(SubjectName::text).collect();
        let certificate = ClientCertificate { names, common_name: read.common_name, fingerprint };
        Ok(Self { certificate, element: element.into(), not_after: read.not_after })
    }

    /// What routing reads of it.
    pub fn certificate(&self) -> &ClientCertificate {
        &self.certificate
    }

    /// The client as `X-Forwarded-Client-Cert` has it.
    pub fn element(&self) -> &str {
        &self.element
    }

    /// Whether the certificate has expired at `now`, in seconds since 1970.
    pub fn is_over(&self, now: u64) -> bool {
        i64::try_from(now).is_ok_and(|now| now > self.not_after)
    }
}

/// `Hash=…;Subject="…";URI=…;DNS=…`, as Envoy writes it; each `URI` and `DNS` is a pair of its own. No value can end
/// its quotes: a subject has no quotation mark (see [`Certificate::subject`]), and other values with one are left out.
fn element(fingerprint: &str, certificate: &Certificate) -> String {
    let mut out = format!("Hash={fingerprint};Subject=\"{}\"", certificate.subject);
    for (key, value) in certificate.names.iter().filter_map(pair) {
        let quote = if value.contains([',', ';', '=', ' ']) { "\"" } else { "" };
        let _ = write!(out, ";{key}={quote}{value}{quote}");
    }
    out
}

fn pair(name: &SubjectName) -> Option<(&'static str, &str)> {
    let (key, value) = match name {
        SubjectName::Uri(value) => ("URI", value),
        SubjectName::Dns(value) => ("DNS", value),
        SubjectName::Email(_) | SubjectName::Address(_) => return None,
    };
    (!value.contains(['"', '\\'])).then_some((key, value))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

    use super::*;

    fn identity(common_name: &str, names: Vec<SanType>) -> Identity {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.subject_alt_names = names;
        Identity::of(params.self_signed(&KeyPair::generate().unwrap()).unwrap().der()).unwrap()
    }

    #[test]
    fn subject_cannot_end_its_quotes_and_say_more() {
        let forged = identity("x\";URI=spiffe://admin;Subject=\"CN=root\\", Vec::new());
        let (hash, subject) = forged.element().split_once(';').unwrap();
        assert_eq!(hash.len(), "Hash=".len() + 64);
        assert_eq!(
            subject, "Subject=\"CN=x\\22\\;URI\\=spiffe://admin\\;Subject\\=\\22CN\\=root\\5c\"",
            "one pair of quotes, and no name"
        );
    }

    #[test]
    fn names_are_told_in_the_certificate_s_order_and_read_by_their_kind() {
        let names = vec![
            SanType::DnsName("ada.test".try_into().unwrap()),
            SanType::IpAddress("2001:db8::1".parse().unwrap()),
            SanType::Rfc822Name("ada@a.test".try_into().unwrap()),
            SanType::URI("spiffe://a.test/ada?x=y;z".try_into().unwrap()),
            SanType::URI("a:\"b".try_into().unwrap()),
            SanType::URI("a: b".try_into().unwrap()),
        ];
        let ada = identity("ada", names);
        let (_, told) = ada.element().split_once(";Subject=").unwrap();
        assert_eq!(told, "\"CN=ada\";DNS=ada.test;URI=\"spiffe://a.test/ada?x=y;z\"");
        let expected = ["spiffe://a.test/ada?x=y;z", "a:\"b", "ada.test", "ada@a.test", "2001:db8::1"];
        assert_eq!(ada.certificate().names, expected, "one with a space is no name");
        assert!(!ada.is_over(0) && ada.is_over(u64::from(u32::MAX) * 4096));
    }
}
