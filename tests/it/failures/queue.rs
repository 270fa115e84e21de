//! An endpoint that takes no more connections for now, because its queue of them is full.

use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;
use tokio::sync::Notify;

use crate::support::raw::{exchange, read_head, status};
use crate::support::stage::Stage;
use crate::support::until;

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
}

#[tokio::test]
async fn request_that_gets_no_connection_takes_one_that_comes_back() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let go = Arc::new(Notify::new());
    let gate = Arc::clone(&go);
    let endpoint = tokio::spawn(async move {
        // One connection is all that is ever taken.
        let (mut stream, _) = listener.accept().await.unwrap();
        while let Some(head) = read_head(&mut stream).await {
            if head.starts_with("GET /held ") {
                gate.notified().await;
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
        }
        drop(listener);
    });
    let stage = Stage::before(address).await;
    let proxy = stage.proxy.address;
    assert_eq!(status(&exchange(proxy, get("/")).await), 200);
    // Full: who connects now is not answered.
    let mut queue = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        queue.push(stream);
    }
    let active = |count: f64| {
        let metric = async || stage.proxy.metric("weir_upstream_requests_active", &[]).await;
        until("the requests are under way", move || async move { (metric().await == count).then_some(()) })
    };
    let held = tokio::spawn(async move { exchange(proxy, get("/held")).await });
    active(1.0).await;
    let waiting = tokio::spawn(async move { exchange(proxy, get("/")).await });
    active(2.0).await;
    go.notify_one();
    for answer in [held.await.unwrap(), waiting.await.unwrap()] {
        assert!(status(&answer) == 200 && answer.ends_with("ok"), "{answer}");
    }
    assert_eq!(stage.proxy.metric("weir_upstream_connects_total", &["upstream=\"one\""]).await, 1.0);
    assert_eq!(stage.proxy.metric("weir_errors_total", &[]).await, 0.0);
    drop(queue);
    endpoint.abort();
}
