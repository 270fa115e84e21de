//! The numbers that one worker counts: each written by that worker alone, read by anybody at any time.
//!
//! That is why counting needs no `lock` prefix and no cache line that two workers write: a relaxed load and a relaxed
//! store. A reader sees each number rise and never fall, and sums over workers. Every group of cells is aligned to two
//! cache lines (processors fetch them in pairs), so groups of two workers never share one.
//!
//! Next: [`super::worker`] finds the cells of a request, [`super::scrape`] adds them up.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::histogram::Histogram;
use super::labels::{
    ArmId, Blame, Cause, LimitId, ListenerId, Outcome, Refused, RetryOutcome, RetryReason, TargetId,
    UpstreamId,
};
use super::sketch::Sketch;
use crate::logic::split::Reason;
use crate::wire::grpc::Status;

/// A number with one writer. Two writers lose counts, but nothing worse.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    /// Adds `number`.
    pub(super) fn add(&self, number: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(number), Ordering::Relaxed);
    }

    /// Takes `number` away, down to 0.
    pub(super) fn subtract(&self, number: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).saturating_sub(number), Ordering::Relaxed);
    }

    /// Sets it to 0.
    pub(super) fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// The number.
    pub(super) fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The codes that a status can have: `[100, 999]`, in nine classes of a hundred.
const FIRST_CODE: u16 = 100;
const LAST_CODE: u16 = 999;
const CLASS: usize = 100;
const CLASSES: usize = 9;
/// No reason, or one of them.
const REASONS: usize = Reason::ALL.len() + 1;

/// The requests of one class of codes.
#[derive(Debug)]
#[repr(align(128))]
struct Class([Count; CLASS]);

impl Default for Class {
    fn default() -> Self {
        Self([const { Count(AtomicU64::new(0)) }; CLASS])
    }
}

/// Requests by reason and code: a direct look-up whatever codes an upstream sends, and 800 bytes for each class in use.
#[derive(Debug, Default)]
pub(super) struct Requests([[OnceLock<Box<Class>>; CLASSES]; REASONS]);

impl Requests {
    /// Counts a request. A code that is none counts as the nearest that is one.
    pub(super) fn add(&self, code: u16, reason: Option<Reason>) {
        let code = usize::from(code.clamp(FIRST_CODE, LAST_CODE) - FIRST_CODE);
        let row = reason.map_or(0, |reason| reason as usize + 1);
        let class = self.0.get(row).and_then(|classes| classes.get(code / CLASS));
        let count = class.and_then(|class| class.get_or_init(Box::default).0.get(code % CLASS));
        if let Some(count) = count {
            count.add(1);
        }
    }

    /// Every code and reason that came, with its number.
    pub(super) fn read(&self) -> impl Iterator<Item = (u16, Option<Reason>, u64)> {
        let reasons = std::iter::once(None).chain(Reason::ALL.into_iter().map(Some));
        self.0.iter().zip(reasons).flat_map(|(classes, reason)| {
            let counts = classes.iter().zip((FIRST_CODE..).step_by(CLASS)).filter_map(|(class, first)| {
                class.get().map(|class| class.0.iter().zip(first..).map(|(count, code)| (code, count.read())))
            });
            counts
                .flatten()
                .filter(|(_, number)| *number > 0)
                .map(move |(code, number)| (code, reason, number))
        })
    }
}

/// What one worker counts of one target.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct TargetCells {
    /// The cells of its upstream.
    pub(super) upstream: Arc<UpstreamCells>,
    /// The cells of its variant.
    pub(super) arm: Arc<ArmCells>,
    pub(super) requests: Requests,
    pub(super) whole: Histogram,
    pub(super) head: Histogram,
    pub(super) request_bytes: Count,
    pub(super) response_bytes: Count,
    pub(super) active: Count,
    pub(super) retries: [[Count; RetryOutcome::ALL.len()]; RetryReason::ALL.len()],
    pub(super) outcomes: [Count; Outcome::ALL.len()],
    /// Made with the first gRPC request.
    pub(super) grpc: OnceLock<Box<GrpcCells>>,
}

/// gRPC requests of one target, by status.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct GrpcCells {
    pub(super) statuses: [Count; Status::ALL.len()],
}

impl TargetCells {
    /// Cells at 0 that lead to those of the upstream and the variant.
    pub(super) fn new(upstream: Arc<UpstreamCells>, arm: Arc<ArmCells>) -> Self {
        Self {
            upstream,
            arm,
            requests: Requests::default(),
            whole: Histogram::default(),
            head: Histogram::default(),
            request_bytes: Count::default(),
            response_bytes: Count::default(),
            active: Count::default(),
            retries: Default::default(),
            outcomes: Default::default(),
            grpc: OnceLock::new(),
        }
    }
}

/// What one worker counts of one variant of a split.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct ArmCells {
    pub(super) assigned: Count,
    pub(super) missing_key: Count,
    /// Made with the first unit: a request of a route without a split has none.
    pub(super) units: OnceLock<Box<Sketch>>,
}

/// What one worker counts of one upstream.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct UpstreamCells {
    pub(super) failures: [Count; Cause::ALL.len()],
    pub(super) connects: Count,
    pub(super) active: Count,
    pub(super) idle: Count,
}

/// What one worker counts of one listener.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct ListenerCells {
    pub(super) accepted: Count,
    pub(super) active: Count,
    pub(super) malformed: Count,
    pub(super) accept_failures: Count,
    pub(super) refused: [Count; Refused::ALL.len()],
}

/// What one worker counts of one rate limit.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct LimitCells {
    pub(super) refused: Count,
    pub(super) forgotten: Count,
}

/// The answers of our own with one code and blame, of one worker.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct ErrorCells {
    pub(super) answers: Count,
}

/// A list that a worker appends to and a scrape copies; the lock is held for no longer than that.
#[derive(Debug)]
pub(super) struct Shelf<K, V>(Mutex<Vec<(K, Arc<V>)>>);

impl<K, V> Default for Shelf<K, V> {
    fn default() -> Self {
        Self(Mutex::new(Vec::new()))
    }
}

impl<K: Copy, V> Shelf<K, V> {
    fn lock(&self) -> MutexGuard<'_, Vec<(K, Arc<V>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends `cells`.
    pub(super) fn push(&self, key: K, cells: Arc<V>) {
        self.lock().push((key, cells));
    }

    /// Appends new cells and returns them.
    pub(super) fn add(&self, key: K) -> Arc<V>
    where
        V: Default,
    {
        let cells = Arc::<V>::default();
        self.push(key, Arc::clone(&cells));
        cells
    }

    /// All cells of now.
    pub(super) fn all(&self) -> Vec<(K, Arc<V>)> {
        self.lock().clone()
    }
}

/// Everything that one worker counts, as a scrape finds it.
#[derive(Debug, Default)]
pub(super) struct WorkerCells {
    pub(super) targets: Shelf<TargetId, TargetCells>,
    pub(super) arms: Shelf<ArmId, ArmCells>,
    pub(super) upstreams: Shelf<UpstreamId, UpstreamCells>,
    pub(super) listeners: Shelf<ListenerId, ListenerCells>,
    pub(super) limits: Shelf<LimitId, LimitCells>,
    pub(super) errors: Shelf<(&'static str, Blame), ErrorCells>,
}

impl WorkerCells {
    /// Sets what is "at this moment" to 0: the worker is gone, and its connections and requests with it.
    pub(super) fn retire(&self) {
        self.targets.all().iter().for_each(|(_, cells)| cells.active.clear());
        self.listeners.all().iter().for_each(|(_, cells)| cells.active.clear());
        for (_, cells) in self.upstreams.all() {
            cells.active.clear();
            cells.idle.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reason_is_its_own_index_in_the_list_of_all() {
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index, "{reason:?}");
        }
    }

    #[test]
    fn request_is_read_back_with_its_code_and_reason() {
        let requests = Requests::default();
        let rows = [(100, None), (200, Some(Reason::Weights)), (299, None), (999, Some(Reason::Fallback))];
        for (code, reason) in rows {
            requests.add(code, reason);
        }
        requests.add(200, Some(Reason::Weights));
        requests.add(7, None);
        requests.add(u16::MAX, Some(Reason::Fallback));
        let mut read: Vec<_> = requests.read().collect();
        read.sort_unstable();
        let expected = [
            (100, None, 2),
            (200, Some(Reason::Weights), 2),
            (299, None, 1),
            (999, Some(Reason::Fallback), 2),
        ];
        assert_eq!(read, expected);
    }

    #[test]
    fn cells_of_two_workers_never_share_a_pair_of_cache_lines() {
        for (size, alignment) in [
            (size_of::<TargetCells>(), align_of::<TargetCells>()),
            (size_of::<ArmCells>(), align_of::<ArmCells>()),
            (size_of::<UpstreamCells>(), align_of::<UpstreamCells>()),
            (size_of::<ListenerCells>(), align_of::<ListenerCells>()),
            (size_of::<LimitCells>(), align_of::<LimitCells>()),
            (size_of::<ErrorCells>(), align_of::<ErrorCells>()),
            (size_of::<Class>(), align_of::<Class>()),
            (size_of::<Sketch>(), align_of::<Sketch>()),
        ] {
            assert_eq!(alignment, 128);
            assert_eq!(size % 128, 0);
        }
    }
}
