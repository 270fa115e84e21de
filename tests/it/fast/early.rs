//! Endpoints that answer before they have read the request's body. What of it is unsent then must reach nobody as
//! something else: not the endpoint's next request, and not the proxy as a request.

use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::support::raw::{Client, Scripted, status};
use crate::support::{Stage, until};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// An endpoint on a Unix socket, whose buffer is small and of a known size. It reads a request's head and nothing more
/// until it is told to go on; then it answers and reads.
struct Reluctant {
    address: String,
    /// What came on each connection.
    seen: Arc<Mutex<Vec<Vec<u8>>>>,
    go: watch::Sender<bool>,
    task: JoinHandle<()>,
    _folder: TempDir,
}

impl Reluctant {
    async fn start(reads_on: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("endpoint");
        let listener = UnixListener::bind(&path).unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (go, gate) = watch::channel(false);
        let all = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            let mut serving = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let index = {
                    let mut all = all.lock().unwrap();
                    all.push(Vec::new());
                    all.len() - 1
                };
                serving.spawn(reluctantly(stream, index, Arc::clone(&all), gate.clone(), reads_on));
            }
        });
        Self { address: address(&path), seen, go, task, _folder: folder }
    }

    async fn asked(&self, count: usize) {
        let heads = || self.seen.lock().unwrap().iter().filter(|seen| seen.ends_with(b"\r\n\r\n")).count();
        until("the endpoint has a head", || async { (heads() >= count).then_some(()) }).await;
    }
}

impl Drop for Reluctant {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn address(path: &Path) -> String {
    format!("unix:{}", path.display())
}

async fn reluctantly(
    mut stream: UnixStream,
    index: usize,
    all: Arc<Mutex<Vec<Vec<u8>>>>,
    mut gate: watch::Receiver<bool>,
    reads_on: bool,
) {
    while !all.lock().unwrap()[index].ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        all.lock().unwrap()[index].push(byte);
    }
    let _ = gate.wait_for(|go| *go).await;
    if stream.write_all(ANSWER).await.is_err() {
        return;
    }
    let mut part = vec![0; 1 << 16];
    while reads_on && let Ok(count @ 1..) = stream.read(&mut part).await {
        let has_asked = {
            let seen = &mut all.lock().unwrap()[index];
            seen.extend_from_slice(&part[..count]);
            contains(seen, b"GET /second") && seen.ends_with(b"\r\n\r\n")
        };
        if has_asked && stream.write_all(ANSWER).await.is_err() {
            return;
        }
    }
    std::future::pending::<()>().await;
}

fn contains(bytes: &[u8], pattern: &[u8]) -> bool {
    memchr::memmem::find(bytes, pattern).is_some()
}

/// How many bytes in pieces of this size a Unix socket takes that nobody reads.
fn capacity(piece: usize) -> usize {
    use std::io::Write;
    let (mut ours, _theirs) = StdUnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let mut taken = ours.write(&[b'h'; 400]).unwrap();
    while let Ok(count) = ours.write(&vec![b'x'; piece]) {
        taken += count;
    }
    taken
}

/// Asks the one worker for something else, so that it has seen what came before.
async fn round_trip(other: &mut Client) {
    other.send("GET /well HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(status(&other.read_response().await), 200);
}

#[tokio::test]
async fn body_that_was_read_and_not_sent_is_no_request() {
    let capacity = capacity(64 * 1024);
    let mut held_up = 0;
    for beyond in [8, 24, 48, 80, 120] {
        let endpoint = Reluctant::start(false).await;
        let stage = Stage::before(&endpoint.address).await;
        let mut other = Client::connect(stage.proxy.address).await;
        let mut client = Client::connect(stage.proxy.address).await;
        client.send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n").await;
        endpoint.asked(1).await;
        // A body that is nothing but requests.
        let body = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n".repeat((capacity + beyond * 1024) / 35);
        client.send(format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len())).await;
        for _ in 0..5 {
            round_trip(&mut other).await;
        }
        endpoint.go.send_replace(true);
        assert!(client.read_response().await.ends_with("\r\n\r\nok"), "{beyond}");
        // Where the rest was not sent the connection ends, else it goes on.
        client.send("GET /well HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
        let rest = client.read_to_end().await;
        held_up += usize::from(rest.is_empty());
        assert!(
            rest.is_empty() || rest.matches("HTTP/1.1 ").count() == 1 && rest.ends_with("well"),
            "{beyond}: {rest}"
        );
        drop((client, other));
        stage.assert_in_order().await;
    }
    assert!(held_up > 0, "no body was held up");
}

#[tokio::test]
async fn connection_with_an_unsent_rest_of_a_body_is_not_used_again() {
    const PIECE: usize = 2000;
    let capacity = capacity(PIECE);
    for beyond in [2000, 6000, 10_000, 14_000] {
        let length = capacity + beyond;
        let endpoint = Reluctant::start(true).await;
        let stage = Stage::before(&endpoint.address).await;
        let mut other = Client::connect(stage.proxy.address).await;
        let mut client = Client::connect(stage.proxy.address).await;
        client.send(format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n")).await;
        endpoint.asked(1).await;
        let body = vec![b'x'; length];
        for piece in body.chunks(PIECE) {
            client.send(piece).await;
            round_trip(&mut other).await;
        }
        endpoint.go.send_replace(true);
        assert_eq!(status(&client.read_response().await), 200);
        client.send("GET /second HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
        assert_eq!(status(&client.read_to_end().await), 200, "{beyond}");
        for seen in &*endpoint.seen.lock().unwrap() {
            let Some(second) = memchr::memmem::find(seen, b"GET /second") else { continue };
            let before = memchr::memmem::find(&seen[..second], b"\r\n\r\n").map(|end| second - end - 4);
            assert!(
                before.is_none_or(|body| body == length),
                "{beyond}: {before:?} of {length} before the next"
            );
        }
        drop((client, other));
        stage.assert_in_order().await;
    }
}

/// An endpoint that says so much, and then nothing more, and reads.
async fn beginning() -> Scripted {
    Scripted::start(|mut stream, _| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nsome\r\n").await;
        crate::support::raw::drain(&mut stream).await;
    })
    .await
}

#[tokio::test]
async fn client_that_goes_with_its_body_unsent_ends_an_answer_that_waits() {
    for resets in [false, true] {
        let endpoint = beginning().await;
        let stage = Stage::before(endpoint.address).await;
        let mut client = Client::connect(stage.proxy.address).await;
        client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n0123456789").await;
        client.read_until("some").await;
        if resets {
            socket2::SockRef::from(&client.0).set_linger(Some(Duration::ZERO)).unwrap();
        }
        drop(client);
        stage.assert_in_order().await;
        let aborted = stage.proxy.metric("weir_errors_total", &["code=\"client_aborted\""]).await;
        assert_eq!(aborted, 1.0, "{resets}");
    }
}

#[tokio::test]
async fn body_that_breaks_the_rules_behind_the_answers_head_ends_the_answer() {
    let rows = [("zz\r\n", "malformed_body"), ("14\r\n01234567890123456789\r\n", "body_too_large")];
    for (sent, code) in rows {
        let endpoint = beginning().await;
        let settings = crate::support::stage::Settings { route: "max_body: 10B", ..Default::default() };
        let stage = Stage::with(&[endpoint.address], settings).await;
        let mut client = Client::connect(stage.proxy.address).await;
        client.send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n").await;
        client.read_until("some").await;
        client.send(sent).await;
        let rest = client.read_to_end().await;
        assert!(!rest.ends_with("0\r\n\r\n"), "{code}: {rest}");
        drop(client);
        stage.assert_in_order().await;
        assert_eq!(
            stage.proxy.metric("weir_errors_total", &[&format!("code=\"{code}\"")]).await,
            1.0,
            "{code}"
        );
    }
}

#[tokio::test]
async fn interim_answers_that_nobody_reads_are_not_kept() {
    const HINT: usize = 8 * 1024;
    const COUNT: usize = 8 * 1024;
    let all_said = Arc::new(Notify::new());
    let said = Arc::clone(&all_said);
    let endpoint = Scripted::start(move |mut stream, _| {
        let said = Arc::clone(&said);
        async move {
            let hint = format!("HTTP/1.1 103 Early Hints\r\nlink: {}\r\n\r\n", "x".repeat(HINT));
            let hints = hint.repeat(16);
            for _ in 0..COUNT / 16 {
                stream.write_all(hints.as_bytes()).await.unwrap();
            }
            said.notify_one();
            stream.write_all(ANSWER).await.unwrap();
            crate::support::raw::drain(&mut stream).await;
        }
    })
    .await;
    let stage = Stage::before(endpoint.address).await;
    let mut client = Client::connect(stage.proxy.address).await;
    client.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    all_said.notified().await;
    let read = client.read_to_end().await;
    assert!(read.ends_with("\r\n\r\nok"), "the answer comes");
    let hints = read.matches("HTTP/1.1 103").count();
    assert!((1..COUNT / 2).contains(&hints), "{hints} of {COUNT} waited for the client");
    stage.assert_in_order().await;
}

#[tokio::test]
async fn hundred_that_came_too_late_is_not_said_to_the_next_request() {
    let (end, ended) = watch::channel(false);
    let endpoint = Scripted::start(move |mut stream, head| {
        let mut ended = ended.clone();
        async move {
            if head.starts_with("GET") {
                return stream.write_all(ANSWER).await.unwrap();
            }
            let begin =
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n4\r\nsome\r\n";
            stream.write_all(begin).await.unwrap();
            let mut body = [0; 5];
            stream.read_exact(&mut body).await.unwrap();
            let _ = ended.wait_for(|end| *end).await;
            stream.write_all(b"0\r\n\r\n").await.unwrap();
        }
    })
    .await;
    let stage = Stage::before(endpoint.address).await;
    let mut client = Client::connect(stage.proxy.address).await;
    client.send("POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n").await;
    client.read_until("some").await;
    client.send("hello").await;
    end.send_replace(true);
    client.read_until("0\r\n\r\n").await;
    client.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    let read = client.read_to_end().await;
    assert!(read.starts_with("HTTP/1.1 200 OK\r\n"), "{read}");
    stage.assert_in_order().await;
}

#[tokio::test]
async fn answer_that_has_no_body_is_whole_though_its_stream_ends_later() {
    let endpoint = Scripted::accepting(|stream| async move {
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            let code = request.uri().path().trim_start_matches('/').parse::<u16>().unwrap();
            let answer = http::Response::builder().status(code).body(()).unwrap();
            let mut body = respond.send_response(answer, false).unwrap();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(10)).await;
                let _ = body.send_data(bytes::Bytes::new(), true);
            });
        }
    })
    .await;
    let stage = Stage::speaking("http2", endpoint.address).await;
    for (method, code) in [("HEAD", 200), ("GET", 204), ("GET", 304)] {
        let mut client = Client::connect(stage.proxy.address).await;
        client.send(format!("{method} /{code} HTTP/1.1\r\nhost: a\r\n\r\n")).await;
        assert_eq!(status(&client.read_response().await), code);
        client.send(format!("{method} /{code} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")).await;
        assert_eq!(status(&client.read_to_end().await), code);
    }
    stage.assert_in_order().await;
    assert_eq!(stage.proxy.metric("weir_errors_total", &[]).await, 0.0);
}
