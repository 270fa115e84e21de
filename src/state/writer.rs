//! The one who swaps. Changes stand in one queue, so that none loses another's update; each is loaded, built and bound
//! first, and only then swapped in.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, oneshot, watch};
use tracing::{error, info, warn};

use super::build::{build, weights};
use super::health::{begin_checks, retire, stay};
use super::snapshot::{Current, Snapshot};
use super::status::{ReloadError, ReloadStatus, Status};
use crate::config::diagnostic::{Diagnostic, Severity};
use crate::config::{self, Config};
use crate::telemetry::{AccessLog, Metrics};
use crate::upstream::{resolve, upkeep};

/// A change of what serves.
#[derive(Debug)]
pub enum Change {
    /// The files are to be read again.
    Reload {
        /// Who wants it, for the log: `file`, `signal`, ….
        origin: &'static str,
        /// Told what it came to.
        done: Option<oneshot::Sender<ReloadStatus>>,
    },
    /// Nothing is to change for a while: another process takes over what is bound now.
    Hold {
        /// Told when what was under way has ended.
        held: oneshot::Sender<()>,
        /// The end of it: said, or the other end is dropped.
        over: oneshot::Receiver<()>,
    },
}

/// The sockets that a configuration needs. What can fail fails in `prepare`; `commit` cannot.
pub trait Sockets: Send {
    /// Sockets that are bound but do not serve yet.
    type Prepared: Send;

    /// Binds what `config` needs and is not bound yet.
    ///
    /// # Errors
    /// A sentence that names the address and the remedy.
    fn prepare(&mut self, config: &Config) -> Result<Self::Prepared, String>;

    /// Begins to serve on the new sockets and drains those no longer wanted.
    fn commit(&mut self, prepared: Self::Prepared, config: &Arc<Config>);
}

/// The writer: owns the path of the configuration and everything that a change needs.
#[derive(Debug)]
pub struct Writer<S> {
    path: PathBuf,
    current: Arc<Current>,
    status: Arc<Status>,
    metrics: Arc<Metrics>,
    sockets: S,
}

/// What a start could not do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is refused; its errors are rendered for a person.
    #[error("the configuration is refused")]
    Refused(Box<config::Rejected>),
    /// A valid configuration cannot be served.
    #[error(transparent)]
    Build(#[from] super::build::BuildError),
    /// A socket cannot be bound.
    #[error("{0}")]
    Socket(String),
}

/// The files that a configuration was read from, and when that reading began.
#[derive(Debug, Clone)]
pub struct Read {
    /// The files, those of a refused configuration too: a change of one of them may be the repair.
    pub files: Vec<PathBuf>,
    /// When the reading began.
    pub at: SystemTime,
}

impl<S: Sockets> Writer<S> {
    /// Loads, builds and binds for the first time; `sockets` is asked once there is something to serve.
    ///
    /// # Errors
    /// [`StartError`]; nothing serves then.
    pub async fn start(
        path: PathBuf,
        metrics: Arc<Metrics>,
        sockets: impl FnOnce(&Arc<Current>, &Arc<Status>, &Config) -> Result<S, String>,
    ) -> Result<(Self, Read), StartError> {
        let at = wall_clock();
        let accepted =
            load(path.clone()).await.map_err(|rejected| StartError::Refused(Box::new(rejected)))?;
        for warning in &accepted.warnings {
            warn_of(warning);
        }
        let snapshot = build(Arc::clone(&accepted.config), None, &metrics).await?;
        begin_checks(&snapshot, None, &metrics).await;
        attend(&snapshot, None);
        let now = wall_clock();
        let status = Arc::new(Status::new(ReloadStatus {
            at: now,
            generation: snapshot.generation,
            hash: accepted.hash.clone(),
            errors: Vec::new(),
        }));
        metrics.reload_succeeded(snapshot.generation, &accepted.hash, now);
        metrics.set_weights(weights(&accepted.config));
        let current = Arc::new(Current::new(snapshot));
        let mut sockets = sockets(&current, &status, &accepted.config).map_err(StartError::Socket)?;
        let prepared = sockets.prepare(&accepted.config).map_err(StartError::Socket)?;
        sockets.commit(prepared, &accepted.config);
        Ok((Self { path, current, status, metrics, sockets }, Read { files: accepted.files, at }))
    }

    /// The current snapshot's place.
    pub fn current(&self) -> Arc<Current> {
        Arc::clone(&self.current)
    }

    /// What the last change came to.
    pub fn status(&self) -> Arc<Status> {
        Arc::clone(&self.status)
    }

    /// Does every change of the queue, in order, until the queue closes. After each, `watched` tells which files
    /// matter now.
    pub async fn run(mut self, mut changes: mpsc::Receiver<Change>, watched: watch::Sender<Read>) {
        while let Some(change) = changes.recv().await {
            match change {
                Change::Reload { origin, done } => {
                    let at = wall_clock();
                    let files = self.reload(origin).await;
                    watched.send_replace(Read { files, at });
                    if let Some(done) = done {
                        // Who asked may be gone; the change has been done all the same.
                        let _ = done.send(self.status.last());
                    }
                }
                Change::Hold { held, over } => {
                    // Either end may be gone: then there is nothing to wait for.
                    let _ = held.send(());
                    let _ = over.await;
                }
            }
        }
    }

    async fn reload(&mut self, origin: &'static str) -> Vec<PathBuf> {
        // Who rotates logs sends a signal, and must not have to care for the configuration.
        if let (Some(log), "signal") = (&self.current.load().access_log, origin) {
            log.reopen();
        }
        let started = tokio::time::Instant::now();
        let accepted = match load(self.path.clone()).await {
            Ok(accepted) => accepted,
            Err(rejected) => {
                let errors: Vec<ReloadError> = rejected
                    .diagnostics
                    .iter()
                    .filter(|diagnostic| diagnostic.severity == Severity::Error)
                    .map(describe)
                    .collect();
                self.refuse(origin, errors);
                return rejected.files;
            }
        };
        for warning in &accepted.warnings {
            warn_of(warning);
        }
        let former = self.current.load();
        let snapshot = match build(Arc::clone(&accepted.config), Some(&former), &self.metrics).await {
            Ok(snapshot) => snapshot,
            Err(failed) => {
                let message = chain(&failed);
                stay(&former);
                self.refuse(origin, vec![plain("build", message)]);
                return accepted.files;
            }
        };
        begin_checks(&snapshot, Some(&former), &self.metrics).await;
        let prepared = match self.sockets.prepare(&accepted.config) {
            Ok(prepared) => prepared,
            Err(message) => {
                stay(&former);
                self.refuse(origin, vec![plain("bind", message)]);
                return accepted.files;
            }
        };
        let generation = snapshot.generation;
        attend(&snapshot, Some(&former));
        let changes = config::diff::diff(&former.config, &accepted.config);
        retire_log(&former, &snapshot);
        retire(&former, &snapshot);
        self.current.store(Arc::new(snapshot));
        self.sockets.commit(prepared, &accepted.config);
        let now = wall_clock();
        self.metrics.reload_succeeded(generation, &accepted.hash, now);
        self.metrics.set_weights(weights(&accepted.config));
        self.status.set(ReloadStatus { at: now, generation, hash: accepted.hash, errors: Vec::new() });
        if former.config.workers != accepted.config.workers {
            warn!(workers = accepted.config.workers, "the number of workers changes at the next start");
        }
        let elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        info!(%generation, origin, elapsed_ms, changes = %changes, "configuration applied");
        accepted.files
    }

    /// The old generation goes on; the error shows in log, metric and status.
    fn refuse(&self, origin: &'static str, mut errors: Vec<ReloadError>) {
        if errors.is_empty() {
            errors.push(plain("internal", "reading the configuration failed".to_owned()));
        }
        let now = wall_clock();
        for one in &errors {
            error!(
                origin,
                code = one.code,
                file = one.file.as_deref(),
                line = one.line,
                column = one.column,
                "configuration refused, the former one goes on serving: {}",
                one.message
            );
        }
        self.metrics.reload_failed(now);
        let last = self.status.last();
        self.status.set(ReloadStatus { at: now, errors, ..last });
    }
}

/// Reads the files off the control thread.
async fn load(path: PathBuf) -> Result<config::Accepted, config::Rejected> {
    let reading = path.clone();
    match tokio::task::spawn_blocking(move || config::load(&reading)).await {
        Ok(loaded) => loaded,
        Err(panicked) => {
            error!(error = %panicked, "reading the configuration failed");
            Err(config::Rejected { diagnostics: Vec::new(), errors: 0, files: vec![path] })
        }
    }
}

/// How often a log that was replaced is looked at: whether requests of a former snapshot may still write to it.
const LOG_LOOK: Duration = Duration::from_secs(1);

/// Closes the access log of `former` where `snapshot` has another: later, for requests still write to it, and here, for
/// flushing may wait and a worker may not.
#[expect(clippy::disallowed_methods, reason = "the named worker of a closing log; it ends by itself")]
fn retire_log(former: &Snapshot, snapshot: &Snapshot) {
    let Some(log) = former.access_log.clone() else { return };
    if snapshot.access_log.as_ref().is_none_or(|kept| !Arc::ptr_eq(kept, &log)) {
        tokio::spawn(close_unheld(log));
    }
}

/// Closes `log` once nobody else holds it.
async fn close_unheld(log: Arc<AccessLog>) {
    while Arc::strong_count(&log) > 1 {
        tokio::time::sleep(LOG_LOOK).await;
    }
    // Cancelled only at the end of the process, which drops the log.
    let _ = tokio::task::spawn_blocking(move || log.close()).await;
}

/// Looks after new upstreams as long as they live: that their names stay resolved, and their endpoints come back.
#[expect(clippy::disallowed_methods, reason = "the named workers of upstreams; they end with theirs")]
fn attend(snapshot: &Snapshot, former: Option<&Snapshot>) {
    for upstream in &snapshot.upstreams {
        let known =
            former.is_some_and(|former| former.upstreams.iter().any(|old| Arc::ptr_eq(old, upstream)));
        if known {
            continue;
        }
        upstream.settle();
        tokio::spawn(upkeep::watch_over(Arc::downgrade(upstream)));
        if upstream.has_names() {
            tokio::spawn(resolve::keep_fresh(Arc::downgrade(upstream)));
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the time of a reload is shown to people")]
fn wall_clock() -> SystemTime {
    SystemTime::now()
}

fn plain(code: &str, message: String) -> ReloadError {
    ReloadError { code: code.to_owned(), message, file: None, line: None, column: None }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

fn warn_of(warning: &Diagnostic) {
    let place = warning.place.as_ref();
    warn!(
        code = %warning.code,
        file = place.map(|place| place.file.display().to_string()),
        line = place.map(|place| place.line),
        "{}",
        warning.message
    );
}

fn describe(error: &Diagnostic) -> ReloadError {
    let place = error.place.as_ref();
    ReloadError {
        code: error.code.to_string(),
        message: error.message.clone(),
        file: place.map(|place| place.file.display().to_string()),
        line: place.map(|place| place.line),
        column: place.map(|place| place.column),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Sink;

    #[tokio::test(start_paused = true)]
    #[expect(clippy::disallowed_methods, reason = "the test drives the task itself")]
    async fn log_that_was_replaced_stays_open_while_a_request_holds_it() {
        let folder = tempfile::tempdir().unwrap();
        let sink = Sink::File(folder.path().join("access.log"));
        let log = Arc::new(AccessLog::open(sink, false, Metrics::new()).unwrap());
        let closing = tokio::spawn(close_unheld(Arc::clone(&log)));
        tokio::time::sleep(Duration::from_hours(1)).await;
        assert!(!closing.is_finished());
        drop(log);
        closing.await.unwrap();
    }
}
