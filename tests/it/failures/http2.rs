//! Endpoints over HTTP/2 that refuse, go away, fall silent or flood: what was not looked at is sent again, what was is
//! not, and nothing waits for the dead.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::client::{Connection, empty, piped};
use crate::support::raw::Scripted;
use crate::support::upstream::full;
use crate::support::{PATIENCE, Stage};

type Server = h2::server::Connection<TcpStream, Bytes>;

fn answer(mut respond: SendResponse<Bytes>, text: &'static str) {
    let mut stream = respond.send_response(Response::new(()), false).unwrap();
    stream.send_data(Bytes::from(text), true).unwrap();
}

async fn serve(mut server: Server, text: &'static str) {
    while let Some(Ok((request, respond))) = server.accept().await {
        drop(request);
        answer(respond, text);
    }
}

async fn accept(server: &mut Server) -> (Request<RecvStream>, SendResponse<Bytes>) {
    server.accept().await.unwrap().unwrap()
}

/// An endpoint whose first connection is `first`'s, and whose others answer.
async fn refusing<F, A>(first: F) -> Scripted
where
    F: Fn(Server) -> A + Send + Sync + 'static,
    A: Future<Output = ()> + Send + 'static,
{
    let (first, count) = (Arc::new(first), AtomicUsize::new(0));
    Scripted::accepting(move |stream| {
        let (first, number) = (Arc::clone(&first), count.fetch_add(1, Ordering::Relaxed));
        async move {
            let server = h2::server::handshake(stream).await.unwrap();
            if number == 0 { first(server).await } else { serve(server, "again").await }
        }
    })
    .await
}

#[tokio::test]
async fn request_that_the_endpoint_has_not_looked_at_is_sent_again_on_another_connection() {
    let refused = refusing(|mut server| async move {
        let (_, mut respond) = accept(&mut server).await;
        respond.send_reset(Reason::REFUSED_STREAM);
        serve(server, "first").await;
    })
    .await;
    let stage = Stage::speaking("http2", refused.address).await;
    for is_http2 in [false, true] {
        let mut client = Connection::new(stage.proxy.address, is_http2).await;
        let (response, body, _) = client.exchange(Request::get("/").body(empty()).unwrap()).await;
        assert_eq!((response.status().as_u16(), &body[..]), (200, &b"again"[..]));
        assert_eq!(refused.count(), 2, "on another connection");
    }
    stage.assert_in_order().await;
}

/// Frames by hand: the greeting of a server that then says, at a request's head or once its body has come, that it has
/// looked at no stream.
async fn going_away(mut stream: TcpStream, is_first: bool, after_body: bool) {
    let frame = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        let mut frame = vec![0, 0, u8::try_from(payload.len()).unwrap(), kind, flags];
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        frame
    };
    stream.read_exact(&mut [0; 24]).await.unwrap();
    stream.write_all(&frame(4, 0, 0, &[])).await.unwrap();
    let mut head = [0; 9];
    while stream.read_exact(&mut head).await.is_ok() {
        let length = usize::from(head[1]) << 8 | usize::from(head[2]);
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).await.unwrap();
        let id = u32::from_be_bytes(head[5..].try_into().unwrap());
        let said = match head[3] {
            4 if head[4] == 0 => frame(4, 1, 0, &[]),
            6 if head[4] == 0 => frame(6, 1, 0, &payload),
            // The last stream that it looks at is none.
            kind @ (0 | 1) if is_first && (kind == 0) == after_body => frame(7, 0, 0, &[0; 8]),
            // `:status 204`, the end.
            1 if !is_first => frame(1, 0x5, id, &[0x89]),
            _ => continue,
        };
        stream.write_all(&said).await.unwrap();
    }
}

#[tokio::test]
async fn request_above_the_last_stream_of_a_goaway_is_sent_again_whatever_was_sent_of_its_body() {
    for row in ["none", "held back", "sent"] {
        let count = AtomicUsize::new(0);
        let endpoint = Scripted::accepting(move |stream| {
            let is_first = count.fetch_add(1, Ordering::Relaxed) == 0;
            going_away(stream, is_first, row == "sent")
        })
        .await;
        let stage = Stage::speaking("http2", endpoint.address).await;
        let mut client = Connection::new(stage.proxy.address, true).await;
        let (sender, held) = piped();
        let body = match row {
            "none" => empty(),
            "sent" => full("a body"),
            _ => held,
        };
        let (response, ..) = client.exchange(Request::post("/").body(body).unwrap()).await;
        assert_eq!(response.status(), 204, "{row}");
        assert_eq!(endpoint.count(), 2, "{row}");
        drop((sender, client));
        stage.assert_in_order().await;
    }
}

#[tokio::test]
async fn endpoint_that_always_refuses_is_asked_three_times_and_no_more() {
    let endpoint = Scripted::accepting(|stream| async move {
        let mut server = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((_, mut respond))) = server.accept().await {
            respond.send_reset(Reason::REFUSED_STREAM);
        }
    })
    .await;
    let stage = Stage::speaking("http2", endpoint.address).await;
    let mut client = Connection::new(stage.proxy.address, true).await;
    let (response, ..) = client.exchange(Request::get("/").body(empty()).unwrap()).await;
    assert_eq!(response.status(), 502);
    assert_eq!(endpoint.count(), 3);
    drop(client);
    stage.assert_in_order().await;
}

#[tokio::test]
async fn endpoint_that_falls_silent_is_given_up_long_before_the_response_timeout() {
    let endpoint = Scripted::accepting(|stream| async move {
        let mut server = h2::server::handshake(stream).await.unwrap();
        let taken = accept(&mut server).await;
        // Nobody reads or writes any more, and the socket stays open.
        std::future::pending::<()>().await;
        drop((server, taken));
    })
    .await;
    let stage = Stage::speaking("http2", endpoint.address).await;
    let mut client = Connection::new(stage.proxy.address, true).await;
    let started = Instant::now();
    let (response, ..) = client.exchange(Request::get("/").body(empty()).unwrap()).await;
    let waited = started.elapsed();
    assert_eq!(
        (response.status().as_u16(), response.headers()["x-weir-error"].to_str().unwrap()),
        (502, "upstream_reset")
    );
    assert!((Duration::from_secs(14)..PATIENCE).contains(&waited), "{waited:?}");
    drop(client);
    stage.assert_in_order().await;
}

#[tokio::test]
async fn endpoint_that_is_slow_but_there_is_waited_for() {
    let endpoint = Scripted::accepting(|stream| async move {
        let mut server = h2::server::handshake(stream).await.unwrap();
        let (_, respond) = accept(&mut server).await;
        let later = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(17)).await;
            answer(respond, "at last");
        });
        // It answers pings meanwhile.
        while let Some(Ok(_)) = server.accept().await {}
        later.await.unwrap();
    })
    .await;
    let stage = Stage::speaking("http2", endpoint.address).await;
    let mut client = Connection::new(stage.proxy.address, true).await;
    let (response, body, _) = client.exchange(Request::get("/").body(empty()).unwrap()).await;
    assert_eq!((response.status().as_u16(), &body[..]), (200, &b"at last"[..]));
}

#[tokio::test]
async fn endpoint_that_floods_is_closed_and_its_requests_fail() {
    let endpoint = Scripted::accepting(|mut stream| async move {
        let ping = [0, 0, 8, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0].repeat(100);
        // Empty settings, the answer to the greeting's ping among others, and pings without end.
        stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
        while stream.write_all(&ping).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let stage = Stage::speaking("http2", endpoint.address).await;
    let mut client = Connection::new(stage.proxy.address, true).await;
    let exchange = client.exchange(Request::get("/").body(empty()).unwrap());
    let (response, ..) = tokio::time::timeout(PATIENCE, exchange).await.expect("it fails soon");
    assert!(response.status().is_server_error());
    drop(client);
    stage.assert_in_order().await;
}
