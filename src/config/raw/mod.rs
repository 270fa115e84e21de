//! What may be written: every key, its kind and its default. The one list of keys; the JSON schema, the known keys of
//! diagnostics and the printed defaults come from it.
//!
//! A field without `#[serde(default)]` is required. The doc comments are the descriptions that editors show. What the
//! values must be beyond their kind is for [`super::lower`]; defaults that follow from other keys are filled in by
//! [`complete`](super::effective::complete).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::field::{Field, Period, Table, Text, section};

macro_rules! presets {
    ($($name:ident: $type:ty = $value:expr;)*) => {
        $(fn $name() -> Field<$type> { Field::preset($value.into()) })*
    };
}

mod acme;
mod balance;
mod condition;
mod health;
mod limit;
mod limits;
mod listener;
mod observe;
pub(super) mod paths;
mod route;
mod split;
mod tls;
mod upstream;

pub(super) use acme::{Acme, AcmeChallenge};
pub(super) use balance::{BalanceBy, Endpoint, EndpointEntry, POLICIES, SlowStart};
pub(super) use condition::Condition;
pub(super) use health::{Health, Method};
pub(super) use limit::{RateLimit, UpstreamLimits};
pub(super) use limits::{Limits, ListenerLimits, MinRate};
pub(super) use listener::{Listener, ProxyHeader, Underscores};
pub(super) use observe::{AccessLog, Admin, Telemetry};
pub(super) use route::{HeaderChanges, RedirectTo, Respond, Retry, Route, Scheme};
pub(super) use split::{Cache, Missing, OnUnavailable, Rule, Split, Variant};
pub(super) use tls::{ClientAuth, ListenerTls, Pair, TlsVersion, UnknownName};
pub(super) use upstream::{Announcement, Ejection, Protocol, Upstream};

presets! {
    s_30: Period = "30s";
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
    /// The folder of what the proxy keeps for itself, such as certificates that it has got by ACME. It is made where
    /// there is none, and whoever can read it has their keys.
    #[serde(default)]
    pub(super) state_dir: Field<Text>,
    /// What all clients together may have at once.
    #[serde(default = "section::<Limits>")]
    pub(super) limits: Field<Limits>,
    /// Where this proxy is. Endpoints of the same zone are preferred, where endpoints say theirs.
    #[serde(default)]
    pub(super) zone: Field<Text>,
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
