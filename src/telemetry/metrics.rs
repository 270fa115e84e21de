//! What all workers share: the names behind the ids, the list of the workers' cells, and the few numbers that only the
//! control side changes. No request comes here, except once for each worker and target.
//!
//! Next: [`super::worker`] counts, `sums` adds the workers up, `scrape` makes the text.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::SystemTime;

use indexmap::IndexSet;

use super::cells::WorkerCells;
use super::crowd::Crowd;
use super::histogram::HistogramSnapshot;
use super::labels::{ArmId, LimitId, ListenerId, Target, TargetId, UpstreamId};
use super::sums::Sums;
use super::worker::Worker;
use super::{panics, scrape};
use crate::logic::balance::Cause;
use crate::types::Generation;

/// Why the metrics were not written.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// The encoder refused them.
    #[error("the metrics could not be encoded")]
    Encode(#[from] prometheus::Error),
}

/// A variant's name with that of its split.
pub(super) type Arm = (Arc<str>, Arc<str>);

/// The names behind the ids; an id is an index, and no name ever leaves, so that counters survive reloads.
#[derive(Debug, Clone, Default)]
pub(super) struct Names {
    pub(super) targets: IndexSet<Target>,
    /// The variant and the upstream of each target.
    pub(super) links: Vec<(ArmId, UpstreamId)>,
    pub(super) arms: IndexSet<Arm>,
    pub(super) upstreams: IndexSet<Arc<str>>,
    pub(super) listeners: IndexSet<Arc<str>>,
    /// The routes that have a rate limit.
    pub(super) limits: IndexSet<Arc<str>>,
}

/// The shares of one variant, each from 0 to 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Weight {
    /// The split's name.
    pub split: Arc<str>,
    /// The variant's name.
    pub variant: Arc<str>,
    /// The share in the configuration.
    pub configured: f64,
    /// The share in force.
    pub effective: f64,
}

/// Health checks that passed and that failed, by upstream and by the endpoint's address in the configuration. Only the
/// control side counts here, some times a second.
pub(super) type Checks = BTreeMap<(String, String), [u64; 2]>;

/// How the endpoints are at the moment.
#[derive(Debug, Clone, Default)]
pub struct EndpointStates {
    /// The part of the addresses of each upstream's endpoint that gets requests, from 0 to 1; one that is no name has one.
    pub healthy: BTreeMap<(String, String), f64>,
    /// Whether so many endpoints of the upstream are out that all are used.
    pub in_panic: BTreeMap<String, bool>,
}

/// Who is asked how they are.
struct Endpoints(Box<dyn Fn() -> EndpointStates + Send + Sync>);

impl std::fmt::Debug for Endpoints {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Endpoints(..)")
    }
}

/// Ejections by upstream, endpoint and cause.
pub(super) type Ejections = BTreeMap<(String, String, &'static str), u64>;

/// When a certificate ends.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Expiry {
    /// The listener that serves it.
    pub listener: String,
    /// The first of its names.
    pub name: String,
    /// In seconds since 1970.
    pub at: i64,
}

/// What is known of the configuration.
#[derive(Debug, Clone, Default)]
pub(super) struct ConfigState {
    pub(super) generation: Generation,
    pub(super) hash: Option<String>,
    pub(super) successes: u64,
    pub(super) failures: u64,
    pub(super) last_was_success: bool,
    pub(super) last: Option<SystemTime>,
}

/// How often a variant was assigned, and to how many units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assigned {
    /// The split's name.
    pub split: Arc<str>,
    /// The variant's name.
    pub variant: Arc<str>,
    /// Requests assigned to it.
    pub count: u64,
    /// Distinct units assigned to it, estimated.
    pub units: u64,
}

/// Everything in a few numbers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Totals {
    /// Finished requests that had a target.
    pub requests: u64,
    /// Answers of our own.
    pub errors: u64,
    /// The same by split and variant; empty names are the requests without a split.
    pub arms: Vec<ArmTotals>,
}

/// One variant in a few numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArmTotals {
    /// The split's name.
    pub split: Arc<str>,
    /// The variant's name.
    pub variant: Arc<str>,
    /// Finished requests.
    pub requests: u64,
    /// Of these, those whose client got a status from 500 on.
    pub server_errors: u64,
    /// Whole durations.
    pub latency: HistogramSnapshot,
}

/// All metrics of a process. One of it lives as long as the process: nothing that was counted is ever lost.
#[derive(Debug)]
pub struct Metrics {
    names: Mutex<Names>,
    workers: Mutex<Vec<Arc<WorkerCells>>>,
    weights: Mutex<Vec<Weight>>,
    config: Mutex<ConfigState>,
    dropped_lines: AtomicU64,
    ejections: Mutex<Ejections>,
    crowds: Mutex<BTreeMap<Arc<str>, Arc<Crowd>>>,
    checks: Mutex<Checks>,
    endpoints: OnceLock<Endpoints>,
    expiries: Mutex<Vec<Expiry>>,
    renewals: [AtomicU64; 2],
    #[cfg(target_os = "linux")]
    process: prometheus::process_collector::ProcessCollector,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Metrics {
    /// Metrics with nothing counted.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            names: Mutex::default(),
            workers: Mutex::default(),
            weights: Mutex::default(),
            config: Mutex::default(),
            dropped_lines: AtomicU64::new(0),
            ejections: Mutex::default(),
            crowds: Mutex::default(),
            checks: Mutex::default(),
            endpoints: OnceLock::new(),
            expiries: Mutex::default(),
            renewals: Default::default(),
            #[cfg(target_os = "linux")]
            process: prometheus::process_collector::ProcessCollector::for_self(),
        })
    }

    /// The id of `target`, the same for ever.
    pub fn target(&self, target: &Target) -> TargetId {
        let mut names = lock(&self.names);
        if let Some(index) = names.targets.get_index_of(target) {
            return TargetId::new(index);
        }
        let (arm, _) = names.arms.insert_full((Arc::clone(&target.split), Arc::clone(&target.variant)));
        let (upstream, _) = names.upstreams.insert_full(Arc::clone(&target.upstream));
        names.links.push((ArmId::new(arm), UpstreamId::new(upstream)));
        TargetId::new(names.targets.insert_full(target.clone()).0)
    }

    /// The id of the upstream of this name, the same for ever.
    pub fn upstream(&self, name: &str) -> UpstreamId {
        UpstreamId::new(lock(&self.names).upstreams.insert_full(name.into()).0)
    }

    /// Where the door of the upstream of this name tells what happens at it, the same for ever.
    pub fn crowd(&self, upstream: &str) -> Arc<Crowd> {
        Arc::clone(lock(&self.crowds).entry(upstream.into()).or_default())
    }

    /// The id of the listener of this name, the same for ever.
    pub fn listener(&self, name: &str) -> ListenerId {
        ListenerId::new(lock(&self.names).listeners.insert_full(name.into()).0)
    }

    /// The id of the rate limit of the route of this name, the same for ever.
    pub fn limit(&self, route: &str) -> LimitId {
        LimitId::new(lock(&self.names).limits.insert_full(route.into()).0)
    }

    /// The variant and the upstream of `target`; `None` for an id of other metrics.
    pub(super) fn links(&self, target: TargetId) -> Option<(ArmId, UpstreamId)> {
        lock(&self.names).links.get(target.index()).copied()
    }

    /// Whether this id is one of ours.
    pub(super) fn knows_upstream(&self, upstream: UpstreamId) -> bool {
        upstream.index() < lock(&self.names).upstreams.len()
    }

    /// Whether this id is one of ours.
    pub(super) fn knows_listener(&self, listener: ListenerId) -> bool {
        listener.index() < lock(&self.names).listeners.len()
    }

    /// Whether this id is one of ours.
    pub(super) fn knows_limit(&self, limit: LimitId) -> bool {
        limit.index() < lock(&self.names).limits.len()
    }

    /// The counters of one more worker thread. Call it on that thread, once.
    pub fn worker(self: &Arc<Self>) -> Worker {
        let cells = Arc::<WorkerCells>::default();
        lock(&self.workers).push(Arc::clone(&cells));
        Worker::new(Arc::clone(self), cells)
    }

    /// Notes that the configuration `generation` with this `hash` serves since `now`. The first load counts as well.
    pub fn reload_succeeded(&self, generation: Generation, hash: &str, now: SystemTime) {
        let mut config = lock(&self.config);
        config.generation = generation;
        config.hash = Some(hash.to_owned());
        config.successes += 1;
        config.last_was_success = true;
        config.last = Some(now);
    }

    /// Notes that a configuration was refused at `now`; the former one serves on.
    pub fn reload_failed(&self, now: SystemTime) {
        let mut config = lock(&self.config);
        config.failures += 1;
        config.last_was_success = false;
        config.last = Some(now);
    }

    /// Replaces the shares of all variants.
    pub fn set_weights(&self, weights: Vec<Weight>) {
        *lock(&self.weights) = weights;
    }

    /// Replaces when certificates end: all that are served, and only those.
    pub fn set_expiries(&self, expiries: Vec<Expiry>) {
        *lock(&self.expiries) = expiries;
    }

    /// Notes that a certificate was asked for by ACME, and whether it was got.
    pub fn acme_renewal(&self, is_success: bool) {
        let [success, failure] = &self.renewals;
        if is_success { success } else { failure }.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that there are health checks of `endpoint`: their counters are there from now on.
    pub fn endpoint_is_checked(&self, upstream: &str, endpoint: &str) {
        lock(&self.checks).entry((upstream.to_owned(), endpoint.to_owned())).or_default();
    }

    /// Notes that a health check of `endpoint`, an address in the configuration of `upstream`, has ended.
    pub fn endpoint_checked(&self, upstream: &str, endpoint: &str, passed: bool) {
        let mut checks = lock(&self.checks);
        let [success, failure] = checks.entry((upstream.to_owned(), endpoint.to_owned())).or_default();
        *if passed { success } else { failure } += 1;
    }

    /// Says who is asked how the endpoints are, at each scrape; it is said once.
    pub fn ask_endpoints(&self, ask: impl Fn() -> EndpointStates + Send + Sync + 'static) {
        // Who comes second is of the same process, and is not needed.
        let _ = self.endpoints.set(Endpoints(Box::new(ask)));
    }

    /// Notes that there is an endpoint of this configured address: its counters are there from now on.
    pub fn endpoint(&self, upstream: &str, endpoint: &str) {
        let mut ejections = lock(&self.ejections);
        for cause in Cause::ALL {
            ejections.entry((upstream.to_owned(), endpoint.to_owned(), cause.as_str())).or_default();
        }
    }

    /// Notes that the endpoint of this configured address was ejected.
    pub fn ejected(&self, upstream: &str, endpoint: &str, cause: Cause) {
        let key = (upstream.to_owned(), endpoint.to_owned(), cause.as_str());
        *lock(&self.ejections).entry(key).or_default() += 1;
    }

    /// Notes that `number` lines did not reach the access log.
    pub fn lines_dropped(&self, number: u64) {
        self.dropped_lines.fetch_add(number, Ordering::Relaxed);
    }

    /// How many lines did not reach the access log.
    pub fn dropped_lines(&self) -> u64 {
        self.dropped_lines.load(Ordering::Relaxed)
    }

    /// How often each variant was assigned, in the order in which they became known; 0 for those never assigned.
    pub fn assigned(&self) -> Vec<Assigned> {
        let (sums, names) = self.sums();
        let arms = names.arms.iter().enumerate().filter(|(_, (split, _))| !split.is_empty());
        arms.map(|(index, (split, variant))| {
            let (split, variant) = (Arc::clone(split), Arc::clone(variant));
            let arm = sums.arms.get(index);
            Assigned {
                split,
                variant,
                count: arm.map_or(0, |arm| arm.assigned),
                units: arm.map_or(0, |arm| arm.units.estimate()),
            }
        })
        .collect()
    }

    /// Everything in a few numbers.
    pub fn totals(&self) -> Totals {
        let (sums, names) = self.sums();
        let mut arms: Vec<_> = names
            .arms
            .iter()
            .map(|(split, variant)| ArmTotals {
                split: Arc::clone(split),
                variant: Arc::clone(variant),
                requests: 0,
                server_errors: 0,
                latency: HistogramSnapshot::default(),
            })
            .collect();
        for (target, (arm, _)) in sums.targets.iter().zip(&names.links) {
            let Some(arm) = arms.get_mut(arm.index()) else { continue };
            for ((code, _), number) in &target.requests {
                arm.requests += number;
                arm.server_errors += if *code >= 500 { *number } else { 0 };
            }
            arm.latency.merge(&target.whole);
        }
        Totals {
            requests: arms.iter().map(|arm| arm.requests).sum(),
            errors: sums.errors.values().sum(),
            arms,
        }
    }

    /// Everything in the text format of Prometheus, version 0.0.4, to be served as [`super::CONTENT_TYPE`].
    ///
    /// # Errors
    /// [`MetricsError`] when the encoder refuses, which is a fault in this crate.
    pub fn encode(&self) -> Result<Vec<u8>, MetricsError> {
        let (sums, names) = self.sums();
        let control = scrape::Control {
            weights: &lock(&self.weights).clone(),
            config: &lock(&self.config).clone(),
            dropped_lines: self.dropped_lines(),
            endpoints: &self.endpoints.get().map(|Endpoints(ask)| ask()).unwrap_or_default(),
            ejections: &lock(&self.ejections).clone(),
            crowds: &lock(&self.crowds).clone(),
            checks: &lock(&self.checks).clone(),
            expiries: &lock(&self.expiries).clone(),
            renewals: [&self.renewals[0], &self.renewals[1]].map(|number| number.load(Ordering::Relaxed)),
            panics: panics::count(),
        };
        let mut families = scrape::families(&sums, &names, &control);
        #[cfg(target_os = "linux")]
        families.extend(prometheus::core::Collector::collect(&self.process));
        Ok(scrape::encode(families)?)
    }

    /// What all workers counted, and the names of it. One at a time, so that each finds at least what the former found.
    fn sums(&self) -> (Sums, Names) {
        let workers = lock(&self.workers);
        let sums = Sums::of(&workers);
        drop(workers);
        // After the cells: the names of all that was found are there, for a name comes before its cells.
        (sums, lock(&self.names).clone())
    }
}
