//! What may be written: every key, its kind and its default. The one list of keys; the JSON schema, the known keys of
//! diagnostics and the printed defaults come from it.
//!
//! A field without `#[serde(default)]` is required. The doc comments are the descriptions that editors show. What the
//! values must be beyond their kind is for [`super::lower`]; defaults that follow from other keys are filled in by
//! [`complete`](super::effective::complete).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::field::{Attribute, Field, Name, PathText, Percent, Period, SentPath, Size, Table, Text, section};

macro_rules! presets {
    ($($name:ident: $type:ty = $value:expr;)*) => {
        $(fn $name() -> Field<$type> { Field::preset($value.into()) })*
    };
}

presets! {
    ms_1000: Period = "1s";
    s_10: Period = "10s";
    s_30: Period = "30s";
    s_60: Period = "60s";
    s_75: Period = "75s";
    d_365: Period = "365d";
    kib_64: Size = "64KiB";
    no_limit: Size = "0";
    yes_no: bool = false;
    admin_bind: Text = "127.0.0.1:9900";
    keep: Underscores = Underscores::Keep;
    http1: Protocol = Protocol::Http1;
    least_request: Balance = Balance::LeastRequest;
    to_baseline: Missing = Missing::Baseline;
    cookie_name: Text = "weir-unit";
    variant_header: Text = "x-weir-variant";
    found: u64 = 302u64;
    ok: u64 = 200u64;
    no_body: Text = "";
    plain_text: Text = "text/plain; charset=utf-8";
    two: u64 = 2u64;
}

fn empty<T>() -> Field<Vec<T>> {
    Field::preset(Vec::new())
}

fn empty_table<T>() -> Field<Table<T>> {
    Field::preset(Table::default())
}

/// The sections of several files that are put one behind the other.
pub(super) const LISTS: &[&str] = &["listeners", "routes"];
/// The sections of several files whose entries are put together.
pub(super) const TABLES: &[&str] = &["upstreams", "splits"];

/// The configuration of Weir. Every scalar value may name environment variables: `${NAME}` or `${NAME:-default}`.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Weir configuration")]
pub(super) struct Root {
    /// Worker threads. By default as many as there are cores.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1024))]
    pub(super) workers: Field<u64>,
    /// How long a shutdown waits for requests in flight.
    #[serde(default = "s_30")]
    pub(super) shutdown_timeout: Field<Period>,
    /// Where requests come in; at least one in all files together.
    #[serde(default = "empty::<Field<Listener>>")]
    pub(super) listeners: Field<Vec<Field<Listener>>>,
    /// `/metrics`, `/healthz` and `/readyz` only, for scrapers and probes. Off by default.
    #[serde(default)]
    pub(super) telemetry: Field<Telemetry>,
    /// The same and `/status`, for operators. Off by default; `{}` switches it on.
    #[serde(default)]
    pub(super) admin: Field<Admin>,
    /// The access log. Off by default.
    #[serde(default)]
    pub(super) access_log: Field<AccessLog>,
    /// Named sets of endpoints.
    #[serde(default = "empty_table::<Upstream>")]
    pub(super) upstreams: Field<Table<Upstream>>,
    /// Named sets of weighted variants.
    #[serde(default = "empty_table::<Split>")]
    pub(super) splits: Field<Table<Split>>,
    /// What happens to requests; at least one in all files together.
    #[serde(default = "empty::<Field<Route>>")]
    pub(super) routes: Field<Vec<Field<Route>>>,
}

/// Where requests come in.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Listener {
    /// Its address: `0.0.0.0:8080`, `[::]:8080` or `unix:/run/weir.sock`. Port 0 lets the kernel choose.
    pub(super) bind: Field<Text>,
    /// Its name, for the routes. `listener-N` by default, N from 1.
    #[serde(default)]
    pub(super) name: Field<Name>,
    /// The networks of the peers whose identity and forwarding headers count. From all others, headers that any key,
    /// condition or override names are removed. By default everybody's identity headers count.
    #[serde(default)]
    pub(super) trust: Field<Vec<Field<Text>>>,
    /// How long clients may take.
    #[serde(default = "section::<ListenerTimeouts>")]
    pub(super) timeouts: Field<ListenerTimeouts>,
    /// The largest request head, from 4KiB to 1MiB.
    #[serde(default = "kib_64")]
    pub(super) max_header: Field<Size>,
    /// Whether a request is refused whose target names another host than its `Host`, or `https` on a plain connection.
    /// By default the target's host counts, and the upstream is told that one.
    #[serde(default = "yes_no")]
    pub(super) strict_host: Field<bool>,
    /// What becomes of request headers whose names have `_`, which many servers take for `-`. Another spelling of a
    /// header that routing reads is removed in any case.
    #[serde(default = "keep")]
    pub(super) underscores: Field<Underscores>,
}

/// What becomes of request headers whose names have `_`.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Underscores {
    /// They go on as they are.
    Keep,
    /// They are removed.
    Remove,
    /// The request is refused with 400; such trailers are removed.
    Refuse,
}

/// How long clients may take.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ListenerTimeouts {
    /// For a request head, from its first byte; on a new connection, from its acceptance.
    #[serde(default = "s_10")]
    pub(super) header: Field<Period>,
    /// Between two requests of a connection.
    #[serde(default = "s_75")]
    pub(super) idle: Field<Period>,
    /// Between two parts of a request body.
    #[serde(default = "s_30")]
    pub(super) body: Field<Period>,
}

/// `/metrics`, `/healthz` and `/readyz` only.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Telemetry {
    /// Its address.
    pub(super) bind: Field<Text>,
}

/// `/metrics`, `/healthz`, `/readyz` and `/status`.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Admin {
    /// Its address.
    #[serde(default = "admin_bind")]
    pub(super) bind: Field<Text>,
}

/// One line for each request.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AccessLog {
    /// `stdout`, or a file that is appended to.
    pub(super) path: Field<Text>,
    /// Whether the unit key is logged as it is. It may be personal data.
    #[serde(default = "yes_no")]
    pub(super) unit_key: Field<bool>,
}

/// A named set of endpoints.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Upstream {
    /// `host:port`, `http://host:port` or `unix:/path`; at least one.
    #[schemars(length(min = 1))]
    pub(super) endpoints: Field<Vec<Field<Text>>>,
    /// What is spoken to the endpoints.
    #[serde(default = "http1")]
    pub(super) protocol: Field<Protocol>,
    /// How requests are spread over the endpoints.
    #[serde(default = "least_request")]
    pub(super) balance: Field<Balance>,
    /// How long endpoints may take.
    #[serde(default = "section::<UpstreamTimeouts>")]
    pub(super) timeouts: Field<UpstreamTimeouts>,
    /// How often host names are resolved again.
    #[serde(default = "s_30")]
    pub(super) dns_refresh: Field<Period>,
}

/// How long endpoints may take.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UpstreamTimeouts {
    /// For a connection.
    #[serde(default = "ms_1000")]
    pub(super) connect: Field<Period>,
    /// For a response head, from the request head sent.
    #[serde(default = "s_30")]
    pub(super) response: Field<Period>,
    /// How long a connection is kept for its next request.
    #[serde(default = "s_60")]
    pub(super) idle: Field<Period>,
}

/// What is spoken to the endpoints.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 by prior knowledge.
    Http2,
}

/// How requests are spread over the endpoints.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Balance {
    /// The one of two random endpoints that has fewer requests in flight.
    LeastRequest,
    /// One after the other.
    RoundRobin,
}

/// A named set of weighted variants. The same unit gets the same variant.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Split {
    /// Where the unit key is read: the first source that is present and not empty. Required, unless `missing` is
    /// `random` or `cookie`.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub(super) key: Field<Vec<Field<Attribute>>>,
    /// What happens to a request without a unit key.
    #[serde(default = "to_baseline")]
    pub(super) missing: Field<Missing>,
    /// The cookie of `missing: cookie`.
    #[serde(default)]
    pub(super) cookie: Field<Cookie>,
    /// The arms, in an order that is part of the layout. The first is the baseline and takes what is left.
    #[schemars(length(min = 1))]
    pub(super) variants: Field<Vec<Field<Variant>>>,
    /// How a unit key becomes a position.
    #[serde(default = "section::<Hash>")]
    pub(super) hash: Field<Hash>,
    /// Tried in order before the weights; the first whose conditions hold decides.
    #[serde(default = "empty::<Field<Rule>>")]
    pub(super) rules: Field<Vec<Field<Rule>>>,
    /// A force for testers. Off by default.
    #[serde(default, rename = "override")]
    pub(super) force: Field<Override>,
    /// The header that tells the upstream the variant's name.
    #[serde(default = "variant_header")]
    pub(super) variant_header: Field<Text>,
    /// Whether the client is told the variant, in the same header.
    #[serde(default = "yes_no")]
    pub(super) expose: Field<bool>,
    /// What shared caches are told about the responses. By default nothing.
    #[serde(default)]
    pub(super) cache: Field<Cache>,
}

/// What happens to a request without a unit key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Missing {
    /// It goes to the baseline.
    Baseline,
    /// It draws by itself.
    Random,
    /// It is refused with 400.
    Reject,
    /// A session id is minted, used as the key, and set as a cookie.
    Cookie,
}

/// The cookie of `missing: cookie`.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Cookie {
    /// Its name.
    #[serde(default = "cookie_name")]
    pub(super) name: Field<Text>,
    /// How long browsers keep it.
    #[serde(default = "d_365")]
    pub(super) max_age: Field<Period>,
}

/// One arm of a split.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Variant {
    /// Its name.
    pub(super) name: Field<Name>,
    /// Its share of all units, down to 0.0001%. By default 0%. Not for the baseline, which takes what is left.
    #[serde(default)]
    pub(super) weight: Field<Percent>,
    /// Its upstream. By default the one that has the variant's name.
    #[serde(default)]
    pub(super) upstream: Field<Name>,
    /// What happens when it has no usable endpoint: by default `baseline`, for the baseline itself `error`.
    #[serde(default)]
    pub(super) on_unavailable: Field<OnUnavailable>,
}

/// What happens when a variant has no usable endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum OnUnavailable {
    /// The request goes to the baseline.
    Baseline,
    /// The request is answered with 503.
    Error,
}

/// How a unit key becomes a position.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Hash {
    /// XXH3 with 64 bits.
    #[serde(default = "section::<Xxh3>")]
    pub(super) xxh3: Field<Xxh3>,
}

/// XXH3 with 64 bits, seed 0.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Xxh3 {
    /// What is hashed before the key: splits with one salt share their cohorts. By default the split's name.
    #[serde(default)]
    pub(super) salt: Field<Text>,
}

/// A condition with a pin or with weights of its own.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"required": ["variant"]}, {"required": ["weights"]}]))]
pub(super) struct Rule {
    /// Its name. `rule-N` by default, N from 1.
    #[serde(default)]
    pub(super) name: Field<Name>,
    /// What must hold: all of these. `[]` always holds.
    pub(super) when: Field<Vec<Field<Condition>>>,
    /// The variant that every unit gets.
    #[serde(default)]
    pub(super) variant: Field<Name>,
    /// The shares of variants; those not named get 0%, the baseline what is left.
    #[serde(default)]
    pub(super) weights: Field<Table<Percent>>,
}

/// Where testers force a variant.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend(
    "oneOf" = [{"required": ["header"]}, {"required": ["cookie"]}],
    "anyOf" = [{"required": ["key_file"]}, {"required": ["bare_from"]}],
))]
pub(super) struct Override {
    /// The header that carries a token or a variant's name.
    #[serde(default)]
    pub(super) header: Field<Text>,
    /// The cookie that carries it.
    #[serde(default)]
    pub(super) cookie: Field<Text>,
    /// The file with the key that verifies tokens: one key a line, the current one first, at most two.
    #[serde(default)]
    pub(super) key_file: Field<Text>,
    /// The networks of the clients that may send a variant's name without a token.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub(super) bare_from: Field<Vec<Field<Text>>>,
}

/// What shared caches are told about the responses of a split.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Cache {
    /// `Cache-Control: private`.
    Private,
    /// `Vary` by the headers of the key, the rules and the override.
    Vary,
}

/// What must be true of an attribute: exactly one test.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [
    {"required": ["in"]}, {"required": ["prefix"]}, {"required": ["suffix"]},
    {"required": ["matches"]}, {"required": ["present"]}, {"required": ["cidr"]},
]))]
pub(super) struct Condition {
    /// The attribute: `header:NAME`, `cookie:NAME`, `query:NAME`, `path:N`, `host` or `client_ip`.
    pub(super) value: Field<Attribute>,
    /// It is one of these.
    #[serde(default, rename = "in")]
    #[schemars(length(min = 1))]
    pub(super) within: Field<Vec<Field<Text>>>,
    /// It begins with this.
    #[serde(default)]
    pub(super) prefix: Field<Text>,
    /// It ends with this.
    #[serde(default)]
    pub(super) suffix: Field<Text>,
    /// This regular expression is found in it.
    #[serde(default)]
    pub(super) matches: Field<Text>,
    /// It is there, or with `false`: it is not.
    #[serde(default)]
    pub(super) present: Field<bool>,
    /// It is an IP address in one of these networks.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub(super) cidr: Field<Vec<Field<Text>>>,
    /// Whether the opposite is wanted. A missing attribute fails every test, so its opposite holds.
    #[serde(default = "yes_no")]
    pub(super) not: Field<bool>,
}

/// What happens to requests: exactly one of `split`, `upstream`, `redirect` and `respond`.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [
    {"required": ["split"]}, {"required": ["upstream"]}, {"required": ["redirect"]}, {"required": ["respond"]},
]))]
pub(super) struct Route {
    /// Its name. `route-N` by default, N from 1.
    #[serde(default)]
    pub(super) name: Field<Name>,
    /// One of these hosts: `shop.example.com`, `*.example.com`. By default any.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub(super) hosts: Field<Vec<Field<Text>>>,
    /// On one of these listeners. By default any.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub(super) listeners: Field<Vec<Field<Name>>>,
    /// One of these paths: `/a` exactly, `/a/*` and what is below, `~REGEX` for the whole path. By default any.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub(super) paths: Field<Vec<Field<PathText>>>,
    /// One of these methods. By default any.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub(super) methods: Field<Vec<Field<Text>>>,
    /// What else must hold: all of these.
    #[serde(default = "empty::<Field<Condition>>")]
    pub(super) when: Field<Vec<Field<Condition>>>,
    /// The split that gives the request its variant.
    #[serde(default)]
    pub(super) split: Field<Name>,
    /// The upstream that the request goes to.
    #[serde(default)]
    pub(super) upstream: Field<Name>,
    /// Where the client is sent.
    #[serde(default)]
    pub(super) redirect: Field<Redirect>,
    /// What the client is answered.
    #[serde(default)]
    pub(super) respond: Field<Respond>,
    /// What the upstream sees instead of what the client sent.
    #[serde(default)]
    pub(super) rewrite: Field<Rewrite>,
    /// Changes of the request's headers.
    #[serde(default)]
    pub(super) request_headers: Field<HeaderChanges>,
    /// Changes of the response's headers.
    #[serde(default)]
    pub(super) response_headers: Field<HeaderChanges>,
    /// How long the whole request may take. By default without limit.
    #[serde(default)]
    pub(super) timeout: Field<Period>,
    /// Further attempts, after a connection could not be made. By default 2 attempts in all.
    #[serde(default)]
    pub(super) retry: Field<Retry>,
    /// The largest request body; 0 is without limit.
    #[serde(default = "no_limit")]
    pub(super) max_body: Field<Size>,
}

/// Where the client is sent. What is not named stays as it is; the query always does.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Redirect {
    /// 301, 302, 303, 307 or 308.
    #[serde(default = "found")]
    pub(super) status: Field<u64>,
    /// The scheme.
    #[serde(default)]
    pub(super) scheme: Field<Scheme>,
    /// The host, with its port if it needs one.
    #[serde(default)]
    pub(super) host: Field<Text>,
    /// The whole path.
    #[serde(default)]
    pub(super) path: Field<SentPath>,
    /// What replaces the part of the path that the route's path names.
    #[serde(default)]
    pub(super) prefix: Field<SentPath>,
}

/// The scheme of a redirect.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Scheme {
    /// `http`.
    Http,
    /// `https`.
    Https,
}

/// What the client is answered.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Respond {
    /// From 200 to 599.
    #[serde(default = "ok")]
    #[schemars(range(min = 200, max = 599))]
    pub(super) status: Field<u64>,
    /// The body.
    #[serde(default = "no_body")]
    pub(super) body: Field<Text>,
    /// The `Content-Type` of the body.
    #[serde(default = "plain_text")]
    pub(super) content_type: Field<Text>,
}

/// What the upstream sees instead of what the client sent.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Rewrite {
    /// What replaces the part of the path that the route's path names.
    #[serde(default)]
    pub(super) prefix: Field<SentPath>,
    /// The host: a name, or `{endpoint}` for that of the endpoint. By default what the client sent.
    #[serde(default)]
    pub(super) host: Field<Text>,
}

/// Changes of headers, in this order: removed, set, added.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HeaderChanges {
    /// These headers are removed.
    #[serde(default = "empty::<Field<Text>>")]
    pub(super) remove: Field<Vec<Field<Text>>>,
    /// These headers replace all of their name.
    #[serde(default = "empty_table::<Text>")]
    pub(super) set: Field<Table<Text>>,
    /// These headers are added to those of their name.
    #[serde(default = "empty_table::<Text>")]
    pub(super) add: Field<Table<Text>>,
}

/// Further attempts.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Retry {
    /// Attempts in all, the first counted. Each further one follows a connection that could not be made.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 100))]
    pub(super) attempts: Field<u64>,
}
