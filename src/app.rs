//! The composition root: the only place that starts threads and wires channels. What each part does stands with it.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use tokio::runtime::LocalOptions;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::admin::{self, Ask, Pages};
use crate::config::watch::{Options as WatchOptions, Watcher};
use crate::config::{Config, model};
use crate::front::{Acceptor, Command, Socket, bind};
use crate::net::{Drain, clock};
use crate::proxy::Worker;
use crate::state::writer::{Read, StartError};
use crate::state::{Change, Current, ReloadStatus, Sockets, Status, Writer};
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
}

/// What is bound now, and the workers that serve it.
#[derive(Debug, Default)]
struct Bound {
    workers: Vec<mpsc::UnboundedSender<Command>>,
    fronts: Vec<Front>,
    pages: Vec<Page>,
    /// Listeners no longer configured, whose connections finish.
    leaving: Vec<Drain>,
}

#[derive(Debug)]
struct Front {
    settings: Arc<model::Listener>,
    address: BindAddress,
    drain: Drain,
    file: SocketFile,
}

/// The file of a Unix socket, removed when nobody listens there any more.
#[derive(Debug)]
struct SocketFile(BindAddress);

#[derive(Debug)]
struct Page {
    pages: Pages,
    bind: BindAddress,
    address: BindAddress,
    drain: Drain,
    _file: SocketFile,
}

/// Binds and serves what the writer says.
#[derive(Debug)]
struct Fronts {
    bound: Arc<Mutex<Bound>>,
    ask: Arc<Ask>,
}

/// Sockets that are bound and do not serve yet.
#[derive(Debug)]
struct Prepared {
    fronts: Vec<(Arc<model::Listener>, Vec<Socket>, BindAddress)>,
    pages: Vec<(Pages, BindAddress, Socket, BindAddress)>,
}

impl App {
    /// Starts serving the configuration at `path`, and follows its files.
    ///
    /// # Errors
    /// [`StartError`] when the configuration is refused, or something that it names cannot be had.
    pub async fn start(path: PathBuf) -> Result<Self, StartError> {
        let metrics = Metrics::new();
        let bound = Arc::new(Mutex::new(Bound::default()));
        let ready = Arc::new(AtomicBool::new(false));
        // Watching begins before the first reading: what changes in between is seen. That reading is still to come, so
        // a file written a moment ago is not one that changed since, which would be a reload of nothing.
        let ahead = wall_clock() + BEFORE_READING;
        let mut watcher = Watcher::start(vec![path.clone()], ahead, WatchOptions::default())
            .map_err(|error| StartError::Socket(format!("the configuration cannot be watched: {error}")))?;
        let mut threads = Vec::new();
        let (writer, read) = {
            let (bound, metrics, ready) = (Arc::clone(&bound), Arc::clone(&metrics), Arc::clone(&ready));
            let (started, file) = (&mut threads, path.display().to_string());
            let parts = Arc::clone(&metrics);
            Writer::start(path, metrics, move |current, status, config| {
                for number in 0..config.workers {
                    let (sender, commands) = mpsc::unbounded_channel();
                    started.push(start_worker(number, Arc::clone(current), Arc::clone(&parts), commands)?);
                    lock(&bound).workers.push(sender);
                }
                let (current, status) = (Arc::clone(current), Arc::clone(status));
                let ask = Arc::new(Ask { metrics: parts, current, status, ready, file });
                Ok(Fronts { bound, ask })
            })
            .await?
        };
        let (current, status) = (writer.current(), writer.status());
        watcher.set_paths(read.files.clone(), read.at);
        let (changes, queue) = mpsc::channel(QUEUE);
        let (announce, rewatch) = watch::channel(read);
        spawn(writer.run(queue, announce));
        spawn(follow(watcher, changes.downgrade(), rewatch));
        ready.store(true, Ordering::Relaxed);
        Ok(Self { changes, current, status, metrics, ready, bound, threads })
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
        self.changes.send(Change::Reload { origin, done: Some(done) }).await.ok()?;
        told.await.ok()
    }

    /// Takes no new work, finishes what is in flight for at most `limit`, then ends. True when all was finished.
    pub async fn shutdown(self, limit: Duration) -> bool {
        self.ready.store(false, Ordering::Relaxed);
        let Self { bound, threads, changes, current, .. } = self;
        drop(changes);
        let bound = std::mem::take(&mut *lock(&bound));
        let Bound { workers, fronts, pages, mut leaving } = bound;
        let by = Instant::now() + limit;
        leaving.extend(fronts.into_iter().map(|front| front.leave(by)));
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

impl Sockets for Fronts {
    type Prepared = Prepared;

    fn prepare(&mut self, config: &Config) -> Result<Prepared, String> {
        let bound = lock(&self.bound);
        let workers = bound.workers.len();
        let mut prepared = Prepared { fronts: Vec::new(), pages: Vec::new() };
        for (listener, front) in config.listeners.iter().zip(pair(&bound.fronts, config)) {
            if front.is_none() {
                let (sockets, address) =
                    bind::bind(&listener.bind, workers).map_err(|error| error.to_string())?;
                prepared.fronts.push((Arc::clone(listener), sockets, address));
            }
        }
        for (pages, address) in wanted_pages(config) {
            if !bound.pages.iter().any(|page| page.pages == pages && page.bind == *address) {
                let (sockets, bound_to) = bind::bind(address, 1).map_err(|error| error.to_string())?;
                if let BindAddress::Unix(path) = address {
                    // For this user alone.
                    std::fs::set_permissions(path, Permissions::from_mode(0o600))
                        .map_err(|error| format!("the rights of {address} cannot be set: {error}"))?;
                }
                let sockets = sockets.into_iter();
                prepared
                    .pages
                    .extend(sockets.map(|socket| (pages, address.clone(), socket, bound_to.clone())));
            }
        }
        Ok(prepared)
    }

    fn commit(&mut self, prepared: Prepared, config: &Arc<Config>) {
        let mut bound = lock(&self.bound);
        let Bound { workers, fronts, pages, leaving } = &mut *bound;
        let paired = pair(fronts, config);
        for (listener, front) in config.listeners.iter().zip(&paired) {
            let Some(front) = front.and_then(|index| fronts.get_mut(index)) else { continue };
            if front.settings != *listener {
                front.settings = Arc::clone(listener);
                for worker in workers.iter() {
                    let (address, listener) = (front.address.clone(), Arc::clone(listener));
                    tell(worker, Command::Update { address, listener });
                }
            }
        }
        let mut index = 0..;
        let is_unwanted = |_: &mut Front| !paired.contains(&index.next());
        for front in fronts.extract_if(.., is_unwanted) {
            info!(listener = %front.settings.name, address = %front.address, "listener drains");
            leaving.push(front.leave(Instant::now() + config.shutdown_timeout));
        }
        leaving.retain(|drain| !drain.is_finished());
        for (listener, sockets, address) in prepared.fronts {
            info!(listener = %listener.name, %address, "listening");
            let (drain, drained) = Drain::new();
            let id = self.ask.metrics.listener(listener.name.as_str());
            for (worker, socket) in workers.iter().zip(sockets) {
                let (listener, address, drained) = (Arc::clone(&listener), address.clone(), drained.clone());
                tell(worker, Command::Listen { listener, address, id, socket, drained });
            }
            let file = SocketFile(address.clone());
            fronts.push(Front { settings: listener, address, drain, file });
        }
        let wanted = wanted_pages(config);
        pages.retain(|page| wanted.iter().any(|(pages, bind)| *pages == page.pages && **bind == page.bind));
        for (kind, bind, socket, address) in prepared.pages {
            info!(pages = ?kind, %address, "listening");
            let (drain, drained) = Drain::new();
            spawn(admin::serve(socket, kind, Arc::clone(&self.ask), drained));
            let file = SocketFile(address.clone());
            pages.push(Page { pages: kind, bind, address, drain, _file: file });
        }
    }
}

/// Which front each listener of `config` has already (an index into `fronts`): the one of its name and address, else
/// one of its address that no other has. Several may say port 0, and a listener may be renamed.
fn pair(fronts: &[Front], config: &Config) -> Vec<Option<usize>> {
    let mut is_free = vec![true; fronts.len()];
    let mut claim = |is_it: &dyn Fn(&model::Listener) -> bool| {
        let mut candidates = fronts.iter().zip(&is_free);
        let index = candidates.position(|(front, is_free)| *is_free && is_it(&front.settings))?;
        is_free[index] = false;
        Some(index)
    };
    let mut paired: Vec<Option<usize>> = config
        .listeners
        .iter()
        .map(|listener| claim(&|known| known.bind == listener.bind && known.name == listener.name))
        .collect();
    for (listener, front) in config.listeners.iter().zip(&mut paired) {
        *front = front.or_else(|| claim(&|known| known.bind == listener.bind));
    }
    paired
}

impl Front {
    /// Takes no new connections, lets nothing live on beyond `by`, and tells when all have ended.
    fn leave(self, by: Instant) -> Drain {
        let Self { drain, file, .. } = self;
        // The name goes while somebody still listens: who comes next finds none and makes one of his own, and that one
        // stays.
        drop(file);
        drain.start(by);
        drain
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.drain.start(Instant::now());
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let BindAddress::Unix(path) = &self.0 {
            // Somebody may have removed it already.
            let _ = std::fs::remove_file(path);
        }
    }
}

fn wanted_pages(config: &Config) -> Vec<(Pages, &BindAddress)> {
    let admin = config.admin.iter().map(|admin| (Pages::Admin, &admin.bind));
    let telemetry = config.telemetry.iter().map(|telemetry| (Pages::Telemetry, &telemetry.bind));
    admin.chain(telemetry).collect()
}

fn tell(worker: &mpsc::UnboundedSender<Command>, command: Command) {
    if worker.send(command).is_err() {
        error!("a worker is gone; restart to have all of them");
    }
}

fn lock(bound: &Mutex<Bound>) -> MutexGuard<'_, Bound> {
    bound.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a worker thread: one current-thread runtime, its own sockets, its own upstream connections.
fn start_worker(
    number: usize,
    current: Arc<Current>,
    metrics: Arc<Metrics>,
    commands: mpsc::UnboundedReceiver<Command>,
) -> Result<JoinHandle<()>, String> {
    let cannot_start = |error: std::io::Error| format!("a worker cannot start: {error}");
    // A runtime that runs what stays on its thread is made there.
    let (made, is_made) = std::sync::mpsc::sync_channel(1);
    let thread = thread::Builder::new()
        .name(format!("weir-worker-{number}"))
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .on_thread_unpark(clock::woken)
                .build_local(LocalOptions::default());
            let runtime = match runtime {
                Ok(runtime) => runtime,
                Err(error) => {
                    // Whoever starts a worker waits for this.
                    let _ = made.send(Err(error));
                    return;
                }
            };
            let _ = made.send(Ok(()));
            runtime.block_on(async {
                let worker = Rc::new(Worker::new(current, Rc::new(metrics.worker())));
                Acceptor::new(worker).run(commands).await;
            });
        })
        .map_err(cannot_start)?;
    let made = is_made.recv().unwrap_or_else(|_| Err(std::io::ErrorKind::Other.into()));
    made.map_err(cannot_start)?;
    Ok(thread)
}

/// Hands changed files to the writer, until nobody takes changes any more.
async fn follow(mut watcher: Watcher, changes: mpsc::WeakSender<Change>, mut rewatch: watch::Receiver<Read>) {
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
        // The watcher counts the load of this change as over when it is asked for the next one.
        if changes.send(change).await.is_err() || told.await.is_err() {
            return;
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "files have times of the wall clock")]
fn wall_clock() -> SystemTime {
    SystemTime::now()
}

#[expect(clippy::disallowed_methods, reason = "the composition root starts the long-lived tasks")]
fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(task);
}
