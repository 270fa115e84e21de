//! `upstreams`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::field::{Field, Period, Text, section};

presets! {
    http1: Protocol = Protocol::Http1;
    not_announced: Announcement = Announcement::Off;
    least_request: Balance = Balance::LeastRequest;
    s_30: Period = "30s";
    ms_1000: Period = "1s";
    s_60: Period = "60s";
}

/// A named set of endpoints.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Upstream {
    /// `host:port`, `http://host:port` or `unix:/path`; at least one.
    #[schemars(length(min = 1))]
    pub(in crate::config) endpoints: Field<Vec<Field<Text>>>,
    /// What is spoken to the endpoints.
    #[serde(default = "http1")]
    pub(in crate::config) protocol: Field<Protocol>,
    /// Whether each connection begins with a header of the PROXY protocol that names the client. Such a connection is used
    /// for that one connection of a client, and closed with it.
    #[serde(default = "not_announced")]
    pub(in crate::config) proxy_protocol: Field<Announcement>,
    /// How requests are spread over the endpoints.
    #[serde(default = "least_request")]
    pub(in crate::config) balance: Field<Balance>,
    /// How long endpoints may take.
    #[serde(default = "section::<UpstreamTimeouts>")]
    pub(in crate::config) timeouts: Field<UpstreamTimeouts>,
    /// How often host names are resolved again.
    #[serde(default = "s_30")]
    pub(in crate::config) dns_refresh: Field<Period>,
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

/// What is spoken to the endpoints.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 by prior knowledge.
    Http2,
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

/// How requests are spread over the endpoints.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Balance {
    /// The one of two random endpoints that has fewer requests in flight.
    LeastRequest,
    /// One after the other.
    RoundRobin,
}
