//! Bodies and heads pass as they were sent, however they are framed, in every combination of protocols.

mod memory;
mod streaming;

use std::fmt::Write;

use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::BodyExt;
use tokio::io::AsyncWriteExt;

use crate::support::client::{Connection, empty, piped};
use crate::support::raw::{Client, Scripted, exchange, read_head, status};
use crate::support::upstream::{Body, full};
use crate::support::{Stage, Upstream};

pub(crate) const PROTOCOLS: [(&str, bool); 4] =
    [("http1", false), ("http1", true), ("http2", false), ("http2", true)];

#[tokio::test]
async fn body_passes_however_the_upstream_frames_it() {
    let rows = [
        ("/length", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", "hello"),
        (
            "/chunked",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2;x=y\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
            "hello",
        ),
        ("/close", "HTTP/1.1 200 OK\r\n\r\nhello", "hello"),
        ("/old", "HTTP/1.0 200 OK\r\n\r\nhello", "hello"),
        ("/empty", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", ""),
        ("/empty-chunked", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", ""),
    ];
    let upstream = Scripted::start(move |mut stream, head| async move {
        let row = rows.iter().find(|row| head.starts_with(&format!("GET {} ", row.0))).unwrap();
        stream.write_all(row.1.as_bytes()).await.unwrap();
    })
    .await;
    let stage = Stage::before(upstream.address).await;
    for is_http2 in [false, true] {
        let mut client = Connection::new(stage.proxy.address, is_http2).await;
        for (path, _, body) in rows {
            let (response, got, _) = client.exchange(Request::get(path).body(empty()).unwrap()).await;
            assert_eq!((response.status().as_u16(), &*got), (200, body.as_bytes()), "{path} {is_http2}");
        }
    }
    for (path, _, body) in rows {
        let answer = exchange(stage.proxy.address, format!("GET {path} HTTP/1.0\r\n\r\n")).await;
        assert_eq!(status(&answer), 200, "{answer}");
        assert!(answer.ends_with(&format!("\r\n\r\n{body}")), "{path}: {answer}");
        assert!(
            !answer.to_ascii_lowercase().contains("transfer-encoding"),
            "HTTP/1.0 knows no chunks: {answer}"
        );
    }
    stage.assert_in_order().await;
}

#[tokio::test]
async fn body_passes_however_the_client_frames_it() {
    for protocol in ["http1", "http2"] {
        let upstream = Upstream::answering(|request| async move {
            let length = request.headers().get("content-length").cloned();
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let mut response = Response::new(full(body));
            response.headers_mut().insert("x-length", length.unwrap_or(HeaderValue::from_static("none")));
            response
        })
        .await;
        let stage = Stage::speaking(protocol, upstream.address).await;
        let rows = [
            ("content-length: 5\r\n\r\nhello", "x-length: 5", "hello"),
            (
                "transfer-encoding: Chunked\r\n\r\n2\r\nhe\r\n03;a=b\r\nllo\r\n0\r\n\r\n",
                "x-length: none",
                "hello",
            ),
            ("content-length: 0\r\n\r\n", "x-length: 0", ""),
            ("transfer-encoding: chunked\r\n\r\n0\r\n\r\n", "x-length: none", ""),
            ("\r\n", "x-length: none", ""),
        ];
        let mut client = Client::connect(stage.proxy.address).await;
        for (rest, length, body) in rows {
            client.send(format!("POST / HTTP/1.1\r\nhost: a\r\n{rest}")).await;
            let answer = client.read_response().await;
            assert_eq!(status(&answer), 200, "{protocol} {rest:?}: {answer}");
            assert!(answer.contains(length), "{protocol} {rest:?}: {answer}");
            assert!(answer.ends_with(&format!("\r\n\r\n{body}")), "{protocol} {rest:?}: {answer}");
        }
        drop(client);
        stage.assert_in_order().await;
    }
}

#[tokio::test]
async fn response_without_body_keeps_its_length_and_the_connection() {
    let rows = [
        ("HEAD", "/length", "HTTP/1.1 200 OK\r\ncontent-length: 1234\r\n\r\n", 200, Some("1234")),
        ("HEAD", "/chunked", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", 200, None),
        ("HEAD", "/none", "HTTP/1.1 200 OK\r\n\r\n", 200, None),
        ("GET", "/204", "HTTP/1.1 204 No Content\r\n\r\n", 204, None),
        ("GET", "/204-length", "HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n", 204, None),
        ("GET", "/304", "HTTP/1.1 304 Not Modified\r\netag: \"a\"\r\n\r\n", 304, None),
        (
            "GET",
            "/304-length",
            "HTTP/1.1 304 Not Modified\r\ncontent-length: 77\r\netag: \"a\"\r\n\r\n",
            304,
            None,
        ),
    ];
    let upstream = Scripted::accepting(move |mut stream| async move {
        while let Some(head) = read_head(&mut stream).await {
            let row = rows.iter().find(|row| head.starts_with(&format!("{} {} ", row.0, row.1))).unwrap();
            stream.write_all(row.2.as_bytes()).await.unwrap();
        }
    })
    .await;
    let stage = Stage::before(upstream.address).await;
    let mut raw = Client::connect(stage.proxy.address).await;
    for (method, path, _, expected, length) in rows {
        raw.send(format!("{method} {path} HTTP/1.1\r\nhost: a\r\n\r\n")).await;
        let answer = raw.read_until("\r\n\r\n").await.to_ascii_lowercase();
        assert_eq!(status(&answer), expected, "{answer}");
        assert!(answer.ends_with("\r\n\r\n"), "a body came: {answer}");
        assert!(!answer.contains("transfer-encoding"), "{path}: {answer}");
        let sent = answer.lines().find_map(|line| line.strip_prefix("content-length: "));
        if expected == 304 {
            assert!(sent.is_none_or(|sent| sent == "77"), "{answer}");
        } else {
            assert_eq!(sent, length, "{method} {path}: {answer}");
        }
    }
    let mut client = Connection::new(stage.proxy.address, true).await;
    for (method, path, _, expected, length) in rows {
        let request = Request::builder().method(method).uri(path).body(empty()).unwrap();
        let (response, body, _) = client.exchange(request).await;
        assert_eq!((response.status().as_u16(), body.len()), (expected, 0), "{path}");
        if expected != 304 {
            let sent = response.headers().get("content-length").map(|sent| sent.to_str().unwrap());
            assert_eq!(sent, length, "{method} {path}");
        }
    }
    assert_eq!(upstream.count(), 1, "the connection to the upstream is kept");
    drop((raw, client));
    stage.assert_in_order().await;
}

/// A body of unknown length, so that HTTP/1.1 sends it in chunks, with trailers.
pub(crate) fn with_trailers(data: &'static str, trailers: HeaderMap) -> Body {
    let (sender, body) = piped();
    tokio::spawn(async move {
        for frame in [Frame::data(data.into()), Frame::trailers(trailers)] {
            // Who does not want it has a reason, which the test sees.
            let _ = sender.send(frame).await;
        }
    });
    body
}

#[tokio::test]
async fn trailers_pass_in_every_combination_of_protocols() {
    for (protocol, is_http2) in PROTOCOLS {
        let upstream = Upstream::answering(|request| async move {
            let collected = request.into_body().collect().await.unwrap();
            let sent = collected.trailers().and_then(|trailers| trailers.get("x-sum")).cloned();
            let mut trailers = HeaderMap::new();
            trailers.insert("x-echo", sent.unwrap_or(HeaderValue::from_static("none")));
            let mut response = Response::new(with_trailers("data", trailers));
            response.headers_mut().insert("trailer", HeaderValue::from_static("x-echo"));
            response
        })
        .await;
        let stage = Stage::speaking(protocol, upstream.address).await;
        let mut client = Connection::new(stage.proxy.address, is_http2).await;
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", HeaderValue::from_static("42"));
        let request = Request::post("/").header("te", "trailers").header("trailer", "x-sum");
        let request = request.body(with_trailers("payload", trailers)).unwrap();
        let (response, body, trailers) = client.exchange(request).await;
        assert_eq!((response.status().as_u16(), &*body), (200, &b"data"[..]), "{protocol} {is_http2}");
        let echo = trailers.get("x-echo").map(|echo| echo.to_str().unwrap());
        assert_eq!(echo, Some("42"), "{protocol} {is_http2}");
        drop(client);
        stage.assert_in_order().await;
    }
}

#[tokio::test]
async fn client_that_takes_no_trailers_gets_the_response_without() {
    let response =
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-a\r\n\r\n2\r\nok\r\n0\r\nx-a: 1\r\n\r\n";
    let upstream = Scripted::saying(response).await;
    let stage = Stage::before(upstream.address).await;
    let mut client = Client::connect(stage.proxy.address).await;
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let answer = client.read_until("0\r\n\r\n").await;
    assert!(answer.ends_with("2\r\nok\r\n0\r\n\r\n"), "{answer}");
    let old = exchange(stage.proxy.address, "GET / HTTP/1.0\r\n\r\n").await;
    assert!(old.ends_with("\r\n\r\nok"), "{old}");
    drop(client);
    stage.assert_in_order().await;
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let upstream = Upstream::answering(|request| async move {
        let path = request.uri().path().to_owned();
        let _ = request.into_body().collect().await;
        Response::new(full(path))
    })
    .await;
    let stage = Stage::before(upstream.address).await;
    let mut requests = String::new();
    for index in 0..20 {
        let _ = write!(requests, "POST /{index:02} HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc");
    }
    requests.push_str("GET /end HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    let answer = exchange(stage.proxy.address, requests).await;
    let paths: Vec<_> = answer.split("HTTP/1.1 200 OK").skip(1).map(|one| &one[one.len() - 3..]).collect();
    let expected: Vec<_> = (0..20).map(|index| format!("/{index:02}")).chain(["end".into()]).collect();
    assert_eq!(paths, expected);
    stage.assert_in_order().await;
}

#[tokio::test]
async fn connection_goes_on_after_an_answer_of_our_own() {
    let upstream = Upstream::named("one").await;
    let stage = Stage::with(
        &[upstream.address],
        crate::support::stage::Settings { route: "paths: [/one], methods: [GET]", ..Default::default() },
    )
    .await;
    let mut client = Client::connect(stage.proxy.address).await;
    for (request, expected) in [
        ("GET /nothing HTTP/1.1\r\nhost: a\r\n\r\n", 404),
        ("PUT /one HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nab", 405),
        ("TRACE /one HTTP/1.1\r\nhost: a\r\n\r\n", 405),
        ("HEAD /nothing HTTP/1.1\r\nhost: a\r\n\r\n", 404),
        ("GET /one HTTP/1.1\r\nhost: a\r\n\r\n", 200),
    ] {
        client.send(request).await;
        let answer = if request.starts_with("HEAD") {
            let answer = client.read_until("\r\n\r\n").await;
            assert!(answer.ends_with("\r\n\r\n"), "a body came: {answer}");
            answer
        } else {
            client.read_response().await
        };
        assert_eq!(status(&answer), expected, "{request:?}: {answer}");
    }
    drop(client);
    stage.assert_in_order().await;
}

#[tokio::test]
async fn header_fields_pass_with_their_order_and_duplicates() {
    for (protocol, is_http2) in PROTOCOLS {
        let upstream = Upstream::answering(|_| async {
            let mut response = Response::new(full("ok"));
            let headers = response.headers_mut();
            for index in 0..90 {
                let name = http::HeaderName::try_from(format!("x-field-{index:03}")).unwrap();
                headers.append(name, HeaderValue::from(index));
            }
            for value in ["a=1; Path=/", "b=2; Expires=Wed, 21 Oct 2026 07:28:00 GMT", "a=3"] {
                headers.append("set-cookie", HeaderValue::from_static(value));
            }
            headers.append("www-authenticate", HeaderValue::from_static("Basic"));
            headers.append("www-authenticate", HeaderValue::from_static("Digest realm=\"a, b\""));
            response
        })
        .await;
        let stage = Stage::speaking(protocol, upstream.address).await;
        let mut client = Connection::new(stage.proxy.address, is_http2).await;
        let mut request = Request::get("/");
        for index in 0..100 {
            request = request.header(format!("x-field-{index:03}"), index);
        }
        let request = request
            .header("accept", "text/html")
            .header("accept", "text/plain;q=0.5, */*;q=0.1")
            .header("cookie", "a=1")
            .header("cookie", "b=2; c=3");
        let (response, _, _) = client.exchange(request.body(empty()).unwrap()).await;
        let row = format!("{protocol} {is_http2}");
        let values = |headers: &HeaderMap, name: &str| -> Vec<String> {
            headers.get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
        };
        let cookies = ["a=1; Path=/", "b=2; Expires=Wed, 21 Oct 2026 07:28:00 GMT", "a=3"];
        assert_eq!(values(response.headers(), "set-cookie"), cookies, "{row}");
        assert_eq!(
            values(response.headers(), "www-authenticate"),
            ["Basic", "Digest realm=\"a, b\""],
            "{row}"
        );
        assert_eq!(response.headers()["x-field-089"], "89", "{row}");
        let seen = upstream.last();
        let fields: Vec<_> = (0..100).map(|index| index.to_string()).collect();
        let sent: Vec<_> =
            (0..100).map(|index| seen.header(&format!("x-field-{index:03}")).to_owned()).collect();
        assert_eq!(sent, fields, "{row}");
        assert_eq!(values(&seen.headers, "accept"), ["text/html", "text/plain;q=0.5, */*;q=0.1"], "{row}");
        if protocol == "http1" {
            // RFC 9113 §8.2.3: crumbs are one field again before they reach a context that is not HTTP/2.
            assert_eq!(values(&seen.headers, "cookie"), ["a=1; b=2; c=3"], "{row}");
        } else {
            assert_eq!(values(&seen.headers, "cookie").join("; "), "a=1; b=2; c=3", "{row}");
        }
        drop(client);
        stage.assert_in_order().await;
    }
}

#[tokio::test]
async fn reason_phrase_and_unusual_status_pass() {
    for (line, expected) in
        [("200 Fine by me", "200 Fine by me"), ("299 Odd", "299 Odd"), ("599 Last", "599 Last")]
    {
        let line: &'static str = line;
        let upstream = Scripted::start(move |mut stream, _| async move {
            let response = format!("HTTP/1.1 {line}\r\ncontent-length: 0\r\n\r\n");
            stream.write_all(response.as_bytes()).await.unwrap();
        })
        .await;
        let stage = Stage::before(upstream.address).await;
        let request = "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        let answer = exchange(stage.proxy.address, request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {expected}\r\n")), "{answer}");
        stage.assert_in_order().await;
    }
}
