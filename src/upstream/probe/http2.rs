//! A check over HTTP/2: a connection, and one stream on it.

use std::pin::pin;

use bytes::{Buf, Bytes};
use h2::RecvStream;
use h2::client::{self, SendRequest};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request as Head, Response, Uri, Version};
use tokio::io::{AsyncRead, AsyncWrite};

use super::target::Request;
use super::{Failure, MAX_BODY};

/// What an endpoint may send before we have looked at it.
const WINDOW: u32 = 64 * 1024;
/// The largest head.
const MAX_HEAD: u32 = 64 * 1024;

/// Sends `request` and reads the answer.
pub(super) async fn ask<T>(io: T, request: &Request<'_>) -> Result<(), Failure>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let mut fields = HeaderMap::new();
    for (name, value) in request.fields() {
        fields.append(name, value.clone());
    }
    let http = request.http;
    let head = head(&http.method, request.scheme, request.host, &http.path, fields)?;
    let expects_none = http.method == Method::HEAD;
    exchange(io, head, None, async |response: Response<RecvStream>| {
        if !http.expects(response.status()) {
            return Err(Failure::Status(response.status()));
        }
        let (_, is_whole, body) = read(response.into_body(), MAX_BODY).await?;
        // To HEAD there is no answer but the head.
        if expects_none && !(is_whole && body.is_empty()) {
            return Err(Failure::NotHttp);
        }
        request.judge(&body)
    })
    .await
}

/// The head of a request.
pub(super) fn head(
    method: &Method,
    scheme: &Scheme,
    host: &HeaderValue,
    path: &PathAndQuery,
    fields: HeaderMap,
) -> Result<Head<()>, Failure> {
    // A valid configuration has no host that is none.
    let authority = Authority::try_from(host.as_bytes()).map_err(|_| Failure::NotHttp)?;
    let uri = Uri::builder().scheme(scheme.clone()).authority(authority).path_and_query(path.clone());
    let mut head = Head::new(());
    *head.method_mut() = method.clone();
    *head.uri_mut() = uri.build().map_err(|_| Failure::NotHttp)?;
    *head.version_mut() = Version::HTTP_2;
    *head.headers_mut() = fields;
    Ok(head)
}

/// Sends `head` and `body` on a new connection over `io`; what `answered` says of the answer.
pub(super) async fn exchange<T>(
    io: T,
    head: Head<()>,
    body: Option<Bytes>,
    answered: impl AsyncFnOnce(Response<RecvStream>) -> Result<(), Failure>,
) -> Result<(), Failure>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let mut builder = client::Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_header_list_size(MAX_HEAD);
    let (sender, connection) = builder.handshake(io).await.map_err(Failure::of_http2)?;
    let mut connection = pin!(connection);
    let verdict = {
        let mut asking = pin!(asked(sender, head, body, answered));
        tokio::select! {
            biased;
            verdict = &mut asking => verdict,
            // What came before its end may still be all that was asked for.
            ended = &mut connection => match (asking.await, ended) {
                (Err(_), Err(error)) => return Err(Failure::of_http2(error)),
                (verdict, _) => return verdict,
            },
        }
    };
    // Nobody holds it any more: it says so to the endpoint, and ends.
    let _ = connection.await;
    verdict
}

async fn asked(
    sender: SendRequest<Bytes>,
    head: Head<()>,
    body: Option<Bytes>,
    answered: impl AsyncFnOnce(Response<RecvStream>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut sender = sender.ready().await.map_err(Failure::of_http2)?;
    let (response, mut stream) = sender.send_request(head, body.is_none()).map_err(Failure::of_http2)?;
    if let Some(body) = body {
        // It is below every window that there is.
        stream.send_data(body, true).map_err(Failure::of_http2)?;
    }
    answered(response.await.map_err(Failure::of_http2)?).await
}

/// Reads `body` to its end, or to `most` bytes; whether it ended is said, and what is left of it given back.
pub(super) async fn read(mut body: RecvStream, most: usize) -> Result<(RecvStream, bool, Vec<u8>), Failure> {
    let mut read = Vec::new();
    while read.len() < most {
        let Some(data) = body.data().await else { return Ok((body, true, read)) };
        let data = data.map_err(Failure::of_http2)?;
        // It has been taken.
        let _ = body.flow_control().release_capacity(data.len());
        read.extend_from_slice(data.chunk());
    }
    Ok((body, false, read))
}
