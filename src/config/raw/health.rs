//! `upstreams.NAME.health`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::field::{Field, Percent, Period, SentPath, StatusRange, Table, Text};
use super::empty_table;

presets! {
    get: Method = Method::Get;
    as_endpoint: bool = true;
    s_5: Period = "5s";
    tenth: Percent = "10%";
    two: u64 = 2u64;
    three: u64 = 3u64;
    yes_no: bool = false;
}

fn successes() -> Field<Vec<Field<StatusRange>>> {
    Field::preset(vec![Field::preset("200-299".into())])
}

/// How endpoints are asked whether they are well: exactly one of `path`, `tcp` and `grpc`.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"required": ["path"]}, {"required": ["tcp"]}, {"required": ["grpc"]}]))]
pub(in crate::config) struct Health {
    /// An HTTP request for this path, perhaps with a query, over what the upstream's `protocol` says.
    #[serde(default)]
    pub(in crate::config) path: Field<SentPath>,
    /// `true`: a connection is made, with TLS where the endpoint speaks it, and closed again.
    #[serde(default)]
    pub(in crate::config) tcp: Field<bool>,
    /// `grpc.health.v1.Health/Check` for this service, over HTTP/2; `""` asks for the server as a whole.
    #[serde(default)]
    pub(in crate::config) grpc: Field<Text>,
    /// The method of the HTTP request.
    #[serde(default = "get")]
    pub(in crate::config) method: Field<Method>,
    /// The host that is asked for. By default each endpoint's own.
    #[serde(default)]
    pub(in crate::config) host: Field<Text>,
    /// Further headers of the request.
    #[serde(default = "empty_table::<Text>")]
    pub(in crate::config) headers: Field<Table<Text>>,
    /// The statuses of an endpoint that is well: numbers and ranges, such as `[200-299, 304]`.
    #[serde(default = "successes")]
    #[schemars(length(min = 1))]
    pub(in crate::config) status: Field<Vec<Field<StatusRange>>>,
    /// A text that the body has among its first 64 KiB.
    #[serde(default)]
    pub(in crate::config) body: Field<Text>,
    /// The port that is asked, where it is not that of the traffic. Connections to it have no PROXY header.
    #[serde(default)]
    #[schemars(range(min = 1, max = 65535))]
    pub(in crate::config) port: Field<u64>,
    /// Whether TLS is spoken to endpoints `https://host:port`; `false` for a `port` that does not.
    #[serde(default = "as_endpoint")]
    pub(in crate::config) tls: Field<bool>,
    /// From the beginning of a check to that of the next one.
    #[serde(default = "s_5")]
    pub(in crate::config) interval: Field<Period>,
    /// The same while the endpoint is not well. By default `interval`.
    #[serde(default)]
    pub(in crate::config) unhealthy_interval: Field<Period>,
    /// The most by which a pause is longer than its interval, by chance, so that checks spread; also how much of an
    /// interval passes at most before the first one.
    #[serde(default = "tenth")]
    pub(in crate::config) jitter: Field<Percent>,
    /// For a whole check: connection, TLS and answer. By default 1s, or the shorter interval where that is less.
    #[serde(default)]
    pub(in crate::config) timeout: Field<Period>,
    /// After how many checks in a row that pass an endpoint is well again. The very first check decides alone.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 1000))]
    pub(in crate::config) healthy: Field<u64>,
    /// After how many checks in a row that fail an endpoint is not well any more. The very first check decides alone.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 1000))]
    pub(in crate::config) unhealthy: Field<u64>,
    /// Whether a new endpoint gets no traffic before its first check has ended; a start and a reload wait for that,
    /// for a bounded time. By default it gets traffic at once.
    #[serde(default = "yes_no")]
    pub(in crate::config) wait: Field<bool>,
}

/// The method of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub(in crate::config) enum Method {
    /// `GET`.
    Get,
    /// `HEAD`: the answer has no body.
    Head,
}
