//! Sockets that listen. Every worker gets its own by `SO_REUSEPORT`; an address that another process listens on is
//! refused, for the kernel would silently share the traffic.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use socket2::{Domain, Protocol, SockRef, Type};

use crate::types::BindAddress;

/// How many connections may wait to be accepted, a worker.
pub(super) const BACKLOG: i32 = 4096;

/// How many ports are tried where the kernel chooses one for TCP and it has to be free for UDP, too.
const CHOICES: usize = 16;

/// A socket that listens.
#[derive(Debug)]
pub enum Socket {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix socket.
    Unix(UnixListener),
}

/// Why a socket cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody listens there already.
    #[error("{0} is in use by another process, or otherwise by this one; stop it, or choose another address")]
    InUse(BindAddress),
    /// Somebody has the UDP port already.
    #[error(
        "UDP {0}, for HTTP/3, is in use by another process, or by a listener of this one that drains; stop it, wait, or \
         choose another address"
    )]
    UdpInUse(BindAddress),
    /// The system says no.
    #[error("cannot listen on {address}: {source}{}", remedy(.source))]
    Io {
        /// Where.
        address: BindAddress,
        /// Why.
        source: io::Error,
    },
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "; ports below 1024 need the capability CAP_NET_BIND_SERVICE, a socket's folder must be writable"
        }
        io::ErrorKind::AddrNotAvailable => "; this machine does not have that address",
        io::ErrorKind::NotFound => "; the socket's folder does not exist",
        _ => "",
    }
}

/// Sockets on `address`, one for each of `workers`, and where they listen (with the port that the kernel chose). Of a
/// Unix socket there is one for all: its path has one queue.
///
/// # Errors
/// [`BindError`]; nothing listens then.
pub fn bind(address: &BindAddress, workers: usize) -> Result<(Vec<Socket>, BindAddress), BindError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse(address.clone()),
        _ => BindError::Io { address: address.clone(), source },
    };
    match address {
        BindAddress::Tcp(wanted) => {
            let (sockets, bound) = bind_tcp(*wanted, workers).map_err(failed)?;
            Ok((sockets.into_iter().map(Socket::Tcp).collect(), BindAddress::Tcp(bound)))
        }
        BindAddress::Unix(path) => {
            let socket = bind_unix(path).map_err(failed)?;
            Ok((vec![Socket::Unix(socket)], address.clone()))
        }
    }
}

/// Sockets on `address` and, where `udp` says so, UDP sockets on the same port; a port that the kernel chooses is free
/// for both.
///
/// # Errors
/// [`BindError`]; nothing listens then.
pub fn bind_with_udp(
    address: &BindAddress,
    workers: usize,
    udp: bool,
) -> Result<(Vec<Socket>, BindAddress, Vec<UdpSocket>), BindError> {
    let is_chosen = matches!(address, BindAddress::Tcp(address) if address.port() == 0);
    let mut tries = if is_chosen { CHOICES } else { 1 };
    loop {
        let (sockets, bound) = bind(address, workers)?;
        if !udp {
            return Ok((sockets, bound, Vec::new()));
        }
        tries -= 1;
        match bind_udp(&bound, workers) {
            Err(BindError::UdpInUse(_)) if tries > 0 => {}
            Ok(datagrams) => return Ok((sockets, bound, datagrams)),
            Err(error) => return Err(error),
        }
    }
}

/// UDP sockets on `address`, where the listener's TCP sockets are already: one for each of `workers`.
///
/// # Errors
/// [`BindError`]; nothing listens then.
pub fn bind_udp(address: &BindAddress, workers: usize) -> Result<Vec<UdpSocket>, BindError> {
    let BindAddress::Tcp(wanted) = address else { return Ok(Vec::new()) };
    let bound = || {
        drop(udp_socket(*wanted, false)?);
        (0..workers).map(|_| udp_socket(*wanted, true).map(UdpSocket::from)).collect::<io::Result<_>>()
    };
    bound().map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => BindError::UdpInUse(address.clone()),
        _ => BindError::Io { address: address.clone(), source },
    })
}

/// How much may wait in a UDP socket, each way: bursts of many clients come between two looks.
const UDP_BUFFER: usize = 1 << 20;

fn udp_socket(address: SocketAddr, shared: bool) -> io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_port(shared)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // The system has a limit of its own, and what it gives is enough.
    let _ = socket.set_recv_buffer_size(UDP_BUFFER);
    let _ = socket.set_send_buffer_size(UDP_BUFFER);
    socket.bind(&address.into())?;
    Ok(socket)
}

fn bind_tcp(address: SocketAddr, workers: usize) -> io::Result<(Vec<TcpListener>, SocketAddr)> {
    // A socket that does not share fails where any other listens, even one that does.
    let probe = socket(address, false)?;
    let bound = probe.local_addr()?.as_socket().unwrap_or(address);
    drop(probe);
    let sockets = (0..workers).map(|_| {
        let socket = socket(bound, true)?;
        socket.listen(BACKLOG)?;
        Ok(TcpListener::from(socket))
    });
    Ok((sockets.collect::<io::Result<_>>()?, bound))
}

/// Another socket beside one that shares its port, with a queue of its own.
///
/// # Errors
/// `Unsupported` where it shares its port with nobody; else what the system says.
pub(super) fn beside(known: &Socket) -> io::Result<Socket> {
    let Socket::Tcp(known) = known else { return Err(io::ErrorKind::Unsupported.into()) };
    let address = known.local_addr()?;
    let known = SockRef::from(known);
    if !known.reuse_port()? || (address.is_ipv6() && known.only_v6()?) {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let socket = socket(address, true)?;
    socket.listen(BACKLOG)?;
    Ok(Socket::Tcp(socket.into()))
}

fn socket(address: SocketAddr, shared: bool) -> io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    // Connections of a former process may still be closing.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    if address.is_ipv6() {
        // `[::]` takes IPv4 too, whatever the system's default is.
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    if path.symlink_metadata().is_ok_and(|found| found.file_type().is_socket()) {
        if UnixStream::connect(path).is_ok() {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        // Left behind by a process that is gone.
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any_port() -> BindAddress {
        BindAddress::parse("127.0.0.1:0").unwrap()
    }

    #[test]
    fn workers_share_one_port_and_a_second_process_is_refused() {
        let (sockets, bound) = bind(&any_port(), 3).unwrap();
        assert_eq!(sockets.len(), 3);
        assert!(matches!(bind(&bound, 1), Err(BindError::InUse(_))));
        drop(sockets);
        assert!(bind(&bound, 1).is_ok(), "free again");
    }

    #[test]
    fn udp_goes_with_tcp_and_a_second_one_is_refused() {
        let (sockets, bound, datagrams) = bind_with_udp(&any_port(), 2, true).unwrap();
        assert_eq!((sockets.len(), datagrams.len()), (2, 2));
        for datagram in &datagrams {
            assert_eq!(BindAddress::Tcp(datagram.local_addr().unwrap()), bound);
        }
        assert!(matches!(bind_udp(&bound, 1), Err(BindError::UdpInUse(_))));
        drop(datagrams);
        assert!(bind_udp(&bound, 1).is_ok(), "free again");
    }

    #[test]
    fn stale_unix_socket_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let address = BindAddress::Unix(folder.path().join("weir.sock"));
        let (sockets, _) = bind(&address, 2).unwrap();
        assert!(matches!(bind(&address, 1), Err(BindError::InUse(_))));
        drop(sockets);
        assert!(bind(&address, 1).is_ok());
    }

    #[test]
    fn file_that_is_no_socket_is_never_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("precious");
        std::fs::File::create(&path).unwrap();
        assert!(bind(&BindAddress::Unix(path.clone()), 1).is_err());
        assert!(path.exists());
    }
}
