//! WebSocket peers over either protocol: an endpoint that echoes, and clients.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use h2::ext::Protocol;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};

/// Bytes both ways.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A WebSocket over whatever carries it.
pub type Socket = WebSocketStream<Box<dyn Duplex>>;

/// An endpoint that sends each message back, and closes with the code that the text `close NNNN` names.
pub struct Echo {
    /// Where it listens.
    pub address: SocketAddr,
    /// The heads of the handshakes.
    pub seen: Arc<Mutex<Vec<(Uri, HeaderMap)>>>,
    /// How each WebSocket ended: the close frame that came, if one did.
    pub ends: Arc<Mutex<Vec<Option<CloseFrame>>>>,
    task: JoinHandle<()>,
}

impl Echo {
    /// One that speaks HTTP/2 (RFC 8441) or HTTP/1.1.
    pub async fn start(is_http2: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, ends) = (Arc::default(), Arc::default());
        let (heads, closes) = (Arc::clone(&seen), Arc::clone(&ends));
        let task = tokio::spawn(async move {
            let mut serving = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (heads, closes) = (Arc::clone(&heads), Arc::clone(&closes));
                if is_http2 {
                    serving.spawn(serve_http2(stream, heads, closes));
                } else {
                    serving.spawn(serve_http1(stream, heads, closes));
                }
            }
        });
        Self { address, seen, ends, task }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type Heads = Arc<Mutex<Vec<(Uri, HeaderMap)>>>;
type Ends = Arc<Mutex<Vec<Option<CloseFrame>>>>;

async fn serve_http1(stream: TcpStream, heads: Heads, ends: Ends) {
    #[expect(clippy::result_large_err, reason = "the library's own callback")]
    let note = |request: &server::Request, mut response: server::Response| {
        heads.lock().unwrap().push((request.uri().clone(), request.headers().clone()));
        response.headers_mut().insert("x-upstream", http::HeaderValue::from_static("echo"));
        Ok::<_, server::ErrorResponse>(response)
    };
    let stream: Box<dyn Duplex> = Box::new(stream);
    if let Ok(socket) = tokio_tungstenite::accept_hdr_async(stream, note).await {
        echo(socket, ends).await;
    }
}

async fn serve_http2(stream: TcpStream, heads: Heads, ends: Ends) {
    let mut connection =
        h2::server::Builder::new().enable_connect_protocol().handshake::<_, Bytes>(stream).await.unwrap();
    let mut serving = tokio::task::JoinSet::new();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        assert_eq!(request.method(), Method::CONNECT);
        assert_eq!(request.extensions().get::<Protocol>().unwrap().as_str(), "websocket");
        assert!(!request.headers().contains_key("sec-websocket-key"));
        heads.lock().unwrap().push((request.uri().clone(), request.headers().clone()));
        let mut response = Response::new(());
        response.headers_mut().insert("x-upstream", http::HeaderValue::from_static("echo"));
        let send = respond.send_response(response, false).unwrap();
        let stream: Box<dyn Duplex> = Box::new(duplex(send, request.into_body()));
        let ends = Arc::clone(&ends);
        serving.spawn(async move {
            echo(WebSocketStream::from_raw_socket(stream, Role::Server, None).await, ends).await;
        });
    }
}

async fn echo(mut socket: Socket, ends: Ends) {
    let mut end = None;
    while let Some(Ok(message)) = socket.next().await {
        match message {
            Message::Text(text) if text.starts_with("close ") => {
                let code = text["close ".len()..].parse::<u16>().unwrap().into();
                // The peer may be gone.
                let _ = socket.close(Some(CloseFrame { code, reason: "as told".into() })).await;
            }
            Message::Text(_) | Message::Binary(_) => {
                if socket.send(message).await.is_err() {
                    break;
                }
            }
            Message::Close(frame) => end = frame,
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
        }
    }
    ends.lock().unwrap().push(end);
}

/// The bytes of a stream of HTTP/2, as of a socket.
fn duplex(mut send: SendStream<Bytes>, mut receive: RecvStream) -> DuplexStream {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let (mut read, mut write) = tokio::io::split(theirs);
    tokio::spawn(async move {
        while let Some(Ok(data)) = receive.data().await {
            receive.flow_control().release_capacity(data.len()).unwrap();
            if write.write_all(&data).await.is_err() {
                return;
            }
        }
        // Half closed; whoever reads may be gone.
        let _ = write.shutdown().await;
    });
    tokio::spawn(async move {
        let mut part = vec![0; 16 * 1024];
        loop {
            let count = read.read(&mut part).await.unwrap_or(0);
            if count == 0 {
                // The stream may be reset already.
                let _ = send.send_data(Bytes::new(), true);
                return;
            }
            let mut data = Bytes::copy_from_slice(&part[..count]);
            while !data.is_empty() {
                send.reserve_capacity(data.len());
                let Some(Ok(capacity)) = std::future::poll_fn(|cx| send.poll_capacity(cx)).await else {
                    return;
                };
                if send.send_data(data.split_to(capacity.min(data.len())), false).is_err() {
                    return;
                }
            }
        }
    });
    ours
}

/// Opens a WebSocket at `path` of the proxy, over HTTP/2 (RFC 8441) or HTTP/1.1; the response's head comes with it.
pub async fn connect(
    address: SocketAddr,
    is_http2: bool,
    path: &str,
    headers: &[(&'static str, &str)],
) -> Result<(Socket, HeaderMap), StatusCode> {
    if is_http2 {
        connect_http2(address, path, headers).await
    } else {
        connect_http1(address, path, headers).await
    }
}

async fn connect_http1(
    address: SocketAddr,
    path: &str,
    headers: &[(&'static str, &str)],
) -> Result<(Socket, HeaderMap), StatusCode> {
    let mut request = format!("ws://{address}{path}").into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    let stream: Box<dyn Duplex> = Box::new(TcpStream::connect(address).await.unwrap());
    match tokio_tungstenite::client_async(request, stream).await {
        Ok((socket, response)) => Ok((socket, response.headers().clone())),
        Err(tokio_tungstenite::tungstenite::Error::Http(response)) => Err(response.status()),
        Err(error) => panic!("{error}"),
    }
}

async fn connect_http2(
    address: SocketAddr,
    path: &str,
    headers: &[(&'static str, &str)],
) -> Result<(Socket, HeaderMap), StatusCode> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    super::until("extended CONNECT is offered", || async {
        sender.is_extended_connect_protocol_enabled().then_some(())
    })
    .await;
    let mut request = Request::builder().method(Method::CONNECT).uri(format!("http://{address}{path}"));
    for (name, value) in [("sec-websocket-version", "13")].iter().chain(headers) {
        request = request.header(*name, *value);
    }
    let request = request.extension(Protocol::from_static("websocket")).body(()).unwrap();
    let (response, send) = sender.send_request(request, false).unwrap();
    let response = response.await.unwrap();
    if response.status() != StatusCode::OK {
        return Err(response.status());
    }
    let headers = response.headers().clone();
    let stream: Box<dyn Duplex> = Box::new(duplex(send, response.into_body()));
    Ok((WebSocketStream::from_raw_socket(stream, Role::Client, None).await, headers))
}
