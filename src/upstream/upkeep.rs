//! What looks after the endpoints of an upstream from the control thread, whatever traffic there is: whether one that was
//! not reached can be connected to again, whether a slow start is over, whose success rate is out of line. What that means
//! for an endpoint is decided in `logic/balance/health`.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout};

use super::{Address, Resolved, Upstream, Vitals};
use crate::logic::balance::{Event, health};

/// How often the endpoints are looked over.
const LOOK: Duration = Duration::from_millis(500);

/// How many are connected to at a time, to see whether they can be.
const AT_A_TIME: usize = 32;

/// Looks after `upstream`, which serves, until it does not any more: then its ward is another's, and what is held of it
/// for the sake of a request under way must not have a say in it.
pub async fn watch_over(upstream: Weak<Upstream>) {
    let mut compared = Instant::now();
    if let Some(upstream) = upstream.upgrade() {
        // What was counted before is of no time that is known.
        take_counts(&upstream, &upstream.endpoints());
    }
    loop {
        // Not all proxies at the same moment.
        let jitter = Duration::from_millis(fastrand::u64(0..100));
        tokio::time::sleep(LOOK + jitter).await;
        let Some(upstream) = upstream.upgrade().filter(|upstream| upstream.is_settled()) else { return };
        if !upstream.ward().is_plain() {
            reach(&upstream).await;
            warm(&upstream);
        }
        if let Some(policy) = &upstream.settings.ejection.success_rate
            && compared.elapsed() >= policy.interval
        {
            compared = Instant::now();
            compare(&upstream, policy);
        }
    }
}

impl Upstream {
    /// Tells the vitals of `endpoint`, if they are known, what has happened.
    pub(super) fn tell(&self, endpoint: &Resolved, event: Event) {
        if let Some(vitals) = self.ward().find(endpoint) {
            let settings = &self.settings;
            vitals.tell(event, &settings.ejection, settings.slow_start.is_some(), Instant::now());
        }
    }
}

/// Connects to those whose time is over. Whether one answers, its next request shows.
async fn reach(upstream: &Upstream) {
    let endpoints = upstream.endpoints();
    let is_due = |endpoint: &&Resolved| {
        let vitals = upstream.ward().find(endpoint);
        vitals.is_some_and(|vitals| vitals.health().is_to_be_reached(vitals.tick(Instant::now())))
    };
    let due: Vec<_> = endpoints.iter().filter(is_due).cloned().collect();
    let limit = upstream.settings.connect_timeout;
    let reaching = stream::iter(due).for_each_concurrent(AT_A_TIME, async |endpoint: Resolved| {
        if timeout(limit, connect(&endpoint.address)).await.is_ok_and(|made| made.is_ok()) {
            upstream.tell(&endpoint, Event::Reached);
        }
    });
    reaching.await;
}

async fn connect(address: &Address) -> std::io::Result<()> {
    match address {
        Address::Tcp(address) => TcpStream::connect(address).await.map(drop),
        Address::Unix(path) => UnixStream::connect(path).await.map(drop),
    }
}

fn warm(upstream: &Upstream) {
    let window = upstream.settings.slow_start.map(|slow| slow.window).unwrap_or_default();
    for endpoint in upstream.endpoints().iter() {
        let Some(vitals) = upstream.ward().find(endpoint) else { continue };
        let since = vitals.health().warming_since();
        if since.is_some_and(|since| vitals.tick(Instant::now()).since(since) >= window) {
            upstream.tell(endpoint, Event::Warm);
        }
    }
}

fn compare(upstream: &Upstream, policy: &health::SuccessRate) {
    let endpoints = upstream.endpoints();
    let counted = take_counts(upstream, &endpoints);
    for index in health::out_of_line(&counted, policy) {
        upstream.tell(&endpoints[index], Event::OutOfLine);
    }
}

/// What was counted of each of `endpoints` since it was asked for last.
fn take_counts(upstream: &Upstream, endpoints: &[Resolved]) -> Vec<(u32, u32)> {
    let counts = |vitals: Arc<Vitals>| vitals.take_counts();
    endpoints.iter().map(|endpoint| upstream.ward().find(endpoint).map_or((0, 0), counts)).collect()
}
