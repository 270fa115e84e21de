//! HTTP/1.1 to an endpoint: connections one request at a time, kept in a LIFO list between requests. The exchange runs
//! in the task of the request itself: nobody else is woken for it.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Method, StatusCode, Version};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::connect::Spoken;
use super::exchange::{SendError, SendErrorKind};
use super::local::{Caller, Endpoint};
use super::{Inbound, Outgoing, Sink, Slot, Upgrade, Upload, UploadState};
use crate::net::{Coding, Io, Link, Transfer, TransferError, clock};
use crate::telemetry::{self, ConnectionEvent, UpstreamId};
use crate::wire::framing::write_plainly;
use crate::wire::{Known, Length, ResponseHead};

/// The largest response head that is accepted.
const MAX_RESPONSE_HEAD: usize = 256 * 1024;

/// How long a new connection may take before one that another request gives back is taken instead. One that is made in
/// less is not thrown away half made.
const HEAD_START: Duration = Duration::from_millis(10);

/// How many 1xx responses are read before others have their turn.
const TURN: usize = 16;

/// A connection to an endpoint. Dropping it closes it at once, whatever it is doing.
#[derive(Debug)]
pub struct Connection {
    link: Rc<Link>,
    metrics: Rc<telemetry::Worker>,
    upstream: UpstreamId,
    is_pooled: Cell<bool>,
    /// Whether the endpoint keeps it open behind the present exchange.
    is_kept: Cell<bool>,
    /// How long the endpoint keeps it open while it is idle, where it has said so.
    keeps: Cell<Option<Duration>>,
    /// Its place among the upstream's connections, where they are limited.
    slot: Option<Slot>,
}

/// The idle connections to one endpoint, the last used first.
#[derive(Debug, Default)]
pub struct Pool {
    idle: RefCell<Vec<Idle>>,
    /// How many requests wait for a connection, and what tells them that one has come back.
    waiting: Cell<usize>,
    returned: Notify,
}

/// A request that waits for a connection.
struct Waiting<'a>(&'a Cell<usize>);

impl<'a> Waiting<'a> {
    fn new(count: &'a Cell<usize>) -> Self {
        count.set(count.get() + 1);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    since: Instant,
}

/// A response, and what is left of its exchange.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) head: ResponseHead,
    pub(super) body: Inbound,
    pub(super) connection: Connection,
    /// The request's body, where it is still on its way.
    pub(super) uploading: Option<Box<Uploading>>,
    /// Where bytes go, where the connection is no longer HTTP.
    pub(super) sink: Option<Sink>,
}

/// A request's body that is on its way while the response comes already.
#[derive(Debug)]
pub struct Uploading {
    transfer: Transfer<Upload>,
    link: Rc<Link>,
}

impl Uploading {
    /// Sends on what has come; ready when nothing more will be sent, with whether that was all. It is not to be asked
    /// again then.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        // Why it broke off stands in the upload's state.
        self.transfer.poll(cx, self.link.io()).map(|sent| sent.is_ok())
    }
}

impl Connection {
    fn new(link: Rc<Link>, endpoint: &Endpoint, slot: Option<Slot>) -> Self {
        let (metrics, upstream) = (Rc::clone(&endpoint.metrics), endpoint.upstream.id);
        metrics.connection(upstream, ConnectionEvent::Connected);
        Self {
            link,
            metrics,
            upstream,
            is_pooled: Cell::new(false),
            is_kept: Cell::new(true),
            keeps: Cell::new(None),
            slot,
        }
    }

    fn event(&self, event: ConnectionEvent) {
        self.metrics.connection(self.upstream, event);
    }

    /// Says that the endpoint has not taken all of the request, so that it is not used again.
    pub(super) fn cut(&self) {
        self.is_kept.set(false);
    }

    /// Whether it cannot be used again: the endpoint has closed it, or said something that nobody asked for. No system
    /// call is needed where nothing has happened.
    fn is_stale(&self) -> bool {
        let is_quiet =
            || self.link.io().read(&mut [0]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        !self.is_kept.get() || !self.link.is_between() || self.link.ahead() > 0 || !is_quiet()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.event(if self.is_pooled.get() { ConnectionEvent::IdleClosed } else { ConnectionEvent::Closed });
    }
}

impl Pool {
    /// Keeps `connection` for the next request, unless it is of no more use.
    pub(super) fn put(&self, connection: Connection) {
        let is_wanted = connection.slot.as_ref().is_some_and(Slot::is_wanted);
        if is_wanted && self.waiting.get() == 0 {
            // Who waits is at another endpoint, or another worker's.
            return;
        }
        if connection.is_kept.get() && connection.link.is_between() && connection.link.ahead() == 0 {
            connection.is_pooled.set(true);
            connection.event(ConnectionEvent::Idle);
            self.idle.borrow_mut().push(Idle { connection, since: clock::now() });
            if self.waiting.get() > 0 {
                self.returned.notify_one();
            }
        }
    }

    /// What `connecting` comes to, or a connection that has come back meanwhile: an endpoint whose queue of connections is
    /// full, because many were wanted at once, still answers over those that it has.
    async fn take_or<T>(&self, connecting: impl Future<Output = T>) -> Result<Connection, T> {
        let mut connecting = pin!(connecting);
        if let Ok(made) = tokio::time::timeout(HEAD_START, connecting.as_mut()).await {
            return Err(made);
        }
        let _waiting = Waiting::new(&self.waiting);
        loop {
            if let Some(connection) = self.take() {
                return Ok(connection);
            }
            tokio::select! {
                biased;
                made = connecting.as_mut() => return Err(made),
                () = self.returned.notified() => {}
            }
        }
    }

    /// The idle connection that was used last and is of use.
    fn take(&self) -> Option<Connection> {
        loop {
            let Idle { connection, since } = self.idle.borrow_mut().pop()?;
            let is_over = connection.keeps.get().is_some_and(|keeps| since.elapsed() >= keeps);
            if !is_over && !connection.is_stale() {
                connection.is_pooled.set(false);
                connection.event(ConnectionEvent::Busy);
                return Some(connection);
            }
        }
    }

    /// Closes connections idle for longer than `limit`, and those of no more use.
    pub(super) fn close_idle(&self, now: Instant, limit: Duration) {
        let mut idle = self.idle.borrow_mut();
        idle.retain(|idle| {
            let limit = idle.connection.keeps.get().map_or(limit, |keeps| keeps.min(limit));
            now.saturating_duration_since(idle.since) < limit && !idle.connection.is_stale()
        });
    }
}

/// Sends a request over an idle or a new connection, or over `made`, and waits for the response's head.
pub(super) async fn send(
    endpoint: &Rc<Endpoint>,
    pool: &Pool,
    outgoing: &Outgoing<'_>,
    mut upload: Upload,
    caller: &Caller,
    mut made: Option<Box<Io>>,
) -> Result<Sent, SendError> {
    let mut was_sent = false;
    loop {
        let fresh = |io, slot| (Connection::new(Rc::new(Link::new(io)), endpoint, slot), false);
        let idle = if made.is_none() { pool.take() } else { None };
        let (connection, is_reused) = match (made.take(), idle) {
            (Some(made), _) => fresh(*made, endpoint.slot()),
            (None, Some(connection)) => (connection, true),
            // In a box of its own: seldom needed, and larger than all the rest.
            (None, None) => {
                let limit = endpoint.upstream.settings.connect_timeout;
                let kind = match Box::pin(pool.take_or(endpoint.connect(limit, caller))).await {
                    Ok(idle) => Ok((idle, true)),
                    Err(Ok((io, Spoken::Http1, slot))) => Ok(fresh(io, slot)),
                    Err(Ok((io, Spoken::Http2, _))) => Err(SendErrorKind::Otherwise(Some(Box::new(io)))),
                    Err(Err(error)) => Err(error.into()),
                };
                match kind {
                    Ok(fresh) => fresh,
                    Err(kind) => return Err(SendError { kind, unsent: Some(upload).filter(|_| !was_sent) }),
                }
            }
        };
        let is_bodiless = upload.is_empty();
        let (head, coding) = write_head(outgoing, &upload);
        let mut exchange = Exchange {
            connection: &connection,
            asked: Asking {
                caller,
                upload: upload.state(),
                limit: endpoint.upstream.settings.response_timeout,
            },
            transfer: Some(Transfer::new(head, coding, (!is_bodiless).then_some(upload))),
            upgrades: outgoing.upgrade.is_some(),
            sent: 0,
            has_answered: false,
            started: clock::now(),
        };
        match poll_fn(|cx| exchange.poll(cx)).await {
            Ok(head) => {
                let uploading = exchange.transfer.take();
                if let Some(upgrade) = outgoing.upgrade
                    && head.status == StatusCode::SWITCHING_PROTOCOLS
                {
                    let is_sent = uploading.is_none() && connection.is_kept.get();
                    return switch(head, upgrade, connection, is_sent);
                }
                return accept(head, &outgoing.head.method, connection, uploading);
            }
            // It had closed before it read the request: the next one, or a new one. What may have been read is sent
            // again only where doing it twice is doing it once (RFC 9110 §9.2.2).
            Err(SendErrorKind::Reset(_))
                if is_reused
                    && is_bodiless
                    && !exchange.has_answered
                    && (exchange.sent == 0 || outgoing.head.method.is_idempotent()) =>
            {
                upload = Upload::default();
                was_sent |= exchange.sent > 0;
            }
            Err(SendErrorKind::Reset(error)) if !is_reused && !exchange.has_answered => {
                return Err(match endpoint.late_failure(error.downcast_ref()) {
                    Some(failure) => {
                        let is_unsent = is_bodiless && !was_sent;
                        SendError { kind: failure.into(), unsent: is_unsent.then(Upload::default) }
                    }
                    None => SendError { kind: SendErrorKind::Reset(error), unsent: None },
                });
            }
            Err(SendErrorKind::Reset(error)) if is_reused && !exchange.has_answered => {
                return Err(SendError { kind: SendErrorKind::Stale(error), unsent: None });
            }
            Err(kind) => return Err(SendError { kind, unsent: None }),
        }
    }
}

/// The head as it goes to the endpoint, and how the body's end is told.
fn write_head(outgoing: &Outgoing<'_>, upload: &Upload) -> (Vec<u8>, Coding) {
    let mut out = Vec::with_capacity(1024);
    let head = outgoing.head;
    head.write(outgoing.target, &mut out);
    if let Some(host) = outgoing.host {
        out.extend_from_slice(b"host: ");
        out.extend_from_slice(host.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    // What we say of this hop alone (RFC 9110 §10.1.4, §7.8).
    if let Some(upgrade) = outgoing.upgrade {
        out.extend_from_slice(b"connection: upgrade\r\nupgrade: ");
        out.extend_from_slice(upgrade.protocols());
        out.extend_from_slice(b"\r\n");
    }
    if head.fields.contains(Known::Te) {
        out.extend_from_slice(b"connection: te\r\n");
    }
    let mut coding = Coding::Plain;
    if upload.is_empty() {
        // HTTP/2 says it without a length, which HTTP/1 servers ask for (RFC 9110 §8.6).
        let has_content = matches!(head.method, Method::POST | Method::PUT | Method::PATCH);
        if has_content && head.version >= Version::HTTP_2 && !head.fields.contains(Known::ContentLength) {
            out.extend_from_slice(b"content-length: 0\r\n");
        }
    } else if upload.length().is_none() || !head.fields.contains(Known::ContentLength) {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
        coding = Coding::Chunked { trailers: true };
    }
    out.extend_from_slice(b"\r\n");
    (out, coding)
}

/// What a response's head says of the rest.
fn accept(
    mut head: ResponseHead,
    method: &Method,
    connection: Connection,
    uploading: Option<Transfer<Upload>>,
) -> Result<Sent, SendError> {
    let length = match Length::of_response(&head, method) {
        Ok(length) => length,
        Err(error) => {
            return Err(SendError { kind: SendErrorKind::Protocol(Box::new(error)), unsent: None });
        }
    };
    write_plainly(&mut head.fields);
    let says = |word| head.fields.has_token(Known::Connection, word);
    let is_kept = if head.version == Version::HTTP_10 { says("keep-alive") } else { !says("close") };
    if !is_kept || length == Length::UntilClose {
        connection.is_kept.set(false);
    }
    connection.keeps.set(head.fields.get(Known::KeepAlive).and_then(keeps));
    head.fields.remove(Known::TransferEncoding);
    let link = Rc::clone(&connection.link);
    let body = Inbound::http1(&link, length);
    let uploading = uploading.map(|transfer| Box::new(Uploading { transfer, link }));
    Ok(Sent { head, body, connection, uploading, sink: None })
}

/// How long a connection may be idle before it is not used again, where the endpoint has said how long it keeps it open
/// (`timeout=5`): a little less, for a request that crosses its end is lost.
fn keeps(value: &[u8]) -> Option<Duration> {
    let parameters = std::str::from_utf8(value).ok()?.split(',');
    let timeout =
        parameters.filter_map(|parameter| parameter.split_once('=')).find_map(|(name, value)| {
            let seconds = value.trim().trim_matches('"').parse().ok();
            seconds.filter(|_| name.trim().eq_ignore_ascii_case("timeout"))
        })?;
    let keeps = Duration::from_secs(timeout);
    Some(keeps.saturating_sub(Duration::from_secs(1)).max(keeps / 2))
}

/// The connection is no longer HTTP, if what was chosen was asked for and asked for to its end.
fn switch(
    head: ResponseHead,
    upgrade: &Upgrade,
    connection: Connection,
    is_sent: bool,
) -> Result<Sent, SendError> {
    connection.cut();
    if !is_sent || upgrade.chosen(&head.fields).is_none() {
        let kind = SendErrorKind::Protocol("the endpoint chose a protocol that nobody asked for".into());
        return Err(SendError { kind, unsent: None });
    }
    let link = Rc::clone(&connection.link);
    let body = Inbound::http1(&link, Length::UntilClose);
    Ok(Sent { head, body, connection, uploading: None, sink: Some(Sink::Http1(link)) })
}

/// Whom a request is from, as far as the exchange needs it.
struct Asking<'a> {
    caller: &'a Caller,
    upload: Option<Rc<UploadState>>,
    limit: Duration,
}

/// A request on its way out and its response on its way in.
struct Exchange<'a> {
    connection: &'a Connection,
    asked: Asking<'a>,
    /// `None` once the request is sent, or cannot be sent any more.
    transfer: Option<Transfer<Upload>>,
    /// Whether another protocol was asked for.
    upgrades: bool,
    sent: u64,
    has_answered: bool,
    started: Instant,
}

impl Exchange<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseHead, SendErrorKind>> {
        if let Some(transfer) = &mut self.transfer {
            let polled = transfer.poll(cx, self.connection.link.io());
            self.sent = transfer.written();
            match polled {
                Poll::Pending => {}
                Poll::Ready(Err(TransferError::Source(error))) => {
                    return Poll::Ready(Err(SendErrorKind::Reset(Box::new(error))));
                }
                Poll::Ready(Ok(())) => self.transfer = None,
                // An endpoint that refuses a body from its head alone answers and closes: what it said is still to be
                // read, though it takes no more.
                Poll::Ready(Err(TransferError::Io(_))) => {
                    self.connection.cut();
                    self.transfer = None;
                }
            }
        }
        if let Poll::Ready(read) = self.poll_head(cx) {
            return Poll::Ready(read);
        }
        let progress = self.asked.upload.as_ref().and_then(|upload| upload.last_progress());
        let deadline = progress.unwrap_or(self.started).max(self.started) + self.asked.limit;
        self.asked.caller.alarm.borrow_mut().poll_until(cx, deadline).map(|()| Err(SendErrorKind::Timeout))
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseHead, SendErrorKind>> {
        let protocol = |error| Poll::Ready(Err(SendErrorKind::Protocol(error)));
        let link = &self.connection.link;
        let mut interim = 0;
        loop {
            if interim == TURN {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            match link.parse(|bytes| ResponseHead::parse(&bytes[..bytes.len().min(MAX_RESPONSE_HEAD)])) {
                Ok(Some(head)) if head.status == StatusCode::SWITCHING_PROTOCOLS && !self.upgrades => {
                    return protocol("nobody asked for another protocol".into());
                }
                Ok(Some(head))
                    if head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS =>
                {
                    self.has_answered = true;
                    interim += 1;
                    self.inform(head);
                    continue;
                }
                Ok(Some(head)) => return Poll::Ready(Ok(head)),
                Ok(None) if link.ahead() >= MAX_RESPONSE_HEAD => {
                    return protocol("the head is too large".into());
                }
                Ok(None) => {}
                Err(error) => return protocol(Box::new(error)),
            }
            link.rest();
            match link.poll_read(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0)) => {
                    return Poll::Ready(Err(SendErrorKind::Reset("the endpoint closed".into())));
                }
                Poll::Ready(Ok(_)) => self.has_answered = true,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(SendErrorKind::Reset(Box::new(error)))),
            }
        }
    }

    /// A 1xx response: 100 asks for the body, others are for the client.
    fn inform(&self, head: ResponseHead) {
        if head.status == StatusCode::CONTINUE {
            if let Some(asked) = self.asked.upload.as_ref().and_then(|upload| upload.asked()) {
                asked.set();
            }
        } else if let Some(interim) = &self.asked.caller.interim {
            interim.send(head);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_is_used_for_a_little_less_than_the_endpoint_keeps_it() {
        for (value, millis) in [
            ("timeout=5", Some(4000)),
            ("timeout=5, max=100", Some(4000)),
            ("max=100,Timeout = \"75\"", Some(74_000)),
            ("timeout=1", Some(500)),
            ("timeout=0", Some(0)),
            ("timeout=-1", None),
            ("timeout=99999999999999999999999", None),
            ("max=3", None),
            ("", None),
            ("timeout", None),
        ] {
            assert_eq!(keeps(value.as_bytes()), millis.map(Duration::from_millis), "{value}");
        }
    }
}
