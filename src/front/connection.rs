//! A connection's first bytes tell which protocol it speaks; its clock tells how long it may wait.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::time::{Instant, timeout};

use super::{Drained, http1, http2};
use crate::proxy::{Downstream, Worker};
use crate::telemetry::ListenerId;
use crate::upstream::connect::Io;

/// What an HTTP/2 client sends first (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Serves a connection until it ends or drains.
pub(super) async fn serve(
    worker: &Rc<Worker>,
    mut io: Io,
    downstream: Downstream,
    id: ListenerId,
    drained: Drained,
) {
    let accepted = Instant::now();
    let limit = downstream.listener.header_timeout;
    let (first, is_http2) = {
        let mut waiting = drained.clone();
        let sniffing = timeout(limit, sniff(&mut io));
        tokio::select! {
            biased;
            sniffed = sniffing => match sniffed {
                Ok(Ok(sniffed)) => sniffed,
                // It went away, or never said a word.
                Ok(Err(_)) | Err(_) => return,
            },
            // A connection that has not said a word has nothing in flight.
            () = waiting.wanted() => return,
        }
    };
    let io = Rewound { first, io, clock: None };
    if is_http2 {
        http2::serve(worker, io, downstream, drained).await;
    } else {
        http1::serve(worker, io, downstream, id, accepted, drained).await;
    }
}

/// Reads until it is clear whether this is HTTP/2; gives what was read.
async fn sniff(io: &mut Io) -> io::Result<(Bytes, bool)> {
    let mut read = BytesMut::with_capacity(1024);
    loop {
        if io.read_buf(&mut read).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let common = read.len().min(PREFACE.len());
        if read[..common] != PREFACE[..common] {
            return Ok((read.freeze(), false));
        }
        if common == PREFACE.len() {
            return Ok((read.freeze(), true));
        }
    }
}

/// Where an HTTP/1 connection is, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waiting {
    /// For a request's first byte.
    Idle(Instant),
    /// For the rest of a request's head.
    Head(Instant),
    /// A request is being served.
    Busy,
}

/// An HTTP/1 connection's clock, shared by its bytes, its requests and its driver. Nothing is armed per request.
#[derive(Debug)]
pub(super) struct Clock(Cell<Waiting>);

impl Clock {
    pub(super) fn new(accepted: Instant) -> Rc<Self> {
        Rc::new(Self(Cell::new(Waiting::Head(accepted))))
    }

    pub(super) fn set(&self, waiting: Waiting) {
        self.0.set(waiting);
    }

    pub(super) fn waiting(&self) -> Waiting {
        self.0.get()
    }

    /// When the present wait is over, were it to go on: `None` while a request is served.
    pub(super) fn deadline(&self, head: Duration, idle: Duration) -> Option<Instant> {
        match self.0.get() {
            Waiting::Idle(since) => Some(since + idle),
            Waiting::Head(since) => Some(since + head),
            Waiting::Busy => None,
        }
    }
}

/// A connection whose first bytes have been read already, and which tells its clock of a new head's first byte.
#[derive(Debug)]
pub(super) struct Rewound {
    first: Bytes,
    io: Io,
    pub(super) clock: Option<Rc<Clock>>,
}

impl AsyncRead for Rewound {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.first.is_empty() {
            let length = this.first.len().min(buf.remaining());
            buf.put_slice(&this.first[..length]);
            this.first.advance(length);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.io).poll_read(cx, buf);
        if let Some(clock) = &this.clock
            && buf.filled().len() > before
            && matches!(clock.waiting(), Waiting::Idle(_))
        {
            clock.set(Waiting::Head(Instant::now()));
        }
        polled
    }
}

impl AsyncWrite for Rewound {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}
