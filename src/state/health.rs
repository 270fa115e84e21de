//! Health checks of the upstreams that a snapshot brings along: begun before it serves, so that the first verdicts can be
//! waited for. Those of upstreams that are taken over go on as they are.

use std::sync::Arc;

use futures_util::future::join_all;

use super::snapshot::Snapshot;
use crate::telemetry::Metrics;
use crate::upstream::{Upstream, probe};

/// Has the new upstreams of `snapshot` checked for as long as they live, and waits for the first verdicts where that is
/// asked for: for a bounded time. An upstream that asks the same as the one of its name in `former` knows what that one
/// knows.
pub(super) async fn begin_checks(snapshot: &Snapshot, former: Option<&Snapshot>, metrics: &Arc<Metrics>) {
    let known = former.map_or(&[][..], |former| &former.upstreams);
    let is_new = |upstream: &&Arc<Upstream>| !known.iter().any(|old| Arc::ptr_eq(old, upstream));
    let new: Vec<_> = snapshot.upstreams.iter().filter(is_new).collect();
    for upstream in &new {
        let Some(verdicts) = &upstream.verdicts else { continue };
        let settings = &upstream.settings;
        let same =
            known.iter().find(|old| old.settings.name == settings.name && old.settings.is_asked_as(settings));
        if let Some(former) = same.and_then(|old| old.verdicts.as_ref()) {
            verdicts.take_over(former);
        }
        keep_checked(upstream, metrics);
    }
    join_all(new.into_iter().map(|upstream| probe::first_verdicts(upstream))).await;
}

/// Says to the upstreams of `former` that `snapshot` does not have that they serve no more.
pub(super) fn retire(former: &Snapshot, snapshot: &Snapshot) {
    let is_kept = |old: &Arc<Upstream>| snapshot.upstreams.iter().any(|upstream| Arc::ptr_eq(upstream, old));
    former.upstreams.iter().filter(|old| !is_kept(old)).for_each(|old| old.retire());
}

/// Says to the upstreams of `former` that they go on to serve, where another snapshot was built that will not: what that
/// one made known of its endpoints is forgotten.
pub(super) fn stay(former: &Snapshot) {
    former.upstreams.iter().for_each(|upstream| upstream.settle());
}

#[expect(clippy::disallowed_methods, reason = "the named worker of health checks; it ends with its upstream")]
fn keep_checked(upstream: &Arc<Upstream>, metrics: &Arc<Metrics>) {
    tokio::spawn(probe::keep_checked(Arc::downgrade(upstream), Arc::clone(metrics)));
}
