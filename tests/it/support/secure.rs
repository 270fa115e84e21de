//! Upstreams that speak TLS, over real sockets, and what they saw of each handshake.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use http::{Request, Response, Version};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ALL_VERSIONS, HandshakeKind, ProtocolVersion, RootCertStore, ServerConfig, SupportedProtocolVersion,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::certs::{Authority, Leaf};
use super::until;
use super::upstream::{Body, full};

/// What an upstream saw of a handshake that succeeded.
#[derive(Debug, Clone, PartialEq)]
pub struct Shake {
    /// Whether a former session was resumed.
    pub is_resumed: bool,
    /// The version.
    pub version: ProtocolVersion,
    /// The protocol chosen by ALPN.
    pub alpn: Option<String>,
    /// The name asked for.
    pub name: Option<String>,
    /// Whether the client showed a certificate.
    pub has_certificate: bool,
}

/// An upstream that speaks TLS and, by what ALPN or the first bytes say, HTTP/1.1 or HTTP/2. It ends when dropped.
pub struct Secure {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its handshakes, in order; what failed is an error.
    pub shakes: Arc<Mutex<Vec<Result<Shake, String>>>>,
    /// The versions of the requests, in order, and whether their scheme was `https`; HTTP/1 does not tell.
    pub seen: Arc<Mutex<Vec<(Version, bool)>>>,
    task: JoinHandle<()>,
}

/// What a server is made with.
#[derive(Clone, Copy)]
pub struct Terms<'a> {
    /// The protocols of its ALPN, in its order; none: it knows no ALPN.
    pub alpn: &'a [&'a str],
    /// Its versions.
    pub versions: &'a [&'static SupportedProtocolVersion],
    /// Whose certificates clients must have.
    pub clients: Option<&'a Authority>,
}

impl Default for Terms<'_> {
    fn default() -> Self {
        Self { alpn: &["h2", "http/1.1"], versions: ALL_VERSIONS, clients: None }
    }
}

/// A server's TLS.
pub fn server(leaf: &Leaf, terms: Terms<'_>) -> ServerConfig {
    let provider = Arc::new(default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_protocol_versions(terms.versions).unwrap();
    let builder = match terms.clients {
        Some(clients) => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(clients.pem().as_bytes()).unwrap()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
        None => builder.with_no_client_auth(),
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(leaf.cert.as_bytes()).collect();
    let key = PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).unwrap();
    let mut config = builder.with_single_cert(chain.unwrap(), key).unwrap();
    config.alpn_protocols = terms.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    config
}

impl Secure {
    /// Answers every request with `name`.
    pub async fn named(name: &'static str, config: ServerConfig) -> Self {
        Self::answering(config, move |request| async move {
            // A body that is asked for is read, so that the connection can go on.
            let _ = request.into_body().collect().await;
            Response::new(full(name))
        })
        .await
    }

    /// Answers every request at `address` with `name`.
    pub async fn at(address: SocketAddr, name: &'static str, config: ServerConfig) -> Self {
        // A former one there may be on its way out.
        let listener = until("the address is free", || async { TcpListener::bind(address).await.ok() }).await;
        Self::serving(listener, config, move |_| async move { Response::new(full(name)) })
    }

    /// Answers by `handler`.
    pub async fn answering<F, A>(config: ServerConfig, handler: F) -> Self
    where
        F: Fn(Request<Incoming>) -> A + Send + Sync + 'static,
        A: Future<Output = Response<Body>> + Send + 'static,
    {
        Self::serving(free().await, config, handler)
    }

    fn serving<F, A>(listener: TcpListener, config: ServerConfig, handler: F) -> Self
    where
        F: Fn(Request<Incoming>) -> A + Send + Sync + 'static,
        A: Future<Output = Response<Body>> + Send + 'static,
    {
        let (handler, seen) = (Arc::new(handler), Arc::new(Mutex::new(Vec::new())));
        let log = Arc::clone(&seen);
        let serve = move |stream| {
            let (handler, log) = (Arc::clone(&handler), Arc::clone(&log));
            async move {
                let service = service_fn(move |request: Request<Incoming>| {
                    let is_https = request.uri().scheme_str() == Some("https");
                    log.lock().unwrap().push((request.version(), is_https));
                    let answer = handler(request);
                    async move { Ok::<_, Infallible>(answer.await) }
                });
                // The peer may go at any time.
                let builder = auto::Builder::new(TokioExecutor::new());
                let _ = builder.serve_connection(TokioIo::new(stream), service).await;
            }
        };
        let mut upstream = Self::on(listener, config, serve);
        upstream.seen = seen;
        upstream
    }

    /// Does `script` with each connection whose handshake succeeded.
    pub async fn scripted<F, A>(config: ServerConfig, script: F) -> Self
    where
        F: Fn(TlsStream<TcpStream>) -> A + Send + Sync + 'static,
        A: Future<Output = ()> + Send + 'static,
    {
        Self::on(free().await, config, script)
    }

    fn on<F, A>(listener: TcpListener, config: ServerConfig, script: F) -> Self
    where
        F: Fn(TlsStream<TcpStream>) -> A + Send + Sync + 'static,
        A: Future<Output = ()> + Send + 'static,
    {
        let address = listener.local_addr().unwrap();
        let shakes = Arc::new(Mutex::new(Vec::new()));
        let (acceptor, script, log) =
            (TlsAcceptor::from(Arc::new(config)), Arc::new(script), Arc::clone(&shakes));
        let task = tokio::spawn(async move {
            let mut serving = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                let (acceptor, script, log) = (acceptor.clone(), Arc::clone(&script), Arc::clone(&log));
                serving.spawn(async move {
                    match acceptor.accept(stream).await {
                        Ok(stream) => {
                            log.lock().unwrap().push(Ok(shake(&stream)));
                            script(stream).await;
                        }
                        Err(error) => log.lock().unwrap().push(Err(error.to_string())),
                    }
                });
            }
        });
        Self { address, shakes, seen: Arc::default(), task }
    }

    /// The handshakes that succeeded.
    pub fn shakes(&self) -> Vec<Shake> {
        self.shakes.lock().unwrap().iter().filter_map(|shake| shake.clone().ok()).collect()
    }

    /// Its address as an endpoint.
    pub fn endpoint(&self) -> String {
        format!("https://{}", self.address)
    }
}

async fn free() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

fn shake(stream: &TlsStream<TcpStream>) -> Shake {
    let (_, session) = stream.get_ref();
    Shake {
        is_resumed: session.handshake_kind() == Some(HandshakeKind::Resumed),
        version: session.protocol_version().unwrap(),
        alpn: session.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned()),
        name: session.server_name().map(str::to_owned),
        has_certificate: session.peer_certificates().is_some_and(|chain| !chain.is_empty()),
    }
}

impl Drop for Secure {
    fn drop(&mut self) {
        self.task.abort();
    }
}
