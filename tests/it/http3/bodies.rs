//! Bodies that end early, on whichever side, and clients that do not read.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Buf, Bytes};
use h3::error::{Code, StreamError};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::BodyExt;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{Edge, Settings};
use crate::support::client::piped;
use crate::support::http3::{answer, rest};
use crate::support::raw::Scripted;
use crate::support::upstream::full;
use crate::support::{PATIENCE, Upstream, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answer_before_the_end_of_an_upload_reaches_the_client() {
    let upstream = Upstream::answering(|_| async {
        let mut response = Response::new(full("too much"));
        *response.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
        response
    })
    .await;
    for protocol in ["http1", "http2"] {
        let edge = Edge::with(upstream.address, Settings { protocol, ..Settings::default() }).await;
        let mut client = edge.connect().await;
        let stream = client.begin(Request::post("/").body(()).unwrap()).await.unwrap();
        let (mut up, mut down) = stream.split();
        let sending = tokio::spawn(async move {
            let part = Bytes::from(vec![7; 64 * 1024]);
            loop {
                if let Err(error) = up.send_data(part.clone()).await {
                    return error;
                }
            }
        });
        let head = timeout(PATIENCE, down.recv_response()).await.expect("an answer").unwrap();
        assert_eq!(head.status(), 413, "{protocol}");
        let data = down.recv_data().await.unwrap().expect("a body").copy_to_bytes(8);
        assert_eq!(data, "too much");
        // What is left of the body is not wanted, and that is no error.
        let error = timeout(PATIENCE, sending).await.expect("the upload ends").unwrap();
        assert!(
            matches!(error, StreamError::RemoteTerminate { code: Code::H3_NO_ERROR }),
            "{protocol}: {error}"
        );
        assert_eq!(client.get("/again").await.status(), 413, "the connection goes on");
        drop(client);
        edge.assert_in_order_saying(413).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn client_that_gives_up_gives_up_at_the_upstream() {
    for protocol in ["http1", "http2"] {
        for is_answered in [false, true] {
            // Dropped with its request: the endpoint sees that nobody waits.
            struct Alive(mpsc::UnboundedSender<()>);
            impl Drop for Alive {
                fn drop(&mut self) {
                    let _ = self.0.send(());
                }
            }
            let (gone, mut is_gone) = mpsc::unbounded_channel();
            let upstream = Upstream::answering(move |request| {
                let alive = Alive(gone.clone());
                async move {
                    if request.uri().path() == "/well" {
                        std::mem::forget(alive);
                        return Response::new(full("well"));
                    }
                    if !is_answered {
                        let _alive = alive;
                        return std::future::pending().await;
                    }
                    let (sender, body) = piped();
                    tokio::spawn(async move {
                        let _alive = alive;
                        while sender.send(Frame::data(Bytes::from_static(b"more"))).await.is_ok() {
                            tokio::task::yield_now().await;
                        }
                    });
                    Response::new(body)
                }
            })
            .await;
            let edge = Edge::with(upstream.address, Settings { protocol, ..Settings::default() }).await;
            let mut client = edge.connect().await;
            let mut stream = client.begin(Request::get("/").body(()).unwrap()).await.unwrap();
            stream.finish().await.unwrap();
            if is_answered {
                timeout(PATIENCE, stream.recv_response()).await.expect("an answer").unwrap();
            } else {
                until("it is asked", || async { (upstream.count() > 0).then_some(()) }).await;
            }
            stream.stop_sending(Code::H3_REQUEST_CANCELLED);
            timeout(PATIENCE, is_gone.recv()).await.expect("the upstream is told");
            drop((stream, client));
            edge.assert_in_order().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn part_of_a_response_is_never_taken_for_the_whole() {
    for head in [
        "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\npart",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\npart\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\npart\r\nzz",
    ] {
        let upstream = Scripted::start(move |mut stream, _| async move {
            stream.write_all(head.as_bytes()).await.unwrap();
        })
        .await;
        let edge = Edge::before(upstream.address).await;
        let mut client = edge.connect().await;
        let mut stream = client.begin(Request::get("/").body(()).unwrap()).await.unwrap();
        stream.finish().await.unwrap();
        let answer = timeout(PATIENCE, async {
            assert_eq!(stream.recv_response().await?.status(), 200);
            rest(&mut stream).await
        });
        let error = answer.await.expect("an end").expect_err("a part is no whole");
        assert!(
            matches!(error, StreamError::RemoteTerminate { code: Code::H3_INTERNAL_ERROR }),
            "{head}: {error}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn part_of_a_request_is_never_taken_for_the_whole() {
    let whole = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&whole);
    let upstream = Upstream::answering(move |request| {
        let count = Arc::clone(&count);
        async move {
            let is_post = request.method() == "POST";
            if request.into_body().collect().await.is_ok() && is_post {
                count.fetch_add(1, Ordering::Relaxed);
            }
            Response::new(full("one"))
        }
    })
    .await;
    for protocol in ["http1", "http2"] {
        let edge = Edge::with(upstream.address, Settings { protocol, ..Settings::default() }).await;
        let mut client = edge.connect().await;
        for (what, promised, sent) in [
            ("reset", None, &b"part"[..]),
            ("too short", Some("10"), b"part"),
            ("too long", Some("2"), b"part"),
        ] {
            let mut request = Request::post("/");
            if let Some(promised) = promised {
                request = request.header("content-length", HeaderValue::from_static(promised));
            }
            let mut stream = client.begin(request.body(()).unwrap()).await.unwrap();
            stream.send_data(Bytes::from_static(sent)).await.unwrap();
            if promised.is_none() {
                until("it is asked", || async { (upstream.count() > 0).then_some(()) }).await;
                stream.stop_stream(Code::H3_REQUEST_CANCELLED);
            } else {
                // It may have been reset meanwhile.
                let _ = stream.finish().await;
            }
            match timeout(PATIENCE, answer(&mut stream)).await.expect("an end") {
                Ok(answer) => {
                    let expected = if promised.is_some() { 400 } else { 499 };
                    assert_eq!(answer.status(), expected, "{protocol} {what}");
                }
                Err(error) => {
                    assert!(
                        matches!(error, StreamError::RemoteTerminate { .. }),
                        "{protocol} {what}: {error}"
                    );
                }
            }
        }
        assert_eq!(client.get("/").await.status(), 200, "the connection goes on");
        drop(client);
        edge.assert_in_order().await;
    }
    assert_eq!(whole.load(Ordering::Relaxed), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn client_that_does_not_read_stops_the_upstream() {
    const PART: usize = 64 * 1024;
    /// What buffers on the way may hold: those of the upstream's connection, and the windows.
    const BUFFERS: usize = 40 << 20;
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let upstream = Upstream::answering(move |request| {
        let count = Arc::clone(&count);
        async move {
            if request.uri().path() == "/well" {
                return Response::new(full("well"));
            }
            let (sender, body) = piped();
            tokio::spawn(async move {
                let part = Bytes::from(vec![7; PART]);
                while count.load(Ordering::Relaxed) < 4 * BUFFERS
                    && sender.send(Frame::data(part.clone())).await.is_ok()
                {
                    count.fetch_add(PART, Ordering::Relaxed);
                }
            });
            Response::new(body)
        }
    })
    .await;
    for protocol in ["http1", "http2"] {
        sent.store(0, Ordering::Relaxed);
        let listener = "timeouts: { idle: 2s }";
        let edge = Edge::with(upstream.address, Settings { protocol, listener, ..Settings::default() }).await;
        let mut client = edge.connect().await;
        let mut stream = client.begin(Request::get("/").body(()).unwrap()).await.unwrap();
        stream.finish().await.unwrap();
        assert_eq!(
            timeout(PATIENCE, stream.recv_response()).await.expect("an answer").unwrap().status(),
            200
        );
        // It takes nothing: its time runs out, its stream is reset, and until then little was sent.
        let active =
            || async { (edge.proxy.metric("weir_upstream_requests_active", &[]).await == 0.0).then_some(()) };
        until("the stream is given up", active).await;
        let sent = sent.load(Ordering::Relaxed);
        assert!(sent < BUFFERS, "{protocol}: {sent} bytes were taken of the upstream");
        assert!(timeout(PATIENCE, rest(&mut stream)).await.expect("an end").is_err(), "a part is no whole");
        drop((stream, client));
        edge.assert_in_order().await;
    }
}
