//! A connection whose write side may break without taking the answer with it. An endpoint that refuses a body from its
//! head alone answers and closes; what we then still write fails, while the answer waits to be read. And one that no
//! endpoint can keep a worker busy with: the parser reads 1xx responses for as long as there are any.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connect::Io;

/// A connection that takes and forgets what is written once its peer is gone; reading tells what came of it.
#[derive(Debug)]
pub(super) struct Tolerant {
    io: Io,
    is_broken: bool,
    /// Bytes read in a row.
    in_a_row: usize,
}

/// How much may be read before others have their turn.
const TURN: usize = 256 * 1024;

impl Tolerant {
    pub(super) fn new(io: Io) -> Self {
        Self { io, is_broken: false, in_a_row: 0 }
    }

    /// What a write of `length` bytes came to.
    fn written(&mut self, result: io::Result<usize>, length: usize) -> io::Result<usize> {
        match result {
            Err(error) if is_of_a_gone_peer(&error) => {
                self.is_broken = true;
                Ok(length)
            }
            result => result,
        }
    }
}

fn is_of_a_gone_peer(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

impl AsyncRead for Tolerant {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.in_a_row >= TURN {
            this.in_a_row = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.io).poll_read(cx, buf);
        this.in_a_row = if polled.is_pending() { 0 } else { this.in_a_row + buf.filled().len() - before };
        polled
    }
}

impl AsyncWrite for Tolerant {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.is_broken {
            return Poll::Ready(Ok(buf.len()));
        }
        let result = ready!(Pin::new(&mut this.io).poll_write(cx, buf));
        Poll::Ready(this.written(result, buf.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let length = || bufs.iter().map(|buf| buf.len()).sum();
        if this.is_broken {
            return Poll::Ready(Ok(length()));
        }
        let result = ready!(Pin::new(&mut this.io).poll_write_vectored(cx, bufs));
        Poll::Ready(this.written(result, length()))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.is_broken { Poll::Ready(Ok(())) } else { Pin::new(&mut this.io).poll_flush(cx) }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}
