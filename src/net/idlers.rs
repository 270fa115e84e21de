//! A worker's connections of clients that wait for a next request: when files are short, those that have waited longest
//! are told to go. To enter and to leave costs a few nanoseconds, and no memory but a place in a list.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use slab::Slab;
use tokio::time::Instant;

/// The connections of a worker that wait.
#[derive(Debug, Default)]
pub struct Idlers(RefCell<Slab<Idler>>);

#[derive(Debug)]
struct Idler {
    /// `None` while it has something to do.
    since: Option<Instant>,
    waker: Waker,
    is_told: bool,
}

/// A connection that may wait now and then.
#[derive(Debug, Default)]
pub struct Waiting(Option<(Rc<Idlers>, usize)>);

impl Idlers {
    /// Tells those that have waited longest to go, at most `most`; how many they are.
    pub fn dismiss(&self, most: usize) -> usize {
        let mut idlers = self.0.borrow_mut();
        let waiting = idlers.iter().filter(|(_, idler)| !idler.is_told);
        let mut waiting: Vec<_> = waiting.filter_map(|(place, idler)| Some((idler.since?, place))).collect();
        if waiting.len() > most && most > 0 {
            waiting.select_nth_unstable(most - 1);
        }
        waiting.truncate(most);
        for (_, place) in &waiting {
            if let Some(idler) = idlers.get_mut(*place) {
                idler.is_told = true;
                idler.waker.wake_by_ref();
            }
        }
        waiting.len()
    }
}

impl Waiting {
    /// Ready when it is told to go, which it may be from the first call on. It waits since the first call after
    /// [`Waiting::is_over`].
    pub fn poll(
        &mut self,
        cx: &mut Context<'_>,
        idlers: &Rc<Idlers>,
        now: impl FnOnce() -> Instant,
    ) -> Poll<()> {
        let (idlers, place) = self.0.get_or_insert_with(|| {
            let idler = Idler { since: None, waker: cx.waker().clone(), is_told: false };
            (Rc::clone(idlers), idlers.0.borrow_mut().insert(idler))
        });
        let mut idlers = idlers.0.borrow_mut();
        let Some(idler) = idlers.get_mut(*place) else { return Poll::Pending };
        if idler.is_told {
            return Poll::Ready(());
        }
        idler.since.get_or_insert_with(now);
        idler.waker.clone_from(cx.waker());
        Poll::Pending
    }

    /// Says that it has something to do.
    pub fn is_over(&mut self) {
        if let Some((idlers, place)) = &self.0
            && let Some(idler) = idlers.0.borrow_mut().get_mut(*place)
        {
            idler.since = None;
            idler.is_told = false;
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some((idlers, place)) = &self.0 {
            idlers.0.borrow_mut().try_remove(*place);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn those_that_have_waited_longest_are_told_and_those_that_are_busy_are_not() {
        let idlers = Rc::new(Idlers::default());
        let start = Instant::now();
        let cx = &mut Context::from_waker(Waker::noop());
        let mut all: Vec<_> = (0..6).map(|_| Waiting::default()).collect();
        for (waiting, second) in all.iter_mut().zip([5, 1, 4, 0, 3, 2]) {
            let since = start + Duration::from_secs(second);
            assert!(waiting.poll(cx, &idlers, || since).is_pending());
        }
        // The oldest has got a request.
        all[3].is_over();
        assert_eq!(idlers.dismiss(2), 2);
        let told: Vec<_> = all.iter_mut().map(|one| one.poll(cx, &idlers, Instant::now).is_ready()).collect();
        assert_eq!(told, [false, true, false, false, false, true]);
        assert_eq!(idlers.dismiss(100), 4, "those that were told are not told again");
        drop(all);
        assert_eq!((idlers.dismiss(100), idlers.0.borrow().len()), (0, 0));
    }
}
