//! 1xx responses on their way from an endpoint to the client, while the final one is waited for.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::wire::ResponseHead;

/// How many may wait to be sent: they are advice, and a client that does not take them loses them.
const WAITING: usize = 8;

/// Where the 1xx responses of a request go. Both its ends are on one worker.
#[derive(Debug, Clone, Default)]
pub struct Interim(Rc<RefCell<Queue>>);

#[derive(Debug, Default)]
struct Queue {
    heads: VecDeque<ResponseHead>,
    waker: Option<Waker>,
}

impl Interim {
    /// Sends `head` on; dropped where too many wait.
    pub fn send(&self, head: ResponseHead) {
        let mut queue = self.0.borrow_mut();
        if queue.heads.len() < WAITING {
            queue.heads.push_back(head);
        }
        if let Some(waker) = queue.waker.take() {
            waker.wake();
        }
    }

    /// The next one, if it is there.
    pub fn next(&self) -> Option<ResponseHead> {
        self.0.borrow_mut().heads.pop_front()
    }

    /// Forgets those that wait: they came too late for their request.
    pub fn clear(&self) {
        self.0.borrow_mut().heads.clear();
    }

    /// Waits for the next one.
    pub fn poll_next(&self, cx: &mut Context<'_>) -> Poll<ResponseHead> {
        if let Some(head) = self.next() {
            return Poll::Ready(head);
        }
        let mut queue = self.0.borrow_mut();
        if !queue.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            queue.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}
