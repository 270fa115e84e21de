//! The task that asks in time: one for a process, one certificate after the other. What it gets serves the next handshake;
//! while it gets nothing, what is there serves on.
//!
//! Of processes that share a folder one asks, the one that has the lock; the others look every second what it shows and
//! got.

use std::collections::HashMap;
use std::future::pending;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{error, info, warn};

use super::authority::{Authority, OrderError};
use super::credentials::credentials;
use super::keep::{Following, Keep, KeepError, Lock};
use super::proof::of_others;
use super::shelf::{Proving, Shelf, Slot};
use crate::config::Config;
use crate::config::acme::{Acme, CertificateId};
use crate::config::tls::Credentials;
use crate::logic::renewal::{Held, Renewal, Step};
use crate::telemetry::Metrics;

/// The longest sleep: the clock may be set, and the machine may sleep.
const LOOK: Duration = Duration::from_hours(1);
/// How often a process that follows looks.
const FOLLOW: Duration = Duration::from_secs(1);
/// How long a proof stands before the authority is told, where other processes follow.
pub(super) const FOLLOWED: Duration = Duration::from_secs(3);
/// How long the folder is left alone when it cannot be used.
const BROKEN: Duration = Duration::from_mins(1);

/// What is wanted: the folder, and the certificates with their places. Nothing at first.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    state_dir: Option<PathBuf>,
    certificates: Vec<(Arc<Acme>, Arc<Slot>)>,
}

impl PartialEq for Wanted {
    /// Whether the same is wanted: what has been got for it does not count.
    fn eq(&self, other: &Self) -> bool {
        let acmes =
            |wanted: &Self| wanted.certificates.iter().map(|(acme, _)| Arc::clone(acme)).collect::<Vec<_>>();
        self.state_dir == other.state_dir && acmes(self) == acmes(other)
    }
}

impl Wanted {
    /// What `config` wants. What is kept of it is served from now on.
    ///
    /// # Errors
    /// [`KeepError`] where certificates are wanted and the folder cannot be used.
    pub fn of(config: &Config, shelf: &Shelf) -> Result<Self, KeepError> {
        let mut certificates: Vec<(Arc<Acme>, Arc<Slot>)> = Vec::new();
        let asked = config.listeners.iter().filter_map(|listener| listener.tls.as_ref()?.acme.as_ref());
        for acme in asked {
            let id = acme.certificate_id();
            if certificates.iter().all(|(known, _)| known.certificate_id() != id) {
                certificates.push((Arc::clone(acme), shelf.slot(acme)));
            }
        }
        let wanted = Self { state_dir: config.state_dir.clone(), certificates };
        if let Some(keep) = wanted.keep()? {
            for (acme, slot) in &wanted.certificates {
                if slot.is_empty() {
                    take(acme, slot, &keep);
                }
            }
        }
        Ok(wanted)
    }

    /// The folder, where it is needed.
    fn keep(&self) -> Result<Option<Keep>, KeepError> {
        match &self.state_dir {
            Some(state_dir) if !self.certificates.is_empty() => Keep::open(state_dir).map(Some),
            _ => Ok(None),
        }
    }

    /// Which certificates.
    pub fn ids(&self) -> Vec<CertificateId> {
        self.certificates.iter().map(|(acme, _)| acme.certificate_id()).collect()
    }
}

/// Asks `authority` in time for what is wanted.
pub struct Keeper<A> {
    authority: A,
    shelf: Arc<Shelf>,
    metrics: Arc<Metrics>,
    /// Seconds since 1970.
    clock: Arc<dyn Fn() -> i64 + Send + Sync>,
    /// What is known of earlier attempts with these settings.
    renewals: HashMap<CertificateId, (Arc<Acme>, Renewal)>,
}

/// What this process is to the others that share its folder.
enum Role {
    /// It asks.
    Asking { _lock: Lock },
    /// It reads what another one gets.
    Following { shown: Proving, word: Option<Following> },
}

impl<A: Authority> Keeper<A> {
    /// One that puts what it gets on `shelf`.
    pub fn new(authority: A, shelf: Arc<Shelf>, metrics: Arc<Metrics>) -> Self {
        Self { authority, shelf, metrics, clock: Arc::new(wall_clock), renewals: HashMap::new() }
    }

    /// Asks, until nobody can want anything any more.
    pub async fn run(mut self, mut wanted: watch::Receiver<Wanted>) {
        loop {
            let now_wanted = wanted.borrow_and_update().clone();
            let ids = now_wanted.ids();
            self.renewals.retain(|id, _| ids.contains(id));
            tokio::select! {
                never = self.keep(&now_wanted) => match never {},
                changed = wanted.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Keeps what is wanted, for ever. An order that is under way when this is dropped comes to nothing, and counts as
    /// none.
    async fn keep(&mut self, wanted: &Wanted) -> std::convert::Infallible {
        let mut role = None;
        loop {
            let keep = match wanted.keep() {
                Ok(Some(keep)) => keep,
                Ok(None) => return pending().await,
                Err(error) => {
                    error!(%error, "certificates cannot be kept, so none is asked for");
                    sleep(BROKEN).await;
                    continue;
                }
            };
            let pause = match self.role(&mut role, wanted, &keep) {
                Ok(Role::Asking { .. }) => self.ask(wanted, &keep).await,
                Ok(Role::Following { shown, .. }) => {
                    follow(wanted, &keep, shown);
                    FOLLOW
                }
                Err(error) => {
                    error!(%error, folder = %keep.folder().display(), "the lock cannot be had, so no certificate is asked for");
                    BROKEN
                }
            };
            sleep(pause).await;
        }
    }

    /// What this process is now: it asks as soon as no other one does.
    fn role<'r>(
        &self,
        role: &'r mut Option<Role>,
        wanted: &Wanted,
        keep: &Keep,
    ) -> std::io::Result<&'r mut Role> {
        if !matches!(role, Some(Role::Asking { .. })) {
            if let Some(lock) = keep.lock()? {
                // What another one got before it ended.
                for (acme, slot) in &wanted.certificates {
                    take(acme, slot, keep);
                }
                *role = Some(Role::Asking { _lock: lock });
            } else if role.is_none() {
                info!(folder = %keep.folder().display(), "another process asks for certificates, this one follows it");
                *role = Some(Role::Following { shown: self.shelf.proving(), word: keep.follow().ok() });
            }
        }
        if let Some(Role::Following { word, .. }) = role
            && word.is_none()
        {
            // Somebody looked just then whether anybody follows.
            *word = keep.follow().ok();
        }
        role.as_mut().ok_or_else(|| std::io::ErrorKind::WouldBlock.into())
    }

    /// Asks for what is due; how long there is nothing to do then.
    async fn ask(&mut self, wanted: &Wanted, keep: &Keep) -> Duration {
        let mut next = None;
        for (acme, slot) in &wanted.certificates {
            let id = acme.certificate_id();
            let known = self.renewals.get(&id).filter(|(settings, _)| settings == acme);
            let mut renewal = known.map(|(_, renewal)| *renewal).unwrap_or_default();
            let now = (self.clock)();
            if renewal.step(held(slot), acme.renew_before, now) == Step::Order {
                slot.note(|notes| notes.next = None);
                let result = self.order(acme, slot, keep).await;
                let now = (self.clock)();
                match result {
                    Ok(until) => renewal.succeeded(until, now),
                    Err(error) => renewal.failed(error.trouble, error.retry_after, fastrand::f64(), now),
                }
                self.renewals.insert(id, (Arc::clone(acme), renewal));
            }
            let now = (self.clock)();
            let at = match renewal.step(held(slot), acme.renew_before, now) {
                Step::Order => now,
                Step::Wait(at) => at,
            };
            slot.note(|notes| {
                notes.next = Some(at);
                notes.failures = renewal.failures();
            });
            next = Some(next.map_or(at, |next: i64| next.min(at)));
        }
        let wait = next.map_or(0, |at| at.saturating_sub((self.clock)()));
        Duration::from_secs(wait.max(1).unsigned_abs()).min(LOOK)
    }

    /// Asks for a certificate, keeps it and serves it; when it ends.
    async fn order(&self, acme: &Acme, slot: &Slot, keep: &Keep) -> Result<i64, OrderError> {
        let name = acme.domains.first().map(String::as_str).unwrap_or_default();
        info!(name, directory = acme.directory, challenge = %acme.challenge, "a certificate is asked for");
        let got = match self.authority.obtain(acme, keep, &self.shelf).await {
            Ok(pem) => self.usable(acme, &pem).map(|credentials| (pem, credentials)),
            Err(error) => Err(error),
        };
        match got {
            Ok((pem, credentials)) => {
                if let Err(error) = keep.store_certificate(&acme.certificate_id(), &pem) {
                    error!(name, %error, "the certificate cannot be kept: the next start asks for another one");
                }
                let until = *credentials.valid.end();
                slot.install(Arc::new(credentials));
                slot.note(|notes| notes.last_error = None);
                self.metrics.acme_renewal(true);
                info!(name, until = timestamp(until), "the certificate serves");
                Ok(until)
            }
            Err(error) => {
                let message = error.message.clone();
                match held(slot) {
                    Some(held) if held.until >= (self.clock)() => {
                        error!(
                            name,
                            error = message,
                            until = timestamp(held.until),
                            "no certificate was got, the old one serves on"
                        );
                    }
                    Some(_) => {
                        error!(name, error = message, "no certificate was got, and the old one has expired");
                    }
                    None => {
                        error!(name, error = message, "no certificate was got, and there is none to serve");
                    }
                }
                slot.note(|notes| notes.last_error = Some(message));
                self.metrics.acme_renewal(false);
                Err(error)
            }
        }
    }

    /// What was issued, if it can be served.
    fn usable(&self, acme: &Acme, pem: &[u8]) -> Result<Credentials, OrderError> {
        let credentials = credentials(pem, &acme.domains);
        let credentials = credentials.map_err(|error| {
            OrderError::refused(&format!("what the authority issued is of no use: {error}"))
        })?;
        if *credentials.valid.end() <= (self.clock)() {
            return Err(OrderError::refused(
                "what the authority issued has expired, or the clock of this machine is wrong",
            ));
        }
        Ok(credentials)
    }
}

/// Serves what another process got, and shows what it shows.
fn follow(wanted: &Wanted, keep: &Keep, shown: &Proving) {
    match of_others(keep) {
        Ok(proofs) => shown.replace(proofs),
        Err(error) => warn!(%error, "what another process shows cannot be read"),
    }
    for (acme, slot) in &wanted.certificates {
        take(acme, slot, keep);
    }
}

/// Serves the certificate that is kept, where it is another one than what serves.
fn take(acme: &Acme, slot: &Slot, keep: &Keep) {
    let name = acme.domains.first().map(String::as_str).unwrap_or_default();
    let found = match keep.certificate(&acme.certificate_id()) {
        Ok(Some(pem)) => credentials(&pem, &acme.domains),
        Ok(None) => return,
        Err(error) => {
            warn!(name, %error, "the certificate that is kept cannot be read");
            return;
        }
    };
    match found {
        Ok(found) if slot.held().is_none_or(|held| *held != found) => {
            info!(name, until = timestamp(*found.valid.end()), "the certificate that is kept serves");
            slot.install(Arc::new(found));
        }
        Ok(_) => {}
        Err(error) => warn!(name, error, "the certificate that is kept cannot be used"),
    }
}

fn held(slot: &Slot) -> Option<Held> {
    slot.held().map(|held| Held { from: *held.valid.start(), until: *held.valid.end() })
}

fn timestamp(second: i64) -> String {
    jiff::Timestamp::from_second(second).map(|time| time.to_string()).unwrap_or_default()
}

#[expect(clippy::disallowed_methods, reason = "certificates are of the wall clock")]
fn wall_clock() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
