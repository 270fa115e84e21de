//! What is agreed on: versions, protocols, resumption.

use rustls::HandshakeKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Edge, SHOP};
use crate::support::tls::{Client, VERSIONS};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_version_is_served_and_the_upstream_is_told_https() {
    let edge = Edge::open("").await;
    for version in VERSIONS {
        let client = Client::new(&edge.authority, &[version]);
        let answer = client.get(edge.address, SHOP, "/").await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("one"), "{version:?}: {answer}");
        let seen = edge.upstream.last();
        assert_eq!(seen.header("x-forwarded-proto"), "https", "{version:?}");
        assert!(seen.header("forwarded").ends_with("proto=https"), "{version:?}: {seen:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn protocol_is_what_alpn_agrees_on() {
    let edge = Edge::open("").await;
    for (offered, agreed) in [
        (&[][..], None),
        (&["http/1.1"], Some("http/1.1")),
        (&["h2"], Some("h2")),
        (&["http/1.1", "h2"], Some("h2")),
        (&["h2", "http/1.1"], Some("h2")),
        (&["h3", "http/1.1"], Some("http/1.1")),
    ] {
        let client = Client::new(&edge.authority, &VERSIONS).alpn(offered);
        let mut stream = client.connect(edge.address, SHOP).await;
        let found = stream.get_ref().1.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned());
        assert_eq!(found.as_deref(), agreed, "{offered:?}");
        stream.shutdown().await.unwrap();
    }
    let client = Client::new(&edge.authority, &VERSIONS).alpn(&["smtp"]);
    let error = client.try_connect(edge.address, SHOP).await.unwrap_err();
    assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn preface_of_http2_is_refused_where_http1_was_agreed_on() {
    let edge = Edge::open("").await;
    for (offered, is_served) in [(&["http/1.1"][..], false), (&[], true), (&["h2"], true)] {
        let client = Client::new(&edge.authority, &VERSIONS).alpn(offered);
        let mut stream = client.connect(edge.address, SHOP).await;
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        if is_served {
            assert_eq!(answer[3..9], [4, 0, 0, 0, 0, 0], "{offered:?}: the first frame are settings");
        } else {
            assert_eq!(&answer, b"HTTP/1.1 505", "{offered:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn client_that_was_here_resumes_also_behind_a_reload() {
    let edge = Edge::open("").await;
    for version in VERSIONS {
        let client = Client::new(&edge.authority, &[version]);
        let kind = async || {
            let mut stream = client.connect(edge.address, SHOP).await;
            stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
            stream.read_to_end(&mut Vec::new()).await.unwrap();
            stream.get_ref().1.handshake_kind()
        };
        assert_eq!(kind().await, Some(HandshakeKind::Full), "{version:?}");
        assert_eq!(kind().await, Some(HandshakeKind::Resumed), "{version:?}");
        let text = std::fs::read_to_string(&edge.proxy.path).unwrap();
        edge.proxy.replace(&text.replace("name: edge", "max_header: 32KiB\n    name: edge")).await;
        assert_eq!(kind().await, Some(HandshakeKind::Resumed), "{version:?}");
        edge.proxy.replace(&text).await;
        assert_eq!(kind().await, Some(HandshakeKind::Resumed), "{version:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn older_version_than_wanted_is_refused_and_counted() {
    let edge = Edge::open("      min_version: '1.3'\n").await;
    let old = Client::new(&edge.authority, &VERSIONS[..1]);
    let error = old.try_connect(edge.address, SHOP).await.unwrap_err();
    assert!(error.to_string().contains("ProtocolVersion"), "{error}");
    crate::support::until("it counts", || async { (edge.refused("tls").await == 1.0).then_some(()) }).await;
    let answer = Client::new(&edge.authority, &VERSIONS).get(edge.address, SHOP, "/").await;
    assert!(answer.ends_with("one"), "{answer}");
}
