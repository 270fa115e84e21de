//! Bodies of clients that speak HTTP/3: what streams in, and what streams out. Endpoints are not asked by it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h3::error::{Code, ConnectionError, StreamError};
use h3::server::RequestStream;
use tokio::time::{Instant, timeout_at};

use crate::net::quic::{RecvStream, SendStream};
use crate::net::{Fill, Patience, Source};
use crate::wire::Fields;

/// How much goes into one DATA frame. A client that takes one within its time may have the next.
const FRAME: usize = 16 * 1024;

/// A body that streams in over HTTP/3.
pub struct Http3Body {
    stream: RequestStream<RecvStream, Bytes>,
    length: Option<u64>,
    received: u64,
    data: Bytes,
    at: At,
}

/// How far a body has come.
#[derive(Debug)]
enum At {
    /// There may be more of it.
    Data,
    /// Its data has ended; what comes behind it is not known yet.
    Trailers,
    /// It is over, with these trailers; they are told once.
    Over(Option<Fields>),
}

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
pub enum Http3BodyError {
    /// The stream or its connection ended, or was not as the protocol says.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// Its length is not what its head says.
    #[error("the body has {received} bytes and its head says {promised}")]
    Length {
        /// What the head says.
        promised: u64,
        /// What came, so far.
        received: u64,
    },
}

impl Http3BodyError {
    /// Whether the peer broke the protocol (and did not merely go away).
    pub fn is_malformed(&self) -> bool {
        match self {
            Self::Length { .. } | Self::Stream(StreamError::HeaderTooBig { .. }) => true,
            Self::Stream(StreamError::StreamError { code, .. } | StreamError::RemoteTerminate { code }) => {
                [Code::H3_MESSAGE_ERROR, Code::H3_FRAME_ERROR, Code::H3_EXCESSIVE_LOAD].contains(code)
            }
            Self::Stream(StreamError::ConnectionError(error)) => {
                matches!(error, ConnectionError::Local { .. }) && !error.is_h3_no_error()
            }
            Self::Stream(_) => false,
        }
    }
}

impl fmt::Debug for Http3Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http3Body")
            .field("length", &self.length)
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

impl Http3Body {
    /// What comes on `stream` behind its head; `length` is what that promised.
    pub fn new(stream: RequestStream<RecvStream, Bytes>, length: Option<u64>) -> Self {
        Self { stream, length, received: 0, data: Bytes::new(), at: At::Data }
    }

    /// Whether it is known to be over, without data and without trailers.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty() && matches!(self.at, At::Over(None))
    }

    /// Waits until it is known whether there is anything.
    pub async fn begin(&mut self) {
        // What broke it off is told to who reads it.
        std::future::poll_fn(|cx| self.poll_begun(cx).map(drop)).await;
    }

    /// How long it is in all, where that was said before.
    pub(super) fn length(&self) -> Option<u64> {
        self.length
    }

    /// The data that is not used yet.
    pub(super) fn data(&self) -> &[u8] {
        &self.data
    }

    pub(super) fn consume(&mut self, count: usize) {
        self.data.advance(count.min(self.data.len()));
    }

    pub(super) fn take(&mut self) -> Bytes {
        std::mem::take(&mut self.data)
    }

    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<Fill, Http3BodyError>> {
        ready!(self.poll_begun(cx))?;
        Poll::Ready(Ok(match &mut self.at {
            At::Over(trailers) if self.data.is_empty() => Fill::End(trailers.take()),
            _ => Fill::Data,
        }))
    }

    /// Waits until there is data that is not used yet, or the end.
    fn poll_begun(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Http3BodyError>> {
        if !self.data.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while let At::Data = self.at {
            match ready!(self.stream.poll_recv_data(cx))? {
                Some(mut data) => {
                    self.data = data.copy_to_bytes(data.remaining());
                    self.received += self.data.len() as u64;
                    if self.length.is_some_and(|promised| self.received > promised) {
                        return Poll::Ready(Err(self.mismatch()));
                    }
                    if !self.data.is_empty() {
                        return Poll::Ready(Ok(()));
                    }
                }
                None => self.at = At::Trailers,
            }
        }
        if let At::Trailers = self.at {
            if self.length.is_some_and(|promised| self.received != promised) {
                return Poll::Ready(Err(self.mismatch()));
            }
            let trailers = ready!(self.stream.poll_recv_trailers(cx))?;
            self.at = At::Over(trailers.as_ref().map(Fields::from));
        }
        Poll::Ready(Ok(()))
    }

    /// Its length is not what its head says (RFC 9114 §4.1.2).
    fn mismatch(&mut self) -> Http3BodyError {
        self.data.clear();
        self.stream.stop_sending(Code::H3_MESSAGE_ERROR);
        Http3BodyError::Length { promised: self.length.unwrap_or_default(), received: self.received }
    }
}

/// Why a body was not sent whole.
#[derive(Debug)]
pub enum Unsent<E> {
    /// The body itself broke off.
    Body(E),
    /// The peer does not want it, takes none of it, or is gone.
    Peer,
}

/// Sends `body` on `stream` with its trailers and its end, never more than the peer's windows allow; a frame that the
/// peer does not take within its `patience` is the last. The stream is reset where the body is not sent whole. `gone` tells
/// when the peer wants no more.
///
/// # Errors
/// [`Unsent`], after the stream was reset.
pub async fn send_body<S: Source>(
    body: &mut S,
    stream: &mut RequestStream<SendStream, Bytes>,
    mut gone: Pin<&mut impl Future>,
    mut patience: Patience,
) -> Result<(), Unsent<S::Error>> {
    loop {
        let fill = std::future::poll_fn(|cx| {
            if gone.as_mut().poll(cx).is_ready() {
                return Poll::Ready(None);
            }
            body.poll_fill(cx).map(Some)
        });
        let trailers = match fill.await {
            Some(Ok(Fill::Data)) => {
                let part = body.take_up_to(FRAME);
                let length = part.len() as u64;
                // Whoever takes it at once is not waited for.
                let until = patience.wait(Instant::now);
                if !matches!(by(until, stream.send_data(part)).await, Some(Ok(()))) {
                    stream.stop_stream(Code::H3_REQUEST_CANCELLED);
                    return Err(Unsent::Peer);
                }
                patience.moved(length, Instant::now);
                continue;
            }
            Some(Ok(Fill::End(trailers))) => trailers,
            Some(Err(error)) => {
                stream.stop_stream(Code::H3_INTERNAL_ERROR);
                return Err(Unsent::Body(error));
            }
            None => {
                stream.stop_stream(Code::H3_REQUEST_CANCELLED);
                return Err(Unsent::Peer);
            }
        };
        let ending = async {
            if let Some(trailers) = trailers {
                stream.send_trailers(trailers.to_map()).await?;
            }
            stream.finish().await
        };
        if matches!(by(patience.wait(Instant::now), ending).await, Some(Ok(()))) {
            return Ok(());
        }
        stream.stop_stream(Code::H3_REQUEST_CANCELLED);
        return Err(Unsent::Peer);
    }
}

/// What `future` comes to, if it does by `until`.
async fn by<F: Future>(until: Option<Instant>, future: F) -> Option<F::Output> {
    match until {
        Some(until) => timeout_at(until, future).await.ok(),
        None => Some(future.await),
    }
}
