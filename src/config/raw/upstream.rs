//! `upstreams`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::field::{Field, Percent, Period, Text, section};
use super::balance::{BalanceBy, EndpointEntry, SlowStart};
use super::health::Health;
use super::limit::UpstreamLimits;
use super::tls::{Pair, TlsVersion};

presets! {
    http1: Protocol = Protocol::Http1;
    not_announced: Announcement = Announcement::Off;
    least_request: BalanceBy = BalanceBy::Word("least_request".into());
    s_30: Period = "30s";
    ms_1000: Period = "1s";
    s_60: Period = "60s";
    tls_1_2: TlsVersion = TlsVersion::Tls12;
    yes_no: bool = false;
    none: u64 = 0u64;
    three: u64 = 3u64;
    five: u64 = 5u64;
    hundred: u64 = 100u64;
    quarter: Percent = "25%";
    half: Percent = "50%";
    s_3: Period = "3s";
    s_10: Period = "10s";
    m_5: Period = "5m";
}

/// A named set of endpoints.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Upstream {
    /// `host:port`, `https://host:port` for TLS, or `unix:/path`; or a mapping that says its weight and zone as well. At
    /// least one.
    #[schemars(length(min = 1))]
    pub(in crate::config) endpoints: Field<Vec<Field<EndpointEntry>>>,
    /// What is spoken to the endpoints.
    #[serde(default = "http1")]
    pub(in crate::config) protocol: Field<Protocol>,
    /// Whether each connection begins with a header of the PROXY protocol that names the client. Such a connection is used
    /// for that one connection of a client, and closed with it.
    #[serde(default = "not_announced")]
    pub(in crate::config) proxy_protocol: Field<Announcement>,
    /// How TLS is spoken to the endpoints `https://host:port`.
    #[serde(default)]
    pub(in crate::config) tls: Field<UpstreamTls>,
    /// How requests are spread over the endpoints: `least_request` takes the one of two random endpoints that has fewer
    /// requests in flight, `peak_ewma` the one that would answer sooner, `round_robin` one after the other, `hash` the one
    /// that the request's key leads to.
    #[serde(default = "least_request")]
    pub(in crate::config) balance: Field<BalanceBy>,
    /// When an endpoint gets no requests for a while, for what became of those that it had.
    #[serde(default = "section::<Ejection>")]
    pub(in crate::config) ejection: Field<Ejection>,
    /// How many requests it has at a time. By default any number.
    #[serde(default)]
    pub(in crate::config) limits: Field<UpstreamLimits>,
    /// How endpoints are asked whether they are well. By default they are not.
    #[serde(default)]
    pub(in crate::config) health: Field<Health>,
    /// How the weight of an endpoint rises that is new, or has come back. By default it has its whole weight at once;
    /// `{}` switches it on.
    #[serde(default)]
    pub(in crate::config) slow_start: Field<SlowStart>,
    /// How long endpoints may take.
    #[serde(default = "section::<UpstreamTimeouts>")]
    pub(in crate::config) timeouts: Field<UpstreamTimeouts>,
    /// How often host names are resolved again.
    #[serde(default = "s_30")]
    pub(in crate::config) dns_refresh: Field<Period>,
}

/// How TLS is spoken to endpoints: 1.2 and 1.3, with the protocol told by ALPN.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct UpstreamTls {
    /// The file (PEM) of the authorities that issue the endpoints' certificates. By default those that the system
    /// trusts.
    #[serde(default)]
    pub(in crate::config) ca: Field<Text>,
    /// The host that the certificates are for, and that is asked for by SNI. By default each endpoint's own.
    #[serde(default)]
    pub(in crate::config) server_name: Field<Text>,
    /// Our own certificate, for endpoints that ask for one.
    #[serde(default)]
    pub(in crate::config) certificate: Field<Pair>,
    /// The oldest version of TLS.
    #[serde(default = "tls_1_2")]
    pub(in crate::config) min_version: Field<TlsVersion>,
    /// Whether every certificate is believed, whoever shows it: who is between us and the endpoint can read and change
    /// all. Nothing but a test needs it.
    #[serde(default = "yes_no")]
    pub(in crate::config) insecure_skip_verify: Field<bool>,
}

/// How long endpoints may take.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct UpstreamTimeouts {
    /// For a connection.
    #[serde(default = "ms_1000")]
    pub(in crate::config) connect: Field<Period>,
    /// For a response head, from the request head sent.
    #[serde(default = "s_30")]
    pub(in crate::config) response: Field<Period>,
    /// How long a connection is kept for its next request.
    #[serde(default = "s_60")]
    pub(in crate::config) idle: Field<Period>,
}

/// When an endpoint gets no requests for a while. It gets one, to see, when that is over; one that could not be reached
/// is connected to first.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Ejection {
    /// After so many requests in a row that got no response: it could not be connected to, broke off or did not answer in
    /// time. 0 is never.
    #[serde(default = "three")]
    #[schemars(range(min = 0, max = 31))]
    pub(in crate::config) failures: Field<u64>,
    /// After so many responses 502, 503 or 504 in a row; 0 is never.
    #[serde(default = "five")]
    #[schemars(range(min = 0, max = 31))]
    pub(in crate::config) gateway_errors: Field<u64>,
    /// After so many responses from 500 on in a row; 0 is never.
    #[serde(default = "none")]
    #[schemars(range(min = 0, max = 31))]
    pub(in crate::config) server_errors: Field<u64>,
    /// When a larger part of its requests fails than of the other endpoints'.
    #[serde(default = "section::<SuccessRate>")]
    pub(in crate::config) success_rate: Field<SuccessRate>,
    /// For how long the first time; twice as long each time after.
    #[serde(default = "s_3")]
    pub(in crate::config) time: Field<Period>,
    /// … but no longer than this.
    #[serde(default = "m_5")]
    pub(in crate::config) max_time: Field<Period>,
    /// The part of the endpoints that may be ejected. When it is more, all are used: of many that fail, those that are left
    /// would only fail as well. Endpoints whose health check fails do not count here, and are used only when it fails for
    /// all of them.
    #[serde(default = "half")]
    pub(in crate::config) max_ejected: Field<Percent>,
}

/// How the success rates of endpoints are compared.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct SuccessRate {
    /// How far below the success rate of all others together that of an endpoint may be; `100%` is any.
    #[serde(default = "quarter")]
    pub(in crate::config) margin: Field<Percent>,
    /// How often they are compared.
    #[serde(default = "s_10")]
    pub(in crate::config) interval: Field<Period>,
    /// How many requests an endpoint, and all others together, must have had in that time.
    #[serde(default = "hundred")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(in crate::config) min_requests: Field<u64>,
}

/// What is spoken to the endpoints.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2; without TLS by prior knowledge.
    Http2,
    /// What the endpoint chooses by ALPN; without TLS, HTTP/1.1.
    Auto,
}

/// Whether connections begin with a PROXY header.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Announcement {
    /// They do not.
    Off,
    /// They do, in version 2.
    V2,
}
