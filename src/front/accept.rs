//! A worker's accept loops: one for each socket it was given, until the listener drains.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{SocketFlags, accept_with};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::warn;

use super::bind::BACKLOG;
#[cfg(feature = "http3")]
use super::http3;
use super::shortage::Shortage;
use super::{Secure, Socket, admit, connection};
use crate::config::model;
use crate::net::{Drained, Io};
use crate::proxy::admission::Door;
use crate::proxy::peer::Peer;
use crate::proxy::{Downstream, Worker};
use crate::telemetry::{self, DownstreamEvent, ListenerId};
use crate::types::BindAddress;
use crate::upstream::Client;
use crate::wire::proxy_protocol::Addresses;

/// How often idle upstream connections are looked over: what an endpoint has closed is let go of then.
const HOUSEKEEPING: Duration = Duration::from_millis(250);

/// How often those who live on are told to look whether they have to go, while some have to.
const LOOK: Duration = Duration::from_millis(100);

/// How long a client may remember that HTTP/3 is served: a day. Who finds that it is not goes on as before.
const ALT_SVC_SECONDS: u32 = 86_400;

/// What a worker is told.
#[derive(Debug)]
pub enum Command {
    /// Accept on these sockets.
    Listen {
        /// What is configured.
        listener: Arc<model::Listener>,
        /// Its TLS, if it has any.
        secure: Option<Arc<Secure>>,
        /// Where the socket listens, with the port that the kernel chose.
        address: BindAddress,
        /// The listener's label.
        id: ListenerId,
        /// The worker's sockets. More than one where a process before this one had more workers.
        sockets: Vec<Socket>,
        /// When to stop.
        drained: Drained,
    },
    /// Serve HTTP/3 on this socket, beside a listener's TCP ones.
    Quic {
        /// What is configured.
        listener: Arc<model::Listener>,
        /// Its TLS.
        secure: Option<Arc<Secure>>,
        /// Where the TCP socket listens.
        address: BindAddress,
        /// The listener's label.
        id: ListenerId,
        /// The worker's own socket.
        socket: std::net::UdpSocket,
        /// When to stop.
        drained: Drained,
    },
    /// The settings of a listener changed; connections accepted from now on have them.
    Update {
        /// Where its socket listens.
        address: BindAddress,
        /// What is configured.
        listener: Arc<model::Listener>,
        /// Its TLS, if it has any.
        secure: Option<Arc<Secure>>,
    },
}

/// A worker's accept loops.
#[derive(Debug)]
pub struct Acceptor {
    worker: Rc<Worker>,
    listeners: RefCell<Vec<Rc<Accepting>>>,
    /// Those that serve HTTP/3, which are known by the same addresses.
    #[cfg(feature = "http3")]
    quic: RefCell<Vec<Rc<Accepting>>>,
}

#[derive(Debug)]
pub(super) struct Accepting {
    pub(super) address: BindAddress,
    pub(super) id: ListenerId,
    pub(super) door: Arc<Door>,
    pub(super) settings: RefCell<Arc<model::Listener>>,
    pub(super) secure: RefCell<Option<Arc<Secure>>>,
}

enum Listening {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Acceptor {
    /// The accept loops of `worker`; none yet.
    pub fn new(worker: Rc<Worker>) -> Self {
        Self {
            worker,
            listeners: RefCell::default(),
            #[cfg(feature = "http3")]
            quic: RefCell::default(),
        }
    }

    /// Does what it is told until the commands end. Loops and connections go on by themselves until they are drained.
    pub async fn run(&self, mut commands: mpsc::UnboundedReceiver<Command>) {
        let mut housekeeping = tokio::time::interval(HOUSEKEEPING);
        housekeeping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut looking = tokio::time::interval(LOOK);
        looking.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let is_watched = self.worker.stays.is_watched(Instant::now());
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.obey(command),
                    None => return,
                },
                _ = housekeeping.tick() => self.worker.close_idle(),
                _ = looking.tick(), if is_watched => self.worker.stays.look(),
            }
        }
    }

    fn obey(&self, command: Command) {
        match command {
            Command::Listen { listener, secure, address, id, sockets, drained } => {
                let (settings, secure) = (RefCell::new(listener), RefCell::new(secure));
                let door = self.worker.admission.door(id);
                let accepting = Rc::new(Accepting { address, id, door, settings, secure });
                self.listeners.borrow_mut().retain(|known| known.address != accepting.address);
                self.listeners.borrow_mut().push(Rc::clone(&accepting));
                for socket in sockets {
                    let listening = match socket {
                        Socket::Tcp(socket) => TcpListener::from_std(socket).map(Listening::Tcp),
                        Socket::Unix(socket) => UnixListener::from_std(socket).map(Listening::Unix),
                    };
                    match listening {
                        Ok(listening) => {
                            let (worker, accepting) = (Rc::clone(&self.worker), Rc::clone(&accepting));
                            spawn(accept(worker, accepting, listening, drained.clone()));
                        }
                        Err(error) => {
                            let settings = accepting.settings.borrow();
                            warn!(listener = %settings.name, %error, "socket cannot be polled");
                        }
                    }
                }
            }
            // Nobody is told so: `http3` is refused in the file.
            #[cfg(not(feature = "http3"))]
            Command::Quic { .. } => {}
            #[cfg(feature = "http3")]
            Command::Quic { listener, secure, address, id, socket, drained } => {
                let (settings, secure) = (RefCell::new(listener), RefCell::new(secure));
                let door = self.worker.admission.door(id);
                let accepting = Rc::new(Accepting { address, id, door, settings, secure });
                self.quic.borrow_mut().retain(|known| known.address != accepting.address);
                self.quic.borrow_mut().push(Rc::clone(&accepting));
                spawn(http3::accept(Rc::clone(&self.worker), accepting, socket, drained));
            }
            Command::Update { address, listener, secure } => {
                let update = |listeners: &[Rc<Accepting>]| {
                    for accepting in listeners.iter().filter(|known| known.address == address) {
                        accepting.settings.replace(Arc::clone(&listener));
                        accepting.secure.replace(secure.clone());
                    }
                };
                update(&self.listeners.borrow());
                #[cfg(feature = "http3")]
                update(&self.quic.borrow());
            }
        }
    }
}

impl Accepting {
    /// What responses say of HTTP/3 on the same port (RFC 7838), where it is served.
    fn alt_svc(&self) -> Option<Box<str>> {
        let BindAddress::Tcp(address) = &self.address else { return None };
        let is_served = cfg!(feature = "http3") && self.settings.borrow().http3;
        is_served.then(|| format!("h3=\":{}\"; ma={ALT_SVC_SECONDS}", address.port()).into())
    }
}

async fn accept(worker: Rc<Worker>, accepting: Rc<Accepting>, listening: Listening, drained: Drained) {
    let mut wanted = drained.clone();
    let mut end = std::pin::pin!(wanted.wanted());
    let mut shortage = Shortage::none();
    loop {
        let accepted = tokio::select! {
            biased;
            accepted = listening.accept() => accepted,
            () = end.as_mut() => break,
        };
        match accepted {
            Ok((io, addresses)) => {
                shortage.is_over();
                serve(&worker, &accepting, io, addresses, &drained);
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => tokio::select! {
                biased;
                () = end.as_mut() => break,
                () = shortage.rest(&worker, &accepting, &error) => {}
            },
        }
    }
    if let Some(window) = drained.window() {
        worker.stays.watch_until(window.by);
    }
    // Who was let in by the kernel before the socket closes is served. There is an end to it: where another process
    // accepts too, others come all the time.
    for _ in 0..BACKLOG {
        match listening.accept_now() {
            Ok((io, addresses)) => serve(&worker, &accepting, io, addresses, &drained),
            Err(error) if is_of_one_connection(&error) => {}
            Err(_) => break,
        }
    }
}

fn serve(
    worker: &Rc<Worker>,
    accepting: &Rc<Accepting>,
    io: Io,
    addresses: Option<Addresses>,
    drained: &Drained,
) {
    let listener = Arc::clone(&accepting.settings.borrow());
    let id = accepting.id;
    let local = IpAddr::from(Ipv4Addr::LOCALHOST);
    let peer = Peer::new(addresses.map_or(local, |addresses| addresses.source().ip()));
    let client = addresses.map(|addresses| Rc::new(Client::new(addresses)));
    let secure = accepting.secure.borrow().clone();
    let (worker, drained) = (Rc::clone(worker), drained.clone());
    let alt_svc = accepting.alt_svc();
    let downstream = Downstream {
        listener,
        id,
        peer,
        client,
        is_anonymous: false,
        secure: false,
        identity: None,
        drained,
        alt_svc,
    };
    let door = Arc::clone(&accepting.door);
    let admitted = admit::connection(&worker, &door, &downstream).and_then(|admitted| {
        if downstream.listener.proxy_protocol {
            // Behind a PROXY header the client is known later.
            return Some((admitted, None));
        }
        admit::client(&worker, &door, &downstream).ok().map(|of_client| (admitted, of_client))
    });
    let Some(admitted) = admitted else {
        if secure.is_none() {
            admit::refuse(io.socket());
        }
        return;
    };
    let open = Open::new(&worker.metrics, id);
    spawn(async move {
        connection::serve(&worker, io, secure, downstream, &door).await;
        drop((open, admitted));
        worker.freed.notify_waiters();
    });
}

/// A connection that is counted as open, until it is dropped: a panic that ends it is no leak in the count.
pub(super) struct Open {
    metrics: Rc<telemetry::Worker>,
    id: ListenerId,
}

impl Open {
    pub(super) fn new(metrics: &Rc<telemetry::Worker>, id: ListenerId) -> Self {
        metrics.downstream(id, DownstreamEvent::Accepted);
        Self { metrics: Rc::clone(metrics), id }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.metrics.downstream(self.id, DownstreamEvent::Closed);
    }
}

/// Errors of the connection that was to be accepted, not of the socket.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

impl Listening {
    /// The next connection; that of a Unix socket has no addresses.
    async fn accept(&self) -> io::Result<(Io, Option<Addresses>)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                of_tcp(stream, peer)
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok((Io::from(stream), None))
            }
        }
    }

    /// The next connection in the queue, though the runtime may not have heard of it yet; `WouldBlock` where there is none.
    fn accept_now(&self) -> io::Result<(Io, Option<Addresses>)> {
        let queued = |queue: BorrowedFd<'_>| accept_with(queue, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK);
        match self {
            Self::Tcp(listener) => {
                let stream = std::net::TcpStream::from(queued(listener.as_fd())?);
                let peer = stream.peer_addr()?;
                of_tcp(TcpStream::from_std(stream)?, peer)
            }
            Self::Unix(listener) => {
                let stream = std::os::unix::net::UnixStream::from(queued(listener.as_fd())?);
                Ok((Io::from(UnixStream::from_std(stream)?), None))
            }
        }
    }
}

fn of_tcp(stream: TcpStream, peer: SocketAddr) -> io::Result<(Io, Option<Addresses>)> {
    stream.set_nodelay(true)?;
    let addresses = Addresses::new(peer, stream.local_addr()?);
    Ok((Io::from(stream), Some(addresses)))
}

/// Runs an accept loop or a connection on this worker; it ends when it drains.
#[expect(clippy::disallowed_methods, reason = "the named worker of accept loops and connections")]
pub(super) fn spawn(task: impl Future<Output = ()> + 'static) {
    tokio::task::spawn_local(task);
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::telemetry::{Metrics, panics};

    /// The value of the series that begins so.
    fn value(metrics: &Metrics, series: &str) -> f64 {
        let text = String::from_utf8(metrics.encode().unwrap()).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(series));
        line.unwrap_or_else(|| panic!("{series} in {text}")).trim().parse().unwrap()
    }

    #[tokio::test]
    async fn panic_of_a_task_ends_it_alone_and_is_counted() {
        // Other tests run in other threads, and their panics stay theirs.
        let (ours, former) = (std::thread::current().id(), std::panic::take_hook());
        std::panic::set_hook(Box::new(move |info| {
            if std::thread::current().id() == ours { panics::note(info) } else { former(info) }
        }));
        let metrics = Metrics::new();
        let id = metrics.listener("web");
        let counting = Rc::new(metrics.worker());
        let tasks = tokio::task::LocalSet::new();
        let (one, mut its_peer) = tokio::io::duplex(64);
        let (other, mut other_peer) = tokio::io::duplex(64);
        let before = value(&metrics, "weir_panics_total");
        tasks
            .run_until(async {
                for (mut io, panics) in [(one, true), (other, false)] {
                    let open = Open::new(&counting, id);
                    spawn(async move {
                        let byte = tokio::io::AsyncReadExt::read_u8(&mut io).await.unwrap();
                        assert!(!panics, "a bug met at {byte}");
                        tokio::io::AsyncWriteExt::write_u8(&mut io, byte).await.unwrap();
                        drop(open);
                    });
                }
                for peer in [&mut its_peer, &mut other_peer] {
                    tokio::io::AsyncWriteExt::write_u8(peer, 7).await.unwrap();
                }
                let closed = tokio::io::AsyncReadExt::read_u8(&mut its_peer).await;
                assert_eq!(closed.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
                assert_eq!(tokio::io::AsyncReadExt::read_u8(&mut other_peer).await.unwrap(), 7);
            })
            .await;
        assert!((value(&metrics, "weir_panics_total") - before - 1.0).abs() < 0.1);
        assert!(value(&metrics, "weir_downstream_connections_active{listener=\"web\"}").abs() < 0.1);
        assert!((value(&metrics, "weir_downstream_connections_total{listener=\"web\"}") - 2.0).abs() < 0.1);
    }

    #[tokio::test]
    async fn connection_that_the_runtime_has_not_heard_of_is_accepted_all_the_same() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weir.sock");
        let unix = Listening::Unix(UnixListener::bind(&path).unwrap());
        let tcp = Listening::Tcp(listener);
        for listening in [&tcp, &unix] {
            assert!(listening.accept().now_or_never().is_none(), "it is told that there is none");
        }
        let client = std::net::TcpStream::connect(address).unwrap();
        let local = std::os::unix::net::UnixStream::connect(&path).unwrap();
        for listening in [&tcp, &unix] {
            assert!(listening.accept().now_or_never().is_none(), "it has not heard of it");
        }
        let (_, addresses) = tcp.accept_now().unwrap();
        assert_eq!(addresses.unwrap().source(), client.local_addr().unwrap());
        assert!(unix.accept_now().unwrap().1.is_none());
        for listening in [&tcp, &unix] {
            assert_eq!(listening.accept_now().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        }
        drop(local);
    }
}
