//! Which connections go on, which requests are sent again, and how answers are framed for whom.

use std::sync::{Arc, Mutex};

use tokio::io::AsyncWriteExt;

use crate::support::raw::{Client, Scripted, exchange, read_head, status};
use crate::support::{Stage, Upstream};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test]
async fn request_on_a_connection_that_was_closing_is_sent_again_where_that_is_harmless() {
    // The request, what the endpoint says before it closes, the status, how often the endpoint saw the request.
    let rows = [
        ("GET", "", "", 200, 2),
        ("HEAD", "", "", 200, 2),
        ("DELETE", "", "", 200, 2),
        ("POST", "content-length: 0\r\n\r\n", "", 502, 1),
        ("PATCH", "", "", 502, 1),
        ("PUT", "content-length: 2\r\n\r\nhi", "", 200, 2),
        ("GET", "", "H", 200, 2),
        ("GET", "", "HTTP/1.1 103 Early Hints\r\n\r\n", 200, 2),
    ];
    for (method, rest, said, code, times) in rows {
        let seen = Arc::new(Mutex::new(0));
        let count = Arc::clone(&seen);
        let endpoint = Scripted::accepting(move |mut stream| {
            let count = Arc::clone(&count);
            async move {
                let mut requests = 0;
                while let Some(head) = read_head(&mut stream).await {
                    requests += 1;
                    *count.lock().unwrap() += usize::from(head.contains("/again"));
                    if requests > 1 {
                        let _ = stream.write_all(said.as_bytes()).await;
                        return;
                    }
                    let length = if head.starts_with("HEAD") { ANSWER.len() - 2 } else { ANSWER.len() };
                    stream.write_all(&ANSWER[..length]).await.unwrap();
                }
            }
        })
        .await;
        let stage = Stage::before(endpoint.address).await;
        let first =
            exchange(stage.proxy.address, "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
        assert_eq!(status(&first), 200);
        let rest = if rest.is_empty() { "\r\n" } else { rest };
        let sent = format!("{method} /again HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{rest}");
        let answer = exchange(stage.proxy.address, sent).await;
        assert_eq!(status(&answer), code, "{method} {said:?}: {answer}");
        assert_eq!(*seen.lock().unwrap(), times, "{method} {said:?}");
        stage.assert_in_order().await;
    }
}

#[tokio::test]
async fn answer_without_a_length_is_framed_as_the_client_knows_it() {
    // What the client says, whether it gets chunks, whether the connection goes on.
    let rows = [
        ("HTTP/1.1\r\nhost: a\r\n", "200 OK\r\n", true, true),
        ("HTTP/1.1\r\nhost: a\r\nconnection: close\r\n", "200 OK\r\n", true, false),
        ("HTTP/1.0\r\n", "200 OK\r\n", false, false),
        ("HTTP/1.0\r\nconnection: keep-alive\r\n", "200 OK\r\n", false, false),
    ];
    let endpoint = Scripted::start(|mut stream, _| async move {
        let chunks = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-end: 1\r\n\r\n";
        stream.write_all(chunks).await.unwrap();
    })
    .await;
    let stage = Stage::before(endpoint.address).await;
    for (says, line, is_chunked, stays) in rows {
        let mut client = Client::connect(stage.proxy.address).await;
        client.send(format!("GET / {says}\r\n")).await;
        client.0.shutdown().await.unwrap();
        let answer = client.read_to_end().await;
        assert!(answer.contains(line), "{answer}");
        assert_eq!(answer.contains("transfer-encoding: chunked\r\n"), is_chunked, "{says}: {answer}");
        assert_eq!(answer.ends_with("2\r\nok\r\n0\r\n\r\n"), is_chunked, "{says}: {answer}");
        assert!(is_chunked || answer.ends_with("\r\n\r\nok"), "{says}: {answer}");
        let says_close = answer.contains("connection: close\r\n");
        assert_eq!(says_close, !stays && says.starts_with("HTTP/1.1"), "{says}: {answer}");
        assert!(!answer.contains("connection: keep-alive"), "{says}: {answer}");
    }
    stage.assert_in_order().await;
}

#[tokio::test]
async fn old_client_keeps_its_connection_where_it_asks_and_the_length_is_known() {
    let upstream = Upstream::named("one").await;
    let stage = Stage::before(upstream.address).await;
    let mut client = Client::connect(stage.proxy.address).await;
    for _ in 0..3 {
        client.send("GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n").await;
        let answer = client.read_response().await;
        assert!(answer.contains("connection: keep-alive\r\n") && answer.ends_with("one"), "{answer}");
    }
    client.send("GET / HTTP/1.0\r\n\r\n").await;
    let answer = client.read_to_end().await;
    assert!(!answer.contains("connection: ") && answer.ends_with("one"), "{answer}");
    stage.assert_in_order().await;
}

#[tokio::test]
async fn head_that_comes_byte_by_byte_is_read() {
    let upstream = Upstream::named("one").await;
    let stage = Stage::before(upstream.address).await;
    let head =
        format!("GET / HTTP/1.1\r\nhost: a\r\nx-long: {}\r\nconnection: close\r\n\r\n", "x".repeat(500));
    let mut client = Client::connect(stage.proxy.address).await;
    for byte in head.bytes() {
        client.send([byte]).await;
    }
    assert_eq!(status(&client.read_to_end().await), 200);
    stage.assert_in_order().await;
}

#[tokio::test]
async fn requests_behind_one_that_is_refused_with_its_body_are_answered_where_the_body_is_short() {
    let upstream = Upstream::named("one").await;
    let stage = Stage::before(upstream.address).await;
    let body = "GET /none HTTP/1.1\r\n\r\n";
    let length = body.len();
    let fixed = format!("content-length: {length}\r\n\r\n{body}");
    let chunked = format!("transfer-encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\nx-end: 1\r\n\r\n");
    for framed in [&fixed, &chunked] {
        let refused = format!("TRACE / HTTP/1.1\r\nhost: a\r\n{framed}");
        let served = format!("POST / HTTP/1.1\r\nhost: a\r\n{framed}");
        let last = "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        let answers =
            exchange(stage.proxy.address, [&refused, &served, &refused, &served, last].concat()).await;
        let codes: Vec<_> = answers.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
        assert_eq!(codes, ["405", "200", "405", "200", "200"], "{answers}");
    }
    // A long one ends the connection, behind the answer.
    let mut client = Client::connect(stage.proxy.address).await;
    client.send("TRACE / HTTP/1.1\r\nhost: a\r\ncontent-length: 10000000\r\n\r\n").await;
    let (mut read, mut write) = client.0.into_split();
    let sending = async {
        let _ = write.write_all(&vec![b'x'; 10_000_000]).await;
    };
    let mut answer = String::new();
    let reading = tokio::io::AsyncReadExt::read_to_string(&mut read, &mut answer);
    let _ = tokio::time::timeout(crate::support::PATIENCE, async { tokio::join!(sending, reading) }).await;
    assert_eq!(status(&answer), 405, "{answer}");
    assert!(answer.contains("connection: close\r\n"), "{answer}");
    drop((read, write));
    stage.assert_in_order().await;
    assert!(upstream.seen.lock().unwrap().iter().all(|seen| seen.target == "/"));
}
