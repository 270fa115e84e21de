//! Endpoints and the connections to them.
//!
//! An [`Upstream`] is shared by all workers and lives as long as its identity is unchanged over reloads; each worker
//! has its own connections to it ([`local::Local`]), so that a request touches no lock and no foreign cache line.
//!
//! Reading order: [`Upstream`], [`admission`] (how many requests it has at a time), [`slots`] (how many connections), [`resolve`] (names to addresses), [`vitals`] (the health of endpoints, shared by all workers),
//! [`upkeep`] (what brings them back), [`probe`] (they are asked whether they are well), [`local`] (a worker's view:
//! endpoints and pools), `choice` (which one takes a request),
//! [`exchange`] (a request under way), [`client`] (whom a connection is made for, where that is told), [`connect`],
//! [`handshake`] and [`tls`] (what it is made with), [`outgoing`] (a request's head as an endpoint is to get it),
//! [`http1`], [`http2`] (`keepalive`: is it still there; [`streaming`]: bodies on their way out), `http3` (bodies of clients that speak it),
//! [`inbound`] (bodies that stream in), [`interim`] (1xx responses), [`upload`] (the request body on its way; `expect` holds it back, `kept` is for the next attempt),
//! [`tunnel`] (what is no longer HTTP).
//! Which variant or route a request has is not known here.

pub mod admission;
mod choice;
pub mod client;
pub mod connect;
pub mod exchange;
mod expect;
pub mod handshake;
pub mod http1;
pub mod http2;
#[cfg(feature = "http3")]
pub mod http3;
pub mod inbound;
pub mod interim;
mod keepalive;
mod kept;
pub mod local;
pub mod outgoing;
pub mod probe;
mod reach;
pub mod resolve;
pub mod slots;
pub mod streaming;
pub mod tls;
pub mod tunnel;
pub mod upkeep;
pub mod upload;
pub mod vitals;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use crate::config::model;
use crate::logic::balance::{Event, Health, health};
use crate::telemetry::{Metrics, UpstreamId};
use crate::types::EndpointAddress;

pub use admission::{Admission, Overloaded, Permit};
pub use choice::{Needs, Wish};
pub use client::Client;
pub use exchange::{Exchange, SendError, SendErrorKind};
pub use inbound::{Inbound, InboundError};
pub use interim::Interim;
pub use local::{Caller, Local};
pub use outgoing::Outgoing;
pub use slots::{Slot, Slots};
pub use tunnel::{Sink, Upgrade};
pub use upload::{Replay, Upload, UploadFailure, UploadState};
pub use vitals::{Vitals, Ward};

/// Where to connect: a resolved address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// A TCP address.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

/// One endpoint after resolution; a name with several addresses makes several.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Resolved {
    /// Where to connect.
    pub address: Address,
    /// What the configuration calls it, for logs and for the `{endpoint}` host.
    pub configured: EndpointAddress,
}

/// An upstream: its settings and its endpoints as last resolved. Shared by all workers.
#[derive(Debug)]
pub struct Upstream {
    /// The settings, the identity of this upstream.
    pub settings: Arc<model::Upstream>,
    /// The interned name, for metrics.
    pub id: UpstreamId,
    /// What TLS to its endpoints is made with, where some speak it.
    tls: Option<Arc<ClientConfig>>,
    endpoints: ArcSwap<Vec<Resolved>>,
    /// The same by hash, where that is how requests are spread.
    by_hash: ArcSwapOption<choice::ByHash>,
    version: AtomicU64,
    reach: reach::Reach,
    /// Who comes in, where that is limited.
    pub admission: Option<Arc<Admission>>,
    /// The connections that it may have; `None` where they are not limited.
    slots: Option<Arc<Slots>>,
    /// What is known of the endpoints' health.
    ward: Arc<Ward>,
    /// Whether it serves: the ward is another's before, and after.
    is_settled: AtomicBool,
    /// What the checks of the endpoints have come to, where there are some.
    pub verdicts: Option<probe::Verdicts>,
}

impl Upstream {
    /// An upstream with these settings; addresses that need no resolution are endpoints at once. What is known of the
    /// health of endpoints is taken over from the `former` one of the same name.
    ///
    /// # Errors
    /// [`tls::TlsSetupError`] where TLS is to be spoken and cannot be.
    pub fn new(
        settings: Arc<model::Upstream>,
        metrics: &Arc<Metrics>,
        former: Option<&Self>,
    ) -> Result<Self, tls::TlsSetupError> {
        let literal: Vec<_> = addresses(&settings).filter_map(resolve::literal).collect();
        let id = metrics.upstream(settings.name.as_str());
        let ward = match former {
            Some(former) => Arc::clone(&former.ward),
            None => Arc::new(Ward::new(settings.name.as_str(), metrics)),
        };
        let tls = settings.tls.as_ref().map(|tls| tls::client(tls, settings.protocol)).transpose()?;
        let crowd = || metrics.crowd(settings.name.as_str());
        let limits_requests = |limits: &model::UpstreamLimits| limits.requests.is_some() || limits.adaptive;
        let admission = settings.limits.clone().filter(limits_requests);
        let admission = admission.map(|limits| Admission::new(limits, crowd()));
        let slots = settings.limits.as_ref();
        let slots = slots.and_then(|limits| Some(Slots::new(limits.connections?, limits.pending_timeout)));
        let verdicts = settings.health.is_some().then(probe::Verdicts::default);
        let upstream = Self {
            admission,
            slots,
            verdicts,
            settings,
            id,
            tls,
            endpoints: ArcSwap::from_pointee(Vec::new()),
            by_hash: ArcSwapOption::empty(),
            version: AtomicU64::new(1),
            reach: reach::Reach::default(),
            ward,
            is_settled: AtomicBool::new(false),
        };
        upstream.admit(&literal, former.is_some());
        upstream.store(literal);
        Ok(upstream)
    }

    /// Makes `endpoints` known to the ward. Those that are new where others serve already begin slowly; where their first
    /// check is waited for, not before it passes.
    fn admit(&self, endpoints: &[Resolved], others_serve: bool) {
        for endpoint in endpoints.iter().filter(|endpoint| self.ward.find(endpoint).is_none()) {
            let waits = self.settings.health.as_ref().is_some_and(|health| health.wait);
            let vitals = self.ward.admit(endpoint, if waits { Health::unchecked } else { Health::new });
            if others_serve && self.settings.slow_start.is_some() {
                vitals.tell(Event::Joined, &self.settings.ejection, true, tokio::time::Instant::now());
            }
        }
    }

    /// Says that it serves from now on: the ward forgets whom it does not have, and hears what the checks have come to.
    pub fn settle(&self) {
        self.is_settled.store(true, Ordering::Relaxed);
        // The former one may have forgotten some meanwhile, with a list of its own.
        self.admit(&self.endpoints(), true);
        self.ward.retain(&self.endpoints());
        probe::tell_all(self);
    }

    /// Says that it serves no more: the ward is another's, and nobody is asked for its sake. Requests that are under way
    /// may hold it for long.
    pub fn retire(&self) {
        self.is_settled.store(false, Ordering::Relaxed);
        if let Some(verdicts) = &self.verdicts {
            verdicts.end();
        }
    }

    /// Whether it serves.
    fn is_settled(&self) -> bool {
        self.is_settled.load(Ordering::Relaxed)
    }

    /// What is known of the endpoints' health.
    pub fn ward(&self) -> &Arc<Ward> {
        &self.ward
    }

    /// The health of `endpoint`, which is in the list or was.
    pub fn vitals(&self, endpoint: &Resolved) -> Arc<Vitals> {
        self.ward.admit(endpoint, Health::new)
    }

    /// The part of each configured address's endpoints that gets requests, from 0 to 1.
    pub fn healthy(&self) -> Vec<(&EndpointAddress, f64)> {
        let endpoints = self.endpoints();
        let part = |address: &EndpointAddress| {
            let those = endpoints.iter().filter(|endpoint| endpoint.configured == *address);
            let passes = |endpoint: &Resolved| {
                let vitals = self.ward.find(endpoint);
                vitals.is_none_or(|vitals| vitals.health().state() == health::State::Passing)
            };
            let (all, passing) = those.fold((0_u32, 0_u32), |(all, passing), endpoint| {
                (all + 1, passing + u32::from(passes(endpoint)))
            });
            if all == 0 { 0.0 } else { f64::from(passing) / f64::from(all) }
        };
        addresses(&self.settings).map(|address| (address, part(address))).collect()
    }

    /// Whether endpoints are used though they are out, for too many are.
    pub fn is_in_panic(&self) -> bool {
        let endpoints = self.endpoints();
        let cause = |endpoint: &Resolved| self.ward.find(endpoint)?.health().cause();
        !self.ward.is_plain() && health::is_panic(endpoints.iter().map(cause), &self.settings.ejection)
    }

    /// How TLS is made with the endpoint of this configured address, where it is.
    fn handshake(&self, endpoint: &EndpointAddress) -> Option<handshake::Handshake> {
        let config = self.tls.as_ref().filter(|_| endpoint.is_tls())?;
        let EndpointAddress::Tcp { host, .. } = endpoint else { return None };
        let settings = self.settings.tls.as_ref()?;
        let named = settings.server_name.clone();
        // A valid configuration has no endpoint whose host is no name.
        let server_name = named.or_else(|| ServerName::try_from(host.clone()).ok())?;
        Some(handshake::Handshake::new(Arc::clone(config), server_name))
    }

    /// The number of the current list of endpoints; it changes when the list does.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The endpoints as last resolved, in the order of the file.
    pub fn endpoints(&self) -> Arc<Vec<Resolved>> {
        self.endpoints.load_full()
    }

    /// Whether the last connect to the endpoint of this configured address failed.
    pub fn is_away(&self, endpoint: &EndpointAddress) -> bool {
        self.reach.is_away(&endpoint.to_string())
    }

    /// Whether some endpoint is a name, so that it must be resolved and refreshed.
    pub fn has_names(&self) -> bool {
        addresses(&self.settings).any(|address| resolve::literal(address).is_none())
    }

    /// Whether every configured address has an endpoint.
    pub fn is_complete(&self) -> bool {
        let endpoints = self.endpoints.load();
        let has =
            |address: &EndpointAddress| endpoints.iter().any(|resolved| resolved.configured == *address);
        addresses(&self.settings).all(has)
    }

    /// The endpoints by hash, where that is how requests are spread.
    fn by_hash(&self) -> Option<Arc<choice::ByHash>> {
        self.by_hash.load_full()
    }

    fn store(&self, endpoints: Vec<Resolved>) {
        let endpoints = Arc::new(endpoints);
        self.by_hash.store(choice::ByHash::of(&self.settings, &endpoints));
        self.endpoints.store(endpoints);
    }

    /// Replaces the endpoints when they differ; true if they did.
    pub fn update(&self, endpoints: Vec<Resolved>) -> bool {
        if **self.endpoints.load() == endpoints {
            return false;
        }
        self.admit(&endpoints, !self.endpoints.load().is_empty());
        if self.is_settled() {
            self.ward.retain(&endpoints);
        }
        self.store(endpoints);
        self.version.fetch_add(1, Ordering::Release);
        if let Some(verdicts) = &self.verdicts {
            verdicts.list_changed();
        }
        true
    }
}

/// The configured addresses, in the order of the file.
fn addresses(settings: &model::Upstream) -> impl Iterator<Item = &EndpointAddress> {
    settings.endpoints.iter().map(|endpoint| &endpoint.address)
}

/// Runs the driver of a connection or a stream on this worker. It ends by itself: when its connection closes.
#[expect(clippy::disallowed_methods, reason = "this is the named worker of upstream connections")]
fn drive(driver: impl Future<Output = ()> + 'static) {
    tokio::task::spawn_local(driver);
}
