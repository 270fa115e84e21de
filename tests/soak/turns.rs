//! What a client of each kind does at a time: it comes, asks, checks what it gets, and goes.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::{SinkExt, StreamExt};
use http::{Method, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::Message;

use crate::clients::{Place, Tally};
use crate::endpoint::{EVENT, EVENTS, LARGE};

/// A kind of client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// HTTP/1.1 on a kept connection.
    Kept,
    /// HTTP/1.1 on a connection for each request.
    New,
    /// HTTP/1.1 by TLS.
    Secure,
    /// HTTP/2 by TLS, some requests at once.
    Streams,
    /// HTTP/3.
    #[cfg(feature = "http3")]
    Http3,
    /// Calls as of gRPC, over HTTP/2 in the clear.
    Calls,
    /// A WebSocket.
    WebSocket,
    /// A stream of events.
    Events,
    /// Uploads.
    Uploads,
    /// Downloads by one that is slow to read.
    Slow,
    /// Whatever is broken off.
    Aborts,
    /// One that comes, says nothing and goes.
    Silent,
    /// What there is no route for.
    Astray,
}

/// Every kind.
pub const KINDS: &[Kind] = &[
    Kind::Kept,
    Kind::New,
    Kind::Secure,
    Kind::Streams,
    #[cfg(feature = "http3")]
    Kind::Http3,
    Kind::Calls,
    Kind::WebSocket,
    Kind::Events,
    Kind::Uploads,
    Kind::Slow,
    Kind::Aborts,
    Kind::Silent,
    Kind::Astray,
];

/// Between two requests.
const REST: Duration = Duration::from_millis(20);
/// Bytes of an upload.
const UPLOAD: usize = 200_000;

type Body = BoxBody<Bytes, Infallible>;
type Outcome = Result<(), String>;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// What the client does at a time.
pub async fn turn(kind: Kind, place: &Place, tally: &Tally) {
    let prefix = place.prefix;
    let outcome = match kind {
        Kind::Kept => serially(Line::http1(place.plain, None).await, 30, prefix, tally).await,
        Kind::New => serially(Line::http1(place.plain, None).await, 1, prefix, tally).await,
        Kind::Secure => serially(Line::http1(place.secure, Some(&place.http1)).await, 5, prefix, tally).await,
        Kind::Streams => streams(place, tally).await,
        #[cfg(feature = "http3")]
        Kind::Http3 => crate::http3::turn(place, tally).await,
        Kind::Calls => calls(place, tally).await,
        Kind::WebSocket => web_socket(place).await,
        Kind::Events => {
            let expected = EVENT.repeat(EVENTS);
            once(place, get(&format!("{prefix}/events")), expected.as_bytes()).await
        }
        Kind::Uploads => {
            let body = Full::new(Bytes::from(vec![b'x'; UPLOAD])).boxed();
            let request = request(Method::POST, &format!("{prefix}/upload"), body);
            once(place, request, UPLOAD.to_string().as_bytes()).await
        }
        Kind::Slow => slow(place).await,
        Kind::Aborts => abort(place).await,
        Kind::Silent => silent(place).await,
        Kind::Astray => astray(place).await,
    };
    tally.note(outcome);
}

enum Sender {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

/// A connection; it ends when dropped.
struct Line {
    sender: Sender,
    address: SocketAddr,
    _driver: tokio::task::JoinSet<()>,
}

impl Line {
    async fn http1(address: SocketAddr, tls: Option<&Arc<ClientConfig>>) -> Result<Self, String> {
        let (sender, driver) =
            http1::handshake(TokioIo::new(open(address, tls).await?)).await.map_err(says)?;
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(async move { drop(driver.await) });
        Ok(Self { sender: Sender::Http1(sender), address, _driver: tasks })
    }

    async fn http2(address: SocketAddr, tls: Option<&Arc<ClientConfig>>) -> Result<Self, String> {
        let io = TokioIo::new(open(address, tls).await?);
        let (sender, driver) = http2::handshake(TokioExecutor::new(), io).await.map_err(says)?;
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(async move { drop(driver.await) });
        Ok(Self { sender: Sender::Http2(sender), address, _driver: tasks })
    }

    async fn send(&mut self, mut request: Request<Body>) -> Result<Response<Incoming>, String> {
        match &mut self.sender {
            Sender::Http1(sender) => {
                request.headers_mut().insert("host", "shop.test".parse().unwrap());
                sender.ready().await.map_err(says)?;
                sender.send_request(request).await.map_err(says)
            }
            Sender::Http2(sender) => {
                *request.uri_mut() = format!("http://{}{}", self.address, request.uri()).parse().unwrap();
                // A clone, so that others may be sent meanwhile.
                sender.clone().send_request(request).await.map_err(says)
            }
        }
    }
}

async fn open(address: SocketAddr, tls: Option<&Arc<ClientConfig>>) -> Result<Box<dyn Stream>, String> {
    let stream = TcpStream::connect(address).await.map_err(says)?;
    stream.set_nodelay(true).map_err(says)?;
    let Some(tls) = tls else { return Ok(Box::new(stream)) };
    let name = "shop.test".try_into().unwrap();
    Ok(Box::new(TlsConnector::from(Arc::clone(tls)).connect(name, stream).await.map_err(says)?))
}

/// An error with its causes; without names of its own, so that the same ones are counted together.
pub fn says(error: impl std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn request(method: Method, path: &str, body: Body) -> Request<Body> {
    let user = fastrand::u16(..).to_string();
    Request::builder().method(method).uri(path).header("x-user", user).body(body).unwrap()
}

fn get(path: &str) -> Request<Body> {
    request(Method::GET, path, Full::default().boxed())
}

/// Passes when this is a 200 with this body, and trailers that say so where it is a call.
async fn check(response: Response<Incoming>, expected: &[u8], is_call: bool) -> Outcome {
    if response.status() != 200 {
        let code = response.headers().get("x-weir-error").map_or("", |code| code.to_str().unwrap());
        return Err(format!("{} {code}", response.status().as_u16()));
    }
    let body = response.into_body().collect().await.map_err(|_| "broke off".to_owned())?;
    let status = body.trailers().and_then(|trailers| trailers.get("grpc-status")).cloned();
    if is_call && status.as_ref().is_none_or(|status| status != "0") {
        return Err(format!("grpc-status {status:?}"));
    }
    if body.to_bytes() == expected { Ok(()) } else { Err("another body".to_owned()) }
}

/// Some requests, one behind the other; the last is for the caller to tell.
async fn serially(line: Result<Line, String>, count: usize, prefix: &str, tally: &Tally) -> Outcome {
    let mut line = line?;
    for number in 1..=count {
        let response = line.send(get(&format!("{prefix}/hello"))).await?;
        let outcome = check(response, b"hello", false).await;
        if number == count || outcome.as_ref().is_err_and(|what| what == "broke off") {
            return outcome;
        }
        tally.note(outcome);
        tokio::time::sleep(REST).await;
    }
    Ok(())
}

async fn streams(place: &Place, tally: &Tally) -> Outcome {
    let mut line = Line::http2(place.secure, Some(&place.http2)).await?;
    for _ in 0..5 {
        let Sender::Http2(sender) = &mut line.sender else { return Err("no HTTP/2".to_owned()) };
        let asking = (0..4).map(|_| {
            let (mut sender, mut request) = (sender.clone(), get(&format!("{}/hello", place.prefix)));
            *request.uri_mut() = format!("https://shop.test{}", request.uri()).parse().unwrap();
            async move { check(sender.send_request(request).await.map_err(says)?, b"hello", false).await }
        });
        join_all(asking).await.into_iter().for_each(|outcome| tally.note(outcome));
        tokio::time::sleep(REST).await;
    }
    let response = line.send(get(&format!("{}/large", place.prefix))).await?;
    check(response, &vec![b'x'; LARGE], false).await
}

async fn calls(place: &Place, tally: &Tally) -> Outcome {
    let mut line = Line::http2(place.plain, None).await?;
    for _ in 0..5 {
        let message = Bytes::from_static(b"\0\0\0\0\x05hello");
        let mut call = request(Method::POST, "/calls/call", Full::new(message.clone()).boxed());
        call.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
        call.headers_mut().insert("te", "trailers".parse().unwrap());
        let response = line.send(call).await?;
        tally.note(check(response, &message, true).await);
        tokio::time::sleep(REST).await;
    }
    Ok(())
}

/// One request on a connection of its own.
async fn once(place: &Place, request: Request<Body>, expected: &[u8]) -> Outcome {
    let mut line = Line::http1(place.plain, None).await?;
    check(line.send(request).await?, expected, false).await
}

async fn web_socket(place: &Place) -> Outcome {
    let stream = open(place.plain, None).await?;
    let url = format!("ws://shop.test{}/echo", place.prefix);
    let (mut socket, _) = tokio_tungstenite::client_async(url, stream).await.map_err(|error| {
        use tokio_tungstenite::tungstenite::Error;
        let Error::Http(response) = error else { return says(error) };
        let code = response.headers().get("x-weir-error").map_or("", |code| code.to_str().unwrap());
        format!("{} {code}", response.status().as_u16())
    })?;
    for number in 0..10 {
        let text = Message::text(format!("message {number}"));
        socket.send(text.clone()).await.map_err(|_| "broke off".to_owned())?;
        match socket.next().await {
            Some(Ok(answer)) if answer == text => {}
            // The endpoint has gone.
            None | Some(Err(_) | Ok(Message::Close(_))) => return Err("broke off".to_owned()),
            Some(Ok(_)) => return Err("another message".to_owned()),
        }
        tokio::time::sleep(REST).await;
    }
    // The answer to it may be cut short.
    let _ = socket.close(None).await;
    Ok(())
}

/// A download by pieces, with a pause before each.
async fn slow(place: &Place) -> Outcome {
    let mut line = Line::http1(place.plain, None).await?;
    let response = line.send(get(&format!("{}/large", place.prefix))).await?;
    if response.status() != 200 {
        return check(response, b"", false).await;
    }
    let (mut body, mut length) = (response.into_body(), 0);
    while let Some(frame) = body.frame().await {
        length += frame.map_err(|_| "broke off".to_owned())?.data_ref().map_or(0, Bytes::len);
        tokio::time::sleep(REST / 2).await;
    }
    if length == LARGE { Ok(()) } else { Err("another body".to_owned()) }
}

/// Goes in the midst of a head, of a body, or of an answer; with a FIN or a RST.
async fn abort(place: &Place) -> Outcome {
    let mut stream = TcpStream::connect(place.plain).await.map_err(says)?;
    let prefix = place.prefix;
    let said = match fastrand::u8(..3) {
        0 => format!("GET {prefix}/hel"),
        1 => {
            format!("POST {prefix}/upload HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\nthe beginning")
        }
        _ => format!("GET {prefix}/large HTTP/1.1\r\nhost: a\r\n\r\n"),
    };
    stream.write_all(said.as_bytes()).await.map_err(says)?;
    let mut part = [0; 1000];
    if said.ends_with("\r\n\r\n") && stream.read(&mut part).await.map_err(says)? == 0 {
        return Err("closed".to_owned());
    }
    tokio::time::sleep(REST).await;
    if fastrand::bool() {
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).map_err(says)?;
    }
    Ok(())
}

async fn silent(place: &Place) -> Outcome {
    let stream = TcpStream::connect(place.plain).await.map_err(says)?;
    tokio::time::sleep(REST * 10).await;
    drop(stream);
    Ok(())
}

async fn astray(place: &Place) -> Outcome {
    let mut line = Line::http1(place.plain, None).await?;
    let response = line.send(get("/nowhere")).await?;
    if response.status() == 404 { Ok(()) } else { Err(format!("{} for no route", response.status())) }
}
