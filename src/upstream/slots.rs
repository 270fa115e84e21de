//! How many connections an upstream has at a time, over all workers. Only an upstream with `limits.connections` counts
//! them; a connection holds its slot until it is closed. Who waits for one comes in turn; who has an idle connection while
//! somebody waits closes it, for the one who waits may be another worker.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// The connections that an upstream may have.
#[derive(Debug)]
pub struct Slots {
    free: Arc<Semaphore>,
    waiting: AtomicUsize,
    patience: Duration,
}

/// The right to a connection, until it is dropped.
#[derive(Debug)]
pub struct Slot {
    slots: Arc<Slots>,
    _permit: OwnedSemaphorePermit,
}

/// Somebody who waits.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Slots {
    /// So many `connections`, for one of which nobody waits longer than `patience`.
    pub fn new(connections: usize, patience: Duration) -> Arc<Self> {
        let free = Arc::new(Semaphore::new(connections.min(Semaphore::MAX_PERMITS)));
        Arc::new(Self { free, waiting: AtomicUsize::new(0), patience })
    }

    /// A slot, when it is this one's turn; `None` where that takes too long.
    pub async fn take(self: &Arc<Self>) -> Option<Slot> {
        if let Some(slot) = self.try_take() {
            return Some(slot);
        }
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        let permit = timeout(self.patience, Arc::clone(&self.free).acquire_owned()).await.ok()?.ok()?;
        Some(Slot { slots: Arc::clone(self), _permit: permit })
    }

    /// A slot that is free, where there is one.
    pub fn try_take(self: &Arc<Self>) -> Option<Slot> {
        let permit = Arc::clone(&self.free).try_acquire_owned().ok()?;
        Some(Slot { slots: Arc::clone(self), _permit: permit })
    }

    /// Whether somebody waits.
    pub fn are_wanted(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// How long somebody waits at most.
    pub fn patience(&self) -> Duration {
        self.patience
    }
}

impl Slot {
    /// Whether somebody waits for it.
    pub fn is_wanted(&self) -> bool {
        self.slots.are_wanted()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn slots_are_given_in_turn_and_nobody_waits_for_ever() {
        let slots = Slots::new(2, Duration::from_secs(1));
        let (first, second) = (slots.take().await.unwrap(), slots.take().await.unwrap());
        assert!(slots.try_take().is_none() && !first.is_wanted());
        let began = tokio::time::Instant::now();
        assert!(slots.take().await.is_none());
        assert_eq!(began.elapsed(), Duration::from_secs(1));
        assert!(!slots.are_wanted(), "who has given up waits no more");
        let waiting = slots.take();
        let giving = async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            assert!(second.is_wanted());
            drop(first);
        };
        let (third, ()) = tokio::join!(waiting, giving);
        assert!(third.is_some());
        assert!(slots.try_take().is_none());
        drop(third);
        assert!(slots.try_take().is_some());
    }
}
