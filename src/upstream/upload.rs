//! The request body on its way to the endpoint: counted, limited in size, and given up when the client stands still.

use std::cell::Cell;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::Interim;
use super::expect::{Asked, Expectation};
use super::inbound::{Inbound, InboundError};
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

    /// What the endpoint's 100 sets, where the body waits for it.
    pub(super) fn asked(&self) -> Option<&Arc<Asked>> {
        self.asked.as_ref()
    }

    /// When a part of the body last went on its way; `None` while nothing has.
    pub fn last_progress(&self) -> Option<Instant> {
        self.last_progress.get()
    }
}

/// A request body on its way to an endpoint.
#[derive(Debug)]
pub struct Upload {
    body: Inbound,
    /// Taken when the body has been asked for.
    expectation: Option<Box<Expectation>>,
    state: Rc<UploadState>,
    trailers: Option<TrailerFilter>,
    limit: Option<u64>,
    stall: Duration,
    /// Armed the first time the client makes us wait; moved on lazily, when it fires.
    timer: Option<Pin<Box<Sleep>>>,
    waiting_since: Option<Instant>,
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
pub struct UploadError(Option<InboundError>);

impl Upload {
    /// `body` with its limits: `limit` bytes in all, `stall` between two reads.
    pub fn new(body: Inbound, limit: Option<u64>, stall: Duration) -> Self {
        Self::with(body, limit, stall, None)
    }

    /// The same for a client that waits to be asked for the body. `interim` takes its 100 once the endpoint has asked;
    /// `None` where the first read asks for it.
    pub fn expecting(body: Inbound, limit: Option<u64>, stall: Duration, interim: Option<Interim>) -> Self {
        let expectation = (!body.is_end_stream()).then(|| Box::new(Expectation::new(interim)));
        Self::with(body, limit, stall, expectation)
    }

    fn with(
        body: Inbound,
        limit: Option<u64>,
        stall: Duration,
        expectation: Option<Box<Expectation>>,
    ) -> Self {
        let state = UploadState {
            done: Cell::new(body.is_end_stream()),
            asked: expectation.as_ref().map(|expectation| expectation.asked()),
            ..UploadState::default()
        };
        let state = Rc::new(state);
        Self { body, expectation, state, trailers: None, limit, stall, timer: None, waiting_since: None }
    }

    /// The same, with `filter` applied to the trailers. Nothing is kept where there is no body.
    #[must_use]
    pub fn filtering(mut self, filter: impl Fn(&mut Fields) + 'static) -> Self {
        if !self.body.is_end_stream() {
            self.trailers = Some(TrailerFilter(Box::new(filter)));
        }
        self
    }

    /// The state that others may watch.
    pub fn state(&self) -> Rc<UploadState> {
        Rc::clone(&self.state)
    }

    fn fail(&self, failure: UploadFailure, source: Option<InboundError>) -> UploadError {
        self.state.failure.set(Some(failure));
        UploadError(source)
    }

    /// Whether the client has made us wait for longer than `stall`.
    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> bool {
        let now = Instant::now();
        let since = *self.waiting_since.get_or_insert(now);
        let deadline = since + self.stall;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        loop {
            if timer.as_mut().poll(cx).is_pending() {
                return false;
            }
            if now >= deadline {
                return true;
            }
            timer.as_mut().reset(deadline);
        }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let this = self.get_mut();
        if let Some(expectation) = &mut this.expectation {
            ready!(expectation.poll(cx));
            this.expectation = None;
        }
        let polled = match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Pending if this.poll_stalled(cx) => {
                return Poll::Ready(Some(Err(this.fail(UploadFailure::Stalled, None))));
            }
            polled => polled,
        };
        let frame = ready!(polled);
        this.waiting_since = None;
        match frame {
            None => {
                this.state.done.set(true);
                Poll::Ready(None)
            }
            Some(Ok(frame)) => {
                this.state.last_progress.set(Some(Instant::now()));
                if let Some(data) = frame.data_ref() {
                    let bytes = this.state.bytes.get() + data.len() as u64;
                    this.state.bytes.set(bytes);
                    if this.limit.is_some_and(|limit| bytes > limit) {
                        return Poll::Ready(Some(Err(this.fail(UploadFailure::TooLarge, None))));
                    }
                }
                if frame.is_trailers() || this.body.is_end_stream() {
                    this.state.done.set(true);
                }
                let frame = match (frame.into_trailers(), &this.trailers) {
                    (Ok(trailers), Some(TrailerFilter(filter))) => {
                        let mut trailers = Fields::from(&trailers);
                        filter(&mut trailers);
                        Frame::trailers(trailers.to_map())
                    }
                    (Ok(trailers), None) => Frame::trailers(trailers),
                    (Err(frame), _) => frame,
                };
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                let failure =
                    if error.is_malformed() { UploadFailure::Malformed } else { UploadFailure::Aborted };
                Poll::Ready(Some(Err(this.fail(failure, Some(error)))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
