//! Who has the endpoints of an upstream checked, as they come and go, until the upstream is dropped.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

use super::Failure;
use super::rhythm::{Ask, Rhythm};
use super::target::Target;
use super::verdicts::List;
use crate::config::health::Health;
use crate::logic::balance::Event;
use crate::logic::balance::check::Verdict;
use crate::telemetry::Metrics;
use crate::upstream::{Resolved, Upstream};

/// How long the first checks may take beyond their own time: where more endpoints than can be asked at once are new.
const SLACK: Duration = Duration::from_secs(2);

/// Checks the endpoints of `upstream`, those that come included, until it is dropped.
pub async fn keep_checked(upstream: Weak<Upstream>, metrics: Arc<Metrics>) {
    let Some(mut list) = upstream.upgrade().and_then(|upstream| Some(upstream.verdicts.as_ref()?.watch()))
    else {
        return;
    };
    let (mut tasks, mut running) = (JoinSet::new(), HashMap::new());
    loop {
        if *list.borrow_and_update() == List::Ended {
            return;
        }
        {
            let Some(upstream) = upstream.upgrade() else { return };
            reconcile(&upstream, &metrics, &mut tasks, &mut running);
        }
        tokio::select! {
            changed = list.changed() => if changed.is_err() { return },
            // It ends where it was told to, or by a panic, which has been logged: then it begins again.
            Some(_) = tasks.join_next() => {}
        }
    }
}

/// Begins what is missing and ends what is too much.
fn reconcile(
    upstream: &Arc<Upstream>,
    metrics: &Arc<Metrics>,
    tasks: &mut JoinSet<()>,
    running: &mut HashMap<Resolved, AbortHandle>,
) {
    let (Some(health), Some(verdicts)) = (&upstream.settings.health, &upstream.verdicts) else { return };
    let endpoints = upstream.endpoints();
    running.retain(|endpoint, task| {
        let is_kept = endpoints.contains(endpoint);
        if !is_kept {
            task.abort();
        }
        is_kept && !task.is_finished()
    });
    verdicts.retain(&endpoints);
    for endpoint in endpoints.iter() {
        if running.contains_key(endpoint) {
            continue;
        }
        let Some(target) = Target::new(upstream, endpoint) else { continue };
        let at_once = health.wait && verdicts.verdict(endpoint).is_none();
        let rhythm = Rhythm { pace: health.pace, at_once };
        metrics.endpoint_is_checked(upstream.settings.name.as_str(), &endpoint.configured.to_string());
        let told = teller(upstream, endpoint, metrics);
        let task = tasks.spawn(checks(rhythm, target, told));
        running.insert(endpoint.clone(), task);
    }
}

async fn checks(
    rhythm: Rhythm,
    target: impl Ask + Send + Sync,
    told: impl FnMut(Result<(), Failure>) -> Option<Verdict> + Send,
) {
    rhythm.keep(target, told).await;
}

/// Notes what a check of `endpoint` came to; `None` from it says that the upstream is gone.
fn teller(
    upstream: &Arc<Upstream>,
    endpoint: &Resolved,
    metrics: &Arc<Metrics>,
) -> impl FnMut(Result<(), Failure>) -> Option<Verdict> + use<> {
    let (upstream, endpoint, metrics) = (Arc::downgrade(upstream), endpoint.clone(), Arc::clone(metrics));
    let label = endpoint.configured.to_string();
    move |result| {
        let upstream = upstream.upgrade()?;
        let (health, verdicts) = (upstream.settings.health.as_ref()?, upstream.verdicts.as_ref()?);
        let name = &upstream.settings.name;
        metrics.endpoint_checked(name.as_str(), &label, result.is_ok());
        let verdict = verdicts.note(name, &endpoint, &result, health.thresholds, wall_clock());
        // Before it serves, the workers listen to another one: see `tell_all`.
        if upstream.is_settled() {
            tell(&upstream, &endpoint, verdict);
        }
        verdict
    }
}

/// Tells the workers what the checks of `upstream` have come to by now: nothing, where there are none, whatever those of a
/// former one came to.
pub(in crate::upstream) fn tell_all(upstream: &Upstream) {
    for endpoint in upstream.endpoints().iter() {
        let verdict = match &upstream.verdicts {
            Some(verdicts) => verdicts.verdict(endpoint),
            None => Some(Verdict::Healthy),
        };
        tell(upstream, endpoint, verdict);
    }
}

fn tell(upstream: &Upstream, endpoint: &Resolved, verdict: Option<Verdict>) {
    match verdict {
        Some(Verdict::Healthy) => upstream.tell(endpoint, Event::CheckPassed),
        Some(Verdict::Unhealthy) => upstream.tell(endpoint, Event::CheckFailed),
        // As it was, until its first check has ended.
        None => {}
    }
}

/// Waits for the first verdict on each endpoint of `upstream`, where its settings ask for that: as long as first checks
/// take, and no longer. What is not decided then is by and by.
pub async fn first_verdicts(upstream: &Upstream) {
    let (Some(health @ Health { wait: true, .. }), Some(verdicts)) =
        (&upstream.settings.health, &upstream.verdicts)
    else {
        return;
    };
    let is_decided = || upstream.endpoints().iter().all(|endpoint| verdicts.verdict(endpoint).is_some());
    // Whatever it came to, traffic begins.
    let _ = timeout(health.timeout + SLACK, verdicts.decided(is_decided)).await;
}

#[expect(clippy::disallowed_methods, reason = "for people: when it was")]
fn wall_clock() -> SystemTime {
    SystemTime::now()
}
