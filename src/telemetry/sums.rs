//! The cells of all workers added up, by id and still without names.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::cells::{Count, WorkerCells};
use super::histogram::HistogramSnapshot;
use super::labels::{Blame, Cause, Outcome, Refused, RetryOutcome, RetryReason};
use super::sketch::Union;
use crate::logic::split::Reason;
use crate::wire::grpc::Status;

/// What all workers counted of one target.
#[derive(Debug, Default)]
pub(super) struct TargetSums {
    pub(super) requests: BTreeMap<(u16, Option<Reason>), u64>,
    pub(super) whole: HistogramSnapshot,
    pub(super) head: HistogramSnapshot,
    pub(super) request_bytes: u64,
    pub(super) response_bytes: u64,
    pub(super) active: u64,
    pub(super) retries: [[u64; RetryOutcome::ALL.len()]; RetryReason::ALL.len()],
    pub(super) outcomes: [u64; Outcome::ALL.len()],
    pub(super) grpc: [u64; Status::ALL.len()],
}

/// What all workers counted of one variant.
#[derive(Debug, Default)]
pub(super) struct ArmSums {
    pub(super) assigned: u64,
    pub(super) missing_key: u64,
    pub(super) units: Union,
}

/// What all workers counted of one upstream.
#[derive(Debug, Default)]
pub(super) struct UpstreamSums {
    pub(super) failures: [u64; Cause::ALL.len()],
    pub(super) connects: u64,
    pub(super) active: u64,
    pub(super) idle: u64,
}

/// What all workers counted of one listener.
#[derive(Debug, Default)]
pub(super) struct ListenerSums {
    pub(super) accepted: u64,
    pub(super) active: u64,
    pub(super) malformed: u64,
    pub(super) accept_failures: u64,
    pub(super) refused: [u64; Refused::ALL.len()],
}

/// What all workers counted of one rate limit.
#[derive(Debug, Default)]
pub(super) struct LimitSums {
    pub(super) refused: u64,
    pub(super) forgotten: u64,
}

/// What all workers counted. Each list is indexed by id and ends with the last one that was ever used.
#[derive(Debug, Default)]
pub(super) struct Sums {
    pub(super) targets: Vec<TargetSums>,
    pub(super) arms: Vec<ArmSums>,
    pub(super) upstreams: Vec<UpstreamSums>,
    pub(super) listeners: Vec<ListenerSums>,
    pub(super) limits: Vec<LimitSums>,
    pub(super) errors: BTreeMap<(&'static str, Blame), u64>,
}

fn at<T: Default>(list: &mut Vec<T>, index: usize, add: impl FnOnce(&mut T)) {
    if list.len() <= index {
        list.resize_with(index + 1, T::default);
    }
    if let Some(sums) = list.get_mut(index) {
        add(sums);
    }
}

fn add(sum: &mut u64, count: &Count) {
    *sum = sum.wrapping_add(count.read());
}

fn add_each(sums: &mut [u64], counts: &[Count]) {
    sums.iter_mut().zip(counts).for_each(|(sum, count)| add(sum, count));
}

impl Sums {
    /// What `workers` have counted by now.
    pub(super) fn of(workers: &[Arc<WorkerCells>]) -> Self {
        let mut sums = Self::default();
        for worker in workers {
            sums.add(worker);
        }
        sums
    }

    fn add(&mut self, worker: &WorkerCells) {
        for (id, cells) in worker.targets.all() {
            at(&mut self.targets, id.index(), |sums| {
                for (code, reason, number) in cells.requests.read() {
                    *sums.requests.entry((code, reason)).or_default() += number;
                }
                cells.whole.add_to(&mut sums.whole);
                cells.head.add_to(&mut sums.head);
                add(&mut sums.request_bytes, &cells.request_bytes);
                add(&mut sums.response_bytes, &cells.response_bytes);
                add(&mut sums.active, &cells.active);
                for (sums, cells) in sums.retries.iter_mut().zip(&cells.retries) {
                    add_each(sums, cells);
                }
                add_each(&mut sums.outcomes, &cells.outcomes);
                if let Some(grpc) = cells.grpc.get() {
                    add_each(&mut sums.grpc, &grpc.statuses);
                }
            });
        }
        for (id, cells) in worker.arms.all() {
            at(&mut self.arms, id.index(), |sums| {
                add(&mut sums.assigned, &cells.assigned);
                add(&mut sums.missing_key, &cells.missing_key);
                if let Some(sketch) = cells.units.get() {
                    sums.units.add(sketch);
                }
            });
        }
        for (id, cells) in worker.upstreams.all() {
            at(&mut self.upstreams, id.index(), |sums| {
                add_each(&mut sums.failures, &cells.failures);
                add(&mut sums.connects, &cells.connects);
                add(&mut sums.active, &cells.active);
                add(&mut sums.idle, &cells.idle);
            });
        }
        for (id, cells) in worker.listeners.all() {
            at(&mut self.listeners, id.index(), |sums| {
                add(&mut sums.accepted, &cells.accepted);
                add(&mut sums.active, &cells.active);
                add(&mut sums.malformed, &cells.malformed);
                add(&mut sums.accept_failures, &cells.accept_failures);
                add_each(&mut sums.refused, &cells.refused);
            });
        }
        for (id, cells) in worker.limits.all() {
            at(&mut self.limits, id.index(), |sums| {
                add(&mut sums.refused, &cells.refused);
                add(&mut sums.forgotten, &cells.forgotten);
            });
        }
        for (key, cells) in worker.errors.all() {
            add(self.errors.entry(key).or_default(), &cells.answers);
        }
    }
}
