//! Names to addresses: once before an upstream serves, then every `dns_refresh`. The system's resolver is asked, so
//! that `/etc/hosts` and the search list count. A name that does not resolve keeps its former addresses.

use std::sync::Weak;
use std::time::Duration;

use futures_util::future::join_all;
use tracing::{info, warn};

use super::{Address, Resolved, Upstream, addresses};
use crate::types::EndpointAddress;

/// How long a look-up in the background may take.
const LIMIT: Duration = Duration::from_secs(5);
/// How soon a name that gave nothing is asked for again.
const SOON: Duration = Duration::from_secs(1);
/// … and how seldom, in the end.
const LONGEST: Duration = Duration::from_mins(1);

/// The endpoint of an address that needs no resolution, or `None` for a name.
pub fn literal(address: &EndpointAddress) -> Option<Resolved> {
    let resolved = match address {
        EndpointAddress::Unix(path) => Address::Unix(path.clone()),
        EndpointAddress::Tcp { host, port, .. } => {
            Address::Tcp((host.parse::<std::net::IpAddr>().ok()?, *port).into())
        }
    };
    Some(Resolved { address: resolved, configured: address.clone() })
}

/// Resolves every name of `upstream` once, all at the same time, and updates its endpoints. Each look-up ends after
/// `limit`. False when one gave nothing.
pub async fn refresh(upstream: &Upstream, limit: Duration) -> bool {
    let former = upstream.endpoints();
    let look_ups = addresses(&upstream.settings).map(|address| look_up(upstream, address, limit));
    let mut endpoints = Vec::with_capacity(former.len());
    let mut is_complete = true;
    for (address, found) in addresses(&upstream.settings).zip(join_all(look_ups).await) {
        if let Some(found) = found {
            endpoints.extend(found);
        } else {
            is_complete = false;
            endpoints.extend(former.iter().filter(|known| known.configured == *address).cloned());
        }
    }
    if upstream.update(endpoints) {
        let endpoints = upstream.endpoints().len();
        info!(upstream = %upstream.settings.name, endpoints, "endpoints resolved");
    }
    is_complete
}

/// The endpoints behind `address`; `None`, and a line in the log, where its name does not resolve.
async fn look_up(upstream: &Upstream, address: &EndpointAddress, limit: Duration) -> Option<Vec<Resolved>> {
    if let Some(resolved) = literal(address) {
        return Some(vec![resolved]);
    }
    let EndpointAddress::Tcp { host, port, .. } = address else { return None };
    let found = tokio::time::timeout(limit, tokio::net::lookup_host((host.as_str(), *port))).await;
    let failure = match found {
        Ok(Ok(addresses)) => {
            let mut addresses: Vec<_> = addresses.collect();
            addresses.sort_unstable();
            addresses.dedup();
            let resolved = |found| Resolved { address: Address::Tcp(found), configured: address.clone() };
            return Some(addresses.into_iter().map(resolved).collect());
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => "the look-up took too long".to_owned(),
    };
    warn!(
        upstream = %upstream.settings.name,
        endpoint = %address,
        error = failure,
        "endpoint name does not resolve; former addresses are kept"
    );
    None
}

/// Refreshes `upstream`, which serves, every `dns_refresh` until it does not any more; sooner where a name gave nothing, and later and later
/// while it goes on to give nothing.
pub async fn keep_fresh(upstream: Weak<Upstream>) {
    let mut soon = SOON;
    loop {
        let Some((pause, is_complete)) = upstream.upgrade().map(|upstream| {
            let is_complete = upstream.is_complete();
            (upstream.settings.dns_refresh, is_complete)
        }) else {
            return;
        };
        tokio::time::sleep(if is_complete { pause } else { soon.min(pause) }).await;
        let Some(upstream) = upstream.upgrade().filter(|upstream| upstream.is_settled()) else { return };
        soon = if refresh(&upstream, LIMIT).await { SOON } else { (soon * 2).min(LONGEST) };
    }
}
