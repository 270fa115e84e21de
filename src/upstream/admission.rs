//! How many requests an upstream has at a time, over all workers: who comes in, who waits, who is turned away. Only an
//! upstream with `limits` has one; whoever asks one writes a cache line that other workers write, and takes a lock where
//! he has to wait, or somebody does.
//!
//! A [`Permit`] is held to the end of a request's response. What a request is told that is turned away, and whether it may
//! go elsewhere, is for [`crate::proxy`]. How a limit is found out: [`crate::logic::limit::adaptive`].

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use crate::config::model::UpstreamLimits;
use crate::logic::limit::{Adaptive, Bounds, Sample};
use crate::telemetry::Crowd;

/// The upstream has as many requests as it may, and as many wait as may, or this one has waited for as long as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the upstream has as many requests as it may")]
pub struct Overloaded;

/// The door of an upstream.
#[derive(Debug)]
pub struct Admission {
    settings: UpstreamLimits,
    limit: AtomicU32,
    in_flight: AtomicU32,
    queue: Mutex<VecDeque<Waiter>>,
    /// How many are in the queue, for who does not take its lock.
    waiting: AtomicU32,
    tickets: AtomicU64,
    adaptive: Option<Mutex<Adaptive>>,
    epoch: Instant,
    crowd: Arc<Crowd>,
}

#[derive(Debug)]
struct Waiter {
    ticket: u64,
    place: oneshot::Sender<Permit>,
}

/// A place inside, given back when it is dropped.
#[derive(Debug)]
pub struct Permit {
    admission: Arc<Admission>,
    /// How many were inside when it came in, itself included.
    in_flight: u32,
}

impl Admission {
    /// A door that nobody has gone through, which tells `crowd` what happens at it.
    pub fn new(settings: UpstreamLimits, crowd: Arc<Crowd>) -> Arc<Self> {
        let most = settings.requests.unwrap_or(u32::MAX);
        let adaptive = settings
            .adaptive
            .then(|| Adaptive::new(Bounds { least: LEAST.min(most), most: most.min(MOST) }, Duration::ZERO));
        Arc::new(Self {
            limit: AtomicU32::new(adaptive.as_ref().map_or(most, Adaptive::limit)),
            settings,
            in_flight: AtomicU32::new(0),
            queue: Mutex::default(),
            waiting: AtomicU32::new(0),
            tickets: AtomicU64::new(0),
            adaptive: adaptive.map(Mutex::new),
            epoch: Instant::now(),
            crowd,
        })
    }

    /// A place for a request, at once where there is one, else when it is this one's turn.
    ///
    /// # Errors
    /// [`Overloaded`] when too many wait already, or the time to wait is over.
    pub async fn enter(self: &Arc<Self>) -> Result<Permit, Overloaded> {
        if self.waiting.load(SeqCst) == 0
            && let Some(permit) = self.try_enter()
        {
            return Ok(permit);
        }
        // In a box of its own: most need not wait.
        let entered = match self.line_up() {
            Some(place) => Box::pin(place.wait()).await,
            None => Err(Overloaded),
        };
        if entered.is_err() {
            self.crowd.shed();
        }
        entered
    }

    fn try_enter(self: &Arc<Self>) -> Option<Permit> {
        let limit = self.limit.load(SeqCst);
        let more = |inside: u32| (inside < limit).then_some(inside + 1);
        let before = self.in_flight.fetch_update(SeqCst, SeqCst, more).ok()?;
        self.crowd.limit(limit);
        Some(Permit { admission: Arc::clone(self), in_flight: before + 1 })
    }

    /// Joins the queue, if there is room in it.
    fn line_up(self: &Arc<Self>) -> Option<Place<'_>> {
        let (place, turn) = oneshot::channel();
        let ticket = self.tickets.fetch_add(1, SeqCst);
        let mut queue = self.lock();
        if queue.len() >= self.settings.pending {
            return None;
        }
        queue.push_back(Waiter { ticket, place });
        self.waiting.fetch_add(1, SeqCst);
        self.crowd.joined();
        drop(queue);
        // Somebody may have gone while nobody was seen to wait.
        self.let_in();
        Some(Place { admission: self, ticket, turn })
    }

    /// Lets those in whose turn it is.
    fn let_in(self: &Arc<Self>) {
        let mut left = Vec::new();
        let mut queue = self.lock();
        while !queue.is_empty()
            && let Some(permit) = self.try_enter()
            && let Some(waiter) = self.pop(&mut queue)
        {
            // One that waits no longer gives it back, when nothing is locked any more.
            left.extend(waiter.place.send(permit).err());
        }
    }

    fn pop(&self, queue: &mut VecDeque<Waiter>) -> Option<Waiter> {
        let waiter = queue.pop_front()?;
        self.gone();
        Some(waiter)
    }

    fn gone(&self) {
        self.waiting.fetch_sub(1, SeqCst);
        self.crowd.left();
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Waiter>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Learns from a request that was sent at `sent` and is answered, or given up, `now`.
    fn learn(self: &Arc<Self>, sent: Instant, now: Instant, in_flight: u32) {
        let Some(adaptive) = &self.adaptive else { return };
        // Who finds it taken has a neighbour that learns the same.
        let Ok(mut adaptive) = adaptive.try_lock() else { return };
        let took = now.saturating_duration_since(sent);
        let sent = sent.saturating_duration_since(self.epoch);
        adaptive.look(&Sample { sent, took, in_flight }, now.saturating_duration_since(self.epoch));
        let limit = adaptive.limit();
        drop(adaptive);
        if self.limit.swap(limit, SeqCst) < limit && self.waiting.load(SeqCst) > 0 {
            self.let_in();
        }
    }
}

/// The fewest requests that an adaptive limit lets in at a time.
const LEAST: u32 = 4;

/// The most requests that an adaptive limit lets in at a time, where `requests` says no other.
const MOST: u32 = 10_000;

/// A place in the queue, left when it is dropped.
struct Place<'a> {
    admission: &'a Arc<Admission>,
    ticket: u64,
    turn: oneshot::Receiver<Permit>,
}

impl Place<'_> {
    async fn wait(mut self) -> Result<Permit, Overloaded> {
        let limit = self.admission.settings.pending_timeout;
        match timeout(limit, &mut self.turn).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(Overloaded),
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut queue = self.admission.lock();
        if let Some(at) = queue.iter().position(|waiter| waiter.ticket == self.ticket) {
            queue.remove(at);
            self.admission.gone();
        }
    }
}

impl Permit {
    /// Notes how long the upstream took for the head of its response, or until it was given up, from `sent` to `now`.
    pub fn took(&self, sent: Instant, now: Instant) {
        self.admission.learn(sent, now, self.in_flight);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.admission.in_flight.fetch_sub(1, SeqCst);
        if self.admission.waiting.load(SeqCst) > 0 {
            self.admission.let_in();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(requests: u32, pending: usize) -> Arc<Admission> {
        let pending_timeout = Duration::from_secs(1);
        let settings = UpstreamLimits {
            connections: None,
            requests: Some(requests),
            pending,
            pending_timeout,
            adaptive: false,
        };
        Admission::new(settings, Arc::default())
    }

    #[tokio::test(start_paused = true)]
    async fn request_over_the_limit_waits_for_its_turn_and_beyond_is_turned_away() {
        let door = admission(2, 2);
        let (first, second) = (door.enter().await.unwrap(), door.enter().await.unwrap());
        let mut third = Box::pin(door.enter());
        let mut fourth = Box::pin(door.enter());
        assert!(futures_util::poll!(&mut third).is_pending());
        assert!(futures_util::poll!(&mut fourth).is_pending());
        assert_eq!(door.enter().await.unwrap_err(), Overloaded, "two wait already");
        drop(first);
        assert!(futures_util::poll!(&mut fourth).is_pending(), "it is not its turn");
        let third = third.await.unwrap();
        drop((second, third));
        let fourth = fourth.await.unwrap();
        assert_eq!((door.in_flight.load(SeqCst), door.waiting.load(SeqCst)), (1, 0));
        drop(fourth);
        assert_eq!(door.in_flight.load(SeqCst), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_too_long_or_goes_away_leaves_his_place() {
        let door = admission(1, 2);
        let inside = door.enter().await.unwrap();
        let begun = Instant::now();
        let mut gone = Box::pin(door.enter());
        assert!(futures_util::poll!(&mut gone).is_pending());
        assert_eq!(door.enter().await.unwrap_err(), Overloaded);
        assert_eq!(begun.elapsed(), Duration::from_secs(1));
        let mut next = Box::pin(door.enter());
        assert!(futures_util::poll!(&mut next).is_pending());
        // It has got its place, and goes without having looked.
        drop(inside);
        drop(gone);
        assert!(next.await.is_ok());
        assert_eq!((door.in_flight.load(SeqCst), door.waiting.load(SeqCst)), (0, 0));
    }

    #[test]
    fn threads_never_have_more_inside_than_may_be_and_none_is_forgotten() {
        let (threads, rounds) = (8, 400);
        let door = admission(3, 100);
        let most = AtomicU32::new(0);
        let inside = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    let runtime =
                        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
                    runtime.block_on(async {
                        for _ in 0..rounds {
                            // A lost turn would be one that is waited for in vain.
                            let permit = door.enter().await.unwrap();
                            most.fetch_max(inside.fetch_add(1, SeqCst) + 1, SeqCst);
                            tokio::task::yield_now().await;
                            inside.fetch_sub(1, SeqCst);
                            drop(permit);
                        }
                    });
                });
            }
        });
        assert!(most.into_inner() <= 3);
        assert_eq!((door.in_flight.load(SeqCst), door.waiting.load(SeqCst)), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn limit_that_adapts_falls_when_requests_take_longer() {
        let pending_timeout = Duration::from_secs(1);
        let settings = UpstreamLimits {
            connections: None,
            requests: Some(100),
            pending: 0,
            pending_timeout,
            adaptive: true,
        };
        let door = Admission::new(settings, Arc::default());
        let mut limits = Vec::new();
        for milliseconds in [10, 100] {
            for _ in 0..1000 {
                let permit = door.enter().await.unwrap();
                let sent = Instant::now();
                tokio::time::advance(Duration::from_millis(milliseconds)).await;
                door.learn(sent, Instant::now(), 100);
                drop(permit);
            }
            limits.push(door.limit.load(SeqCst));
        }
        assert!(limits[0] > 90 && limits[1] <= 100, "{limits:?}");
    }
}
