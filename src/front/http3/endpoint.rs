//! A worker's endpoint of QUIC for a listener: who is let in, with which settings, until the listener drains.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::net::{SocketAddr, UdpSocket};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use h3::error::Code;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{
    ConnectionError, Endpoint, EndpointConfig, IdleTimeout, Incoming, TokioRuntime, TransportConfig,
    TransportErrorCode, VarInt,
};
use rustls::AlertDescription;
use tokio::sync::Notify;
use tokio::time::timeout;
use tracing::{debug, warn};

use super::connection;
use crate::front::accept::{Accepting, Open, spawn};
use crate::front::{Secure, admit};
use crate::net::Drained;
use crate::net::quic::number;
use crate::proxy::handle::seconds_now;
use crate::proxy::peer::Peer;
use crate::proxy::{Downstream, Identity, Worker};
use crate::telemetry::Refused;
use crate::types::BindAddress;
use crate::upstream::Client;
use crate::wire::proxy_protocol::Addresses;

/// What one client may have open at once.
const MAX_STREAMS: u32 = 256;
/// Streams in one direction: one that says something of the connection, two of QPACK, and a few that nobody knows.
const MAX_ONE_WAY: u32 = 8;
/// What one stream may have on its way to us before we take it.
const STREAM_WINDOW: u32 = 256 * 1024;
/// What a connection may have on its way to us.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// What of its responses a connection may have on its way and not acknowledged.
const SEND_WINDOW: u64 = 1024 * 1024;
/// How long a client may say nothing, not even that it is there.
const SILENCE: Duration = Duration::from_secs(30);
/// How often a client that says nothing is asked whether it is there: an upstream may take its time.
const ASK: Duration = Duration::from_secs(10);

/// How many handshakes of a worker may be under way before clients have to show that their address is theirs.
const UNSHOWN: usize = 64;
/// How many may be under way at all.
const HANDSHAKES: usize = 1024;
/// How many connections a worker has.
const CONNECTIONS: usize = 16 * 1024;
/// How many bytes of clients that are not let in yet are kept, of one and of all.
const WAITING: (u64, u64) = (64 * 1024, 16 * 1024 * 1024);
/// How long the last packets may take.
const LAST: Duration = Duration::from_millis(100);

/// Why QUIC cannot be served.
#[derive(Debug, thiserror::Error)]
enum Unserved {
    #[error("the socket cannot be polled: {0}")]
    Socket(#[from] std::io::Error),
    #[error("{0}")]
    Secure(#[from] crate::front::tls::SecureError),
    #[error("no suite of TLS 1.3 can protect the first packets: {0}")]
    Suite(#[from] quinn::crypto::rustls::NoInitialCipherSuite),
}

/// How many connections there are, and how many of them in their handshake.
#[derive(Debug, Default)]
struct Count {
    connections: Cell<usize>,
    handshakes: Cell<usize>,
    /// Told when a connection has ended.
    changed: Notify,
}

/// One of those that are counted, for as long as it lives.
struct Counted<'a>(&'a Cell<usize>);

impl<'a> Counted<'a> {
    fn new(cell: &'a Cell<usize>) -> Self {
        cell.set(cell.get() + 1);
        Self(cell)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

/// The settings as quinn has them, made when they change.
struct Settings {
    base: quinn::ServerConfig,
    made: RefCell<(Arc<Secure>, Arc<quinn::ServerConfig>)>,
}

impl Settings {
    fn new(secure: Arc<Secure>) -> Result<Self, Unserved> {
        let crypto = Arc::new(QuicServerConfig::try_from(secure.quic()?)?);
        let mut base = quinn::ServerConfig::with_crypto(crypto);
        base.transport_config(Arc::new(transport()))
            .migration(false)
            .max_incoming(HANDSHAKES)
            .incoming_buffer_size(WAITING.0)
            .incoming_buffer_size_total(WAITING.1);
        let made = RefCell::new((secure, Arc::new(base.clone())));
        Ok(Self { base, made })
    }

    /// Those of `secure`.
    fn of(&self, secure: &Arc<Secure>) -> Result<Arc<quinn::ServerConfig>, Unserved> {
        let mut made = self.made.borrow_mut();
        if !Arc::ptr_eq(&made.0, secure) {
            let mut config = self.base.clone();
            config.crypto = Arc::new(QuicServerConfig::try_from(secure.quic()?)?);
            *made = (Arc::clone(secure), Arc::new(config));
        }
        Ok(Arc::clone(&made.1))
    }
}

fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(MAX_STREAMS))
        .max_concurrent_uni_streams(VarInt::from_u32(MAX_ONE_WAY))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW))
        .send_window(SEND_WINDOW)
        .max_idle_timeout(IdleTimeout::try_from(SILENCE).ok())
        .keep_alive_interval(Some(ASK))
        .datagram_receive_buffer_size(None);
    transport
}

/// Serves the clients that come to `socket` until the listener drains and they have gone.
pub(in crate::front) async fn accept(
    worker: Rc<Worker>,
    accepting: Rc<Accepting>,
    socket: UdpSocket,
    drained: Drained,
) {
    let opened = open(&accepting, socket);
    let (endpoint, settings) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            warn!(listener = %accepting.settings.borrow().name, %error, "HTTP/3 is not served");
            return;
        }
    };
    let count = Rc::new(Count::default());
    let mut wanted = drained.clone();
    let mut end = std::pin::pin!(wanted.wanted());
    loop {
        let incoming = tokio::select! {
            biased;
            () = end.as_mut() => break,
            incoming = endpoint.accept() => incoming,
        };
        let Some(incoming) = incoming else { return };
        let Some(incoming) = admit(incoming, &count) else { continue };
        let Some(secure) = accepting.secure.borrow().clone() else {
            incoming.refuse();
            continue;
        };
        match settings.of(&secure) {
            Ok(config) => begin(&worker, &accepting, incoming, config, &drained, &count),
            Err(error) => {
                warn!(listener = %accepting.settings.borrow().name, %error, "HTTP/3 is not served");
                incoming.refuse();
            }
        }
    }
    if let Some(window) = drained.window() {
        worker.stays.watch_until(window.by);
    }
    // Nobody else is let in, and is told so. The socket stays until those who were have gone, for it is theirs, too.
    while count.connections.get() > 0 {
        tokio::select! {
            incoming = endpoint.accept() => match incoming {
                Some(incoming) => incoming.refuse(),
                None => return,
            },
            () = count.changed.notified() => {}
        }
    }
    // Who has not heard of it by then finds out.
    let _ = timeout(LAST, endpoint.wait_idle()).await;
}

fn open(accepting: &Accepting, socket: UdpSocket) -> Result<(Endpoint, Settings), Unserved> {
    let secure = accepting.secure.borrow().clone();
    let Some(secure) = secure else {
        return Err(Unserved::Socket(std::io::Error::other("the listener has no TLS")));
    };
    let settings = Settings::new(secure)?;
    // A key of its own for each endpoint: who shared it would tell strangers how to end connections of others (RFC 9000
    // §21.11).
    let endpoint = Endpoint::new(
        EndpointConfig::default(),
        Some(settings.base.clone()),
        socket,
        Arc::new(TokioRuntime),
    )?;
    Ok((endpoint, settings))
}

/// `incoming` where it is let in: where many come at once, only those whose address was shown to be theirs.
fn admit(incoming: Incoming, count: &Count) -> Option<Incoming> {
    let handshakes = count.handshakes.get();
    if handshakes >= HANDSHAKES || count.connections.get() >= CONNECTIONS {
        incoming.refuse();
        return None;
    }
    if handshakes >= UNSHOWN && !incoming.remote_address_validated() && incoming.may_retry() {
        // It comes back with a token, and nothing of it is kept until then.
        drop(incoming.retry());
        return None;
    }
    Some(incoming)
}

fn begin(
    worker: &Rc<Worker>,
    accepting: &Rc<Accepting>,
    incoming: Incoming,
    config: Arc<quinn::ServerConfig>,
    drained: &Drained,
    count: &Rc<Count>,
) {
    let listener = Arc::clone(&accepting.settings.borrow());
    let client = addresses(&incoming, &accepting.address);
    let peer = Peer::new(client.source().ip());
    let downstream = Downstream {
        listener,
        id: accepting.id,
        peer,
        client: Some(Rc::new(Client::new(client))),
        is_anonymous: false,
        secure: true,
        identity: None,
        drained: drained.clone(),
        alt_svc: None,
    };
    let Some(admitted) = admit::connection(worker, &accepting.door, &downstream) else {
        incoming.refuse();
        return;
    };
    let (worker, count, door) = (Rc::clone(worker), Rc::clone(count), Arc::clone(&accepting.door));
    let open = Open::new(&worker.metrics, accepting.id);
    spawn(async move {
        let counted = Counted::new(&count.connections);
        if let Some((connection, downstream)) = shaken(&worker, &count, incoming, config, downstream).await {
            // Only now the address is known to be the client's: who forges one takes nobody's place.
            match admit::client(&worker, &door, &downstream) {
                Ok(_of_client) => connection::serve(&worker, connection, downstream).await,
                Err(admit::TooMany) => {
                    connection.close(number(Code::H3_EXCESSIVE_LOAD.value()), b"too many connections");
                }
            }
        }
        drop((counted, open, admitted));
        count.changed.notify_one();
    });
}

/// Whence `incoming` comes and whereto, on a listener at `bound`.
fn addresses(incoming: &Incoming, bound: &BindAddress) -> Addresses {
    let source = incoming.remote_address();
    let (ip, port) = match bound {
        BindAddress::Tcp(address) => (address.ip(), address.port()),
        BindAddress::Unix(_) => (source.ip(), 0),
    };
    Addresses::new(source, SocketAddr::new(incoming.local_ip().unwrap_or(ip), port))
}

/// The connection and who is there, when the handshake is over; `None` where there is none, which is counted.
fn shaken(
    worker: &Worker,
    count: &Count,
    incoming: Incoming,
    config: Arc<quinn::ServerConfig>,
    mut downstream: Downstream,
) -> impl Future<Output = Option<(quinn::Connection, Downstream)>> {
    let counted = Counted::new(&count.handshakes);
    async move {
        let limit = downstream.listener.header_timeout;
        let shaking = async { incoming.accept_with(config)?.await };
        let refuse = |cause: Option<Refused>, why: &dyn std::fmt::Display| {
            debug!(listener = %downstream.listener.name, peer = %downstream.peer.ip(), error = %why, "no QUIC");
            if let Some(cause) = cause {
                worker.metrics.refused(downstream.id, cause);
            }
        };
        let connection = match timeout(limit, shaking).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => {
                refuse(cause(&error), &error);
                return None;
            }
            Err(error) => {
                refuse(Some(Refused::Timeout), &error);
                return None;
            }
        };
        let chain = connection.peer_identity();
        let chain =
            chain.and_then(|any| any.downcast::<Vec<rustls::pki_types::CertificateDer<'static>>>().ok());
        let identity = chain.as_ref().and_then(|chain| chain.first()).map(|leaf| Identity::of(leaf));
        match identity {
            Some(Ok(identity)) if !identity.is_over(seconds_now()) => {
                downstream.identity = Some(Rc::new(identity));
            }
            Some(_) => {
                refuse(Some(Refused::ClientCertificate), &"its certificate has expired or cannot be read");
                connection.close(number(Code::H3_GENERAL_PROTOCOL_ERROR.value()), b"certificate");
                return None;
            }
            None => {}
        }
        drop(counted);
        Some((connection, downstream))
    }
}

/// What a failed handshake counts as; nothing where the client merely went away.
fn cause(error: &ConnectionError) -> Option<Refused> {
    let ours = |alert: AlertDescription| TransportErrorCode::crypto(u8::from(alert));
    match error {
        ConnectionError::TransportError(error) => {
            let code = error.code;
            let of_client = [
                AlertDescription::CertificateRequired,
                AlertDescription::BadCertificate,
                AlertDescription::UnsupportedCertificate,
                AlertDescription::CertificateRevoked,
                AlertDescription::CertificateExpired,
                AlertDescription::CertificateUnknown,
                AlertDescription::UnknownCA,
                AlertDescription::DecryptError,
            ];
            Some(if of_client.into_iter().any(|alert| code == ours(alert)) {
                Refused::ClientCertificate
            } else if code == ours(AlertDescription::AccessDenied)
                || code == ours(AlertDescription::UnrecognisedName)
            {
                Refused::ServerName
            } else {
                Refused::Tls
            })
        }
        ConnectionError::ConnectionClosed(_) => Some(Refused::Tls),
        ConnectionError::TimedOut => Some(Refused::Timeout),
        _ => None,
    }
}
