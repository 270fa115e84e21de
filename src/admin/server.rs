//! The small HTTP/1 server of the admin and telemetry addresses. It runs on the control thread, never on a worker.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, UnixListener};
use tracing::warn;

use super::{certificates, page};
use crate::acme::Shelf;
use crate::front::Socket;
use crate::net::{self, Drained, Io};
use crate::state::{Current, Status};
use crate::telemetry::Metrics;

/// How long a request head may take here.
const HEAD: Duration = Duration::from_secs(5);
/// How long a page may take altogether, with the time in which it is read.
const PAGE: Duration = Duration::from_secs(15);
/// How many connections are served at once; more wait.
const CONNECTIONS: usize = 64;

/// Which pages an address has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pages {
    /// `/metrics`, `/healthz`, `/readyz`.
    Telemetry,
    /// The same and `/status`.
    Admin,
}

/// What the pages are made from.
#[derive(Debug)]
pub struct Ask {
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// What serves.
    pub current: Arc<Current>,
    /// What the last change came to.
    pub status: Arc<Status>,
    /// Whether new work is taken.
    pub ready: Arc<AtomicBool>,
    /// The path of the configuration, as given.
    pub file: String,
    /// When the process began to serve.
    pub started: SystemTime,
    /// The certificates got by ACME.
    pub shelf: Arc<Shelf>,
}

/// Serves `pages` on `socket` until it drains.
pub async fn serve(socket: Socket, pages: Pages, ask: Arc<Ask>, mut drained: Drained) {
    let slots = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS));
    let listening = match socket {
        Socket::Tcp(socket) => TcpListener::from_std(socket).map(Listening::Tcp),
        Socket::Unix(socket) => UnixListener::from_std(socket).map(Listening::Unix),
    };
    let listening = match listening {
        Ok(listening) => listening,
        Err(error) => {
            warn!(%error, "admin socket cannot be polled");
            return;
        }
    };
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listening.accept() => accepted,
            () = drained.wanted() => return,
        };
        match accepted {
            Ok(io) => {
                let ask = Arc::clone(&ask);
                spawn(async move {
                    converse(io, pages, ask).await;
                    drop(slot);
                });
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

enum Listening {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listening {
    async fn accept(&self) -> std::io::Result<Io> {
        match self {
            Self::Tcp(listener) => listener.accept().await.map(|(stream, _)| Io::from(stream)),
            Self::Unix(listener) => listener.accept().await.map(|(stream, _)| Io::from(stream)),
        }
    }
}

async fn converse(io: Io, pages: Pages, ask: Arc<Ask>) {
    // No web page reaches a Unix socket.
    let by_network = matches!(io.socket(), net::Socket::Tcp(_));
    let service = service_fn(move |request: Request<Incoming>| {
        let response = answer(&request, by_network, pages, &ask);
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        // A connection is one page: who holds many open does not keep others out for long.
        .keep_alive(false)
        .serve_connection(TokioIo::new(io), service);
    // A scraper that goes away in between, or does not read, is nothing to tell.
    let _ = tokio::time::timeout(PAGE, connection).await;
}

fn answer(request: &Request<Incoming>, by_network: bool, pages: Pages, ask: &Ask) -> Response<Full<Bytes>> {
    if pages == Pages::Admin && by_network && !host_is_ours(request) {
        return text(StatusCode::FORBIDDEN, "the Host header must be an IP address or localhost\n");
    }
    let path = request.uri().path();
    let known =
        matches!(path, "/metrics" | "/healthz" | "/readyz") || (pages == Pages::Admin && path == "/status");
    if !known {
        return text(
            StatusCode::NOT_FOUND,
            "pages: /metrics /healthz /readyz, and /status on the admin address\n",
        );
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match path {
        "/metrics" => {
            ask.metrics.set_expiries(certificates::expiries(&ask.current.load(), &ask.shelf));
            match ask.metrics.encode() {
                Ok(encoded) => body(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", encoded),
                Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error}\n")),
            }
        }
        "/healthz" => text(StatusCode::OK, "ok\n"),
        "/readyz" if ask.ready.load(Ordering::Relaxed) => text(StatusCode::OK, "ready\n"),
        "/readyz" => text(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
        _ => body(StatusCode::OK, "application/json", page::status(ask)),
    }
}

/// Whether `Host` names this address as an operator would, and not by a name that a stranger may own.
fn host_is_ours(request: &Request<Incoming>) -> bool {
    let Some(host) = request.headers().get(HOST).and_then(|host| host.to_str().ok()) else {
        return request.version() == http::Version::HTTP_10;
    };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

fn text(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    body(status, "text/plain; charset=utf-8", text.as_bytes().to_vec())
}

fn body(status: StatusCode, kind: &'static str, bytes: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(bytes)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[expect(
    clippy::disallowed_methods,
    reason = "the named worker of admin connections; bounded by the semaphore"
)]
fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(task);
}
