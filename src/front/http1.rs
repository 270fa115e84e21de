//! HTTP/1.1 and 1.0 from clients. Framing is hyper's; how long a connection may wait is ours.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderValue, Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, sleep_until};

use super::Drained;
use super::connection::{Clock, Rewound, Waiting};
use super::guard::Guard;
use crate::proxy::{self, Downstream, Failure, Outbound, OutboundError, Worker, handle};
use crate::upstream::Inbound;
use crate::wire::{Fields, RequestHead};

/// The most header fields of a request.
const MAX_FIELDS: usize = 128;

/// Serves an HTTP/1 connection until it ends, waits too long, or drains.
pub(super) async fn serve(
    worker: &Rc<Worker>,
    mut io: Rewound,
    downstream: Downstream,
    accepted: Instant,
    drained: Drained,
) {
    let clock = Clock::new(accepted);
    io.clock = Some(Rc::clone(&clock));
    io.guard = Some(Guard::default());
    let (id, listener) = (downstream.id, Rc::new(downstream));
    let (head_limit, idle_limit) = (listener.listener.header_timeout, listener.listener.idle_timeout);
    let max_header = usize::try_from(listener.listener.max_header.0).unwrap_or(usize::MAX);
    let service = {
        let (worker, clock) = (Rc::clone(worker), Rc::clone(&clock));
        service_fn(move |request: Request<Incoming>| {
            clock.begin(request.version(), !request.body().is_end_stream());
            let (worker, downstream, clock) = (Rc::clone(&worker), Rc::clone(&listener), Rc::clone(&clock));
            async move {
                let response = handle(&worker, &downstream, taken(request), None).await;
                Ok::<_, Infallible>(given(response, clock))
            }
        })
    };
    let mut connection = http1::Builder::new()
        .max_headers(MAX_FIELDS)
        .max_header_size(max_header)
        .header_read_timeout(None)
        // A client that closes its side has gone: its request is given up at once, and costs the upstream nothing.
        .half_close(false)
        .serve_connection(TokioIo::new(io), service);
    let mut waiting = drained;
    let mut end = pin!(waiting.wanted());
    let mut draining = false;
    let mut leaving = false;
    let mut timer = pin!(sleep_until(accepted + head_limit));
    loop {
        tokio::select! {
            biased;
            ended = Pin::new(&mut connection) => {
                match ended {
                    Err(error) if error.is_parse() => worker.metrics.malformed(id),
                    // The body broke off, and the end of the connection would be its end.
                    Err(error) if error.is_user() && clock.is_old() => {
                        connection.into_parts().io.into_inner().reset();
                    }
                    Ok(()) | Err(_) => {}
                }
                return;
            }
            () = end.as_mut(), if !draining => {
                draining = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
            () = timer.as_mut() => {
                let now = Instant::now();
                match clock.deadline(head_limit, idle_limit) {
                    // Served meanwhile: look again when it could have waited long enough.
                    None => timer.as_mut().reset(now + head_limit.min(idle_limit)),
                    Some(deadline) if deadline > now => timer.as_mut().reset(deadline),
                    // The end of a response may still be on its way to a slow reader: it gets as long once more.
                    Some(_) if matches!(clock.waiting(), Waiting::Idle(_)) && !leaving => {
                        leaving = true;
                        Pin::new(&mut connection).graceful_shutdown();
                        timer.as_mut().reset(now + idle_limit);
                    }
                    Some(_) => break,
                }
            }
        }
    }
    if let Waiting::Head(_) = clock.waiting() {
        worker.metrics.error(Failure::HeaderTimeout.code(), Failure::HeaderTimeout.blame());
        let mut io = connection.into_parts().io.into_inner();
        // The client is slow or gone: what it does not take is not waited for.
        let _ = io.write_all(header_timeout().as_bytes()).await;
        let _ = io.shutdown().await;
    }
}

/// The request as the proxy has it.
fn taken(request: Request<Incoming>) -> proxy::Request {
    let (head, body) = request.into_parts();
    let fields = Fields::from(&head.headers);
    let head = RequestHead::new(head.method, &head.uri, head.version, fields);
    proxy::Request { head, body: Inbound::from(body) }
}

/// The response as hyper has it.
fn given(response: proxy::Response, clock: Rc<Clock>) -> Response<Timed> {
    let proxy::Response { head, body, close } = response;
    let mut given = Response::new(Timed { body, clock });
    *given.status_mut() = head.status;
    *given.headers_mut() = head.fields.to_map();
    if close {
        given.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if let Some(reason) = Some(head.reason()).filter(|reason| !reason.is_empty())
        && let Ok(reason) = ReasonPhrase::try_from(reason)
    {
        given.extensions_mut().insert(reason);
    }
    given
}

/// The answer to a head that never ends.
fn header_timeout() -> String {
    let failure = Failure::HeaderTimeout;
    let body = format!("408 Request Timeout: {} ({})\n", failure.sentence(), failure.code());
    format!(
        "HTTP/1.1 408 Request Timeout\r\ncontent-type: text/plain; charset=utf-8\r\nx-weir-error: {}\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{body}",
        failure.code(),
        body.len(),
    )
}

/// A response body whose end sets the connection's clock to idle.
struct Timed {
    body: Outbound,
    clock: Rc<Clock>,
}

impl Drop for Timed {
    fn drop(&mut self) {
        self.clock.set(Waiting::Idle(Instant::now()));
    }
}

impl Body for Timed {
    type Data = Bytes;
    type Error = OutboundError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, OutboundError>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
