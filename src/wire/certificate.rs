//! What an X.509 certificate says of its owner: names, subject, and how long it holds. Pure. Whether it is to be
//! believed is not known here: rustls verifies before anybody asks.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// Why bytes are no certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not an X.509 certificate")]
pub struct CertificateError;

/// What a certificate says of its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The subject as RFC 4514 writes it: the most particular part first, and what could be mistaken escaped; it has no
    /// quotation mark. Empty where there is none.
    pub subject: String,
    /// The common name, where there is exactly one and it is a text without control characters.
    pub common_name: Option<String>,
    /// The subject's alternative names that are texts or addresses, in the certificate's order.
    pub names: Vec<SubjectName>,
    /// It holds from here, in seconds since 1970.
    pub not_before: i64,
    /// It holds to here, this second included.
    pub not_after: i64,
}

/// An alternative name of a certificate's subject (RFC 5280 §4.2.1.6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubjectName {
    /// A host, perhaps with a wildcard.
    Dns(String),
    /// A URI, such as a SPIFFE identity.
    Uri(String),
    /// An email address.
    Email(String),
    /// An IP address.
    Address(IpAddr),
}

impl SubjectName {
    /// The name as text; an address in its canonical form (RFC 5952).
    pub fn text(&self) -> String {
        match self {
            Self::Dns(text) | Self::Uri(text) | Self::Email(text) => text.clone(),
            Self::Address(address) => address.to_string(),
        }
    }
}

impl Certificate {
    /// Reads a certificate in DER.
    ///
    /// # Errors
    /// [`CertificateError`] where it is none, or has something behind it.
    pub fn parse(der: &[u8]) -> Result<Self, CertificateError> {
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| CertificateError)?;
        if !rest.is_empty() {
            return Err(CertificateError);
        }
        let names = certificate.subject_alternative_name().map_err(|_| CertificateError)?;
        let names = names.map(|names| names.value.general_names.iter().filter_map(subject_name).collect());
        let mut common_names = certificate.subject().iter_common_name();
        let common_name = match (common_names.next(), common_names.next()) {
            (Some(name), None) => name.as_str().ok().filter(|name| is_plain(name)).map(str::to_owned),
            _ => None,
        };
        Ok(Self {
            subject: subject(certificate.subject()),
            common_name,
            names: names.unwrap_or_default(),
            not_before: certificate.validity().not_before.timestamp(),
            not_after: certificate.validity().not_after.timestamp(),
        })
    }
}

/// Whether it is a text that can be shown.
fn is_plain(text: &str) -> bool {
    !text.is_empty() && !text.contains(char::is_control)
}

/// A name; `None` for other kinds, and for texts that no name of their kind can be: they are no identity.
fn subject_name(name: &GeneralName<'_>) -> Option<SubjectName> {
    let text = |text: &str| {
        let is_name = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        is_name.then(|| text.to_owned())
    };
    Some(match name {
        GeneralName::DNSName(name) => SubjectName::Dns(text(name)?),
        GeneralName::URI(name) => SubjectName::Uri(text(name)?),
        GeneralName::RFC822Name(name) => SubjectName::Email(text(name)?),
        GeneralName::IPAddress(octets) => SubjectName::Address(address(octets)?),
        _ => return None,
    })
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    let of_four = <[u8; 4]>::try_from(octets).map(|octets| Ipv4Addr::from(octets).into());
    of_four.or_else(|_| <[u8; 16]>::try_from(octets).map(|octets| Ipv6Addr::from(octets).into())).ok()
}

/// `name` as RFC 4514 §2 writes it, so that no value can look like another attribute.
fn subject(name: &X509Name<'_>) -> String {
    let mut out = String::new();
    let parts: Vec<_> = name.iter_rdn().collect();
    for part in parts.into_iter().rev() {
        let separator = if out.is_empty() { "" } else { "," };
        out.push_str(separator);
        for (number, attribute) in part.iter().enumerate() {
            out.push_str(if number == 0 { "" } else { "+" });
            write_attribute(&mut out, attribute);
        }
    }
    out
}

/// The attributes that have a word (RFC 4514 §3, and two that OpenSSL has words for).
const WORDS: &[(&str, &str)] = &[
    ("2.5.4.3", "CN"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.6", "C"),
    ("2.5.4.9", "STREET"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("2.5.4.5", "serialNumber"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
];

fn write_attribute(out: &mut String, attribute: &AttributeTypeAndValue<'_>) {
    let kind = attribute.attr_type().to_id_string();
    let word = WORDS.iter().find(|(id, _)| *id == kind).map(|(_, word)| *word);
    out.push_str(word.unwrap_or(&kind));
    out.push('=');
    match attribute.as_str() {
        Ok(text) if word.is_some() => write_escaped(out, text),
        _ => {
            // Another kind of text or none: its bytes (§2.4).
            out.push('#');
            for byte in attribute.as_slice() {
                let _ = write!(out, "{byte:02x}");
            }
        }
    }
}

fn write_escaped(out: &mut String, text: &str) {
    let last = text.chars().count().saturating_sub(1);
    for (at, letter) in text.chars().enumerate() {
        let at_an_end = (at == 0 && matches!(letter, ' ' | '#')) || (at == last && letter == ' ');
        // A quotation mark and a backslash too, which would be read in more than one way where the whole is quoted.
        if letter.is_control() && !letter.is_ascii() {
            out.push(char::REPLACEMENT_CHARACTER);
        } else if letter.is_ascii_control() || matches!(letter, '"' | '\\') {
            let _ = write!(out, "\\{:02x}", u32::from(letter));
        } else {
            let special = matches!(letter, '+' | ',' | ';' | '<' | '>' | '=');
            out.push_str(if special || at_an_end { "\\" } else { "" });
            out.push(letter);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair, SanType};

    use super::*;

    fn made(subject: &[(DnType, &str)], names: Vec<SanType>) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in subject {
            params.distinguished_name.push(kind.clone(), DnValue::Utf8String((*value).to_owned()));
        }
        params.subject_alt_names = names;
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn subject_is_written_so_that_no_value_looks_like_another_attribute() {
        let rows: &[(&[(DnType, &str)], &str)] = &[
            (&[], ""),
            (&[(DnType::CommonName, "ada")], "CN=ada"),
            (
                &[
                    (DnType::CountryName, "DE"),
                    (DnType::OrganizationName, "A B"),
                    (DnType::CommonName, "ada"),
                ],
                "CN=ada,O=A B,C=DE",
            ),
            (&[(DnType::CommonName, "ada,OU=root")], "CN=ada\\,OU\\=root"),
            (&[(DnType::CommonName, " #x;\"<>+\\ ")], "CN=\\ #x\\;\\22\\<\\>\\+\\5c\\ "),
            (&[(DnType::CommonName, "#1\r\nx")], "CN=\\#1\\0d\\0ax"),
            (&[(DnType::CommonName, "Zoë")], "CN=Zoë"),
            (&[(DnType::CustomDnType(vec![1, 2, 3, 4]), "x,CN=root")], "1.2.3.4=#782c434e3d726f6f74"),
        ];
        for (subject, expected) in rows {
            assert_eq!(Certificate::parse(&made(subject, Vec::new())).unwrap().subject, *expected);
        }
    }

    #[test]
    fn names_come_in_the_order_of_the_certificate_and_the_common_name_only_if_there_is_one() {
        let names = vec![
            SanType::DnsName("*.example.com".try_into().unwrap()),
            SanType::URI("spiffe://example.com/a".try_into().unwrap()),
            SanType::IpAddress("2001:db8::1".parse().unwrap()),
            SanType::IpAddress("192.0.2.1".parse().unwrap()),
            SanType::Rfc822Name("ada@example.com".try_into().unwrap()),
        ];
        let certificate = Certificate::parse(&made(&[(DnType::CommonName, "ada")], names)).unwrap();
        let texts: Vec<_> = certificate.names.iter().map(SubjectName::text).collect();
        assert_eq!(
            texts,
            ["*.example.com", "spiffe://example.com/a", "2001:db8::1", "192.0.2.1", "ada@example.com"]
        );
        assert_eq!(certificate.common_name.as_deref(), Some("ada"));
        assert!(certificate.not_before < certificate.not_after);
        let none = Certificate::parse(&made(&[], Vec::new())).unwrap();
        assert_eq!((none.common_name, none.names), (None, Vec::new()));
    }

    proptest! {
        #[test]
        fn any_bytes_and_any_damaged_certificate_then_no_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..200), at in any::<prop::sample::Index>(), with: u8,
        ) {
            let _ = Certificate::parse(&bytes);
            let mut damaged = made(&[(DnType::CommonName, "ada")], vec![SanType::URI("a:b".try_into().unwrap())]);
            let at = at.index(damaged.len());
            damaged[at] = with;
            if let Ok(read) = Certificate::parse(&damaged) {
                prop_assert!(!read.subject.bytes().any(|byte| byte.is_ascii_control()));
            }
            damaged.truncate(at);
            prop_assert!(Certificate::parse(&damaged).is_err());
        }
    }
}
