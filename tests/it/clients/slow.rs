//! Clients that send or take little by little: they are given up when they are slower than `min_rate`, and only for the
//! time in which they alone are waited for.

use std::time::{Duration, Instant};

use http::{Request, Response};
use http_body::Frame;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::support::client::{Connection, piped};
use crate::support::raw::{Client, Scripted, read_head, status};
use crate::support::stage::Settings;
use crate::support::upstream::full;
use crate::support::{PATIENCE, Stage, Upstream, until};

const RATE: &str = "min_rate: { request: 1KiB, response: 1KiB, grace: 300ms }";

async fn stage(upstream: std::net::SocketAddr, listener: &str) -> Stage {
    Stage::with(&[upstream], Settings { listener, ..Settings::default() }).await
}

#[tokio::test]
async fn body_that_comes_slower_than_the_rate_is_given_up_and_one_that_keeps_it_passes() {
    let upstream = Upstream::named("one").await;
    for (listener, part, is_served) in [
        (RATE, 1, false),
        (RATE, 200, true),
        ("min_rate: { request: 0, grace: 300ms }", 1, true),
        ("min_rate: { request: 1KiB, grace: 1m }", 1, true),
        ("timeouts: { request: 400ms }", 200, false),
        ("timeouts: { request: 20s }", 200, true),
    ] {
        for framing in ["content-length: 4000", "transfer-encoding: chunked"] {
            let stage = stage(upstream.address, listener).await;
            let mut client = Client::connect(stage.proxy.address).await;
            client.send(format!("POST /well HTTP/1.1\r\nhost: a\r\n{framing}\r\n\r\n")).await;
            let (mut reader, mut writer) = client.0.into_split();
            let is_chunked = framing.starts_with("transfer");
            let sending = tokio::spawn(async move {
                for _ in 0..20 {
                    let data = "x".repeat(part);
                    let said = if is_chunked { format!("{part:x}\r\n{data}\r\n") } else { data };
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    if writer.write_all(said.as_bytes()).await.is_err() {
                        return;
                    }
                }
                let rest = if is_chunked { "0\r\n\r\n".to_owned() } else { "x".repeat(4000 - 20 * part) };
                // The proxy may have given it up.
                let _ = writer.write_all(rest.as_bytes()).await;
                std::future::pending::<()>().await;
            });
            let mut answer = vec![0; 4096];
            let read = timeout(PATIENCE, reader.read(&mut answer)).await.unwrap().unwrap();
            let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
            assert_eq!(status(&answer), if is_served { 200 } else { 408 }, "{listener} {framing}: {answer}");
            assert_eq!(answer.contains("x-weir-error: body_timeout"), !is_served, "{answer}");
            sending.abort();
            drop(reader);
            stage.assert_in_order().await;
        }
    }
}

#[tokio::test]
async fn body_over_http2_that_comes_slower_than_the_rate_is_given_up() {
    let upstream = Upstream::named("one").await;
    for (part, expected) in [(1, 408), (400, 200)] {
        let stage = stage(upstream.address, RATE).await;
        let mut client = Connection::new(stage.proxy.address, true).await;
        let (sender, body) = piped();
        let sending = tokio::spawn(async move {
            for _ in 0..20 {
                tokio::time::sleep(Duration::from_millis(50)).await;
                if sender.send(Frame::data(vec![7; part].into())).await.is_err() {
                    return;
                }
            }
        });
        let (response, ..) = client.exchange(Request::post("/").body(body).unwrap()).await;
        assert_eq!(response.status(), expected, "{part}");
        sending.abort();
    }
}

#[tokio::test]
async fn client_is_not_blamed_for_an_upstream_that_takes_its_body_slowly() {
    // It takes all of it long after the grace, and more of it than the sockets on the way hold.
    let upstream = Scripted::accepting(|mut stream| async move {
        read_head(&mut stream).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let mut part = vec![0; 1 << 20];
        let mut read = 0;
        while read < 32 << 20 {
            read += AsyncReadExt::read(&mut stream, &mut part).await.unwrap();
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    })
    .await;
    let stage = stage(upstream.address, RATE).await;
    let mut client = Connection::new(stage.proxy.address, false).await;
    let body = full(vec![7; 40 << 20]);
    let (response, ..) = client.exchange(Request::post("/").body(body).unwrap()).await;
    assert_eq!(response.status(), 200);
}

#[tokio::test]
async fn stream_of_grpc_may_be_silent_for_longer_than_the_grace() {
    let upstream = Upstream::named("one").await;
    let settings = Settings { protocol: "http2", listener: RATE, ..Settings::default() };
    let stage = Stage::with(&[upstream.address], settings).await;
    let mut client = Connection::new(stage.proxy.address, true).await;
    let (sender, body) = piped();
    let sending = tokio::spawn(async move {
        for _ in 0..4 {
            tokio::time::sleep(Duration::from_millis(250)).await;
            sender.send(Frame::data(vec![0; 1].into())).await.unwrap();
        }
    });
    let request = Request::post("/a.B/C").header("content-type", "application/grpc").body(body).unwrap();
    let (response, ..) = client.exchange(request).await;
    assert_eq!(response.status(), 200);
    assert!(response.headers().get("x-weir-error").is_none(), "{response:?}");
    sending.await.unwrap();
}

#[tokio::test]
async fn reader_of_http2_that_grants_a_few_bytes_at_a_time_is_given_up() {
    let upstream = Upstream::answering(|_| std::future::ready(Response::new(full(vec![7; 1 << 20])))).await;
    for (window, is_given_up) in [(1, true), (200, false)] {
        let stage = stage(upstream.address, RATE).await;
        let stream = tokio::net::TcpStream::connect(stage.proxy.address).await.unwrap();
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(window);
        let (sender, connection) = builder.handshake::<_, bytes::Bytes>(stream).await.unwrap();
        let driving = tokio::spawn(connection);
        let request = Request::get("http://a/").body(()).unwrap();
        let (response, _) = sender.ready().await.unwrap().send_request(request, true).unwrap();
        let mut body = response.await.unwrap().into_body();
        let (began, mut read) = (Instant::now(), 0);
        // So much each 50 ms: a fiftieth of the rate, or four times as much.
        let error = loop {
            match timeout(PATIENCE, body.data()).await.expect("it goes on or ends") {
                Some(Err(error)) => break Some(error),
                _ if began.elapsed() > Duration::from_millis(1500) => break None,
                Some(Ok(data)) => {
                    read += data.len();
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    // The stream may be gone.
                    let _ = body.flow_control().release_capacity(data.len());
                }
                None => panic!("it ends after {read} bytes"),
            }
        };
        let elapsed = began.elapsed();
        assert_eq!(error.is_some(), is_given_up, "{window}: {read} bytes in {elapsed:?}: {error:?}");
        drop(body);
        driving.abort();
        stage.assert_in_order().await;
    }
}

#[tokio::test]
async fn thousand_idle_and_hundreds_of_slow_heads_hinder_nobody_and_the_slow_ones_are_ended_in_time() {
    let upstream = Upstream::named("one").await;
    let stage = stage(upstream.address, "timeouts: { header: 2s, idle: 1m }").await;
    let address = stage.proxy.address;
    let mut idle = Vec::new();
    for _ in 0..1000 {
        idle.push(super::served(address).await);
    }
    let began = Instant::now();
    let slow = (0..200).map(|_| {
        tokio::spawn(async move {
            let mut client = Client::connect(address).await;
            let (mut reader, mut writer) = client.0.split();
            let saying = async {
                writer.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n").await?;
                loop {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    writer.write_all(b"x-a: b\r\n").await?;
                }
            };
            let mut answer = Vec::new();
            let reading = AsyncReadExt::read_to_end(&mut reader, &mut answer);
            tokio::select! {
                Err::<(), std::io::Error>(_) = saying => {}
                _ = reading => {}
            }
            (String::from_utf8_lossy(&answer).into_owned(), began.elapsed())
        })
    });
    let slow: Vec<_> = slow.collect();
    let mut others = 0;
    while began.elapsed() < Duration::from_secs(1) || others < 100 {
        drop(super::served(address).await);
        others += 1;
    }
    println!("{others} others are served beside them");
    for one in slow {
        let (answer, after) = one.await.unwrap();
        assert!(answer.is_empty() || status(&answer) == 408, "{answer}");
        assert!((2..15).contains(&after.as_secs()), "{after:?}");
    }
    // The others are there still.
    for client in &mut idle {
        client.send(super::GET).await;
        assert_eq!(status(&client.read_response().await), 200);
    }
    drop(idle);
    until("all are gone", || async {
        (stage.proxy.metric("weir_downstream_connections_active", &[]).await == 0.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn response_that_is_given_up_leaves_nothing_of_it_with_the_kernel() {
    const LENGTH: usize = 64 << 20;
    let upstream = Upstream::answering(|_| async { Response::new(full(vec![b'x'; LENGTH])) }).await;
    let stage = stage(upstream.address, "timeouts: { idle: 300ms }").await;
    let mut client = Client::connect(stage.proxy.address).await;
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let given_up = ["code=\"client_aborted\""];
    until("it is given up", async || {
        (stage.proxy.metric("weir_errors_total", &given_up).await == 1.0).then_some(())
    })
    .await;
    stage.assert_in_order().await;
    // An orderly end would come behind all that was written: a reset takes it back.
    let mut taken = Vec::new();
    let end = timeout(PATIENCE, client.0.read_to_end(&mut taken)).await.unwrap();
    assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    assert!(taken.len() < LENGTH);
}
