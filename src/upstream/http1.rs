//! HTTP/1.1 to an endpoint: connections one request at a time, kept in a LIFO list between requests.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::error::Error;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::select;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TE, TRANSFER_ENCODING};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri};
use hyper::client::conn::http1;
use hyper::ext::ReasonPhrase;
use hyper_util::rt::TokioIo;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::local::{Endpoint, Interim, SendError, SendErrorKind, within};
use super::tolerant::Tolerant;
use super::{Inbound, Outgoing, Upload};
use crate::telemetry::ConnectionEvent;
use crate::wire::{Fields, ResponseHead};

/// The sending half of a connection. Dropping it closes the connection at once, whatever it is doing: nobody waits for
/// the exchange on it, and neither side may be left writing to nobody.
#[derive(Debug)]
pub struct Sender {
    requests: http1::SendRequest<Upload>,
    _alive: oneshot::Sender<Infallible>,
    /// Whether it waits in the pool; shared with its driver, so that its end is counted from where it was.
    pooled: Rc<Cell<bool>>,
}

/// How many connections that are still finishing their last exchange a request passes over before it makes a new one.
const LOOK: usize = 4;

const DUBIOUS: &str = "the framing of the response is ambiguous";

/// The largest response head that is accepted.
const MAX_RESPONSE_HEAD: usize = 256 * 1024;

/// The idle connections to one endpoint, the last used first.
#[derive(Debug, Default)]
pub struct Pool {
    idle: RefCell<Vec<Idle>>,
}

#[derive(Debug)]
struct Idle {
    sender: Sender,
    since: Instant,
}

impl Pool {
    /// Keeps `sender` for the next request, unless its connection is closed.
    pub(super) fn put(&self, sender: Sender, endpoint: &Endpoint) {
        if !sender.requests.is_closed() {
            sender.pooled.set(true);
            endpoint.event(ConnectionEvent::Idle);
            self.idle.borrow_mut().push(Idle { sender, since: Instant::now() });
        }
    }

    /// The idle connection that was used last, if one is usable.
    fn take(&self, endpoint: &Endpoint) -> Option<Sender> {
        let mut idle = self.idle.borrow_mut();
        let mut index = idle.len();
        let mut looks = 0;
        while index > 0 && looks < LOOK {
            index -= 1;
            let requests = &idle[index].sender.requests;
            if requests.is_closed() {
                idle.remove(index);
            } else if requests.is_ready() {
                let Idle { sender, .. } = idle.remove(index);
                sender.pooled.set(false);
                endpoint.event(ConnectionEvent::Busy);
                return Some(sender);
            } else {
                looks += 1;
            }
        }
        None
    }

    /// Closes connections idle for longer than `limit`.
    pub(super) fn close_idle(&self, now: Instant, limit: Duration) {
        self.idle.borrow_mut().retain(|idle| {
            !idle.sender.requests.is_closed() && now.saturating_duration_since(idle.since) < limit
        });
    }
}

/// Sends `outgoing` with `body` over an idle or a new connection and waits for the response's head.
pub(super) async fn send(
    endpoint: &Rc<Endpoint>,
    outgoing: &Outgoing<'_>,
    body: Upload,
    interim: Option<Interim>,
) -> Result<(ResponseHead, Inbound, Sender), SendError> {
    let upload = body.state();
    let limit = endpoint.upstream.settings.response_timeout;
    let Ok(request) = request(outgoing) else {
        return Err(SendError { kind: SendErrorKind::Host, unsent: Some(body) });
    };
    let mut request = request.map(|()| body);
    if interim.is_some() || upload.asked().is_some() {
        let asked = upload.asked().cloned();
        hyper::ext::on_informational(&mut request, move |response| {
            if response.status() == StatusCode::CONTINUE {
                if let Some(asked) = &asked {
                    asked.set();
                }
            } else if let Some(interim) = &interim {
                let fields = Fields::from(response.headers());
                // A full queue drops the interim response, which is advisory.
                let _ = interim.try_send(ResponseHead::new(response.status(), response.version(), fields));
            }
        });
    }
    loop {
        let (mut sender, reused) = match endpoint.http1.take(endpoint) {
            Some(sender) => (sender, true),
            None => match open(endpoint).await {
                Ok(sender) => (sender, false),
                Err(kind) => return Err(SendError { kind, unsent: Some(request.into_body()) }),
            },
        };
        let sent = match within(sender.requests.try_send_request(request), &upload, limit).await {
            Ok(sent) => sent,
            Err(kind) => return Err(SendError { kind, unsent: None }),
        };
        match sent {
            Ok(response) if has_dubious_framing(response.headers()) => {
                return Err(SendError { kind: SendErrorKind::Protocol(DUBIOUS.into()), unsent: None });
            }
            Ok(response) => {
                let head = head(&response);
                return Ok((head, Inbound::from(response.into_body()), sender));
            }
            Err(mut error) => match error.take_message() {
                // The connection had closed before a byte was written: the next one, or a new one.
                Some(unsent) if reused => request = unsent,
                unsent => {
                    let kind = classify(error.into_error());
                    return Err(SendError { kind, unsent: unsent.map(Request::into_body) });
                }
            },
        }
    }
}

/// The request as hyper has it, without its body.
fn request(outgoing: &Outgoing<'_>) -> Result<Request<()>, http::Error> {
    let mut request = Request::new(());
    let target = PathAndQuery::try_from(outgoing.target)?;
    *request.method_mut() = outgoing.head.method.clone();
    *request.uri_mut() = Uri::from(target);
    let headers = request.headers_mut();
    *headers = outgoing.head.fields.to_map();
    if let Some(host) = outgoing.host {
        headers.insert(HOST, host.clone());
    }
    if headers.contains_key(TE) {
        // What we say of this hop alone (RFC 9110 §10.1.4).
        headers.insert(CONNECTION, HeaderValue::from_static("te"));
    }
    Ok(request)
}

/// The head of a response as hyper has it.
fn head<B>(response: &Response<B>) -> ResponseHead {
    let fields = Fields::from(response.headers());
    let head = ResponseHead::new(response.status(), response.version(), fields);
    match response.extensions().get::<ReasonPhrase>() {
        Some(reason) => head.with_reason(reason.as_bytes()),
        None => head,
    }
}

/// Whether a head says two things about where its body ends, or names a coding that only the next hop undoes: passed
/// on as it is, the body would be another one (RFC 9112 §6.3).
pub fn has_dubious_framing(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else { return false };
    codings.next().is_some()
        || !coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked")
        || headers.contains_key(CONTENT_LENGTH)
}

fn classify(error: hyper::Error) -> SendErrorKind {
    if error.is_parse() || error.is_parse_status() || error.is_parse_too_large() {
        SendErrorKind::Protocol(Box::new(error) as Box<dyn Error>)
    } else {
        SendErrorKind::Reset(Box::new(error))
    }
}

async fn open(endpoint: &Rc<Endpoint>) -> Result<Sender, SendErrorKind> {
    let io = endpoint.connect(endpoint.upstream.settings.connect_timeout).await?;
    let (requests, connection) = http1::Builder::new()
        .max_header_size(MAX_RESPONSE_HEAD)
        .handshake(TokioIo::new(Tolerant::new(io)))
        .await
        .map_err(|error| SendErrorKind::Reset(Box::new(error)))?;
    endpoint.event(ConnectionEvent::Connected);
    let pooled = Rc::new(Cell::new(false));
    let (alive, dropped) = oneshot::channel();
    let sender = Sender { requests, _alive: alive, pooled: Rc::clone(&pooled) };
    let endpoint = Rc::clone(endpoint);
    super::drive(async move {
        // Its failure reaches the request that was on it.
        let _ = select(pin!(connection), dropped).await;
        let closed = if pooled.get() { ConnectionEvent::IdleClosed } else { ConnectionEvent::Closed };
        endpoint.event(closed);
    });
    Ok(sender)
}
