//! Which protocol is spoken, how few handshakes are made, and endpoints that fail in one.

use std::time::Duration;

use futures_util::future::join_all;
use http::{HeaderValue, Response, Version};
use rustls::version::{TLS12, TLS13};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{GET, Ground, outcome, stage, tls_failures};
use crate::support::raw::{Scripted, drain, exchange, status};
use crate::support::secure::{Secure, Terms, server};
use crate::support::upstream::{full, nobody};
use crate::support::{Stage, Upstream};

const REFUSED: &str = "502 upstream_tls";

#[tokio::test]
async fn protocol_is_what_is_configured_and_the_endpoint_chooses() {
    let ground = Ground::new();
    let (one, two) = (Some(Version::HTTP_11), Some(Version::HTTP_2));
    let (h1, h2) = ("http/1.1", "h2");
    let rows: &[(&str, &[&str], Option<Version>)] = &[
        ("http1", &[h2, h1], one),
        ("http1", &[h1], one),
        ("http1", &[], one),
        ("http1", &[h2], None),
        ("http2", &[h2, h1], two),
        ("http2", &[h1, h2], two),
        ("http2", &[h2], two),
        ("http2", &[h1], None),
        ("http2", &[], None),
        ("auto", &[h2, h1], two),
        ("auto", &[h1, h2], one),
        ("auto", &[h2], two),
        ("auto", &[h1], one),
        ("auto", &[], one),
    ];
    for (protocol, alpn, expected) in rows {
        let row = format!("{protocol} {alpn:?}");
        let terms = Terms { alpn, ..Terms::default() };
        let upstream = Secure::named("tls", server(&ground.leaf(), terms)).await;
        let stage = stage(&[upstream.endpoint()], protocol, &ground.tls("")).await;
        for _ in 0..3 {
            let expected = if expected.is_some() { "200 tls" } else { REFUSED };
            assert_eq!(outcome(&stage).await, expected, "{row}");
        }
        let seen = upstream.seen.lock().unwrap().clone();
        let Some(version) = *expected else {
            assert_eq!(seen, [], "{row}");
            assert_eq!(tls_failures(&stage).await, 3.0, "{row}");
            continue;
        };
        assert_eq!(seen, [(version, version == Version::HTTP_2); 3], "{row}");
        let shakes = upstream.shakes();
        assert_eq!(shakes.len(), 1, "{row}: {shakes:?}");
        if !alpn.is_empty() {
            let chosen = if version == Version::HTTP_2 { h2 } else { h1 };
            assert_eq!(shakes[0].alpn.as_deref(), Some(chosen), "{row}");
        }
        stage.assert_in_order().await;
    }
}

#[tokio::test]
async fn endpoint_without_tls_is_asked_in_http1_where_it_may_choose() {
    let upstream = Upstream::named("plain").await;
    let stage = Stage::speaking("auto", upstream.address).await;
    assert_eq!(outcome(&stage).await, "200 plain");
    assert_eq!(upstream.last().version, Version::HTTP_11);
    stage.assert_in_order().await;
}

#[tokio::test]
async fn burst_waits_for_one_handshake_to_learn_what_is_spoken() {
    let ground = Ground::new();
    for (alpn, most) in [("h2", 1), ("http/1.1", 40)] {
        let terms = Terms { alpn: &[alpn], ..Terms::default() };
        let upstream = Secure::named("tls", server(&ground.leaf(), terms)).await;
        let stage = stage(&[upstream.endpoint()], "auto", &ground.tls("")).await;
        for outcome in join_all((0..40).map(|_| outcome(&stage))).await {
            assert_eq!(outcome, "200 tls", "{alpn}");
        }
        let count = upstream.shakes().len();
        assert!((1..=most).contains(&count), "{alpn}: {count} handshakes");
        stage.assert_in_order().await;
    }
}

#[tokio::test]
async fn endpoint_that_chooses_another_protocol_later_is_followed() {
    let ground = Ground::new();
    let leaf = ground.leaf();
    let terms = |alpn| server(&leaf, Terms { alpn, ..Terms::default() });
    let first = Secure::named("h2", terms(&["h2"])).await;
    let address = first.address;
    let stage = stage(&[first.endpoint()], "auto", &ground.tls("")).await;
    assert_eq!(outcome(&stage).await, "200 h2");
    let mut former = first;
    for (name, alpn) in
        [("h1", &["http/1.1"][..]), ("both", &["h2", "http/1.1"]), ("none", &[]), ("h2", &["h2"])]
    {
        drop(former);
        former = Secure::at(address, name, terms(alpn)).await;
        for _ in 0..3 {
            assert_eq!(outcome(&stage).await, format!("200 {name}"));
        }
    }
    stage.assert_in_order().await;
}

#[tokio::test]
async fn many_requests_need_one_handshake() {
    let ground = Ground::new();
    for protocol in ["http1", "http2", "auto"] {
        let upstream = Secure::named("tls", server(&ground.leaf(), Terms::default())).await;
        let stage = stage(&[upstream.endpoint()], protocol, &ground.tls("")).await;
        for _ in 0..50 {
            assert_eq!(outcome(&stage).await, "200 tls");
        }
        assert_eq!(upstream.shakes().len(), 1, "{protocol}");
        stage.assert_in_order().await;
    }
}

#[tokio::test]
async fn session_is_resumed_by_the_next_connection() {
    let ground = Ground::new();
    for versions in [[&TLS12], [&TLS13]] {
        let terms = Terms { versions: &versions, ..Terms::default() };
        let upstream = Secure::answering(server(&ground.leaf(), terms), |_| async {
            let mut response = Response::new(full("once"));
            response.headers_mut().insert("connection", HeaderValue::from_static("close"));
            response
        })
        .await;
        let stage = stage(&[upstream.endpoint()], "http1", &ground.tls("")).await;
        for _ in 0..4 {
            assert_eq!(outcome(&stage).await, "200 once");
        }
        let resumed: Vec<_> = upstream.shakes().iter().map(|shake| shake.is_resumed).collect();
        assert_eq!(resumed, [false, true, true, true], "{versions:?}");
        stage.assert_in_order().await;
    }
}

#[tokio::test]
async fn idle_connection_outlives_what_is_no_data_and_not_its_end() {
    let ground = Ground::new();
    for ends in [false, true] {
        let done = std::sync::Arc::new(tokio::sync::Notify::new());
        let told = std::sync::Arc::clone(&done);
        let upstream = Secure::scripted(server(&ground.leaf(), Terms::default()), move |mut stream| {
            let told = std::sync::Arc::clone(&told);
            async move {
                let mut read = vec![0; 65536];
                while stream.read(&mut read).await.is_ok_and(|count| count > 0) {
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
                    stream.flush().await.unwrap();
                    if ends {
                        stream.shutdown().await.unwrap();
                    } else {
                        stream.get_mut().1.refresh_traffic_keys().unwrap();
                        stream.flush().await.unwrap();
                    }
                    told.notify_one();
                }
            }
        })
        .await;
        let stage = stage(&[upstream.endpoint()], "http1", &ground.tls("")).await;
        for _ in 0..3 {
            // One that is not sent again when its connection turns out to be closed.
            let post = "POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi";
            let answer = exchange(stage.proxy.address, post).await;
            assert_eq!(status(&answer), 200, "{ends}: {answer}");
            done.notified().await;
        }
        assert_eq!(upstream.shakes().len(), if ends { 3 } else { 1 });
    }
}

#[tokio::test]
async fn endpoint_that_makes_no_handshake_is_told() {
    let ground = Ground::new();
    let stalling = Scripted::accepting(|mut stream| async move {
        let _ = drain(&mut stream).await;
    })
    .await;
    let closing = Scripted::accepting(|mut stream| async move {
        let _ = stream.read(&mut [0; 16]).await;
        let _ = stream.shutdown().await;
        drain(&mut stream).await;
    })
    .await;
    let resetting = Scripted::accepting(|mut stream| async move {
        let _ = stream.read(&mut [0; 16]).await;
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    })
    .await;
    let speaking = Scripted::accepting(|mut stream| async move {
        let _ = stream.write_all(b"220 mail.example ESMTP\r\n").await;
        drain(&mut stream).await;
    })
    .await;
    let plain = Upstream::named("plain").await;
    let rows = [
        ("stalls", stalling.address, "504 connect_timeout"),
        ("closes", closing.address, REFUSED),
        ("resets", resetting.address, REFUSED),
        ("speaks first", speaking.address, REFUSED),
        ("speaks HTTP", plain.address, REFUSED),
        ("does not listen", nobody(), "503 connect_refused"),
    ];
    for (row, address, expected) in rows {
        for protocol in ["http1", "http2", "auto"] {
            let limits = format!("timeouts: {{ connect: 300ms }}, {}", ground.tls(""));
            let stage = stage(&[format!("https://{address}")], protocol, &limits).await;
            let began = std::time::Instant::now();
            for outcome in join_all((0..10).map(|_| outcome(&stage))).await {
                assert_eq!(outcome, expected, "{row}, {protocol}");
            }
            assert!(began.elapsed() < Duration::from_secs(5), "{row}, {protocol}: {:?}", began.elapsed());
            let failed = if expected == REFUSED { 10.0 } else { 0.0 };
            assert_eq!(tls_failures(&stage).await, failed, "{row}, {protocol}");
            stage.assert_in_order().await;
        }
    }
    assert_eq!(plain.count(), 0);
}

#[tokio::test]
async fn request_goes_to_the_next_endpoint_and_to_the_baseline() {
    let ground = Ground::new();
    let good = Secure::named("good", server(&ground.leaf(), Terms::default())).await;
    let other = Ground::new();
    let bad = Secure::named("bad", server(&other.leaf(), Terms::default())).await;
    let asking = Terms { clients: Some(&other.ca), ..Terms::default() };
    let asking = Secure::named("asking", server(&ground.leaf(), asking)).await;
    let post = "POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello";
    for protocol in ["http1", "http2", "auto"] {
        let keys = format!("balance: round_robin, {}", ground.tls(""));
        let stage = stage(&[bad.endpoint(), good.endpoint()], protocol, &keys).await;
        for _ in 0..10 {
            for request in [GET, post] {
                let answer = exchange(stage.proxy.address, request).await;
                assert!(status(&answer) == 200 && answer.ends_with("good"), "{protocol}: {answer}");
            }
        }
        assert!(tls_failures(&stage).await >= 3.0);
        stage.assert_in_order().await;

        for failing in [&bad, &asking] {
            let sections = format!(
                "splits:\n  s: {{ key: [header:x-user], variants: [{{ name: base }}, {{ name: one, weight: 100% }}] }}\n\
                 upstreams:\n  base: {{ endpoints: ['{}'], {tls} }}\n  \
                 one: {{ endpoints: ['{}'], protocol: {protocol}, {tls} }}\n",
                good.endpoint(),
                failing.endpoint(),
                tls = ground.tls(""),
            );
            let stage = Stage::serving("", &sections, "  - { split: s }\n").await;
            let answer =
                exchange(stage.proxy.address, GET.replace("\r\n\r\n", "\r\nx-user: u\r\n\r\n")).await;
            assert!(status(&answer) == 200 && answer.ends_with("good"), "{protocol}: {answer}");
            stage.assert_in_order().await;
        }
    }
    assert!(bad.seen.lock().unwrap().is_empty() && asking.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn endpoints_with_and_without_tls_stand_side_by_side() {
    let ground = Ground::new();
    let secure = Secure::named("secure", server(&ground.leaf(), Terms::default())).await;
    let plain = Upstream::named("plain").await;
    let keys = format!("balance: round_robin, {}", ground.tls(""));
    let endpoints = [secure.endpoint(), plain.address.to_string()];
    let stage = stage(&endpoints, "auto", &keys).await;
    let mut outcomes = Vec::new();
    for _ in 0..4 {
        outcomes.push(outcome(&stage).await);
    }
    outcomes.sort();
    assert_eq!(outcomes, ["200 plain", "200 plain", "200 secure", "200 secure"]);
    assert_eq!(secure.seen.lock().unwrap()[0].0, Version::HTTP_2);
    assert_eq!(plain.last().version, Version::HTTP_11);
    stage.assert_in_order().await;
}
