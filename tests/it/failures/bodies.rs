//! Answers that break off or say too much: a part is never taken for the whole, and what is beyond the end reaches
//! nobody.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use tokio::io::AsyncWriteExt;
use tokio::sync::Notify;

use super::failures;
use crate::support::client::{Connection, empty};
use crate::support::raw::{Client, Scripted, drain, exchange, read_head, status};
use crate::support::stage::Settings;
use crate::support::{Stage, until};

#[tokio::test]
async fn answer_that_breaks_off_is_aborted_for_the_client() {
    let (reset, protocol) = ("reset", "protocol");
    let rows = [
        ("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello", false, reset),
        ("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello", true, reset),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n", false, reset),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n", true, reset),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n", false, reset),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nhello", false, reset),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\nxyz\r\n", false, protocol),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhelloworld\r\n0\r\n\r\n",
            false,
            protocol,
        ),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n", false, protocol),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\nhello", false, protocol),
    ];
    for (said, is_reset, cause) in rows {
        let upstream = Scripted::start(move |mut stream, _| async move {
            stream.write_all(said.as_bytes()).await.unwrap();
            if is_reset {
                // What is unread or unsent at the other side may be lost with it: only the head is sure to be there.
                tokio::task::yield_now().await;
                socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
            }
        })
        .await;
        let stage = Stage::before(upstream.address).await;
        let answer = exchange(stage.proxy.address, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        // The connection ended: before the promised length, or without the last chunk.
        assert!(!answer.contains("\r\n0\r\n"), "{said:?}: {answer}");
        assert!(!answer.contains("world") && !answer.contains("xyz"), "{said:?}: {answer}");
        let mut client = Connection::new(stage.proxy.address, true).await;
        match client.send(Request::get("/").body(empty()).unwrap()).await {
            Ok(response) if response.status() == 200 => {
                assert!(
                    response.into_body().collect().await.is_err(),
                    "{said:?}: a part was taken for the whole"
                );
            }
            // Broken off so early that the answer is ours.
            Ok(response) => assert_eq!(response.status(), 502, "{said:?}"),
            Err(_) => {}
        }
        drop(client);
        let mut old = Client::connect(stage.proxy.address).await;
        old.send("GET / HTTP/1.0\r\n\r\n").await;
        let (count, is_orderly) = drain(&mut old.0).await;
        assert!(!is_orderly || said.contains("content-length") || count == 0, "{said:?}: it looks whole");
        until("all are counted", || async { (failures(&stage, cause).await == 3.0).then_some(()) }).await;
        stage.assert_in_order().await;
    }
}

#[tokio::test]
async fn answer_of_an_http2_endpoint_that_breaks_off_is_aborted_for_the_client() {
    let go = Arc::new(Notify::new());
    let wait = Arc::clone(&go);
    let upstream = Scripted::accepting(move |stream| {
        let wait = Arc::clone(&wait);
        async move {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                let path = request.uri().path();
                let head = Response::builder();
                let head = if path == "/unknown" { head } else { head.header("content-length", "10") };
                let mut body = respond.send_response(head.body(()).unwrap(), false).unwrap();
                body.send_data(Bytes::from_static(b"hello"), path == "/short").unwrap();
                let wait = Arc::clone(&wait);
                tokio::spawn(async move {
                    wait.notified().await;
                    body.send_reset(h2::Reason::INTERNAL_ERROR);
                });
            }
        }
    })
    .await;
    let stage = Stage::speaking("http2", upstream.address).await;
    for path in ["/length", "/unknown", "/short"] {
        let mut raw = Client::connect(stage.proxy.address).await;
        raw.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")).await;
        if path != "/short" {
            raw.read_until("hello").await;
        }
        go.notify_one();
        let rest = raw.read_to_end().await;
        let rest = rest.split_once("\r\n\r\n").map_or(&*rest, |(_, body)| body);
        assert!(!rest.contains("0\r\n"), "{path}: {rest}");
        let mut client = Connection::new(stage.proxy.address, true).await;
        if let Ok(response) = client.send(Request::get(path).body(empty()).unwrap()).await
            && response.status() == 200
        {
            go.notify_one();
            assert!(response.into_body().collect().await.is_err(), "{path}: a part was taken for the whole");
        }
    }
    stage.assert_in_order().await;
}

#[tokio::test]
async fn bytes_beyond_the_end_of_an_answer_reach_nobody() {
    const POISON: &str = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison";
    let rows = [
        ("GET", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", "ok"),
        ("GET", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "ok"),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n", ""),
        ("GET", "HTTP/1.1 304 Not Modified\r\n\r\n", ""),
        ("HEAD", "HTTP/1.1 200 OK\r\ncontent-length: 45\r\n\r\n", ""),
    ];
    for (method, said, body) in rows {
        let upstream = Scripted::accepting(move |mut stream| async move {
            while read_head(&mut stream).await.is_some() {
                let both = format!("{said}{POISON}");
                if stream.write_all(both.as_bytes()).await.is_err() {
                    return;
                }
            }
        })
        .await;
        let stage = Stage::before(upstream.address).await;
        let mut client = Client::connect(stage.proxy.address).await;
        for round in 1..=5 {
            client.send(format!("{method} / HTTP/1.1\r\nhost: a\r\n\r\n")).await;
            let answer = if body.is_empty() {
                client.read_until("\r\n\r\n").await
            } else {
                client.read_until("ok").await
            };
            assert!(!answer.contains("poison"), "{method} {said:?}: {answer}");
            assert_eq!(upstream.count(), round, "{method} {said:?}: the connection is used once");
            if said.contains("chunked") {
                // The last chunk may still be on its way.
                let answer =
                    if answer.contains("0\r\n\r\n") { answer } else { client.read_until("0\r\n\r\n").await };
                assert!(answer.ends_with("0\r\n\r\n"), "{answer}");
            }
        }
        drop(client);
        stage.assert_in_order().await;
    }
}

#[tokio::test]
async fn time_of_a_route_ends_an_answer_that_is_under_way() {
    for (protocol, is_http2) in crate::bodies::PROTOCOLS {
        let upstream = crate::support::Upstream::answering(|_| async {
            let (sender, body) = crate::support::client::piped();
            tokio::spawn(async move {
                let _ = sender.send(http_body::Frame::data(Bytes::from_static(b"hello"))).await;
                sender.closed().await;
            });
            Response::new(body)
        })
        .await;
        let settings = Settings { protocol, route: "timeout: 250ms", ..Settings::default() };
        let stage = Stage::with(&[upstream.address], settings).await;
        let mut client = Connection::new(stage.proxy.address, is_http2).await;
        let response = client.send(Request::get("/").body(empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), 200);
        assert!(response.into_body().collect().await.is_err(), "{protocol} {is_http2}");
        drop(client);
        stage.assert_in_order().await;
    }
}

#[tokio::test]
async fn answer_that_ends_with_the_connection_is_whole() {
    let upstream = Scripted::start(|mut stream, _| async move {
        stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n").await.unwrap();
        for _ in 0..64 {
            stream.write_all(&[b'x'; 16 * 1024]).await.unwrap();
        }
        stream.shutdown().await.unwrap();
        drain(&mut stream).await;
    })
    .await;
    let stage = Stage::before(upstream.address).await;
    for is_http2 in [false, true] {
        let mut client = Connection::new(stage.proxy.address, is_http2).await;
        let (response, body, _) = client.exchange(Request::get("/").body(empty()).unwrap()).await;
        assert_eq!((response.status().as_u16(), body.len()), (200, 1 << 20));
    }
    let old = exchange(stage.proxy.address, "GET / HTTP/1.0\r\n\r\n").await;
    assert_eq!(status(&old), 200);
    assert_eq!(old.matches('x').count(), 1 << 20);
    stage.assert_in_order().await;
}
