//! What is no header ends its connection without a word, and nobody else notices.

use std::time::Duration;

use weir::wire::proxy_protocol::header;

use super::{SIGNATURE, addresses, binary, line};
use crate::support::raw::{Client, exchange, status};
use crate::support::{PATIENCE, Proxy, Upstream, until};

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

async fn house(keys: &str) -> (Upstream, Proxy) {
    let upstream = Upstream::named("one").await;
    let text = format!(
        "workers: 1\nlisteners: [{{ bind: 127.0.0.1:0, proxy_protocol: required{keys} }}]\nupstreams: {{ one: {{ endpoints: \
         ['{}'] }} }}\nroutes: [{{ upstream: one }}]\n",
        upstream.address
    );
    let proxy = Proxy::start_whole(&text).await;
    (upstream, proxy)
}

async fn refused(proxy: &Proxy, cause: &str) -> f64 {
    let label = format!("cause=\"{cause}\"");
    proxy.metric("weir_downstream_refused_total", &["listener=\"listener-1\"", &label]).await
}

#[tokio::test]
async fn bytes_that_are_no_header_close_their_connection_without_a_byte_and_are_counted() {
    let (upstream, proxy) = house("").await;
    let v4 = header(Some(&addresses("192.0.2.7:1", "192.0.2.8:2")));
    let mut another_sum = binary(0x21, 0x11, &[&v4[16..], &[3, 0, 4, 1, 2, 3, 4]].concat());
    another_sum.extend_from_slice(REQUEST.as_bytes());
    let followed = |header: &str| format!("{header}{REQUEST}").into_bytes();
    let rows = [
        REQUEST.into(),
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        vec![0; 64],
        followed("PROXY TCP4 192.0.2.7 192.0.2.8 1\r\n"),
        followed("PROXY TCP4 192.0.2.7 192.0.2.8 01 2\r\n"),
        followed("PROXY TCP5 192.0.2.7 192.0.2.8 1 2\r\n"),
        followed(&format!("PROXY UNKNOWN {}\r\n", "x".repeat(92))),
        b"PROXY ".repeat(200),
        followed("PROXY TCP4 192.0.2.7 192.0.2.8 1 2\n"),
        [&SIGNATURE[..11], b"\r"].concat(),
        binary(0x11, 0x11, &v4[16..]),
        binary(0x22, 0x11, &v4[16..]),
        binary(0x21, 0x55, &v4[16..]),
        binary(0x21, 0x11, &v4[17..]),
        binary(0x21, 0x11, &[&v4[16..], &[4, 0, 9, 0]].concat()),
        [SIGNATURE, &[0x20, 0, 0xff, 0xff]].concat(),
        another_sum,
    ];
    // One that behaves is served on before, between and after.
    let mut well = Client::connect(proxy.address).await;
    well.send([&line("192.0.2.1")[..], REQUEST.as_bytes()].concat()).await;
    assert_eq!(status(&well.read_response().await), 200);
    for (number, bytes) in (1_u32..).zip(&rows) {
        let row = bytes.escape_ascii().to_string();
        assert_eq!(exchange(proxy.address, bytes).await, "", "{row}");
        assert_eq!(refused(&proxy, "proxy_header").await, f64::from(number), "{row}");
        well.send(REQUEST).await;
        assert_eq!(status(&well.read_response().await), 200, "{row}");
    }
    assert_eq!(upstream.count(), rows.len() + 1, "none of them reached an upstream");
    for cause in ["timeout", "untrusted"] {
        assert_eq!(refused(&proxy, cause).await, 0.0, "{cause}");
    }
    drop(well);
    until("no connection is left", || async {
        (proxy.metric("weir_downstream_connections_active", &[]).await == 0.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn header_that_breaks_off_is_refused_and_a_mere_look_at_the_port_is_not() {
    let (_upstream, proxy) = house("").await;
    let v6 = header(Some(&addresses("[2001:db8::7]:1", "[2001:db8::8]:2")));
    let rows: [&[u8]; 6] =
        [b"", b"P", b"PROXY TCP4 192.0.2.7 192.0.2.8 1 2\r", &SIGNATURE[..1], &v6[..16], &v6[..51]];
    for (number, part) in (0_u32..).zip(rows) {
        let mut client = Client::connect(proxy.address).await;
        client.send(part).await;
        tokio::io::AsyncWriteExt::shutdown(&mut client.0).await.unwrap();
        assert_eq!(client.read_to_end().await, "", "{}", part.escape_ascii());
        assert_eq!(refused(&proxy, "proxy_header").await, f64::from(number), "{}", part.escape_ascii());
    }
}

#[tokio::test]
async fn header_that_does_not_come_in_time_is_refused_though_it_drips() {
    let (_upstream, proxy) = house(", timeouts: { header: 300ms }").await;
    for part in [&b""[..], b"PROXY TCP4 192.0.2.7", &SIGNATURE[..4]] {
        let before = refused(&proxy, "timeout").await;
        let mut client = Client::connect(proxy.address).await;
        client.send(part).await;
        assert_eq!(client.read_to_end().await, "", "{}", part.escape_ascii());
        assert_eq!(refused(&proxy, "timeout").await, before + 1.0);
    }
    // A long one that would take seconds, a byte at a time.
    let header = binary(0x20, 0, &[0; 8192]);
    let before = refused(&proxy, "timeout").await;
    let mut client = Client::connect(proxy.address).await;
    let dripping = async {
        for byte in &header {
            // It fails once the proxy has closed.
            if tokio::io::AsyncWriteExt::write_all(&mut client.0, &[*byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let counting = until("it is given up", || async {
        (refused(&proxy, "timeout").await == before + 1.0).then_some(())
    });
    tokio::select! {
        () = dripping => panic!("all of it was taken"),
        () = counting => {}
    }
    // The time for the head of the request is that of the header: it began when the connection did.
    let mut client = Client::connect(proxy.address).await;
    client.send(line("192.0.2.7")).await;
    assert!(client.is_closed_within(PATIENCE).await);
}

#[tokio::test]
async fn header_that_nobody_asked_for_is_a_malformed_request() {
    let upstream = Upstream::named("one").await;
    let proxy = Proxy::start(&format!(
        "upstreams: {{ one: {{ endpoints: ['{}'] }} }}\nroutes: [{{ upstream: one }}]\n",
        upstream.address
    ))
    .await;
    for header in [line("192.0.2.7"), header(None)] {
        let answer = exchange(proxy.address, [&header[..], REQUEST.as_bytes()].concat()).await;
        assert_eq!(status(&answer), 400, "{answer}");
    }
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn connection_without_a_header_yet_ends_when_its_listener_does() {
    let (upstream, proxy) = house(", name: first").await;
    let mut client = Client::connect(proxy.address).await;
    let accepted = || proxy.metric("weir_downstream_connections_active", &[]);
    until("it is accepted", || async { (accepted().await == 1.0).then_some(()) }).await;
    proxy
        .replace(&format!(
            "workers: 1\nlisteners: [{{ bind: 127.0.0.2:0 }}]\nupstreams: {{ one: {{ endpoints: ['{}'] }} }}\nroutes: [{{ \
             upstream: one }}]\n",
            upstream.address
        ))
        .await;
    assert!(client.is_closed_within(Duration::from_secs(5)).await);
}
