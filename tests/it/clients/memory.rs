//! Readers that take nothing, in great number: what the proxy holds for them is bounded. The process is one of its own,
//! and so is its upstream, another one of the same program; all go over Unix sockets, whose buffers in the kernel are of
//! one size.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::process::memory_of;
use crate::support::{PATIENCE, until};

/// What each of them asks for.
const ASKED: usize = 10 << 20;

/// How long all of them may take to have asked, and the proxy to have stopped reading.
const BOUND: Duration = Duration::from_mins(2);

/// A process on Unix sockets of its folder.
struct Served {
    child: Child,
    folder: TempDir,
}

impl Served {
    fn start(sections: &str, listener: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().display();
        let text = format!(
            "workers: 1\nadmin: {{ bind: 'unix:{at}/admin' }}\n\
             listeners: [{{ bind: 'unix:{at}/web'{listener} }}]\n{sections}"
        );
        let path = folder.path().join("weir.yaml");
        std::fs::write(&path, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.args(["run", "--config"]).arg(&path).stderr(Stdio::null());
        let served = Self { child: command.spawn().unwrap(), folder };
        let began = Instant::now();
        // The file is there a moment before anybody listens.
        while ["admin", "web"].iter().any(|name| UnixStream::connect(served.path(name)).is_err()) {
            assert!(began.elapsed() < PATIENCE, "it does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
        served
    }

    /// A process that answers with a large body, and one before it.
    fn pair() -> (Self, Self) {
        let large = "x".repeat(ASKED);
        let answer = format!("routes: [{{ respond: {{ body: {large} }} }}]\n");
        let upstream = Self::start(&answer, "");
        let sections = format!(
            "limits: {{ connections: 100000 }}\nupstreams: {{ one: {{ endpoints: ['unix:{}'] }} }}\n\
             routes: [{{ upstream: one }}]\n",
            upstream.path("web").display()
        );
        // Nobody is given up while this is measured.
        let listener = ", timeouts: { idle: 10m }, min_rate: { response: 0 }";
        (upstream, Self::start(&sections, listener))
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn memory(&self) -> u64 {
        memory_of(self.child.id(), "VmRSS:")
    }

    /// The value of a series without labels that count, added up.
    fn metric(&self, name: &str) -> f64 {
        let mut stream = UnixStream::connect(self.path("admin")).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let rows = text.lines().filter(|line| line.starts_with(name));
        rows.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// The memory once `requests` are under way and nothing moves any more.
    async fn settled(&self, requests: usize) -> u64 {
        let began = Instant::now();
        let (mut last, mut still) = (0, 0);
        while still < 5 {
            assert!(began.elapsed() < BOUND, "it never stands still");
            tokio::time::sleep(Duration::from_millis(200)).await;
            let now = self.memory();
            let is_still = now.abs_diff(last) < 256 << 10;
            let is_there =
                self.metric("weir_upstream_requests_active") >= f64::from(u32::try_from(requests).unwrap());
            (last, still) = (now, if is_still && is_there { still + 1 } else { 0 });
        }
        last
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn connect(path: &Path) -> UnixStream {
    UnixStream::connect(path).unwrap()
}

/// One request, read to its end.
fn served(path: &Path) {
    let mut stream = connect(path);
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").unwrap();
    let mut body = Vec::new();
    stream.read_to_end(&mut body).unwrap();
    assert!(body.len() > ASKED, "{}", body.len());
}

#[tokio::test]
async fn readers_of_http1_that_take_nothing_cost_little_memory_each() {
    // Of each a file here, two there, and one at the upstream.
    let readers = if std::env::var_os("WEIR_BIG").is_some_and(|big| big == "1") { 9500 } else { 3000 };
    let (_upstream, proxy) = Served::pair();
    let web = proxy.path("web");
    for _ in 0..4 {
        served(&web);
    }
    let before = proxy.settled(0).await;
    let began = Instant::now();
    let held: Vec<_> = (0..readers)
        .map(|_| {
            let mut stream = connect(&web);
            stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
            stream
        })
        .collect();
    let grown = proxy.settled(readers).await.saturating_sub(before);
    println!(
        "{readers} readers of HTTP/1: grown by {} KiB, {} KiB each, in {:?}",
        grown >> 10,
        (grown >> 10) / readers as u64,
        began.elapsed()
    );
    // What is held without pressure, and 48 KiB each.
    let bound = (64 << 20) + readers as u64 * (48 << 10);
    assert!(grown < bound.min(readers as u64 * (64 << 10)), "grown by {} MiB", grown >> 20);
    // Another one is served meanwhile, and whoever begins to read gets all of it.
    served(&web);
    let mut last = held.into_iter().next_back().unwrap();
    last.shutdown(std::net::Shutdown::Write).unwrap();
    let mut body = Vec::new();
    last.read_to_end(&mut body).unwrap();
    assert!(body.len() > ASKED, "{}", body.len());
    until("all are gone", || async { (proxy.metric("weir_upstream_requests_active") == 0.0).then_some(()) })
        .await;
}

/// What a client of HTTP/2 says that asks so often, and grants windows of so many bytes to each stream.
fn asking(streams: u32, window: u32) -> Vec<u8> {
    let mut said = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let mut frame = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        said.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_be_bytes()[1..]);
        said.extend_from_slice(&[kind, flags]);
        said.extend_from_slice(&stream.to_be_bytes());
        said.extend_from_slice(payload);
    };
    frame(4, 0, 0, &[&[0, 4][..], &window.to_be_bytes()].concat());
    frame(8, 0, 0, &0x7fff_0000_u32.to_be_bytes());
    for stream in (0..streams).map(|number| 2 * number + 1) {
        frame(1, 5, stream, &[0x82, 0x86, 0x84, 0x41, 1, b'a']);
    }
    said
}

#[tokio::test]
async fn readers_of_http2_that_take_nothing_cost_little_memory_each() {
    const CONNECTIONS: usize = 30;
    const STREAMS: u32 = 100;
    for (window, what) in [(0x7fff_ffff, "large windows"), (100, "small windows")] {
        let (_upstream, proxy) = Served::pair();
        let web = proxy.path("web");
        for _ in 0..4 {
            served(&web);
        }
        let before = proxy.settled(0).await;
        let held: Vec<_> = (0..CONNECTIONS)
            .map(|_| {
                let mut stream = connect(&web);
                stream.write_all(&asking(STREAMS, window)).unwrap();
                stream
            })
            .collect();
        let streams = CONNECTIONS * STREAMS as usize;
        let grown = proxy.settled(streams).await.saturating_sub(before);
        println!(
            "{streams} streams of {CONNECTIONS} connections of HTTP/2, {what}: grown by {} KiB, {} KiB each",
            grown >> 10,
            (grown >> 10) / streams as u64
        );
        assert!(grown < streams as u64 * (64 << 10), "{what}: grown by {} MiB", grown >> 20);
        served(&web);
        drop(held);
        until("all are gone", || async {
            (proxy.metric("weir_upstream_requests_active") == 0.0).then_some(())
        })
        .await;
    }
}
