//! A gRPC client and server, both tonic's, whose messages are bytes: what they say is the test's business, how they say
//! it is the library's.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes};
use futures_util::{Stream, StreamExt, stream};
use http::uri::PathAndQuery;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::MetadataMap;
use tonic::server::StreamingService;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Request, Response, Status, Streaming};

/// Messages as they are.
#[derive(Debug, Clone, Copy, Default)]
pub struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

/// Messages on their way.
pub type Messages = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

/// A server on a runtime of its own, so that it can be killed. `/t.T/` has these methods:
///
/// - `Echo` gives each message back at once, and says the server's name and the metadata `x-given-bin` in its head;
/// - `Sum` takes all messages and gives the number of their bytes;
/// - `Many` takes `count size` and gives so many messages of that size;
/// - `Fail` fails with the code in the message, before it has said anything; `FailLate` after one message;
/// - `Hang` never answers, `HangLate` stops after one message.
pub struct Served {
    /// Where it listens.
    pub address: SocketAddr,
    /// Calls that the client gave up, of those that hang.
    pub cancelled: Arc<AtomicUsize>,
    runtime: Option<Runtime>,
}

#[derive(Clone)]
struct Service {
    name: &'static str,
    cancelled: Arc<AtomicUsize>,
}

struct Method(Service, String);

/// Counts itself when it is dropped.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Served {
    /// A server that calls itself `name`.
    pub fn named(name: &'static str) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let cancelled = Arc::<AtomicUsize>::default();
        let service = Service { name, cancelled: Arc::clone(&cancelled) };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            let incoming = stream::unfold(listener, |listener| async {
                let accepted = listener.accept().await.map(|(stream, _)| stream);
                if let Ok(stream) = &accepted {
                    stream.set_nodelay(true).unwrap();
                }
                Some((accepted, listener))
            });
            Server::builder().serve_with_incoming(service, incoming).await.unwrap();
        });
        Self { address, cancelled, runtime: Some(runtime) }
    }

    /// Ends it and its connections at once.
    pub fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// How many of the calls that hang were given up.
    pub fn cancelled(&self) -> usize {
        self.cancelled.load(Ordering::Relaxed)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.kill();
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
        let method = Method(self.clone(), request.uri().path().to_owned());
        Box::pin(async move {
            let grpc = tonic::server::Grpc::new(Raw);
            Ok(grpc.max_decoding_message_size(usize::MAX).streaming(method, request).await)
        })
    }
}

impl StreamingService<Bytes> for Method {
    type Response = Bytes;
    type ResponseStream = Messages;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Messages>, Status>> + Send>>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        let (service, path) = (self.0.clone(), self.1.clone());
        Box::pin(async move { service.answer(&path, request).await })
    }
}

fn messages(stream: impl Stream<Item = Result<Bytes, Status>> + Send + 'static) -> Response<Messages> {
    Response::new(Box::pin(stream))
}

impl Service {
    async fn answer(
        self,
        path: &str,
        request: Request<Streaming<Bytes>>,
    ) -> Result<Response<Messages>, Status> {
        let given = request.metadata().get_bin("x-given-bin").cloned();
        let mut asked = request.into_inner();
        let hanging = Counted(Arc::clone(&self.cancelled));
        let first = Bytes::from("first");
        let answer = match path {
            "/t.T/Echo" => {
                let mut response = messages(asked);
                response.metadata_mut().insert("x-name", self.name.parse().unwrap());
                if let Some(given) = given {
                    response.metadata_mut().insert_bin("x-given-bin", given);
                }
                response
            }
            "/t.T/Sum" => {
                let mut sum = 0;
                while let Some(message) = asked.message().await? {
                    sum += message.len();
                }
                messages(stream::iter([Ok(sum.to_string().into())]))
            }
            "/t.T/Many" => {
                let text = asked.message().await?.unwrap();
                let (count, size) = std::str::from_utf8(&text).unwrap().split_once(' ').unwrap();
                let message = Bytes::from(vec![b'm'; size.parse().unwrap()]);
                messages(stream::iter(0..count.parse::<usize>().unwrap()).map(move |_| Ok(message.clone())))
            }
            "/t.T/Fail" => return Err(failure(&asked.message().await?.unwrap())),
            "/t.T/FailLate" => {
                let failure = failure(&asked.message().await?.unwrap());
                messages(stream::iter([Ok(first), Err(failure)]))
            }
            "/t.T/Hang" => std::future::pending().await,
            "/t.T/HangLate" => messages(stream::iter([Ok(first)]).chain(stream::once(async move {
                let _hanging = hanging;
                std::future::pending().await
            }))),
            _ => return Err(Status::unimplemented(path)),
        };
        Ok(answer)
    }
}

fn failure(code: &[u8]) -> Status {
    let code = std::str::from_utf8(code).unwrap().parse::<i32>().unwrap();
    Status::new(Code::from_i32(code), "as asked: 100%, ä")
}

/// A client over one connection.
#[derive(Clone)]
pub struct Caller(pub tonic::client::Grpc<Channel>);

fn path(method: &str) -> PathAndQuery {
    format!("/t.T/{method}").parse().unwrap()
}

impl Caller {
    /// Connects to `address`.
    pub async fn connect(address: SocketAddr) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        let grpc = tonic::client::Grpc::new(endpoint.connect().await.unwrap());
        Self(grpc.max_decoding_message_size(usize::MAX))
    }

    /// One message there, one back.
    pub async fn unary(&mut self, method: &str, request: Request<Bytes>) -> Result<Response<Bytes>, Status> {
        self.0.ready().await.unwrap();
        self.0.unary(request, path(method), Raw).await
    }

    /// Many messages there, one back.
    pub async fn upload(
        &mut self,
        method: &str,
        messages: impl Stream<Item = Bytes> + Send + 'static,
    ) -> Result<Response<Bytes>, Status> {
        self.0.ready().await.unwrap();
        self.0.client_streaming(Request::new(messages), path(method), Raw).await
    }

    /// One message there, many back.
    pub async fn download(
        &mut self,
        method: &str,
        request: Request<Bytes>,
    ) -> Result<Streaming<Bytes>, Status> {
        self.0.ready().await.unwrap();
        self.0.server_streaming(request, path(method), Raw).await.map(Response::into_inner)
    }

    /// Many messages both ways; those to the server go by the sender.
    pub async fn talk(
        &mut self,
        method: &str,
    ) -> Result<(mpsc::Sender<Bytes>, Streaming<Bytes>, MetadataMap), Status> {
        let (sender, receiver) = mpsc::channel(1);
        let messages = stream::unfold(receiver, |mut receiver| async {
            let message = receiver.recv().await?;
            Some((message, receiver))
        });
        self.0.ready().await.unwrap();
        let response = self.0.streaming(Request::new(messages), path(method), Raw).await?;
        let (head, messages, _) = response.into_parts();
        Ok((sender, messages, head))
    }
}
