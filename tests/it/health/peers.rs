//! Checks go as the traffic goes: over TLS with the upstream's settings, Unix sockets, with the PROXY header; or to a
//! port of their own.

use std::sync::{Arc, Mutex};

use http::{Response, Version};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::AsyncReadExt;
use tokio::net::UnixListener;

use super::{before, comes_to_be, verdict};
use crate::support::certs::Authority;
use crate::support::raw::Scripted;
use crate::support::secure::{Secure, Terms, server};
use crate::support::upstream::{Body, full, nobody};
use crate::support::{Upstream, until};

/// A folder with the certificate of an authority, and the key `tls` that believes it.
fn ground() -> (tempfile::TempDir, Authority, String) {
    let (folder, ca) = (tempfile::tempdir().unwrap(), Authority::new("Test CA"));
    let path = folder.path().join("ca.pem");
    std::fs::write(&path, ca.pem()).unwrap();
    let tls = format!("tls: {{ ca: '{}' }}", path.display());
    (folder, ca, tls)
}

#[tokio::test]
async fn check_speaks_tls_as_the_traffic_does_and_sees_the_certificate_each_time() {
    let (_folder, ca, tls) = ground();
    let rows = [
        ("http1", Version::HTTP_11, "http/1.1"),
        ("http2", Version::HTTP_2, "h2"),
        ("auto", Version::HTTP_2, "h2"),
    ];
    for (protocol, version, alpn) in rows {
        let endpoint = Secure::named("one", server(&ca.issue(&["127.0.0.1"]), Terms::default())).await;
        let more = format!("protocol: {protocol}, {tls}");
        let health = "{ path: /, interval: 20ms }";
        let proxy = before(&[endpoint.endpoint()], health, &more).await;
        comes_to_be(&proxy, "healthy").await;
        until("more checks", || async { (endpoint.shakes().len() > 3).then_some(()) }).await;
        for shake in endpoint.shakes() {
            assert!(!shake.is_resumed, "{protocol}: {shake:?}");
            assert_eq!(shake.alpn.as_deref(), Some(alpn), "{protocol}");
        }
        assert_eq!(endpoint.seen.lock().unwrap()[0].0, version, "{protocol}");
    }
}

#[tokio::test]
async fn certificate_that_traffic_would_not_believe_fails_the_check() {
    let (_folder, _, tls) = ground();
    let stranger = Authority::new("Another CA");
    let endpoint = Secure::named("one", server(&stranger.issue(&["127.0.0.1"]), Terms::default())).await;
    for health in ["{ path: / }", "{ tcp: true }", "{ grpc: '' }"] {
        let found = verdict(&endpoint.endpoint(), health, &tls).await;
        assert!(found.starts_with("TLS: invalid peer certificate: UnknownIssuer"), "{health}: {found}");
    }
}

#[tokio::test]
async fn connection_is_enough_where_nothing_else_is_asked() {
    let (_folder, ca, tls) = ground();
    // Neither ever says a word.
    let silent = Scripted::accepting(|mut stream| async move {
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let secure =
        Secure::scripted(server(&ca.issue(&["127.0.0.1"]), Terms::default()), |mut stream| async move {
            let _ = stream.read_to_end(&mut Vec::new()).await;
        })
        .await;
    let health = "{ tcp: true, timeout: 500ms }";
    assert_eq!(verdict(&silent.address.to_string(), health, "").await, "healthy");
    assert_eq!(verdict(&secure.endpoint(), health, &tls).await, "healthy");
    let plain = format!("https://{}", silent.address);
    assert_eq!(verdict(&plain, health, &tls).await, "no connection within 500ms", "there is no TLS");
}

#[tokio::test]
async fn unix_socket_is_asked_for_localhost() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("one.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let hosts = Arc::<Mutex<Vec<String>>>::default();
    let log = Arc::clone(&hosts);
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let log = Arc::clone(&log);
            let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                let authority = request.uri().authority().map(ToString::to_string);
                let host = request.headers().get("host").map(|host| host.to_str().unwrap().to_owned());
                log.lock().unwrap().extend(authority.or(host));
                async { Ok::<_, std::convert::Infallible>(Response::<Body>::new(full("ok"))) }
            });
            let _ = auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        }
    });
    let endpoint = format!("unix:{}", path.display());
    for (protocol, health, host) in [
        ("http1", "{ path: / }", "localhost"),
        ("http2", "{ path: / }", "localhost"),
        ("http1", "{ path: /, host: 'shop.test:8080' }", "shop.test:8080"),
        ("http2", "{ path: /, host: 'shop.test:8080' }", "shop.test:8080"),
    ] {
        hosts.lock().unwrap().clear();
        assert_eq!(verdict(&endpoint, health, &format!("protocol: {protocol}")).await, "healthy");
        assert_eq!(hosts.lock().unwrap()[0], host, "{protocol} {health}");
    }
    task.abort();
}

#[tokio::test]
async fn connection_begins_with_a_proxy_header_of_our_own_where_those_of_the_traffic_have_one() {
    const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00";
    let begun = Arc::<Mutex<Vec<Vec<u8>>>>::default();
    let log = Arc::clone(&begun);
    let endpoint = Scripted::accepting(move |mut stream| {
        let log = Arc::clone(&log);
        async move {
            let mut first = vec![0; 16];
            if stream.read_exact(&mut first).await.is_ok() {
                log.lock().unwrap().push(first);
            }
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 204 \r\n\r\n").await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    })
    .await;
    for health in ["{ path: / }".to_owned(), "{ tcp: true }".to_owned()] {
        begun.lock().unwrap().clear();
        let found = verdict(&endpoint.address.to_string(), &health, "proxy_protocol: v2").await;
        assert_eq!(found, "healthy", "{health}");
        let seen = || async { begun.lock().unwrap().first().cloned() };
        assert_eq!(until("a first byte", seen).await, LOCAL, "{health}");
    }
    // Another port knows nothing of it.
    begun.lock().unwrap().clear();
    let health = format!("{{ path: /, port: {} }}", endpoint.address.port());
    assert_eq!(verdict(&nobody().to_string(), &health, "proxy_protocol: v2").await, "healthy");
    assert!(begun.lock().unwrap()[0].starts_with(b"GET / HTTP/1.1"));
}

#[tokio::test]
async fn port_of_its_own_is_asked_instead_and_may_speak_no_tls() {
    let (_folder, _, tls) = ground();
    let health = Upstream::named("health").await;
    let port = health.address.port();
    let (plain, secure) = (nobody().to_string(), format!("https://{}", nobody()));
    let keys = format!("{{ path: /, port: {port} }}");
    assert_eq!(verdict(&plain, &keys, "").await, "healthy");
    assert_eq!(health.last().header("host"), health.address.to_string());
    let keys = format!("{{ path: /, port: {port}, tls: false, headers: {{ X-Token: abc }} }}");
    assert_eq!(verdict(&secure, &keys, &tls).await, "healthy");
    assert_eq!(health.last().header("x-token"), "abc");
    let keys = format!("{{ path: /, port: {port} }}");
    let found = verdict(&secure, &keys, &tls).await;
    assert!(found.starts_with("TLS: "), "{found}");
}
