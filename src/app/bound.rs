//! What is bound now: listeners, the pages' addresses, and the workers that serve them. The writer says what is wanted;
//! here it is bound, told to the workers, and drained.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{error, info};

use super::spawn;
use crate::admin::{self, Ask, Pages};
use crate::config::{Config, model};
use crate::front::{Command, Socket, bind};
use crate::net::Drain;
use crate::state::Sockets;
use crate::types::BindAddress;

/// What is bound now, and the workers that serve it.
#[derive(Debug, Default)]
pub(super) struct Bound {
    pub(super) workers: Vec<mpsc::UnboundedSender<Command>>,
    pub(super) fronts: Vec<Front>,
    pub(super) pages: Vec<Page>,
    /// Listeners no longer configured, whose connections finish.
    pub(super) leaving: Vec<Drain>,
}

/// A listener.
#[derive(Debug)]
pub(super) struct Front {
    settings: Arc<model::Listener>,
    pub(super) address: BindAddress,
    drain: Drain,
    file: SocketFile,
}

/// The file of a Unix socket, removed when nobody listens there any more.
#[derive(Debug)]
struct SocketFile(BindAddress);

/// An address for operators.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) pages: Pages,
    bind: BindAddress,
    pub(super) address: BindAddress,
    drain: Drain,
    _file: SocketFile,
}

/// Binds and serves what the writer says.
#[derive(Debug)]
pub(super) struct Fronts {
    bound: Arc<Mutex<Bound>>,
    ask: Arc<Ask>,
}

/// Sockets that are bound and do not serve yet.
#[derive(Debug)]
pub(super) struct Prepared {
    fronts: Vec<(Arc<model::Listener>, Vec<Socket>, BindAddress)>,
    pages: Vec<(Pages, BindAddress, Socket, BindAddress)>,
}

impl Fronts {
    /// Nothing is bound yet.
    pub(super) fn new(bound: Arc<Mutex<Bound>>, ask: Arc<Ask>) -> Self {
        Self { bound, ask }
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
pub(super) fn pair(fronts: &[Front], config: &Config) -> Vec<Option<usize>> {
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
    pub(super) fn leave(self, by: Instant) -> Drain {
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

pub(super) fn lock(bound: &Mutex<Bound>) -> MutexGuard<'_, Bound> {
    bound.lock().unwrap_or_else(PoisonError::into_inner)
}
