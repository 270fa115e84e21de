//! Limits in size and in time.

use std::time::{Duration, Instant};

use http::Request;
use tokio::io::AsyncWriteExt;

use crate::support::client::{Connection, empty, piped};
use crate::support::raw::{Client, exchange, status};
use crate::support::stage::Settings;
use crate::support::upstream::full;
use crate::support::{PATIENCE, Stage, Upstream, until};

#[tokio::test]
async fn head_over_the_limit_is_refused_and_one_under_it_passes() {
    let upstream = Upstream::named("one").await;
    let settings = Settings { listener: "max_header: 16KiB", ..Settings::default() };
    let stage = Stage::with(&[upstream.address], settings).await;
    let field = |size: usize| {
        format!("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx-a: {}\r\n\r\n", "b".repeat(size))
    };
    let uri =
        |size: usize| format!("GET /{} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", "b".repeat(size));
    let many = |count: usize| {
        let fields = (0..count).fold(String::new(), |fields, index| fields + &format!("x-{index}: b\r\n"));
        format!("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{fields}\r\n")
    };
    let rows = [
        (field(10 * 1024), 200),
        (field(17 * 1024), 431),
        (field(1024 * 1024), 431),
        (uri(10 * 1024), 200),
        (uri(17 * 1024), 414),
        (many(100), 200),
        (many(300), 431),
        (many(5_000), 431),
        (format!("{}\r\n\r\n", "A".repeat(100 * 1024)), 431),
    ];
    let mut passed = 0;
    for (request, expected) in rows {
        let answer = exchange(stage.proxy.address, &request).await;
        let row = &request[..request.len().min(60)];
        assert!(!answer.is_empty(), "{row:?} got no answer");
        assert_eq!(status(&answer), expected, "{row:?} of {}: {answer}", request.len());
        passed += usize::from(expected == 200);
        assert_eq!(upstream.count(), passed, "{row:?}");
    }
    stage.assert_in_order().await;
}

#[tokio::test]
async fn largest_head_that_may_be_configured_passes() {
    let upstream = Upstream::named("one").await;
    let settings = Settings { listener: "max_header: 1MiB", ..Settings::default() };
    let stage = Stage::with(&[upstream.address], settings).await;
    let mut client = Connection::new(stage.proxy.address, false).await;
    for size in [60 << 10, 300 << 10] {
        let request = Request::get("/").header("x-a", "b".repeat(size)).body(empty()).unwrap();
        let (response, _, _) = client.exchange(request).await;
        // The upstream of this test takes 400 KiB.
        assert_eq!(response.status(), 200, "{size}");
    }
    drop(client);
    stage.assert_in_order().await;
}

#[tokio::test]
async fn head_that_does_not_end_is_answered_and_closed_in_time() {
    let upstream = Upstream::named("one").await;
    let settings = Settings { listener: "timeouts: { header: 200ms, idle: 20s }", ..Settings::default() };
    let stage = Stage::with(&[upstream.address], settings).await;
    for said in ["G", "GET / HTTP/1.1\r\nhost: a\r\n", "GET / HTTP/1.1\r\nhost: a\r\nx-a: b"] {
        for before in ["", "GET / HTTP/1.1\r\nhost: a\r\n\r\n"] {
            let mut client = Client::connect(stage.proxy.address).await;
            if !before.is_empty() {
                client.send(before).await;
                assert_eq!(status(&client.read_response().await), 200);
            }
            let began = Instant::now();
            client.send(said).await;
            let answer = client.read_to_end().await;
            assert_eq!(status(&answer), 408, "{said:?} after {before:?}: {answer}");
            for part in ["x-weir-error: header_timeout\r\n", "connection: close\r\n"] {
                assert!(answer.contains(part), "{said:?}: {answer}");
            }
            assert!(began.elapsed() >= Duration::from_millis(190), "{:?}", began.elapsed());
            assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        }
    }
    let told = stage.proxy.metric("weir_errors_total", &["code=\"header_timeout\""]).await;
    assert_eq!(told, 6.0);
    stage.assert_in_order().await;
}

#[tokio::test]
async fn head_that_trickles_in_has_no_more_time_than_one_that_stands_still() {
    let upstream = Upstream::named("one").await;
    let settings = Settings { listener: "timeouts: { header: 300ms }", ..Settings::default() };
    let stage = Stage::with(&[upstream.address], settings).await;
    let mut client = Client::connect(stage.proxy.address).await;
    client.send("GET / HTTP/1.1\r\nhost: a\r\nx-a: ").await;
    let (mut read, mut write) = client.0.split();
    let mut answer = String::new();
    let trickle = async {
        while write.write_all(b"b").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = trickle => {}
        read = tokio::io::AsyncReadExt::read_to_string(&mut read, &mut answer) => drop(read),
        () = tokio::time::sleep(PATIENCE) => panic!("it goes on for ever"),
    }
    assert_eq!(status(&answer), 408, "{answer}");
    drop(client);
    stage.assert_in_order().await;
}

#[tokio::test]
async fn connection_that_says_nothing_is_closed_without_a_word() {
    let upstream = Upstream::named("one").await;
    let settings = Settings { listener: "timeouts: { header: 200ms, idle: 200ms }", ..Settings::default() };
    let stage = Stage::with(&[upstream.address], settings).await;
    let mut fresh = Client::connect(stage.proxy.address).await;
    assert_eq!(fresh.read_to_end().await, "", "never said a word");
    let mut used = Client::connect(stage.proxy.address).await;
    for _ in 0..3 {
        used.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert_eq!(status(&used.read_response().await), 200);
    }
    let began = Instant::now();
    assert_eq!(used.read_to_end().await, "", "idle");
    assert!(began.elapsed() >= Duration::from_millis(190), "{:?}", began.elapsed());
    stage.assert_in_order().await;
}

#[tokio::test]
async fn connection_that_serves_is_not_idle() {
    let upstream = Upstream::answering(|_| async {
        tokio::time::sleep(Duration::from_millis(600)).await;
        http::Response::new(full("late"))
    })
    .await;
    let settings = Settings { listener: "timeouts: { header: 200ms, idle: 200ms }", ..Settings::default() };
    let stage = Stage::with(&[upstream.address], settings).await;
    for is_http2 in [false, true] {
        let mut client = Connection::new(stage.proxy.address, is_http2).await;
        let (response, body, _) = client.exchange(Request::get("/").body(empty()).unwrap()).await;
        assert_eq!((response.status().as_u16(), &*body), (200, &b"late"[..]), "{is_http2}");
    }
    stage.assert_in_order().await;
}

#[tokio::test]
async fn body_that_stands_still_is_answered_and_aborted() {
    for (protocol, is_http2) in crate::bodies::PROTOCOLS {
        let upstream = Upstream::answering(|request| async move {
            let _ = http_body_util::BodyExt::collect(request.into_body()).await;
            http::Response::new(empty())
        })
        .await;
        let settings = Settings { protocol, listener: "timeouts: { body: 200ms }", ..Settings::default() };
        let stage = Stage::with(&[upstream.address], settings).await;
        let mut client = Connection::new(stage.proxy.address, is_http2).await;
        let (sender, body) = piped();
        sender.send(http_body::Frame::data("some".into())).await.unwrap();
        let response = client.send(Request::post("/").body(body).unwrap()).await.unwrap();
        assert_eq!(response.status(), 408, "{protocol} {is_http2}");
        assert_eq!(response.headers()["x-weir-error"], "body_timeout");
        drop((client, response, sender));
        stage.assert_in_order().await;
    }
}

#[tokio::test]
async fn body_over_the_limit_is_refused_by_its_length_and_by_its_bytes() {
    for (protocol, is_http2) in crate::bodies::PROTOCOLS {
        let upstream = Upstream::answering(|request| async move {
            let whole = http_body_util::BodyExt::collect(request.into_body()).await;
            let length = whole.map_or(0, |whole| whole.to_bytes().len());
            http::Response::new(full(length.to_string()))
        })
        .await;
        let settings = Settings { protocol, route: "max_body: 1KiB", ..Settings::default() };
        let stage = Stage::with(&[upstream.address], settings).await;
        for (size, expected) in [(1024, 200), (1025, 413), (10_000_000, 413)] {
            let mut client = Connection::new(stage.proxy.address, is_http2).await;
            let before = upstream.count();
            let sent = client.send(Request::post("/").body(full(vec![7; size])).unwrap()).await;
            let response = sent.unwrap_or_else(|error| panic!("{protocol} {is_http2} {size}: {error:?}"));
            assert_eq!(response.status(), expected, "{protocol} {is_http2} {size} by length");
            if expected == 413 {
                assert_eq!(response.headers()["x-weir-error"], "body_too_large");
                assert_eq!(upstream.count(), before, "told by the length, it reaches no upstream");
            }
        }
        for (parts, expected) in [(4, 200), (5, 413), (1000, 413)] {
            let mut client = Connection::new(stage.proxy.address, is_http2).await;
            let (sender, body) = piped();
            tokio::spawn(async move {
                for _ in 0..parts {
                    if sender.send(http_body::Frame::data(vec![7; 256].into())).await.is_err() {
                        return;
                    }
                }
            });
            let sent = client.send(Request::post("/").body(body).unwrap()).await;
            let response = sent.unwrap_or_else(|error| panic!("{protocol} {is_http2} {parts}: {error:?}"));
            assert_eq!(response.status(), expected, "{protocol} {is_http2} {parts} parts");
        }
        stage.assert_in_order().await;
    }
}

#[tokio::test]
async fn many_slow_heads_do_not_keep_others_from_being_served() {
    let upstream = Upstream::named("one").await;
    let settings = Settings { listener: "timeouts: { header: 1s }", ..Settings::default() };
    let stage = Stage::with(&[upstream.address], settings).await;
    let mut slow = Vec::new();
    for _ in 0..300 {
        let mut client = Client::connect(stage.proxy.address).await;
        client.send("GET / HTTP/1.1\r\nhost: ").await;
        slow.push(client);
    }
    let answer =
        exchange(stage.proxy.address, "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert_eq!(status(&answer), 200);
    for client in &mut slow {
        assert_eq!(status(&client.read_to_end().await), 408);
    }
    drop(slow);
    until("they are counted", || async {
        let counted = stage.proxy.metric("weir_errors_total", &["code=\"header_timeout\""]).await;
        (counted == 300.0).then_some(())
    })
    .await;
    stage.assert_in_order().await;
}
