//! What clients may have at once, and how fast they have to be.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::field::{Field, Period, Size};

presets! {
    b_240: Size = "240B";
    s_20: Period = "20s";
}

/// What all clients together may have at once, over all listeners and workers.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Limits {
    /// Connections. By default what the process may have of open files, less a quarter of it (at least 64) for upstreams,
    /// logs and pages.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub(in crate::config) connections: Field<u64>,
    /// Requests in flight, from their head to the end of their response; tunnels count to their end. No limit by default.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub(in crate::config) requests: Field<u64>,
}

/// What the clients of a listener may have at once, over all workers.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct ListenerLimits {
    /// Connections. No limit of its own by default.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub(in crate::config) connections: Field<u64>,
    /// Connections of one client: an IPv4 address, or the /64 of an IPv6 one. Behind `proxy_protocol` it is the client that
    /// the header names. No limit by default.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub(in crate::config) per_client: Field<u64>,
}

/// How fast clients have to be while only they are waited for.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct MinRate {
    /// Of a request body, in a second; 0 is no limit. Streams of gRPC and tunnels have none.
    #[serde(default = "b_240")]
    pub(in crate::config) request: Field<Size>,
    /// Of a response, in a second; 0 is no limit.
    #[serde(default = "b_240")]
    pub(in crate::config) response: Field<Size>,
    /// How long a client may take less before that counts.
    #[serde(default = "s_20")]
    pub(in crate::config) grace: Field<Period>,
}
