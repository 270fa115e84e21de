//! What answers come to, also those of endpoints that mean no good: each check ends in its time, and the proxy is well.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::{Response, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{before, comes_to_be, scraped, verdict};
use crate::support::raw::Scripted;
use crate::support::upstream::{full, nobody};
use crate::support::{Ask, Upstream, Via, until};

/// An endpoint that answers with this status and body.
async fn answering(status: u16, body: &'static str) -> Upstream {
    Upstream::answering(move |_| async move {
        let mut response = Response::new(full(body));
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        response
    })
    .await
}

#[tokio::test]
async fn answer_decides_by_status_and_body_over_both_protocols() {
    let rows = [
        (200, "ok", "", "healthy"),
        (204, "", "", "healthy"),
        (304, "", "", "status 304"),
        (304, "", ", status: [200-299, 304]", "healthy"),
        (503, "ok", "", "status 503"),
        (404, "ok", ", status: [404]", "healthy"),
        (200, "I am ready", ", body: ready", "healthy"),
        (200, "not yet", ", body: ready", "the body lacks the text"),
        (500, "ready", ", body: ready", "status 500"),
        (200, "", ", method: HEAD", "healthy"),
    ];
    for (status, body, keys, expected) in rows {
        let endpoint = answering(status, body).await;
        for protocol in ["http1", "http2", "auto"] {
            let health = format!("{{ path: /healthz{keys} }}");
            let more = format!("protocol: {protocol}");
            let found = verdict(&endpoint.address.to_string(), &health, &more).await;
            assert_eq!(found, expected, "{status} {body:?} {keys} {protocol}");
        }
    }
}

#[tokio::test]
async fn endpoint_that_is_not_there_is_unhealthy_and_says_why() {
    let rows = [
        (nobody().to_string(), "Connection refused (os error 111)"),
        ("unix:/nowhere/a.sock".to_owned(), "No such file or directory (os error 2)"),
    ];
    for (endpoint, expected) in rows {
        for health in ["{ path: / }", "{ tcp: true }", "{ grpc: '' }"] {
            assert_eq!(verdict(&endpoint, health, "").await, expected, "{health}");
        }
    }
}

/// Sends `piece` for as long as it is taken.
async fn flood(mut stream: TcpStream, first: Vec<u8>, piece: Vec<u8>) {
    if stream.write_all(&first).await.is_ok() {
        while stream.write_all(&piece).await.is_ok() {}
    }
}

/// Sends `piece` after each pause, for as long as it is taken.
async fn trickle(mut stream: TcpStream, first: &[u8], piece: &[u8]) {
    let mut sent = stream.write_all(first).await;
    while sent.is_ok() {
        tokio::time::sleep(Duration::from_millis(20)).await;
        sent = stream.write_all(piece).await;
    }
}

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, stream];
    frame.extend(payload);
    frame
}

/// What an endpoint does with each connection of a check.
type Deed = fn(TcpStream) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\n";
const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";

#[tokio::test]
async fn endpoint_that_lies_is_unhealthy_in_the_time_of_a_check_and_holds_nothing() {
    let rows: [(&str, &str, &str, Deed); 15] = [
        ("says nothing", "http1", "no answer within 400ms", |mut stream| {
            Box::pin(async move {
                let _ = stream.read_to_end(&mut Vec::new()).await;
            })
        }),
        ("closes", "http1", "the connection was closed before the answer was whole", |mut stream| {
            Box::pin(async move {
                let _ = stream.read(&mut [0; 4096]).await;
            })
        }),
        ("trickles a head", "http1", "no answer within 400ms", |stream| Box::pin(trickle(stream, OK, b"x"))),
        ("trickles fields", "http1", "no answer within 400ms", |stream| {
            Box::pin(trickle(stream, OK, b"x: y\r\n"))
        }),
        ("trickles a body", "http1", "no answer within 400ms", |stream| {
            Box::pin(trickle(stream, CHUNKED, b"1\r\nx\r\n"))
        }),
        ("head without end", "http1", "the answer is too large", |stream| {
            Box::pin(flood(stream, OK.to_vec(), b"x: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy".repeat(100)))
        }),
        ("1xx without end", "http1", "the answer is too large", |stream| {
            Box::pin(flood(stream, Vec::new(), b"HTTP/1.1 100 Continue\r\n\r\n".repeat(100)))
        }),
        ("body without end", "http1", "the body lacks the text", |stream| {
            Box::pin(flood(stream, [OK, b"\r\n"].concat(), vec![b'x'; 65536]))
        }),
        ("chunks without end", "http1", "the body lacks the text", |stream| {
            Box::pin(flood(stream, CHUNKED.to_vec(), b"1\r\nx\r\n".repeat(10_000)))
        }),
        ("garbage", "http1", "the answer is not valid HTTP", |stream| {
            Box::pin(flood(stream, Vec::new(), vec![0xff; 4096]))
        }),
        ("says nothing", "http2", "no answer within 400ms", |mut stream| {
            Box::pin(async move {
                let _ = stream.read_to_end(&mut Vec::new()).await;
            })
        }),
        ("pings without end", "http2", "the answer is too large", |stream| {
            Box::pin(flood(stream, frame(4, 0, 0, &[]), frame(6, 0, 0, &[0; 8]).repeat(1000)))
        }),
        ("settings without end", "http2", "the answer is too large", |stream| {
            Box::pin(flood(stream, frame(4, 0, 0, &[]), frame(4, 0, 0, &[]).repeat(1000)))
        }),
        ("trickles window updates", "http2", "no answer within 400ms", |stream| {
            Box::pin(async move {
                let update = frame(8, 0, 0, &[0, 0, 0, 1]);
                trickle(stream, &frame(4, 0, 0, &[]), &update).await;
            })
        }),
        ("HTTP/1.1 where HTTP/2 is asked for", "http2", "", |stream| {
            Box::pin(flood(stream, b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), vec![b' '; 64]))
        }),
    ];
    for (what, protocol, expected, deed) in rows {
        let (open, most) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let (now, ever) = (Arc::clone(&open), Arc::clone(&most));
        let endpoint = Scripted::accepting(move |stream| {
            ever.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            let (now, doing) = (Arc::clone(&now), deed(stream));
            async move {
                doing.await;
                now.fetch_sub(1, Ordering::SeqCst);
            }
        })
        .await;
        let health = "{ path: /, body: ready, interval: 400ms, timeout: 400ms, jitter: 0% }";
        let more = format!("protocol: {protocol}");
        let started = Instant::now();
        let proxy = before(&[endpoint.address.to_string()], health, &more).await;
        let found = comes_to_be(&proxy, "unhealthy").await;
        assert!(started.elapsed() < Duration::from_secs(5), "{what}: {:?}", started.elapsed());
        if expected.is_empty() {
            assert!(found.starts_with("HTTP/2: "), "{what} {protocol}: {found}");
        } else {
            assert_eq!(found, expected, "{what} {protocol}");
        }
        until("a third check", || async { (endpoint.count() > 2).then_some(()) }).await;
        drop(proxy);
        let all_closed = || async { (open.load(Ordering::SeqCst) == 0).then_some(()) };
        until("every connection has closed", all_closed).await;
        // The endpoint may hear of the end of one only behind the beginning of the next.
        assert!(most.load(Ordering::SeqCst) <= 2, "{what} {protocol}: {most:?} at a time");
    }
}

#[tokio::test]
async fn verdict_changes_behind_a_row_of_checks_and_shows_everywhere() {
    let (status, watched) = tokio::sync::watch::channel(200);
    let endpoint = Upstream::answering(move |_| {
        let status = *watched.borrow();
        async move {
            let mut response = Response::new(full("x"));
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            response
        }
    })
    .await;
    let health = "{ path: /, interval: 20ms, jitter: 0%, unhealthy: 2, healthy: 3 }";
    let proxy = before(&[endpoint.address.to_string()], health, "").await;
    let labels = format!("upstream=\"one\",endpoint=\"{}\"", endpoint.address);
    let gauge = format!("weir_endpoint_healthy{{{labels}}}");
    let checks = |result: &str| format!("weir_endpoint_checks_total{{{labels},result=\"{result}\"}}");
    assert_eq!(comes_to_be(&proxy, "healthy").await, "");
    assert_eq!(scraped(&proxy, &gauge).await, Some(1.0));
    status.send_replace(503);
    assert_eq!(comes_to_be(&proxy, "unhealthy").await, "status 503");
    assert_eq!(scraped(&proxy, &gauge).await, Some(0.0));
    status.send_replace(200);
    comes_to_be(&proxy, "healthy").await;
    assert_eq!(scraped(&proxy, &gauge).await, Some(1.0));
    let (passed, failed) =
        (scraped(&proxy, &checks("success")).await, scraped(&proxy, &checks("failure")).await);
    assert!(passed >= Some(4.0) && failed >= Some(2.0), "{passed:?} {failed:?}");
    let asked = endpoint.last();
    assert_eq!(asked.header("host"), endpoint.address.to_string());
    assert!(asked.header("user-agent").starts_with("weir-health-check/"), "{asked:?}");
}

#[tokio::test]
async fn checks_are_no_requests_of_clients() {
    let endpoint = answering(200, "ok").await;
    let proxy = before(&[endpoint.address.to_string()], "{ path: /, interval: 20ms }", "").await;
    until("some checks", || async { (endpoint.count() > 5).then_some(()) }).await;
    assert_eq!(proxy.metric("weir_upstream_requests_total", &[]).await, 0.0);
    assert_eq!(proxy.metric("weir_upstream_connects_total", &[]).await, 0.0);
    let before = endpoint.connections.load(Ordering::Relaxed);
    assert!(before > 5, "each check has a connection of its own: {before}");
    assert_eq!(Ask::get("/").send(Via::Http1, proxy.address).await.status, 200);
}
