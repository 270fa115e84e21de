//! Bodies that are sent a second time: whole and the same, small ones only, and over both protocols of the endpoint.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt;

use super::{Settings, retried};
use crate::support::ask::{Ask, BOTH, Via};
use crate::support::raw::Scripted;
use crate::support::upstream::full;
use crate::support::{Stage, Upstream};

/// An upstream that answers with the first status to its first request, and with 200 to all others; what bodies it got.
async fn at_first(first: u16) -> (Upstream, Arc<Mutex<Vec<Bytes>>>) {
    let bodies = Arc::<Mutex<Vec<Bytes>>>::default();
    let seen = Arc::clone(&bodies);
    let upstream = Upstream::answering(move |request| {
        let seen = Arc::clone(&seen);
        async move {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let count = {
                let mut seen = seen.lock().unwrap();
                seen.push(body);
                seen.len()
            };
            let mut response = Response::new(full("done"));
            *response.status_mut() = if count == 1 { first } else { 200 }.try_into().unwrap();
            response
        }
    })
    .await;
    (upstream, bodies)
}

fn body(length: usize) -> Bytes {
    (0..length).map(|index| u8::try_from(index % 251).unwrap()).collect()
}

#[tokio::test]
async fn small_body_is_sent_again_as_it_was_and_a_large_one_is_not() {
    const KEPT: usize = 64 * 1024;
    for protocol in ["http1", "http2"] {
        for via in BOTH {
            for (length, attempts) in [(1, 2), (1000, 2), (KEPT, 2), (KEPT + 1, 1), (1_000_000, 1)] {
                let (upstream, bodies) = at_first(503).await;
                let route = "retry: { on: [503], backoff: 1ms }";
                let stage =
                    Stage::with(&[upstream.address], Settings { protocol, route, ..Settings::default() })
                        .await;
                let sent = body(length);
                let reply = Ask::new("PUT", "/").body(sent.clone()).send(via, stage.proxy.address).await;
                let expected = if attempts == 2 { 200 } else { 503 };
                assert_eq!(reply.status, expected, "{protocol} {via:?} {length}");
                let got = bodies.lock().unwrap().clone();
                assert_eq!(got.len(), attempts, "{protocol} {via:?} {length}");
                assert!(got.iter().all(|body| *body == sent), "{protocol} {via:?} {length}");
                stage.assert_in_order().await;
            }
        }
    }
}

#[tokio::test]
async fn body_without_a_length_is_counted_as_it_comes() {
    for (length, attempts) in [(60_000, 2), (70_000, 1)] {
        let (upstream, bodies) = at_first(503).await;
        let route = "retry: { on: [503], backoff: 1ms }";
        let stage = Stage::with(&[upstream.address], Settings { route, ..Settings::default() }).await;
        let mut request =
            b"PUT / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        let sent = body(length);
        for chunk in sent.chunks(9_999) {
            request.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            request.extend_from_slice(chunk);
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"0\r\n\r\n");
        let answer = crate::support::raw::exchange(stage.proxy.address, request).await;
        assert!(answer.starts_with(if attempts == 2 { "HTTP/1.1 200" } else { "HTTP/1.1 503" }), "{answer}");
        let got = bodies.lock().unwrap().clone();
        assert_eq!(got.len(), attempts, "{length}");
        assert!(got.iter().all(|body| *body == sent), "{length}");
        stage.assert_in_order().await;
    }
}

#[tokio::test]
async fn body_that_one_endpoint_took_in_part_reaches_the_next_one_whole() {
    // It takes the head and a little of the body, and breaks off.
    let broken = Scripted::start(|_, _| async {}).await;
    let (well, bodies) = at_first(200).await;
    let settings =
        Settings { upstream: "balance: round_robin, ejection: { failures: 0 }", ..Settings::default() };
    let stage = Stage::with(&[broken.address, well.address], settings).await;
    for via in BOTH {
        for length in [10, 50_000] {
            let sent = body(length);
            for _ in 0..4 {
                let reply = Ask::new("PUT", "/").body(sent.clone()).send(via, stage.proxy.address).await;
                assert_eq!(reply.status, 200, "{via:?} {length} {reply:?}");
            }
            assert!(bodies.lock().unwrap().drain(..).all(|body| body == sent), "{via:?} {length}");
        }
    }
    assert!(retried(&stage, "reset", "success").await >= 4.0);
    stage.assert_in_order().await;
}

#[tokio::test]
async fn endpoint_that_refuses_a_stream_with_a_body_under_way_is_asked_again_whatever_the_method() {
    // The first stream of each connection is refused after its head, before its body was looked at.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let bodies = Arc::<Mutex<Vec<Bytes>>>::default();
    let seen = Arc::clone(&bodies);
    let serving = tokio::spawn(async move {
        let mut is_first = true;
        while let Ok((stream, _)) = listener.accept().await {
            let refuses = std::mem::replace(&mut is_first, false);
            let seen = Arc::clone(&seen);
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    if refuses {
                        respond.send_reset(h2::Reason::REFUSED_STREAM);
                        continue;
                    }
                    let seen = Arc::clone(&seen);
                    tokio::spawn(async move {
                        let mut body = request.into_body();
                        let mut all = Vec::new();
                        while let Some(Ok(data)) = body.data().await {
                            let _ = body.flow_control().release_capacity(data.len());
                            all.extend_from_slice(&data);
                        }
                        seen.lock().unwrap().push(all.into());
                        let _ = respond.send_response(Response::new(()), true);
                    });
                }
            });
        }
    });
    let stage = Stage::speaking("http2", address).await;
    let sent = body(20_000);
    let reply = Ask::new("POST", "/").body(sent.clone()).send(Via::Http1, stage.proxy.address).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(*bodies.lock().unwrap(), [sent]);
    stage.assert_in_order().await;
    serving.abort();
}
