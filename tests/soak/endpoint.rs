//! An endpoint: `soak endpoint ADDRESS`, over HTTP/1.1 and HTTP/2. The last segment of the path says what it does.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Collected, Full, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

type Body = BoxBody<Bytes, Infallible>;

/// Bytes of `/large`.
pub const LARGE: usize = 1024 * 1024;
/// Events of `/events`.
pub const EVENTS: usize = 20;
/// What each of them is.
pub const EVENT: &str = "data: something has happened\n\n";

/// Says where it listens, and serves until it is killed.
pub async fn serve(address: SocketAddr) {
    let listener = TcpListener::bind(address).await.unwrap();
    // By the way that everything is told here.
    let told = format!("listening {}\n", listener.local_addr().unwrap());
    std::io::Write::write_all(&mut std::io::stderr(), told.as_bytes()).unwrap();
    loop {
        // Too many files at once, say: it will be better.
        let Ok((stream, _)) = listener.accept().await else { continue };
        stream.set_nodelay(true).unwrap();
        tokio::spawn(async move {
            let service = service_fn(|request| async { Ok::<_, Infallible>(answer(request).await) });
            // The proxy may go at any time.
            let builder = auto::Builder::new(TokioExecutor::new());
            let _ = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    match path.rsplit('/').next().unwrap_or_default() {
        "large" => Response::new(full(vec![b'x'; LARGE])),
        "events" => Response::new(events()),
        "upload" => {
            let length = count(request.into_body()).await;
            Response::new(full(length.to_string()))
        }
        "echo" => echo(request),
        "call" => call(request).await,
        _ => Response::new(full("hello")),
    }
}

fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).boxed()
}

async fn count(mut body: Incoming) -> usize {
    let mut length = 0;
    while let Some(Ok(frame)) = body.frame().await {
        length += frame.data_ref().map_or(0, Bytes::len);
    }
    length
}

fn events() -> Body {
    let events = futures_util::stream::unfold(0, |sent| async move {
        if sent == EVENTS {
            return None;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        Some((Ok(Frame::data(Bytes::from_static(EVENT.as_bytes()))), sent + 1))
    });
    BodyExt::boxed(StreamBody::new(events))
}

/// A call of gRPC: its message back, and a status.
async fn call(request: Request<Incoming>) -> Response<Body> {
    let message = request.into_body().collect().await.map(Collected::to_bytes).unwrap_or_default();
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let frames = [Ok(Frame::data(message)), Ok(Frame::trailers(trailers))];
    let mut response = Response::new(BodyExt::boxed(StreamBody::new(futures_util::stream::iter(frames))));
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    response
}

/// A WebSocket that sends each message back.
fn echo(mut request: Request<Incoming>) -> Response<Body> {
    let key = request.headers().get("sec-websocket-key").map(|key| derive_accept_key(key.as_bytes()));
    let mut response = Response::new(full(""));
    let Some(key) = key else {
        *response.status_mut() = StatusCode::BAD_REQUEST;
        return response;
    };
    tokio::spawn(async move {
        let Ok(upgraded) = hyper::upgrade::on(&mut request).await else { return };
        let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
        while let Some(Ok(message)) = socket.next().await {
            if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
                return;
            }
        }
    });
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert("connection", HeaderValue::from_static("upgrade"));
    headers.insert("upgrade", HeaderValue::from_static("websocket"));
    headers.insert("sec-websocket-accept", HeaderValue::from_str(&key).unwrap());
    response
}
