//! Clients that do not speak TLS, stall, go away or never read: each is told and counted where that makes sense, and
//! nobody else notices.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Edge, SHOP};
use crate::support::raw::{Client as Raw, exchange};
use crate::support::tls::{Client, VERSIONS};
use crate::support::until;

impl Edge {
    /// Passes when a normal request is served over TLS, and no connection is left.
    async fn assert_in_order(&self) {
        for version in VERSIONS {
            let answer = Client::new(&self.authority, &[version]).get(self.address, SHOP, "/").await;
            assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("one"), "{answer}");
        }
        let open = async || self.proxy.metric("weir_downstream_connections_active", &[]).await;
        until("no connection is left", || async { (open().await == 0.0).then_some(()) }).await;
    }

    async fn counts(&self, cause: &str, count: f64) {
        until(cause, || async { (self.refused(cause).await == count).then_some(()) }).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_http_is_told_to_speak_tls() {
    let edge = Edge::open("").await;
    for request in ["GET / HTTP/1.1\r\nhost: a\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let answer = exchange(edge.address, request).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 400"), "{answer}");
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{answer}");
    }
    edge.counts("tls", 2.0).await;
    edge.assert_in_order().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_handshake_is_refused_with_an_alert() {
    let edge = Edge::open("").await;
    let mut long = vec![22, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff];
    long.resize(5 + 0x4000, 0);
    let huge: Vec<u8> = std::iter::once(long.clone())
        .chain((0..8).map(|_| [vec![22, 3, 1, 0x40, 0], vec![0; 0x4000]].concat()))
        .flatten()
        .collect();
    let rows: [(&str, Vec<u8>); 5] = [
        ("random", vec![0x80, 0x2e, 1, 3, 1, 0, 0, 0, 0, 0, 0]),
        ("application data first", [vec![23, 3, 3, 0, 16], vec![7; 16]].concat()),
        ("an alert first", vec![21, 3, 3, 0, 2, 2, 40]),
        ("a hello that is none", vec![22, 3, 1, 0, 8, 1, 0, 0, 4, 9, 9, 9, 9]),
        ("a huge hello", huge),
    ];
    let mut count = 0.0;
    for (what, bytes) in rows {
        let mut client = Raw::connect(edge.address).await;
        // It may be refused before all of it is sent.
        let _ = client.0.write_all(&bytes).await;
        let mut answer = Vec::new();
        let read = client.0.read_to_end(&mut answer);
        let _ = tokio::time::timeout(Duration::from_secs(10), read).await.expect(what);
        assert!(answer.is_empty() || answer[0] == 21, "{what}: {answer:?}");
        count += 1.0;
        edge.counts("tls", count).await;
    }
    edge.assert_in_order().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handshake_that_stalls_is_cut_in_its_time_and_one_that_is_left_counts_as_nothing() {
    let edge = Edge::with("", "    timeouts: { header: 300ms }\n", |authority, folder| {
        vec![authority.issue(&crate::support::tls::Wanted::of(&[SHOP])).write(folder, "shop")]
    })
    .await;
    for (number, said) in (1..).zip([&[][..], &[22, 3, 1], &[22, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3]]) {
        let mut client = Raw::connect(edge.address).await;
        client.send(said).await;
        assert!(client.is_closed_within(Duration::from_secs(10)).await);
        edge.counts("timeout", f64::from(number)).await;
    }
    for said in [&[][..], &[22, 3, 1]] {
        let mut client = Raw::connect(edge.address).await;
        client.send(said).await;
    }
    edge.assert_in_order().await;
    for (cause, count) in [("timeout", 3.0), ("tls", 0.0), ("client_certificate", 0.0)] {
        assert_eq!(edge.refused(cause).await, count, "{cause}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousand_handshakes_leave_nothing() {
    let edge = Edge::open("").await;
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..10 {
        let (client, address) = (Client::new(&edge.authority, &[VERSIONS[number % 2]]), edge.address);
        clients.spawn(async move {
            for round in 0..100 {
                if round % 4 == 0 {
                    // It goes without a word.
                    drop(client.connect(address, SHOP).await);
                } else {
                    assert!(client.get(address, SHOP, "/").await.ends_with("one"));
                }
            }
        });
    }
    while let Some(done) = clients.join_next().await {
        done.unwrap();
    }
    edge.assert_in_order().await;
    assert_eq!(edge.upstream.count(), 752);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn client_that_never_reads_holds_up_nobody_and_is_let_go() {
    let big = crate::support::Upstream::answering(|_| async {
        http::Response::new(crate::support::upstream::full(vec![7; 32 << 20]))
    })
    .await;
    let edge = Edge::with("", "    timeouts: { idle: 500ms }\n", |authority, folder| {
        vec![authority.issue(&crate::support::tls::Wanted::of(&[SHOP])).write(folder, "shop")]
    })
    .await;
    let text = std::fs::read_to_string(&edge.proxy.path).unwrap();
    let text = text.replace(
        "upstreams: { one:",
        &format!("upstreams: {{ big: {{ endpoints: ['{}'] }}, one:", big.address),
    );
    edge.proxy.replace(&text.replace("routes: [", "routes: [{ paths: [/big], upstream: big }, ")).await;
    let mut stuck = Vec::new();
    for version in VERSIONS {
        let mut stream = Client::new(&edge.authority, &[version]).connect(edge.address, SHOP).await;
        stream.write_all(b"GET /big HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        stuck.push(stream);
    }
    until("they are served", || async { (big.count() == 2).then_some(()) }).await;
    edge.assert_in_order().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answer_that_breaks_off_is_no_whole_one() {
    // HTTP/1.0 knows no chunks: the end of the connection is the end of the answer.
    let breaking = crate::support::raw::Scripted::start(|mut stream, _| async move {
        let _ =
            stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n").await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    })
    .await;
    let whole = crate::support::raw::Scripted::saying(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    )
    .await;
    for (upstream, is_whole) in [(&whole, true), (&breaking, false)] {
        let edge = Edge::open("").await;
        let text = std::fs::read_to_string(&edge.proxy.path).unwrap();
        edge.proxy
            .replace(&text.replace(&edge.upstream.address.to_string(), &upstream.address.to_string()))
            .await;
        for version in VERSIONS {
            let mut stream = Client::new(&edge.authority, &[version]).connect(edge.address, SHOP).await;
            stream.write_all(b"GET / HTTP/1.0\r\nhost: a\r\n\r\n").await.unwrap();
            let mut answer = Vec::new();
            let read = stream.read_to_end(&mut answer).await;
            assert_eq!(read.is_ok(), is_whole, "{version:?}: {read:?}");
            assert!(!is_whole || answer.ends_with(b"hello"), "{version:?}");
        }
    }
}
