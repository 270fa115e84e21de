//! A request goes through and its answer comes back, in every combination of protocols.

use std::sync::atomic::Ordering;

use http::header::{CONNECTION, VIA};
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::support::raw::{Client, Scripted, exchange, status};
use crate::support::upstream::full;
use crate::support::{Proxy, Upstream, until};

fn one_upstream(upstream: &Upstream, protocol: &str) -> String {
    format!(
        "upstreams: {{ one: {{ endpoints: ['{}'], protocol: {protocol} }} }}\nroutes: [{{ upstream: one }}]\n",
        upstream.address
    )
}

#[tokio::test]
async fn request_and_response_pass_in_every_combination_of_protocols() {
    for upstream_protocol in ["http1", "http2"] {
        let upstream = Upstream::answering(|request| async move {
            let (head, body) = request.into_parts();
            let sent = body.collect().await.unwrap().to_bytes();
            let mut response =
                Response::new(full(format!("{} {} {}", head.method, head.uri.path(), sent.len())));
            response.headers_mut().insert("x-answer", http::HeaderValue::from_static("yes"));
            response
        })
        .await;
        let proxy = Proxy::start(&one_upstream(&upstream, upstream_protocol)).await;
        for prior_knowledge in [false, true] {
            let mut client = reqwest::Client::builder();
            if prior_knowledge {
                client = client.http2_prior_knowledge();
            }
            let client = client.build().unwrap();
            for size in [0, 1, 100_000, 3_000_000] {
                let response = client.post(proxy.url("/a/b?c=d")).body(vec![7; size]).send().await.unwrap();
                let row = format!("{upstream_protocol} {prior_knowledge} {size}");
                assert_eq!(response.status(), 200, "{row}");
                assert_eq!(response.headers()["x-answer"], "yes", "{row}");
                assert_eq!(response.text().await.unwrap(), format!("POST /a/b {size}"), "{row}");
            }
        }
        let seen = upstream.last();
        assert!(seen.target.ends_with("/a/b?c=d"), "{}", seen.target);
        assert_eq!(seen.version == http::Version::HTTP_2, upstream_protocol == "http2");
        assert_eq!(seen.header("via"), "2 weir");
        assert_eq!(seen.header("x-forwarded-for"), "127.0.0.1");
        assert_eq!(seen.header("x-forwarded-proto"), "http");
        assert_eq!(seen.header("x-forwarded-host"), proxy.address.to_string());
        assert_eq!(seen.header("x-request-id").len(), 32);
        assert_eq!(seen.header("connection"), "");
    }
}

#[tokio::test]
async fn connections_to_the_upstream_are_kept() {
    let upstream = Upstream::named("one").await;
    let proxy = Proxy::start_whole(&format!(
        "workers: 1\nlisteners: [{{ bind: 127.0.0.1:0 }}]\n{}",
        one_upstream(&upstream, "http1")
    ))
    .await;
    let client = reqwest::Client::new();
    for _ in 0..50 {
        assert_eq!(client.get(proxy.url("/")).send().await.unwrap().text().await.unwrap(), "one");
    }
    assert_eq!(upstream.count(), 50);
    assert_eq!(upstream.connections.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn what_is_between_two_hops_stays_there() {
    let upstream = Upstream::answering(|_| async {
        let mut response = Response::new(full("ok"));
        for (name, value) in [("connection", "x-private"), ("x-private", "1"), ("keep-alive", "timeout=9")] {
            response.headers_mut().insert(name, http::HeaderValue::from_static(value));
        }
        response
    })
    .await;
    let proxy = Proxy::start(&one_upstream(&upstream, "http1")).await;
    let stream = TcpStream::connect(proxy.address).await.unwrap();
    let (mut send, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    let driver = tokio::spawn(connection);
    let request = Request::get("/")
        .header("host", "a")
        .header(CONNECTION, "x-secret, keep-alive")
        .header("x-secret", "1")
        .header("te", "trailers, deflate")
        .header("upgrade", "websocket")
        .header("proxy-connection", "keep-alive")
        .body(Empty::<bytes::Bytes>::new())
        .unwrap();
    let response = send.send_request(request).await.unwrap();
    assert_eq!(response.headers()[VIA], "1.1 weir");
    for name in ["x-private", "keep-alive"] {
        assert!(!response.headers().contains_key(name), "{name} reached the client");
    }
    let seen = upstream.last();
    for name in ["x-secret", "upgrade", "proxy-connection"] {
        assert_eq!(seen.header(name), "", "{name} reached the upstream");
    }
    assert_eq!(seen.header("te"), "trailers");
    driver.abort();
}

#[tokio::test]
async fn methods_that_are_not_served_are_refused_and_options_of_the_server_is_answered() {
    let upstream = Upstream::named("one").await;
    let proxy = Proxy::start(&one_upstream(&upstream, "http1")).await;
    let rows = [
        ("CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\nconnection: close\r\n\r\n", 405),
        ("TRACE / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", 405),
        ("OPTIONS * HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", 204),
        ("GET * HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nconnection: close\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\nconnection: close\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: a b\r\nconnection: close\r\n\r\n", 400),
        ("GET / HTTP/1.0\r\n\r\n", 200),
        ("GET http://b/ HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", 200),
        ("GET http://b/ HTTP/1.1\r\nconnection: close\r\n\r\n", 400),
        ("OPTIONS * HTTP/1.1\r\nconnection: close\r\n\r\n", 400),
    ];
    for (request, expected) in rows {
        let answer = exchange(proxy.address, request).await;
        assert_eq!(status(&answer), expected, "{request:?}: {answer}");
        if expected == 405 {
            assert!(answer.to_ascii_lowercase().contains("allow: "), "{answer}");
        }
    }
    assert_eq!(upstream.count(), 2);
    assert_eq!(upstream.last().header("host"), "b", "the target wins and Host is rewritten");
}

#[tokio::test]
async fn trailers_pass_both_ways_over_http2() {
    let upstream = Upstream::answering(|request| async move {
        let collected = request.into_body().collect().await.unwrap();
        let sent = collected.trailers().and_then(|trailers| trailers.get("x-sum")).cloned();
        let count = collected.trailers().map_or(0, http::HeaderMap::len);
        let mut trailers = http::HeaderMap::new();
        trailers.insert("x-weir-variant", http::HeaderValue::from_static("lie"));
        trailers.insert("x-count", http::HeaderValue::from(count));
        trailers.insert("x-echo", sent.unwrap_or(http::HeaderValue::from_static("none")));
        let body = Full::new(bytes::Bytes::from_static(b"data"));
        Response::new(body.with_trailers(async move { Some(Ok(trailers)) }).boxed())
    })
    .await;
    let proxy = Proxy::start(&one_upstream(&upstream, "http2")).await;
    let stream = TcpStream::connect(proxy.address).await.unwrap();
    let (mut send, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let driver = tokio::spawn(connection);
    let mut trailers = http::HeaderMap::new();
    trailers.insert("x-sum", http::HeaderValue::from_static("42"));
    // What the head settles is not said again behind it.
    for name in ["x-weir-variant", "x_weir_variant", "host", "cookie", "x-forwarded-for", "content-length"] {
        trailers.insert(name, http::HeaderValue::from_static("1"));
    }
    let body = Full::new(bytes::Bytes::from_static(b"payload"))
        .with_trailers(std::future::ready(Some(Ok::<_, std::convert::Infallible>(trailers))));
    let request = Request::post(proxy.url("/")).body(body).unwrap();
    let response = send.send_request(request).await.unwrap();
    let collected = response.into_body().collect().await.unwrap();
    let trailers = collected.trailers().unwrap();
    assert_eq!((&trailers["x-echo"], &trailers["x-count"]), (&"42".parse().unwrap(), &"1".parse().unwrap()));
    assert!(!trailers.contains_key("x-weir-variant"));
    driver.abort();
}

#[tokio::test]
async fn body_of_a_request_that_failed_then_its_bytes_are_counted() {
    let upstream = Scripted::start(|mut stream, head| async move {
        // The rest of the body, and then no answer.
        let (_, begun) = head.split_once("\r\n\r\n").unwrap();
        let mut rest = vec![0; 5 - begun.len()];
        tokio::io::AsyncReadExt::read_exact(&mut stream, &mut rest).await.unwrap();
    })
    .await;
    let proxy = Proxy::start(&format!(
        "upstreams: {{ one: {{ endpoints: ['{}'] }} }}\nroutes: [{{ upstream: one }}]\n",
        upstream.address
    ))
    .await;
    let mut client = Client::connect(proxy.address).await;
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\n").await;
    client.send("hello").await;
    assert_eq!(status(&client.read_response().await), 502);
    until("they are counted", || async {
        let bytes = proxy.metric("weir_upstream_request_bytes_total", &["upstream=\"one\""]).await;
        (bytes > 4.5).then_some(())
    })
    .await;
}
