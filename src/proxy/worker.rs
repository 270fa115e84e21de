//! What one worker thread owns: its copy of the snapshot, its connections to upstreams, its metric cells.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::admission::Admission;
use super::identity::Identity;
use super::peer::Peer;
use super::stay::Stays;
use crate::acme::Shelf;
use crate::config::model;
use crate::net::drain::Drained;
use crate::net::{Idlers, Patience};
use crate::state::{Current, Snapshot};
use crate::telemetry;
use crate::types::Generation;
use crate::upstream::{Client, Local, Upstream};

/// What one worker thread owns.
#[derive(Debug)]
pub struct Worker {
    current: Arc<Current>,
    shelf: Arc<Shelf>,
    /// The worker's metric cells.
    pub metrics: Rc<telemetry::Worker>,
    view: RefCell<Rc<Serving>>,
    random: RefCell<fastrand::Rng>,
    /// Those who live on.
    pub stays: Rc<Stays>,
    /// Who is let in; shared by all workers.
    pub admission: Arc<Admission>,
    /// The connections of clients that wait for a next request.
    pub idlers: Rc<Idlers>,
    /// Told when a client's connection has gone, and with it a file.
    pub freed: Notify,
}

/// A snapshot and this worker's connections for it.
#[derive(Debug)]
pub struct Serving {
    /// The snapshot.
    pub snapshot: Arc<Snapshot>,
    /// The connections, in the order of [`Snapshot::upstreams`].
    pub upstreams: Vec<Rc<Local>>,
}

/// Where a request came in: known once a connection.
#[derive(Debug, Clone)]
pub struct Downstream {
    /// The listener as it was when the connection was accepted.
    pub listener: Arc<model::Listener>,
    /// The listener's label.
    pub id: telemetry::ListenerId,
    /// Who is connected, or whom a PROXY header names; a Unix socket counts as loopback.
    pub peer: Peer,
    /// Whence and whereto the connection was made, or is announced to have been; `None` where it has no addresses.
    pub client: Option<Rc<Client>>,
    /// Whether a balancer passes it on without a word of whose it is: then nobody's headers count, though `trust` names
    /// the balancer.
    pub is_anonymous: bool,
    /// Whether the connection is encrypted.
    pub secure: bool,
    /// Who it is by its certificate, which was verified.
    pub identity: Option<Rc<Identity>>,
    /// When it is to end.
    pub drained: Drained,
    /// What its responses say of other ways to the same (`alt-svc`), if there are any.
    pub alt_svc: Option<Box<str>>,
}

impl Downstream {
    /// How long the client may take to take a response, at a time and in all.
    pub fn reading(&self) -> Patience {
        let model::MinRate { response, grace, .. } = self.listener.min_rate;
        Patience::new(self.listener.idle_timeout, response, grace)
    }
}

impl Worker {
    /// A worker that serves what `current` holds, and certificates got by ACME that stand on `shelf`; `admission` says to
    /// whom.
    pub fn new(
        current: Arc<Current>,
        shelf: Arc<Shelf>,
        admission: Arc<Admission>,
        metrics: Rc<telemetry::Worker>,
    ) -> Self {
        let snapshot = current.load();
        let upstreams = snapshot
            .upstreams
            .iter()
            .map(|upstream| Rc::new(Local::new(Arc::clone(upstream), Rc::clone(&metrics))))
            .collect();
        let view = RefCell::new(Rc::new(Serving { snapshot, upstreams }));
        let random = RefCell::new(fastrand::Rng::new());
        Self {
            current,
            shelf,
            metrics,
            view,
            random,
            stays: Rc::default(),
            admission,
            idlers: Rc::default(),
            freed: Notify::new(),
        }
    }

    /// Where what serves stands.
    pub fn current(&self) -> &Arc<Current> {
        &self.current
    }

    /// Where certificates got by ACME stand.
    pub fn shelf(&self) -> &Arc<Shelf> {
        &self.shelf
    }

    /// What serves now. A request takes it once.
    pub fn serving(&self) -> Rc<Serving> {
        let seen: Generation = self.view.borrow().snapshot.generation;
        if self.current.generation() != seen {
            self.reconcile();
        }
        Rc::clone(&self.view.borrow())
    }

    /// Takes over the current snapshot; upstreams that stay keep their connections.
    fn reconcile(&self) {
        let snapshot = self.current.load();
        let former = Rc::clone(&self.view.borrow());
        for left in &snapshot.leaving {
            self.stays.watch_until(left.window.by);
        }
        let mut kept: HashMap<_, _> =
            former.upstreams.iter().map(|local| (Arc::as_ptr(local.shared()), local)).collect();
        let local = |upstream: &Arc<Upstream>| {
            kept.remove(&Arc::as_ptr(upstream)).map_or_else(
                || Rc::new(Local::new(Arc::clone(upstream), Rc::clone(&self.metrics))),
                Rc::clone,
            )
        };
        let upstreams = snapshot.upstreams.iter().map(local).collect();
        for gone in kept.values() {
            gone.retire();
        }
        self.view.replace(Rc::new(Serving { snapshot, upstreams }));
    }

    /// Closes connections to upstreams that have been idle for too long, and lets go of those no longer configured.
    pub fn close_idle(&self) {
        let now = Instant::now();
        for upstream in &self.serving().upstreams {
            upstream.close_idle(now);
        }
    }

    /// Closes all connections to upstreams that are idle: their files are needed.
    pub fn close_all_idle(&self) {
        let now = Instant::now();
        for upstream in &self.serving().upstreams {
            upstream.close_idle(now.checked_add(upstream.shared().settings.idle_timeout).unwrap_or(now));
        }
    }

    /// 64 random bits: for balancing.
    pub fn random(&self) -> u64 {
        self.random.borrow_mut().u64(..)
    }

    /// 128 random bits: for request ids and keyless draws. (Session ids come from [`secret_bits`].)
    pub fn random_wide(&self) -> u128 {
        self.random.borrow_mut().u128(..)
    }
}

/// 128 bits that nobody can guess, from the operating system: for minted session ids. Drawn rarely.
pub fn secret_bits() -> u128 {
    let mut bytes = [0u8; 16];
    match getrandom::fill(&mut bytes) {
        Ok(()) => u128::from_le_bytes(bytes),
        // Without entropy of the system, what the process has; the id is a cohort, not a credential.
        Err(_) => fastrand::u128(..),
    }
}
