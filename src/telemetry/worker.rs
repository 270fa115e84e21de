//! Where one worker thread counts: every call costs a few nanoseconds, takes no lock and writes to no cache line that
//! another worker writes. Only the first call for a target, upstream, listener or error code takes a lock, to make the
//! cells and put them where a scrape finds them.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use super::Metrics;
use super::cells::{
    ArmCells, ErrorCells, LimitCells, ListenerCells, TargetCells, UpstreamCells, WorkerCells,
};
use super::labels::{
    ArmId, Blame, Cause, ConnectionEvent, DownstreamEvent, LimitId, ListenerId, Outcome, Refused,
    RetryOutcome, RetryReason, TargetId, UpstreamId,
};
use crate::logic::split::Reason;
use crate::types::Position;
use crate::wire::grpc::Status;

/// The worker's own way to its cells, by id.
#[derive(Debug)]
struct Index<V>(RefCell<Vec<Option<Arc<V>>>>);

impl<V> Default for Index<V> {
    fn default() -> Self {
        Self(RefCell::default())
    }
}

impl<V> Index<V> {
    /// Lets `count` count in the cells at `index`, which `make` makes when they are not there; `None` from it counts
    /// nothing.
    ///
    /// The cells are lent and not handed out: cloning the `Arc` would be an atomic addition on the hot path.
    fn with<R>(
        &self,
        index: usize,
        make: impl FnOnce() -> Option<Arc<V>>,
        count: impl FnOnce(&Arc<V>) -> R,
    ) -> Option<R> {
        if let Some(Some(cells)) = self.0.borrow().get(index) {
            return Some(count(cells));
        }
        self.grow(index, make).as_ref().map(count)
    }

    #[cold]
    fn grow(&self, index: usize, make: impl FnOnce() -> Option<Arc<V>>) -> Option<Arc<V>> {
        let cells = make()?;
        let mut list = self.0.borrow_mut();
        if list.len() <= index {
            list.resize_with(index + 1, || None);
        }
        if let Some(place) = list.get_mut(index) {
            *place = Some(Arc::clone(&cells));
        }
        Some(cells)
    }
}

/// One worker thread's counters: not `Sync`, shared on its thread behind an `Rc`.
///
/// When it is dropped, what it counted stays, and its part of the gauges becomes 0.
#[derive(Debug)]
pub struct Worker {
    metrics: Arc<Metrics>,
    cells: Arc<WorkerCells>,
    targets: Index<TargetCells>,
    arms: Index<ArmCells>,
    upstreams: Index<UpstreamCells>,
    listeners: Index<ListenerCells>,
    limits: Index<LimitCells>,
    errors: RefCell<Vec<(&'static str, Blame, Arc<ErrorCells>)>>,
}

impl Worker {
    /// A worker whose `cells` the collector knows.
    pub(super) fn new(metrics: Arc<Metrics>, cells: Arc<WorkerCells>) -> Self {
        Self {
            metrics,
            cells,
            targets: Index::default(),
            arms: Index::default(),
            upstreams: Index::default(),
            listeners: Index::default(),
            limits: Index::default(),
            errors: RefCell::default(),
        }
    }

    /// Counts a request that goes to `target`, as under way.
    pub fn request_started(&self, target: TargetId) {
        self.with_target(target, |cells| cells.active.add(1));
    }

    /// Counts a request that [`Worker::request_started`] counted, as over.
    pub fn request_ended(&self, target: TargetId) {
        self.with_target(target, |cells| cells.active.subtract(1));
    }

    /// Counts a response head that came `duration` after the request head was sent.
    pub fn response_head(&self, target: TargetId, duration: Duration) {
        self.with_target(target, |cells| cells.head.observe(duration));
    }

    /// Counts a finished request: the `code` that the client got, why the variant was chosen, the `whole` time as the
    /// client saw it, and the bytes of both bodies.
    ///
    /// The label `code` is exact and always three digits: a number outside `[100, 999]` counts as the nearest inside.
    pub fn request_finished(
        &self,
        target: TargetId,
        code: u16,
        reason: Option<Reason>,
        whole: Duration,
        request_bytes: u64,
        response_bytes: u64,
    ) {
        self.with_target(target, |cells| {
            cells.requests.add(code, reason);
            cells.whole.observe(whole);
            cells.request_bytes.add(request_bytes);
            cells.response_bytes.add(response_bytes);
        });
    }

    /// Counts how a finished request ended: whether the upstream did well (`None` where nothing is to be said of it, for
    /// the client broke it off), and the gRPC status where it was gRPC.
    pub fn request_ended_with(&self, target: TargetId, outcome: Option<Outcome>, grpc: Option<Status>) {
        self.with_target(target, |cells| {
            if let Some(count) = outcome.and_then(|outcome| cells.outcomes.get(outcome as usize)) {
                count.add(1);
            }
            if let Some(status) = grpc
                && let Some(count) = cells.grpc.get_or_init(Box::default).statuses.get(status as usize)
            {
                count.add(1);
            }
        });
    }

    /// Counts a request answered without an upstream (a redirect, a response of our own): its `whole` time only.
    pub fn answered(&self, target: TargetId, whole: Duration) {
        self.with_target(target, |cells| cells.whole.observe(whole));
    }

    /// Counts an attempt that gave no response.
    pub fn upstream_failed(&self, target: TargetId, cause: Cause) {
        self.with_target(target, |cells| {
            if let Some(count) = cells.upstream.failures.get(cause as usize) {
                count.add(1);
            }
        });
    }

    /// Counts an attempt beyond the first one, when it is known what became of it.
    pub fn retried(&self, target: TargetId, reason: RetryReason, outcome: RetryOutcome) {
        self.with_target(target, |cells| {
            let of_reason = cells.retries.get(reason as usize);
            if let Some(count) = of_reason.and_then(|counts| counts.get(outcome as usize)) {
                count.add(1);
            }
        });
    }

    /// Counts a request assigned to the variant of `target`, and its unit among the distinct ones.
    ///
    /// Give the position of units that have a key only: a position drawn for one request is a new unit each time.
    pub fn assigned(&self, target: TargetId, position: Option<Position>) {
        self.with_target(target, |cells| {
            cells.arm.assigned.add(1);
            if let Some(position) = position {
                cells.arm.units.get_or_init(Box::default).insert(position);
            }
        });
    }

    /// Counts a request without a unit key, with the variant it got; a target without a variant where it was refused.
    pub fn missing_key(&self, target: TargetId) {
        self.with_target(target, |cells| cells.arm.missing_key.add(1));
    }

    /// Counts what happens to a connection to `upstream`.
    pub fn connection(&self, upstream: UpstreamId, event: ConnectionEvent) {
        self.with_upstream(upstream, |cells| match event {
            ConnectionEvent::Connected => {
                cells.connects.add(1);
                cells.active.add(1);
            }
            ConnectionEvent::Idle => {
                cells.active.subtract(1);
                cells.idle.add(1);
            }
            ConnectionEvent::Busy => {
                cells.idle.subtract(1);
                cells.active.add(1);
            }
            ConnectionEvent::Closed => cells.active.subtract(1),
            ConnectionEvent::IdleClosed => cells.idle.subtract(1),
        });
    }

    /// Counts an answer of our own. `code` is one of a closed set of short names or a status, never a client's text.
    pub fn error(&self, code: &'static str, blame: Blame) {
        let mut errors = self.errors.borrow_mut();
        if let Some((.., cells)) = errors.iter().find(|(known, of, _)| *known == code && *of == blame) {
            cells.answers.add(1);
            return;
        }
        let cells = self.cells.errors.add((code, blame));
        cells.answers.add(1);
        errors.push((code, blame, cells));
    }

    /// Counts what happens to a client's connection.
    pub fn downstream(&self, listener: ListenerId, event: DownstreamEvent) {
        self.with_listener(listener, |cells| match event {
            DownstreamEvent::Accepted => {
                cells.accepted.add(1);
                cells.active.add(1);
            }
            DownstreamEvent::Closed => cells.active.subtract(1),
        });
    }

    /// Counts a client's connection that is closed for what it is or did.
    pub fn refused(&self, listener: ListenerId, cause: Refused) {
        self.with_listener(listener, |cells| {
            if let Some(count) = cells.refused.get(cause as usize) {
                count.add(1);
            }
        });
    }

    /// Counts that a client's connection could not be accepted.
    pub fn accept_failed(&self, listener: ListenerId) {
        self.with_listener(listener, |cells| cells.accept_failures.add(1));
    }

    /// Counts a request head that could not be parsed.
    pub fn malformed(&self, listener: ListenerId) {
        self.with_listener(listener, |cells| cells.malformed.add(1));
    }

    /// Counts a request that a rate limit refused.
    pub fn rate_limited(&self, limit: LimitId) {
        self.with_limit(limit, |cells| cells.refused.add(1));
    }

    /// Counts a unit that a rate limit forgot before its time.
    pub fn unit_forgotten(&self, limit: LimitId) {
        self.with_limit(limit, |cells| cells.forgotten.add(1));
    }

    fn with_target(&self, target: TargetId, count: impl FnOnce(&TargetCells)) {
        let make = || {
            let (arm, upstream) = self.metrics.links(target)?;
            let cells = Arc::new(TargetCells::new(
                self.with_upstream(upstream, Arc::clone)?,
                self.with_arm(arm, Arc::clone)?,
            ));
            self.cells.targets.push(target, Arc::clone(&cells));
            Some(cells)
        };
        self.targets.with(target.index(), make, |cells| count(cells));
    }

    fn with_arm<R>(&self, arm: ArmId, count: impl FnOnce(&Arc<ArmCells>) -> R) -> Option<R> {
        self.arms.with(arm.index(), || Some(self.cells.arms.add(arm)), count)
    }

    fn with_upstream<R>(
        &self,
        upstream: UpstreamId,
        count: impl FnOnce(&Arc<UpstreamCells>) -> R,
    ) -> Option<R> {
        let make = || self.metrics.knows_upstream(upstream).then(|| self.cells.upstreams.add(upstream));
        self.upstreams.with(upstream.index(), make, count)
    }

    fn with_limit(&self, limit: LimitId, count: impl FnOnce(&LimitCells)) {
        let make = || self.metrics.knows_limit(limit).then(|| self.cells.limits.add(limit));
        self.limits.with(limit.index(), make, |cells| count(cells));
    }

    fn with_listener(&self, listener: ListenerId, count: impl FnOnce(&ListenerCells)) {
        let make = || self.metrics.knows_listener(listener).then(|| self.cells.listeners.add(listener));
        self.listeners.with(listener.index(), make, |cells| count(cells));
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.cells.retire();
    }
}
