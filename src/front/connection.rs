//! A connection's first bytes tell which protocol it speaks; its clock tells how long it may wait.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::Version;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep, timeout};

use super::guard::{Guard, Violation};
use super::{Drained, http1, http2};
use crate::proxy::{Downstream, Worker};
use crate::upstream::connect::Io;

/// What an HTTP/2 client sends first (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What no parser takes for a head.
const REFUSED: &[u8] = b"\0\r\n\r\n";

/// How long a client may go on sending after our last response to it.
const LINGER: Duration = Duration::from_secs(2);

/// Serves a connection until it ends or drains.
pub(super) async fn serve(worker: &Rc<Worker>, mut io: Io, downstream: Downstream, drained: Drained) {
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
    let io = Rewound { first, io, clock: None, guard: None, is_refused: false, lingering: None };
    if is_http2 {
        http2::serve(worker, io, downstream, drained).await;
    } else {
        http1::serve(worker, io, downstream, accepted, drained).await;
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
pub(super) struct Clock {
    waiting: Cell<Waiting>,
    /// Whether the last request had a body, of which more may be on its way.
    has_body: Cell<bool>,
    /// Whether the last request was of HTTP/1.0, whose responses may end with the connection alone.
    is_old: Cell<bool>,
}

impl Clock {
    pub(super) fn new(accepted: Instant) -> Rc<Self> {
        let waiting = Cell::new(Waiting::Head(accepted));
        Rc::new(Self { waiting, has_body: Cell::new(false), is_old: Cell::new(false) })
    }

    pub(super) fn set(&self, waiting: Waiting) {
        self.waiting.set(waiting);
    }

    /// A request begins.
    pub(super) fn begin(&self, version: Version, has_body: bool) {
        self.waiting.set(Waiting::Busy);
        self.has_body.set(has_body);
        self.is_old.set(version == Version::HTTP_10);
    }

    /// Whether the last request was of HTTP/1.0.
    pub(super) fn is_old(&self) -> bool {
        self.is_old.get()
    }

    pub(super) fn waiting(&self) -> Waiting {
        self.waiting.get()
    }

    /// The connection ends; whether its client may still be sending: a body, or the rest of a bad head.
    fn end(&self) -> bool {
        matches!(self.waiting.replace(Waiting::Busy), Waiting::Head(_)) || self.has_body.get()
    }

    /// When the present wait is over, were it to go on: `None` while a request is served.
    pub(super) fn deadline(&self, head: Duration, idle: Duration) -> Option<Instant> {
        match self.waiting.get() {
            Waiting::Idle(since) => Some(since + idle),
            Waiting::Head(since) => Some(since + head),
            Waiting::Busy => None,
        }
    }
}

/// A connection whose first bytes have been read already, and which tells its clock of a new head's first byte. Closing
/// it waits for a client that is still sending.
#[derive(Debug)]
pub(super) struct Rewound {
    first: Bytes,
    io: Io,
    pub(super) clock: Option<Rc<Clock>>,
    pub(super) guard: Option<Guard>,
    is_refused: bool,
    lingering: Option<Pin<Box<Sleep>>>,
}

impl Rewound {
    /// Closes so that the client cannot take what it has for the whole.
    pub(super) fn reset(self) {
        self.io.reset_on_close();
    }

    fn read_first(&mut self, buf: &mut ReadBuf<'_>) {
        let length = self.first.len().min(buf.remaining());
        buf.put_slice(&self.first[..length]);
        self.first.advance(length);
    }

    /// Shows the guard what was read. A head that it finds wrong is ended so that the parser refuses it too, after the
    /// requests before it.
    fn check(&mut self, buf: &mut ReadBuf<'_>, before: usize) -> io::Result<()> {
        let Some(guard) = &mut self.guard else { return Ok(()) };
        match guard.read(&buf.filled()[before..]) {
            Ok(()) => Ok(()),
            Err(Violation::Head(at)) => {
                (self.guard, self.is_refused) = (None, true);
                self.first = Bytes::from_static(REFUSED);
                buf.set_filled(before + at);
                if at == 0 {
                    self.read_first(buf);
                }
                Ok(())
            }
            Err(Violation::Body) => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Reads what the client is still sending until it closes or has had its time: a socket closed with bytes unread is
    /// reset, and the reset would overtake our last response (RFC 9112 §9.6).
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut scratch = [0; 8192];
        loop {
            let mut read = ReadBuf::new(&mut scratch);
            match Pin::new(&mut self.io).poll_read(cx, &mut read) {
                Poll::Ready(Ok(())) if !read.filled().is_empty() => {}
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => break,
            }
        }
        self.lingering.as_mut().map_or(Poll::Ready(()), |limit| limit.as_mut().poll(cx))
    }
}

impl AsyncRead for Rewound {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let polled = if !this.first.is_empty() {
            this.read_first(buf);
            Poll::Ready(Ok(()))
        } else if this.is_refused {
            // What follows a refused head is nothing.
            Poll::Ready(Ok(()))
        } else {
            Pin::new(&mut this.io).poll_read(cx, buf)
        };
        if buf.filled().len() > before {
            if let Some(clock) = &this.clock
                && matches!(clock.waiting(), Waiting::Idle(_))
            {
                clock.set(Waiting::Head(Instant::now()));
            }
            this.check(buf, before)?;
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
        let this = self.get_mut();
        if this.lingering.is_none() {
            ready!(Pin::new(&mut this.io).poll_shutdown(cx))?;
            if !this.clock.as_ref().is_some_and(|clock| clock.end()) {
                return Poll::Ready(Ok(()));
            }
            this.lingering = Some(Box::pin(sleep(LINGER)));
        }
        this.poll_linger(cx).map(Ok)
    }
}
