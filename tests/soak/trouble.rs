//! What disturbs: a new configuration every second, endpoints that are killed, stopped and started again, and an access log
//! that is rotated.

use std::fmt;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::clients::Clients;
use crate::figures::{memory, value};
use crate::site::Site;

/// How long a configuration may take to serve.
const RELOAD: Duration = Duration::from_secs(10);

/// What was done to the site.
#[derive(Debug, Default)]
pub struct Report {
    reloads: usize,
    longest_reload: Duration,
    kills: usize,
    stops: usize,
    rotations: usize,
    clients: usize,
    /// Resident memory under way, in bytes, at the end of each tenth of the time.
    memory: Vec<u64>,
    /// What went wrong with it.
    pub complaints: Vec<String>,
}

/// Disturbs the site once a second for `time`; leaves it as it was.
pub async fn disturb(site: &mut Site, time: Duration, clients: &Clients) -> Report {
    let mut report = Report { clients: clients.count(), ..Report::default() };
    let begin = Instant::now();
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut round = 0;
    while begin.elapsed() < time && report.complaints.is_empty() {
        seconds.tick().await;
        round += 1;
        flap(site, round, &mut report).await;
        reload(site, round, &mut report).await;
        let tenths = u32::try_from(report.memory.len()).unwrap_or(u32::MAX);
        if begin.elapsed() >= time / 10 * (tenths + 1) {
            report.memory.push(memory(site));
        }
        if round % 20 == 10 {
            site.rotate();
            report.rotations += 1;
        }
    }
    for endpoint in &mut site.flapping {
        endpoint.signal(Signal::CONT);
        endpoint.run().await;
    }
    reload(site, 0, &mut report).await;
    report
}

/// In turn: one of two endpoints is killed, and runs again; is stopped, and goes on; one that is alone is killed, and runs
/// again. Each stays so for a second.
async fn flap(site: &mut Site, round: usize, report: &mut Report) {
    let [of_two, alone] = &mut site.flapping;
    match round % 6 {
        1 => of_two.kill().await,
        3 => of_two.signal(Signal::STOP),
        4 => of_two.signal(Signal::CONT),
        5 => alone.kill().await,
        _ => {
            of_two.run().await;
            alone.run().await;
        }
    }
    report.kills += usize::from([1, 5].contains(&(round % 6)));
    report.stops += usize::from(round % 6 == 3);
}

async fn reload(site: &Site, round: usize, report: &mut Report) {
    let generation =
        async || site.metrics().await.map_or(0.0, |metrics| value(&metrics, "weir_config_generation"));
    let (began, before) = (Instant::now(), generation().await);
    site.configure(round);
    while generation().await <= before {
        if began.elapsed() > RELOAD {
            report.complaints.push(format!("configuration {round} does not serve after {RELOAD:?}"));
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    report.reloads += 1;
    report.longest_reload = report.longest_reload.max(began.elapsed());
}

impl Report {
    /// How many requests may have been in flight at endpoints when they were killed or stopped.
    pub fn most_in_flight(&self) -> usize {
        (self.kills + self.stops) * self.clients
    }

    /// For programs.
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "reloads": self.reloads, "longest_reload_ms": self.longest_reload.as_millis(), "kills": self.kills,
            "stops": self.stops, "rotations": self.rotations, "memory_bytes": self.memory,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reloads, longest_reload, kills, stops, rotations, .. } = self;
        let mib: Vec<u64> = self.memory.iter().map(|bytes| bytes >> 20).collect();
        write!(
            f,
            "{reloads} reloads (the longest {longest_reload:.0?}), {kills} endpoints killed, {stops} stopped for a second, \
             {rotations} rotations of the log; memory by tenths of the time {mib:?} MiB"
        )
    }
}
