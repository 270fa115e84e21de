//! A client over HTTP/3: that of the h3 crate over h3-quinn, or QUIC alone, for what no client says.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use h3::client::{RequestStream, SendRequest};
use h3::error::StreamError;
use h3_quinn::{BidiStream, OpenStreams};
use http::{Request, Response};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Endpoint, TransportConfig};
use tokio::time::timeout;

use super::PATIENCE;
use super::tls::{Authority, Client as TlsClient, Leaf};

/// A request's stream.
pub type Exchange = RequestStream<BidiStream<Bytes>, Bytes>;

/// A connection of HTTP/3.
pub struct Client {
    /// The connection of QUIC.
    pub connection: quinn::Connection,
    /// Where requests begin.
    pub requests: SendRequest<OpenStreams, Bytes>,
    _endpoint: Endpoint,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// The head.
    pub head: Response<()>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The status.
    pub fn status(&self) -> u16 {
        self.head.status().as_u16()
    }

    /// The body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The value of a header; empty where there is none.
    pub fn header(&self, name: &str) -> &str {
        self.head.headers().get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// An endpoint of clients that believe `authority`.
pub fn endpoint(authority: &Authority, leaf: Option<&Leaf>, transport: TransportConfig) -> Endpoint {
    let tls = TlsClient::with(authority, &[&rustls::version::TLS13], leaf).alpn(&["h3"]);
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls.config).unwrap()));
    config.transport_config(Arc::new(transport));
    let mut endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    endpoint.set_default_client_config(config);
    endpoint
}

/// A connection of QUIC that says nothing of HTTP.
pub async fn plain(authority: &Authority, address: SocketAddr, name: &str) -> (quinn::Connection, Endpoint) {
    let endpoint = endpoint(authority, None, TransportConfig::default());
    let connecting = endpoint.connect(address, name).unwrap();
    let connection = timeout(PATIENCE, connecting).await.expect("a handshake ends").unwrap();
    (connection, endpoint)
}

impl Client {
    /// Connects to `address` for `name`.
    pub async fn connect(authority: &Authority, address: SocketAddr, name: &str) -> Self {
        let endpoint = endpoint(authority, None, TransportConfig::default());
        Self::by(endpoint, address, name).await.unwrap()
    }

    /// Connects from `endpoint`, or says why not.
    pub async fn by(
        endpoint: Endpoint,
        address: SocketAddr,
        name: &str,
    ) -> Result<Self, quinn::ConnectionError> {
        let connecting = endpoint.connect(address, name).unwrap();
        let connection = timeout(PATIENCE, connecting).await.expect("a handshake ends")?;
        let made = h3::client::new(h3_quinn::Connection::new(connection.clone())).await;
        let Ok((mut driver, requests)) = made else {
            return Err(connection.closed().await);
        };
        // It ends with the connection.
        tokio::spawn(async move { poll_fn(|cx| driver.poll_close(cx)).await });
        Ok(Self { connection, requests, _endpoint: endpoint })
    }

    /// Begins a request; its target is a path, its host `shop.test`.
    pub async fn begin(&mut self, request: Request<()>) -> Result<Exchange, StreamError> {
        let (mut head, ()) = request.into_parts();
        head.uri = format!("https://shop.test{}", head.uri).parse().unwrap();
        timeout(PATIENCE, self.requests.send_request(Request::from_parts(head, ()))).await.expect("a stream")
    }

    /// Sends a request with a body and takes the answer.
    pub async fn ask(&mut self, request: Request<()>, body: impl Into<Bytes>) -> Answer {
        let what = format!("{} {}", request.method(), request.uri());
        let mut stream = self.begin(request).await.unwrap();
        let body = body.into();
        let asking = async {
            if !body.is_empty() {
                stream.send_data(body).await?;
            }
            stream.finish().await?;
            answer(&mut stream).await
        };
        let answered = timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("no answer to {what}"));
        answered.unwrap_or_else(|error| panic!("{what}: {error}"))
    }

    /// Sends a GET and takes the answer.
    pub async fn get(&mut self, path: &str) -> Answer {
        self.ask(Request::get(path).body(()).unwrap(), Bytes::new()).await
    }
}

/// Takes the answer that comes on `stream`.
pub async fn answer(stream: &mut Exchange) -> Result<Answer, StreamError> {
    let head = stream.recv_response().await?;
    let body = rest(stream).await?;
    Ok(Answer { head, body })
}

/// Takes what is left of the body.
pub async fn rest(stream: &mut Exchange) -> Result<Vec<u8>, StreamError> {
    let mut body = Vec::new();
    while let Some(mut data) = stream.recv_data().await? {
        body.extend_from_slice(&data.copy_to_bytes(data.remaining()));
    }
    Ok(body)
}

/// An integer of variable length.
pub fn number(value: u64) -> Vec<u8> {
    match value {
        0..=0x3f => vec![u8::try_from(value).unwrap()],
        0x40..=0x3fff => (0x4000 | u16::try_from(value).unwrap()).to_be_bytes().to_vec(),
        0x4000..=0x3fff_ffff => (0x8000_0000 | u32::try_from(value).unwrap()).to_be_bytes().to_vec(),
        _ => (0xc000_0000_0000_0000 | value).to_be_bytes().to_vec(),
    }
}

/// A frame.
pub fn frame(kind: u64, payload: &[u8]) -> Vec<u8> {
    [number(kind), number(payload.len() as u64), payload.to_vec()].concat()
}

/// A field as QPACK has it without any table.
pub fn literal(name: &str, value: &str) -> Vec<u8> {
    // Lengths of 3 and of 7 bits; longer ones go on in a byte.
    let length = |bits: u32, first: u8, length: usize| {
        let most = (1 << bits) - 1;
        if length < most {
            return vec![first | u8::try_from(length).unwrap()];
        }
        let mut bytes = vec![first | u8::try_from(most).unwrap()];
        let mut left = length - most;
        while left >= 128 {
            bytes.push(u8::try_from(left % 128).unwrap() | 0x80);
            left /= 128;
        }
        bytes.push(u8::try_from(left).unwrap());
        bytes
    };
    [
        length(3, 0x20, name.len()),
        name.as_bytes().to_vec(),
        length(7, 0, value.len()),
        value.as_bytes().to_vec(),
    ]
    .concat()
}

/// A HEADERS frame with these fields.
pub fn head(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = vec![0, 0];
    for (name, value) in fields {
        block.extend(literal(name, value));
    }
    frame(1, &block)
}

/// The pseudo-header fields of `GET /` and of others like it.
pub fn pseudo(method: &'static str) -> Vec<(&'static str, &'static str)> {
    vec![(":method", method), (":scheme", "https"), (":authority", "shop.test"), (":path", "/")]
}
