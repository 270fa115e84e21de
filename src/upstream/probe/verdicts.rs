//! What the checks of an upstream's endpoints have come to, for all who ask: written by the keeper alone.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::{Notify, watch};
use tracing::{info, warn};

use super::Failure;
use crate::logic::balance::check::{Checks, Thresholds, Verdict};
use crate::types::{EndpointAddress, UpstreamName};
use crate::upstream::{Address, Resolved};

/// Which endpoint it is: the same over reloads.
type Key = (Address, EndpointAddress);

/// What the checks of one endpoint have come to.
#[derive(Debug, Clone, Default)]
pub struct Checked {
    checks: Checks,
    /// Why the last check failed, if it did.
    pub reason: Option<String>,
    /// Since when the verdict holds.
    pub since: Option<SystemTime>,
    /// When the last check ended.
    pub last: Option<SystemTime>,
}

impl Checked {
    /// The verdict; `None` before the first check has ended.
    pub fn verdict(&self) -> Option<Verdict> {
        self.checks.verdict()
    }
}

/// What became of a list of endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum List {
    /// It is as it was, or another one.
    Serves,
    /// It is of no interest any more.
    Ended,
}

/// What the checks of an upstream's endpoints have come to.
#[derive(Debug)]
pub struct Verdicts {
    endpoints: Mutex<HashMap<Key, Checked>>,
    /// What became of the list of endpoints; that it is closed says that the upstream is gone.
    list: watch::Sender<List>,
    /// Told of each first verdict.
    first: Notify,
}

impl Default for Verdicts {
    fn default() -> Self {
        Self { endpoints: Mutex::default(), list: watch::Sender::new(List::Serves), first: Notify::new() }
    }
}

fn key(endpoint: &Resolved) -> Key {
    (endpoint.address.clone(), endpoint.configured.clone())
}

impl Verdicts {
    /// Takes over what `former` knows, for it has asked the same.
    pub fn take_over(&self, former: &Self) {
        let known = former.lock().clone();
        *self.lock() = known;
    }

    /// What is known of `endpoint`.
    pub fn of(&self, endpoint: &Resolved) -> Checked {
        self.lock().get(&key(endpoint)).cloned().unwrap_or_default()
    }

    /// The verdict on `endpoint`; `None` before its first check has ended.
    pub fn verdict(&self, endpoint: &Resolved) -> Option<Verdict> {
        self.lock().get(&key(endpoint)).and_then(Checked::verdict)
    }

    /// Says that the list of endpoints is another one.
    pub(in crate::upstream) fn list_changed(&self) {
        self.list.send_modify(|_| {});
    }

    /// Says that nobody is to be checked any more.
    pub(in crate::upstream) fn end(&self) {
        self.list.send_replace(List::Ended);
    }

    /// For who watches the list.
    pub(super) fn watch(&self) -> watch::Receiver<List> {
        self.list.subscribe()
    }

    /// Forgets what is none of `endpoints`.
    pub(super) fn retain(&self, endpoints: &[Resolved]) {
        self.lock().retain(|known, _| endpoints.iter().any(|endpoint| key(endpoint) == *known));
    }

    /// Notes what a check of `endpoint` came to, and logs it where that changes what is known. The verdict.
    pub(super) fn note(
        &self,
        upstream: &UpstreamName,
        endpoint: &Resolved,
        result: &Result<(), Failure>,
        thresholds: Thresholds,
        now: SystemTime,
    ) -> Option<Verdict> {
        let mut endpoints = self.lock();
        let checked = endpoints.entry(key(endpoint)).or_default();
        let before = checked.verdict();
        checked.checks = checked.checks.after(result.is_ok(), thresholds);
        checked.reason = result.as_ref().err().map(ToString::to_string);
        checked.last = Some(now);
        let verdict = checked.verdict();
        if verdict != before {
            checked.since = Some(now);
            log(upstream, endpoint, before, checked);
        }
        drop(endpoints);
        if before.is_none() {
            self.first.notify_waiters();
        }
        verdict
    }

    /// Waits until each of the endpoints that `list` gives has a verdict.
    pub(super) async fn decided(&self, list: impl Fn() -> bool) {
        loop {
            let told = self.first.notified();
            // What is told from here on is not missed.
            if list() {
                return;
            }
            told.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Checked>> {
        self.endpoints.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn log(upstream: &UpstreamName, endpoint: &Resolved, before: Option<Verdict>, checked: &Checked) {
    let address = match &endpoint.address {
        Address::Tcp(address) => address.to_string(),
        Address::Unix(path) => path.display().to_string(),
    };
    let endpoint = &endpoint.configured;
    match checked.verdict() {
        Some(Verdict::Unhealthy) => {
            let reason = checked.reason.as_deref().unwrap_or_default();
            warn!(%upstream, %endpoint, address, reason, "health checks of the endpoint fail");
        }
        // That a new one is well is no news.
        Some(Verdict::Healthy) if before.is_some() => {
            info!(%upstream, %endpoint, address, "health checks of the endpoint pass again");
        }
        Some(Verdict::Healthy) | None => {}
    }
}
