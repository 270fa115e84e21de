//! The proxy as a process: how it starts, what it says when it cannot, and how it ends.

use std::io::Read;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::process::Process;
use crate::support::raw::{Client, Scripted, status};
use crate::support::{PATIENCE, Upstream, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use weir::app::App;

/// A process with two workers, one listener, and `rest`.
fn start(rest: &str) -> Process {
    Process::start(&format!("workers: 2\nlisteners: [{{ bind: 127.0.0.1:0 }}]\n{rest}"))
}

fn to(address: SocketAddr) -> String {
    format!("upstreams: {{ one: {{ endpoints: ['{address}'] }} }}\nroutes: [{{ upstream: one }}]\n")
}

/// An upstream that begins its answer, and ends it when told.
async fn slow() -> (Scripted, std::sync::Arc<tokio::sync::Notify>) {
    let go = std::sync::Arc::new(tokio::sync::Notify::new());
    let gate = std::sync::Arc::clone(&go);
    let upstream = Scripted::start(move |mut stream, _| {
        let gate = std::sync::Arc::clone(&gate);
        async move {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nhalf").await.unwrap();
            gate.notified().await;
            // The proxy may have gone.
            let _ = stream.write_all(b"half").await;
        }
    })
    .await;
    (upstream, go)
}

/// A client that has got the beginning of its answer.
async fn half_answered(address: SocketAddr) -> Client {
    let mut client = Client::connect(address).await;
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let mut first = [0; 1];
    client.0.read_exact(&mut first).await.unwrap();
    client
}

#[tokio::test]
async fn sigterm_finishes_what_is_in_flight_and_takes_nothing_new() {
    let (upstream, go) = slow().await;
    let mut process = start(&to(upstream.address));
    let mut client = half_answered(process.address).await;
    process.signal("TERM");
    process.says("finishing").await;
    until("nobody listens any more", || async {
        tokio::net::TcpStream::connect(process.address).await.is_err().then_some(())
    })
    .await;
    go.notify_one();
    let rest = client.read_to_end().await;
    assert!(rest.ends_with("halfhalf"), "{rest:?}");
    assert_eq!(process.code().await, Some(0));
}

#[tokio::test]
async fn connection_that_waits_has_one_more_request_when_the_process_drains() {
    let upstream = Upstream::named("one").await;
    let mut process = start(&to(upstream.address));
    let request = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    let mut kept = Client::connect(process.address).await;
    kept.send(request).await;
    assert_eq!(status(&kept.read_response().await), 200);
    // Accepted, and nothing said yet.
    let mut new = Client::connect(process.address).await;
    let mut silent = Client::connect(process.address).await;
    new.send("GET / ").await;
    kept.send(request).await;
    assert_eq!(status(&kept.read_response().await), 200);
    process.signal("TERM");
    process.says("finishing").await;
    until("nobody listens any more", || async {
        tokio::net::TcpStream::connect(process.address).await.is_err().then_some(())
    })
    .await;
    kept.send(request).await;
    new.send("HTTP/1.1\r\nhost: a\r\n\r\n").await;
    for client in [&mut kept, &mut new] {
        let answer = client.read_to_end().await;
        assert_eq!(status(&answer), 200, "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
    }
    // Who says nothing is not waited for until the end of time.
    assert_eq!(silent.read_to_end().await, "");
    assert_eq!(process.code().await, Some(0));
}

#[tokio::test]
async fn connection_of_a_balancer_that_has_said_nothing_yet_is_served_when_the_process_drains() {
    let upstream = Upstream::named("one").await;
    let text = "listeners: [{ bind: 127.0.0.1:0, proxy_protocol: required, trust: [127.0.0.1] }]\n";
    let mut process = Process::start(&format!("{text}{}", to(upstream.address)));
    let mut client = Client::connect(process.address).await;
    let mut silent = Client::connect(process.address).await;
    process.signal("TERM");
    process.says("finishing").await;
    until("nobody listens any more", || async {
        tokio::net::TcpStream::connect(process.address).await.is_err().then_some(())
    })
    .await;
    client.send("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let answer = client.read_to_end().await;
    assert_eq!(status(&answer), 200, "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    assert_eq!(silent.read_to_end().await, "");
    assert_eq!(process.code().await, Some(0));
}

#[tokio::test]
async fn process_with_idle_connections_ends_soon() {
    let upstream = Upstream::named("one").await;
    let mut process = start(&to(upstream.address));
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut client = Client::connect(process.address).await;
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert_eq!(status(&client.read_response().await), 200);
        clients.push(client);
    }
    let asked = std::time::Instant::now();
    process.signal("TERM");
    assert_eq!(process.code().await, Some(0));
    // Two seconds for a request that is on its way, and time for a loaded machine; `shutdown_timeout` is 30 s.
    let elapsed = asked.elapsed();
    assert!((Duration::from_secs(2)..Duration::from_secs(12)).contains(&elapsed), "{elapsed:?}");
}

#[tokio::test]
async fn second_sigterm_ends_at_once() {
    let (upstream, _go) = slow().await;
    let mut process = start(&to(upstream.address));
    let _client = half_answered(process.address).await;
    process.signal("TERM");
    process.says("finishing").await;
    assert!(process.child.try_wait().unwrap().is_none(), "it waits for the request");
    // One that comes within milliseconds of the first would count as the same.
    tokio::time::sleep(Duration::from_millis(20)).await;
    process.signal("TERM");
    assert_eq!(process.code().await, Some(0));
}

#[tokio::test]
async fn deadline_of_the_shutdown_ends_what_is_still_in_flight() {
    let (upstream, _go) = slow().await;
    let mut process = start(&format!("shutdown_timeout: 200ms\n{}", to(upstream.address)));
    let mut client = half_answered(process.address).await;
    process.signal("TERM");
    process.says("in flight: the time was over").await;
    assert_eq!(process.code().await, Some(0));
    assert!(!client.read_to_end().await.ends_with("halfhalf"));
}

#[tokio::test]
async fn sighup_reads_the_files_again() {
    let upstream = Upstream::named("one").await;
    let process = start(&to(upstream.address));
    process.signal("HUP");
    let line = process.says("configuration applied").await;
    assert!(line.contains("signal"), "{line}");
    let mut client = Client::connect(process.address).await;
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(status(&client.read_response().await), 200);
}

#[tokio::test]
async fn sigterm_ends_even_while_a_reading_hangs() {
    let upstream = Upstream::named("one").await;
    let mut process = start(&to(upstream.address));
    // A pipe that has a writer who says nothing: reading it takes for ever.
    let pipe = process.folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let path = process.folder.path().join("weir.yaml");
    std::fs::rename(&pipe, &path).unwrap();
    process.signal("HUP");
    // Opening it for writing waits for the reader.
    let opening = tokio::task::spawn_blocking(|| std::fs::File::options().write(true).open(path).unwrap());
    let writer = opening.await.unwrap();
    process.signal("TERM");
    process.says("finishing").await;
    assert_eq!(process.code().await, Some(0));
    drop(writer);
}

#[tokio::test]
async fn socket_of_a_successor_stays_when_the_former_process_has_finished() {
    let (upstream, go) = slow().await;
    let folder = tempfile::tempdir().unwrap();
    let (path, socket) = (folder.path().join("weir.yaml"), folder.path().join("weir.sock"));
    let listeners = format!("workers: 1\nlisteners: [{{ bind: 'unix:{}' }}]\n", socket.display());
    std::fs::write(&path, listeners + &to(upstream.address)).unwrap();
    let former = App::start(path.clone()).await.unwrap();
    let mut client = UnixStream::connect(&socket).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut first = [0; 1];
    client.read_exact(&mut first).await.unwrap();
    let ending = tokio::spawn(former.shutdown(PATIENCE));
    until("nobody listens any more", || async { UnixStream::connect(&socket).await.is_err().then_some(()) })
        .await;
    let successor = App::start(path).await.unwrap();
    go.notify_one();
    let mut rest = String::new();
    client.read_to_string(&mut rest).await.unwrap();
    assert!(rest.ends_with("halfhalf"), "{rest:?}");
    assert!(ending.await.unwrap());
    assert!(UnixStream::connect(&socket).await.is_ok(), "the successor listens there");
    assert!(successor.shutdown(PATIENCE).await);
    assert!(!socket.exists(), "its own socket goes with it");
}

#[tokio::test]
async fn start_that_cannot_be_says_why_and_what_to_do() {
    let upstream = Upstream::named("one").await;
    let running = start(&to(upstream.address));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weir.yaml");
    let rest = to(upstream.address);
    let in_use = format!("listeners: [{{ bind: '{}' }}]\n{rest}", running.address);
    let rows = [
        (Some(in_use.as_str()), 1, "in use by another process"),
        (Some("listeners: [{ bind: 127.0.0.1:0 }]\n"), 2, "no-routes"),
        (Some("listeners: [{ bnd: 127.0.0.1:0 }]\n"), 2, "bind"),
        (None, 1, "weir.yaml"),
    ];
    for (text, code, expected) in rows {
        match text {
            Some(text) => std::fs::write(&path, text).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
        let mut child = Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(["run", "--config"])
            .arg(&path)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(code), "{said}");
        assert!(said.contains(expected), "{said}");
    }
}

#[tokio::test]
async fn what_strangers_send_over_http2_is_no_news_for_the_log() {
    for (level, is_told) in [("", false), ("info", false), ("warn,h2=warn", true)] {
        let upstream = Upstream::named("one").await;
        let text = format!("listeners: [{{ bind: 127.0.0.1:0 }}]\n{}", to(upstream.address));
        // The test needs what is said at the start.
        let level_and = format!("{level},weir=info");
        let mut process = Process::start_in(&text, &[("WEIR_LOG", &level_and)]);
        let mut client = Client::connect(process.address).await;
        // The answer to a ping that was never sent, and a ping that is answered.
        let frames = b"\0\0\x08\x06\x01\0\0\0\0never---\0\0\x08\x06\0\0\0\0\0answered";
        client.send([&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"[..], frames].concat()).await;
        client.read_until("answered").await;
        drop(client);
        process.signal("TERM");
        let log = process.rest_of_log().await;
        assert_eq!(log.contains("PING ack"), is_told, "{level}: {log}");
    }
}
