//! Upstreams that answer as told, over real sockets.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A response body.
pub type Body = BoxBody<Bytes, Infallible>;
type Answer = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;
type Handler = Arc<dyn Fn(Request<Incoming>) -> Answer + Send + Sync>;

/// What an upstream was asked.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The method.
    pub method: String,
    /// The request target as it came.
    pub target: String,
    /// The protocol.
    pub version: http::Version,
    /// The headers.
    pub headers: HeaderMap,
}

impl Seen {
    /// The one value of a header; empty when it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap_or("?"))
    }
}

/// An upstream over HTTP/1.1 and HTTP/2 by prior knowledge, on a port of the kernel's choice. It ends when dropped.
pub struct Upstream {
    /// Where it listens.
    pub address: SocketAddr,
    /// What it was asked, in order.
    pub seen: Arc<Mutex<Vec<Seen>>>,
    /// Connections accepted so far.
    pub connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Upstream {
    /// Answers every request with `name` in the body and in `x-upstream`, whatever is asked.
    pub async fn named(name: &'static str) -> Self {
        Self::answering(move |request| async move {
            // A body that is asked for is read, so that the connection can go on.
            let _ = request.into_body().collect().await;
            let mut response = Response::new(full(name));
            response.headers_mut().insert("x-upstream", http::HeaderValue::from_static(name));
            response
        })
        .await
    }

    /// Answers by `handler`.
    pub async fn answering<F, A>(handler: F) -> Self
    where
        F: Fn(Request<Incoming>) -> A + Send + Sync + 'static,
        A: Future<Output = Response<Body>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::on(listener, Arc::new(move |request| Box::pin(handler(request)) as Answer))
    }

    /// Answers every request with `at last`, but not before the sender says `true`.
    pub async fn gated() -> (Self, watch::Sender<bool>) {
        let (open, gate) = watch::channel(false);
        let upstream = Self::answering(move |_| {
            let mut gate = gate.clone();
            async move {
                // A sender that is gone opens too.
                let _ = gate.wait_for(|open| *open).await;
                Response::new(full("at last"))
            }
        })
        .await;
        (upstream, open)
    }

    /// Answers every request at `address` with an empty body.
    pub async fn at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        Self::on(listener, Arc::new(|_| Box::pin(async { Response::new(full("")) }) as Answer))
    }

    fn on(listener: TcpListener, handler: Handler) -> Self {
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(AtomicUsize::new(0));
        let (log, count) = (Arc::clone(&seen), Arc::clone(&connections));
        let task = tokio::spawn(async move {
            let mut serving = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                stream.set_nodelay(true).unwrap();
                let (handler, log) = (Arc::clone(&handler), Arc::clone(&log));
                let service = service_fn(move |request: Request<Incoming>| {
                    log.lock().unwrap().push(Seen {
                        method: request.method().to_string(),
                        target: request.uri().to_string(),
                        version: request.version(),
                        headers: request.headers().clone(),
                    });
                    let answer = handler(request);
                    async move { Ok::<_, Infallible>(answer.await) }
                });
                serving.spawn(async move {
                    // The peer may go at any time.
                    let mut builder = auto::Builder::new(TokioExecutor::new());
                    builder.http1().max_headers(256);
                    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { address, seen, connections, task }
    }

    /// The last request.
    pub fn last(&self) -> Seen {
        self.seen.lock().unwrap().last().expect("a request came").clone()
    }

    /// How many requests came.
    pub fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A body of these bytes.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).boxed()
}

/// An address where nobody listens.
pub fn nobody() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}
