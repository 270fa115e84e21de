//! What was handed to a library to be sent on a connection and is not written yet: bounded for the connection as a
//! whole, for its streams are many. It shrinks when the bytes themselves are dropped, whoever does that.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use super::buffer::{self, Pressure};

/// How much may wait, by how much this worker holds in all.
const fn limit(pressure: Pressure) -> usize {
    match pressure {
        Pressure::None => 1024 * 1024,
        Pressure::Some => 128 * 1024,
        Pressure::High => 32 * 1024,
    }
}

/// What of a connection waits to be written.
#[derive(Debug, Clone, Default)]
pub struct Backlog(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    bytes: AtomicUsize,
    waiting: Mutex<Vec<Waker>>,
}

/// Bytes that are counted for as long as they are there.
struct Held {
    bytes: Bytes,
    backlog: Arc<Shared>,
}

impl Backlog {
    /// Waits until there is room; how much there is.
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<usize> {
        let bytes = self.0.bytes.load(Ordering::Relaxed);
        if let Some(room @ 1..) = limit(buffer::pressure()).checked_sub(bytes) {
            return Poll::Ready(room);
        }
        let mut waiting = self.0.waiting();
        if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// `bytes`, counted for as long as they are there.
    pub fn hold(&self, bytes: Bytes) -> Bytes {
        self.0.bytes.fetch_add(bytes.len(), Ordering::Relaxed);
        buffer::lend(bytes.len());
        Bytes::from_owner(Held { bytes, backlog: Arc::clone(&self.0) })
    }
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Vec<Waker>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let length = self.bytes.len();
        buffer::give_back(length);
        let left = self.backlog.bytes.fetch_sub(length, Ordering::Relaxed) - length;
        // Not for each piece: all that wait would be woken for one of them.
        if left <= limit(buffer::pressure()) / 2 {
            let waiting = std::mem::take(&mut *self.backlog.waiting());
            waiting.into_iter().for_each(Waker::wake);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    #[test]
    fn backlog_that_is_full_has_room_again_when_half_of_it_has_gone() {
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let cx = &mut Context::from_waker(&waker);
        let backlog = Backlog::default();
        let most = limit(Pressure::None);
        let piece = Bytes::from(vec![7; most / 8]);
        assert_eq!(backlog.poll_room(cx), Poll::Ready(most));
        let mut held: Vec<_> = (0..8).map(|_| backlog.hold(piece.clone())).collect();
        assert_eq!((&held[0], backlog.poll_room(cx)), (&piece, Poll::Pending));
        // A part of a piece holds all of it.
        let part = held.pop().unwrap().slice(..1);
        assert!(backlog.poll_room(cx).is_pending());
        drop(part);
        held.truncate(5);
        assert!(!woken.0.load(Ordering::Relaxed), "more than half is there");
        held.truncate(4);
        assert!(woken.0.load(Ordering::Relaxed));
        assert_eq!(backlog.poll_room(cx), Poll::Ready(most / 2));
        drop(held);
        assert_eq!(backlog.poll_room(cx), Poll::Ready(most));
    }
}
