//! Sockets that the service manager has opened and passes on (`LISTEN_FDS`, systemd.socket(5)).

use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use listenfd::ListenFd;
use tracing::warn;

use super::Socket;
use super::handover::Place;
use crate::types::BindAddress;

/// What stands for a descriptor that the service manager gives no name.
const NAMELESS: &str = "unknown";

/// The places that the service manager has opened for this process; `names` is what it calls them, by `:`
/// (`LISTEN_FDNAMES`). A descriptor that is of no use is warned of.
///
/// To be called once, and before there are threads: the variables are removed from the environment.
pub fn places(names: &str) -> Vec<Place> {
    let mut descriptors = ListenFd::from_env();
    let mut names = names.split(':');
    let count = descriptors.len();
    let opened = (0..count).filter_map(|index| {
        let name = names.next().filter(|name| !name.is_empty()).unwrap_or(NAMELESS).to_owned();
        // A Unix socket is not taken for TCP, and what is neither is an error of both.
        let found = match descriptors.take_tcp_listener(index) {
            Ok(Some(socket)) => tcp(socket),
            _ => match descriptors.take_unix_listener(index) {
                Ok(Some(socket)) => unix(socket),
                Ok(None) => Err("it was taken already".to_owned()),
                Err(error) => Err(error.to_string()),
            },
        };
        match found {
            Ok((address, socket)) => {
                Some(Place { kind: None, name, bind: None, address, owns_file: false, sockets: vec![socket] })
            }
            Err(error) => {
                warn!(name, index, error, "a descriptor of the service manager is no socket to listen on");
                None
            }
        }
    });
    opened.collect()
}

fn tcp(socket: TcpListener) -> Result<(BindAddress, Socket), String> {
    let address = socket.local_addr().map_err(|error| error.to_string())?;
    inherit(BindAddress::Tcp(address), socket.into())
}

fn unix(socket: UnixListener) -> Result<(BindAddress, Socket), String> {
    let address = socket.local_addr().map_err(|error| error.to_string())?;
    let path = address.as_pathname().ok_or("a Unix socket without a path cannot be configured")?;
    inherit(BindAddress::Unix(path.to_owned()), socket.into())
}

fn inherit(address: BindAddress, socket: std::os::fd::OwnedFd) -> Result<(BindAddress, Socket), String> {
    let socket = Socket::inherit(socket, &address).map_err(|error| error.to_string())?;
    Ok((address, socket))
}
