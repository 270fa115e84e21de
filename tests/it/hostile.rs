//! Clients that lie, dawdle or vanish: nothing of theirs reaches an upstream that should not, and nothing of it stays.

mod bombs;
mod floods;
mod http2;
mod limits;
mod paths;
mod smuggling;
mod spoofing;

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;

use crate::support::client::{Connection, empty, piped};
use crate::support::raw::{Client, Scripted, drain, exchange, status};
use crate::support::stage::Settings;
use crate::support::{Stage, Upstream, until};

async fn malformed(stage: &Stage) -> f64 {
    stage.proxy.metric("weir_downstream_malformed_total", &[]).await
}

#[tokio::test]
async fn malformed_head_is_refused_and_reaches_no_upstream() {
    let upstream = Upstream::named("one").await;
    let stage = &Stage::before(upstream.address).await;
    let rows: &[&[u8]] = &[
        b"G\x00T / HTTP/1.1\r\nhost: a\r\n\r\n",
        b"G(T / HTTP/1.1\r\nhost: a\r\n\r\n",
        b" GET / HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET  / HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET /a b HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET /\r\nhost: a\r\n\r\n",
        b"GET / HTTP/1.2\r\nhost: a\r\n\r\n",
        b"GET / HTTP/2.0\r\nhost: a\r\n\r\n",
        b"GET / HTTP/0.9\r\nhost: a\r\n\r\n",
        b"GET / http/1.1\r\nhost: a\r\n\r\n",
        b"GET / HTTP/1.1 \r\nhost: a\r\n\r\n",
        b"GET / XTTP/1.1\r\nhost: a\r\n\r\n",
        b"/ HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\n: nameless\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nx-a : b\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost : a\r\n\r\n",
        b"GET / HTTP/1.1\r\n x-a: b\r\nhost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nx-a: b\r\n folded\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nx-a: b\r\n\tfolded\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nx-a: b\x00c\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nx-a: b\x01c\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nx-a: b\x7fc\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nx-a: b\rc\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nx(a: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nx\x80a: b\r\n\r\n",
        b"GET / HTTP/1.1\nhost: a\n\n",
        b"GET / HTTP/1.1\r\nhost: a\nx-a: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\n\n",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5, 5\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5, 6\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +5\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 5\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0x5\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5 5\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: \r\n\r\nhello",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 18446744073709551616\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: identity\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: \"chunked\"\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding : chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
        b"\r\n\r\n\x00\r\n\r\n",
    ];
    for row in rows {
        let text = String::from_utf8_lossy(row);
        let counted = malformed(stage).await;
        let more = |more: f64| async move { (malformed(stage).await == counted + more).then_some(()) };
        let answer = exchange(stage.proxy.address, row).await;
        // Another version of HTTP has a status of its own (RFC 9110 §15.6.6).
        let versions = [" HTTP/1.2\r", " HTTP/2.0\r", " HTTP/0.9\r"];
        let expected = if versions.iter().any(|other| text.contains(other)) { 505 } else { 400 };
        if !answer.is_empty() {
            assert_eq!(status(&answer), expected, "{text:?}: {answer}");
        }
        until(&format!("{text:?} is counted"), || more(1.0)).await;
        // The same behind a good request: that one is answered.
        let both = [b"GET /well HTTP/1.1\r\nhost: a\r\n\r\n", *row].concat();
        let answer = exchange(stage.proxy.address, both).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{text:?}: {answer}");
        let second = answer.split_once("\r\n\r\nwell").map_or("", |(_, second)| second);
        assert!(second.is_empty() || status(second) == expected, "{text:?}: {answer}");
        until(&format!("{text:?} is counted again"), || more(2.0)).await;
    }
    assert_eq!(upstream.count(), 0);
    stage.assert_in_order().await;
}

#[tokio::test]
async fn bad_host_is_refused_and_reaches_no_upstream() {
    let upstream = Upstream::named("one").await;
    let stage = Stage::before(upstream.address).await;
    let rows = [
        "\r\n",
        "host: a\r\nhost: b\r\n\r\n",
        "host: a\r\nHost: a\r\n\r\n",
        "host:\r\n\r\n",
        "host: a b\r\n\r\n",
        "host: a, b\r\n\r\n",
        "host: user@a\r\n\r\n",
        "host: a/b\r\n\r\n",
        "host: a:port\r\n\r\n",
        "host: a:99999\r\n\r\n",
        "host: a:-1\r\n\r\n",
        "host: [::1\r\n\r\n",
        "host: [evil]\r\n\r\n",
        "host: http://a\r\n\r\n",
        "host: a\u{e9}\r\n\r\n",
    ];
    for row in rows {
        let answer = exchange(stage.proxy.address, format!("GET / HTTP/1.1\r\n{row}")).await;
        assert_eq!(status(&answer), 400, "{row:?}: {answer}");
        assert!(answer.contains("x-weir-error: bad_host\r\n"), "{row:?}: {answer}");
    }
    assert_eq!(upstream.count(), 0);
    stage.assert_in_order().await;
}

#[tokio::test]
async fn malformed_chunk_aborts_the_request_at_the_upstream() {
    for bad in [
        "x\r\n",
        "5\nhello",
        "-1\r\n",
        "fffffffffffffffff\r\n",
        "10000000000000000\r\n",
        "3\r\nabcdef\r\n",
        "0\r\nx\r\n\r\n",
    ] {
        let ends = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let seen = std::sync::Arc::clone(&ends);
        let upstream = Scripted::accepting(move |mut stream| {
            let seen = std::sync::Arc::clone(&seen);
            async move {
                let mut all = Vec::new();
                let _ = stream.read_to_end(&mut all).await;
                seen.lock().unwrap().push(String::from_utf8_lossy(&all).into_owned());
            }
        })
        .await;
        let stage = Stage::before(upstream.address).await;
        let head = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n";
        let mut client = Client::connect(stage.proxy.address).await;
        client.send(head).await;
        let connected = || async { (upstream.count() == 1).then_some(()) };
        until("the upstream is there", connected).await;
        client.send(bad).await;
        let answer = client.read_to_end().await;
        assert_eq!(status(&answer), 400, "{bad:?}: {answer}");
        assert!(answer.contains("x-weir-error: malformed_body\r\n"), "{bad:?}: {answer}");
        drop(client);
        let ended = || async { ends.lock().unwrap().first().cloned() };
        let sent = until("the connection to the upstream ends", ended).await;
        assert!(!sent.contains("0\r\n\r\n"), "{bad:?} was completed: {sent}");
        stage.assert_in_order().await;
    }
}

#[tokio::test]
async fn client_that_vanishes_takes_its_request_with_it() {
    // While the head is awaited, while the answer streams, while the body is sent.
    for (protocol, is_http2) in crate::bodies::PROTOCOLS {
        for phase in ["/head", "/answer", "/body"] {
            let upstream = Upstream::answering(|request| async move {
                match request.uri().path() {
                    "/head" => std::future::pending().await,
                    "/answer" => {
                        let (sender, body) = piped();
                        tokio::spawn(async move {
                            let _ = sender.send(http_body::Frame::data("some".into())).await;
                            sender.closed().await;
                        });
                        http::Response::new(body)
                    }
                    _ => {
                        let _ = http_body_util::BodyExt::collect(request.into_body()).await;
                        http::Response::new(empty())
                    }
                }
            })
            .await;
            let stage = Stage::speaking(protocol, upstream.address).await;
            let mut client = Connection::new(stage.proxy.address, is_http2).await;
            let (_sender, body) = if phase == "/body" {
                let (sender, body) = piped();
                (Some(sender), body)
            } else {
                (None, empty())
            };
            let request = http::Request::post(phase).body(body).unwrap();
            let asked = tokio::spawn(async move {
                let response = client.send(request).await;
                (client, response)
            });
            until("the upstream was asked", || async { (upstream.count() == 1).then_some(()) }).await;
            if phase == "/answer" {
                drop(asked.await.unwrap());
            } else {
                asked.abort();
                let _ = asked.await;
            }
            stage.assert_in_order().await;
            let aborted = stage.proxy.metric("weir_errors_total", &["code=\"client_aborted\""]).await;
            assert_eq!(aborted, 1.0, "{protocol} {is_http2} {phase}");
        }
    }
}

#[tokio::test]
async fn client_that_vanishes_while_nobody_reads_its_body_is_forgotten_in_time() {
    // Its end is behind what nobody reads: only time can tell.
    for protocol in ["http1", "http2"] {
        let go = std::sync::Arc::new(Notify::new());
        let wait = std::sync::Arc::clone(&go);
        let upstream = Upstream::answering(move |request| {
            let wait = std::sync::Arc::clone(&wait);
            async move {
                wait.notified().await;
                drop(request);
                http::Response::new(empty())
            }
        })
        .await;
        let settings = Settings { protocol, upstream: "timeouts: { response: 1s }", ..Settings::default() };
        let stage = Stage::with(&[upstream.address], settings).await;
        let mut client = Client::connect(stage.proxy.address).await;
        client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000000\r\n\r\n").await;
        let part = vec![7; 1 << 16];
        let stuck = async { while client.0.write_all(&part).await.is_ok() {} };
        // Until all that takes bytes is full.
        let _ = tokio::time::timeout(Duration::from_millis(700), stuck).await;
        drop(client);
        stage.assert_in_order().await;
    }
}

#[tokio::test]
async fn connections_that_come_and_go_leave_nothing() {
    let upstream = Scripted::start(|mut stream, _| async move {
        drain(&mut stream).await;
    })
    .await;
    let stage = Stage::before(upstream.address).await;
    for round in 0..200 {
        let mut client = Client::connect(stage.proxy.address).await;
        let said = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhello";
        client.send(&said[..round % said.len()]).await;
        if round % 3 == 0 {
            socket2::SockRef::from(&client.0).set_linger(Some(Duration::ZERO)).unwrap();
        }
    }
    stage.assert_in_order().await;
}
