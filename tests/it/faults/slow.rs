//! Endpoints that answer, a byte at a time.

use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::raw::{Client, Scripted, exchange, status};
use crate::support::stage::Settings;
use crate::support::{PATIENCE, Stage};

const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";

/// Says `text` byte by byte, with a pause before each.
async fn trickle(stream: &mut TcpStream, text: &[u8], pause: Duration) {
    for byte in text {
        tokio::time::sleep(pause).await;
        if stream.write_all(&[*byte]).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn head_that_trickles_in_has_no_more_time_than_one_that_does_not_come() {
    let endpoint = Scripted::start(|mut stream, _| async move {
        let head = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-more: 1234567890\r\n\r\nok";
        trickle(&mut stream, head.as_bytes(), Duration::from_millis(50)).await;
    })
    .await;
    let settings = Settings { upstream: "timeouts: { response: 500ms }", ..Settings::default() };
    let stage = Stage::with(&[endpoint.address], settings).await;
    let began = Instant::now();
    let answer = exchange(stage.proxy.address, GET).await;
    let took = began.elapsed();
    println!("fault: a head of a byte each 50 ms, timeouts.response 500ms: given up after {took:.2?}");
    assert_eq!(status(&answer), 504, "{answer}");
    assert!(answer.contains("x-weir-error: response_timeout\r\n"), "{answer}");
    // All of it would have taken more than three seconds.
    assert!((Duration::from_millis(500)..Duration::from_secs(3)).contains(&took), "{took:?}");
    let labels = ["upstream=\"one\"", "cause=\"timeout\""];
    assert_eq!(stage.proxy.metric("weir_upstream_failures_total", &labels).await, 1.0);
    assert_eq!(stage.proxy.metric("weir_errors_total", &["blame=\"upstream\""]).await, 1.0);
    stage.assert_in_order().await;
}

#[tokio::test]
async fn body_that_trickles_in_is_passed_on_as_it_comes() {
    let endpoint = Scripted::start(|mut stream, _| async move {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n").await.unwrap();
        trickle(&mut stream, b"0123456789", Duration::from_millis(100)).await;
    })
    .await;
    // The time for the response is that for its head.
    let settings = Settings { upstream: "timeouts: { response: 300ms }", ..Settings::default() };
    let stage = Stage::with(&[endpoint.address], settings).await;
    let mut client = Client::connect(stage.proxy.address).await;
    client.send(GET).await;
    client.read_until("0").await;
    let first = Instant::now();
    let rest = client.read_to_end().await;
    assert!(rest.ends_with("123456789"), "{rest:?}");
    // The first was there long before the last.
    assert!(first.elapsed() > Duration::from_millis(500), "{:?}", first.elapsed());
    stage.assert_in_order().await;
}

#[tokio::test]
async fn body_that_trickles_without_end_is_ended_by_the_time_of_its_route() {
    let endpoint = Scripted::start(|mut stream, _| async move {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n").await.unwrap();
        trickle(&mut stream, &[b'x'; 1000], Duration::from_millis(20)).await;
    })
    .await;
    let settings = Settings { route: "timeout: 500ms", ..Settings::default() };
    let stage = Stage::with(&[endpoint.address], settings).await;
    let mut client = Client::connect(stage.proxy.address).await;
    client.send(GET).await;
    assert_eq!(status(&client.read_until("\r\n\r\n").await), 200);
    assert!(client.is_closed_within(PATIENCE).await);
    let labels = ["code=\"route_timeout\"", "blame=\"upstream\""];
    assert_eq!(stage.proxy.metric("weir_errors_total", &labels).await, 1.0);
    stage.assert_in_order().await;
}

#[tokio::test]
async fn one_that_is_slow_takes_no_time_from_others() {
    // Eight answers trickle; the same worker answers everybody else meanwhile.
    let endpoint = Scripted::start(|mut stream, _| async move {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n").await.unwrap();
        trickle(&mut stream, &[b'x'; 10_000], Duration::from_millis(1)).await;
    })
    .await;
    let stage = Stage::before(endpoint.address).await;
    let mut slow = Vec::new();
    for _ in 0..8 {
        let mut client = Client::connect(stage.proxy.address).await;
        client.send(GET).await;
        client.read_until("x").await;
        slow.push(client);
    }
    for _ in 0..50 {
        let well = "GET /well HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        let answer = tokio::time::timeout(Duration::from_secs(5), exchange(stage.proxy.address, well)).await;
        assert_eq!(status(&answer.expect("nobody waits for those that are slow")), 200);
    }
    assert_eq!(stage.proxy.metric("weir_upstream_requests_active", &["upstream=\"one\""]).await, 8.0);
    drop(slow);
    stage.assert_in_order().await;
}
