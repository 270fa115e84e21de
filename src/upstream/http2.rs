//! HTTP/2 to an endpoint by prior knowledge: few connections, many streams.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::{Rc, Weak};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Either, select};
use h2::client::{self, ResponseFuture, SendRequest};
use h2::{Ping, Reason};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version, header};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::connect::{ConnectError, Spoken};
use super::exchange::{SendError, SendErrorKind, within};
use super::keepalive::Load;
use super::local::{Caller, Endpoint};
use super::streaming::send_body;
use super::{Inbound, Interim, Outgoing, Sink, Slot, Upload, UploadState, keepalive};
use crate::net::{Guarded, Io, Watch};
use crate::telemetry::ConnectionEvent;
use crate::wire::{Fields, Known, ResponseHead, websocket};

/// Connections per endpoint and worker; beyond them requests wait for a free stream.
const MAX_CONNECTIONS: usize = 8;
/// Our receive windows: one stream may fill a fast path, all together are bounded.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// How much of a body may wait inside the library for the socket, a stream.
const SEND_BUFFER: usize = 256 * 1024;
const MAX_RESPONSE_HEAD: u32 = 256 * 1024;
/// How often a request that an endpoint has refused to look at is sent to it again, on another connection each time.
const REFUSALS: u32 = 2;

/// The connections to one endpoint.
#[derive(Debug, Default)]
pub struct Pool {
    connections: RefCell<Vec<Rc<Connection>>>,
    /// Held while a connection is made, so that a burst makes one and not many.
    dialing: tokio::sync::Mutex<()>,
}

/// A connection lives as long as the pool or a stream holds it; its driver does not.
struct Connection {
    sender: SendRequest<Bytes>,
    endpoint: Weak<Endpoint>,
    streams: Cell<usize>,
    /// Whether it is counted as idle.
    idle: Cell<bool>,
    /// Whether the endpoint takes no further streams on it; those under way may go on.
    draining: Cell<bool>,
    closed: Cell<bool>,
    /// What it ended with.
    failure: RefCell<Option<h2::Error>>,
    used: Cell<Instant>,
    /// Since when it has streams, where it has any.
    busy: Cell<Instant>,
    /// Its place among the upstream's connections, where they are limited.
    _slot: Option<Slot>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("closed", &self.closed).finish_non_exhaustive()
    }
}

impl Connection {
    fn is_open(&self) -> bool {
        !self.closed.get() && !self.draining.get()
    }

    fn has_room(&self) -> bool {
        self.streams.get() < self.sender.current_max_send_streams()
    }

    /// Counts the connection as idle or in use, whichever it is.
    fn count(&self, is_idle: bool) {
        if self.idle.replace(is_idle) != is_idle
            && !self.closed.get()
            && let Some(endpoint) = self.endpoint.upgrade()
        {
            endpoint.event(if is_idle { ConnectionEvent::Idle } else { ConnectionEvent::Busy });
        }
    }
}

/// One stream of a connection, counted for as long as its exchange lasts. Dropping it ends the exchange: what is still
/// to be sent of the request's body is given up.
#[derive(Debug)]
pub struct Hold {
    connection: Rc<Connection>,
    upload: Option<oneshot::Sender<Infallible>>,
}

impl Hold {
    fn new(connection: &Rc<Connection>) -> Self {
        if connection.streams.replace(connection.streams.get() + 1) == 0 {
            connection.busy.set(Instant::now());
        }
        connection.count(false);
        Self { connection: Rc::clone(connection), upload: None }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let connection = &self.connection;
        let streams = connection.streams.get().saturating_sub(1);
        connection.streams.set(streams);
        connection.used.set(Instant::now());
        if streams == 0 {
            connection.count(true);
        }
    }
}

impl Pool {
    /// Closes connections without streams that have not been used for `limit`.
    pub(super) fn close_idle(&self, now: Instant, limit: Duration) {
        self.connections.borrow_mut().retain(|connection| {
            let idle = connection.streams.get() == 0
                && now.saturating_duration_since(connection.used.get()) >= limit;
            connection.is_open() && !idle
        });
    }

    fn with_room(&self) -> Option<Hold> {
        let mut connections = self.connections.borrow_mut();
        connections.retain(|connection| connection.is_open());
        connections.iter().rev().find(|connection| connection.has_room()).map(Hold::new)
    }

    /// A connection to wait on when there are as many as there may be.
    fn least_loaded(&self) -> Option<Hold> {
        let connections = self.connections.borrow();
        if connections.len() < MAX_CONNECTIONS {
            return None;
        }
        connections.iter().min_by_key(|connection| connection.streams.get()).map(Hold::new)
    }

    /// A stream on a connection, and whether the connection was there before.
    async fn acquire(
        &self,
        endpoint: &Rc<Endpoint>,
        caller: &Caller,
        made: Option<Box<Io>>,
    ) -> Result<(Hold, bool), SendErrorKind> {
        if let Some(hold) = self.with_room() {
            return Ok((hold, true));
        }
        let limit = endpoint.upstream.settings.connect_timeout;
        if let Some(io) = made {
            return Ok((self.begin(endpoint, *io, endpoint.slot(), limit).await?, false));
        }
        // Who waits for another's attempt waits no longer than for its own.
        let dialing = tokio::time::timeout(limit, self.dialing.lock()).await;
        let _dialing = dialing.map_err(|_| ConnectError::Timeout(limit))?;
        if let Some(hold) = self.with_room().or_else(|| self.least_loaded()) {
            return Ok((hold, true));
        }
        if endpoint.spoken() == Some(Spoken::Http1) {
            // Found out by whoever was waited for.
            return Err(SendErrorKind::Otherwise(None));
        }
        match endpoint.connect(limit, caller).await? {
            (io, Spoken::Http2, slot) => Ok((self.begin(endpoint, io, slot, limit).await?, false)),
            (io, Spoken::Http1, _) => Err(SendErrorKind::Otherwise(Some(Box::new(io)))),
        }
    }

    /// Begins HTTP/2 on a new connection.
    async fn begin(
        &self,
        endpoint: &Rc<Endpoint>,
        io: Io,
        slot: Option<Slot>,
        limit: Duration,
    ) -> Result<Hold, SendErrorKind> {
        let io = Guarded::of_endpoint(io);
        let watch = io.watch();
        let (sender, driver) = client::Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buffer_size(SEND_BUFFER)
            .max_header_list_size(MAX_RESPONSE_HEAD)
            .enable_push(false)
            .handshake(io)
            .await
            .map_err(|error| SendErrorKind::Reset(Box::new(error)))?;
        let connection = Rc::new(Connection {
            sender,
            endpoint: Rc::downgrade(endpoint),
            streams: Cell::new(0),
            idle: Cell::new(false),
            draining: Cell::new(false),
            closed: Cell::new(false),
            failure: RefCell::default(),
            used: Cell::new(Instant::now()),
            busy: Cell::new(Instant::now()),
            _slot: slot,
        });
        endpoint.event(ConnectionEvent::Connected);
        let hold = Hold::new(&connection);
        // Its answer follows the endpoint's settings. To open streams without knowing how many are taken is to have them
        // refused.
        match tokio::time::timeout(limit, Self::drive(endpoint, &connection, driver, watch)).await {
            Ok(Ok(Ok(()))) => {}
            Ok(answer) => {
                // Its driver knows more.
                let failure = connection.failure.take().or_else(|| answer.ok()?.err());
                let Some(error) = failure else {
                    return Err(SendErrorKind::Reset(Box::new(io::Error::from(io::ErrorKind::BrokenPipe))));
                };
                let late = endpoint.late_failure(error.get_io());
                return Err(late.map_or_else(|| classify(error), SendErrorKind::from));
            }
            Err(_) => return Err(ConnectError::Timeout(limit).into()),
        }
        self.connections.borrow_mut().push(connection);
        Ok(hold)
    }

    /// Runs `connection` until it ends, floods us or is dead; gives whether the endpoint has answered for the first time.
    fn drive(
        endpoint: &Rc<Endpoint>,
        connection: &Rc<Connection>,
        mut driver: client::Connection<Guarded<Io>, Bytes>,
        watch: Rc<Watch>,
    ) -> oneshot::Receiver<Result<(), h2::Error>> {
        let (greet, greeted) = oneshot::channel();
        let (endpoint, connection) = (Rc::clone(endpoint), Rc::downgrade(connection));
        let pings = driver.ping_pong();
        let (of, watched) = (Weak::clone(&connection), Rc::clone(&watch));
        let alive = async move {
            // The only one who asks for it, so it is there.
            let Some(mut pings) = pings else { return };
            let answer = pings.ping(Ping::opaque()).await.map(drop);
            let is_there = answer.is_ok();
            // Who has given up waiting needs no answer.
            let _ = greet.send(answer);
            if is_there {
                let load = || {
                    let connection = of.upgrade()?;
                    Some(Load { streams: connection.streams.get(), since: connection.busy.get() })
                };
                keepalive::dead(&watched, pings, load).await;
                if of.strong_count() > 0 {
                    tracing::debug!("connection to an endpoint that no longer answers is closed");
                    return;
                }
            }
            // Who holds no more is for the driver to see.
            std::future::pending::<()>().await;
        };
        super::drive(async move {
            let driving = poll_fn(|cx| {
                let ended = Pin::new(&mut driver).poll(cx);
                if watch.is_flooded() {
                    tracing::debug!(
                        endpoint = &*endpoint.name,
                        "connection to an endpoint that floods is closed"
                    );
                    return Poll::Ready(None);
                }
                // Its failure reaches the requests that were on it, too.
                ended.map(Result::err)
            });
            let failure = match select(pin!(driving), pin!(alive)).await {
                Either::Left((failure, _)) => failure,
                Either::Right(_) => None,
            };
            // What is under way fails by this.
            drop(driver);
            // What nobody holds was idle.
            let is_idle = connection.upgrade().is_none_or(|connection| {
                connection.closed.set(true);
                connection.failure.replace(failure);
                connection.idle.get()
            });
            endpoint.event(if is_idle { ConnectionEvent::IdleClosed } else { ConnectionEvent::Closed });
        });
        greeted
    }
}

/// A response, and what is left of its exchange.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) head: ResponseHead,
    pub(super) body: Inbound,
    pub(super) hold: Hold,
    /// Where bytes go, where the stream is no longer HTTP.
    pub(super) sink: Option<Sink>,
}

/// Sends `outgoing` with `body` on a stream, of the connection `made` if it is needed, and waits for the response's head.
pub(super) async fn send(
    endpoint: &Rc<Endpoint>,
    pool: &Pool,
    outgoing: &Outgoing<'_>,
    body: Upload,
    caller: &Caller,
    mut made: Option<Box<Io>>,
) -> Result<Sent, SendError> {
    let mut body = body;
    let mut left = REFUSALS;
    loop {
        let error = match send_once(endpoint, pool, outgoing, body, caller, made.take()).await {
            Ok(sent) => return Ok(sent),
            Err(error) => error,
        };
        let is_refused = matches!(error.kind, SendErrorKind::Refused(_));
        match error.unsent {
            Some(unsent) if is_refused && left > 0 => body = unsent,
            unsent => return Err(SendError { kind: error.kind, unsent }),
        }
        left -= 1;
    }
}

async fn send_once(
    endpoint: &Rc<Endpoint>,
    pool: &Pool,
    outgoing: &Outgoing<'_>,
    body: Upload,
    caller: &Caller,
    mut made: Option<Box<Io>>,
) -> Result<Sent, SendError> {
    let upload = body.state();
    let limit = endpoint.upstream.settings.response_timeout;
    let unsent = |kind, body| SendError { kind, unsent: Some(body) };
    let Ok(mut request) = request(outgoing, endpoint.scheme()) else {
        return Err(unsent(SendErrorKind::Host, body));
    };
    let (mut hold, mut sender) = loop {
        let (hold, reused) = match pool.acquire(endpoint, caller, made.take()).await {
            Ok(acquired) => acquired,
            Err(kind) => return Err(unsent(kind, body)),
        };
        match tokio::time::timeout(limit, hold.connection.sender.clone().ready()).await {
            Ok(Ok(sender)) => break (hold, sender),
            // It is going away: the next one, or a new one.
            Ok(Err(_)) if reused => hold.connection.draining.set(true),
            Ok(Err(error)) => return Err(unsent(classify(error), body)),
            Err(_) => return Err(unsent(SendErrorKind::Timeout, body)),
        }
    };
    // Other protocols have no name in HTTP/2, and an endpoint may ignore what is asked of it (RFC 9110 §7.8).
    let is_get = outgoing.head.method == Method::GET;
    let upgrade = outgoing.upgrade.filter(|upgrade| upgrade.is_websocket() && is_get && body.is_empty());
    if upgrade.is_some() && !sender.is_extended_connect_protocol_enabled() {
        return Err(unsent(SendErrorKind::NoTunnel, body));
    }
    if upgrade.is_some() {
        request.headers_mut().remove(header::SEC_WEBSOCKET_KEY);
        // It would be over with the first byte of the tunnel.
        request.headers_mut().remove(header::CONTENT_LENGTH);
        *request.method_mut() = Method::CONNECT;
        request.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
    }
    let end = body.is_empty() && upgrade.is_none();
    let (response, stream) = match sender.send_request(request, end) {
        Ok(sent) => sent,
        Err(error) => return Err(unsent(classify(error), body)),
    };
    let mut sink = None;
    let untouched = if upgrade.is_some() {
        sink = Some(stream);
        Either::Left(std::future::ready(Some(body)))
    } else if end {
        Either::Left(std::future::ready(Some(body)))
    } else {
        let (give_back, rest) = oneshot::channel();
        let (alive, dropped) = oneshot::channel();
        hold.upload = Some(alive);
        let state = upload.clone();
        super::drive(async move {
            let mut body = body;
            // Why it broke off stands in the upload's state; the peer is told by the reset.
            // Who has dropped it comes first: the client's connection may be at its next request, whose body this is not.
            drop(select(dropped, pin!(send_body(&mut body, stream, None))).await);
            if state.is_some_and(|state| state.is_untouched()) {
                // Nobody may want it.
                let _ = give_back.send(body);
            }
        });
        Either::Right(async { rest.await.ok() })
    };
    let upload = upload.as_deref();
    let kind = match within(final_response(response, caller.interim.as_ref(), upload), upload, limit).await {
        Ok(Ok(response)) => {
            let length = content_length(response.headers());
            let mut head = head(&response);
            if let Some(mut stream) = sink.take() {
                if head.status.is_success() {
                    switch(&mut head, outgoing);
                    sink = Some(stream);
                } else {
                    // It stays a request, without a body.
                    let _ = stream.send_data(Bytes::new(), true);
                }
            }
            let body = Inbound::http2(response.into_body(), length.filter(|_| sink.is_none()));
            return Ok(Sent { head, body, hold, sink: sink.map(Sink::Http2) });
        }
        Ok(Err(error)) => classify(error),
        Err(kind) => kind,
    };
    if !matches!(kind, SendErrorKind::Refused(_)) {
        return Err(SendError { kind, unsent: None });
    }
    // It takes no more here, for now or for good.
    hold.connection.draining.set(true);
    // This ends the upload, which then gives back what it has not begun to send.
    drop(hold);
    Err(SendError { kind, unsent: untouched.await })
}

/// Makes of a response that took the tunnel the 101 that it is inside.
fn switch(head: &mut ResponseHead, outgoing: &Outgoing<'_>) {
    head.status = StatusCode::SWITCHING_PROTOCOLS;
    head.fields.append(Known::Upgrade, b"websocket");
    if let Some(key) = outgoing.head.fields.get("sec-websocket-key") {
        head.fields.set("sec-websocket-accept", websocket::accept(key).as_bytes());
    }
}

/// The request as h2 has it: the host is the authority, and what HTTP/1 says of a connection has no place.
fn request(outgoing: &Outgoing<'_>, scheme: Scheme) -> Result<Request<()>, http::Error> {
    let uri = Uri::builder()
        .scheme(scheme)
        .authority(Authority::try_from(outgoing.host())?)
        .path_and_query(PathAndQuery::try_from(outgoing.target)?)
        .build()?;
    let mut request = Request::new(());
    *request.method_mut() = outgoing.head.method.clone();
    *request.version_mut() = Version::HTTP_2;
    *request.uri_mut() = uri;
    let headers = request.headers_mut();
    *headers = outgoing.head.fields.to_map();
    headers.remove(header::HOST);
    Ok(request)
}

/// The head of a response as h2 has it.
fn head<B>(response: &Response<B>) -> ResponseHead {
    ResponseHead::new(response.status(), Version::HTTP_2, Fields::from(response.headers()))
}

async fn final_response(
    mut response: ResponseFuture,
    interim: Option<&Interim>,
    upload: Option<&UploadState>,
) -> Result<Response<h2::RecvStream>, h2::Error> {
    poll_fn(|cx| {
        let asked = upload.and_then(UploadState::asked);
        if interim.is_some() || asked.is_some() {
            while let Poll::Ready(Some(Ok(early))) = response.poll_informational(cx) {
                if early.status() == StatusCode::CONTINUE {
                    if let Some(asked) = asked {
                        asked.set();
                    }
                } else if early.status() == StatusCode::SWITCHING_PROTOCOLS {
                    // HTTP/2 has none (RFC 9113 §8.6), and nobody asked for one.
                } else if let Some(interim) = interim {
                    interim.send(head(&early));
                }
            }
        }
        Pin::new(&mut response).poll(cx)
    })
    .await
}

fn classify(error: h2::Error) -> SendErrorKind {
    // RFC 9113 §8.7: of these not a byte has been looked at. A GOAWAY fails the streams above its last one.
    let refused = error.is_remote() && (error.is_go_away() || error.reason() == Some(Reason::REFUSED_STREAM));
    if refused {
        return SendErrorKind::Refused(Box::new(error));
    }
    let protocol = error.is_library() && error.reason() == Some(Reason::PROTOCOL_ERROR);
    if protocol { SendErrorKind::Protocol(Box::new(error)) } else { SendErrorKind::Reset(Box::new(error)) }
}

/// The value of a valid `content-length`.
pub fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
