//! `listeners[].tls.acme`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::field::{Field, Period, Text};

presets! {
    lets_encrypt: Text = "https://acme-v02.api.letsencrypt.org/directory";
    tls_alpn: AcmeChallenge = AcmeChallenge::TlsAlpn01;
}

/// A certificate that an authority issues by ACME (RFC 8555), and that is renewed in time.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Acme {
    /// The names of the certificate, which lead to this proxy.
    #[schemars(length(min = 1, max = 100))]
    pub(in crate::config) domains: Field<Vec<Field<Text>>>,
    /// Whether the authority's terms of service are agreed to; they must be.
    #[serde(default)]
    pub(in crate::config) terms_agreed: Field<bool>,
    /// Where the authority writes to, if at all.
    #[serde(default)]
    pub(in crate::config) email: Field<Text>,
    /// The URL of the authority's directory. Let's Encrypt by default.
    #[serde(default = "lets_encrypt")]
    pub(in crate::config) directory: Field<Text>,
    /// The authorities (PEM) that the directory's own certificate comes from. Those of the system by default.
    #[serde(default)]
    pub(in crate::config) directory_ca: Field<Text>,
    /// How the authority is shown that the names lead here.
    #[serde(default = "tls_alpn")]
    pub(in crate::config) challenge: Field<AcmeChallenge>,
    /// How long before its end the certificate is renewed, but not in the first half of its time. By default when a
    /// third of its time is left.
    #[serde(default)]
    pub(in crate::config) renew_before: Field<Period>,
}

/// How the authority is shown that the names lead here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub(in crate::config) enum AcmeChallenge {
    /// It makes TLS with port 443 of each name and finds a certificate made for it (RFC 8737).
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn01,
    /// It asks port 80 of each name for a page in `/.well-known/acme-challenge/` (RFC 8555 §8.3).
    #[serde(rename = "http-01")]
    Http01,
}
