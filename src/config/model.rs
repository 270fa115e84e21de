//! The valid configuration: what the rest of the house reads. Whoever holds a [`Config`] need not check anything again.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::Scheme;
use http::{HeaderName, HeaderValue, StatusCode};
use indexmap::IndexMap;
use rustls::pki_types::ServerName;

use super::health::Health;
use super::tls::{Authorities, Credentials, ListenerTls, TlsVersion};
use crate::logic::balance::{Ejection, Policy, Retries, SlowStart};
use crate::logic::condition::Source;
use crate::logic::limit::Rate;
use crate::logic::route::RouteMatch;
use crate::logic::split::Split;
use crate::types::{
    BindAddress, ByteSize, EndpointAddress, IpSet, ListenerName, RouteName, UpstreamName, ZoneName,
};
use crate::wire::{Fields, PathRules};

/// A whole configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Worker threads; 1 or more.
    pub workers: usize,
    /// How long a shutdown waits for requests in flight.
    pub shutdown_timeout: Duration,
    /// The folder of what the proxy keeps for itself; always there where a listener has `acme`.
    pub state_dir: Option<PathBuf>,
    /// What all clients together may have at once.
    pub limits: Limits,
    /// Where requests come in; at least one.
    pub listeners: Vec<Arc<Listener>>,
    /// Where scrapers and probes ask.
    pub telemetry: Option<Telemetry>,
    /// Where operators ask.
    pub admin: Option<Admin>,
    /// The access log; `None` is off.
    pub access_log: Option<AccessLog>,
    /// The upstreams by name.
    pub upstreams: IndexMap<UpstreamName, Arc<Upstream>>,
    /// The splits, in file order.
    pub splits: Vec<Arc<SplitConfig>>,
    /// The routes, in file order; at least one.
    pub routes: Vec<Arc<Route>>,
}

/// Where requests come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Its name; `listener-N` by default.
    pub name: ListenerName,
    /// Its address.
    pub bind: BindAddress,
    /// Whether connections begin with a PROXY header, from peers in `trust` where that is set.
    pub proxy_protocol: bool,
    /// TLS; `None` is plain.
    pub tls: Option<Arc<ListenerTls>>,
    /// Whose identity and forwarding headers count. `None`: identity headers of everybody, forwarding headers of nobody.
    pub trust: Option<IpSet>,
    /// How long a request head may take, from its first byte (a new connection's: from its acceptance).
    pub header_timeout: Duration,
    /// How long a connection may wait between requests.
    pub idle_timeout: Duration,
    /// How long a request body may stand still.
    pub body_timeout: Duration,
    /// How long a whole request body may take; `None` is unlimited.
    pub request_timeout: Option<Duration>,
    /// How long a tunnel may stand still.
    pub tunnel_timeout: Duration,
    /// What its clients may have at once.
    pub limits: ListenerLimits,
    /// How fast they have to be.
    pub min_rate: MinRate,
    /// The largest request head.
    pub max_header: ByteSize,
    /// Whether HTTP/3 is served on the same port; there is TLS then, and the address is no Unix socket.
    pub http3: bool,
    /// Whether a target that does not agree with `Host`, or not with the connection, is refused.
    pub strict_host: bool,
    /// What becomes of request headers whose names have `_`.
    pub underscores: Underscores,
    /// What becomes of paths.
    pub paths: PathRules,
}

/// What all clients together may have at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Connections; `None`: what the open files allow.
    pub connections: Option<usize>,
    /// Requests in flight; `None` is unlimited.
    pub requests: Option<usize>,
}

/// What the clients of a listener may have at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ListenerLimits {
    /// Connections; `None` is unlimited.
    pub connections: Option<usize>,
    /// Connections of one client; `None` is unlimited.
    pub per_client: Option<usize>,
}

/// How fast clients have to be while only they are waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MinRate {
    /// Bytes of a request body in a second; 0 is no limit.
    pub request: u64,
    /// Bytes of a response in a second; 0 is no limit.
    pub response: u64,
    /// How long a client may take less.
    pub grace: Duration,
}

/// What becomes of request headers whose names have `_`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Underscores {
    /// They go on as they are.
    #[default]
    Keep,
    /// They are removed.
    Remove,
    /// The request is refused; such trailers, which come when it is on its way, are removed.
    Refuse,
}

/// `/metrics`, `/healthz`, `/readyz` only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Telemetry {
    /// Its address.
    pub bind: BindAddress,
}

/// The same and `/status`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// Its address, `127.0.0.1:9900` by default.
    pub bind: BindAddress,
}

/// The access log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessLog {
    /// Where the lines go.
    pub path: LogPath,
    /// Whether the raw unit key is logged.
    pub unit_key: bool,
}

/// Where access log lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogPath {
    /// The standard output.
    Stdout,
    /// A file that is appended to.
    File(PathBuf),
}

/// A named set of endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// Its name.
    pub name: UpstreamName,
    /// Its endpoints; at least one.
    pub endpoints: Vec<Endpoint>,
    /// The proxy's own zone; `None` where no endpoint is in it.
    pub zone: Option<ZoneName>,
    /// What is spoken to them.
    pub protocol: Protocol,
    /// Whether connections begin with a PROXY header that names the client; each is for one client only then.
    pub proxy_protocol: bool,
    /// How TLS is spoken to those that speak it; `None` where none does.
    pub tls: Option<UpstreamTls>,
    /// How requests are spread.
    pub balance: Policy,
    /// How endpoints are asked whether they are well; `None`: they are not.
    pub health: Option<Health>,
    /// When endpoints are ejected by what becomes of their requests.
    pub ejection: Ejection,
    /// Where the key of [`Policy::Hash`] is read, before the split's unit key and the client's address.
    pub hash_key: Vec<Source>,
    /// How the weight of an endpoint rises that is new, or has come back; `None`: it has all of it at once.
    pub slow_start: Option<SlowStart>,
    /// How many requests it has at a time; `None` is any number.
    pub limits: Option<UpstreamLimits>,
    /// How long a connect may take.
    pub connect_timeout: Duration,
    /// How long a response head may take, from the request head sent.
    pub response_timeout: Duration,
    /// How long a connection may wait for its next request.
    pub idle_timeout: Duration,
    /// How often host names are resolved again.
    pub dns_refresh: Duration,
}

/// One endpoint, before its name is resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its address.
    pub address: EndpointAddress,
    /// How much it takes beside the others, in `[1, 1000]`.
    pub weight: u32,
    /// Where it is.
    pub zone: Option<ZoneName>,
}

/// How many connections and requests an upstream has at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamLimits {
    /// How many connections at most; 1 or more. `None` is no limit.
    pub connections: Option<usize>,
    /// How many requests at most; 1 or more. `None` is no limit, unless it adapts.
    pub requests: Option<u32>,
    /// How many wait at most.
    pub pending: usize,
    /// How long they wait.
    pub pending_timeout: Duration,
    /// Whether the limit is found out.
    pub adaptive: bool,
}

impl Upstream {
    /// Whether endpoints are asked the same by both, in the same way, whatever else differs.
    pub fn is_asked_as(&self, other: &Self) -> bool {
        let (Some(health), Some(others)) = (&self.health, &other.health) else { return false };
        self.protocol == other.protocol
            && self.proxy_protocol == other.proxy_protocol
            && self.tls == other.tls
            && health.asks_as(others)
    }
}

/// What is spoken to an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2; without TLS by prior knowledge.
    Http2,
    /// What the endpoint chooses by ALPN; without TLS, HTTP/1.1.
    Auto,
}

/// How TLS is spoken to endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamTls {
    /// Who may have issued their certificates; `None`: whom the system trusts.
    pub authorities: Option<Authorities>,
    /// The host that their certificates are for; `None`: each endpoint's own.
    pub server_name: Option<ServerName<'static>>,
    /// Our own certificate.
    pub credentials: Option<Credentials>,
    /// The oldest version.
    pub min_version: TlsVersion,
    /// Whether their certificates are looked at; true unless `insecure_skip_verify` says otherwise.
    pub verify: bool,
}

/// A split, with what the proxy does after the assignment.
#[derive(Debug, Clone)]
pub struct SplitConfig {
    /// The pure part.
    pub split: Split,
    /// The upstream of each variant, in the order of `split.variants`.
    pub upstreams: Vec<UpstreamName>,
    /// The header that tells the upstream the variant's name; `x-weir-variant` by default.
    pub variant_header: HeaderName,
    /// The variant's name as a header value, in the order of `split.variants`.
    pub variant_values: Vec<HeaderValue>,
    /// Whether the client is told the variant, in the same header.
    pub expose: bool,
    /// What shared caches are told.
    pub cache: Cache,
    /// Lifetime of the minted cookie (`missing: cookie`).
    pub cookie_max_age: Duration,
    /// How long what lives on may do so once its variant is taken back; `None` is to its end.
    pub drain: Option<Duration>,
}

/// What shared caches are told about responses of a split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cache {
    /// Nothing.
    #[default]
    Unset,
    /// `Cache-Control: private`.
    Private,
    /// `Vary` by the headers of the key, the rules and the override.
    Vary,
}

/// A route.
#[derive(Debug, Clone)]
pub struct Route {
    /// Its name; `route-N` by default.
    pub name: RouteName,
    /// What a request must be.
    pub matches: RouteMatch,
    /// What happens to it.
    pub action: Action,
    /// What replaces the matched prefix (or exact path) on the way to the upstream.
    pub rewrite_prefix: Option<String>,
    /// The host that the upstream sees.
    pub host: HostRewrite,
    /// Changes of the request's headers.
    pub request_headers: HeaderChanges,
    /// Changes of the response's headers.
    pub response_headers: HeaderChanges,
    /// How long a whole request may take; `None` is unlimited.
    pub timeout: Option<Duration>,
    /// When a request is sent again.
    pub retries: Retries,
    /// The largest request body; `None` is unlimited.
    pub max_body: Option<ByteSize>,
    /// How many requests a unit may send; `None` is any number.
    pub rate_limit: Option<Arc<RateLimit>>,
}

/// How many requests a unit may send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateLimit {
    /// Where the unit is read: the first that is present counts. Empty: all requests are one unit.
    pub key: Vec<Source>,
    /// How many in which time.
    pub rate: Rate,
    /// How many at once; 1 or more.
    pub burst: u64,
    /// How many units are remembered at one time; 8 or more.
    pub units: usize,
}

/// What happens to a request.
#[derive(Debug, Clone)]
pub enum Action {
    /// It goes to a variant of this split (index into [`Config::splits`]).
    Split(usize),
    /// It goes to this upstream.
    Upstream(UpstreamName),
    /// It is redirected.
    Redirect(Redirect),
    /// It is answered.
    Respond(Respond),
}

/// A redirect: what is not named stays as the request has it, the query always.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308; 302 by default.
    pub status: StatusCode,
    /// `http` or `https`.
    pub scheme: Option<Scheme>,
    /// The host, with its port if it needs one.
    pub host: Option<String>,
    /// The whole path.
    pub path: Option<String>,
    /// What replaces the matched prefix.
    pub prefix: Option<String>,
}

/// An answer of our own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Respond {
    /// 200 by default; in `[200, 599]`.
    pub status: StatusCode,
    /// The body.
    pub body: Bytes,
    /// `text/plain; charset=utf-8` by default.
    pub content_type: HeaderValue,
}

/// The host that the upstream sees.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum HostRewrite {
    /// What the client sent.
    #[default]
    Preserve,
    /// The authority of the endpoint (`{endpoint}`).
    Endpoint,
    /// This one.
    Name(HeaderValue),
}

/// Changes of headers, in this order: removed, set, added.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeaderChanges {
    /// Removed.
    pub remove: Vec<HeaderName>,
    /// Set: replaces every field of that name.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Added beside what is there.
    pub add: Vec<(HeaderName, HeaderValue)>,
}

impl HeaderChanges {
    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }

    /// Applies the changes to `fields`.
    pub fn apply(&self, fields: &mut Fields) {
        for name in &self.remove {
            fields.remove(name);
        }
        for (name, value) in &self.set {
            fields.set(name, value.as_bytes());
        }
        for (name, value) in &self.add {
            fields.append(name, value.as_bytes());
        }
    }
}
