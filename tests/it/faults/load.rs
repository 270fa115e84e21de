//! A load of a fixed rate over kept connections, and what came of each request.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval_at, timeout};

use crate::support::{PATIENCE, until};

/// Kept connections, each with one request at a time.
const CLIENTS: u32 = 16;

/// Where a proxy takes requests.
#[derive(Debug, Clone)]
pub enum Door {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// What came of a request.
#[derive(Debug, Clone)]
pub struct Sample {
    /// When it was sent.
    pub sent: Instant,
    /// When its answer was whole, or it was clear that none would be.
    pub ended: Instant,
    /// The body of a 200; else the status and the code of the proxy, or how the connection ended.
    pub outcome: String,
    /// Whether it is a whole 200.
    pub is_well: bool,
}

/// A load under way.
pub struct Load {
    stop: Arc<AtomicBool>,
    samples: Arc<Mutex<Vec<Sample>>>,
    clients: JoinSet<()>,
}

/// What came of a load.
#[derive(Debug)]
pub struct Report(pub Vec<Sample>);

impl Load {
    /// Asks `rate` times a second for `/`, as many users in turn.
    pub fn begin(door: &Door, rate: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let samples = Arc::new(Mutex::new(Vec::new()));
        let mut clients = JoinSet::new();
        let pause = Duration::from_secs(1) * CLIENTS / rate;
        for client in 0..CLIENTS {
            let (stop, samples, door) = (Arc::clone(&stop), Arc::clone(&samples), door.clone());
            let begin = tokio::time::Instant::now() + pause * client / CLIENTS;
            clients.spawn(async move {
                let mut ticks = interval_at(begin, pause);
                // A machine that stood still for a moment shall not be asked for all of it at once.
                ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                let mut connection = None;
                let mut number = 0;
                while !stop.load(Ordering::Relaxed) {
                    ticks.tick().await;
                    number += 1;
                    let sample = ask(&door, &mut connection, &format!("{client}-{number}")).await;
                    samples.lock().unwrap().push(sample);
                }
            });
        }
        Self { stop, samples, clients }
    }

    /// How many requests have ended.
    pub fn count(&self) -> usize {
        self.samples.lock().unwrap().len()
    }

    /// Waits until `more` further requests have ended.
    pub async fn goes_on(&self, more: usize) {
        let wanted = self.count() + more;
        until("the load goes on", || async { (self.count() >= wanted).then_some(()) }).await;
    }

    /// Waits until a request that is sent from now on is answered with this outcome; how long it took.
    pub async fn comes_to(&self, outcome: &str) -> Duration {
        let begin = Instant::now();
        let found = |sample: &&Sample| sample.sent >= begin && sample.outcome == outcome;
        until(outcome, || async { self.samples.lock().unwrap().iter().rev().find(found).map(|_| ()) }).await;
        begin.elapsed()
    }

    /// Ends it; what came of all of it.
    pub async fn stop(self) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        self.clients.join_all().await;
        let mut samples = std::mem::take(&mut *self.samples.lock().unwrap());
        samples.sort_unstable_by_key(|sample| sample.ended);
        Report(samples)
    }
}

impl Report {
    /// How many requests there were.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// How many had no whole 200.
    pub fn lost(&self) -> usize {
        self.0.iter().filter(|sample| !sample.is_well).count()
    }

    /// How many came to what.
    pub fn outcomes(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        self.0.iter().for_each(|sample| *counts.entry(sample.outcome.as_str()).or_default() += 1);
        counts
    }

    /// How many came to this.
    pub fn of(&self, outcome: &str) -> usize {
        self.outcomes().get(outcome).copied().unwrap_or_default()
    }

    /// From `fault` to the end of the last request that was lost; nothing where none was.
    pub fn recovered(&self, fault: Instant) -> Option<Duration> {
        let last = self.0.iter().rev().find(|sample| !sample.is_well)?;
        Some(last.ended.saturating_duration_since(fault))
    }

    /// The longest that an answer took of those sent after `from`.
    pub fn longest(&self, from: Instant) -> Duration {
        let late = self.0.iter().filter(|sample| sample.sent >= from);
        late.map(|sample| sample.ended - sample.sent).max().unwrap_or_default()
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

async fn open(door: &Door) -> std::io::Result<Box<dyn Stream>> {
    Ok(match door {
        Door::Tcp(address) => {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Box::new(stream)
        }
        Door::Unix(path) => Box::new(UnixStream::connect(path).await?),
    })
}

async fn ask(door: &Door, connection: &mut Option<Box<dyn Stream>>, user: &str) -> Sample {
    let sent = Instant::now();
    let asking = async {
        let stream = match connection.take() {
            Some(stream) => stream,
            None => open(door).await?,
        };
        exchange(stream, user).await
    };
    let (outcome, is_well) = match timeout(PATIENCE, asking).await {
        Ok(Ok((stream, outcome, is_well))) => {
            *connection = stream;
            (outcome, is_well)
        }
        Ok(Err(error)) => (format!("broken: {}", error.kind()), false),
        Err(_) => ("no answer".to_owned(), false),
    };
    Sample { sent, ended: Instant::now(), outcome, is_well }
}

/// The connection, where it is kept; the outcome, and whether it is a 200.
async fn exchange(
    mut stream: Box<dyn Stream>,
    user: &str,
) -> std::io::Result<(Option<Box<dyn Stream>>, String, bool)> {
    stream.write_all(format!("GET / HTTP/1.1\r\nhost: a\r\nx-user: {user}\r\n\r\n").as_bytes()).await?;
    let mut read = Vec::new();
    loop {
        if stream.read_buf(&mut read).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let text = String::from_utf8_lossy(&read);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let field = |name: &str| {
            let line = head.lines().find_map(|line| line.strip_prefix(name));
            line.map(str::trim)
        };
        let length: usize = field("content-length:").and_then(|length| length.parse().ok()).unwrap_or(0);
        if body.len() < length {
            continue;
        }
        let status = head.split(' ').nth(1).unwrap_or_default();
        let is_well = status == "200";
        let outcome = match field("x-weir-error:") {
            _ if is_well => body.to_owned(),
            code => format!("{status} {}", code.unwrap_or("of the endpoint")),
        };
        let is_kept = field("connection:") != Some("close");
        drop(text);
        return Ok((is_kept.then_some(stream), outcome, is_well));
    }
}
