//! The request body on its way to the endpoint: counted, limited in size, and given up when the client stands still.

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::Interim;
use super::expect::{Asked, Expectation};
use super::inbound::{Inbound, InboundError};
use crate::net::{Alarm, Fill, Source, clock};
use crate::wire::Fields;

/// Why a request body ended early. All of these are the client's doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UploadFailure {
    /// The client went away.
    Aborted,
    /// The client broke the protocol.
    Malformed,
    /// The client sent nothing for longer than the limit.
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

    /// When a part of the body last went on its way; `None` while nothing has.
    pub fn last_progress(&self) -> Option<Instant> {
        self.last_progress.get()
    }
}

/// A request body on its way to an endpoint. Without a body it costs nothing.
#[derive(Debug, Default)]
pub struct Upload(Option<Box<Streaming>>);

#[derive(Debug)]
struct Streaming {
    body: Inbound,
    /// Taken when the body has been asked for.
    expectation: Option<Expectation>,
    state: Rc<UploadState>,
    trailers: Option<TrailerFilter>,
    limit: Option<u64>,
    stall: Duration,
    alarm: Alarm,
    waiting_since: Option<Instant>,
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
    /// `body` with its limits: `limit` bytes in all, `stall` between two reads.
    pub fn new(body: Inbound, limit: Option<u64>, stall: Duration) -> Self {
        Self::with(body, limit, stall, None)
    }

    /// The same for a client that waits to be asked for the body. `interim` takes its 100 once the endpoint has asked.
    pub fn expecting(body: Inbound, limit: Option<u64>, stall: Duration, interim: Option<Interim>) -> Self {
        Self::with(body, limit, stall, Some(Expectation::new(interim)))
    }

    fn with(body: Inbound, limit: Option<u64>, stall: Duration, expectation: Option<Expectation>) -> Self {
        if body.is_empty() {
            return Self(None);
        }
        let asked = expectation.as_ref().map(Expectation::asked);
        let state = Rc::new(UploadState { asked, ..UploadState::default() });
        Self(Some(Box::new(Streaming {
            body,
            expectation,
            state,
            trailers: None,
            limit,
            stall,
            alarm: Alarm::default(),
            waiting_since: None,
            counted: 0,
        })))
    }

    /// The same, with `filter` applied to the trailers. Nothing is kept where there is no body.
    #[must_use]
    pub fn filtering(mut self, filter: impl FnOnce() -> Box<dyn Fn(&mut Fields)>) -> Self {
        if let Some(streaming) = &mut self.0 {
            streaming.trailers = Some(TrailerFilter(filter()));
        }
        self
    }

    /// Whether there is no body.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// How long the body is in all, where that was said before.
    pub fn length(&self) -> Option<u64> {
        self.0.as_ref().map_or(Some(0), |streaming| streaming.body.length())
    }

    /// The state that others may watch; `None` where there is no body.
    pub fn state(&self) -> Option<Rc<UploadState>> {
        self.0.as_ref().map(|streaming| Rc::clone(&streaming.state))
    }
}

impl Streaming {
    fn fail(&self, failure: UploadFailure, source: Option<InboundError>) -> UploadError {
        self.state.failure.set(Some(failure));
        UploadError(source)
    }

    /// Whether the client has made us wait for longer than `stall`.
    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> bool {
        let since = *self.waiting_since.get_or_insert_with(Instant::now);
        let limit = since.checked_add(self.stall);
        limit.is_some_and(|limit| self.alarm.poll_until(cx, limit).is_ready())
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<Fill, UploadError>> {
        if let Some(expectation) = &mut self.expectation {
            ready!(expectation.poll(cx));
            self.expectation = None;
        }
        let polled = match self.body.poll_fill(cx) {
            Poll::Pending if self.poll_stalled(cx) => {
                return Poll::Ready(Err(self.fail(UploadFailure::Stalled, None)));
            }
            polled => polled,
        };
        let fill = ready!(polled);
        self.waiting_since = None;
        match fill {
            Ok(Fill::Data) => {
                let length = self.body.with_data(<[u8]>::len);
                if length > self.counted {
                    self.state.last_progress.set(Some(clock::now()));
                    let bytes = self.state.bytes.get() + (length - self.counted) as u64;
                    self.state.bytes.set(bytes);
                    self.counted = length;
                    if self.limit.is_some_and(|limit| bytes > limit) {
                        return Poll::Ready(Err(self.fail(UploadFailure::TooLarge, None)));
                    }
                }
                Poll::Ready(Ok(Fill::Data))
            }
            Ok(Fill::End(trailers)) => {
                self.state.done.set(true);
                let filter = self.trailers.as_ref();
                let trailers = trailers.map(|mut trailers| {
                    if let Some(TrailerFilter(filter)) = filter {
                        filter(&mut trailers);
                    }
                    trailers
                });
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

impl Source for Upload {
    type Error = UploadError;

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<Fill, UploadError>> {
        match &mut self.0 {
            Some(streaming) => streaming.poll_fill(cx),
            None => Poll::Ready(Ok(Fill::End(None))),
        }
    }

    fn with_data<R>(&self, look: impl FnOnce(&[u8]) -> R) -> R {
        match &self.0 {
            Some(streaming) => streaming.body.with_data(look),
            None => look(&[]),
        }
    }

    fn consume(&mut self, count: usize) {
        if let Some(streaming) = &mut self.0 {
            streaming.counted -= count.min(streaming.counted);
            streaming.body.consume(count);
        }
    }

    fn take(&mut self) -> Bytes {
        let Some(streaming) = &mut self.0 else { return Bytes::new() };
        streaming.counted = 0;
        streaming.body.take()
    }
}
