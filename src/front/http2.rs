//! HTTP/2 from clients, over the h2 crate directly: 1xx responses pass, and no body is buffered beyond the windows.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use h2::server::{Builder, SendResponse};
use http::{Method, Request, Response, StatusCode};
use tokio::time::{Instant, sleep_until};

use super::accept::spawn;
use super::complete::complete;
use super::connection::Rewound;
use crate::net::{Backlog, Guarded};
use crate::proxy::headers::strip_hop_by_hop;
use crate::proxy::{self, Downstream, Failure, Worker, handle, respond};
use crate::telemetry::{ListenerId, Refused};
use crate::upstream::http2::content_length;
use crate::upstream::streaming::{Hold, send_body};
use crate::upstream::{Caller, Inbound, Interim, Sink, Upgrade};
use crate::wire::{Fields, Known, RequestHead, ResponseHead};

/// What one client may have open at once.
const MAX_STREAMS: u32 = 256;
/// What one stream may have on its way to us before we take it.
const STREAM_WINDOW: u32 = 256 * 1024;
/// What a connection may have on its way to us.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// How much of a response may wait inside the library for the socket, a stream.
const SEND_BUFFER: usize = 256 * 1024;
/// How long a client without streams may take, once it drains, for a last request and to answer that it has heard.
const LAST: Duration = Duration::from_secs(2);
/// How long an idle client may take to answer that it has heard of the end.
const GRACE: Duration = Duration::from_secs(1);

/// How many streams are open, and since when there are none.
#[derive(Debug)]
struct Activity {
    streams: Cell<usize>,
    idle_since: Cell<Instant>,
}

/// One open stream, for as long as it lives.
struct Open(Rc<Activity>);

impl Open {
    fn new(activity: &Rc<Activity>) -> Self {
        activity.streams.set(activity.streams.get() + 1);
        Self(Rc::clone(activity))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.streams.set(self.0.streams.get().saturating_sub(1));
        self.0.idle_since.set(Instant::now());
    }
}

/// Serves an HTTP/2 connection until it ends, is idle for too long, or drains.
pub(super) async fn serve(worker: &Rc<Worker>, io: Rewound, downstream: Downstream) {
    let listener = &downstream.listener;
    let (head_limit, idle_limit) = (listener.header_timeout, listener.idle_timeout);
    let max_header = u32::try_from(listener.max_header.0).unwrap_or(u32::MAX);
    let io = Guarded::of_client(io);
    let watch = io.watch();
    let handshake = Builder::new()
        .max_concurrent_streams(MAX_STREAMS)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .max_header_list_size(max_header)
        .enable_connect_protocol()
        .handshake::<_, Bytes>(io);
    let id = downstream.id;
    let malformed = |error: &h2::Error| {
        // What the library itself bounds.
        let is_flood = error.reason() == Some(Reason::ENHANCE_YOUR_CALM);
        match error.is_library() {
            true if is_flood => flooded(worker, id, error),
            true => worker.metrics.malformed(id),
            false if error.get_io().is_some_and(|error| error.kind() == io::ErrorKind::InvalidData) => {
                worker.metrics.malformed(id);
            }
            false => {}
        }
    };
    let mut connection = match tokio::time::timeout(head_limit, handshake).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return malformed(&error),
        Err(_) => return,
    };
    let (downstream, backlog) = (Rc::new(downstream), Backlog::default());
    let activity = Rc::new(Activity { streams: Cell::new(0), idle_since: Cell::new(Instant::now()) });
    let mut waiting = downstream.drained.clone();
    let mut end = pin!(waiting.wanted());
    let (mut draining, mut told, mut patience) = (false, false, idle_limit);
    let mut timer = pin!(sleep_until(Instant::now() + idle_limit));
    loop {
        tokio::select! {
            biased;
            accepted = connection.accept() => match accepted {
                Some(Ok((request, respond))) => {
                    let (worker, downstream) = (Rc::clone(worker), Rc::clone(&downstream));
                    let (open, backlog) = (Open::new(&activity), backlog.clone());
                    spawn(async move {
                        serve_stream(&worker, &downstream, request, respond, &backlog).await;
                        drop(open);
                    });
                }
                Some(Err(error)) => return malformed(&error),
                None => return,
            },
            () = poll_fn(|_| if watch.is_flooded() { Poll::Ready(()) } else { Poll::Pending }) => {
                flooded(worker, id, "frames");
                connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                let telling = poll_fn(|cx| connection.poll_closed(cx));
                // Who does not listen is not told.
                let _ = tokio::time::timeout(GRACE, telling).await;
                return;
            }
            () = end.as_mut(), if !draining => {
                (draining, told, patience) = (true, true, LAST);
                connection.graceful_shutdown();
                let now = Instant::now();
                activity.idle_since.set(now);
                timer.as_mut().reset(now + patience);
            }
            () = timer.as_mut() => {
                let deadline = activity.idle_since.get() + patience;
                let now = Instant::now();
                if activity.streams.get() > 0 {
                    timer.as_mut().reset(now + patience);
                } else if deadline > now {
                    timer.as_mut().reset(deadline);
                } else if told {
                    // It does not even answer that it has heard.
                    return;
                } else {
                    told = true;
                    timer.as_mut().reset(now + GRACE);
                    connection.graceful_shutdown();
                }
            }
        }
    }
}

/// Counts a connection that is closed for a flood.
fn flooded(worker: &Worker, id: ListenerId, what: impl std::fmt::Display) {
    worker.metrics.refused(id, Refused::Flood);
    tracing::debug!(%what, "connection of a client that floods is closed");
}

async fn serve_stream(
    worker: &Worker,
    downstream: &Downstream,
    request: Request<h2::RecvStream>,
    mut respond: SendResponse<Bytes>,
    backlog: &Backlog,
) {
    let is_head = request.method() == Method::HEAD;
    let Some((request, wanted)) = taken(request) else {
        let failure = Failure::UpgradeUnsupported;
        worker.metrics.error(failure.code(), failure.blame());
        return answer(worker, downstream, respond, respond::failure(failure), false, backlog).await;
    };
    let caller =
        Caller { interim: Some(Interim::default()), client: downstream.client.clone(), ..Caller::default() };
    let early = caller.interim.clone().unwrap_or_default();
    let mut response = {
        let mut handling = pin!(handle(worker, downstream, request, &caller));
        loop {
            tokio::select! {
                biased;
                response = poll_fn(|cx| early.poll_next(cx)) => pass_on(&mut respond, response),
                response = handling.as_mut() => break response,
                // The client has given up: so do we.
                _ = poll_fn(|cx| respond.poll_reset(cx)) => return,
            }
        }
    };
    while let Some(response) = early.next() {
        pass_on(&mut respond, response);
    }
    match (response.tunnel.take(), wanted) {
        (Some(tunnel), Some(from_client)) => {
            let head = &mut response.head;
            complete(head, &response.body, is_head, downstream.alt_svc.as_deref());
            head.status = StatusCode::OK;
            head.fields.remove(Known::Upgrade);
            head.fields.remove("sec-websocket-accept");
            if let Ok(stream) = respond.send_response(given(head), false) {
                tunnel.run(Inbound::http2(from_client, None), Sink::Http2(stream)).await;
            }
        }
        _ => answer(worker, downstream, respond, response, is_head, backlog).await,
    }
}

/// Sends a response, whose body is given up where the client takes it too slowly, or takes nothing for longer than it may
/// be idle.
async fn answer(
    worker: &Worker,
    downstream: &Downstream,
    mut respond: SendResponse<Bytes>,
    response: proxy::Response,
    is_head: bool,
    backlog: &Backlog,
) {
    let proxy::Response { mut head, body, .. } = response;
    complete(&mut head, &body, is_head, downstream.alt_svc.as_deref());
    let end = is_head || body.is_empty();
    match respond.send_response(given(&head), end) {
        Ok(stream) if !end => {
            // Why it broke off is in the request's record; the client is told by the reset.
            let mut body = body.staying(worker, downstream);
            let hold = Hold { patience: downstream.reading(), backlog: backlog.clone() };
            let _ = send_body(&mut body, stream, Some(hold)).await;
        }
        // The stream has been reset meanwhile.
        Ok(_) | Err(_) => {}
    }
}

/// The request as the proxy has it, and what comes through the tunnel that it asks for (RFC 8441); `None` where that is
/// one of a protocol that is not passed on.
fn taken(request: Request<h2::RecvStream>) -> Option<(proxy::Request, Option<h2::RecvStream>)> {
    let (mut head, stream) = request.into_parts();
    let length = content_length(&head.headers);
    let mut upgrade = None;
    if let Some(protocol) = head.extensions.get::<h2::ext::Protocol>() {
        upgrade = Some(Upgrade::websocket()).filter(|_| protocol.as_str().eq_ignore_ascii_case("websocket"));
        // As HTTP/1.1 asks for it.
        head.method = Method::GET;
        upgrade.as_ref()?;
    }
    let mut fields = Fields::from(&head.headers);
    if upgrade.is_some() {
        // What comes is the tunnel's and no body: to an endpoint of HTTP/1.1 it would be one that never comes, and the
        // next request on the connection would be read as it.
        fields.remove(Known::ContentLength);
    }
    let head = RequestHead::new(head.method, &head.uri, head.version, fields);
    let (body, wanted) = match upgrade {
        Some(_) => (Inbound::Empty, Some(stream)),
        None => (Inbound::http2(stream, length), None),
    };
    Some((proxy::Request { head, body, upgrade }, wanted))
}

/// The head of a response as h2 has it.
fn given(head: &ResponseHead) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = head.status;
    *response.headers_mut() = head.fields.to_map();
    response
}

/// Passes a 1xx response on; 101 is not of HTTP/2.
fn pass_on(respond: &mut SendResponse<Bytes>, mut head: ResponseHead) {
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        return;
    }
    strip_hop_by_hop(&mut head.fields);
    // Advisory: a stream that is gone does not take it.
    let _ = respond.send_informational(given(&head));
}
