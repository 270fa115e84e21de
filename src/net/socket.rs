//! A connection's socket: TCP or Unix. Reading and writing never wait; who waits asks for readiness first, so that
//! nobody holds a buffer while nothing comes. What the bytes are, plain or TLS, is [`super::Io`]'s.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::net::{RecvFlags, SendFlags};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// A connection's socket.
#[derive(Debug)]
pub enum Socket {
    /// TCP.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
}

macro_rules! each {
    ($socket:expr, $stream:ident => $call:expr) => {
        match $socket {
            Socket::Tcp($stream) => $call,
            Socket::Unix($stream) => $call,
        }
    };
}

impl Socket {
    /// Waits until there may be something to read, or the end.
    ///
    /// # Errors
    /// Where the runtime is going down.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => stream.poll_read_ready(cx))
    }

    /// Waits until something may be written.
    ///
    /// # Errors
    /// Where the runtime is going down.
    pub fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => stream.poll_write_ready(cx))
    }

    /// Reads what is there; 0 is the end. Costs no system call where it is known that nothing is there.
    ///
    /// # Errors
    /// `WouldBlock` where nothing is there; else what the system says.
    pub fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        let asked = into.len();
        self.attempt(Interest::READABLE, asked, |socket| {
            rustix::net::recv(socket, into, RecvFlags::empty()).map(|(read, _)| read)
        })
    }

    /// Looks at what is there, which stays to be read; 0 is the end. Whoever waits after it without having read all that
    /// was seen is not woken for it again.
    ///
    /// # Errors
    /// As of [`Socket::read`].
    pub fn peek(&self, into: &mut [u8]) -> io::Result<usize> {
        each!(self, stream => stream.try_io(Interest::READABLE, || {
            let (seen, _) = rustix::net::recv(stream, into, RecvFlags::PEEK)?;
            Ok(seen)
        }))
    }

    /// Reads what is there, though the runtime may not know of it yet; 0 is the end.
    ///
    /// # Errors
    /// As of [`Socket::read`].
    pub(super) fn read_unannounced(&self, into: &mut [u8]) -> io::Result<usize> {
        let socket = match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        };
        Ok(rustix::net::recv(socket, into, RecvFlags::DONTWAIT)?.0)
    }

    /// Writes what can be taken now.
    ///
    /// # Errors
    /// `WouldBlock` where nothing is taken; else what the system says.
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.attempt(Interest::WRITABLE, bytes.len(), |socket| {
            rustix::net::send(socket, bytes, SendFlags::NOSIGNAL)
        })
    }

    /// Writes of both what can be taken now, in one system call.
    ///
    /// # Errors
    /// As of [`Socket::write`].
    pub fn write_both(&self, first: &[u8], second: &[u8]) -> io::Result<usize> {
        match (first, second) {
            (first, []) => self.write(first),
            ([], second) => self.write(second),
            _ => self.write_all_of(&[IoSlice::new(first), IoSlice::new(second)]),
        }
    }

    /// Writes of all these what can be taken now, in one system call.
    ///
    /// # Errors
    /// As of [`Socket::write`].
    pub fn write_all_of(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let asked = pieces.iter().map(|piece| piece.len()).sum();
        self.attempt(Interest::WRITABLE, asked, |socket| rustix::io::writev(socket, pieces))
    }

    /// Reads or writes at most `asked` bytes.
    ///
    /// What was done in part shows that the socket is empty, or full: with edge-triggered events that is known until the
    /// next event, and the system need not be asked again only to say so. The runtime forgets that a socket is ready
    /// when it is told `WouldBlock`, so it is told that.
    fn attempt(
        &self,
        interest: Interest,
        asked: usize,
        attempt: impl FnOnce(BorrowedFd<'_>) -> rustix::io::Result<usize>,
    ) -> io::Result<usize> {
        let mut done = None;
        let in_part = || {
            let socket = match self {
                Self::Tcp(stream) => stream.as_fd(),
                Self::Unix(stream) => stream.as_fd(),
            };
            let count = attempt(socket)?;
            done = Some(count);
            if count > 0 && count < asked { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(count) }
        };
        let tried = each!(self, stream => stream.try_io(interest, in_part));
        done.map_or(tried, Ok)
    }

    /// Has a peer that says nothing for `silence` asked whether it is still there; one that says nothing for as long
    /// again breaks the connection. A Unix socket's peer cannot vanish.
    pub fn keep_alive(&self, silence: Duration) {
        if let Self::Tcp(stream) = self {
            let asking = TcpKeepalive::new().with_time(silence).with_interval(silence / 4).with_retries(4);
            // Without it a dead peer is met by the next timeout.
            let _ = SockRef::from(stream).set_tcp_keepalive(&asking);
        }
    }

    /// Says that nothing more will be written.
    pub fn end(&self) {
        let how = std::net::Shutdown::Write;
        // One that is gone already needs it not.
        let _ = match self {
            Self::Tcp(stream) => SockRef::from(stream).shutdown(how),
            Self::Unix(stream) => SockRef::from(stream).shutdown(how),
        };
    }

    /// Lets the peer see a reset, and not an orderly end, when this is dropped. A Unix socket has no reset.
    pub fn reset_on_close(&self) {
        if let Self::Tcp(stream) = self {
            // One that is gone already needs none.
            let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_shutdown(cx))
    }
}
