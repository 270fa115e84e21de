//! What the proxy holds: by its own gauges, and by what the kernel knows of it.

use std::fmt;

use crate::site::Site;

/// How much more memory there may be in the end: an allocator keeps some, and not the same twice.
const MORE_MEMORY: u64 = 8 * 1024 * 1024;

/// What must be 0 when nobody asks for anything.
const GAUGES: [&str; 4] = [
    "weir_downstream_connections_active",
    "weir_upstream_requests_active",
    "weir_upstream_connections_active",
    "weir_upstream_connections_idle",
];

/// What the proxy holds at a moment.
#[derive(Debug, Clone)]
pub struct Figures {
    /// Resident memory, in bytes.
    pub memory: u64,
    /// Open descriptors.
    pub descriptors: usize,
    /// Threads.
    pub threads: usize,
    /// [`GAUGES`]; less than 0 where they could not be read.
    pub gauges: [f64; 4],
    /// Lines of the access log that were lost.
    pub lines_lost: f64,
}

impl Figures {
    /// As they are.
    pub async fn read(site: &Site) -> Self {
        let descriptors =
            std::fs::read_dir(format!("/proc/{}/fd", site.weir.id())).map_or(0, Iterator::count);
        // Read last: the connection that asks is none of theirs.
        let metrics = site.metrics().await;
        let metric = |name| metrics.as_deref().map_or(-1.0, |metrics| value(metrics, name));
        Self {
            memory: memory(site),
            descriptors,
            threads: usize::try_from(status(site, "Threads:")).unwrap(),
            gauges: GAUGES.map(metric),
            lines_lost: metric("weir_access_log_dropped_total"),
        }
    }

    /// Whether nothing is under way.
    pub fn is_calm(&self) -> bool {
        self.gauges.iter().all(|gauge| *gauge == 0.0)
    }

    /// What is not as it was at `former`.
    pub fn complaints(&self, former: &Self) -> Vec<String> {
        let mut wrong = Vec::new();
        if self.memory > former.memory + former.memory / 5 + MORE_MEMORY {
            wrong.push(format!("memory grew from {} to {} bytes", former.memory, self.memory));
        }
        if self.descriptors > former.descriptors {
            wrong.push(format!("descriptors grew from {} to {}", former.descriptors, self.descriptors));
        }
        if self.threads > former.threads {
            wrong.push(format!("threads grew from {} to {}", former.threads, self.threads));
        }
        for (name, gauge) in GAUGES.iter().zip(self.gauges).filter(|(_, gauge)| *gauge != 0.0) {
            wrong.push(format!("{name} is {gauge}"));
        }
        if self.lines_lost != 0.0 {
            wrong.push(format!("{} lines of the access log were lost", self.lines_lost));
        }
        wrong
    }

    /// For programs.
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "memory_bytes": self.memory, "descriptors": self.descriptors, "threads": self.threads, "gauges": self.gauges,
        })
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kib = self.memory / 1024;
        let Self { descriptors, threads, gauges, .. } = self;
        write!(f, "{kib} KiB, {descriptors} descriptors, {threads} threads, under way and idle {gauges:?}")
    }
}

/// Resident memory, in bytes.
pub fn memory(site: &Site) -> u64 {
    status(site, "VmRSS:") * 1024
}

fn status(site: &Site, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", site.weir.id())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

/// The sum of the series called `name`.
pub fn value(metrics: &str, name: &str) -> f64 {
    let rows = metrics
        .lines()
        .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
    rows.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}
