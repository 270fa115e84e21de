//! Names to addresses: once before an upstream serves, then every `dns_refresh`. The system's resolver is asked, so
//! that `/etc/hosts` and the search list count. A name that does not resolve keeps its former addresses.

use std::sync::Weak;
use std::time::Duration;

use tracing::{info, warn};

use super::{Address, Resolved, Upstream};
use crate::types::EndpointAddress;

/// The endpoint of an address that needs no resolution, or `None` for a name.
pub fn literal(address: &EndpointAddress) -> Option<Resolved> {
    let resolved = match address {
        EndpointAddress::Unix(path) => Address::Unix(path.clone()),
        EndpointAddress::Tcp { host, port } => {
            Address::Tcp((host.parse::<std::net::IpAddr>().ok()?, *port).into())
        }
    };
    Some(Resolved { address: resolved, configured: address.clone() })
}

/// Resolves every name of `upstream` once and updates its endpoints. Each look-up ends after `limit`.
pub async fn refresh(upstream: &Upstream, limit: Duration) {
    let former = upstream.endpoints();
    let mut endpoints = Vec::with_capacity(former.len());
    for address in &upstream.settings.endpoints {
        if let Some(resolved) = literal(address) {
            endpoints.push(resolved);
            continue;
        }
        let EndpointAddress::Tcp { host, port } = address else { continue };
        let found = tokio::time::timeout(limit, tokio::net::lookup_host((host.as_str(), *port))).await;
        let failure = match found {
            Ok(Ok(addresses)) => {
                let mut addresses: Vec<_> = addresses.collect();
                addresses.sort_unstable();
                addresses.dedup();
                endpoints.extend(
                    addresses
                        .into_iter()
                        .map(|found| Resolved { address: Address::Tcp(found), configured: address.clone() }),
                );
                continue;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the look-up took too long".to_owned(),
        };
        let kept: Vec<_> =
            former.iter().filter(|resolved| resolved.configured == *address).cloned().collect();
        warn!(
            upstream = %upstream.settings.name,
            endpoint = %address,
            error = failure,
            addresses_kept = kept.len(),
            "endpoint name does not resolve"
        );
        endpoints.extend(kept);
    }
    if upstream.update(endpoints) {
        info!(
            upstream = %upstream.settings.name,
            endpoints = upstream.endpoints().len(),
            "endpoints resolved"
        );
    }
}

/// Refreshes `upstream` every `dns_refresh` until it is dropped.
pub async fn keep_fresh(upstream: Weak<Upstream>) {
    loop {
        let Some(pause) = upstream.upgrade().map(|upstream| upstream.settings.dns_refresh) else { return };
        tokio::time::sleep(pause).await;
        let Some(upstream) = upstream.upgrade() else { return };
        refresh(&upstream, Duration::from_secs(5)).await;
    }
}
