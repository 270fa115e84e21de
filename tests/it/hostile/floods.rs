//! HTTP/2 clients that make the proxy work for nothing: they are told to calm down and closed, and nobody else notices.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::http2::{HEAD, frame, greeting};
use crate::support::raw::Client;
use crate::support::stage::Settings;
use crate::support::{Stage, Upstream, until};

const PING: u8 = 6;
const SETTINGS: u8 = 4;
const ENHANCE_YOUR_CALM: u32 = 11;

async fn floods(stage: &Stage) -> f64 {
    stage.proxy.metric("weir_downstream_refused_total", &["cause=\"flood\""]).await
}

/// Reads frames until the connection ends; gives the code of its GOAWAY.
async fn goodbye(client: &mut Client) -> Option<u32> {
    let reading = async {
        let (mut code, mut head) = (None, [0; 9]);
        while client.0.read_exact(&mut head).await.is_ok() {
            let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
            let mut payload = vec![0; length];
            if client.0.read_exact(&mut payload).await.is_err() {
                break;
            }
            if head[3] == 7 {
                code = Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
            }
        }
        code
    };
    tokio::time::timeout(crate::support::PATIENCE, reading).await.expect("the proxy closes")
}

/// A head on stream `1 + 2 * index`, and what else is to be done to that stream.
fn stream(index: u32, then: impl Fn(u32) -> Vec<u8>) -> Vec<u8> {
    let stream = index * 2 + 1;
    [frame(1, 0x4, stream, HEAD), then(stream)].concat()
}

#[tokio::test]
async fn flood_of_any_kind_is_answered_with_goaway_and_counted_once() {
    let upstream = Upstream::answering(|_| std::future::pending()).await;
    let stage = Stage::before(upstream.address).await;
    let many = |one: Vec<u8>| one.repeat(20_000);
    let each = |then: &dyn Fn(u32) -> Vec<u8>| (0..5000).flat_map(|index| stream(index, then)).collect();
    let literal = [&[0x00, 0x03][..], b"x-a", &[0x00]].concat();
    let rows: Vec<(&str, Vec<u8>)> = vec![
        ("pings", many(frame(PING, 0, 0, &[0; 8]))),
        ("answers to pings", many(frame(PING, 1, 0, &[0; 8]))),
        ("settings", many(frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0]))),
        ("priorities of idle streams", many(frame(2, 0, 3, &[0, 0, 0, 1, 0]))),
        ("frames that nobody knows", many(frame(0xfa, 0, 0, b"grease"))),
        ("window updates", many(frame(8, 0, 0, &[0, 0, 0, 1]))),
        ("resets of streams just opened", each(&|stream| frame(3, 0, stream, &[0, 0, 0, 8]))),
        (
            "resets that we are made to send, by a window that overflows",
            each(&|stream| frame(8, 0, stream, &[0x7f, 0xff, 0xff, 0xff])),
        ),
        ("empty data", [stream(0, |_| vec![]), many(frame(0, 0, 1, b""))].concat()),
        ("small data", [stream(0, |_| vec![]), many(frame(0, 0, 1, b"x"))].concat()),
        ("a head that goes on", [frame(1, 0, 1, HEAD), many(frame(9, 0, 1, b""))].concat()),
        ("fields without end", [frame(1, 0, 1, HEAD), many(frame(9, 0, 1, &literal))].concat()),
    ];
    let mut count = 0.0;
    for (row, bytes) in rows {
        let mut client = Client::connect(stage.proxy.address).await;
        let (mut read, mut write) = client.0.split();
        // In pieces, and as slowly as the answers are read.
        let sending = async {
            write.write_all(&greeting()).await?;
            for part in bytes.chunks(10_007) {
                write.write_all(part).await?;
                tokio::task::yield_now().await;
            }
            std::io::Result::Ok(())
        };
        let mut answers = Vec::new();
        let reading = read.read_to_end(&mut answers);
        let both = async { tokio::join!(sending, reading) };
        let ended = tokio::time::timeout(crate::support::PATIENCE, both).await;
        assert!(ended.is_ok(), "{row}: not closed");
        assert_eq!(goodbye_in(&answers), Some(ENHANCE_YOUR_CALM), "{row}");
        drop(client);
        count += 1.0;
        // It is closed, then it is counted.
        until(row, || async { (floods(&stage).await == count).then_some(()) }).await;
        stage.assert_in_order().await;
    }
}

/// The ways by which a client makes us reset its streams, RFC 9113 §5.4.2: requests that go on behind it, unless it is
/// counted.
#[tokio::test]
async fn streams_that_we_are_made_to_reset_end_the_connection_and_others_are_served_meanwhile() {
    let upstream = Upstream::answering(|_| std::future::pending()).await;
    let stage = Stage::before(upstream.address).await;
    let each = |then: &dyn Fn(u32) -> Vec<u8>| -> Vec<u8> {
        (0..5000).flat_map(|index| then(index * 2 + 1)).collect()
    };
    let opened = |id: u32, flags: u8, then: Vec<u8>| [frame(1, flags, id, HEAD), then].concat();
    let with = |fields: &[u8]| [HEAD, fields].concat();
    let length = [&[0x00, 14][..], b"content-length", &[0x01], b"5"].concat();
    let upper = [&[0x00, 0x03][..], b"X-A", &[0x01], b"b"].concat();
    let hop = [&[0x00, 10][..], b"connection", &[0x01], b"b"].concat();
    let rows: Vec<(&str, Vec<u8>)> = vec![
        ("a window of nothing", each(&|id| opened(id, 0x4, frame(8, 0, id, &[0; 4])))),
        ("a window that overflows", each(&|id| opened(id, 0x5, frame(8, 0, id, &[0x7f, 0xff, 0xff, 0xff])))),
        ("data behind the end", each(&|id| opened(id, 0x5, frame(0, 0, id, b"x")))),
        ("a head behind the end", each(&|id| opened(id, 0x5, frame(1, 0x5, id, HEAD)))),
        ("trailers that end nothing", each(&|id| opened(id, 0x4, frame(1, 0x4, id, HEAD)))),
        (
            "a priority on itself",
            each(&|id| opened(id, 0x4, frame(2, 0, id, &[&id.to_be_bytes()[..], &[0]].concat()))),
        ),
        ("a priority of a wrong length", each(&|id| opened(id, 0x4, frame(2, 0, id, &[0; 4])))),
        ("a length that is not true", each(&|id| frame(1, 0x5, id, &with(&length)))),
        (
            "data over the length",
            each(&|id| [frame(1, 0x4, id, &with(&length)), frame(0, 1, id, b"123456")].concat()),
        ),
        ("a name in upper case", each(&|id| frame(1, 0x5, id, &with(&upper)))),
        ("a field of a connection", each(&|id| frame(1, 0x5, id, &with(&hop)))),
        ("no path", each(&|id| frame(1, 0x5, id, &[0x82, 0x86]))),
        ("answers to settings", frame(SETTINGS, 1, 0, &[]).repeat(20_000)),
        ("goodbyes", frame(7, 0, 0, &[0; 8]).repeat(20_000)),
    ];
    for (row, bytes) in rows {
        upstream.seen.lock().unwrap().clear();
        let mut client = Client::connect(stage.proxy.address).await;
        let (mut read, mut write) = client.0.split();
        let sending = async {
            write.write_all(&greeting()).await?;
            for part in bytes.chunks(10_007) {
                write.write_all(part).await?;
                tokio::task::yield_now().await;
            }
            std::io::Result::Ok(())
        };
        let mut answers = Vec::new();
        let other = crate::support::raw::exchange(
            stage.proxy.address,
            "GET /well HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
        );
        let all = async { tokio::join!(sending, read.read_to_end(&mut answers), other) };
        let (_, _, other) = tokio::time::timeout(crate::support::PATIENCE, all)
            .await
            .unwrap_or_else(|_| panic!("{row}: not closed"));
        assert!(other.starts_with("HTTP/1.1 200"), "{row}: {other}");
        drop(client);
        assert!(upstream.count() < 2500, "{row}: {} requests", upstream.count());
        stage.assert_in_order().await;
    }
}

/// The code of the GOAWAY in these frames.
fn goodbye_in(mut bytes: &[u8]) -> Option<u32> {
    let mut code = None;
    while let [high, middle, low, kind, _, _, _, _, _, rest @ ..] = bytes {
        let length = usize::from(*high) << 16 | usize::from(*middle) << 8 | usize::from(*low);
        let (payload, after) = rest.split_at_checked(length)?;
        if *kind == 7 {
            code = Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
        }
        bytes = after;
    }
    code
}

#[tokio::test]
async fn client_that_is_busy_but_useful_is_served() {
    let upstream = Upstream::named("one").await;
    let stage = Stage::before(upstream.address).await;
    let mut client = Client::connect(stage.proxy.address).await;
    client.send(greeting()).await;
    // What is said beside each of many requests: priorities, windows, a ping, and a reset once it is answered.
    for index in 0..5000_u32 {
        let id = index * 2 + 1;
        let request = [
            frame(2, 0, id, &[0, 0, 0, 0, 16]),
            frame(1, 0x5, id, HEAD),
            frame(8, 0, 0, &[0, 0, 0, 100]),
            frame(PING, 0, 0, &[0; 8]),
        ];
        client.send(request.concat()).await;
        // Its answer: data with the end of the stream, then it is reset all the same.
        loop {
            let mut head = [0; 9];
            client.0.read_exact(&mut head).await.unwrap_or_else(|error| panic!("request {index}: {error}"));
            let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
            client.0.read_exact(&mut vec![0; length]).await.unwrap();
            assert_ne!(head[3], 7, "request {index}");
            if head[3] == 0 && head[4] & 1 == 1 {
                break;
            }
        }
        client.send(frame(3, 0, id, &[0, 0, 0, 8])).await;
    }
    assert_eq!(upstream.count(), 5000);
    drop(client);
    assert_eq!(floods(&stage).await, 0.0);
    stage.assert_in_order().await;
}

#[tokio::test]
async fn client_that_makes_us_answer_and_reads_nothing_is_held_back_and_closed_in_time() {
    let upstream = Upstream::named("one").await;
    let settings = Settings { listener: "timeouts: { header: 1s, idle: 1s }", ..Settings::default() };
    let stage = Stage::with(&[upstream.address], settings).await;
    let requests = move |first: u32| {
        let frames = (0..1000).flat_map(|index| frame(1, 0x5, (first + index) * 2 + 1, HEAD));
        frames.collect::<Vec<u8>>()
    };
    for row in ["pings", "requests"] {
        let accepted = || stage.proxy.metric("weir_downstream_connections_total", &[]);
        let before = accepted().await;
        let mut client = Client::connect(stage.proxy.address).await;
        socket2::SockRef::from(&client.0).set_recv_buffer_size(4096).unwrap();
        client.send(greeting()).await;
        let sending = tokio::spawn(async move {
            let mut sent = 0;
            loop {
                let bytes = match row {
                    "pings" => frame(PING, 0, 0, &[0; 8]).repeat(1000),
                    _ => requests(sent),
                };
                if client.0.write_all(&bytes).await.is_err() {
                    return;
                }
                sent += 1000;
            }
        });
        until("it is there", || async { (accepted().await > before).then_some(()) }).await;
        // It is closed at last: for a flood, or because it takes nothing. What the system still keeps of it is the
        // system's.
        let active = || stage.proxy.metric("weir_downstream_connections_active", &[]);
        until(row, || async { (active().await == 0.0).then_some(()) }).await;
        sending.abort();
        stage.assert_in_order().await;
    }
}

#[tokio::test]
async fn response_that_the_client_grants_no_room_for_is_given_up_in_time() {
    let upstream = Upstream::answering(|_| async {
        http::Response::new(crate::support::upstream::full(vec![b'x'; 1 << 20]))
    })
    .await;
    let settings = Settings { listener: "timeouts: { header: 1s, idle: 1s }", ..Settings::default() };
    let stage = Stage::with(&[upstream.address], settings).await;
    let mut client = Client::connect(stage.proxy.address).await;
    // A window of nothing for each stream; the connection itself is read.
    let no_window = frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
    let requests = (0..100).flat_map(|index| frame(1, 0x5, index * 2 + 1, HEAD)).collect();
    client.send([greeting(), no_window, requests].concat()).await;
    let active = || async {
        let active = stage.proxy.metric("weir_upstream_requests_active", &["upstream=\"one\""]).await;
        (upstream.count() == 100 && active == 0.0).then_some(())
    };
    until("all are given up", active).await;
    assert_eq!(goodbye(&mut client).await, Some(0), "then it is idle");
    drop(client);
    stage.assert_in_order().await;
}
