//! The response body on its way to the client. When it ends, whichever way, the request is recorded and the connection
//! to the upstream given back or closed.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Sleep;

use super::Failure;
use super::headers::strip_trailers;
use super::record::Record;
use crate::telemetry::Cause;
use crate::upstream::local::Lease;
use crate::upstream::{Inbound, UploadState};
use crate::wire::Fields;

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
    upload: Rc<UploadState>,
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

    /// The upstream's body, until `deadline`; `record` is closed when it ends.
    pub fn stream(
        body: Inbound,
        lease: Lease,
        upload: Rc<UploadState>,
        record: Box<Record>,
        deadline: Option<Pin<Box<Sleep>>>,
    ) -> Self {
        let mut stream = Stream { body, lease: Some(lease), upload, record: Some(record), deadline };
        if stream.body.is_end_stream() {
            stream.finish(None);
            return Self::Full(None);
        }
        Self::Stream(Box::new(stream))
    }
}

impl Stream {
    fn finish(&mut self, failure: Option<Failure>) {
        if let Some(lease) = self.lease.take()
            && failure.is_none()
            && self.upload.is_done()
        {
            lease.give_back();
        }
        if let Some(record) = self.record.take() {
            record.close(failure);
        }
    }

    fn break_off(&mut self, failure: Failure, cause: Cause) {
        if let Some(record) = &self.record {
            record.broke_off(cause);
        }
        self.finish(Some(failure));
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, OutboundError>>> {
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            self.break_off(Failure::RouteTimeout, Cause::Timeout);
            return Poll::Ready(Some(Err(OutboundError(Failure::RouteTimeout))));
        }
        match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            None => {
                self.finish(None);
                Poll::Ready(None)
            }
            Some(Ok(frame)) => {
                if let (Some(data), Some(record)) = (frame.data_ref(), &mut self.record) {
                    record.response_bytes += data.len() as u64;
                }
                let frame = match (frame.into_trailers(), &self.record) {
                    (Ok(trailers), Some(record)) => {
                        let mut trailers = Fields::from(&trailers);
                        strip_trailers(&mut trailers, record.routing_headers().ours());
                        Frame::trailers(trailers.to_map())
                    }
                    (Ok(trailers), None) => Frame::trailers(trailers),
                    (Err(frame), _) => frame,
                };
                if frame.is_trailers() || self.body.is_end_stream() {
                    self.finish(None);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                let (failure, cause) = if error.is_malformed() {
                    (Failure::UpstreamProtocol, Cause::Protocol)
                } else {
                    (Failure::UpstreamReset, Cause::Reset)
                };
                self.break_off(failure, cause);
                Poll::Ready(Some(Err(OutboundError(failure))))
            }
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // Dropped before its end: nobody wants the rest.
        self.finish(Some(Failure::ClientAborted));
    }
}

impl Body for Outbound {
    type Data = Bytes;
    type Error = OutboundError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, OutboundError>>> {
        match self.get_mut() {
            Self::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream(stream) => stream.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(bytes) => bytes.is_none(),
            Self::Stream(stream) => stream.record.is_none() || stream.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Stream(stream) => stream.body.size_hint(),
        }
    }
}
