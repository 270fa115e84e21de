//! Upgrades byte by byte: other protocols, early bytes, refusals, and peers that lie.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::Message;

use super::{hear, say};
use crate::support::raw::{Client, exchange, read_head, status};
use crate::support::websocket::{Echo, connect};
use crate::support::{PATIENCE, Stage, Upstream};

/// An endpoint that answers each connection's head with `answer` and then sends all back in upper case until the client
/// has ended, and says `bye`.
async fn shouting(answer: &'static str) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let Some(head) = read_head(&mut stream).await else { return };
                let early = head.split_once("\r\n\r\n").unwrap().1.to_ascii_uppercase();
                stream.write_all(format!("{answer}{early}").as_bytes()).await.unwrap();
                let mut part = [0; 4096];
                while let Ok(count @ 1..) = stream.read(&mut part).await {
                    stream.write_all(&part[..count].to_ascii_uppercase()).await.unwrap();
                }
                // The client may be gone.
                let _ = stream.write_all(b"bye").await;
            });
        }
    });
    address
}

pub(super) const ASKING: &str =
    "GET /x HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: shout/1\r\n\r\n";
pub(super) const SWITCH: &str =
    "HTTP/1.1 101 Go\r\nconnection: upgrade\r\nupgrade: shout/1\r\nx-a: b\r\n\r\n";

#[tokio::test]
async fn any_protocol_passes_and_each_side_ends_by_itself() {
    let stage = Stage::before(shouting(SWITCH).await).await;
    let mut client = Client::connect(stage.proxy.address).await;
    // The client does not wait for the answer.
    client.send(format!("{ASKING}early ")).await;
    let head = client.read_until("EARLY ").await;
    assert!(head.starts_with("HTTP/1.1 101 Go\r\n"), "{head}");
    let head = head.to_ascii_lowercase();
    for line in ["connection: upgrade\r\n", "upgrade: shout/1\r\n", "x-a: b\r\n"] {
        assert!(head.contains(line), "{head}");
    }
    assert!(!head.contains("content-length"), "{head}");
    client.send("more").await;
    client.read_until("MORE").await;
    client.0.shutdown().await.unwrap();
    assert_eq!(client.read_to_end().await, "bye", "the other direction goes on");
    stage.assert_in_order().await;
}

#[tokio::test]
async fn refused_upgrade_is_a_response_like_any_other() {
    let upstream = Upstream::named("plain").await;
    let stage = Stage::before(upstream.address).await;
    let mut client = Client::connect(stage.proxy.address).await;
    for _ in 0..3 {
        client.send(ASKING).await;
        let response = client.read_response().await;
        assert_eq!(status(&response), 200, "{response}");
        assert!(response.ends_with("plain"), "{response}");
        let last = upstream.last();
        assert_eq!((last.header("connection"), last.header("upgrade")), ("upgrade", "shout/1"));
    }
    // Over HTTP/2 too: 404 of the proxy itself, and what no HTTP/2 endpoint takes.
    let none = Stage::serving("", "upstreams:\n", "").await;
    assert_eq!(connect(none.proxy.address, true, "/none", &[]).await.err().unwrap().as_u16(), 404);
    let old = Stage::speaking("http2", upstream.address).await;
    for is_http2 in [false, true] {
        let refused = connect(old.proxy.address, is_http2, "/", &[]).await.err().unwrap();
        assert_eq!(refused.as_u16(), 502, "it takes no extended CONNECT");
    }
    drop(client);
    for stage in [stage, none, old] {
        stage.assert_in_order().await;
    }
}

#[tokio::test]
async fn other_http_inside_is_never_passed_on() {
    let upstream = Upstream::named("plain").await;
    let stage = Stage::before(upstream.address).await;
    for upgrade in ["h2c", "H2C, h2", "HTTP/2.0", "TLS/1.0"] {
        let request = format!(
            "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade, http2-settings, close\r\nupgrade: {upgrade}\r\n\
             http2-settings: AAMAAABkAAQAAP__\r\n\r\n"
        );
        assert_eq!(status(&exchange(stage.proxy.address, request).await), 200);
        let last = upstream.last();
        for name in ["upgrade", "http2-settings"] {
            assert_eq!(last.header(name), "", "{upgrade}");
        }
    }
}

#[tokio::test]
async fn switch_to_what_nobody_asked_for_is_a_bad_gateway() {
    for (asking, answer) in [
        (ASKING, "HTTP/1.1 101 Go\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n"),
        (ASKING, "HTTP/1.1 101 Go\r\nupgrade: shout/1\r\n\r\n"),
        (ASKING, "HTTP/1.1 101 Go\r\nconnection: upgrade\r\n\r\n"),
        ("GET /x HTTP/1.1\r\nhost: a\r\n\r\n", SWITCH),
        ("GET /x HTTP/1.1\r\nhost: a\r\nupgrade: shout/1\r\n\r\n", SWITCH),
        ("GET /x HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n", SWITCH),
    ] {
        let stage = Stage::before(shouting(answer).await).await;
        let mut client = Client::connect(stage.proxy.address).await;
        client.send(asking).await;
        let response = client.read_response().await;
        assert_eq!(status(&response), 502, "{asking} {response}");
        assert!(response.contains("upstream_protocol"), "{response}");
        // The connection is one of HTTP as before.
        client.send("GET /well HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert!(client.read_response().await.ends_with("well"));
        drop(client);
        stage.assert_in_order().await;
    }
}

#[tokio::test]
async fn wrong_answer_to_the_key_is_a_bad_gateway() {
    let answer = "HTTP/1.1 101 Go\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                  sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    let stage = Stage::before(shouting(answer).await).await;
    for is_http2 in [false, true] {
        let refused = connect(stage.proxy.address, is_http2, "/", &[]).await.err().unwrap();
        assert_eq!(refused.as_u16(), 502, "{is_http2}");
    }
    stage.assert_in_order().await;
}

#[tokio::test]
async fn length_that_an_extended_connect_claims_reaches_no_endpoint() {
    let upstream = Upstream::named("plain").await;
    let stage = Stage::before(upstream.address).await;
    let refused = connect(stage.proxy.address, true, "/", &[("content-length", "10")]).await;
    assert!(refused.is_err());
    let last = upstream.last();
    assert_eq!((last.header("upgrade"), last.header("content-length")), ("websocket", ""));
    // Nor one of HTTP/1.1 that comes without a body, where the bytes of the tunnel would be over it.
    let echo = Echo::start(true).await;
    let stage = Stage::speaking("http2", echo.address).await;
    let (mut socket, _) = connect(stage.proxy.address, false, "/", &[("content-length", "0")]).await.unwrap();
    say(&mut socket, Message::text("hello")).await;
    assert_eq!(hear(&mut socket).await, Message::text("hello"));
}

#[tokio::test]
async fn success_without_a_tunnel_is_no_success_to_an_extended_connect() {
    let upstream = Upstream::named("plain").await;
    let routes = "  - { paths: [/own], respond: { status: 204 } }\n  - { upstream: one }\n";
    let sections = format!("upstreams:\n  one: {{ endpoints: ['{}'] }}\n", upstream.address);
    let stage = Stage::serving("", &sections, routes).await;
    for (path, status) in [("/", 502), ("/own", 501)] {
        let refused = connect(stage.proxy.address, true, path, &[]).await.err().expect("no tunnel is open");
        assert_eq!(refused.as_u16(), status, "{path}");
    }
    stage.assert_in_order().await;
}

#[tokio::test]
async fn length_of_a_switch_is_not_passed_on() {
    let stage = Stage::before(
        shouting("HTTP/1.1 101 Go\r\nconnection: upgrade\r\nupgrade: shout/1\r\ncontent-length: 3\r\n\r\n")
            .await,
    )
    .await;
    let mut client = Client::connect(stage.proxy.address).await;
    client.send(format!("{ASKING}early ")).await;
    let head = client.read_until("EARLY ").await;
    assert!(!head.to_ascii_lowercase().contains("content-length"), "{head}");
}

#[tokio::test]
async fn tunnel_that_breaks_on_one_side_has_no_orderly_end_on_the_other() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stage = Stage::before(listener.local_addr().unwrap()).await;
    for is_endpoint in [false, true] {
        let mut client = Client::connect(stage.proxy.address).await;
        client.send(ASKING).await;
        let (mut endpoint, _) = listener.accept().await.unwrap();
        read_head(&mut endpoint).await.unwrap();
        endpoint.write_all(SWITCH.as_bytes()).await.unwrap();
        client.read_until("\r\n\r\n").await;
        let (breaking, mut other) = if is_endpoint { (endpoint, client.0) } else { (client.0, endpoint) };
        breaking.set_zero_linger().unwrap();
        drop(breaking);
        let end = tokio::time::timeout(PATIENCE, other.read(&mut [0; 1])).await.expect("it ends");
        assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset, "{is_endpoint}");
    }
    stage.assert_in_order().await;
}
