//! One request, said exactly as a test wants it, over either protocol; and named upstreams to send it to.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Version};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::PATIENCE;
use super::upstream::{Seen, Upstream};

/// The protocol that a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 by prior knowledge.
    Http2,
}

/// Both protocols.
pub const BOTH: [Via; 2] = [Via::Http1, Via::Http2];

/// A request: method, target, headers in order (`host` too; `shop.test` where none is given).
#[derive(Debug, Clone)]
pub struct Ask {
    method: String,
    target: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Bytes,
    from: Option<IpAddr>,
}

/// What came back.
#[derive(Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: String,
}

impl Ask {
    /// A request.
    pub fn new(method: &str, target: &str) -> Self {
        let (method, target) = (method.to_owned(), target.to_owned());
        Self { method, target, headers: Vec::new(), body: Bytes::new(), from: None }
    }

    /// GET.
    pub fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    /// One header field more.
    pub fn with(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    /// Header fields more.
    pub fn with_all(self, headers: &[(&str, &str)]) -> Self {
        headers.iter().fold(self, |ask, (name, value)| ask.with(name, value))
    }

    /// A body.
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// The client's address.
    pub fn from(mut self, address: &str) -> Self {
        self.from = Some(address.parse().unwrap());
        self
    }

    /// Sends it to `address` on a connection of its own.
    pub async fn send(&self, via: Via, address: SocketAddr) -> Reply {
        self.send_on(via, self.connect(address).await).await
    }

    /// Sends it as the first request of a connection.
    pub async fn send_on<S>(&self, via: Via, stream: S) -> Reply
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let exchange = async {
            let io = TokioIo::new(stream);
            let response = match via {
                Via::Http1 => {
                    let (mut send, driver) = hyper::client::conn::http1::handshake(io).await.unwrap();
                    let driver = tokio::spawn(driver.with_upgrades());
                    (send.send_request(self.request(via)).await, driver.abort_handle())
                }
                Via::Http2 => {
                    let made = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await;
                    let (mut send, driver) = made.unwrap();
                    let driver = tokio::spawn(driver);
                    (send.send_request(self.request(via)).await, driver.abort_handle())
                }
            };
            let (response, driver) = response;
            let (head, body) = response.unwrap_or_else(|error| panic!("{error:?}: {self:?}")).into_parts();
            let body = body.collect().await.unwrap_or_else(|error| panic!("{error:?}: {self:?}")).to_bytes();
            driver.abort();
            let body = String::from_utf8_lossy(&body).into_owned();
            Reply { status: head.status.as_u16(), headers: head.headers, body }
        };
        timeout(PATIENCE, exchange).await.unwrap_or_else(|_| panic!("no answer to {self:?}"))
    }

    /// A connection from where it is sent.
    pub async fn connect(&self, address: SocketAddr) -> TcpStream {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.unwrap();
        if let Some(from) = self.from {
            socket.bind(SocketAddr::new(from, 0)).unwrap();
        }
        socket.connect(address).await.unwrap()
    }

    fn request(&self, via: Via) -> Request<Full<Bytes>> {
        let hosts: Vec<_> = self.headers.iter().filter(|(name, _)| name == "host").collect();
        let host = hosts.first().map_or("shop.test", |(_, host)| std::str::from_utf8(host).unwrap());
        let mut request = Request::builder().method(self.method.as_str());
        request = match via {
            Via::Http1 => request.uri(&self.target).version(Version::HTTP_11).header("host", host),
            Via::Http2 => request.uri(format!("http://{host}{}", self.target)).version(Version::HTTP_2),
        };
        for (name, value) in self.headers.iter().filter(|(name, _)| name != "host") {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            request = request.header(name, HeaderValue::from_bytes(value).unwrap());
        }
        request.body(Full::new(self.body.clone())).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Reply {
    /// The one value of a header; empty when it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap_or("?"))
    }

    /// Every value of a header, in order.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers.get_all(name).iter().map(|value| value.to_str().unwrap_or("?")).collect()
    }

    /// The upstream that answered; empty when it was the proxy itself.
    pub fn upstream(&self) -> &str {
        self.header("x-upstream")
    }

    /// The status, and for an answer of the proxy itself its code.
    pub fn outcome(&self) -> String {
        match self.header("x-weir-error") {
            "" => self.status.to_string(),
            code => format!("{} {code}", self.status),
        }
    }
}

/// Upstreams, each called what it answers.
pub struct Arms(pub Vec<(&'static str, Upstream)>);

impl Arms {
    /// Upstreams of these names.
    pub async fn start(names: &[&'static str]) -> Self {
        let mut arms = Vec::new();
        for name in names {
            arms.push((*name, Upstream::named(name).await));
        }
        Self(arms)
    }

    /// The section `upstreams`.
    pub fn yaml(&self) -> String {
        let rows = self.0.iter();
        let rows = rows.map(|(name, arm)| format!("  {name}: {{ endpoints: ['{}'] }}\n", arm.address));
        format!("upstreams:\n{}", rows.collect::<String>())
    }

    /// The last request that `name` was asked.
    pub fn last(&self, name: &str) -> Seen {
        self.get(name).last()
    }

    /// The upstream called `name`.
    pub fn get(&self, name: &str) -> &Upstream {
        let found = self.0.iter().find(|(known, _)| *known == name);
        &found.unwrap_or_else(|| panic!("no upstream {name:?} answered")).1
    }
}
