//! The response body on its way to the client. When it ends, whichever way, the request is recorded and the connection
//! to the upstream given back or closed.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::time::Sleep;

use super::Failure;
use super::attempt::client_failure;
use super::headers::strip_trailers;
use super::record::Record;
use crate::net::{Fill, Source};
use crate::telemetry::Cause;
use crate::upstream::local::Lease;
use crate::upstream::{Inbound, UploadState};

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
    deadline: Option<Pin<Box<Sleep>>>,
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
        deadline: Option<Pin<Box<Sleep>>>,
    ) -> Self {
        let is_empty = body.is_empty() || record.is_bodiless();
        let mut stream = Stream { body, lease: Some(lease), upload, record: Some(record), deadline };
        if is_empty {
            stream.finish(None);
            return Self::Full(None);
        }
        Self::Stream(Box::new(stream))
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
        self.finish(Some(failure));
        Poll::Ready(Err(OutboundError(failure)))
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<Fill, OutboundError>> {
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            return self.break_off(Failure::RouteTimeout, Cause::Timeout);
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
            let failure = client_failure(failure);
            self.finish(Some(failure));
            return Poll::Ready(Err(OutboundError(failure)));
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
