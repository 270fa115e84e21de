//! gRPC's health protocol, with tonic as the server: what a service says of itself, and servers that do not know it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::BodyExt;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::body::Body;
use tonic::server::UnaryService;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use super::verdict;
use crate::support::Upstream;
use crate::support::certs::Authority;
use crate::support::grpc::Raw;
use crate::support::secure::{Secure, Terms, server};

/// A server of `grpc.health.v1.Health`. It ends when dropped.
struct Health {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Health {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Clone)]
struct Service;

/// What is said of the service in the request, a message with the one field `service`.
fn answer(request: &[u8]) -> Result<Response<Bytes>, Status> {
    let service = match request {
        [] => "",
        [0x0a, length, service @ ..] if usize::from(*length) == service.len() => {
            std::str::from_utf8(service).unwrap()
        }
        _ => return Err(Status::invalid_argument("no message")),
    };
    let status = match service {
        "" | "cart.v1.Cart" => 1,
        "down" => 2,
        "odd" => 0,
        "gone" => 3,
        "secret" => return Err(Status::unauthenticated("who are you?")),
        "garbage" => return Ok(Response::new(Bytes::from_static(&[0xff; 20]))),
        _ => return Err(Status::not_found("no such service")),
    };
    Ok(Response::new(Bytes::from(vec![8, status])))
}

impl UnaryService<Bytes> for Service {
    type Response = Bytes;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Bytes>, Status>> + Send>>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        assert!(request.metadata().contains_key("grpc-timeout"), "{:?}", request.metadata());
        Box::pin(async move { answer(&request.into_inner()) })
    }
}

impl tower_service::Service<http::Request<Body>> for Service {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
        Box::pin(async move { Ok(tonic::server::Grpc::new(Raw).unary(Self, request).await) })
    }
}

impl Health {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let incoming = stream::unfold(listener, |listener| async {
            let accepted = listener.accept().await.map(|(stream, _)| stream);
            Some((accepted, listener))
        });
        let task = tokio::spawn(async move {
            Server::builder().serve_with_incoming(Service, incoming).await.unwrap();
        });
        Self { address, task }
    }
}

#[tokio::test]
async fn server_says_of_each_service_whether_it_serves() {
    let health = Health::start().await;
    for (service, expected) in [
        ("", "healthy"),
        ("cart.v1.Cart", "healthy"),
        ("down", "NOT_SERVING"),
        ("odd", "UNKNOWN"),
        ("gone", "SERVICE_UNKNOWN"),
        ("other", "gRPC status NOT_FOUND"),
        ("secret", "gRPC status UNAUTHENTICATED"),
        ("garbage", "the answer is no message of Protocol Buffers"),
    ] {
        // What the traffic speaks does not count: gRPC is spoken over HTTP/2 always.
        for protocol in ["http1", "http2"] {
            let (keys, more) = (format!("{{ grpc: '{service}' }}"), format!("protocol: {protocol}"));
            let found = verdict(&health.address.to_string(), &keys, &more).await;
            assert_eq!(found, expected, "{service:?} {protocol}");
        }
    }
}

#[tokio::test]
async fn server_that_is_no_grpc_server_is_unhealthy() {
    let plain = Upstream::named("plain").await;
    assert_eq!(verdict(&plain.address.to_string(), "{ grpc: '' }", "").await, "the answer is not gRPC");
    let error = Upstream::answering(|_| async {
        let mut response = http::Response::new(crate::support::upstream::full(""));
        *response.status_mut() = http::StatusCode::BAD_GATEWAY;
        response
    })
    .await;
    assert_eq!(verdict(&error.address.to_string(), "{ grpc: '' }", "").await, "status 502");
}

#[tokio::test]
async fn only_http2_is_offered_over_tls() {
    let (folder, ca) = (tempfile::tempdir().unwrap(), Authority::new("Test CA"));
    let path = folder.path().join("ca.pem");
    std::fs::write(&path, ca.pem()).unwrap();
    let tls = format!("tls: {{ ca: '{}' }}", path.display());
    let serving =
        Secure::answering(server(&ca.issue(&["127.0.0.1"]), Terms::default()), |request| async move {
            let asked = request.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(&asked[..], b"\0\0\0\0\x06\x0a\x04cart");
            // A trailer is a thing of tonic's; what is said in the head alone is a failure always.
            let mut response = http::Response::new(crate::support::upstream::full(""));
            let headers = response.headers_mut();
            headers.insert("content-type", http::HeaderValue::from_static("application/grpc"));
            headers.insert("grpc-status", http::HeaderValue::from_static("12"));
            response
        })
        .await;
    let found = verdict(&serving.endpoint(), "{ grpc: cart }", &tls).await;
    assert_eq!(found, "gRPC status UNIMPLEMENTED");
    assert_eq!(serving.shakes()[0].alpn.as_deref(), Some("h2"));
    let terms = Terms { alpn: &["http/1.1"], ..Terms::default() };
    let old = Secure::named("old", server(&ca.issue(&["127.0.0.1"]), terms)).await;
    let found = verdict(&old.endpoint(), "{ grpc: '' }", &tls).await;
    assert!(found.starts_with("TLS: "), "{found}");
}
