//! How the endpoints are, for `/status`.

use std::time::SystemTime;

use serde::Serialize;

use crate::logic::balance::Cause;
use crate::logic::balance::check::Verdict;
use crate::types::EndpointAddress;
use crate::upstream::{Address, Resolved, Upstream};

#[derive(Serialize)]
pub(super) struct Endpoint {
    address: String,
    /// Whether the last connect was made; `true` before the first.
    reachable: bool,
    /// What it leads to: one, but for a name.
    addresses: Vec<Behind>,
}

/// An address behind an endpoint.
#[derive(Serialize)]
struct Behind {
    address: String,
    /// `passing`, `ejected` or `probing`.
    state: &'static str,
    /// Why it does not pass: `unhealthy`, `unreachable` or `outlier`.
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'static str>,
    /// What its health checks came to, where there are some.
    #[serde(skip_serializing_if = "Option::is_none")]
    check: Option<Check>,
}

/// What the health checks of an address came to.
#[derive(Serialize)]
struct Check {
    /// `healthy`, `unhealthy`, or `unknown` before the first has ended.
    verdict: &'static str,
    /// Since when it is so.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    /// When the last one ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<String>,
    /// Why the last one failed, where it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// The endpoints of `upstream`, in file order.
pub(super) fn endpoints(upstream: &Upstream) -> Vec<Endpoint> {
    let resolved = upstream.endpoints();
    let endpoint = |configured: &EndpointAddress| {
        let those = resolved.iter().filter(|endpoint| endpoint.configured == *configured);
        Endpoint {
            address: configured.to_string(),
            reachable: !upstream.is_away(configured),
            addresses: those.map(|endpoint| behind(upstream, endpoint)).collect(),
        }
    };
    upstream.settings.endpoints.iter().map(|of| endpoint(&of.address)).collect()
}

fn behind(upstream: &Upstream, endpoint: &Resolved) -> Behind {
    let health = upstream.ward().find(endpoint).map(|vitals| vitals.health()).unwrap_or_default();
    Behind {
        address: match &endpoint.address {
            Address::Tcp(address) => address.to_string(),
            Address::Unix(path) => format!("unix:{}", path.display()),
        },
        state: health.state().as_str(),
        cause: health.cause().map(Cause::as_str),
        check: upstream.verdicts.as_ref().map(|verdicts| {
            let checked = verdicts.of(endpoint);
            Check {
                verdict: match checked.verdict() {
                    Some(Verdict::Healthy) => "healthy",
                    Some(Verdict::Unhealthy) => "unhealthy",
                    None => "unknown",
                },
                since: checked.since.map(rfc3339),
                last: checked.last.map(rfc3339),
                reason: checked.reason,
            }
        }),
    }
}

fn rfc3339(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).map(|time| format!("{time:.3}")).unwrap_or_default()
}
