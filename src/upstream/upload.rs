//! The request body on its way to the endpoint: counted, limited in size, given up when the client stands still, and kept
//! where it is small and may have to be sent to another endpoint.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::time::Instant;

use super::Interim;
use super::expect::{Asked, Expectation};
use super::inbound::{Inbound, InboundError};
use super::kept::{End, Kept};
use crate::net::{Alarm, Fill, Patience, Source, clock};
use crate::wire::Fields;

/// Why a request body ended early. All of these are the client's doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UploadFailure {
    /// The client went away.
    Aborted,
    /// The client broke the protocol.
    Malformed,
    /// The client sent nothing for longer than the limit, or less than it has to.
    Stalled,
    /// The body is over the route's `max_body`.
    TooLarge,
}

/// The state of a request body, shared with whoever waits for the response.
#[derive(Debug, Default)]
pub struct UploadState {
    bytes: Cell<u64>,
    failure: Cell<Option<UploadFailure>>,
    done: Cell<bool>,
    last_progress: Cell<Option<Instant>>,
    asked: Option<Arc<Asked>>,
}

impl UploadState {
    /// Bytes passed on so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// Why it ended early, if it did.
    pub fn failure(&self) -> Option<UploadFailure> {
        self.failure.get()
    }

    /// Whether the whole body was passed on.
    pub fn is_done(&self) -> bool {
        self.done.get()
    }

    /// Whether nothing of it, and not its end either, has been passed on.
    pub fn is_untouched(&self) -> bool {
        self.bytes.get() == 0 && !self.done.get() && self.failure.get().is_none()
    }

    /// What the endpoint's 100 sets, where the body waits for it.
    pub(super) fn asked(&self) -> Option<&Arc<Asked>> {
        self.asked.as_ref()
    }

    /// Since when the endpoint alone is waited for, by whoever began to send it at `sent`; `None` while some of it has not
    /// come from the client.
    pub fn waited_since(&self, sent: Instant) -> Option<Instant> {
        self.is_done().then(|| self.last_progress().map_or(sent, |progress| progress.max(sent)))
    }

    /// When a part of the body last went on its way; `None` while nothing has.
    pub fn last_progress(&self) -> Option<Instant> {
        self.last_progress.get()
    }
}

/// A request body on its way to an endpoint. Without a body it costs nothing.
#[derive(Debug, Default)]
pub struct Upload(Option<Cursor>);

/// What is kept of a request body, so that it can be sent to another endpoint from its beginning.
#[derive(Debug, Clone)]
pub struct Replay(Option<Rc<Streaming>>);

/// How far an attempt has come in a body.
#[derive(Debug)]
struct Cursor {
    streaming: Rc<Streaming>,
    /// So much of what is kept this attempt has sent already.
    at: usize,
}

#[derive(Debug)]
struct Streaming {
    state: Rc<UploadState>,
    incoming: RefCell<Incoming>,
    kept: RefCell<Kept>,
}

/// A body as it comes from the client.
#[derive(Debug)]
struct Incoming {
    body: Inbound,
    /// Taken when the body has been asked for.
    expectation: Option<Expectation>,
    trailers: Option<TrailerFilter>,
    limit: Option<u64>,
    patience: Patience,
    /// When all of it has to be there.
    deadline: Option<Instant>,
    alarm: Alarm,
    /// How much of the data that is there has been counted.
    counted: usize,
}

/// What is done to trailers before they are passed on.
struct TrailerFilter(Box<dyn Fn(&mut Fields)>);

impl fmt::Debug for TrailerFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TrailerFilter(..)")
    }
}

/// A request body that ended early.
#[derive(Debug, thiserror::Error)]
#[error("the request body ended early")]
pub struct UploadError(#[source] Option<InboundError>);

impl Upload {
    /// `body` with its limits: `limit` bytes in all, and how long the client may make us wait for it.
    pub fn new(body: Inbound, limit: Option<u64>, patience: impl Into<Patience>) -> Self {
        Self::with(body, limit, patience.into(), None)
    }

    /// The same for a client that waits to be asked for the body. `interim` takes its 100 once the endpoint has asked.
    pub fn expecting(
        body: Inbound,
        limit: Option<u64>,
        patience: impl Into<Patience>,
        interim: Option<Interim>,
    ) -> Self {
        Self::with(body, limit, patience.into(), Some(Expectation::new(interim)))
    }

    fn with(body: Inbound, limit: Option<u64>, patience: Patience, expectation: Option<Expectation>) -> Self {
        if body.is_empty() {
            return Self(None);
        }
        let asked = expectation.as_ref().map(Expectation::asked);
        let state = Rc::new(UploadState { asked, ..UploadState::default() });
        let incoming = RefCell::new(Incoming {
            body,
            expectation,
            trailers: None,
            limit,
            patience,
            deadline: None,
            alarm: Alarm::default(),
            counted: 0,
        });
        let streaming = Streaming { state, incoming, kept: RefCell::default() };
        Self(Some(Cursor { streaming: Rc::new(streaming), at: 0 }))
    }

    /// The same, given up where not all of it has come by `deadline`.
    #[must_use]
    pub fn until(self, deadline: Option<Instant>) -> Self {
        if let Some(cursor) = &self.0 {
            cursor.streaming.incoming.borrow_mut().deadline = deadline;
        }
        self
    }

    /// The same, with `filter` applied to the trailers. Nothing is kept where there is no body.
    #[must_use]
    pub fn filtering(self, filter: impl FnOnce() -> Box<dyn Fn(&mut Fields)>) -> Self {
        if let Some(cursor) = &self.0 {
            cursor.streaming.incoming.borrow_mut().trailers = Some(TrailerFilter(filter()));
        }
        self
    }

    /// Whether there is no body.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// How long the body is in all, where that was said before.
    pub fn length(&self) -> Option<u64> {
        self.0.as_ref().map_or(Some(0), |cursor| cursor.streaming.incoming.borrow().body.length())
    }

    /// The state that others may watch; `None` where there is no body.
    pub fn state(&self) -> Option<Rc<UploadState>> {
        self.0.as_ref().map(|cursor| Rc::clone(&cursor.streaming.state))
    }

    /// Keeps what is sent of the body, up to `limit` bytes, and gives the way to send it again.
    pub fn keep(&self, limit: u64) -> Replay {
        if let Some(cursor) = &self.0 {
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            let is_too_long = self.length().is_some_and(|length| length > limit as u64);
            let is_untouched = cursor.streaming.state.is_untouched();
            cursor.streaming.kept.borrow_mut().limit = if is_too_long || !is_untouched { 0 } else { limit };
        }
        Replay(self.0.as_ref().map(|cursor| Rc::clone(&cursor.streaming)))
    }
}

impl Replay {
    /// The body from its beginning, where all that was sent of it is kept and the client is not the one that failed. No
    /// former attempt sends it any more.
    pub fn again(&self) -> Option<Upload> {
        let Some(streaming) = &self.0 else { return Some(Upload::default()) };
        let is_whole = streaming.state.is_untouched() || streaming.kept.borrow().limit > 0;
        let is_well = streaming.state.failure().is_none();
        // Until then it is not the client that is waited for.
        streaming.incoming.borrow_mut().patience.pause(Instant::now);
        (is_whole && is_well).then(|| Upload(Some(Cursor { streaming: Rc::clone(streaming), at: 0 })))
    }
}

impl Streaming {
    fn fail(&self, failure: UploadFailure, source: Option<InboundError>) -> UploadError {
        self.state.failure.set(Some(failure));
        UploadError(source)
    }

    fn poll_fill(&self, cx: &mut Context<'_>) -> Poll<Result<Fill, UploadError>> {
        let mut incoming = self.incoming.borrow_mut();
        let incoming = &mut *incoming;
        if let Some(expectation) = &mut incoming.expectation {
            ready!(expectation.poll(cx));
            incoming.expectation = None;
        }
        let polled = match incoming.body.poll_fill(cx) {
            Poll::Pending if incoming.poll_stalled(cx) => {
                return Poll::Ready(Err(self.fail(UploadFailure::Stalled, None)));
            }
            polled => polled,
        };
        match ready!(polled) {
            Ok(Fill::Data) => {
                let length = incoming.body.with_data(<[u8]>::len);
                if length > incoming.counted {
                    incoming.patience.moved((length - incoming.counted) as u64, Instant::now);
                    if incoming.deadline.is_some_and(|deadline| deadline <= clock::now()) {
                        return Poll::Ready(Err(self.fail(UploadFailure::Stalled, None)));
                    }
                    self.state.last_progress.set(Some(clock::now()));
                    let bytes = self.state.bytes.get() + (length - incoming.counted) as u64;
                    self.state.bytes.set(bytes);
                    incoming.counted = length;
                    if incoming.limit.is_some_and(|limit| bytes > limit) {
                        return Poll::Ready(Err(self.fail(UploadFailure::TooLarge, None)));
                    }
                }
                Poll::Ready(Ok(Fill::Data))
            }
            Ok(Fill::End(trailers)) => {
                self.state.done.set(true);
                let filter = incoming.trailers.as_ref();
                let trailers = trailers.map(|mut trailers| {
                    if let Some(TrailerFilter(filter)) = filter {
                        filter(&mut trailers);
                    }
                    trailers
                });
                let mut kept = self.kept.borrow_mut();
                if kept.limit > 0 {
                    kept.end = Some(End { trailers: trailers.clone() });
                }
                Poll::Ready(Ok(Fill::End(trailers)))
            }
            Err(error) => {
                let failure =
                    if error.is_malformed() { UploadFailure::Malformed } else { UploadFailure::Aborted };
                Poll::Ready(Err(self.fail(failure, Some(error))))
            }
        }
    }
}

impl Incoming {
    /// Whether the client has made us wait for too long.
    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> bool {
        let limit = self.patience.wait(Instant::now).into_iter().chain(self.deadline).min();
        limit.is_some_and(|limit| self.alarm.poll_until(cx, limit).is_ready())
    }
}

impl Cursor {
    /// How much of what is kept this attempt has still to send.
    fn ahead(&self) -> usize {
        self.streaming.kept.borrow().bytes.len().saturating_sub(self.at)
    }
}

impl Source for Upload {
    type Error = UploadError;

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<Fill, UploadError>> {
        let Some(cursor) = &mut self.0 else { return Poll::Ready(Ok(Fill::End(None))) };
        if cursor.ahead() > 0 {
            return Poll::Ready(Ok(Fill::Data));
        }
        let end = cursor.streaming.kept.borrow().end.clone();
        match end {
            Some(End { trailers }) => Poll::Ready(Ok(Fill::End(trailers))),
            None => cursor.streaming.poll_fill(cx),
        }
    }

    fn with_data<R>(&self, look: impl FnOnce(&[u8]) -> R) -> R {
        let Some(cursor) = &self.0 else { return look(&[]) };
        let kept = cursor.streaming.kept.borrow();
        match kept.bytes.get(cursor.at..) {
            Some(rest) if !rest.is_empty() => look(rest),
            _ => {
                drop(kept);
                cursor.streaming.incoming.borrow().body.with_data(look)
            }
        }
    }

    fn consume(&mut self, count: usize) {
        let Some(cursor) = &mut self.0 else { return };
        let ahead = cursor.ahead();
        if ahead > 0 {
            cursor.at += count.min(ahead);
            return;
        }
        let mut incoming = cursor.streaming.incoming.borrow_mut();
        let mut kept = cursor.streaming.kept.borrow_mut();
        incoming.body.with_data(|data| kept.keep(&data[..count.min(data.len())]));
        cursor.at = kept.bytes.len();
        incoming.counted -= count.min(incoming.counted);
        incoming.body.consume(count);
    }

    fn take(&mut self) -> Bytes {
        let Some(cursor) = &mut self.0 else { return Bytes::new() };
        let mut kept = cursor.streaming.kept.borrow_mut();
        if let Some(rest) = kept.bytes.get(cursor.at..)
            && !rest.is_empty()
        {
            let rest = Bytes::copy_from_slice(rest);
            cursor.at = kept.bytes.len();
            return rest;
        }
        let mut incoming = cursor.streaming.incoming.borrow_mut();
        incoming.counted = 0;
        let data = incoming.body.take();
        kept.keep(&data);
        cursor.at = kept.bytes.len();
        data
    }
    fn wait(&mut self) {
        if let Some(cursor) = &mut self.0 {
            cursor.streaming.incoming.borrow_mut().body.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn endpoint_is_waited_for_since_the_whole_body_has_come() {
        let sent = Instant::now();
        let (before, after) = (sent - Duration::from_secs(1), sent + Duration::from_secs(1));
        let rows = [
            (false, None, None),
            (false, Some(after), None),
            (true, None, Some(sent)),
            (true, Some(after), Some(after)),
            // Kept from an attempt before.
            (true, Some(before), Some(sent)),
        ];
        for (done, last_progress, expected) in rows {
            let state = UploadState {
                done: Cell::new(done),
                last_progress: Cell::new(last_progress),
                ..UploadState::default()
            };
            assert_eq!(state.waited_since(sent), expected, "{done} {last_progress:?}");
        }
    }
}
