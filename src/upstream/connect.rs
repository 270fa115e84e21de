//! Making a connection to an endpoint: TCP or Unix socket, within a time limit.

use std::io;
use std::time::Duration;

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
                Ok(Io::from(stream))
            }
            Address::Unix(path) => UnixStream::connect(path).await.map(Io::from),
        }
    };
    match tokio::time::timeout(limit, connecting).await {
        Ok(made) => made.map_err(ConnectError::Io),
        Err(_) => Err(ConnectError::Timeout(limit)),
    }
}
