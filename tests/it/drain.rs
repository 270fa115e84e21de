//! Responses that stream on when they have to go: a gRPC client is told by trailers, a stream of HTTP/2 is reset, a
//! connection of HTTP/1.1 closes without the last chunk; and nobody else notices.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::client::piped;
use crate::support::raw::{Client, read_head};
use crate::support::{PATIENCE, Proxy, Upstream};

/// An upstream whose responses begin with `first` and never end; a gRPC request is answered as such.
async fn endless() -> Upstream {
    Upstream::answering(|request| async move {
        let (sender, body) = piped();
        sender.send(Frame::data(Bytes::from("first"))).await.unwrap();
        // Kept for as long as the test lives.
        std::mem::forget(sender);
        let mut response = Response::new(body);
        if let Some(kind) = request.headers().get("content-type") {
            response.headers_mut().insert("content-type", kind.clone());
        }
        response
    })
    .await
}

async fn connect(proxy: &Proxy) -> h2::client::SendRequest<Bytes> {
    let stream = tokio::net::TcpStream::connect(proxy.address).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    sender
}

/// Asks for a response that streams on, and reads the beginning of it.
async fn begin(
    proxy: &Proxy,
    sender: &h2::client::SendRequest<Bytes>,
    user: &str,
    kind: &str,
) -> h2::RecvStream {
    let request = Request::post(proxy.url("/")).header("x-user-id", user).header("content-type", kind);
    let mut sender = sender.clone().ready().await.unwrap();
    let (response, _) = sender.send_request(request.body(()).unwrap(), true).unwrap();
    let mut body = tokio::time::timeout(PATIENCE, response).await.unwrap().unwrap().into_body();
    assert_eq!(body.data().await.unwrap().unwrap(), "first");
    body
}

/// How a stream ends: with trailers, or with a reset.
async fn end(mut body: h2::RecvStream) -> Result<HeaderMap, h2::Error> {
    let ending = async {
        while let Some(data) = body.data().await {
            data?;
        }
        body.trailers().await.map(Option::unwrap_or_default)
    };
    tokio::time::timeout(PATIENCE, ending).await.expect("it ends")
}

#[tokio::test]
async fn process_that_drains_ends_streams_in_the_words_of_their_protocol() {
    let upstream = endless().await;
    let proxy = Proxy::start(&format!(
        "upstreams:\n  one: {{ endpoints: ['{}'], protocol: http2 }}\nroutes:\n  - {{ upstream: one }}\n",
        upstream.address
    ))
    .await;
    let sender = connect(&proxy).await;
    let plain = begin(&proxy, &sender, "a", "text/plain").await;
    let grpc = begin(&proxy, &sender, "a", "application/grpc").await;
    let mut old = Client::connect(proxy.address).await;
    old.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    old.read_until("first").await;
    let draining = tokio::spawn(proxy.app.shutdown(Duration::from_secs(6)));
    let reset = end(plain).await.expect_err("a part is not taken for the whole");
    assert_eq!(reset.reason(), Some(h2::Reason::CANCEL), "{reset:?}");
    let trailers = end(grpc).await.expect("gRPC is told");
    assert_eq!(
        (&trailers["grpc-status"], &trailers["x-weir-error"]),
        (&"14".parse().unwrap(), &"drained".parse().unwrap())
    );
    let last = old.read_to_end().await;
    assert!(!last.contains("0\r\n\r\n"), "no last chunk: {last:?}");
    drop((sender, old));
    assert!(draining.await.unwrap(), "in time");
}

#[tokio::test]
async fn variant_that_is_taken_back_ends_its_streams_and_no_connection() {
    let (blue, green) = (endless().await, endless().await);
    let text = |rules: &str| {
        format!(
            "workers: 1\nlisteners: [{{ bind: 127.0.0.1:0 }}]\n\
             upstreams:\n  blue: {{ endpoints: ['{}'] }}\n  green: {{ endpoints: ['{}'] }}\n\
             splits:\n  main:\n    key: [header:x-user-id]\n    drain: 2s\n    \
             variants: [{{ name: blue }}, {{ name: green }}]\n    rules: {rules}\n\
             routes:\n  - {{ split: main }}\n",
            blue.address, green.address
        )
    };
    let pin = "[{ when: [{ value: header:x-user-id, in: [g] }], variant: green }]";
    let proxy = Proxy::start_whole(&text(pin)).await;
    let sender = connect(&proxy).await;
    let mut stays = begin(&proxy, &sender, "a", "text/plain").await;
    let plain = begin(&proxy, &sender, "g", "text/plain").await;
    let grpc = begin(&proxy, &sender, "g", "application/grpc").await;
    assert_eq!((blue.count(), green.count()), (1, 2));
    proxy.replace(&text("[]")).await;
    assert!(end(plain).await.is_err());
    assert_eq!(end(grpc).await.unwrap()["grpc-status"], "14");
    let again = begin(&proxy, &sender, "g", "text/plain").await;
    assert_eq!(blue.count(), 2, "the connection goes on, and the unit is the baseline's");
    drop(again);
    let next = tokio::time::timeout(Duration::from_millis(100), stays.data()).await;
    assert!(next.is_err(), "the other variant's stream lives on: {next:?}");
    assert_eq!(proxy.metric("weir_errors_total", &["code=\"drained\""]).await, 2.0);
}

/// An endpoint that sends without end, as fast as it is read.
async fn gushing() -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                read_head(&mut stream).await.unwrap();
                let head = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000000\r\n\r\n";
                stream.write_all(head).await.unwrap();
                while stream.write_all(&vec![b'x'; 64 * 1024]).await.is_ok() {}
            });
        }
    });
    address
}

#[tokio::test]
async fn response_that_never_waits_ends_with_its_variant_too() {
    let (blue, green) = (gushing().await, gushing().await);
    let text = |rules: &str| {
        format!(
            "workers: 1\nlisteners: [{{ bind: 127.0.0.1:0 }}]\n\
             upstreams:\n  blue: {{ endpoints: ['{blue}'] }}\n  green: {{ endpoints: ['{green}'] }}\n\
             splits:\n  main:\n    key: [header:x-user-id]\n    drain: 2s\n    \
             variants: [{{ name: blue }}, {{ name: green }}]\n    rules: {rules}\n\
             routes:\n  - {{ split: main }}\n"
        )
    };
    let pin = "[{ when: [{ value: header:x-user-id, in: [g] }], variant: green }]";
    let proxy = Proxy::start_whole(&text(pin)).await;
    let mut client = Client::connect(proxy.address).await;
    client.send("GET / HTTP/1.1\r\nhost: a\r\nx-user-id: g\r\n\r\n").await;
    client.read_until("\r\n\r\n").await;
    proxy.replace(&text("[]")).await;
    // It takes a little at a time, so that there is always more for it.
    let mut part = vec![0; 64 * 1024];
    let reading = async {
        while client.0.read(&mut part).await.is_ok_and(|read| read > 0) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("it ends");
    assert_eq!(proxy.metric("weir_errors_total", &["code=\"drained\""]).await, 1.0);
}

#[tokio::test]
async fn client_of_http2_that_does_not_listen_does_not_hold_up_the_end() {
    let upstream = Upstream::named("one").await;
    let proxy = Proxy::start(&format!(
        "upstreams:\n  one: {{ endpoints: ['{}'] }}\nroutes:\n  - {{ upstream: one }}\n",
        upstream.address
    ))
    .await;
    let mut client = Client::connect(proxy.address).await;
    // The preface and empty settings; then it neither reads nor answers.
    client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    client.read_some().await;
    let asked = std::time::Instant::now();
    assert!(proxy.app.shutdown(Duration::from_mins(1)).await, "in time");
    assert!(asked.elapsed() < Duration::from_secs(20), "{:?}", asked.elapsed());
}
