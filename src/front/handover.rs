//! Listening sockets that a process got from another: from the one it replaces, or from the service manager. A socket
//! has a queue of connections that nobody has accepted yet, and they are lost with the last process that holds it; so
//! every socket that was inherited and is wanted keeps an acceptor, however many workers there are.
//!
//! How they come is not known here: see [`super::channel`] and [`super::activation`].

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;

use serde::{Deserialize, Serialize};

use super::Socket;
use super::bind::beside;
use crate::types::BindAddress;

/// What a place is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A listener of the configuration.
    Listener,
    /// The pages for operators.
    Admin,
    /// The pages for scrapers.
    Telemetry,
}

/// Where somebody listens, with its sockets.
#[derive(Debug)]
pub struct Place {
    /// What it was for; `None` where nobody of us has used it yet.
    pub kind: Option<Kind>,
    /// The listener's name, or what the service manager calls it.
    pub name: String,
    /// The address as it was configured, which may say port 0.
    pub bind: Option<BindAddress>,
    /// The address as it is.
    pub address: BindAddress,
    /// Whether a Unix socket's file goes when nobody listens any more: the service manager keeps its own.
    pub owns_file: bool,
    /// One for each queue of connections.
    pub sockets: Vec<Socket>,
}

/// What is looked for among the places.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// What for.
    pub kind: Kind,
    /// The name in the configuration.
    pub name: &'a str,
    /// The address in the configuration.
    pub bind: &'a BindAddress,
}

/// Places that were inherited and are not in use yet.
#[derive(Debug, Default)]
pub struct Inherited(Vec<Place>);

impl Inherited {
    /// These places.
    pub fn new(places: Vec<Place>) -> Self {
        Self(places)
    }

    /// The places for those that are wanted, in their order. Who was there before keeps what it had, though another wants
    /// the same: two listeners may say port 0.
    pub fn claim(&mut self, wanted: &[Wanted<'_>]) -> Vec<Option<Place>> {
        let mut claimed: Vec<Option<Place>> = wanted.iter().map(|_| None).collect();
        let fits: [fn(&Place, &Wanted<'_>) -> bool; 4] = [
            |place, wanted| is_former(place, wanted) && place.name == wanted.name,
            is_former,
            |place, wanted| place.address == *wanted.bind,
            |place, wanted| place.kind.is_none() && place.name == wanted.name,
        ];
        for fits in fits {
            for (wanted, claimed) in wanted.iter().zip(&mut claimed) {
                if claimed.is_none()
                    && let Some(at) = self.0.iter().position(|place| fits(place, wanted))
                {
                    *claimed = Some(self.0.remove(at));
                }
            }
        }
        // One name of the service manager may stand for several sockets.
        for (wanted, claimed) in wanted.iter().zip(&mut claimed) {
            let Some(claimed) = claimed.as_mut().filter(|place| place.kind.is_none()) else { continue };
            for place in self.0.extract_if(.., |place| place.kind.is_none() && place.name == wanted.name) {
                claimed.sockets.extend(place.sockets);
            }
        }
        claimed
    }

    /// The places that nobody has claimed.
    pub fn take_rest(&mut self) -> Vec<Place> {
        std::mem::take(&mut self.0)
    }
}

fn is_former(place: &Place, wanted: &Wanted<'_>) -> bool {
    place.kind == Some(wanted.kind) && place.bind.as_ref() == Some(wanted.bind)
}

/// The sockets for each of `workers`, at least one of them; and handles of those that were made for it.
///
/// Fewer sockets than workers get company where they may share their port. What cannot be divided is accepted on by
/// every worker, which is even, if not cheap: all of them wake for a connection.
pub fn deal(mut sockets: Vec<Socket>, workers: usize) -> (Vec<Vec<Socket>>, Vec<Socket>) {
    let workers = workers.max(1);
    let mut made = Vec::new();
    while sockets.len() < workers
        && let Some(Ok(further)) = sockets.first().map(beside)
        && let Ok(handle) = further.try_clone()
    {
        sockets.push(further);
        made.push(handle);
    }
    let shared = sockets.split_off(sockets.len() / workers * workers);
    let mut dealt: Vec<Vec<Socket>> = (0..workers).map(|_| Vec::new()).collect();
    for (at, socket) in sockets.into_iter().enumerate() {
        dealt[at % workers].push(socket);
    }
    for socket in shared {
        let (first, others) = dealt.split_at_mut(1);
        for worker in others {
            // Where there is no file for it, the others accept.
            worker.extend(socket.try_clone());
        }
        first[0].push(socket);
    }
    (dealt, made)
}

impl Socket {
    /// The socket in `fd`, which must listen at an address of the kind of `address`.
    ///
    /// # Errors
    /// `InvalidInput` where it does not listen; else what the system says.
    pub fn inherit(fd: OwnedFd, address: &BindAddress) -> io::Result<Self> {
        if !rustix::net::sockopt::socket_acceptconn(&fd)? {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it does not listen"));
        }
        let socket = match address {
            BindAddress::Tcp(_) => Self::Tcp(TcpListener::from(fd)),
            BindAddress::Unix(_) => Self::Unix(UnixListener::from(fd)),
        };
        socket.set_nonblocking()?;
        Ok(socket)
    }

    /// Another handle of the same socket, with the same queue.
    ///
    /// # Errors
    /// What the system says: there may be too many files.
    pub fn try_clone(&self) -> io::Result<Self> {
        match self {
            Self::Tcp(socket) => socket.try_clone().map(Self::Tcp),
            Self::Unix(socket) => socket.try_clone().map(Self::Unix),
        }
    }

    fn set_nonblocking(&self) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => socket.set_nonblocking(true),
            Self::Unix(socket) => socket.set_nonblocking(true),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(socket) => socket.as_fd(),
            Self::Unix(socket) => socket.as_fd(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::front::bind::bind;

    fn place(kind: Option<Kind>, name: &str, bind: &str, address: &str) -> Place {
        let parse = |text| BindAddress::parse(text).unwrap();
        let bind = (!bind.is_empty()).then(|| parse(bind));
        Place {
            kind,
            name: name.to_owned(),
            bind,
            address: parse(address),
            owns_file: true,
            sockets: Vec::new(),
        }
    }

    #[test]
    fn wanted_places_are_found_by_use_by_address_and_by_name() {
        let listener = Some(Kind::Listener);
        let mut inherited = Inherited::new(vec![
            place(listener, "a", "127.0.0.1:0", "127.0.0.1:1001"),
            place(listener, "b", "127.0.0.1:0", "127.0.0.1:1002"),
            place(Some(Kind::Admin), "admin", "127.0.0.1:0", "127.0.0.1:1003"),
            place(None, "weir.socket", "", "127.0.0.1:1004"),
            place(None, "plain", "", "unix:/run/plain.sock"),
            place(listener, "gone", "127.0.0.1:9", "127.0.0.1:9"),
        ]);
        let rows = [
            // Renamed: it takes what is left, for `b` stands for itself.
            (Kind::Listener, "renamed", "127.0.0.1:0", Some("127.0.0.1:1001")),
            (Kind::Listener, "b", "127.0.0.1:0", Some("127.0.0.1:1002")),
            (Kind::Telemetry, "telemetry", "127.0.0.1:0", None),
            (Kind::Admin, "admin", "127.0.0.1:0", Some("127.0.0.1:1003")),
            (Kind::Listener, "activated", "127.0.0.1:1004", Some("127.0.0.1:1004")),
            (Kind::Listener, "plain", "127.0.0.1:80", Some("unix:/run/plain.sock")),
            (Kind::Listener, "third", "127.0.0.1:0", None),
        ];
        let binds = rows.map(|(_, _, bind, _)| BindAddress::parse(bind).unwrap());
        let wanted =
            rows.iter().zip(&binds).map(|((kind, name, ..), bind)| Wanted { kind: *kind, name, bind });
        let claimed = inherited.claim(&wanted.collect::<Vec<_>>());
        for ((_, name, _, expected), claimed) in rows.iter().zip(claimed) {
            let address = claimed.map(|place| place.address.to_string());
            assert_eq!(address.as_deref(), *expected, "{name}");
        }
        assert_eq!(inherited.take_rest().iter().map(|place| &place.name).collect::<Vec<_>>(), ["gone"]);
    }

    #[test]
    fn every_socket_has_an_acceptor_and_every_worker_a_socket() {
        for (sockets, workers, each) in
            [(1, 1, 1), (4, 4, 1), (4, 1, 4), (4, 2, 2), (4, 3, 2), (5, 3, 3), (1, 3, 1), (2, 5, 1)]
        {
            let (bound, address) = bind(&BindAddress::parse("127.0.0.1:0").unwrap(), sockets).unwrap();
            let cookies = |sockets: &mut dyn Iterator<Item = &Socket>| -> BTreeSet<u64> {
                sockets.map(|socket| rustix::net::sockopt::socket_cookie(socket).unwrap()).collect()
            };
            let before = cookies(&mut bound.iter());
            let (dealt, made) = deal(bound, workers);
            assert_eq!((dealt.len(), made.len()), (workers, workers.saturating_sub(sockets)));
            let after = cookies(&mut dealt.iter().flatten());
            assert!(after.is_superset(&before), "{sockets} sockets, {workers} workers");
            for mine in &dealt {
                assert_eq!(cookies(&mut mine.iter()).len(), each, "{sockets} sockets, {workers} workers");
            }
            for socket in dealt.iter().flatten() {
                let Socket::Tcp(socket) = socket else { panic!("{socket:?}") };
                assert_eq!(BindAddress::Tcp(socket.local_addr().unwrap()), address);
            }
        }
    }

    #[test]
    fn socket_that_does_not_share_its_port_is_shared_by_the_workers() {
        let alone = Socket::Tcp(TcpListener::bind("127.0.0.1:0").unwrap());
        let folder = tempfile::tempdir().unwrap();
        let unix = Socket::Unix(UnixListener::bind(folder.path().join("weir.sock")).unwrap());
        for socket in [alone, unix] {
            let cookie = rustix::net::sockopt::socket_cookie(&socket).unwrap();
            let (dealt, made) = deal(vec![socket], 3);
            assert_eq!((dealt.len(), made.len()), (3, 0));
            for mine in &dealt {
                assert_eq!(mine.len(), 1);
                assert_eq!(rustix::net::sockopt::socket_cookie(&mine[0]).unwrap(), cookie);
            }
        }
    }

    #[test]
    fn socket_that_does_not_listen_is_refused() {
        let address = BindAddress::parse("127.0.0.1:1").unwrap();
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        assert_eq!(Socket::inherit(socket.into(), &address).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
