//! A request's stream: its head is checked as HTTP/3 wants it, its response sent.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use h3::error::{Code, StreamError};
use h3::server::{RequestResolver, RequestStream};
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use tokio::time::timeout;

use crate::front::complete::complete;
use crate::net::quic::{Connection, RecvStream, SendStream, Unended};
use crate::proxy::headers::strip_hop_by_hop;
use crate::proxy::{self, Downstream, Worker, handle};
use crate::upstream::http2::content_length;
use crate::upstream::http3::{Http3Body, send_body};
use crate::upstream::{Caller, Inbound, Interim};
use crate::wire::{Fields, RequestHead, ResponseHead};

/// How a stream fared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fared {
    /// The client has got an answer.
    Answered,
    /// The client gave it up before that.
    GivenUp,
    /// It never became a request.
    Stillborn,
}

/// Serves the request that `resolver` gets; `settled` tells when the client has all of the response, or wants no more.
pub(super) async fn serve(
    worker: &Worker,
    downstream: &Downstream,
    resolver: RequestResolver<Connection, Bytes>,
    unended: Unended,
    mut settled: Pin<Box<impl Future<Output = bool>>>,
) -> Fared {
    // h3 itself answers a head that is too large, and lets go of the stream.
    unended.is_whole_or(Code::H3_REQUEST_INCOMPLETE);
    let taken = timeout(downstream.listener.header_timeout, resolver.resolve_request()).await;
    let (request, stream) = match taken {
        Ok(Ok(taken)) => taken,
        Ok(Err(error)) => return unresolved(worker, downstream, &error),
        Err(_) => return Fared::Stillborn,
    };
    unended.is_reset(Code::H3_INTERNAL_ERROR);
    let (mut respond, mut stream) = stream.split();
    if !is_well_formed(&request) {
        worker.metrics.malformed(downstream.id);
        stream.stop_sending(Code::H3_MESSAGE_ERROR);
        respond.stop_stream(Code::H3_MESSAGE_ERROR);
        return Fared::GivenUp;
    }
    let is_head = request.method() == Method::HEAD;
    let request = translated(request, stream, downstream.listener.header_timeout).await;
    let caller =
        Caller { interim: Some(Interim::default()), client: downstream.client.clone(), ..Caller::default() };
    let early = caller.interim.clone().unwrap_or_default();
    let response = {
        let mut handling = std::pin::pin!(handle(worker, downstream, request, &caller));
        loop {
            tokio::select! {
                biased;
                response = poll_fn(|cx| early.poll_next(cx)) => pass_on(&mut respond, response).await,
                response = handling.as_mut() => break response,
                // The client has given up: so do we.
                _ = settled.as_mut() => {
                    respond.stop_stream(Code::H3_REQUEST_CANCELLED);
                    return Fared::GivenUp;
                }
            }
        }
    };
    while let Some(response) = early.next() {
        pass_on(&mut respond, response).await;
    }
    let patience = downstream.listener.idle_timeout;
    if !answer(worker, downstream, &mut respond, response, is_head, settled.as_mut()).await {
        return Fared::GivenUp;
    }
    // A connection that is closed takes with it what is still on its way.
    let _ = timeout(patience, settled).await;
    Fared::Answered
}

/// Counts a stream that never became a request.
fn unresolved(worker: &Worker, downstream: &Downstream, error: &StreamError) -> Fared {
    if let StreamError::StreamError { code: Code::H3_MESSAGE_ERROR, .. } = error {
        worker.metrics.malformed(downstream.id);
    }
    Fared::Stillborn
}

/// Sends a response; true when the client has been told all of it.
async fn answer(
    worker: &Worker,
    downstream: &Downstream,
    stream: &mut RequestStream<SendStream, Bytes>,
    response: proxy::Response,
    is_head: bool,
    settled: Pin<&mut impl Future>,
) -> bool {
    let proxy::Response { mut head, body, .. } = response;
    let patience = downstream.listener.idle_timeout;
    complete(&mut head, &body, is_head, None);
    let is_over = is_head || body.is_empty();
    let sending = async {
        stream.send_response(given(&head)).await?;
        if is_over { stream.finish().await } else { Ok(()) }
    };
    if let Ok(Ok(())) = timeout(patience, sending).await {
        // Why it broke off is in the request's record; the client is told by the reset.
        if is_over {
            return true;
        }
        let mut body = body.staying(worker, downstream);
        return send_body(&mut body, stream, settled, downstream.reading()).await.is_ok();
    }
    stream.stop_stream(Code::H3_INTERNAL_ERROR);
    false
}

/// Whether the head is one of HTTP/3, as far as h3 does not look (RFC 9114 §4.2, §4.3.1).
fn is_well_formed(request: &Request<()>) -> bool {
    let headers = request.headers();
    let of_connection = [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE]
        .iter()
        .any(|name| headers.contains_key(name))
        || headers.contains_key("keep-alive")
        || headers.contains_key("proxy-connection");
    let te_is_plain = headers.get_all(header::TE).iter().all(|te| te.as_bytes() == b"trailers");
    let uri = request.uri();
    let target_is_whole = if request.method() == Method::CONNECT {
        uri.scheme().is_none() && uri.path_and_query().is_none()
    } else {
        uri.scheme().is_some() && (uri.path().starts_with('/') || uri.path() == "*")
    };
    !of_connection && te_is_plain && target_is_whole && lengths_agree(headers)
}

/// Whether all lengths that a head tells are one.
fn lengths_agree(headers: &HeaderMap) -> bool {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let first = lengths.next();
    first.is_none_or(|first| content_length(headers).is_some() && lengths.all(|other| other == first))
}

/// The request as the proxy has it.
async fn translated(
    request: Request<()>,
    stream: RequestStream<RecvStream, Bytes>,
    patience: Duration,
) -> proxy::Request {
    let (head, ()) = request.into_parts();
    let length = content_length(&head.headers);
    let mut body = Http3Body::new(stream, length);
    // Whether there is a body is said by the end of the stream alone. Where there is none as a rule it is waited for:
    // else an endpoint that speaks HTTP/1 gets an empty body in chunks.
    let is_bodiless = length.is_none()
        && matches!(
            head.method,
            Method::GET | Method::HEAD | Method::OPTIONS | Method::DELETE | Method::TRACE | Method::CONNECT
        );
    let limit = if is_bodiless { patience } else { Duration::ZERO };
    let _ = timeout(limit, body.begin()).await;
    let body = if body.is_empty() { Inbound::Empty } else { Inbound::Http3(Box::new(body)) };
    let fields = Fields::from(&head.headers);
    let head = RequestHead::new(head.method, &head.uri, head.version, fields);
    proxy::Request { head, body, upgrade: None }
}

/// The head of a response as h3 has it.
fn given(head: &ResponseHead) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = head.status;
    *response.headers_mut() = head.fields.to_map();
    response
}

/// Passes a 1xx response on; 101 is not of HTTP/3.
async fn pass_on(stream: &mut RequestStream<SendStream, Bytes>, mut head: ResponseHead) {
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        return;
    }
    strip_hop_by_hop(&mut head.fields);
    // Advisory: a stream that is gone does not take it.
    let _ = stream.send_response(given(&head)).await;
}
