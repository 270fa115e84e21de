//! A body that streams in from a peer, whichever protocol it speaks: a request's from the client, a response's from
//! the endpoint. It is read only when the other side has room, so nothing is buffered beyond one filling.

use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};

#[cfg(feature = "http3")]
use super::http3::{Http3Body, Http3BodyError};
use crate::net::{Fill, Link, LinkError, Source};
use crate::wire::{Fields, Length};

/// A body that streams in.
#[derive(Debug, Default)]
pub enum Inbound {
    /// No body.
    #[default]
    Empty,
    /// Over HTTP/1.
    Http1(Http1Body),
    /// Over HTTP/2.
    Http2(Box<Http2Body>),
    /// Over HTTP/3.
    #[cfg(feature = "http3")]
    Http3(Box<Http3Body>),
}

/// A body that streams in over HTTP/1: what comes next on a connection.
#[derive(Debug)]
pub struct Http1Body {
    link: Rc<Link>,
    length: Option<u64>,
}

/// A body that streams in over HTTP/2.
#[derive(Debug)]
pub struct Http2Body {
    stream: h2::RecvStream,
    length: Option<u64>,
    data: Bytes,
    has_ended: bool,
}

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
pub enum InboundError {
    /// Over HTTP/1: broken off, or not framed as the protocol says.
    #[error(transparent)]
    Http1(#[from] LinkError),
    /// Over HTTP/2.
    #[error(transparent)]
    Http2(#[from] h2::Error),
    /// Over HTTP/3.
    #[cfg(feature = "http3")]
    #[error(transparent)]
    Http3(#[from] Http3BodyError),
}

impl InboundError {
    /// Whether the peer broke the protocol (and did not merely go away).
    pub fn is_malformed(&self) -> bool {
        match self {
            Self::Http1(error) => matches!(error, LinkError::Malformed(_)),
            Self::Http2(error) => error.reason() == Some(h2::Reason::PROTOCOL_ERROR),
            #[cfg(feature = "http3")]
            Self::Http3(error) => error.is_malformed(),
        }
    }
}

impl Inbound {
    /// The body that comes next on `link`.
    pub fn http1(link: &Rc<Link>, length: Length) -> Self {
        link.begin(length);
        let known = match length {
            Length::Exact(0) => return Self::Empty,
            Length::Exact(length) => Some(length),
            Length::Chunked | Length::UntilClose => None,
        };
        Self::Http1(Http1Body { link: Rc::clone(link), length: known })
    }

    /// The body of an HTTP/2 message; `length` is what its head promised.
    pub fn http2(stream: h2::RecvStream, length: Option<u64>) -> Self {
        if stream.is_end_stream() {
            return Self::Empty;
        }
        Self::Http2(Box::new(Http2Body { stream, length, data: Bytes::new(), has_ended: false }))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }

    /// How long it is in all, where that was said before.
    pub fn length(&self) -> Option<u64> {
        match self {
            Self::Empty => Some(0),
            Self::Http1(body) => body.length,
            Self::Http2(body) => body.length,
            #[cfg(feature = "http3")]
            Self::Http3(body) => body.length(),
        }
    }
}

impl Http2Body {
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<Fill, h2::Error>> {
        if !self.data.is_empty() {
            return Poll::Ready(Ok(Fill::Data));
        }
        while !self.has_ended {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    // The reader asks only when it has room, so the window may open again at once.
                    self.stream.flow_control().release_capacity(data.len())?;
                    if !data.is_empty() {
                        self.data = data;
                        return Poll::Ready(Ok(Fill::Data));
                    }
                }
                // The peer closes its stream in good order after a complete response, RFC 9113 §8.1.
                Some(Err(error)) if error.reason() == Some(h2::Reason::NO_ERROR) => {
                    return Poll::Ready(Ok(Fill::End(None)));
                }
                Some(Err(error)) => return Poll::Ready(Err(error)),
                None => self.has_ended = true,
            }
        }
        let trailers = ready!(self.stream.poll_trailers(cx))?;
        Poll::Ready(Ok(Fill::End(trailers.as_ref().map(Fields::from))))
    }
}

impl Source for Inbound {
    type Error = InboundError;

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<Fill, InboundError>> {
        match self {
            Self::Empty => Poll::Ready(Ok(Fill::End(None))),
            Self::Http1(body) => body.link.poll_fill(cx).map_err(InboundError::Http1),
            Self::Http2(body) => body.poll_fill(cx).map_err(InboundError::Http2),
            #[cfg(feature = "http3")]
            Self::Http3(body) => body.poll_fill(cx).map_err(InboundError::Http3),
        }
    }

    fn with_data<R>(&self, look: impl FnOnce(&[u8]) -> R) -> R {
        match self {
            Self::Empty => look(&[]),
            Self::Http1(body) => body.link.with_data(look),
            Self::Http2(body) => look(&body.data),
            #[cfg(feature = "http3")]
            Self::Http3(body) => look(body.data()),
        }
    }

    fn consume(&mut self, count: usize) {
        match self {
            Self::Empty => {}
            Self::Http1(body) => body.link.consume(count),
            Self::Http2(body) => body.data.advance(count.min(body.data.len())),
            #[cfg(feature = "http3")]
            Self::Http3(body) => body.consume(count),
        }
    }

    fn wait(&mut self) {
        if let Self::Http1(body) = self {
            body.link.wait();
        }
    }

    fn take(&mut self) -> Bytes {
        if let Self::Http2(body) = self {
            return std::mem::take(&mut body.data);
        }
        #[cfg(feature = "http3")]
        if let Self::Http3(body) = self {
            return body.take();
        }
        let data = self.with_data(Bytes::copy_from_slice);
        self.consume(data.len());
        data
    }
}
