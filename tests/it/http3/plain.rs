//! Requests and responses as they should be.

use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use http_body::Frame;
use http_body_util::BodyExt;
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{Edge, SHOP, Settings};
use crate::support::client::piped;
use crate::support::http3::answer;
use crate::support::raw::Scripted;
use crate::support::tls::{Client as TlsClient, VERSIONS};
use crate::support::upstream::full;
use crate::support::{PATIENCE, Upstream, until};

const PROTOCOLS: [&str; 2] = ["http1", "http2"];

/// Bytes that show when one is lost, or two change places.
fn pattern(length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(7);
    std::iter::repeat_with(|| random.u8(..)).take(length).collect()
}

/// An upstream that sends back what it is sent, as it comes, with its trailers and one more.
async fn echo() -> Upstream {
    Upstream::answering(|request| async move {
        let (sender, body) = piped();
        let mut asked = request.into_body();
        tokio::spawn(async move {
            let mut trailers = HeaderMap::new();
            while let Some(Ok(frame)) = asked.frame().await {
                match frame.into_data() {
                    Ok(data) => drop(sender.send(Frame::data(data)).await),
                    Err(frame) => trailers = frame.into_trailers().unwrap_or_default(),
                }
            }
            trailers.insert("x-end", HeaderValue::from_static("yes"));
            drop(sender.send(Frame::trailers(trailers)).await);
        });
        Response::builder().header("trailer", "x-end, x-sum").body(body).unwrap()
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_reach_the_upstream_and_say_how_they_came() {
    for protocol in PROTOCOLS {
        let upstream = Upstream::named("one").await;
        let edge =
            Edge::with(upstream.address, Settings { protocol, workers: 2, ..Settings::default() }).await;
        let mut client = edge.connect().await;
        for method in ["GET", "HEAD", "POST", "DELETE", "OPTIONS", "PATCH"] {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let request = Request::builder().method(&method).uri("/a?b=c").header("x-user", "ada");
            let answer = client.ask(request.body(()).unwrap(), Bytes::new()).await;
            assert_eq!(answer.status(), 200, "{method}");
            let body = if method == Method::HEAD { "" } else { "one" };
            assert_eq!(answer.text(), body, "{protocol} {method}");
            assert_eq!(answer.header("content-length"), "3");
            assert!(!answer.header("date").is_empty());
            assert_eq!(answer.header("alt-svc"), "", "it is there already");
            let seen = upstream.last();
            assert_eq!(seen.method, method.as_str());
            assert!(seen.target.ends_with("/a?b=c"), "{}", seen.target);
            assert_eq!(seen.header("x-user"), "ada");
            assert_eq!(seen.header("via"), "3 weir");
            assert_eq!(seen.header("x-forwarded-proto"), "https");
            if protocol == "http1" {
                assert_eq!(seen.header("host"), SHOP);
            }
            if matches!(method, Method::GET | Method::HEAD | Method::DELETE | Method::OPTIONS) {
                assert_eq!(seen.header("transfer-encoding"), "", "{method}: there is no body");
            }
        }
        drop(client);
        edge.assert_in_order().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_bodies_and_trailers_pass_both_ways_byte_for_byte() {
    for protocol in PROTOCOLS {
        let upstream = echo().await;
        let edge = Edge::with(upstream.address, Settings { protocol, ..Settings::default() }).await;
        let mut client = edge.connect().await;
        for (length, says_length) in [(1, true), (100_000, false), (4 << 20, true), (4 << 20, false)] {
            let body = pattern(length);
            let mut request = Request::post("/echo").header("te", "trailers");
            if says_length {
                request = request.header("content-length", length);
            }
            let stream = client.begin(request.body(()).unwrap()).await.unwrap();
            let (mut up, mut down) = stream.split();
            let sent = body.clone();
            let sending = tokio::spawn(async move {
                for part in sent.chunks(50_000) {
                    up.send_data(Bytes::copy_from_slice(part)).await.unwrap();
                }
                if !says_length {
                    let sum = [("x-sum".parse().unwrap(), HeaderValue::from_static("42"))];
                    up.send_trailers(HeaderMap::from_iter(sum)).await.unwrap();
                }
                up.finish().await.unwrap();
            });
            let receiving = async {
                assert_eq!(down.recv_response().await.unwrap().status(), 200);
                let mut came = Vec::new();
                while let Some(mut data) = down.recv_data().await.unwrap() {
                    came.extend_from_slice(&data.copy_to_bytes(data.remaining()));
                }
                (came, down.recv_trailers().await.unwrap().unwrap_or_default())
            };
            let (came, trailers) = timeout(PATIENCE, receiving).await.expect("an answer");
            sending.await.unwrap();
            assert!(came == body, "{protocol} {length}: {} bytes came", came.len());
            assert_eq!(trailers.get("x-end").map(HeaderValue::as_bytes), Some(&b"yes"[..]), "{protocol}");
            let sum = trailers.get("x-sum").map(HeaderValue::as_bytes);
            assert_eq!(sum, (!says_length).then_some(&b"42"[..]), "{protocol}");
        }
        drop(client);
        edge.assert_in_order().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_streams_of_one_connection_are_served_at_once() {
    let (upstream, open) = Upstream::gated().await;
    let edge = Edge::before(upstream.address).await;
    let mut client = edge.connect().await;
    let mut asking = JoinSet::new();
    for index in 0..200 {
        let mut stream = client.begin(Request::get(format!("/{index}")).body(()).unwrap()).await.unwrap();
        stream.finish().await.unwrap();
        asking.spawn(async move { answer(&mut stream).await.unwrap() });
    }
    until("all are asked at once", || async { (upstream.count() == 200).then_some(()) }).await;
    open.send_replace(true);
    while let Some(answer) = asking.join_next().await {
        let answer = answer.unwrap();
        assert_eq!((answer.status(), answer.text()), (200, "at last"));
    }
    drop(client);
    edge.assert_in_order().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn split_by_a_header_is_the_same_over_every_protocol() {
    let (blue, green) = (Upstream::named("blue").await, Upstream::named("green").await);
    let sections = format!(
        "upstreams: {{ blue: {{ endpoints: ['{}'] }}, green: {{ endpoints: ['{}'] }} }}\nsplits: {{ shop: {{ key: \
         ['header:x-user'], variants: [{{ name: blue }}, {{ name: green, weight: 50% }}] }} }}\nroutes: [{{ split: \
         shop }}]\n",
        blue.address, green.address
    );
    let edge = Edge::serving(2, "", "", &sections).await;
    let mut client = edge.connect().await;
    let tls = TlsClient::new(&edge.authority, &VERSIONS).alpn(&["http/1.1"]);
    let mut arms = std::collections::HashSet::new();
    for user in 0..20 {
        let request = Request::get("/").header("x-user", user.to_string());
        let over_udp = client.ask(request.body(()).unwrap(), Bytes::new()).await;
        let request =
            format!("GET / HTTP/1.1\r\nhost: {SHOP}\r\nx-user: {user}\r\nconnection: close\r\n\r\n");
        let over_tcp = tls.try_exchange(edge.address, SHOP, &request).await.unwrap();
        assert!(over_tcp.ends_with(over_udp.text()), "{user}: {} and {over_tcp}", over_udp.text());
        arms.insert(over_udp.text().to_owned());
    }
    assert_eq!(arms.len(), 2, "both variants are asked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn responses_over_tcp_tell_of_http3_unless_they_tell_themselves() {
    let upstream = Upstream::answering(|request| async move {
        let mut response = Response::new(full("one"));
        if request.uri().path() == "/own" {
            response.headers_mut().insert("alt-svc", HeaderValue::from_static("clear"));
        }
        response
    })
    .await;
    let edge = Edge::before(upstream.address).await;
    let told = format!("alt-svc: h3=\":{}\"; ma=86400\r\n", edge.address.port());
    let tls = TlsClient::new(&edge.authority, &VERSIONS).alpn(&["http/1.1"]);
    for (path, expected) in [("/", told.as_str()), ("/own", "alt-svc: clear\r\n")] {
        let request = format!("GET {path} HTTP/1.1\r\nhost: {SHOP}\r\nconnection: close\r\n\r\n");
        let answer = tls.try_exchange(edge.address, SHOP, &request).await.unwrap();
        assert_eq!(answer.matches("alt-svc").count(), 1, "{answer}");
        assert!(answer.contains(expected), "{answer}");
    }
    let stream = TlsClient::new(&edge.authority, &VERSIONS).alpn(&["h2"]).connect(edge.address, SHOP).await;
    let (mut sender, driver) = h2::client::handshake(stream).await.unwrap();
    let driver = tokio::spawn(driver);
    let request = Request::get(format!("https://{SHOP}/")).body(()).unwrap();
    let response = sender.send_request(request, true).unwrap().0.await.unwrap();
    assert_eq!(format!("alt-svc: {}\r\n", response.headers()["alt-svc"].to_str().unwrap()), told);
    driver.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn early_hints_come_before_the_response() {
    let upstream = Scripted::start(|mut stream, _| async move {
        stream.write_all(b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n").await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\none").await.unwrap();
    })
    .await;
    let edge = Edge::before(upstream.address).await;
    let mut client = edge.connect().await;
    let mut stream = client.begin(Request::get("/").body(()).unwrap()).await.unwrap();
    stream.finish().await.unwrap();
    let early = timeout(PATIENCE, stream.recv_response()).await.unwrap().unwrap();
    assert_eq!(
        (early.status().as_u16(), &early.headers()["link"]),
        (103, &HeaderValue::from_static("</a.css>"))
    );
    let answer = timeout(PATIENCE, answer(&mut stream)).await.unwrap().unwrap();
    assert_eq!((answer.status(), answer.text()), (200, "one"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn access_log_names_the_protocol() {
    let upstream = Upstream::named("one").await;
    let log = tempfile::tempdir().unwrap();
    let path = log.path().join("access.log");
    let sections = format!(
        "access_log: {{ path: '{}' }}\nupstreams: {{ one: {{ endpoints: ['{}'] }} }}\nroutes: [{{ upstream: one }}]\n",
        path.display(),
        upstream.address
    );
    let edge = Edge::serving(1, "", "", &sections).await;
    assert_eq!(edge.connect().await.get("/logged").await.status(), 200);
    let line = until("the line", || async {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        text.contains("/logged").then_some(text)
    })
    .await;
    assert!(line.contains("\"HTTP/3\""), "{line}");
}
