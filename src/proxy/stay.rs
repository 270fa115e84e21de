//! How long something may stay that lives on: a tunnel, or a response that streams. It goes when its listener or the
//! process drains, or when its variant is taken back and the split says by when; not all at one moment, and in time to
//! say goodbye in the words of its protocol.
//!
//! Who stays is woken from time to time while somebody has to go, and looks for itself; at other times this costs
//! nothing. What goodbye means is [`super::tunnel`]'s and [`super::outbound`]'s.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use slab::Slab;
use tokio::time::Instant;

use super::record::Record;
use super::worker::{Downstream, Worker};
use crate::net::drain::{Drained, Window};
use crate::state::Current;
use crate::types::{Generation, SplitName, VariantName};

/// How long after the end of a window those who were late are still woken.
const LATE: Duration = Duration::from_secs(2);

/// How long before the end of a window a response is ended at the latest, so that the client learns of it.
const NOTICE: Duration = Duration::from_secs(1);

/// Those of a worker who stay.
#[derive(Debug, Default)]
pub struct Stays {
    wakers: RefCell<Slab<Option<Waker>>>,
    until: Cell<Option<Instant>>,
}

/// What it is that stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A tunnel, which has no end of its own: they go one after the other in the first half of the window, so that their
    /// clients do not all come back at once.
    Tunnel,
    /// A response, which may end by itself: it has nearly all of the window.
    Response,
}

/// One that stays.
#[derive(Debug)]
pub struct Stay {
    stays: Rc<Stays>,
    place: usize,
    current: Arc<Current>,
    drained: Drained,
    cohort: Option<(SplitName, VariantName)>,
    since: Generation,
    kind: Kind,
    /// Its place among the others, in `[0, 256)`.
    lot: u32,
}

impl Stays {
    /// Says that until `by` some have to go.
    pub fn watch_until(&self, by: Instant) {
        self.until.set(self.until.get().max(Some(by)));
    }

    /// Whether some have to go at this time.
    pub fn is_watched(&self, now: Instant) -> bool {
        self.until.get().is_some_and(|until| now < until + LATE)
    }

    /// Whether some ever had to go.
    pub fn is_anybody_told(&self) -> bool {
        self.until.get().is_some()
    }

    /// Lets everybody look whether it is he.
    pub fn look(&self) {
        for (_, waker) in self.wakers.borrow().iter() {
            if let Some(waker) = waker {
                waker.wake_by_ref();
            }
        }
    }
}

impl Stay {
    /// What the request of `record`, which came from `downstream`, has led to.
    pub fn of(worker: &Worker, downstream: &Downstream, record: &Record, kind: Kind) -> Self {
        Self {
            place: worker.stays.wakers.borrow_mut().insert(None),
            stays: Rc::clone(&worker.stays),
            current: Arc::clone(worker.current()),
            drained: downstream.drained.clone(),
            cohort: record.cohort().map(|(split, variant)| (split.clone(), variant.clone())),
            since: record.serving().snapshot.generation,
            kind,
            lot: fastrand::u32(..256),
        }
    }

    /// Ready when it has to go.
    pub fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(waker) = self.stays.wakers.borrow_mut().get_mut(self.place)
            && !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            *waker = Some(cx.waker().clone());
        }
        if self.stays.until.get().is_none() {
            return Poll::Pending;
        }
        let now = Instant::now();
        let is_over = [self.drained.window(), self.leaves()]
            .into_iter()
            .flatten()
            .any(|window| self.moment(window) <= now);
        if is_over { Poll::Ready(()) } else { Poll::Pending }
    }

    /// When its variant has to be left, if that was said after it came.
    fn leaves(&self) -> Option<Window> {
        let (split, variant) = self.cohort.as_ref()?;
        let snapshot = self.current.load();
        let mut leaving = snapshot.leaving.iter();
        let left = leaving.find(|left| left.split == *split && left.variant == *variant)?;
        (left.since > self.since).then_some(left.window)
    }

    /// The moment in `window` at which it goes.
    fn moment(&self, window: Window) -> Instant {
        let length = window.by.saturating_duration_since(window.since);
        match self.kind {
            Kind::Tunnel => window.since + length / 512 * self.lot,
            Kind::Response => window.since + length.saturating_sub(NOTICE.min(length / 4)),
        }
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        self.stays.wakers.borrow_mut().try_remove(self.place);
    }
}
