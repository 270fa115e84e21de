//! How long a request may take on its route, and how large its body may be.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;

use crate::support::raw::Client;
use crate::support::upstream::full;
use crate::support::{Ask, BOTH, PATIENCE, Proxy, Upstream, Via};

async fn limited(upstream: &Upstream, route: &str) -> Proxy {
    Proxy::start(&format!(
        "upstreams: {{ slow: {{ endpoints: ['{}'] }} }}\nsplits: {{ s: {{ key: [header:x-id], variants: [{{ name: slow }}] }} \
         }}\nroutes: [{{ paths: [/split], split: s, {route} }}, {{ upstream: slow, {route} }}]\n",
        upstream.address
    ))
    .await
}

#[tokio::test]
async fn response_that_does_not_begin_in_the_route_s_time_is_504() {
    let upstream = Upstream::answering(|_| std::future::pending()).await;
    let proxy = limited(&upstream, "timeout: 150ms").await;
    for path in ["/", "/split"] {
        for via in BOTH {
            let started = Instant::now();
            let answer = Ask::get(path).send(via, proxy.address).await;
            assert_eq!(answer.outcome(), "504 route_timeout", "{via:?} {path}");
            assert!(answer.body.contains("route_timeout"), "{}", answer.body);
            assert!(
                started.elapsed() >= Duration::from_millis(150),
                "{via:?} {path}: {:?}",
                started.elapsed()
            );
        }
    }
    let failures =
        proxy.metric("weir_upstream_failures_total", &["upstream=\"slow\"", "cause=\"timeout\""]).await;
    assert_eq!(failures, 4.0);
    let answered = proxy.metric("weir_upstream_requests_total", &["upstream=\"slow\"", "code=\"504\""]).await;
    assert_eq!(answered, 4.0);
    assert_eq!(
        proxy.metric("weir_errors_total", &["code=\"route_timeout\"", "blame=\"upstream\""]).await,
        4.0
    );
}

#[tokio::test]
async fn body_that_does_not_end_in_the_route_s_time_is_broken_off_and_not_closed_as_if_whole() {
    let upstream = Upstream::answering(|_| async {
        let parts = futures_util::stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Some((Ok(Frame::data(Bytes::from_static(b"part"))), ()))
        });
        http::Response::new(StreamBody::new(parts).boxed())
    })
    .await;
    let proxy = limited(&upstream, "timeout: 200ms").await;
    let mut client = Client::connect(proxy.address).await;
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let read = client.read_to_end().await;
    assert!(read.starts_with("HTTP/1.1 200 OK\r\n") && read.contains("part"), "{read}");
    assert!(!read.ends_with("0\r\n\r\n"), "a part passes for the whole: {read}");
    let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let answer = client.get(proxy.url("/split")).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let broken = tokio::time::timeout(PATIENCE, answer.bytes()).await.expect("an end");
    assert!(broken.is_err(), "a part passes for the whole: {broken:?}");
    let failed = crate::support::until("both are counted", || async {
        let failures = proxy.metric("weir_upstream_failures_total", &["cause=\"timeout\""]).await;
        (failures >= 2.0).then_some(failures)
    });
    assert_eq!(failed.await, 2.0);
}

#[tokio::test]
async fn request_within_its_time_is_not_disturbed() {
    let upstream = Upstream::named("slow").await;
    let proxy = limited(&upstream, "timeout: 60s").await;
    for via in BOTH {
        assert_eq!(Ask::get("/split").send(via, proxy.address).await.outcome(), "200");
    }
}

#[tokio::test]
async fn body_over_the_route_s_limit_is_413_whether_its_length_is_told_or_not() {
    let upstream = Upstream::answering(|request| async move {
        let length = request.into_body().collect().await.map_or(0, |body| body.to_bytes().len());
        http::Response::new(full(length.to_string()))
    })
    .await;
    let proxy = limited(&upstream, "max_body: 1KiB").await;
    for via in BOTH {
        for (length, expected) in
            [(0, "200"), (1024, "200"), (1025, "413 body_too_large"), (100_000, "413 body_too_large")]
        {
            let answer = Ask::new("POST", "/split").body(vec![b'x'; length]).send(via, proxy.address).await;
            assert_eq!(answer.outcome(), expected, "{via:?} {length}");
            if answer.status == 200 {
                assert_eq!(answer.body, length.to_string(), "{via:?}");
            }
        }
    }
    for (chunk, expected) in [(1024, 200), (1025, 413)] {
        let mut client = Client::connect(proxy.address).await;
        let body = "x".repeat(chunk);
        let head = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
        client.send(format!("{head}{chunk:x}\r\n{body}\r\n0\r\n\r\n")).await;
        let answer = client.read_response().await;
        assert_eq!(crate::support::raw::status(&answer), expected, "{answer}");
    }
    let answer = Ask::get("/").send(Via::Http1, proxy.address).await;
    assert_eq!(answer.outcome(), "200", "the next one is none the worse for it");
}
