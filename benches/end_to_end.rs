//! A request through the proxy and back, over loopback, one at a time on a kept connection: what a client sees of it,
//! beside the same request straight to the upstream. Prints, judges nothing.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a benchmark stops at the first surprise, and works on files"
)]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use hyper::client::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use weir::app::App;
use weir::types::BindAddress;

/// An upstream that answers every request with `size` bytes.
async fn upstream(size: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let body = Bytes::from(vec![b'x'; size]);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).unwrap();
            let body = body.clone();
            tokio::spawn(async move {
                let answer = service_fn(move |_| {
                    let response = Response::new(Full::new(body.clone()));
                    async move { Ok::<_, Infallible>(response) }
                });
                // The proxy closes it at the end.
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), answer)
                    .await;
            });
        }
    });
    address
}

async fn proxy(upstream: SocketAddr) -> (App, SocketAddr, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weir.yaml");
    let text = format!(
        "workers: 1\nlisteners: [{{ bind: 127.0.0.1:0 }}]\nupstreams: {{ blue: {{ endpoints: ['{upstream}'] }}, canary: {{ \
         endpoints: ['{upstream}'] }} }}\nsplits: {{ s: {{ key: [header:x-user-id], variants: [{{ name: blue }}, {{ \
         name: canary, weight: 10% }}] }} }}\nroutes: [{{ split: s }}]\n"
    );
    std::fs::write(&path, text).unwrap();
    let app = App::start(path).await.unwrap();
    let BindAddress::Tcp(address) = app.addresses().remove(0) else {
        unreachable!("a TCP address was bound")
    };
    (app, address, folder)
}

fn request(address: SocketAddr, number: u64) -> Request<Empty<Bytes>> {
    Request::get(format!("http://{address}/"))
        .header("host", address.to_string())
        .header("x-user-id", format!("user-{}", number % 10_000))
        .body(Empty::new())
        .unwrap()
}

fn end_to_end(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let mut group = criterion.benchmark_group("end_to_end");
    group.sample_size(20).measurement_time(Duration::from_secs(3));
    for size in [128, 65_536, 1_048_576] {
        group.throughput(Throughput::Bytes(size as u64));
        let direct = runtime.block_on(upstream(size));
        let (app, proxied, _folder) = runtime.block_on(proxy(direct));
        for (name, address) in [("direct", direct), ("http1", proxied)] {
            let mut send = runtime.block_on(async {
                let stream = TcpStream::connect(address).await.unwrap();
                stream.set_nodelay(true).unwrap();
                let (send, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
                tokio::spawn(connection);
                send
            });
            let mut number = 0;
            group.bench_function(BenchmarkId::new(name, size), |bencher| {
                bencher.iter(|| {
                    number += 1;
                    runtime.block_on(async {
                        send.ready().await.unwrap();
                        let response = send.send_request(request(address, number)).await.unwrap();
                        assert_eq!(response.into_body().collect().await.unwrap().to_bytes().len(), size);
                    });
                });
            });
        }
        let mut send = runtime.block_on(async {
            let stream = TcpStream::connect(proxied).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let (send, connection) =
                http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            send
        });
        let mut number = 0;
        group.bench_function(BenchmarkId::new("http2", size), |bencher| {
            bencher.iter(|| {
                number += 1;
                runtime.block_on(async {
                    send.ready().await.unwrap();
                    let response = send.send_request(request(proxied, number)).await.unwrap();
                    assert_eq!(response.into_body().collect().await.unwrap().to_bytes().len(), size);
                });
            });
        });
        drop(send);
        runtime.block_on(app.shutdown(Duration::from_secs(1)));
    }
    group.finish();
}

criterion_group!(benches, end_to_end);
criterion_main!(benches);
