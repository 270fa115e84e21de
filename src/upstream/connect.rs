//! Making a connection to an endpoint: TCP or Unix socket, and TLS over it, all within one time limit.

use std::io;
use std::time::Duration;

use rustix::io::Errno;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;

use super::Address;
use super::handshake::{Handshake, TlsError};
use crate::net::{Io, Socket, in_time};

/// Why a connection was not made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// It took longer than the limit.
    #[error("the connection was not made within {0:?}")]
    Timeout(Duration),
    /// The upstream has as many connections as it may, and none came free in time.
    #[error("no connection came free within {0:?}")]
    Crowded(Duration),
    /// The system said no: refused, unreachable, out of files.
    #[error("the connection was not made")]
    Io(#[source] io::Error),
    /// It was made, but TLS was not.
    #[error("the TLS handshake failed")]
    Tls(#[from] TlsError),
}

/// Whether `error` of a connect says what we lack, and nothing of the endpoint: files, memory, or ports to connect from.
pub fn is_ours(error: &io::Error) -> bool {
    let shortages = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOBUFS, Errno::ADDRNOTAVAIL];
    Errno::from_io_error(error).is_some_and(|errno| shortages.contains(&errno))
}

/// A version of HTTP that an endpoint speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spoken {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// Connects to `address` and sends the `greeting`, where there is one, within `limit`.
///
/// # Errors
/// [`ConnectError`]; no byte was sent then, but of the greeting.
pub async fn connect(
    address: &Address,
    greeting: Option<&[u8]>,
    limit: Duration,
) -> Result<Io, ConnectError> {
    match in_time(Instant::now() + limit, socket(address, greeting)).await {
        Some(made) => made.map(Io::Plain).map_err(ConnectError::Io),
        None => Err(ConnectError::Timeout(limit)),
    }
}

/// Connects to `address`, sends the `greeting`, where there is one, and makes the `handshake`, all within `limit`; gives also which protocol the endpoint chose.
///
/// # Errors
/// [`ConnectError`]; no byte of a request was sent then.
pub async fn connect_securely(
    address: &Address,
    greeting: Option<&[u8]>,
    handshake: &Handshake,
    limit: Duration,
) -> Result<(Io, Spoken), ConnectError> {
    let connecting = async {
        let socket = socket(address, greeting).await.map_err(ConnectError::Io)?;
        Ok(handshake.make(socket).await?)
    };
    in_time(Instant::now() + limit, connecting).await.unwrap_or(Err(ConnectError::Timeout(limit)))
}

async fn socket(address: &Address, greeting: Option<&[u8]>) -> io::Result<Socket> {
    let mut socket = match address {
        Address::Tcp(address) => {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Socket::Tcp(stream)
        }
        Address::Unix(path) => Socket::Unix(UnixStream::connect(path).await?),
    };
    if let Some(greeting) = greeting {
        socket.write_all(greeting).await?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_we_lack_is_told_from_what_the_endpoint_refuses() {
        let rows = [
            (Errno::MFILE, true),
            (Errno::NFILE, true),
            (Errno::NOMEM, true),
            (Errno::NOBUFS, true),
            (Errno::ADDRNOTAVAIL, true),
            (Errno::CONNREFUSED, false),
            (Errno::CONNRESET, false),
            (Errno::HOSTUNREACH, false),
            (Errno::TIMEDOUT, false),
        ];
        for (errno, expected) in rows {
            assert_eq!(is_ours(&errno.into()), expected, "{errno}");
        }
        assert!(!is_ours(&io::ErrorKind::ConnectionRefused.into()));
    }
}
