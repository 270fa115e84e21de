//! Endpoints that are dead, slow, or lie: the client learns what happened, nobody gets a part for the whole, and no
//! answer ever reaches another request.

mod bodies;
mod connections;
mod http2;
mod queue;
mod splits;

use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::client::{Connection, empty};
use crate::support::raw::{Scripted, drain, exchange, read_head, status};
use crate::support::stage::Settings;
use crate::support::upstream::nobody;
use crate::support::{Stage, Upstream};

const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";

/// Passes when a plain request is answered by the proxy itself, as `expected` says, to both kinds of clients.
async fn assert_fails(stage: &Stage, expected: (u16, &str), row: &str) {
    let answer = exchange(stage.proxy.address, GET).await;
    assert_eq!(status(&answer), expected.0, "{row}: {answer}");
    assert!(answer.contains(&format!("x-weir-error: {}\r\n", expected.1)), "{row}: {answer}");
    let mut client = Connection::new(stage.proxy.address, true).await;
    let (response, body, _) = client.exchange(http::Request::get("/").body(empty()).unwrap()).await;
    let told = response.headers().get("x-weir-error").map_or("", |code| code.to_str().unwrap());
    assert_eq!((response.status().as_u16(), told), expected, "{row}");
    assert!(!body.is_empty(), "{row}");
    let counted = stage.proxy.metric("weir_errors_total", &[&format!("code=\"{}\"", expected.1)]).await;
    assert!(counted >= 2.0, "{row}: {counted}");
}

async fn failures(stage: &Stage, cause: &str) -> f64 {
    let labels = ["upstream=\"one\"", &format!("cause=\"{cause}\"")];
    stage.proxy.metric("weir_upstream_failures_total", &labels).await
}

#[tokio::test]
async fn dead_endpoint_is_told() {
    for protocol in ["http1", "http2"] {
        let stage = Stage::speaking(protocol, nobody()).await;
        assert_fails(&stage, (503, "connect_refused"), protocol).await;
        assert_eq!(failures(&stage, "connect").await, 4.0, "each request is tried twice");
        stage.assert_in_order().await;
    }
}

#[tokio::test]
async fn dead_endpoint_among_two_is_passed_over() {
    for protocol in ["http1", "http2"] {
        for balance in ["balance: round_robin", "balance: least_request"] {
            let alive = Upstream::named("alive").await;
            let settings = Settings { protocol, upstream: balance, ..Settings::default() };
            let stage = Stage::with(&[nobody(), alive.address], settings).await;
            let mut client = Connection::new(stage.proxy.address, false).await;
            for _ in 0..40 {
                let (response, body, _) =
                    client.exchange(http::Request::get("/").body(empty()).unwrap()).await;
                assert_eq!(
                    (response.status().as_u16(), &*body),
                    (200, &b"alive"[..]),
                    "{protocol} {balance}"
                );
            }
            let retries = stage.proxy.metric("weir_upstream_retries_total", &["outcome=\"success\""]).await;
            // A failure counts as load: `least_request` hardly asks it again.
            let least = if balance.ends_with("least_request") { 1.0 } else { 3.0 };
            assert!(retries >= least, "{protocol} {balance}: {retries}");
            assert_eq!(failures(&stage, "connect").await, retries);
            drop(client);
            stage.assert_in_order().await;
        }
    }
}

#[tokio::test]
async fn endpoint_that_takes_no_connection_is_given_up() {
    let hole = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    hole.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    hole.listen(0).unwrap();
    let address = hole.local_addr().unwrap().as_socket().unwrap();
    // Nobody accepts: connections wait in the queue until it is full, and then are not answered any more.
    let mut waiting = Vec::new();
    while let Ok(Ok(stream)) =
        tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address)).await
    {
        waiting.push(stream);
        assert!(waiting.len() < 64, "the queue has no end");
    }
    for protocol in ["http1", "http2"] {
        let settings = Settings { protocol, upstream: "timeouts: { connect: 150ms }", ..Settings::default() };
        let stage = Stage::with(&[address], settings).await;
        assert_fails(&stage, (504, "connect_timeout"), protocol).await;
        assert_eq!(failures(&stage, "connect").await, 2.0);
        // Many at once wait no longer than one.
        let began = std::time::Instant::now();
        let asking = (0..40).map(|_| exchange(stage.proxy.address, GET));
        for answer in futures_util::future::join_all(asking).await {
            assert_eq!(status(&answer), 504, "{protocol}: {answer}");
        }
        assert!(began.elapsed() < Duration::from_secs(4), "{protocol}: {:?}", began.elapsed());
        stage.assert_in_order().await;
    }
}

#[tokio::test]
async fn endpoint_that_does_not_answer_is_given_up() {
    for protocol in ["http1", "http2"] {
        let upstream = Upstream::answering(|_| std::future::pending()).await;
        let rows = [
            ("timeouts: { response: 150ms }", "", "response_timeout"),
            ("", "timeout: 150ms", "route_timeout"),
        ];
        for (limit, route, code) in rows {
            let settings = Settings { protocol, upstream: limit, route, ..Settings::default() };
            let stage = Stage::with(&[upstream.address], settings).await;
            assert_fails(&stage, (504, code), protocol).await;
            if route.is_empty() {
                assert_eq!(failures(&stage, "timeout").await, 2.0);
            }
            stage.assert_in_order().await;
        }
    }
}

#[tokio::test]
async fn answer_that_is_none_is_told() {
    let many: &'static str = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x-a: b\r\n".repeat(5_000)).leak();
    let large: &'static str = format!("HTTP/1.1 200 OK\r\nx-a: {}\r\n\r\n", "b".repeat(300 * 1024)).leak();
    let (reset, protocol) = ((502, "upstream_reset"), (502, "upstream_protocol"));
    let rows = [
        ("", reset),
        ("HTTP/1.1 200 OK\r\ncontent-le", reset),
        ("HTTP/1.1 103 Early Hints\r\n\r\n", reset),
        ("HTTP/1.1 100 Continue\r\n\r\n", reset),
        ("SSH-2.0-OpenSSH_9.9\r\n", protocol),
        ("\0\0\0\0\0\0", protocol),
        ("<html>no head at all</html>\r\n\r\n", protocol),
        ("HTTP/1.1 20 OK\r\n\r\n", protocol),
        ("HTTP/1.1 abc OK\r\n\r\n", protocol),
        ("HTTP/3.7 200 OK\r\n\r\n", protocol),
        ("HTTP/2.0 200 OK\r\n\r\n", protocol),
        ("HTTP/1.1 200 OK\r\nx-a : b\r\n\r\n", protocol),
        ("HTTP/1.1 200 OK\r\nx-a: b\r\n c\r\n\r\n", protocol),
        ("HTTP/1.1 200 OK\r\nx-a: b\0c\r\n\r\n", protocol),
        ("HTTP/1.1 200 OK\r\nno colon\r\n\r\n", protocol),
        ("HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\nhello", protocol),
        ("HTTP/1.1 200 OK\r\ncontent-length: +5\r\n\r\nhello", protocol),
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello", protocol),
        ("HTTP/1.1 200 OK\r\ncontent-length: 5, 6\r\n\r\nhello", protocol),
        ("HTTP/1.1 200 OK\r\ncontent-length: 18446744073709551617\r\n\r\nhello", protocol),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            protocol,
        ),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", protocol),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nhello", protocol),
        ("HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", protocol),
        ("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n", protocol),
        (many, protocol),
        (large, protocol),
    ];
    for (said, expected) in rows {
        let upstream = Scripted::start(move |mut stream, _| async move {
            // The proxy may have heard enough.
            let _ = stream.write_all(said.as_bytes()).await;
            let _ = stream.shutdown().await;
            drain(&mut stream).await;
        })
        .await;
        let stage = Stage::before(upstream.address).await;
        let row = &said[..said.len().min(80)];
        assert_fails(&stage, expected, row).await;
        // What broke off is tried again, what is not HTTP would be so again.
        let (cause, count) = if expected == reset { ("reset", 4.0) } else { ("protocol", 2.0) };
        assert_eq!(failures(&stage, cause).await, count, "{row:?}");
        stage.assert_in_order().await;
    }
}

#[tokio::test]
async fn connection_reset_before_the_answer_is_told() {
    let upstream = Scripted::accepting(|mut stream| async move {
        read_head(&mut stream).await;
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    })
    .await;
    let stage = Stage::before(upstream.address).await;
    assert_fails(&stage, (502, "upstream_reset"), "reset").await;
    assert_eq!(failures(&stage, "reset").await, 4.0, "each request is tried twice");
    stage.assert_in_order().await;
}

#[tokio::test]
async fn http2_endpoint_that_breaks_the_protocol_is_told() {
    // It answers the preface with HTTP/1, with garbage, by closing, or with a reset of the stream.
    let garbage: &'static str = "garbage".repeat(100).leak();
    let text = "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
    for (said, is_text) in [(text, true), (garbage, true), ("", true), ("", false)] {
        let upstream = Scripted::accepting(move |mut stream| async move {
            if is_text {
                let _ = stream.write_all(said.as_bytes()).await;
                let _ = stream.shutdown().await;
                drain(&mut stream).await;
                return;
            }
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                respond.send_reset(h2::Reason::INTERNAL_ERROR);
            }
        })
        .await;
        let stage = Stage::speaking("http2", upstream.address).await;
        let answer = exchange(stage.proxy.address, GET).await;
        assert_eq!(status(&answer), 502, "{said:?}: {answer}");
        stage.assert_in_order().await;
    }
}

#[tokio::test]
async fn endless_interim_responses_end_with_the_time_for_the_response() {
    for (protocol, is_http2) in super::bodies::PROTOCOLS {
        let upstream = if protocol == "http1" {
            Scripted::start(|mut stream, _| async move {
                let hint = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
                while stream.write_all(hint).await.is_ok() {}
            })
            .await
        } else {
            Scripted::accepting(|stream| async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                let Some(Ok((_, mut respond))) = connection.accept().await else { return };
                let flood = async {
                    let early = || http::Response::builder().status(103).body(()).unwrap();
                    while respond.send_informational(early()).is_ok() {
                        tokio::task::yield_now().await;
                    }
                };
                let go_on = async { while connection.accept().await.is_some() {} };
                tokio::join!(flood, go_on);
            })
            .await
        };
        let settings =
            Settings { protocol, upstream: "timeouts: { response: 300ms }", ..Settings::default() };
        let stage = Stage::with(&[upstream.address], settings).await;
        let mut client = Connection::new(stage.proxy.address, is_http2).await;
        let (response, _, _) = client.exchange(http::Request::get("/").body(empty()).unwrap()).await;
        let status = response.status().as_u16();
        // Whoever floods may also be cut off before.
        assert!(matches!(status, 502 | 504), "{protocol} {is_http2}: {status}");
        drop(client);
        stage.assert_in_order().await;
    }
}
