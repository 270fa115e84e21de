//! Clients that close, wholly or half, at any point of an exchange.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt;
use tokio::io::AsyncWriteExt;

use crate::support::raw::{Client, Scripted, drain, status};
use crate::support::upstream::full;
use crate::support::{Stage, Upstream, until};

const POST: &str = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello";

#[tokio::test]
async fn client_that_goes_when_all_its_body_is_sent_takes_its_request_with_it() {
    for protocol in ["http1", "http2"] {
        let read = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&read);
        let upstream = Upstream::answering(move |request| {
            let count = Arc::clone(&count);
            async move {
                let _ = request.into_body().collect().await;
                count.fetch_add(1, Ordering::Relaxed);
                std::future::pending().await
            }
        })
        .await;
        let stage = Stage::speaking(protocol, upstream.address).await;
        let mut client = Client::connect(stage.proxy.address).await;
        // The last byte comes later, so that the body is waited for.
        let (begin, end) = POST.split_at(POST.len() - 1);
        client.send(begin).await;
        until("the upstream is asked", || async { (upstream.count() == 1).then_some(()) }).await;
        client.send(end).await;
        until("the body is there", || async { (read.load(Ordering::Relaxed) == 1).then_some(()) }).await;
        drop(client);
        let started = Instant::now();
        stage.assert_in_order().await;
        assert!(started.elapsed() < Duration::from_secs(10), "{protocol}: {:?}", started.elapsed());
        let aborted = stage.proxy.metric("weir_errors_total", &["code=\"client_aborted\""]).await;
        assert_eq!(aborted, 1.0, "{protocol}");
    }
}

#[tokio::test]
async fn client_that_closes_its_side_gets_its_answers() {
    let rows = [
        "GET / HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        POST,
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ];
    for protocol in ["http1", "http2"] {
        let upstream = Upstream::answering(|request| async move {
            let _ = request.into_body().collect().await;
            // The client's end is seen before.
            tokio::time::sleep(Duration::from_millis(20)).await;
            Response::new(full(Bytes::from("y".repeat(100_000))))
        })
        .await;
        let stage = Stage::speaking(protocol, upstream.address).await;
        for sent in rows {
            for times in [1, 3] {
                let mut client = Client::connect(stage.proxy.address).await;
                client.send(sent.repeat(times)).await;
                client.0.shutdown().await.unwrap();
                let read = client.read_to_end().await;
                let times = if sent.contains("HTTP/1.0") { 1 } else { times };
                assert_eq!(read.matches("HTTP/1.1 200 OK").count(), times, "{protocol} {sent:?}");
                assert_eq!(read.matches('y').count(), times * 100_000, "{protocol} {sent:?}");
            }
        }
        stage.assert_in_order().await;
        assert_eq!(stage.proxy.metric("weir_errors_total", &[]).await, 0.0);
    }
}

#[tokio::test]
async fn client_that_closes_its_side_and_stays_costs_its_request_a_second() {
    let upstream = Scripted::start(|mut stream, _| async move {
        drain(&mut stream).await;
    })
    .await;
    let stage = Stage::before(upstream.address).await;
    for sent in ["GET / HTTP/1.1\r\nhost: a\r\n\r\n", POST] {
        let mut client = Client::connect(stage.proxy.address).await;
        let started = Instant::now();
        client.send(sent).await;
        client.0.shutdown().await.unwrap();
        assert_eq!(client.read_to_end().await, "");
        assert!((1..10).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
    }
    stage.assert_in_order().await;
    assert_eq!(stage.proxy.metric("weir_errors_total", &["code=\"client_aborted\""]).await, 2.0);
}

#[tokio::test]
async fn protocol_switch_that_nobody_asked_for_reaches_no_client() {
    let upstream = Scripted::accepting(|stream| async move {
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            let early = Response::builder().status(101).body(()).unwrap();
            let _ = respond.send_informational(early);
            let mut body = respond.send_response(Response::new(()), false).unwrap();
            body.send_data(Bytes::from_static(b"ok"), true).unwrap();
        }
    })
    .await;
    let stage = Stage::speaking("http2", upstream.address).await;
    let mut client = Client::connect(stage.proxy.address).await;
    client.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    let read = client.read_to_end().await;
    assert!(!read.contains(" 101 "), "{read}");
    assert!([200, 502].contains(&status(&read)), "{read}");
    stage.assert_in_order().await;
}
