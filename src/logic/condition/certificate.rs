//! What a client's certificate says of it, as conditions and keys read it: `tls:san`, `tls:cn`, `tls:fingerprint`. That
//! the certificate was verified is for whoever makes this; without one there is none.

/// What a client's certificate, which was verified, says of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClientCertificate {
    /// The alternative names of its subject, none of them empty: first the URIs, then the hosts, then the email
    /// addresses, then the IP addresses, each kind in the certificate's order. The first is `tls:san`.
    pub names: Vec<String>,
    /// `tls:cn`: the one common name of its subject; of several, none.
    pub common_name: Option<String>,
    /// `tls:fingerprint`: SHA-256 of the certificate in DER, in lower-case hexadecimal.
    pub fingerprint: String,
}

/// What of a client's certificate is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// `san`
    San,
    /// `cn`
    CommonName,
    /// `fingerprint`
    Fingerprint,
}

impl Part {
    /// Every part.
    pub const ALL: [Self; 3] = [Self::San, Self::CommonName, Self::Fingerprint];

    /// The word behind `tls:`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::San => "san",
            Self::CommonName => "cn",
            Self::Fingerprint => "fingerprint",
        }
    }

    /// Its value in `certificate`; of several names the first.
    pub fn of(self, certificate: &ClientCertificate) -> Option<&str> {
        match self {
            Self::San => certificate.names.first().map(String::as_str),
            Self::CommonName => certificate.common_name.as_deref(),
            Self::Fingerprint => Some(certificate.fingerprint.as_str()).filter(|text| !text.is_empty()),
        }
    }
}
