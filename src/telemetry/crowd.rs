//! What happens at the door of an upstream that limits how many requests it has: counted for all workers together, for so
//! is the limit.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What happens at the door of an upstream.
#[derive(Debug, Default)]
pub struct Crowd {
    limit: AtomicU64,
    pending: AtomicU64,
    shed: AtomicU64,
}

impl Crowd {
    /// Notes that so many may be inside.
    pub fn limit(&self, limit: u32) {
        let limit = u64::from(limit);
        // It hardly ever changes: looking costs the other workers nothing.
        if self.limit.load(Relaxed) != limit {
            self.limit.store(limit, Relaxed);
        }
    }

    /// Notes that one more waits.
    pub fn joined(&self) {
        self.pending.fetch_add(1, Relaxed);
    }

    /// Notes that one waits no longer.
    pub fn left(&self) {
        self.pending.fetch_sub(1, Relaxed);
    }

    /// Counts one that was turned away.
    pub fn shed(&self) {
        self.shed.fetch_add(1, Relaxed);
    }

    /// How many may be inside, how many wait, and how many were turned away.
    pub(super) fn read(&self) -> [u64; 3] {
        [&self.limit, &self.pending, &self.shed].map(|number| number.load(Relaxed))
    }
}
