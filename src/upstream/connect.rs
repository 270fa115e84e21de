//! Making a connection to an endpoint: TCP or Unix socket, within a time limit.

use std::io;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UnixStream};

use super::Address;
use crate::net::Io;

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

/// Connects to `address` and sends the `greeting`, where there is one, within `limit`.
///
/// # Errors
/// [`ConnectError`]; no byte was sent then, but of the greeting.
pub async fn connect(
    address: &Address,
    greeting: Option<&[u8]>,
    limit: Duration,
) -> Result<Io, ConnectError> {
    let connecting = async {
        let mut io = match address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Io::from(stream)
            }
            Address::Unix(path) => Io::from(UnixStream::connect(path).await?),
        };
        if let Some(greeting) = greeting {
            io.write_all(greeting).await?;
        }
        Ok(io)
    };
    match tokio::time::timeout(limit, connecting).await {
        Ok(made) => made.map_err(ConnectError::Io),
        Err(_) => Err(ConnectError::Timeout(limit)),
    }
}
