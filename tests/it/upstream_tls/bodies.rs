//! Bodies through TLS: whole, byte for byte, and never a part for the whole.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{GET, Ground, stage};
use crate::support::client::Connection;
use crate::support::raw::{exchange, status};
use crate::support::secure::{Secure, Terms, server};
use crate::support::upstream::full;

const LARGE: usize = 5 * 1024 * 1024 + 17;

fn bytes(length: usize) -> Bytes {
    let mut state = 1_u32;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..length).map(next).collect()
}

#[tokio::test]
async fn large_bodies_go_both_ways_byte_for_byte() {
    let ground = Ground::new();
    let upstream = Secure::answering(server(&ground.leaf(), Terms::default()), |request| async {
        Response::new(full(request.into_body().collect().await.unwrap().to_bytes()))
    })
    .await;
    for protocol in ["http1", "http2", "auto"] {
        let stage = stage(&[upstream.endpoint()], protocol, &ground.tls("")).await;
        for is_http2 in [false, true] {
            let mut client = Connection::new(stage.proxy.address, is_http2).await;
            for length in [0, 1, 16_383, 16_384, 16_385, 70_000, LARGE] {
                let sent = bytes(length);
                let request = Request::post("/").body(full(sent.clone())).unwrap();
                let (response, echoed, _) = client.exchange(request).await;
                assert_eq!(response.status(), 200);
                assert!(echoed == sent, "{protocol} {is_http2} {length}: {} came back", echoed.len());
            }
        }
        stage.assert_in_order().await;
    }
    assert_eq!(upstream.shakes().len(), 3);
}

#[tokio::test]
async fn body_that_ends_without_a_close_of_tls_is_never_taken_for_whole() {
    let ground = Ground::new();
    let rows = [
        ("HTTP/1.1 200 OK\r\n\r\nhello", true, true),
        ("HTTP/1.1 200 OK\r\n\r\nhello", false, false),
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", false, true),
        ("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nhello", true, false),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", false, true),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n", true, false),
    ];
    for (said, closes, is_whole) in rows {
        let upstream =
            Secure::scripted(server(&ground.leaf(), Terms::default()), move |mut stream| async move {
                assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
                stream.write_all(said.as_bytes()).await.unwrap();
                stream.flush().await.unwrap();
                if closes {
                    stream.shutdown().await.unwrap();
                } else {
                    // An orderly end of the connection, as anybody on the way could make it.
                    stream.get_mut().0.shutdown().await.unwrap();
                }
            })
            .await;
        let stage = stage(&[upstream.endpoint()], "http1", &ground.tls("")).await;
        let answer = exchange(stage.proxy.address, GET).await;
        assert_eq!(status(&answer), 200, "{answer}");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let is_complete = if head.contains("content-length: 5") {
            body == "hello"
        } else if head.contains("chunked") {
            body == "5\r\nhello\r\n0\r\n\r\n"
        } else {
            // HTTP/1.1 clients are told by a length or by chunks.
            false
        };
        assert_eq!(is_complete, is_whole, "{said:?} {closes}: {answer}");
        let broken = stage.proxy.metric("weir_upstream_failures_total", &["cause=\"reset\""]).await;
        assert_eq!(broken, f64::from(u8::from(!is_whole)), "{said:?} {closes}");
        stage.assert_in_order().await;
    }
}
