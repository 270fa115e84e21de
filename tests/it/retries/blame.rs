//! What clients do is not held against endpoints: nobody outside can have one ejected.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::raw::{Client, Scripted, drain, read_head};
use crate::support::stage::Settings;
use crate::support::{Stage, until};

/// Three at a time: as many failures in a row as take an endpoint out.
async fn three(stage: &Stage, request: &str) -> Vec<Client> {
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = Client::connect(stage.proxy.address).await;
        client.send(request).await;
        clients.push(client);
    }
    clients
}

/// How often the endpoint was ejected once requests have failed by `cause` three times.
async fn ejections(stage: &Stage, cause: &str) -> f64 {
    let cause = format!("cause=\"{cause}\"");
    until("all have failed", || async {
        (stage.proxy.metric("weir_upstream_failures_total", &["upstream=\"one\"", &cause]).await >= 3.0)
            .then_some(())
    })
    .await;
    stage.proxy.metric("weir_endpoint_ejections_total", &["upstream=\"one\""]).await
}

async fn before(endpoint: &Scripted, route: &str) -> Stage {
    Stage::with(&[endpoint.address], Settings { route, ..Settings::default() }).await
}

/// Answers with the head of a long body, and then with `pieces` of it.
async fn long(pieces: usize) -> Scripted {
    Scripted::accepting(move |mut stream: TcpStream| async move {
        read_head(&mut stream).await;
        let head = "HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n";
        let _ = stream.write_all(head.as_bytes()).await;
        for _ in 0..pieces {
            if stream.write_all(&[b'x'; 10_000]).await.is_err() {
                return;
            }
        }
        let _ = stream.read(&mut [0]).await;
    })
    .await
}

#[tokio::test]
async fn response_that_is_not_over_in_time_is_held_against_who_is_waited_for() {
    for (pieces, expected) in [(usize::MAX, 0.0), (1, 1.0)] {
        let endpoint = long(pieces).await;
        let stage = before(&endpoint, "timeout: 500ms").await;
        let clients = three(&stage, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert_eq!(ejections(&stage, "timeout").await, expected, "{pieces}");
        drop(clients);
        stage.assert_in_order().await;
    }
}

#[tokio::test]
async fn request_whose_body_is_not_there_in_time_is_not_held_against_the_endpoint() {
    for (patience, cause) in [(Duration::from_mins(1), "timeout"), (Duration::from_millis(200), "reset")] {
        for (body, expected) in [("1", 0.0), ("1234567890", 1.0)] {
            let endpoint = Scripted::accepting(move |mut stream: TcpStream| async move {
                let _ = tokio::time::timeout(patience, drain(&mut stream)).await;
            })
            .await;
            let stage = before(&endpoint, "retry: { attempts: 1, per_try_timeout: 600ms }").await;
            let request = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n{body}");
            let clients = three(&stage, &request).await;
            assert_eq!(ejections(&stage, cause).await, expected, "{body} {cause}");
            drop(clients);
            stage.assert_in_order().await;
        }
    }
}

#[tokio::test]
async fn tunnel_that_its_endpoint_breaks_off_says_nothing_of_the_endpoint() {
    let endpoint = Scripted::accepting(|mut stream: TcpStream| async move {
        read_head(&mut stream).await;
        let head = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: chat\r\n\r\n";
        let _ = stream.write_all(head.as_bytes()).await;
        // What is not read makes a reset of the end.
        let _ = stream.readable().await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        let _ = stream.read(&mut [0]).await;
    })
    .await;
    let stage = before(&endpoint, "").await;
    let request = "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: chat\r\n\r\n";
    let mut clients = three(&stage, request).await;
    for client in &mut clients {
        client.read_until("\r\n\r\n").await;
    }
    for client in &mut clients {
        client.send("nonsense").await;
    }
    assert_eq!(ejections(&stage, "reset").await, 0.0);
    drop(clients);
    stage.assert_in_order().await;
}
