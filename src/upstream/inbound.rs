//! A body that streams in from a peer, whichever protocol it speaks: a request's from the client, a response's from
//! the endpoint. It is polled only when the other side has room, so nothing is buffered beyond one frame.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

/// A body that streams in.
#[derive(Debug, Default)]
pub enum Inbound {
    /// No body.
    #[default]
    Empty,
    /// Over HTTP/1.
    Http1(Incoming),
    /// Over HTTP/2.
    Http2(Http2Body),
}

/// A body that streams in over HTTP/2.
#[derive(Debug)]
pub struct Http2Body {
    stream: h2::RecvStream,
    /// What `content-length` promised and has not come yet.
    remaining: Option<u64>,
    data_done: bool,
}

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
pub enum InboundError {
    /// Over HTTP/1: broken off, or not framed as the protocol says.
    #[error(transparent)]
    Http1(#[from] hyper::Error),
    /// Over HTTP/2.
    #[error(transparent)]
    Http2(#[from] h2::Error),
}

impl InboundError {
    /// Whether the peer broke the protocol (and did not merely go away).
    pub fn is_malformed(&self) -> bool {
        match self {
            Self::Http1(error) => {
                error.is_parse() || std::error::Error::source(error).is_some_and(is_invalid_framing)
            }
            Self::Http2(error) => error.reason() == Some(h2::Reason::PROTOCOL_ERROR),
        }
    }
}

/// hyper reports a bad chunk as an I/O error of these kinds; a connection that breaks off has others.
fn is_invalid_framing(source: &(dyn std::error::Error + 'static)) -> bool {
    source.downcast_ref::<std::io::Error>().is_some_and(|error| {
        matches!(error.kind(), std::io::ErrorKind::InvalidInput | std::io::ErrorKind::InvalidData)
    })
}

impl Inbound {
    /// The body of an HTTP/2 message; `content_length` is what its head promised.
    pub fn http2(stream: h2::RecvStream, content_length: Option<u64>) -> Self {
        if stream.is_end_stream() {
            return Self::Empty;
        }
        Self::Http2(Http2Body { stream, remaining: content_length, data_done: false })
    }
}

impl From<Incoming> for Inbound {
    fn from(body: Incoming) -> Self {
        if body.is_end_stream() { Self::Empty } else { Self::Http1(body) }
    }
}

impl Http2Body {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, InboundError>>> {
        while !self.data_done {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    // The consumer asks only when it has room, so the window may open again at once.
                    self.stream.flow_control().release_capacity(data.len())?;
                    if data.is_empty() {
                        continue;
                    }
                    if let Some(remaining) = &mut self.remaining {
                        *remaining = remaining.saturating_sub(data.len() as u64);
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                // The peer closes its stream in good order after a complete response, RFC 9113 §8.1.
                Some(Err(error)) if error.reason() == Some(h2::Reason::NO_ERROR) => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                None => self.data_done = true,
            }
        }
        match ready!(self.stream.poll_trailers(cx)) {
            Ok(Some(trailers)) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
            Ok(None) => Poll::Ready(None),
            Err(error) => Poll::Ready(Some(Err(error.into()))),
        }
    }
}

impl Body for Inbound {
    type Data = Bytes;
    type Error = InboundError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, InboundError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Http1(body) => Pin::new(body).poll_frame(cx).map_err(InboundError::Http1),
            Self::Http2(body) => body.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Http1(body) => body.size_hint(),
            Self::Http2(body) => body.remaining.map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}
