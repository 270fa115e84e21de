//! A client over one connection, in either protocol, whose bodies stream.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, Uri};
use http_body::{Body as HttpBody, Frame};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::upstream::Body;

/// A connection to the proxy.
pub struct Connection {
    sender: Sender,
    address: SocketAddr,
    driver: JoinHandle<()>,
}

enum Sender {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

impl Connection {
    /// Connects to `address`, by HTTP/2 with prior knowledge or by HTTP/1.1.
    pub async fn new(address: SocketAddr, is_http2: bool) -> Self {
        let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
        if is_http2 {
            let (sender, driver) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
            let driver = tokio::spawn(async move { drop(driver.await) });
            Self { sender: Sender::Http2(sender), address, driver }
        } else {
            let (sender, driver) = http1::handshake(io).await.unwrap();
            let driver = tokio::spawn(async move { drop(driver.await) });
            Self { sender: Sender::Http1(sender), address, driver }
        }
    }

    /// Sends a request; its target is a path.
    pub async fn send(&mut self, request: Request<Body>) -> hyper::Result<Response<Incoming>> {
        let (mut head, body) = request.into_parts();
        match &mut self.sender {
            Sender::Http1(sender) => {
                let host = self.address.to_string().parse().unwrap();
                head.headers.entry("host").or_insert(host);
                sender.ready().await?;
                sender.send_request(Request::from_parts(head, body)).await
            }
            Sender::Http2(sender) => {
                head.uri = Uri::try_from(format!("http://{}{}", self.address, head.uri)).unwrap();
                sender.ready().await?;
                sender.send_request(Request::from_parts(head, body)).await
            }
        }
    }

    /// Sends a request and collects its response: head, body, trailers.
    pub async fn exchange(&mut self, request: Request<Body>) -> (Response<()>, Bytes, HeaderMap) {
        let (head, body) = self.send(request).await.unwrap().into_parts();
        let collected = body.collect().await.unwrap();
        let trailers = collected.trailers().cloned().unwrap_or_default();
        (Response::from_parts(head, ()), collected.to_bytes(), trailers)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// No body.
pub fn empty() -> Body {
    Empty::new().boxed()
}

/// A body whose frames come through a channel; it ends when the sender is dropped.
pub fn piped() -> (mpsc::Sender<Frame<Bytes>>, Body) {
    let (sender, receiver) = mpsc::channel(1);
    (sender, Piped(receiver).boxed())
}

struct Piped(mpsc::Receiver<Frame<Bytes>>);

impl HttpBody for Piped {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.get_mut().0.poll_recv(cx).map(|frame| frame.map(Ok))
    }
}
