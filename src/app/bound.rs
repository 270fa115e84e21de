//! What is bound now: listeners, the pages' addresses, and the workers that serve them. The writer says what is wanted;
//! here it is bound, told to the workers, and drained.

use std::fs::Permissions;
use std::io;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::quic::wait_for_ports;
use super::spawn;
use crate::acme;
use crate::admin::{self, Ask, Pages};
use crate::config::{Config, model};
use crate::front::handover::{Inherited, Kind, Place, Wanted, deal};
use crate::front::{BindError, Command, Secure, Socket, Tickets, bind};
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
    /// Files of Unix sockets that the former process listened on and this one does not: they go with that process.
    leftover: Vec<SocketFile>,
    /// Whether somebody asks for the UDP ports that listeners lack.
    pub(super) waits_for_ports: bool,
}

/// A listener.
#[derive(Debug)]
pub(super) struct Front {
    pub(super) settings: Arc<model::Listener>,
    pub(super) secure: Option<Arc<Secure>>,
    pub(super) address: BindAddress,
    drain: Drain,
    /// Of HTTP/3, where it is served.
    pub(super) quic: Option<Drain>,
    file: SocketFile,
    /// For a process that takes over. Those in use are the workers'.
    sockets: Vec<Socket>,
}

/// The file of a Unix socket, removed when nobody listens there any more.
#[derive(Debug)]
struct SocketFile(Option<PathBuf>);

/// An address for operators.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) pages: Pages,
    bind: BindAddress,
    pub(super) address: BindAddress,
    drain: Drain,
    file: SocketFile,
    sockets: Vec<Socket>,
}

/// Binds and serves what the writer says.
#[derive(Debug)]
pub(super) struct Fronts {
    bound: Arc<Mutex<Bound>>,
    ask: Arc<Ask>,
    inherited: Inherited,
    tickets: Tickets,
    /// Tells the keeper which certificates are wanted.
    certificates: watch::Sender<acme::Wanted>,
}

/// Sockets that are bound and do not serve yet.
#[derive(Debug)]
pub(super) struct Prepared {
    /// The TLS of every listener, in the order of the configuration.
    secure: Vec<Option<Arc<Secure>>>,
    fronts: Vec<(Arc<model::Listener>, Ready)>,
    /// UDP sockets for listeners that are there and get HTTP/3, in the order of the configuration.
    quic: Vec<Vec<UdpSocket>>,
    pages: Vec<(Pages, BindAddress, Ready)>,
    certificates: acme::Wanted,
}

/// A place and its sockets twice: to serve on, and to pass on.
#[derive(Debug)]
struct Ready {
    place: Place,
    kept: Vec<Socket>,
    /// For HTTP/3, where it is wanted and its port is free.
    datagrams: Vec<UdpSocket>,
}

impl Fronts {
    /// Nothing is bound yet; what was inherited is used where it is wanted.
    pub(super) fn new(
        bound: Arc<Mutex<Bound>>,
        ask: Arc<Ask>,
        inherited: Inherited,
        tickets: Tickets,
        certificates: watch::Sender<acme::Wanted>,
    ) -> Self {
        Self { bound, ask, inherited, tickets, certificates }
    }
}

impl Sockets for Fronts {
    type Prepared = Prepared;

    fn prepare(&mut self, config: &Config) -> Result<Prepared, String> {
        let bound = lock(&self.bound);
        let stands = &self.ask.shelf;
        let certificates = acme::Wanted::of(config, stands).map_err(|error| error.to_string())?;
        let paired = pair(&bound.fronts, config);
        let secure = config.listeners.iter().zip(&paired).map(|(listener, front)| {
            let serving = front.and_then(|index| bound.fronts[index].secure.as_ref());
            Secure::of(listener, serving, &self.tickets, stands).map_err(|error| error.to_string())
        });
        let secure = secure.collect::<Result<_, _>>()?;
        let workers = bound.workers.len();
        let quic = config.listeners.iter().zip(&paired).map(|(listener, front)| {
            match front.and_then(|index| bound.fronts.get(index)) {
                // One that waits for its port goes on waiting.
                Some(front) if listener.http3 && !front.settings.http3 => {
                    bind::bind_udp(&front.address, workers).map_err(|error| error.to_string())
                }
                _ => Ok(Vec::new()),
            }
        });
        let quic = quic.collect::<Result<_, _>>()?;
        let listeners = config.listeners.iter().zip(paired);
        let listeners: Vec<_> =
            listeners.filter(|(_, front)| front.is_none()).map(|(listener, _)| listener).collect();
        let mut pages = wanted_pages(config);
        pages.retain(|(pages, address)| {
            !bound.pages.iter().any(|page| page.pages == *pages && page.bind == **address)
        });
        let mut wanted: Vec<_> = listeners
            .iter()
            .map(|listener| Wanted {
                kind: Kind::Listener,
                name: listener.name.as_str(),
                bind: &listener.bind,
            })
            .collect();
        let with_udp: Vec<_> = listeners.iter().map(|listener| listener.http3).collect();
        wanted.extend(pages.iter().map(|(pages, bind)| {
            let kind = kind_of(*pages);
            Wanted { kind, name: name_of(kind), bind }
        }));
        let mut places = Vec::new();
        let with_udp = with_udp.into_iter().chain(std::iter::repeat(false));
        for ((place, wanted), udp) in self.inherited.claim(&wanted).into_iter().zip(&wanted).zip(with_udp) {
            let (place, datagrams) = match place {
                Some(place) => {
                    close_to_others(&place, wanted)?;
                    let datagrams = if udp { beside(&place, workers)? } else { Vec::new() };
                    (place, datagrams)
                }
                None => open(wanted, workers, udp)?,
            };
            places.push(keep(place, datagrams)?);
        }
        let mut places = places.into_iter();
        let fronts = listeners.into_iter().cloned().zip(places.by_ref()).collect();
        let pages = pages.into_iter().zip(places).map(|((pages, bind), ready)| (pages, bind.clone(), ready));
        Ok(Prepared { secure, fronts, quic, pages: pages.collect(), certificates })
    }

    fn commit(&mut self, prepared: Prepared, config: &Arc<Config>) {
        self.ask.shelf.retain(&prepared.certificates.ids());
        // An order that is under way goes on where nothing changed for it.
        self.certificates.send_if_modified(|wanted| {
            let is_other = *wanted != prepared.certificates;
            *wanted = prepared.certificates;
            is_other
        });
        let mut bound = lock(&self.bound);
        let Bound { workers, fronts, pages, leaving, leftover, waits_for_ports } = &mut *bound;
        let paired = pair(fronts, config);
        let settings = || config.listeners.iter().zip(&prepared.secure);
        for (((listener, secure), front), datagrams) in settings().zip(&paired).zip(prepared.quic) {
            let Some(front) = front.and_then(|index| fronts.get_mut(index)) else { continue };
            if !listener.http3
                && let Some(drain) = front.quic.take()
            {
                info!(listener = %listener.name, address = %front.address, "HTTP/3 drains");
                drain.start(Instant::now() + config.shutdown_timeout);
                leaving.push(drain);
            }
            if front.settings != *listener {
                front.settings = Arc::clone(listener);
                front.secure.clone_from(secure);
                for worker in workers.iter() {
                    let (address, listener) = (front.address.clone(), Arc::clone(listener));
                    tell(worker, Command::Update { address, listener, secure: secure.clone() });
                }
            }
            front.serve_http3(self.ask.metrics.listener(listener.name.as_str()), datagrams, workers);
        }
        let mut index = 0..;
        let is_unwanted = |_: &mut Front| !paired.contains(&index.next());
        for front in fronts.extract_if(.., is_unwanted) {
            info!(listener = %front.settings.name, address = %front.address, "listener drains");
            leaving.extend(front.leave(Instant::now() + config.shutdown_timeout));
        }
        leaving.retain(|drain| !drain.is_finished());
        for (listener, Ready { place, kept, datagrams }) in prepared.fronts {
            let file = SocketFile::of(&place);
            let Place { address, sockets, .. } = place;
            info!(listener = %listener.name, %address, "listening");
            let (drain, drained) = Drain::new();
            let id = self.ask.metrics.listener(listener.name.as_str());
            let secure = settings().find(|(known, _)| known.name == listener.name);
            let secure = secure.and_then(|(_, secure)| secure.clone());
            let (dealt, further) = deal(sockets, workers.len());
            for (worker, sockets) in workers.iter().zip(dealt) {
                let (listener, address, drained) = (Arc::clone(&listener), address.clone(), drained.clone());
                let secure = secure.clone();
                tell(worker, Command::Listen { listener, secure, address, id, sockets, drained });
            }
            let sockets = kept.into_iter().chain(further).collect();
            let mut front = Front { settings: listener, secure, address, drain, quic: None, file, sockets };
            front.serve_http3(id, datagrams, workers);
            fronts.push(front);
        }
        if !*waits_for_ports && fronts.iter().any(Front::lacks_http3) {
            *waits_for_ports = true;
            wait_for_ports(&self.bound, &self.ask.metrics);
        }
        let wanted = wanted_pages(config);
        pages.retain(|page| wanted.iter().any(|(pages, bind)| *pages == page.pages && **bind == page.bind));
        for (kind, bind, Ready { place, kept, .. }) in prepared.pages {
            let file = SocketFile::of(&place);
            let Place { address, sockets, .. } = place;
            info!(pages = ?kind, %address, "listening");
            let (drain, drained) = Drain::new();
            for socket in sockets {
                spawn(admin::serve(socket, kind, Arc::clone(&self.ask), drained.clone()));
            }
            pages.push(Page { pages: kind, bind, address, drain, file, sockets: kept });
        }
        forget(&mut self.inherited, leftover);
    }
}

impl Bound {
    /// Where we listen, for a process that takes over.
    ///
    /// # Errors
    /// What the system says: there may be too many files.
    pub(super) fn places(&self) -> io::Result<Vec<Place>> {
        let cloned = |sockets: &[Socket]| sockets.iter().map(Socket::try_clone).collect::<io::Result<_>>();
        let mut places = Vec::new();
        for Front { settings, address, file, sockets, .. } in &self.fronts {
            places.push(Place {
                kind: Some(Kind::Listener),
                name: settings.name.to_string(),
                bind: Some(settings.bind.clone()),
                address: address.clone(),
                owns_file: file.0.is_some(),
                sockets: cloned(sockets)?,
            });
        }
        for Page { pages, bind, address, file, sockets, .. } in &self.pages {
            let kind = kind_of(*pages);
            places.push(Place {
                kind: Some(kind),
                name: name_of(kind).to_owned(),
                bind: Some(bind.clone()),
                address: address.clone(),
                owns_file: file.0.is_some(),
                sockets: cloned(sockets)?,
            });
        }
        Ok(places)
    }

    /// Says that the former process listens nowhere any more.
    pub(super) fn take_over(&mut self) {
        self.leftover.clear();
    }

    /// Says that another process listens at all of these places: files stay, and nobody asks the pages here.
    pub(super) fn hand_over(&mut self) {
        for front in &mut self.fronts {
            front.file.leave();
        }
        for page in &mut self.pages {
            page.file.leave();
        }
        self.pages.clear();
    }
}

/// Lets go of what nobody wants of what was inherited. Whoever had it before still has it.
fn forget(inherited: &mut Inherited, leftover: &mut Vec<SocketFile>) {
    for place in inherited.take_rest() {
        let (name, address) = (&place.name, &place.address);
        if place.kind.is_some() {
            info!(name, %address, "a socket of the former process is not wanted any more");
            leftover.push(SocketFile::of(&place));
        } else {
            warn!(name, %address, "a socket of the service manager is used by no listener: none has its address as `bind` or its name (`FileDescriptorName`) as `name`");
        }
    }
}

/// A place of our own.
fn open(wanted: &Wanted<'_>, workers: usize, udp: bool) -> Result<(Place, Vec<UdpSocket>), String> {
    let Wanted { kind, name, bind } = *wanted;
    let workers = if kind == Kind::Listener { workers } else { 1 };
    let (sockets, address, datagrams) =
        bind::bind_with_udp(bind, workers, udp).map_err(|error| error.to_string())?;
    let bind = Some(bind.clone());
    let place = Place { kind: None, name: name.to_owned(), bind, address, owns_file: true, sockets };
    close_to_others(&place, wanted)?;
    Ok((Place { kind: Some(kind), ..place }, datagrams))
}

/// Lets this user alone connect to the file of a Unix socket that is to have pages, where it is our own and was no page's
/// before.
fn close_to_others(place: &Place, wanted: &Wanted<'_>) -> Result<(), String> {
    let is_page = |kind| matches!(kind, Kind::Admin | Kind::Telemetry);
    let BindAddress::Unix(path) = &place.address else { return Ok(()) };
    if !place.owns_file || !is_page(wanted.kind) || place.kind.is_some_and(is_page) {
        return Ok(());
    }
    std::fs::set_permissions(path, Permissions::from_mode(0o600))
        .map_err(|error| format!("the rights of {} cannot be set: {error}", place.address))
}

/// UDP sockets beside a place that was inherited; none while the former process has the port.
fn beside(place: &Place, workers: usize) -> Result<Vec<UdpSocket>, String> {
    match bind::bind_udp(&place.address, workers) {
        Err(BindError::UdpInUse(_)) => {
            info!(name = place.name, address = %place.address, "HTTP/3 waits until the former process has left its port");
            Ok(Vec::new())
        }
        bound => bound.map_err(|error| error.to_string()),
    }
}

fn keep(place: Place, datagrams: Vec<UdpSocket>) -> Result<Ready, String> {
    let kept = place.sockets.iter().map(Socket::try_clone).collect::<io::Result<_>>();
    let kept = kept.map_err(|error| format!("cannot listen on {}: {error}", place.address))?;
    Ok(Ready { place, kept, datagrams })
}

fn kind_of(pages: Pages) -> Kind {
    match pages {
        Pages::Admin => Kind::Admin,
        Pages::Telemetry => Kind::Telemetry,
    }
}

/// What a place is called: by the configuration, or by a service manager that opens it. A listener has a name of its own.
fn name_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Listener => "listener",
        Kind::Admin => "admin",
        Kind::Telemetry => "telemetry",
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
    pub(super) fn leave(self, by: Instant) -> impl Iterator<Item = Drain> {
        let Self { drain, quic, file, sockets, .. } = self;
        // The workers close theirs when they have emptied the queues: nobody may wait in one after that.
        drop(sockets);
        // The name goes while somebody still listens: who comes next finds none and makes one of his own, and that one
        // stays.
        drop(file);
        std::iter::once(drain).chain(quic).inspect(move |drain| drain.start(by))
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.drain.start(Instant::now());
    }
}

impl SocketFile {
    fn of(place: &Place) -> Self {
        match &place.address {
            BindAddress::Unix(path) if place.owns_file => Self(Some(path.clone())),
            _ => Self(None),
        }
    }

    /// Leaves it to somebody else.
    fn leave(&mut self) {
        self.0 = None;
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
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

pub(super) fn tell(worker: &mpsc::UnboundedSender<Command>, command: Command) {
    if worker.send(command).is_err() {
        error!("a worker is gone; restart to have all of them");
    }
}

pub(super) fn lock(bound: &Mutex<Bound>) -> MutexGuard<'_, Bound> {
    bound.lock().unwrap_or_else(PoisonError::into_inner)
}
