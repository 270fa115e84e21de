//! Another reader of the same bytes: hyper, over a connection in memory. Where `wire` accepts a message, hyper has to
//! accept it and see the same one; where `wire` refuses, hyper may be more lenient.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use http::header::CONNECTION;
use http::{HeaderMap, Method, StatusCode, Version};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::rt::{Read, ReadBufCursor, Write};

use super::reading::{self, Body, End};
use crate::wire::{MAX_FIELDS, RequestHead};

/// The most polls of a connection: each makes progress, as nothing is ever waited for.
const MAX_POLLS: usize = 100_000;

/// A connection whose other side has said all it says, and listens to nothing.
struct Feed {
    bytes: Bytes,
    /// A client's peer answers when it is asked.
    is_open: bool,
}

impl Read for Feed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.is_open {
            ctx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let length = self.bytes.len().min(buffer.remaining());
        buffer.put_slice(&self.bytes.split_to(length));
        Poll::Ready(Ok(()))
    }
}

impl Write for Feed {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.is_open = true;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// What `future` comes to, by polling alone.
fn drive<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut ctx = Context::from_waker(Waker::noop());
    for _ in 0..MAX_POLLS {
        if let Poll::Ready(output) = future.as_mut().poll(&mut ctx) {
            return output;
        }
    }
    panic!("hyper waits, though all that comes is there");
}

/// Reads `incoming` to its end, and keeps what came in the body that `kept` gives access to.
async fn keep(mut incoming: Incoming, mut kept: impl FnMut(&dyn Fn(&mut Body))) {
    loop {
        match incoming.frame().await {
            None => return kept(&|body| body.is_whole = true),
            Some(Err(_)) => return,
            Some(Ok(frame)) => kept(&|body| match (frame.data_ref(), frame.trailers_ref()) {
                (Some(data), _) => body.data.extend_from_slice(data),
                (_, Some(trailers)) => body.trailers.clone_from(trailers),
                _ => {}
            }),
        }
    }
}

type Seen = (http::request::Parts, Body);

/// The requests that hyper's server finds in `bytes`, the last of them perhaps with a part of its body.
fn hyper_requests(bytes: &[u8]) -> Vec<Seen> {
    let seen: Rc<RefCell<Vec<Seen>>> = Rc::default();
    let service = hyper::service::service_fn(|request: http::Request<Incoming>| {
        let (parts, incoming) = request.into_parts();
        let mut all = seen.borrow_mut();
        let index = all.len();
        all.push((parts, Body::default()));
        let seen = Rc::clone(&seen);
        async move {
            keep(incoming, |change| change(&mut seen.borrow_mut()[index].1)).await;
            Ok::<_, Infallible>(http::Response::new(Empty::<Bytes>::new()))
        }
    });
    let mut server = hyper::server::conn::http1::Builder::new();
    server.max_headers(2 * MAX_FIELDS).half_close(true);
    let feed = Feed { bytes: Bytes::copy_from_slice(bytes), is_open: true };
    // Its own verdict is in what it saw.
    let _ = drive(server.serve_connection(feed, service));
    seen.take()
}

/// Checks that `wire` accepts no request that hyper refuses, sees the same requests with the same bodies, and finds no
/// more of them.
pub fn check_requests(bytes: &[u8]) {
    let (ours, end) = reading::requests(bytes);
    let theirs = hyper_requests(bytes);
    let text = bytes.escape_ascii();
    for (index, request) in ours.iter().enumerate() {
        let Some((parts, body)) = theirs.get(index) else {
            let is_last = index > 0 && is_last(&theirs[index - 1].0);
            assert!(is_last, "wire accepts request {index}, hyper does not: {text}");
            return;
        };
        check_head(&request.head, parts, &text.to_string());
        if request.body.is_whole || end != End::Body {
            assert_eq!(&request.body, body, "{text}");
        }
        if parts.method == Method::CONNECT {
            return;
        }
    }
    let may_see_more = !matches!(end, End::Clean | End::Waits);
    assert!(theirs.len() == ours.len() || may_see_more, "hyper finds more requests: {text}");
}

/// Whether hyper closes behind this request by itself.
fn is_last(parts: &http::request::Parts) -> bool {
    parts.version == Version::HTTP_10 || parts.headers.contains_key(CONNECTION)
}

fn check_head(ours: &RequestHead, theirs: &http::request::Parts, text: &str) {
    assert_eq!((&ours.method, ours.version), (&theirs.method, theirs.version), "{text}");
    assert_eq!(ours.fields.to_map(), theirs.headers, "{text}");
    assert_eq!(ours.authority(), theirs.uri.authority().map(http::uri::Authority::as_str), "{text}");
    // `OPTIONS` without a path is about the server, which hyper leaves to others.
    if !(ours.path() == "*" && ours.authority().is_some()) {
        assert_eq!((ours.path(), ours.query()), (theirs.uri.path(), theirs.uri.query()), "{text}");
    }
}

/// The response that hyper's client finds in `bytes`.
fn hyper_response(bytes: &[u8], method: &Method) -> Option<(StatusCode, HeaderMap, Body)> {
    let feed = Feed { bytes: Bytes::copy_from_slice(bytes), is_open: false };
    let mut client = hyper::client::conn::http1::Builder::new();
    client.max_headers(2 * MAX_FIELDS);
    drive(async {
        let (mut sender, connection) = client.handshake(feed).await.ok()?;
        let request = http::Request::builder().method(method).uri("/").body(Empty::<Bytes>::new()).ok()?;
        let exchange = async {
            let (parts, incoming) = sender.send_request(request).await.ok()?.into_parts();
            let mut body = Body::default();
            keep(incoming, |change| change(&mut body)).await;
            Some((parts.status, parts.headers, body))
        };
        let (mut exchange, mut connection) = (pin!(exchange), pin!(connection));
        let mut is_over = false;
        std::future::poll_fn(|ctx| {
            if !is_over {
                is_over = connection.as_mut().poll(ctx).is_ready();
            }
            exchange.as_mut().poll(ctx)
        })
        .await
    })
}

/// Checks that `wire` accepts no response that hyper refuses, and sees the same one.
pub fn check_response(bytes: &[u8], method: &Method) {
    let (Some((head, body)), end) = reading::response(bytes, method) else { return };
    let text = bytes.escape_ascii();
    let theirs = hyper_response(bytes, method);
    let (status, fields, their_body) = theirs.unwrap_or_else(|| panic!("hyper refuses: {text}"));
    assert_eq!((head.status, head.fields.to_map()), (status, fields), "{text}");
    if body.is_whole || end != End::Body {
        assert_eq!(body, their_body, "{text}");
    }
}
