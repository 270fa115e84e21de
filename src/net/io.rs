//! A connection's bytes, plain or through TLS. Reading and writing never wait; who waits asks for readiness first.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::{Socket, Tls};

/// A connection's bytes.
#[derive(Debug)]
pub enum Io {
    /// As they come.
    Plain(Socket),
    /// Through TLS.
    Tls(Box<Tls>),
}

macro_rules! each {
    ($io:expr, $of:ident => $call:expr) => {
        match $io {
            Io::Plain($of) => $call,
            Io::Tls($of) => $call,
        }
    };
}

impl Io {
    /// Waits until there may be something to read, or the end.
    ///
    /// # Errors
    /// Where the runtime is going down.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, of => of.poll_readable(cx))
    }

    /// Waits until something may be written.
    ///
    /// # Errors
    /// Where the runtime is going down.
    pub fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket().poll_writable(cx)
    }

    /// Reads what is there; 0 is the end. Costs no system call where it is known that nothing is there.
    ///
    /// # Errors
    /// `WouldBlock` where nothing is there; else what the system says, or what is wrong with the TLS.
    pub fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        each!(self, of => of.read(into))
    }

    /// Takes what can be taken now. Through TLS that is not yet written: see [`Io::flush`].
    ///
    /// # Errors
    /// `WouldBlock` where nothing is taken; else what the system says.
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        each!(self, of => of.write(bytes))
    }

    /// Takes of both what can be taken now, with one system call where it is plain.
    ///
    /// # Errors
    /// As of [`Io::write`].
    pub fn write_both(&self, first: &[u8], second: &[u8]) -> io::Result<usize> {
        each!(self, of => of.write_both(first, second))
    }

    /// Writes what was taken and is not written yet.
    ///
    /// # Errors
    /// `WouldBlock` where some of it is left; else what the system says.
    pub fn flush(&self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(tls) => tls.flush(),
        }
    }

    /// How many sealed bytes the socket took; 0 of a plain one, which takes what it is given.
    pub fn sent(&self) -> u64 {
        self.tls().map_or(0, Tls::sent)
    }

    /// Ready when it was said that nothing more will be written: through TLS behind all that was taken, so that the peer
    /// knows that nobody else has cut it. What follows from the peer is of no more interest: of TLS it is not to be read,
    /// but from the [`Io::socket`] below.
    pub fn poll_end(&self, cx: &mut Context<'_>) -> Poll<()> {
        if let Self::Tls(tls) = self {
            tls.close();
            while tls.flush().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
                if ready!(self.poll_writable(cx)).is_err() {
                    break;
                }
            }
        }
        self.socket().end();
        Poll::Ready(())
    }

    /// Lets the peer see a reset, and not an orderly end, when this is dropped. A Unix socket has no reset.
    pub fn reset_on_close(&self) {
        if let Self::Tls(tls) = self {
            tls.forget_close();
        }
        self.socket().reset_on_close();
    }

    /// The socket below.
    pub fn socket(&self) -> &Socket {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(tls) => tls.socket(),
        }
    }

    /// The TLS session, if it is one.
    pub fn tls(&self) -> Option<&Tls> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(tls) => Some(tls),
        }
    }

    fn poll_taken(
        &self,
        cx: &mut Context<'_>,
        attempt: impl Fn(&Self) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            match attempt(self) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(self.poll_writable(cx))?,
                taken => return Poll::Ready(taken),
            }
        }
    }
}

impl From<TcpStream> for Io {
    fn from(stream: TcpStream) -> Self {
        Self::Plain(Socket::Tcp(stream))
    }
}

impl From<UnixStream> for Io {
    fn from(stream: UnixStream) -> Self {
        Self::Plain(Socket::Unix(stream))
    }
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
            Self::Tls(tls) => loop {
                ready!(tls.poll_readable(cx))?;
                match tls.read(buf.initialize_unfilled()) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    read => {
                        buf.advance(read?);
                        return Poll::Ready(Ok(()));
                    }
                }
            },
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(cx, buf),
            tls @ Self::Tls(_) => tls.poll_taken(cx, |tls| tls.write(buf)),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, bufs),
            tls @ Self::Tls(_) => {
                let taken = |io: &Self| io.tls().map_or(Ok(0), |tls| tls.write_all_of(bufs));
                tls.poll_taken(cx, taken)
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_taken(cx, |io| io.flush().map(|()| 0)).map_ok(drop)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            tls @ Self::Tls(_) => tls.poll_end(cx).map(Ok),
        }
    }
}
