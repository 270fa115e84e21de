//! Making a connection to an endpoint: TCP or Unix socket, within a time limit.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::Address;

/// What is written at once rather than in pieces, in bytes.
const SHORT: usize = 2048;

/// A connection's bytes: TCP or Unix socket.
#[derive(Debug)]
pub enum Io {
    /// TCP.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
}

/// Why a connection was not made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// It took longer than the limit.
    #[error("the connection was not made within {0:?}")]
    Timeout(Duration),
    /// The system said no: refused, unreachable, out of files.
    #[error("the connection was not made")]
    Io(#[source] io::Error),
}

/// Connects to `address` within `limit`.
///
/// # Errors
/// [`ConnectError`]; no byte was sent then.
pub async fn connect(address: &Address, limit: Duration) -> Result<Io, ConnectError> {
    let connecting = async {
        match address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Ok(Io::Tcp(stream))
            }
            Address::Unix(path) => UnixStream::connect(path).await.map(Io::Unix),
        }
    };
    match tokio::time::timeout(limit, connecting).await {
        Ok(made) => made.map_err(ConnectError::Io),
        Err(_) => Err(ConnectError::Timeout(limit)),
    }
}

impl Io {
    /// Lets the peer see a reset, and not an orderly end, when this is dropped. A Unix socket has no reset.
    pub fn reset_on_close(&self) {
        if let Self::Tcp(stream) = self {
            // One that is gone already needs none.
            let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
    }
}

macro_rules! each {
    ($self:expr, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Io::Tcp($stream) => $call,
            Io::Unix($stream) => $call,
        }
    };
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, stream => Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // Most messages are a head and a short body, or a head alone: one `send` costs less than a `writev`.
        let mut filled = bufs.iter().filter(|buf| !buf.is_empty());
        if let (Some(only), None) = (filled.next(), filled.next()) {
            return self.poll_write(cx, only);
        }
        let length: usize = bufs.iter().map(|buf| buf.len()).sum();
        if length > SHORT {
            return each!(self, stream => Pin::new(stream).poll_write_vectored(cx, bufs));
        }
        let mut joined = [0; SHORT];
        let mut end = 0;
        for buf in bufs {
            joined[end..end + buf.len()].copy_from_slice(buf);
            end += buf.len();
        }
        self.poll_write(cx, &joined[..end])
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}
