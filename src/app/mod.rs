//! The composition root: the only place that starts threads and wires channels. What each part does stands with it.
//!
//! Reading order: this file ([`App`]), `bound` (listeners and pages), `quic` (their HTTP/3), `worker` (a worker's thread), [`upgrade`] (a new
//! process in place of this one; [`outcome`]: who asked for it hears what it came to), [`service`] (what the service manager
//! is told).

mod bound;
pub mod outcome;
mod quic;
pub mod service;
pub mod upgrade;
mod worker;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use bound::{Bound, Fronts, lock, pair};
use service::Service;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tracing::{info, warn};
use upgrade::{Launch, Successor, UpgradeError};

use crate::acme::{Client, Keeper, Shelf, Wanted};
use crate::admin::{Ask, Pages};
use crate::config::watch::{Options as WatchOptions, Watcher};
use crate::front::Tickets;
use crate::front::handover::Inherited;
use crate::proxy::Admission;
use crate::state::writer::{Read, StartError};
use crate::state::{Change, Current, ReloadStatus, Status, Writer};
use crate::telemetry::Metrics;
use crate::types::BindAddress;

/// How far ahead of the watcher's first look the first reading is taken to be: more than a file's time may be off.
const BEFORE_READING: Duration = Duration::from_secs(1);

/// How many changes may wait.
const QUEUE: usize = 16;

/// A proxy that serves. Dropping it ends it at once; [`App::shutdown`] ends it in order.
#[derive(Debug)]
pub struct App {
    changes: mpsc::Sender<Change>,
    current: Arc<Current>,
    status: Arc<Status>,
    metrics: Arc<Metrics>,
    ready: Arc<AtomicBool>,
    bound: Arc<Mutex<Bound>>,
    threads: Vec<JoinHandle<()>>,
    service: Service,
}

/// A new process that serves; while this is held, nothing of what it has taken over changes.
#[derive(Debug)]
pub struct Upgraded {
    successor: Successor,
    _hold: oneshot::Sender<()>,
}

impl App {
    /// Starts serving the configuration at `path`, and follows its files.
    ///
    /// # Errors
    /// [`StartError`] when the configuration is refused, or something that it names cannot be had.
    pub async fn start(path: PathBuf) -> Result<Self, StartError> {
        Self::start_with(path, Inherited::default(), Service::nobody()).await
    }

    /// Starts as [`App::start`], on sockets that were `inherited` where the configuration wants them, and tells
    /// `service` of its reloads.
    ///
    /// # Errors
    /// [`StartError`] when the configuration is refused, or something that it names cannot be had.
    pub async fn start_with(
        path: PathBuf,
        inherited: Inherited,
        service: Service,
    ) -> Result<Self, StartError> {
        let metrics = Metrics::new();
        let bound = Arc::new(Mutex::new(Bound::default()));
        let ready = Arc::new(AtomicBool::new(false));
        // Watching begins before the first reading: what changes in between is seen. That reading is still to come, so
        // a file written a moment ago is not one that changed since, which would be a reload of nothing.
        let ahead = wall_clock() + BEFORE_READING;
        let mut watcher = Watcher::start(vec![path.clone()], ahead, WatchOptions::default())
            .map_err(|error| StartError::Socket(format!("the configuration cannot be watched: {error}")))?;
        let mut threads = Vec::new();
        let shelf = Arc::<Shelf>::default();
        let (wanted, wants) = watch::channel(Wanted::default());
        let keeper = Keeper::new(Client, Arc::clone(&shelf), Arc::clone(&metrics));
        let (writer, read) = {
            let (bound, metrics, ready) = (Arc::clone(&bound), Arc::clone(&metrics), Arc::clone(&ready));
            let (started, file) = (&mut threads, path.display().to_string());
            let parts = Arc::clone(&metrics);
            let admission = Arc::new(Admission::new(open_files()));
            Writer::start(path, metrics, move |current, status, config| {
                for number in 0..config.workers {
                    let (sender, commands) = mpsc::unbounded_channel();
                    let (current, shelf) = (Arc::clone(current), Arc::clone(&shelf));
                    started.push(worker::start(
                        number,
                        current,
                        shelf,
                        Arc::clone(&admission),
                        Arc::clone(&parts),
                        commands,
                    )?);
                    lock(&bound).workers.push(sender);
                }
                let (current, status) = (Arc::clone(current), Arc::clone(status));
                let started = wall_clock();
                let ask = Arc::new(Ask { metrics: parts, current, status, ready, file, started, shelf });
                let tickets = Tickets::new().map_err(|error| format!("TLS cannot be served: {error}"))?;
                Ok(Fronts::new(bound, ask, inherited, tickets, wanted))
            })
            .await?
        };
        let (current, status) = (writer.current(), writer.status());
        let asked = Arc::downgrade(&current);
        metrics.ask_endpoints(move || {
            asked.upgrade().map(|current| current.load().endpoints()).unwrap_or_default()
        });
        watcher.set_paths(read.files.clone(), read.at);
        let (changes, queue) = mpsc::channel(QUEUE);
        let (announce, rewatch) = watch::channel(read);
        spawn(writer.run(queue, announce));
        spawn(keeper.run(wants));
        spawn(follow(watcher, changes.downgrade(), rewatch, service));
        ready.store(true, Ordering::Relaxed);
        Ok(Self { changes, current, status, metrics, ready, bound, threads, service })
    }

    /// Where each listener listens, in file order, with the port that the kernel chose.
    pub fn addresses(&self) -> Vec<BindAddress> {
        let snapshot = self.current.load();
        let bound = lock(&self.bound);
        let paired = pair(&bound.fronts, &snapshot.config);
        paired.into_iter().flatten().map(|index| bound.fronts[index].address.clone()).collect()
    }

    /// Where the admin pages are, if anywhere.
    pub fn admin_address(&self) -> Option<BindAddress> {
        self.page_address(Pages::Admin)
    }

    /// Where the pages for scrapers and probes are, if they have an address of their own.
    pub fn telemetry_address(&self) -> Option<BindAddress> {
        self.page_address(Pages::Telemetry)
    }

    fn page_address(&self, pages: Pages) -> Option<BindAddress> {
        let bound = lock(&self.bound);
        bound.pages.iter().find(|page| page.pages == pages).map(|page| page.address.clone())
    }

    /// What serves.
    pub fn current(&self) -> &Arc<Current> {
        &self.current
    }

    /// What the last change came to.
    pub fn status(&self) -> &Arc<Status> {
        &self.status
    }

    /// The metrics.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Reads the files again and tells what it came to; `None` when the proxy is ending.
    pub async fn reload(&self, origin: &'static str) -> Option<ReloadStatus> {
        let (done, told) = oneshot::channel();
        self.service.reloading();
        self.changes.send(Change::Reload { origin, done: Some(done) }).await.ok()?;
        let status = told.await.ok()?;
        self.service.ready(&status);
        Some(status)
    }

    /// Says that the process before this one takes no more: what it had is this one's.
    pub fn take_over(&self) {
        lock(&self.bound).take_over();
    }

    /// Starts a new process that takes over what is bound, and waits until it serves, at most for `limit`. Changes of
    /// the configuration wait meanwhile: the new process reads it anew, and the two must not be at odds.
    ///
    /// # Errors
    /// [`UpgradeError`]; nothing has changed then.
    pub async fn upgrade(&self, launch: &Launch, limit: Duration) -> Result<Upgraded, UpgradeError> {
        let (held, stands) = oneshot::channel();
        let (ours, over) = oneshot::channel();
        let asking = async {
            let asked = self.changes.send(Change::Hold { held, over }).await;
            asked.is_ok() && stands.await.is_ok()
        };
        match tokio::time::timeout(limit, asking).await {
            Ok(true) => {}
            Ok(false) => return Err(UpgradeError::Ending),
            Err(_) => return Err(UpgradeError::Busy(limit)),
        }
        self.service.status("a new process starts");
        let places = lock(&self.bound).places();
        let started = match places {
            Ok(places) => upgrade::start(launch, places, limit).await,
            Err(error) => Err(error.into()),
        };
        match started {
            Ok(successor) => Ok(Upgraded { successor, _hold: ours }),
            Err(error) => {
                self.service.status("serving; the last upgrade failed, see the log");
                Err(error)
            }
        }
    }

    /// Lets the new process have everything, finishes what is in flight for at most `limit`, then ends. True when all
    /// was finished.
    pub async fn hand_over(self, upgraded: Upgraded, limit: Duration) -> bool {
        // First of all: from now on it is not this process that has the files of sockets.
        lock(&self.bound).hand_over();
        // Then the service manager: the new process will tell it that it serves, and must be known.
        self.service.hands_over(upgraded.pid());
        upgraded.successor.take_over();
        self.end(limit).await
    }

    /// Takes no new work, finishes what is in flight for at most `limit`, then ends. True when all was finished.
    pub async fn shutdown(self, limit: Duration) -> bool {
        self.service.stopping();
        self.end(limit).await
    }

    async fn end(self, limit: Duration) -> bool {
        self.ready.store(false, Ordering::Relaxed);
        let Self { bound, threads, changes, current, .. } = self;
        drop(changes);
        let bound = std::mem::take(&mut *lock(&bound));
        let Bound { workers, fronts, pages, mut leaving, .. } = bound;
        let by = Instant::now() + limit;
        leaving.extend(fronts.into_iter().flat_map(|front| front.leave(by)));
        let finishing = async {
            for drain in &leaving {
                drain.finished().await;
            }
        };
        let finished = tokio::time::timeout(limit, finishing).await.is_ok();
        // A worker ends when nobody can command it any more, and drops what is left.
        drop((workers, pages));
        let log = current.load().access_log.clone();
        let joining = tokio::task::spawn_blocking(move || {
            for thread in threads {
                // A panic of a worker has been logged where it happened.
                drop(thread.join());
            }
            // After the last request: its line is written too.
            if let Some(log) = log {
                log.close();
            }
        });
        if joining.await.is_err() {
            warn!("a worker ended badly");
        }
        finished
    }
}

impl Upgraded {
    /// The id of the new process.
    pub fn pid(&self) -> u32 {
        self.successor.pid()
    }
}

/// Hands changed files to the writer, until nobody takes changes any more.
async fn follow(
    mut watcher: Watcher,
    changes: mpsc::WeakSender<Change>,
    mut rewatch: watch::Receiver<Read>,
    service: Service,
) {
    loop {
        let found = tokio::select! {
            found = watcher.changed() => found,
            read = rewatch.changed() => {
                if read.is_err() {
                    return;
                }
                let Read { files, at } = rewatch.borrow_and_update().clone();
                watcher.set_paths(files, at);
                continue;
            }
        };
        let Some(changes) = changes.upgrade() else { return };
        info!(files = ?found.files, found = ?found.found, "configuration files changed");
        let (done, told) = oneshot::channel();
        let change = Change::Reload { origin: "file", done: Some(done) };
        service.reloading();
        if changes.send(change).await.is_err() {
            return;
        }
        // Not held while it waits: whoever ends the proxy drops the last sender.
        drop(changes);
        // The watcher counts the load of this change as over when it is asked for the next one.
        let Ok(status) = told.await else { return };
        service.ready(&status);
    }
}

/// How many files this process may have open; `None` is as many as it likes.
fn open_files() -> Option<usize> {
    use rustix::process::{Resource, getrlimit};
    getrlimit(Resource::Nofile).current.and_then(|limit| usize::try_from(limit).ok())
}

#[expect(clippy::disallowed_methods, reason = "files have times of the wall clock")]
fn wall_clock() -> SystemTime {
    SystemTime::now()
}

#[expect(clippy::disallowed_methods, reason = "the composition root starts the long-lived tasks")]
fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(task);
}
