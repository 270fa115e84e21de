//! `routes[].rate_limit` and `upstreams.NAME.limits`: how much may come.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::field::{Decimal, Field, Period, Sources};

presets! {
    units: u64 = 65_536u64;
    hundred: u64 = 100u64;
    ms_1000: Period = "1s";
    yes_no: bool = false;
}

/// How many requests a unit may send. Who sends more is answered with 429.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"required": ["per_second"]}, {"required": ["per_minute"]}, {"required": ["per_hour"]}]))]
pub(in crate::config) struct RateLimit {
    /// Where the unit is read: the first source that is present and not empty. Requests that have none of them are one
    /// unit together. By default all requests of the route are one unit.
    #[serde(default)]
    pub(in crate::config) key: Field<Sources>,
    /// Requests a second, up to a million, with up to three decimal places.
    #[serde(default)]
    pub(in crate::config) per_second: Field<Decimal>,
    /// Requests a minute, in place of `per_second`.
    #[serde(default)]
    pub(in crate::config) per_minute: Field<Decimal>,
    /// Requests an hour, in place of `per_second`.
    #[serde(default)]
    pub(in crate::config) per_hour: Field<Decimal>,
    /// Requests that may come at once, up to a million. By default those of one second, and 1 at least.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(in crate::config) burst: Field<u64>,
    /// Units that are remembered at one time, 8 bytes each, rounded up to a power of two. Only units that have sent more
    /// than their rate of late need to be.
    #[serde(default = "units")]
    #[schemars(range(min = 8, max = 16_777_216))]
    pub(in crate::config) units: Field<u64>,
}

/// How many requests an upstream has at a time, over all workers. At least one of `requests` and `adaptive` is there.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("anyOf" = [{"required": ["requests"]}, {"required": ["adaptive"]}]))]
pub(in crate::config) struct UpstreamLimits {
    /// Connections at a time, over all workers; idle ones count until somebody else needs them. Requests wait for one as they
    /// wait for their turn, for `pending_timeout`.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(in crate::config) connections: Field<u64>,
    /// Requests at a time, from the moment they are sent until their response has ended. With `adaptive` the most that
    /// it comes to.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(in crate::config) requests: Field<u64>,
    /// Requests that may wait for their turn when there are as many as may be. What is more is answered with 503 at once.
    #[serde(default = "hundred")]
    #[schemars(range(max = 1_000_000))]
    pub(in crate::config) pending: Field<u64>,
    /// How long a request waits for its turn.
    #[serde(default = "ms_1000")]
    pub(in crate::config) pending_timeout: Field<Period>,
    /// Whether the number of requests is found out, by how long the upstream takes for the heads of its responses.
    #[serde(default = "yes_no")]
    pub(in crate::config) adaptive: Field<bool>,
}
