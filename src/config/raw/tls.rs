//! `listeners[].tls`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::field::{Field, Text};
use super::Acme;

presets! {
    tls_1_2: TlsVersion = TlsVersion::Tls12;
    first: UnknownName = UnknownName::First;
}

/// TLS on a listener: 1.2 and 1.3, HTTP/1.1 and HTTP/2 by ALPN.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct ListenerTls {
    /// The certificates. A client gets the one that has the name it asks for. Needed where there is no `acme`.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub(in crate::config) certificates: Field<Vec<Field<Pair>>>,
    /// A certificate that an authority issues by ACME and that is renewed in time. Off by default.
    #[serde(default)]
    pub(in crate::config) acme: Field<Acme>,
    /// What becomes of a client that asks for a name which no certificate has, or for none.
    #[serde(default = "first")]
    pub(in crate::config) unknown_name: Field<UnknownName>,
    /// The oldest version of TLS.
    #[serde(default = "tls_1_2")]
    pub(in crate::config) min_version: Field<TlsVersion>,
    /// The authorities (PEM) of clients' certificates. Without it, clients are not asked for one.
    #[serde(default)]
    pub(in crate::config) client_ca: Field<Text>,
    /// Whether a client without a certificate is refused; a wrong certificate is in any case. `required` by default,
    /// where there is a `client_ca`.
    #[serde(default)]
    pub(in crate::config) client_auth: Field<ClientAuth>,
}

/// A certificate and its key.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Certificate")]
pub(in crate::config) struct Pair {
    /// The file (PEM) of the certificate and those that lead to its authority.
    pub(in crate::config) cert: Field<Text>,
    /// The file (PEM) of its key, not encrypted.
    pub(in crate::config) key: Field<Text>,
}

/// What becomes of a client that asks for a name which no certificate has, or for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum UnknownName {
    /// It gets the first certificate.
    First,
    /// It is refused with the alert `unrecognized_name`.
    Refuse,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub(in crate::config) enum TlsVersion {
    /// TLS 1.2.
    #[serde(rename = "1.2")]
    Tls12,
    /// TLS 1.3.
    #[serde(rename = "1.3")]
    Tls13,
}

/// Whether a client without a certificate is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum ClientAuth {
    /// It is refused.
    Required,
    /// It is let in.
    Optional,
}
