//! Connections to endpoints: which are used again, which are not, and when they end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Request, Response};
use tokio::io::AsyncWriteExt;
use tokio::sync::Notify;

use crate::support::client::{Connection, empty};
use crate::support::raw::{Client, Scripted, drain, exchange, read_head, status};
use crate::support::stage::Settings;
use crate::support::{Stage, Upstream, until};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test]
async fn connection_that_the_endpoint_closed_while_idle_is_replaced() {
    let upstream = Scripted::start(|mut stream, _| async move {
        stream.write_all(OK.as_bytes()).await.unwrap();
    })
    .await;
    let stage = Stage::before(upstream.address).await;
    let mut client = Client::connect(stage.proxy.address).await;
    // However soon the next request comes: before the end is there, with it, or after it was seen.
    for round in 1..=60 {
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert_eq!(status(&client.read_response().await), 200);
        assert_eq!(upstream.count(), round);
        if round % 20 == 0 {
            let idle = || async {
                stage.proxy.metric("weir_upstream_connections_idle", &["upstream=\"one\""]).await
            };
            until("its end is seen", || async { (idle().await == 0.0).then_some(()) }).await;
        }
    }
    drop(client);
    stage.assert_in_order().await;
}

#[tokio::test]
async fn connection_that_the_endpoint_says_it_closes_is_not_used_again() {
    let rows = [
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nConnection: x-hop, Close\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
    ];
    for said in rows {
        let upstream = Scripted::start(move |mut stream, _| async move {
            stream.write_all(said.as_bytes()).await.unwrap();
            // It does not close by itself: a second request on it would never be answered.
            drain(&mut stream).await;
        })
        .await;
        let stage = Stage::before(upstream.address).await;
        let mut client = Client::connect(stage.proxy.address).await;
        for round in 1..=5 {
            client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
            let answer = client.read_response().await;
            assert_eq!(status(&answer), 200);
            assert!(!answer.to_ascii_lowercase().contains("connection: close"), "{answer}");
            assert_eq!(upstream.count(), round, "{said:?}");
        }
        drop(client);
        stage.assert_in_order().await;
    }
}

#[tokio::test]
async fn connection_that_an_old_endpoint_keeps_is_used_again() {
    let upstream = Scripted::accepting(|mut stream| async move {
        while read_head(&mut stream).await.is_some() {
            let said = "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok";
            stream.write_all(said.as_bytes()).await.unwrap();
        }
    })
    .await;
    let stage = Stage::before(upstream.address).await;
    let mut client = Client::connect(stage.proxy.address).await;
    for _ in 0..5 {
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert_eq!(status(&client.read_response().await), 200);
    }
    assert_eq!(upstream.count(), 1);
    drop(client);
    stage.assert_in_order().await;
}

#[tokio::test]
async fn http2_connection_that_goes_away_is_replaced_while_its_streams_finish() {
    let go = Arc::new(Notify::new());
    let wait = Arc::clone(&go);
    let upstream = Scripted::accepting(move |stream| {
        let wait = Arc::clone(&wait);
        async move {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                let mut body = respond.send_response(Response::new(()), false).unwrap();
                if request.uri().path() == "/long" {
                    connection.graceful_shutdown();
                    let wait = Arc::clone(&wait);
                    tokio::spawn(async move {
                        wait.notified().await;
                        body.send_data(Bytes::from_static(b"long"), true).unwrap();
                    });
                } else {
                    body.send_data(Bytes::from_static(b"ok"), true).unwrap();
                }
            }
        }
    })
    .await;
    let stage = Stage::speaking("http2", upstream.address).await;
    let mut client = Connection::new(stage.proxy.address, false).await;
    let long = client.send(Request::get("/long").body(empty()).unwrap()).await.unwrap();
    assert_eq!(long.status(), 200);
    for _ in 0..20 {
        let answer =
            exchange(stage.proxy.address, "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
        assert_eq!(status(&answer), 200, "{answer}");
    }
    assert_eq!(upstream.count(), 2);
    go.notify_one();
    let rest = http_body_util::BodyExt::collect(long.into_body()).await.unwrap().to_bytes();
    assert_eq!(rest, "long");
    drop(client);
    stage.assert_in_order().await;
}

#[tokio::test]
async fn more_requests_than_an_http2_endpoint_takes_at_once_all_pass() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (count, peak) = (Arc::clone(&now), Arc::clone(&most));
    let upstream = Scripted::accepting(move |stream| {
        let (count, peak) = (Arc::clone(&count), Arc::clone(&peak));
        async move {
            let mut connection = h2::server::Builder::new()
                .max_concurrent_streams(3)
                .handshake::<_, Bytes>(stream)
                .await
                .unwrap();
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                peak.fetch_max(count.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                let count = Arc::clone(&count);
                tokio::spawn(async move {
                    tokio::task::yield_now().await;
                    count.fetch_sub(1, Ordering::Relaxed);
                    // The proxy may have given up.
                    let _ = respond.send_response(Response::new(()), true);
                });
            }
        }
    })
    .await;
    let stage = Stage::speaking("http2", upstream.address).await;
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let address = stage.proxy.address;
        asking.spawn(async move {
            let answer = exchange(address, "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
            assert_eq!(status(&answer), 200, "{answer}");
        });
    }
    while let Some(asked) = asking.join_next().await {
        asked.unwrap();
    }
    assert!(most.load(Ordering::Relaxed) > 0);
    stage.assert_in_order().await;
}

#[tokio::test]
async fn idle_connections_to_endpoints_are_closed() {
    // Both at once: they are looked over every few seconds.
    let close = async |protocol| {
        let upstream = Upstream::named("one").await;
        let settings = Settings { protocol, upstream: "timeouts: { idle: 50ms }", ..Settings::default() };
        let stage = Stage::with(&[upstream.address], settings).await;
        let answer =
            exchange(stage.proxy.address, "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
        assert_eq!(status(&answer), 200);
        let idle =
            || async { stage.proxy.metric("weir_upstream_connections_idle", &["upstream=\"one\""]).await };
        until("it is idle", || async { (idle().await == 1.0).then_some(()) }).await;
        until("it is closed", || async { (idle().await == 0.0).then_some(()) }).await;
        stage.assert_in_order().await;
    };
    tokio::join!(close("http1"), close("http2"));
}
