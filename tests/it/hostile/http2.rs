//! HTTP/2 clients that misuse streams, frames and heads.

use bytes::Bytes;
use http::{HeaderValue, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, JoinSet};

use crate::support::client::{Connection, empty};
use crate::support::raw::{Client, drain};
use crate::support::stage::Settings;
use crate::support::{Stage, Upstream, until};

type Sender = h2::client::SendRequest<Bytes>;

/// A connection of the library that says what it is told.
async fn connect(stage: &Stage) -> (Sender, JoinHandle<()>) {
    let stream = TcpStream::connect(stage.proxy.address).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    (sender, tokio::spawn(async move { drop(connection.await) }))
}

#[tokio::test]
async fn streams_reset_as_soon_as_opened_leave_nothing() {
    let upstream = Upstream::answering(|_| std::future::pending()).await;
    let stage = Stage::before(upstream.address).await;
    for _ in 0..4 {
        let (sender, driver) = connect(&stage).await;
        let mut sender = sender.ready().await.unwrap();
        for _ in 0..1000 {
            let request = Request::get(stage.proxy.url("/")).body(()).unwrap();
            let Ok((response, mut stream)) = sender.send_request(request, false) else { break };
            stream.send_reset(h2::Reason::CANCEL);
            drop(response);
            match sender.ready().await {
                Ok(ready) => sender = ready,
                // The proxy may have had enough.
                Err(_) => break,
            }
            if driver.is_finished() {
                break;
            }
        }
        driver.abort();
        stage.assert_in_order().await;
    }
}

#[tokio::test]
async fn streams_opened_and_reset_at_once_in_one_write_leave_nothing() {
    let upstream = Upstream::answering(|_| std::future::pending()).await;
    let stage = Stage::before(upstream.address).await;
    let mut client = Client::connect(stage.proxy.address).await;
    let mut bytes = greeting();
    for index in 0..10_000_u32 {
        let stream = index * 2 + 1;
        bytes.extend(frame(1, 0x5, stream, HEAD));
        bytes.extend(frame(3, 0, stream, &[0, 0, 0, 8]));
    }
    // The proxy may end the connection before it has read all of them.
    let _ = client.0.write_all(&bytes).await;
    drain_for_a_while(&mut client.0).await;
    drop(client);
    assert!(upstream.count() < 10_000);
    stage.assert_in_order().await;
}

/// Reads until the proxy closes, or is quiet because it waits for more.
async fn drain_for_a_while(stream: &mut TcpStream) -> (usize, bool) {
    tokio::time::timeout(std::time::Duration::from_millis(500), drain(stream)).await.unwrap_or((0, false))
}

/// `:method GET`, `:scheme http`, `:path /`, `:authority a`, by the static table.
pub(super) const HEAD: &[u8] = &[0x82, 0x86, 0x84, 0x41, 0x01, b'a'];

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The preface and empty settings.
pub(super) fn greeting() -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, &[]));
    bytes
}

#[tokio::test]
async fn frames_that_break_the_protocol_end_the_stream_or_the_connection() {
    let upstream = Upstream::named("one").await;
    let stage = Stage::before(upstream.address).await;
    let head_and = |rest: Vec<u8>| [frame(1, 0x4, 1, HEAD), rest].concat();
    let fields = |fields: &[u8]| frame(1, 0x5, 1, &[HEAD, fields].concat());
    // A literal field without indexing: 0x00, name, value.
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    let literal = |name: &str, value: &str| [vec![0], text(name), text(value)].concat();
    let rows: Vec<(&str, Vec<u8>)> = vec![
        ("data on stream 0", frame(0, 0, 0, b"x")),
        ("data on an idle stream", frame(0, 0, 1, b"x")),
        ("head on stream 0", frame(1, 0x5, 0, HEAD)),
        ("head on an even stream", frame(1, 0x5, 2, HEAD)),
        ("streams that go backwards", [frame(1, 0x5, 3, HEAD), frame(1, 0x5, 1, HEAD)].concat()),
        ("frame over the limit", frame(0, 0, 1, &vec![0; 20_000])),
        ("settings of a wrong length", frame(4, 0, 0, &[0])),
        ("settings on a stream", frame(4, 0, 1, &[])),
        ("settings with a bad window", frame(4, 0, 0, &[0, 4, 0xff, 0xff, 0xff, 0xff])),
        ("ping of a wrong length", frame(6, 0, 0, &[0])),
        ("window that overflows", frame(8, 0, 0, &[0x7f, 0xff, 0xff, 0xff])),
        ("window of nothing", frame(8, 0, 0, &[0, 0, 0, 0])),
        ("reset of an idle stream", frame(3, 0, 1, &[0, 0, 0, 8])),
        ("continuation without a head", frame(9, 0x4, 1, HEAD)),
        ("another frame inside a head", [frame(1, 0x1, 1, HEAD), frame(6, 0, 0, &[0; 8])].concat()),
        ("head that HPACK does not know", frame(1, 0x5, 1, &[0xff, 0xff, 0xff, 0xff, 0xff])),
        ("priority on itself", frame(2, 0, 1, &[0, 0, 0, 1, 0])),
        ("push by a client", frame(5, 0x4, 1, &[0, 0, 0, 2])),
        ("padding over the length", head_and(frame(0, 0x8, 1, &[200, b'x']))),
        ("data after the end", [frame(1, 0x5, 1, HEAD), frame(0, 0, 1, b"x")].concat()),
        ("no path", frame(1, 0x5, 1, &[0x82, 0x86, 0x41, 0x01, b'a'])),
        ("no method", frame(1, 0x5, 1, &[0x86, 0x84, 0x41, 0x01, b'a'])),
        ("two methods", frame(1, 0x5, 1, &[0x82, 0x82, 0x86, 0x84, 0x41, 0x01, b'a'])),
        ("pseudo-field behind a field", fields(&[literal("x-a", "b"), vec![0x84]].concat())),
        ("unknown pseudo-field", fields(&literal(":x", "b"))),
        ("status from a client", fields(&literal(":status", "200"))),
        ("upper case", fields(&literal("X-A", "b"))),
        ("connection", fields(&literal("connection", "close"))),
        ("transfer-encoding", fields(&literal("transfer-encoding", "chunked"))),
        ("te other than trailers", fields(&literal("te", "gzip"))),
        ("line break in a value", fields(&literal("x-a", "b\r\nx-b: c"))),
        ("nothing in a value but NUL", fields(&literal("x-a", "\0"))),
        ("space in a name", fields(&literal("x a", "b"))),
        ("colon in a name", fields(&literal("x:a", "b"))),
        ("length that is not true", fields(&literal("content-length", "5"))),
        ("length that is no number", fields(&literal("content-length", "+0"))),
        ("two lengths", fields(&[literal("content-length", "0"), literal("content-length", "1")].concat())),
        ("host of another", fields(&literal("host", "b"))),
    ];
    for (row, bytes) in rows {
        let mut client = Client::connect(stage.proxy.address).await;
        // The proxy may close before it has read all.
        let _ = client.0.write_all(&[greeting(), bytes].concat()).await;
        drain_answer(&mut client.0, row).await;
        drop(client);
        stage.assert_in_order().await;
        let seen = upstream.count();
        // What came before the violation may be served.
        let may_be_served =
            ["streams that go backwards", "data after the end", "priority on itself"].contains(&row);
        assert!(seen == 0 || may_be_served, "{row}: it reached the upstream");
        upstream.seen.lock().unwrap().clear();
    }
}

/// Reads frames until one ends the stream or the connection: a reset, a GOAWAY, an answer, or the end.
pub(super) async fn drain_answer(stream: &mut TcpStream, row: &str) {
    let reading = async {
        let mut head = [0; 9];
        while stream.read_exact(&mut head).await.is_ok() {
            if matches!(head[3], 1 | 3 | 7) {
                return;
            }
            let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
            let mut payload = vec![0; length];
            if stream.read_exact(&mut payload).await.is_err() {
                return;
            }
        }
    };
    let told = tokio::time::timeout(std::time::Duration::from_secs(10), reading).await;
    assert!(told.is_ok(), "{row}: nothing came of it");
}

#[tokio::test]
async fn head_over_the_limit_is_refused() {
    let upstream = Upstream::named("one").await;
    let settings = Settings { listener: "max_header: 16KiB", ..Settings::default() };
    let stage = Stage::with(&[upstream.address], settings).await;
    let (sender, driver) = connect(&stage).await;
    let mut sender = sender.ready().await.unwrap();
    for (size, expected) in
        [(8 << 10, 200), (14 << 10, 200), (15 << 10, 431), (15 << 10, 431), (1 << 10, 200)]
    {
        let value = HeaderValue::from_str(&"b".repeat(size)).unwrap();
        let mut request = Request::get(stage.proxy.url("/")).header("x-a", value);
        if expected == 431 {
            request = request.header("x-b", "c".repeat(2 << 10));
        }
        let (response, _) = sender.send_request(request.body(()).unwrap(), true).unwrap();
        assert_eq!(response.await.unwrap().status(), expected, "{size}");
        sender = sender.ready().await.unwrap();
    }
    assert_eq!(upstream.count(), 3);
    drop(sender);
    driver.abort();
    stage.assert_in_order().await;
}

#[tokio::test]
async fn head_without_end_ends_the_connection() {
    // CONTINUATION frames for ever (CVE-2024-27316 and its like).
    let upstream = Upstream::named("one").await;
    let stage = Stage::before(upstream.address).await;
    let mut client = Client::connect(stage.proxy.address).await;
    client.send([greeting(), frame(1, 0x1, 1, HEAD)].concat()).await;
    let more = frame(9, 0, 1, &[&[0x00, 0x03][..], b"x-a", &[0x7f, 0x81, 0x7d], &[b'b'; 16_000]].concat());
    let mut sent = 0;
    while client.0.write_all(&more).await.is_ok() {
        sent += more.len();
        assert!(sent < 64 << 20, "it takes heads without end");
    }
    drop(client);
    assert_eq!(upstream.count(), 0);
    stage.assert_in_order().await;
}

#[tokio::test]
async fn streams_over_the_limit_are_refused_and_the_others_served() {
    let (go, wait) = tokio::sync::watch::channel(false);
    let upstream = Upstream::answering(move |_| {
        let mut wait = wait.clone();
        async move {
            let _ = wait.wait_for(|go| *go).await;
            http::Response::new(empty())
        }
    })
    .await;
    // 256 connections at once take a busy machine longer than a second.
    let settings = Settings { upstream: "timeouts: { connect: 20s }", ..Settings::default() };
    let stage = Stage::with(&[upstream.address], settings).await;
    let mut client = Client::connect(stage.proxy.address).await;
    let mut bytes = greeting();
    for index in 0..400_u32 {
        bytes.extend(frame(1, 0x5, index * 2 + 1, HEAD));
    }
    client.send(bytes).await;
    until("256 are under way", || async { (upstream.count() == 256).then_some(()) }).await;
    let active = stage.proxy.metric("weir_upstream_requests_active", &["upstream=\"one\""]).await;
    assert_eq!(active, 256.0, "no more than the limit");
    go.send_replace(true);
    drop(client);
    stage.assert_in_order().await;
}

#[tokio::test]
async fn streams_up_to_the_limit_are_served_at_once() {
    let upstream = Upstream::named("one").await;
    let settings = Settings { upstream: "timeouts: { connect: 20s }", ..Settings::default() };
    let stage = Stage::with(&[upstream.address], settings).await;
    let (sender, driver) = connect(&stage).await;
    let mut asking = JoinSet::new();
    // The answer to the first one comes after the limit is told.
    let request = Request::get(stage.proxy.url("/")).body(()).unwrap();
    assert_eq!(sender.clone().send_request(request, true).unwrap().0.await.unwrap().status(), 200);
    for _ in 0..500 {
        let mut sender = sender.clone().ready().await.unwrap();
        let request = Request::get(stage.proxy.url("/")).body(()).unwrap();
        asking.spawn(async move {
            let (response, _) = sender.send_request(request, true).unwrap();
            let (head, mut body) = response.await.unwrap().into_parts();
            while let Some(part) = body.data().await {
                part.unwrap();
            }
            head.status
        });
    }
    while let Some(status) = asking.join_next().await {
        assert_eq!(status.unwrap(), 200);
    }
    drop(sender);
    driver.abort();
    stage.assert_in_order().await;
}

#[tokio::test]
async fn connection_without_streams_is_closed_in_time_and_one_that_never_greets_too() {
    let upstream = Upstream::named("one").await;
    let settings = Settings { listener: "timeouts: { header: 200ms, idle: 200ms }", ..Settings::default() };
    let stage = Stage::with(&[upstream.address], settings).await;
    for said in [greeting(), greeting()[..24].to_vec(), b"PRI * HTTP/2.0\r\n".to_vec()] {
        let mut client = Client::connect(stage.proxy.address).await;
        client.send(&said).await;
        let ended = tokio::time::timeout(crate::support::PATIENCE, drain(&mut client.0)).await;
        assert!(ended.is_ok(), "not closed after {:?}", String::from_utf8_lossy(&said));
    }
    let mut client = Connection::new(stage.proxy.address, true).await;
    let (response, _, _) = client.exchange(Request::get("/").body(empty()).unwrap()).await;
    assert_eq!(response.status(), 200);
    stage.assert_in_order().await;
}

#[tokio::test]
async fn head_that_does_not_end_is_given_up_in_time() {
    let upstream = Upstream::named("one").await;
    let settings = Settings { listener: "timeouts: { header: 200ms, idle: 400ms }", ..Settings::default() };
    let stage = Stage::with(&[upstream.address], settings).await;
    let mut client = Client::connect(stage.proxy.address).await;
    client.send([greeting(), frame(1, 0x1, 1, HEAD)].concat()).await;
    let ended = tokio::time::timeout(crate::support::PATIENCE, drain(&mut client.0)).await;
    assert!(ended.is_ok(), "not closed");
    assert_eq!(upstream.count(), 0);
    stage.assert_in_order().await;
}

#[tokio::test]
async fn head_that_is_small_on_the_wire_and_large_behind_it_is_refused() {
    // An HPACK bomb: one large field that the table then stands for, a byte each.
    let upstream = Upstream::named("one").await;
    let stage = Stage::before(upstream.address).await;
    let mut client = Client::connect(stage.proxy.address).await;
    let indexed = [&[0x40, 0x03][..], b"x-a", &[0x7f, 0xb9, 0x16], &[b'b'; 3000]].concat();
    let bomb = [HEAD, &indexed, &[0xbe; 10_000]].concat();
    client.send([greeting(), frame(1, 0x5, 1, &bomb)].concat()).await;
    drain_answer(&mut client.0, "30 MB of fields in 13 KB").await;
    assert_eq!(upstream.count(), 0);
    drop(client);
    // One that is within the limit is taken, so it is the size that counts.
    let mut client = Client::connect(stage.proxy.address).await;
    let small = [HEAD, &indexed, &[0xbe; 10]].concat();
    client.send([greeting(), frame(1, 0x5, 1, &small)].concat()).await;
    until("it is served", || async { (upstream.count() == 1).then_some(()) }).await;
    let seen = upstream.last();
    assert_eq!(seen.headers.get_all("x-a").iter().map(HeaderValue::len).sum::<usize>(), 33_000);
    drop(client);
    stage.assert_in_order().await;
}

#[tokio::test]
async fn connection_that_does_not_begin_with_settings_is_closed() {
    let upstream = Upstream::named("one").await;
    let stage = Stage::before(upstream.address).await;
    let preface = &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..];
    for (times, first) in
        [(1.0, frame(6, 0, 0, &[0; 8])), (2.0, frame(1, 0x5, 1, HEAD)), (3.0, frame(0xbb, 0, 0, &[]))]
    {
        let mut client = Client::connect(stage.proxy.address).await;
        client.send([preface, &first[..], &frame(4, 0, 0, &[])].concat()).await;
        client.read_to_end().await;
        assert_eq!(stage.proxy.metric("weir_downstream_malformed_total", &[]).await, times);
    }
    assert_eq!(upstream.count(), 0);
    stage.assert_in_order().await;
}
