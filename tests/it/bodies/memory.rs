//! Large bodies pass in little memory, and who does not read stops who writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::BodyExt;
use tokio::io::AsyncWriteExt;

use super::PROTOCOLS;
use crate::support::client::{Connection, empty, piped};
use crate::support::process::Process;
use crate::support::raw::{Client, Scripted, exchange, status};
use crate::support::upstream::full;
use crate::support::{PATIENCE, Stage, Upstream};

/// The part of a body that is sent at once.
const PART: usize = 64 * 1024;
/// What buffers on the way may hold: those of four sockets, which grow to several MiB, and the windows of HTTP/2.
const BUFFERS: usize = 40 << 20;
/// A body that does not fit into them.
const MORE: usize = 4 * BUFFERS;

/// How large the large bodies are: 256 MiB, or 1 GiB with `WEIR_BIG=1`.
fn large() -> usize {
    if std::env::var_os("WEIR_BIG").is_some_and(|big| big == "1") { 1 << 30 } else { 256 << 20 }
}

/// An upstream that counts what it is sent, and sends as much as the query of the target says.
async fn bulky() -> Upstream {
    Upstream::answering(|request| async move {
        let wanted = request.uri().query().and_then(|query| query.parse::<usize>().ok());
        if let Some(wanted) = wanted {
            let (sender, body) = piped();
            tokio::spawn(async move {
                let part = Bytes::from(vec![7; PART]);
                for _ in 0..wanted / PART {
                    if sender.send(Frame::data(part.clone())).await.is_err() {
                        return;
                    }
                }
            });
            return Response::new(body);
        }
        let mut body = request.into_body();
        let mut count = 0;
        while let Some(frame) = body.frame().await {
            count += frame.unwrap().into_data().map_or(0, |data| data.len());
        }
        Response::new(full(count.to_string()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_bodies_pass_both_ways_in_little_memory() {
    for protocol in ["http1", "http2"] {
        let upstream = bulky().await;
        let process = Process::start(&format!(
            "workers: 1\nlisteners: [{{ bind: 127.0.0.1:0 }}]\n\
             upstreams: {{ one: {{ endpoints: ['{}'], protocol: {protocol} }} }}\nroutes: [{{ upstream: one }}]\n",
            upstream.address
        ));
        let mut client = Connection::new(process.address, protocol == "http2").await;
        let (_, body, _) = client.exchange(Request::post("/").body(full(vec![7; 1 << 20])).unwrap()).await;
        assert_eq!(body, (1 << 20).to_string());
        let before = process.peak();

        let request = Request::get(format!("/?{}", large())).body(empty()).unwrap();
        let mut response = client.send(request).await.unwrap();
        let mut count = 0;
        while let Some(frame) = response.frame().await {
            count += frame.unwrap().into_data().map_or(0, |data| data.len());
        }
        assert_eq!(count, large(), "{protocol}");

        let (sender, body) = piped();
        let sending = tokio::spawn(async move {
            let part = Bytes::from(vec![7; PART]);
            for _ in 0..large() / PART {
                sender.send(Frame::data(part.clone())).await.unwrap();
            }
        });
        let (_, body, _) = client.exchange(Request::post("/").body(body).unwrap()).await;
        assert_eq!(body, large().to_string(), "{protocol}");
        sending.await.unwrap();

        // The kernel counts in batches: a peak may read a little lower later on.
        let grown = process.peak().saturating_sub(before);
        println!("{protocol}: {} MiB each way, grown by {} KiB", large() >> 20, grown >> 10);
        assert!(grown < 32 << 20, "{protocol}: grown by {} MiB", grown >> 20);
    }
}

/// Waits until `count` stands still; gives where.
async fn settled(count: &AtomicUsize) -> usize {
    let started = std::time::Instant::now();
    let (mut last, mut still) = (0, 0);
    while still < 10 {
        assert!(started.elapsed() < PATIENCE, "it never stands still");
        tokio::time::sleep(Duration::from_millis(20)).await;
        let now = count.load(Ordering::Relaxed);
        still = if now == last && now > 0 { still + 1 } else { 0 };
        last = now;
    }
    last
}

#[tokio::test]
async fn client_that_does_not_read_stops_the_upstream() {
    for (protocol, is_http2) in PROTOCOLS {
        let sent = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&sent);
        let upstream = Upstream::answering(move |_| {
            let (sender, body) = piped();
            let count = Arc::clone(&count);
            tokio::spawn(async move {
                let part = Bytes::from(vec![7; PART]);
                for _ in 0..MORE / PART {
                    if sender.send(Frame::data(part.clone())).await.is_err() {
                        return;
                    }
                    count.fetch_add(PART, Ordering::Relaxed);
                }
            });
            std::future::ready(Response::new(body))
        })
        .await;
        let stage = Stage::speaking(protocol, upstream.address).await;
        let mut client = Connection::new(stage.proxy.address, is_http2).await;
        let mut response = client.send(Request::get("/").body(empty()).unwrap()).await.unwrap();
        let stopped = settled(&sent).await;
        assert!(stopped < BUFFERS, "{protocol} {is_http2}: {} MiB are on their way", stopped >> 20);
        let mut read = 0;
        while let Some(frame) = response.frame().await {
            read += frame.unwrap().into_data().map_or(0, |data| data.len());
        }
        assert_eq!(read, MORE, "{protocol} {is_http2}: it goes on where it stopped");
        drop((client, response));
        stage.assert_in_order().await;
    }
}

#[tokio::test]
async fn pipelining_client_that_does_not_read_stops_the_upstream_too() {
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let upstream = Scripted::start(move |mut stream, _| {
        let count = Arc::clone(&count);
        async move {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {MORE}\r\n\r\n");
            let mut part = head.into_bytes();
            // The proxy may go away in the middle.
            while stream.write_all(&part).await.is_ok()
                && count.fetch_add(part.len(), Ordering::Relaxed) < MORE
            {
                part = vec![7; PART];
            }
        }
    })
    .await;
    let stage = Stage::before(upstream.address).await;
    let mut client = Client::connect(stage.proxy.address).await;
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n".repeat(3)).await;
    let stopped = settled(&sent).await;
    assert!(stopped < BUFFERS, "{} MiB are on their way", stopped >> 20);
    drop(client);
    stage.assert_in_order().await;
}

#[tokio::test]
async fn upstream_that_does_not_read_stops_the_client() {
    for (protocol, is_http2) in PROTOCOLS {
        let go = Arc::new(tokio::sync::Notify::new());
        let wait = Arc::clone(&go);
        let upstream = Upstream::answering(move |request| {
            let wait = Arc::clone(&wait);
            async move {
                wait.notified().await;
                let mut body = request.into_body();
                let mut count = 0;
                while let Some(frame) = body.frame().await {
                    count += frame.unwrap().into_data().map_or(0, |data| data.len());
                }
                Response::new(full(count.to_string()))
            }
        })
        .await;
        let stage = Stage::speaking(protocol, upstream.address).await;
        let mut client = Connection::new(stage.proxy.address, is_http2).await;
        let (sender, body) = piped();
        let sent = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&sent);
        tokio::spawn(async move {
            let part = Bytes::from(vec![7; PART]);
            for _ in 0..MORE / PART {
                sender.send(Frame::data(part.clone())).await.unwrap();
                count.fetch_add(PART, Ordering::Relaxed);
            }
        });
        let waiting = tokio::spawn(async move {
            let answer = client.exchange(Request::post("/").body(body).unwrap()).await;
            (client, answer)
        });
        let stopped = settled(&sent).await;
        assert!(stopped < BUFFERS, "{protocol} {is_http2}: {} MiB are on their way", stopped >> 20);
        go.notify_one();
        let (client, (_, body, _)) = waiting.await.unwrap();
        assert_eq!(body, MORE.to_string(), "{protocol} {is_http2}: it goes on where it stopped");
        drop(client);
        stage.assert_in_order().await;
    }
}

#[tokio::test]
async fn answered_pipeline_is_flushed_while_the_next_request_waits() {
    let upstream = Scripted::start(|mut stream, head| async move {
        if head.starts_with("GET /first") {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nfirst").await.unwrap();
        } else {
            // Never answers; ends with the test.
            std::future::pending::<()>().await;
        }
    })
    .await;
    let stage = Stage::before(upstream.address).await;
    let mut client = Client::connect(stage.proxy.address).await;
    client.send("GET /first HTTP/1.1\r\nhost: a\r\n\r\nGET /second HTTP/1.1\r\nhost: a\r\n\r\nGET ").await;
    assert!(client.read_response().await.ends_with("first"));
    drop(client);
    drop(upstream);
    let answer = exchange(stage.proxy.address, "GET /well HTTP/1.0\r\n\r\n").await;
    assert_eq!(status(&answer), 200);
    stage.assert_in_order().await;
}
