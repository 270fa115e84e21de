//! The response body on its way to the client. When it ends, whichever way, the request is recorded and the connection
//! to the upstream given back or closed.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::time::{Instant, Sleep, sleep_until};

use super::attempt::client_failure;
use super::headers::strip_trailers;
use super::record::Record;
use super::stay::{Kind, Stay};
use super::worker::{Downstream, Worker};
use super::{Failure, grpc};
use crate::net::{Fill, Source};
use crate::telemetry::Cause;
use crate::upstream::exchange::Lease;
use crate::upstream::{Inbound, UploadState};
use crate::wire::grpc::Status;

/// A response that is over by then need not be asked whether it may stay.
const AT_ONCE: Duration = Duration::from_secs(1);

/// A response body on its way to the client.
#[derive(Debug)]
pub enum Outbound {
    /// One of our own, or none.
    Full(Option<Bytes>),
    /// The upstream's.
    Stream(Box<Stream>),
}

/// A body that streams from the upstream.
#[derive(Debug)]
pub struct Stream {
    body: Inbound,
    lease: Option<Lease>,
    upload: Option<Rc<UploadState>>,
    record: Option<Box<Record>>,
    deadline: Option<Deadline>,
    /// Whether trailers can tell the client how it ended.
    tells: bool,
}

/// When a response has to be over, and what it comes to then.
#[derive(Debug)]
pub struct Deadline {
    sleep: Pin<Box<Sleep>>,
    failure: Failure,
}

impl Deadline {
    /// At `at` it is `failure`.
    pub fn new(at: Instant, failure: Failure) -> Self {
        Self { sleep: Box::pin(sleep_until(at)), failure }
    }
}

/// A response body on its way that may have to go before its end: with its listener, the process, or its variant. A gRPC
/// client is told so by trailers, for others it breaks off.
#[derive(Debug)]
pub struct Staying<'a> {
    body: Outbound,
    worker: &'a Worker,
    downstream: &'a Downstream,
    /// Made when it waits for the first time, or is long while somebody has to go: most bodies never do.
    stay: Option<Stay>,
}

/// A response body that broke off: the client's connection or stream is aborted, so that it cannot take a part for the
/// whole.
#[derive(Debug, thiserror::Error)]
#[error("the response body broke off: {}", .0.sentence())]
pub struct OutboundError(pub Failure);

impl Outbound {
    /// A body of these bytes.
    pub fn full(bytes: Bytes) -> Self {
        Self::Full(if bytes.is_empty() { None } else { Some(bytes) })
    }

    /// The upstream's body, until `deadline`; `record` is closed when it ends. A response that has none by its nature is
    /// whole, though HTTP/2 may end its stream later.
    pub fn stream(
        body: Inbound,
        lease: Lease,
        upload: Option<Rc<UploadState>>,
        record: Box<Record>,
        deadline: Option<Deadline>,
    ) -> Self {
        let is_empty = body.is_empty() || record.is_bodiless();
        // Where a length was promised, trailers cannot stand for the rest.
        let tells = record.grpc.is_some() && body.length().is_none();
        let (lease, record) = (Some(lease), Some(record));
        let mut stream = Stream { body, lease, upload, record, deadline, tells };
        if is_empty {
            stream.finish(None);
            return Self::Full(None);
        }
        Self::Stream(Box::new(stream))
    }

    /// The same, for as long as a response to `downstream` may live on.
    pub fn staying<'a>(self, worker: &'a Worker, downstream: &'a Downstream) -> Staying<'a> {
        Staying { body: self, worker, downstream, stay: None }
    }

    /// How many bytes it is, where that is known before.
    pub fn length(&self) -> Option<u64> {
        match self {
            Self::Full(bytes) => Some(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Stream(stream) => stream.body.length(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Full(None))
    }
}

impl Stream {
    fn finish(&mut self, failure: Option<Failure>) {
        if let Some(lease) = self.lease.take()
            && failure.is_none()
            && self.upload.as_ref().is_none_or(|upload| upload.is_done())
        {
            lease.give_back();
        }
        if let Some(record) = self.record.take() {
            record.close(failure);
        }
    }

    fn break_off(&mut self, failure: Failure, cause: Cause) -> Poll<Result<Fill, OutboundError>> {
        if let Some(record) = &self.record {
            record.broke_off(cause);
        }
        self.end(failure)
    }

    /// Ends the response before its time. Who has trailers is told by them; else the end must not look like one.
    fn end(&mut self, failure: Failure) -> Poll<Result<Fill, OutboundError>> {
        self.finish(Some(failure));
        if self.tells && failure != Failure::ClientAborted {
            // Nothing of it comes any more.
            self.body = Inbound::Empty;
            return Poll::Ready(Ok(Fill::End(Some(grpc::trailers(failure)))));
        }
        Poll::Ready(Err(OutboundError(failure)))
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<Fill, OutboundError>> {
        if let Some(deadline) = &mut self.deadline
            && deadline.sleep.as_mut().poll(cx).is_ready()
        {
            let failure = deadline.failure;
            // Where there is more to be had, it is the client that takes it slowly.
            let is_waited_for = self.body.poll_fill(cx).is_pending();
            if let Some(record) = &self.record {
                if is_waited_for {
                    record.broke_off(Cause::Timeout);
                } else {
                    record.is_of_no_use(Cause::Timeout);
                }
            }
            return self.end(failure);
        }
        // The request's body may still be on its way.
        if let Some(lease) = &mut self.lease {
            lease.poll_upload(cx);
        }
        let polled = self.body.poll_fill(cx);
        // The endpoint may wait for a body that does not come any more. What it has said all the same is passed on.
        if !matches!(polled, Poll::Ready(Ok(_)))
            && let Some(failure) = self.upload.as_ref().and_then(|upload| upload.failure())
        {
            return self.end(client_failure(failure));
        }
        match ready!(polled) {
            Ok(Fill::Data) => Poll::Ready(Ok(Fill::Data)),
            Ok(Fill::End(trailers)) => {
                let trailers = trailers.map(|mut trailers| {
                    if let Some(record) = &self.record {
                        strip_trailers(&mut trailers, record.routing_headers().ours());
                    }
                    trailers
                });
                if let (Some(trailers), Some(record)) = (&trailers, &mut self.record)
                    && record.grpc.is_some()
                {
                    record.grpc = Some(Status::of(trailers));
                }
                self.finish(None);
                Poll::Ready(Ok(Fill::End(trailers)))
            }
            Err(error) if error.is_malformed() => self.break_off(Failure::UpstreamProtocol, Cause::Protocol),
            Err(_) => self.break_off(Failure::UpstreamReset, Cause::Reset),
        }
    }

    fn sent(&mut self, count: usize) {
        if let Some(record) = &mut self.record {
            record.response_bytes += count as u64;
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // Dropped before its end: nobody wants the rest.
        self.finish(Some(Failure::ClientAborted));
    }
}

impl Source for Outbound {
    type Error = OutboundError;

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<Fill, OutboundError>> {
        match self {
            Self::Full(None) => Poll::Ready(Ok(Fill::End(None))),
            Self::Full(Some(_)) => Poll::Ready(Ok(Fill::Data)),
            Self::Stream(stream) => stream.poll_fill(cx),
        }
    }

    fn with_data<R>(&self, look: impl FnOnce(&[u8]) -> R) -> R {
        match self {
            Self::Full(bytes) => look(bytes.as_deref().unwrap_or_default()),
            Self::Stream(stream) => stream.body.with_data(look),
        }
    }

    fn consume(&mut self, count: usize) {
        match self {
            Self::Full(bytes) => {
                if let Some(rest) = bytes {
                    rest.advance(count.min(rest.len()));
                    if rest.is_empty() {
                        *bytes = None;
                    }
                }
            }
            Self::Stream(stream) => {
                stream.sent(count);
                stream.body.consume(count);
            }
        }
    }

    fn wait(&mut self) {
        if let Self::Stream(stream) = self {
            stream.body.wait();
        }
    }

    fn take(&mut self) -> Bytes {
        match self {
            Self::Full(bytes) => bytes.take().unwrap_or_default(),
            Self::Stream(stream) => {
                let data = stream.body.take();
                stream.sent(data.len());
                data
            }
        }
    }
}

impl Source for Staying<'_> {
    type Error = OutboundError;

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<Fill, OutboundError>> {
        let polled = self.body.poll_fill(cx);
        let may_have_to_go = match &polled {
            Poll::Pending => true,
            // One that never waits is asked as well, once there is a reason to.
            Poll::Ready(Ok(Fill::Data)) => self.worker.stays.is_anybody_told(),
            Poll::Ready(_) => false,
        };
        if may_have_to_go
            && let Outbound::Stream(stream) = &mut self.body
            && let Some(record) = &stream.record
            && (polled.is_pending() || record.is_older_than(AT_ONCE))
        {
            let stay = self
                .stay
                .get_or_insert_with(|| Stay::of(self.worker, self.downstream, record, Kind::Response));
            if stay.poll_over(cx).is_ready() {
                return stream.end(Failure::Drained);
            }
        }
        polled
    }

    fn with_data<R>(&self, look: impl FnOnce(&[u8]) -> R) -> R {
        self.body.with_data(look)
    }

    fn consume(&mut self, count: usize) {
        self.body.consume(count);
    }

    fn take(&mut self) -> Bytes {
        self.body.take()
    }

    fn wait(&mut self) {
        self.body.wait();
    }
}
