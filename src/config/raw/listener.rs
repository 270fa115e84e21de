//! `listeners`, and where operators and scrapers ask.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::field::{Field, Name, Period, Size, Text, section};
use super::limits::{ListenerLimits, MinRate};
use super::paths::Paths;
use super::tls::ListenerTls;

presets! {
    h_1: Period = "1h";
    s_10: Period = "10s";
    s_30: Period = "30s";
    s_75: Period = "75s";
    kib_64: Size = "64KiB";
    yes_no: bool = false;
    keep: Underscores = Underscores::Keep;
    not_expected: ProxyHeader = ProxyHeader::Off;
}

/// Where requests come in.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Listener {
    /// Its address: `0.0.0.0:8080`, `[::]:8080` or `unix:/run/weir.sock`. Port 0 lets the kernel choose.
    pub(in crate::config) bind: Field<Text>,
    /// Its name, for the routes. `listener-N` by default, N from 1.
    #[serde(default)]
    pub(in crate::config) name: Field<Name>,
    /// Whether each connection begins with a header of the PROXY protocol (version 1 or 2), by which a balancer says whose
    /// it is. Where `trust` is written, only those networks may send one.
    #[serde(default = "not_expected")]
    pub(in crate::config) proxy_protocol: Field<ProxyHeader>,
    /// TLS. By default the listener is plain.
    #[serde(default)]
    pub(in crate::config) tls: Field<ListenerTls>,
    /// The networks of the peers whose identity and forwarding headers count. From all others, headers that any key,
    /// condition or override names are removed. By default everybody's identity headers count.
    #[serde(default)]
    pub(in crate::config) trust: Field<Vec<Field<Text>>>,
    /// How long clients may take.
    #[serde(default = "section::<ListenerTimeouts>")]
    pub(in crate::config) timeouts: Field<ListenerTimeouts>,
    /// What its clients may have at once.
    #[serde(default = "section::<ListenerLimits>")]
    pub(in crate::config) limits: Field<ListenerLimits>,
    /// How fast clients have to be.
    #[serde(default = "section::<MinRate>")]
    pub(in crate::config) min_rate: Field<MinRate>,
    /// The largest request head, from 4KiB to 1MiB.
    #[serde(default = "kib_64")]
    pub(in crate::config) max_header: Field<Size>,
    /// Whether HTTP/3 is served, too: on the UDP port of the same number. It needs `tls`. Responses over TCP then tell
    /// clients so by `alt-svc`, where they have none of their own.
    #[serde(default = "yes_no")]
    pub(in crate::config) http3: Field<bool>,
    /// Whether a request is refused whose target names another host than its `Host`, or `https` on a plain connection.
    /// By default the target's host counts, and the upstream is told that one.
    #[serde(default = "yes_no")]
    pub(in crate::config) strict_host: Field<bool>,
    /// What becomes of request headers whose names have `_`, which many servers take for `-`. Another spelling of a
    /// header that routing reads is removed in any case.
    #[serde(default = "keep")]
    pub(in crate::config) underscores: Field<Underscores>,
    /// What becomes of paths that may be written in several ways. Routes read what comes of it, and the upstream gets
    /// that.
    #[serde(default = "section::<Paths>")]
    pub(in crate::config) paths: Field<Paths>,
}

/// Whether connections begin with a PROXY header.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum ProxyHeader {
    /// They do not: what looks like one is refused as a malformed request.
    Off,
    /// They do: one without is closed.
    Required,
}

/// What becomes of request headers whose names have `_`.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Underscores {
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
pub(in crate::config) struct ListenerTimeouts {
    /// For a request head, from its first byte; on a new connection, from its acceptance, and with its PROXY header.
    #[serde(default = "s_10")]
    pub(in crate::config) header: Field<Period>,
    /// Between two requests of a connection.
    #[serde(default = "s_75")]
    pub(in crate::config) idle: Field<Period>,
    /// Between two parts of a request body.
    #[serde(default = "s_30")]
    pub(in crate::config) body: Field<Period>,
    /// For a whole request body, from the end of its head; streams of gRPC and tunnels have none. No limit by default.
    #[serde(default)]
    pub(in crate::config) request: Field<Period>,
    /// For anything to come through a tunnel, in one direction or the other: a WebSocket, or what else a connection was
    /// upgraded to.
    #[serde(default = "h_1")]
    pub(in crate::config) tunnel: Field<Period>,
}
