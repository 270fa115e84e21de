//! The health of endpoints, where all workers and the control thread find it: one word an endpoint, read with one load
//! and changed without a lock. What a change is decided by stands in `logic/balance/health`.
//!
//! A [`Ward`] has the endpoints of one upstream and outlives reloads that leave the upstream its name: what is known of an
//! endpoint does not depend on how its upstream is configured.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;
use tracing::{info, warn};

use super::Resolved;
use crate::logic::balance::{Cause, Ejection, Event, Health, State, Tick};
use crate::telemetry::Metrics;

/// The endpoints of an upstream.
#[derive(Debug)]
pub struct Ward {
    common: Arc<Common>,
    known: Mutex<HashMap<Resolved, Arc<Vitals>>>,
}

/// What the endpoints of an upstream have in common.
#[derive(Debug)]
struct Common {
    upstream: Arc<str>,
    /// What ticks are counted from.
    epoch: Instant,
    /// How many endpoints are not plain: who chooses need not look at any while it is 0.
    unusual: AtomicU32,
    metrics: Arc<Metrics>,
}

impl Common {
    fn tick(&self, now: Instant) -> Tick {
        Tick::after(now.saturating_duration_since(self.epoch))
    }
}

/// The health of one endpoint.
#[derive(Debug)]
pub struct Vitals {
    common: Arc<Common>,
    /// What the configuration calls it, for logs and metrics.
    name: Arc<str>,
    word: AtomicU64,
    tallies: Mutex<Tallies>,
}

/// What all workers have counted of an endpoint.
#[derive(Debug, Default)]
struct Tallies {
    all: Vec<Arc<Tally>>,
    /// Requests, and those of them that failed, when they were asked for last.
    last: (u32, u32),
}

impl Tallies {
    fn sums(&self) -> (u32, u32) {
        self.all.iter().fold((0, 0), |sums: (u32, u32), tally| {
            let (requests, failures) = tally.counts();
            (sums.0.wrapping_add(requests), sums.1.wrapping_add(failures))
        })
    }

    /// Lets go of those whose worker has let go of the endpoint; what they have counted is not lost.
    fn prune(&mut self) {
        let last = &mut self.last;
        self.all.retain(|tally| {
            let is_held = Arc::strong_count(tally) > 1;
            if !is_held {
                let (requests, failures) = tally.counts();
                *last = (last.0.wrapping_sub(requests), last.1.wrapping_sub(failures));
            }
            is_held
        });
    }
}

/// What one worker has counted of one endpoint, written by that worker alone.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Tally {
    requests: AtomicU32,
    failures: AtomicU32,
}

impl Tally {
    fn counts(&self) -> (u32, u32) {
        (self.requests.load(Ordering::Relaxed), self.failures.load(Ordering::Relaxed))
    }

    /// Counts a request, and whether it failed.
    pub fn count(&self, has_failed: bool) {
        let add = |count: &AtomicU32| {
            count.store(count.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        };
        add(&self.requests);
        if has_failed {
            add(&self.failures);
        }
    }
}

impl Ward {
    /// A ward without endpoints, of the upstream of this name.
    pub fn new(upstream: &str, metrics: &Arc<Metrics>) -> Self {
        let common = Common {
            upstream: upstream.into(),
            epoch: Instant::now(),
            unusual: AtomicU32::new(0),
            metrics: Arc::clone(metrics),
        };
        Self { common: Arc::new(common), known: Mutex::default() }
    }

    /// Whether every endpoint passes with its whole weight: one relaxed load.
    pub fn is_plain(&self) -> bool {
        self.common.unusual.load(Ordering::Relaxed) == 0
    }

    /// What time it is here.
    pub fn tick(&self, now: Instant) -> Tick {
        self.common.tick(now)
    }

    /// The vitals of `endpoint`; `first` is the health of one that was not known.
    pub(super) fn admit(&self, endpoint: &Resolved, first: impl FnOnce(Tick) -> Health) -> Arc<Vitals> {
        let mut known = self.lock();
        let vitals = known.entry(endpoint.clone()).or_insert_with(|| {
            let first = first(self.tick(Instant::now()));
            if !first.is_plain() {
                self.common.unusual.fetch_add(1, Ordering::Relaxed);
            }
            let name: Arc<str> = endpoint.configured.to_string().into();
            self.common.metrics.endpoint(&self.common.upstream, &name);
            Arc::new(Vitals {
                common: Arc::clone(&self.common),
                name,
                word: AtomicU64::new(first.pack()),
                tallies: Mutex::default(),
            })
        });
        Arc::clone(vitals)
    }

    /// The vitals of `endpoint`, if it is known.
    pub fn find(&self, endpoint: &Resolved) -> Option<Arc<Vitals>> {
        self.lock().get(endpoint).cloned()
    }

    /// Forgets every endpoint but these.
    pub(super) fn retain(&self, endpoints: &[Resolved]) {
        self.lock().retain(|known, vitals| {
            let stays = endpoints.contains(known);
            // Who still holds it changes nothing that counts.
            if !stays && !Health::unpack(vitals.word.swap(GONE, Ordering::Relaxed)).is_plain() {
                self.common.unusual.fetch_sub(1, Ordering::Relaxed);
            }
            stays
        });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Resolved, Arc<Vitals>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The word of an endpoint that is in no list any more: nothing that happens to it counts.
const GONE: u64 = u64::MAX;

impl Vitals {
    /// What is known of it.
    pub fn health(&self) -> Health {
        match self.word.load(Ordering::Relaxed) {
            GONE => Health::default(),
            word => Health::unpack(word),
        }
    }

    /// What the configuration calls it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What time it is for it.
    pub fn tick(&self, now: Instant) -> Tick {
        self.common.tick(now)
    }

    /// Tells what has happened; whether that changed anything.
    pub fn tell(&self, event: Event, policy: &Ejection, slow_start: bool, now: Instant) -> bool {
        let now = self.common.tick(now);
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            if word == GONE {
                return false;
            }
            let before = Health::unpack(word);
            let after = before.after(event, policy, now, slow_start);
            if before == after {
                return false;
            }
            let changed =
                self.word.compare_exchange_weak(word, after.pack(), Ordering::Relaxed, Ordering::Relaxed);
            match changed {
                Ok(_) => {
                    self.changed(before, after, now);
                    return true;
                }
                Err(found) => word = found,
            }
        }
    }

    /// A request got an answer that is none of an error: on the path of every request, so it looks before it tells.
    pub fn succeeded(&self, policy: &Ejection, slow_start: bool, now: impl FnOnce() -> Instant) {
        let word = self.word.load(Ordering::Relaxed);
        if word != GONE && !Health::unpack(word).is_settled() {
            self.tell(Event::Succeeded, policy, slow_start, now());
        }
    }

    fn changed(&self, before: Health, after: Health, now: Tick) {
        match (before.is_plain(), after.is_plain()) {
            (true, false) => drop(self.common.unusual.fetch_add(1, Ordering::Relaxed)),
            (false, true) => drop(self.common.unusual.fetch_sub(1, Ordering::Relaxed)),
            _ => {}
        }
        let (upstream, endpoint) = (&*self.common.upstream, &*self.name);
        match (before.state(), after.state()) {
            (State::Passing | State::Probing, State::Ejected) => {
                let cause = after.cause().unwrap_or_default();
                self.common.metrics.ejected(upstream, endpoint, cause);
                // What checks come to is told with the reason, by those who check.
                if before.state() == State::Passing && cause != Cause::Unhealthy {
                    let out_ms = u64::try_from(after.out_for(now).as_millis()).unwrap_or(u64::MAX);
                    warn!(upstream, endpoint, cause = cause.as_str(), out_ms, "endpoint ejected");
                }
            }
            (State::Ejected | State::Probing, State::Passing) if before.cause() != Some(Cause::Unhealthy) => {
                info!(upstream, endpoint, "endpoint back in use");
            }
            _ => {}
        }
    }

    /// A place for one worker to count in.
    pub fn tally(&self) -> Arc<Tally> {
        let tally = Arc::<Tally>::default();
        let mut tallies = self.tallies();
        // Nobody may ever ask what they come to.
        tallies.prune();
        tallies.all.push(Arc::clone(&tally));
        tally
    }

    /// What all workers have counted since this was asked for last: requests, and those of them that failed.
    pub(super) fn take_counts(&self) -> (u32, u32) {
        let mut tallies = self.tallies();
        let (all, last) = (tallies.sums(), tallies.last);
        tallies.last = all;
        tallies.prune();
        (all.0.wrapping_sub(last.0), all.1.wrapping_sub(last.1))
    }

    fn tallies(&self) -> MutexGuard<'_, Tallies> {
        self.tallies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::EndpointAddress;
    use crate::upstream::resolve;

    fn vitals() -> Arc<Vitals> {
        let ward = Ward::new("one", &Metrics::new());
        let endpoint = resolve::literal(&EndpointAddress::parse("127.0.0.1:80").unwrap()).unwrap();
        ward.admit(&endpoint, Health::new)
    }

    #[test]
    fn what_workers_count_is_told_once_though_workers_go() {
        let vitals = vitals();
        let (stays, goes) = (vitals.tally(), vitals.tally());
        (0..5).for_each(|number| stays.count(number == 0));
        (0..7).for_each(|_| goes.count(true));
        assert_eq!(vitals.take_counts(), (12, 8));
        goes.count(true);
        drop(goes);
        // Another one makes room for itself.
        let comes = vitals.tally();
        assert_eq!(vitals.tallies().all.len(), 2);
        comes.count(false);
        assert_eq!(vitals.take_counts(), (2, 1));
        assert_eq!(vitals.take_counts(), (0, 0));
    }

    #[test]
    fn counts_of_workers_that_have_gone_do_not_pile_up_where_nobody_asks_for_them() {
        let vitals = vitals();
        for _ in 0..1000 {
            vitals.tally().count(false);
        }
        assert!(vitals.tallies().all.len() <= 1);
    }
}
