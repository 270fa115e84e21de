//! Clients of every kind, for as long as wanted, and what became of what they asked.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::ClientConfig;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::site::Site;
use crate::turns::{KINDS, Kind, turn};

/// How long a client may be busy with what it does at a time.
const TURN: Duration = Duration::from_secs(30);

/// Where clients ask, and what they ask for.
#[derive(Clone)]
pub struct Place {
    /// In the clear.
    pub plain: SocketAddr,
    /// By TLS.
    pub secure: SocketAddr,
    /// HTTP/1.1 by TLS.
    pub http1: Arc<ClientConfig>,
    /// HTTP/2 by TLS.
    pub http2: Arc<ClientConfig>,
    /// HTTP/3.
    #[cfg(feature = "http3")]
    pub http3: Arc<ClientConfig>,
    /// The beginning of the paths.
    pub prefix: &'static str,
}

/// What became of the requests of one kind of clients, by the beginning of their paths.
#[derive(Debug, Default, Clone)]
struct Row {
    well: usize,
    /// How many failed in which way.
    failed: BTreeMap<String, usize>,
}

/// What became of all requests.
#[derive(Debug, Default)]
pub struct Report(BTreeMap<(Kind, &'static str), Row>);

/// Clients at work.
pub struct Clients {
    stop: Arc<AtomicBool>,
    report: Arc<Mutex<Report>>,
    tasks: JoinSet<()>,
}

/// What a client tells of its requests.
#[derive(Clone)]
pub struct Tally {
    key: (Kind, &'static str),
    report: Arc<Mutex<Report>>,
}

impl Tally {
    /// One more request.
    pub fn note(&self, outcome: Result<(), String>) {
        let mut report = self.report.lock().unwrap();
        let row = report.0.entry(self.key).or_default();
        match outcome {
            Ok(()) => row.well += 1,
            Err(what) => *row.failed.entry(what).or_default() += 1,
        }
    }
}

impl Clients {
    /// One of each kind for endpoints that stay, and for such that come and go.
    pub fn start(site: &Site) -> Self {
        let (stop, report) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Report::default())));
        let mut tasks = JoinSet::new();
        let (http1, http2) = (site.client("http/1.1"), site.client("h2"));
        #[cfg(feature = "http3")]
        let http3 = site.client("h3");
        for prefix in ["/steady", "/shop"] {
            let place = Place {
                plain: site.plain,
                secure: site.secure,
                http1: Arc::clone(&http1),
                http2: Arc::clone(&http2),
                #[cfg(feature = "http3")]
                http3: Arc::clone(&http3),
                prefix,
            };
            for &kind in KINDS {
                let tally = Tally { key: (kind, prefix), report: Arc::clone(&report) };
                let (place, stop) = (place.clone(), Arc::clone(&stop));
                tasks.spawn(async move {
                    while !stop.load(Ordering::Relaxed) {
                        match timeout(TURN, turn(kind, &place, &tally)).await {
                            Ok(()) => {}
                            Err(_) => tally.note(Err(format!("not done within {TURN:?}"))),
                        }
                        tokio::time::sleep(Duration::from_millis(fastrand::u64(..50))).await;
                    }
                });
            }
        }
        Self { stop, report, tasks }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.tasks.len()
    }

    /// Lets each end what it is at; what became of it all.
    pub async fn stop(self) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        self.tasks.join_all().await;
        std::mem::take(&mut *self.report.lock().unwrap())
    }
}

/// Whether the death of the endpoint in the midst of a request explains this.
fn is_explained(what: &str) -> bool {
    ["502 upstream_reset", "502 upstream_closed", "503 connect_refused", "503 no_endpoint", "broke off"]
        .contains(&what)
}

impl Report {
    /// What no disturbance explains; `excused` requests may have been in flight at endpoints that died.
    pub fn unexpected(&self, excused: usize) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut explained = 0;
        for ((kind, prefix), row) in &self.0 {
            if row.well == 0 {
                wrong.push(format!("{kind:?} {prefix}: nothing went well"));
            }
            for (what, count) in &row.failed {
                if *prefix == "/shop" && is_explained(what) {
                    explained += count;
                } else {
                    wrong.push(format!("{kind:?} {prefix}: {count} times {what}"));
                }
            }
        }
        if explained > excused {
            wrong.push(format!(
                "{explained} requests failed with their endpoints, {excused} could be in flight"
            ));
        }
        wrong
    }

    /// For programs.
    pub fn json(&self) -> serde_json::Value {
        let row = |((kind, prefix), row): (&(Kind, &str), &Row)| serde_json::json!({ "kind": format!("{kind:?}"), "prefix": prefix, "well": row.well, "failed": row.failed });
        self.0.iter().map(row).collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ((kind, prefix), Row { well, failed }) in &self.0 {
            let kind = format!("{kind:?}");
            write!(f, "soak: {kind:<10} {prefix:<8} {well:>8} well")?;
            for (what, count) in failed {
                write!(f, ", {count} {what}")?;
            }
            writeln!(f)?;
        }
        let well: usize = self.0.values().map(|row| row.well).sum();
        let failed: usize = self.0.values().flat_map(|row| row.failed.values()).sum();
        write!(f, "soak: {well} requests well, {failed} not")
    }
}
