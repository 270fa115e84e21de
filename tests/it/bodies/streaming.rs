//! Nothing waits for what need not be waited for: events, 1xx responses, final answers before the body.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

use super::PROTOCOLS;
use crate::support::client::{Connection, empty, piped};
use crate::support::raw::{Client, Scripted, drain, exchange, read_head, status};
use crate::support::stage::Settings;
use crate::support::{PATIENCE, Stage, Upstream};

#[tokio::test]
async fn each_event_arrives_before_the_next_is_sent() {
    for (protocol, is_http2) in PROTOCOLS {
        let pipe = Arc::new(Mutex::new(None));
        let kept = Arc::clone(&pipe);
        let upstream = Upstream::answering(move |_| {
            let (sender, body) = piped();
            *kept.lock().unwrap() = Some(sender);
            std::future::ready(
                Response::builder().header("content-type", "text/event-stream").body(body).unwrap(),
            )
        })
        .await;
        let stage = Stage::speaking(protocol, upstream.address).await;
        let mut client = Connection::new(stage.proxy.address, is_http2).await;
        let request = Request::get("/events").body(empty()).unwrap();
        let mut response = timeout(PATIENCE, client.send(request)).await.expect("the head alone").unwrap();
        let sender = pipe.lock().unwrap().take().unwrap();
        for index in 0..3 {
            let event = Bytes::from(format!("data: {index}\n\n"));
            sender.send(Frame::data(event.clone())).await.unwrap();
            let frame = timeout(PATIENCE, response.frame()).await.expect("the event").unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), event, "{protocol} {is_http2}");
        }
        drop(sender);
        assert!(response.frame().await.is_none_or(|last| last.unwrap().into_data().unwrap().is_empty()));
        drop((client, response));
        stage.assert_in_order().await;
    }
}

#[tokio::test]
async fn each_part_of_a_request_arrives_before_the_next_is_sent() {
    for (protocol, is_http2) in PROTOCOLS {
        let upstream = Upstream::answering(|request| async move {
            let (sender, body) = piped();
            let mut sent = request.into_body();
            tokio::spawn(async move {
                while let Some(Ok(frame)) = sent.frame().await {
                    let _ = sender.send(frame).await;
                }
            });
            Response::new(body)
        })
        .await;
        let stage = Stage::speaking(protocol, upstream.address).await;
        let mut client = Connection::new(stage.proxy.address, is_http2).await;
        let (sender, body) = piped();
        let request = Request::post("/echo").body(body).unwrap();
        let mut response = timeout(PATIENCE, client.send(request)).await.expect("the head alone").unwrap();
        for index in 0..3 {
            let part = Bytes::from(format!("part {index}"));
            sender.send(Frame::data(part.clone())).await.unwrap();
            let frame = timeout(PATIENCE, response.frame()).await.expect("the part").unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), part, "{protocol} {is_http2}");
        }
        drop(sender);
        while let Some(frame) = response.frame().await {
            assert!(frame.unwrap().into_data().unwrap().is_empty());
        }
        drop((client, response));
        stage.assert_in_order().await;
    }
}

const EXPECTING: &str = "POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
const HUNDRED: &str = "HTTP/1.1 100 Continue\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// An upstream that says 100 when it is told to, reads five bytes of body, and answers.
async fn asking_for_the_body(go: Arc<Notify>, told: Arc<Notify>) -> Scripted {
    Scripted::start(move |mut stream, head| {
        let (go, told) = (Arc::clone(&go), Arc::clone(&told));
        async move {
            assert!(head.to_ascii_lowercase().contains("expect: 100-continue"), "{head}");
            assert!(head.ends_with("\r\n\r\n"), "the body came unasked: {head}");
            told.notify_one();
            go.notified().await;
            stream.write_all(HUNDRED.as_bytes()).await.unwrap();
            let mut body = [0; 64];
            let mut count = 0;
            while count < 5 || !(body[..count].ends_with(b"hello") || body[..count].ends_with(b"0\r\n\r\n")) {
                count += stream.read(&mut body[count..]).await.unwrap();
            }
            stream.write_all(OK.as_bytes()).await.unwrap();
        }
    })
    .await
}

#[tokio::test]
async fn client_is_asked_for_its_body_when_the_upstream_asks() {
    let (go, told) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let upstream = asking_for_the_body(Arc::clone(&go), Arc::clone(&told)).await;
    let stage = Stage::before(upstream.address).await;
    let mut client = Client::connect(stage.proxy.address).await;
    client.send(EXPECTING).await;
    told.notified().await;
    // A round trip through the same worker: whatever it had to say before, it has said.
    stage.proxy.metrics().await;
    let other =
        exchange(stage.proxy.address, "GET /well HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert_eq!(status(&other), 200);
    let mut early = [0; 64];
    assert!(client.0.try_read(&mut early).is_err(), "100 before the upstream wants the body");
    go.notify_one();
    assert_eq!(client.read_until("\r\n\r\n").await, HUNDRED);
    client.send("hello").await;
    assert_eq!(status(&client.read_response().await), 200);
    drop(client);
    stage.assert_in_order().await;
}

#[tokio::test]
async fn http2_client_is_asked_for_its_body_when_the_upstream_asks() {
    let (go, told) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let upstream = asking_for_the_body(Arc::clone(&go), Arc::clone(&told)).await;
    let stage = Stage::before(upstream.address).await;
    let stream = TcpStream::connect(stage.proxy.address).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    let driver = tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let request = Request::post(stage.proxy.url("/")).header("expect", "100-continue").body(()).unwrap();
    let (mut response, mut body) = client.send_request(request, false).unwrap();
    told.notified().await;
    go.notify_one();
    let early = std::future::poll_fn(|cx| response.poll_informational(cx)).await.unwrap().unwrap();
    assert_eq!(early.status(), 100);
    body.send_data(Bytes::from_static(b"hello"), true).unwrap();
    assert_eq!(response.await.unwrap().status(), 200);
    driver.abort();
    stage.assert_in_order().await;
}

#[tokio::test]
async fn refusal_without_the_body_reaches_the_client_without_a_100() {
    let answer = "HTTP/1.1 417 Expectation Failed\r\ncontent-length: 2\r\n\r\nno";
    for protocol in [true, false] {
        // With and without closing the connection.
        let upstream = Scripted::start(move |mut stream, _| async move {
            stream.write_all(answer.as_bytes()).await.unwrap();
            if protocol {
                drain(&mut stream).await;
            }
        })
        .await;
        let stage = Stage::before(upstream.address).await;
        let got = exchange(stage.proxy.address, EXPECTING).await;
        assert_eq!(status(&got), 417, "{got}");
        assert!(got.ends_with("no"), "{got}");
        stage.assert_in_order().await;
    }
}

#[tokio::test]
async fn upstream_that_knows_no_100_gets_the_body_after_a_while() {
    let upstream = Upstream::named("one").await;
    let stage = Stage::before(upstream.address).await;
    // This upstream reads the body and says 100 by itself; the scripted one below never does.
    let mut client = Client::connect(stage.proxy.address).await;
    client.send(EXPECTING).await;
    assert_eq!(client.read_until("\r\n\r\n").await, HUNDRED);
    client.send("hello").await;
    assert_eq!(status(&client.read_response().await), 200);
    let silent = Scripted::accepting(|mut stream| async move {
        let mut head = read_head(&mut stream).await.unwrap();
        while !head.ends_with("hello") {
            let mut part = [0; 64];
            let count = stream.read(&mut part).await.unwrap();
            head.push_str(&String::from_utf8_lossy(&part[..count]));
        }
        stream.write_all(OK.as_bytes()).await.unwrap();
    })
    .await;
    let other = Stage::before(silent.address).await;
    let mut client = Client::connect(other.proxy.address).await;
    client.send(EXPECTING).await;
    assert_eq!(client.read_until("\r\n\r\n").await, HUNDRED);
    client.send("hello").await;
    assert_eq!(status(&client.read_response().await), 200);
    drop(client);
    other.assert_in_order().await;
}

#[tokio::test]
async fn early_hints_reach_http2_clients_and_the_final_response_everybody() {
    for protocol in ["http1", "http2"] {
        let hints = if protocol == "http1" {
            Scripted::start(|mut stream, _| async move {
                stream.write_all(b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n").await.unwrap();
                stream.write_all(OK.as_bytes()).await.unwrap();
            })
            .await
        } else {
            Scripted::accepting(|stream| async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    let early = Response::builder().status(103).header("link", "</a.css>").body(()).unwrap();
                    respond.send_informational(early).unwrap();
                    let mut body = respond.send_response(Response::new(()), false).unwrap();
                    body.send_data(Bytes::from_static(b"ok"), true).unwrap();
                }
            })
            .await
        };
        let stage = Stage::speaking(protocol, hints.address).await;
        let stream = TcpStream::connect(stage.proxy.address).await.unwrap();
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        let driver = tokio::spawn(connection);
        let mut client = client.ready().await.unwrap();
        let request = Request::get(stage.proxy.url("/")).body(()).unwrap();
        let (mut response, _) = client.send_request(request, true).unwrap();
        let early = std::future::poll_fn(|cx| response.poll_informational(cx)).await.unwrap().unwrap();
        assert_eq!(
            (early.status().as_u16(), &early.headers()["link"]),
            (103, &HeaderValue::from_static("</a.css>"))
        );
        assert_eq!(response.await.unwrap().status(), 200, "{protocol}");
        drop(client);
        driver.abort();
        let answer =
            exchange(stage.proxy.address, "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
        assert_eq!(
            status(answer.trim_start_matches("HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n")),
            200
        );
        assert!(answer.contains("ok"), "{answer}");
        let old = exchange(stage.proxy.address, "GET / HTTP/1.0\r\n\r\n").await;
        assert_eq!(status(&old), 200, "HTTP/1.0 gets no 1xx: {old}");
        stage.assert_in_order().await;
    }
}

#[tokio::test]
async fn final_answer_before_the_end_of_the_body_reaches_the_client() {
    // The upstream refuses a large upload from its head alone, and closes at once, or never reads on.
    let refusal = "HTTP/1.1 413 Content Too Large\r\ncontent-length: 8\r\n\r\ntoo much";
    for is_closing in [true, false] {
        let (done, mut end) = oneshot::channel::<()>();
        let end = Arc::new(tokio::sync::Mutex::new(Some(async move { drop((&mut end).await) })));
        let upstream = Scripted::start(move |mut stream, _| {
            let end = Arc::clone(&end);
            async move {
                stream.write_all(refusal.as_bytes()).await.unwrap();
                if !is_closing && let Some(end) = end.lock().await.take() {
                    end.await;
                }
            }
        })
        .await;
        let stage = Stage::with(&[upstream.address], Settings::default()).await;
        let mut client = Client::connect(stage.proxy.address).await;
        let length = 64 << 20;
        client.send(format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n")).await;
        let (mut read, mut write) = client.0.split();
        let sending = async {
            let part = vec![0; 1 << 16];
            for _ in 0..length / part.len() {
                if write.write_all(&part).await.is_err() {
                    return;
                }
            }
        };
        let mut answer = Vec::new();
        let reading = async {
            while !answer.ends_with(b"too much") {
                let mut part = [0; 1024];
                let count = read.read(&mut part).await.expect("an orderly end");
                assert!(count > 0, "closed after {:?}", String::from_utf8_lossy(&answer));
                answer.extend_from_slice(&part[..count]);
            }
        };
        let both = async {
            tokio::select! {
                () = reading => {}
                () = async { sending.await; std::future::pending().await } => {}
            }
        };
        timeout(PATIENCE, both).await.expect("an answer");
        assert_eq!(status(&String::from_utf8_lossy(&answer)), 413);
        assert!(client.is_closed_within(Duration::from_secs(10)).await, "the rest of the body is not wanted");
        drop(client);
        stage.assert_in_order().await;
        drop(done);
    }
}
