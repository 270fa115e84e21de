//! A worker's own view of an upstream: its endpoints, its connections, and the choice among them. Nothing here is
//! shared with other workers.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::uri::Scheme;
use http::{HeaderValue, StatusCode};
use tokio::time::Instant;

use super::choice::{Chooser, Standing, Wish, excluded};
use super::client::{Client, Pools};
use super::connect::{ConnectError, Spoken, connect, connect_securely};
use super::exchange::{Exchange, Lease, SendError, SendErrorKind};
use super::handshake::{Handshake, TlsError};
use super::reach::Trouble;
use super::vitals::{Tally, Vitals};
use super::{Interim, Outgoing, Resolved, Slot, Slots, Upload, Upstream, http1, http2};
use crate::config::model::Protocol;
use crate::logic::balance::{Budget, BudgetPolicy, Event, Health, Tick};
use crate::net::{Alarm, Io, clock};
use crate::telemetry::{ConnectionEvent, Worker};
use crate::wire::proxy_protocol::{self, Addresses};

/// What the task of a request has beside the request.
#[derive(Debug, Default)]
pub struct Caller {
    /// Where 1xx responses go while the final one is waited for; `None` where the client's protocol has none.
    pub interim: Option<Interim>,
    /// The task's timer.
    pub alarm: RefCell<Alarm>,
    /// The client's connection; `None` where the request is our own, or the client has no address.
    pub client: Option<Rc<Client>>,
}

/// A worker's own view of an upstream.
#[derive(Debug)]
pub struct Local {
    shared: Arc<Upstream>,
    version: Cell<u64>,
    endpoints: RefCell<Rc<[Rc<Endpoint>]>>,
    chooser: Chooser,
    metrics: Rc<Worker>,
    retired: Cell<bool>,
    /// What may be tried again, in seconds from then on.
    budget: RefCell<Budget>,
    since: Instant,
}

/// A worker's own view of an endpoint: its load and its connections.
#[derive(Debug)]
pub struct Endpoint {
    pub(super) resolved: Resolved,
    pub(super) upstream: Arc<Upstream>,
    pub(super) metrics: Rc<Worker>,
    pools: Rc<Pools>,
    /// Those of single clients, where the endpoint is told of them; a client that goes takes its own along.
    own: RefCell<HashMap<Addresses, Rc<Pools>>>,
    vitals: Arc<Vitals>,
    tally: Arc<Tally>,
    /// The configured address, for the access log.
    pub name: Arc<str>,
    /// The configured authority, as a `Host` value.
    pub authority: HeaderValue,
    /// How TLS is made with it, where it is.
    handshake: Option<Handshake>,
    /// What it speaks: settled, or what it chose last; `None` while it was not asked.
    spoken: Cell<Option<Spoken>>,
    pub(super) in_flight: Cell<u32>,
    pub(super) standing: Standing,
    /// Why this worker's last connect failed, if it did.
    trouble: Cell<Option<Trouble>>,
    /// Whether nobody will ask for it again: no connection is kept for a next request.
    pub(super) retired: Cell<bool>,
}

/// How often an endpoint may choose another protocol within one request.
const CHOICES: usize = 4;

impl Local {
    /// A worker's view of `shared`, without connections.
    pub fn new(shared: Arc<Upstream>, metrics: Rc<Worker>) -> Self {
        let local = Self {
            shared,
            version: Cell::new(0),
            endpoints: RefCell::new(Rc::from([])),
            chooser: Chooser::new(),
            metrics,
            retired: Cell::new(false),
            budget: RefCell::default(),
            since: clock::now(),
        };
        local.reconcile();
        local
    }

    /// The upstream that this is a view of.
    pub fn shared(&self) -> &Arc<Upstream> {
        &self.shared
    }

    /// The endpoint for a request that has tried `tried` already, or `None` when none is left. `tried` holds
    /// endpoints of this upstream only.
    pub fn pick(&self, tried: &[Rc<Endpoint>], random: u64, wish: Wish) -> Option<Rc<Endpoint>> {
        if self.version.get() != self.shared.version() {
            self.reconcile();
        }
        let endpoints = self.endpoints.borrow();
        self.chooser.choose(&self.shared, &endpoints, tried, random, wish)
    }

    #[cfg(test)]
    pub(super) fn chooser(&self) -> &Chooser {
        &self.chooser
    }

    /// Whether [`Local::pick`] would find an endpoint.
    pub fn has_other(&self, tried: &[Rc<Endpoint>], wish: Wish) -> bool {
        let endpoints = self.endpoints.borrow();
        excluded(&endpoints, tried, wish, &self.shared.settings).len() < endpoints.len()
    }

    /// Notes a request, of which a part may be tried again.
    pub fn earn(&self, policy: &BudgetPolicy) {
        self.budget.borrow_mut().earn(policy, self.second());
    }

    /// Whether there may be another further attempt, which is counted then.
    pub fn spend(&self, policy: &BudgetPolicy) -> bool {
        self.budget.borrow_mut().spend(policy, self.second())
    }

    fn second(&self) -> u64 {
        clock::now().saturating_duration_since(self.since).as_secs()
    }

    /// Takes over the endpoints as last resolved; those that stay keep their connections.
    fn reconcile(&self) {
        let version = self.shared.version();
        let former = Rc::clone(&self.endpoints.borrow());
        let by_hash = self.shared.by_hash();
        let list = by_hash.as_ref().map_or_else(|| self.shared.endpoints(), |by| Arc::clone(&by.endpoints));
        let endpoints: Rc<[_]> = list
            .iter()
            .map(|resolved| {
                let vitals = self.shared.vitals(resolved);
                let is_it = |endpoint: &&Rc<Endpoint>| {
                    endpoint.resolved == *resolved && Arc::ptr_eq(&endpoint.vitals, &vitals)
                };
                former.iter().find(is_it).map_or_else(
                    || {
                        let vitals = Arc::clone(&vitals);
                        let standing = Standing::new(&self.shared.settings, resolved, &self.chooser.memory);
                        let (shared, metrics) = (&self.shared, &self.metrics);
                        Rc::new(Endpoint::new(resolved.clone(), shared, vitals, standing, metrics))
                    },
                    Rc::clone,
                )
            })
            .collect();
        self.chooser.renew(&self.shared.settings, &endpoints, by_hash);
        self.endpoints.replace(endpoints);
        self.version.set(version);
        let kept = Rc::clone(&self.endpoints.borrow());
        let is_kept = |endpoint: &Rc<Endpoint>| kept.iter().any(|kept| Rc::ptr_eq(kept, endpoint));
        former.iter().filter(|endpoint| !is_kept(endpoint)).for_each(|endpoint| endpoint.retire());
        if self.retired.get() {
            self.retire();
        }
    }

    /// Closes the connections that are idle, and the others when their exchanges have ended: a new snapshot does not
    /// have this upstream. Requests of the former one may still ask.
    pub fn retire(&self) {
        self.retired.set(true);
        self.endpoints.borrow().iter().for_each(|endpoint| endpoint.retire());
    }

    /// Closes connections that have been idle for too long.
    pub fn close_idle(&self, now: Instant) {
        let limit = self.shared.settings.idle_timeout;
        for endpoint in self.endpoints.borrow().iter() {
            endpoint.close_idle(now, limit);
        }
    }
}

impl Endpoint {
    fn new(
        resolved: Resolved,
        upstream: &Arc<Upstream>,
        vitals: Arc<Vitals>,
        standing: Standing,
        metrics: &Rc<Worker>,
    ) -> Self {
        let authority = resolved.configured.authority();
        let handshake = upstream.handshake(&resolved.configured);
        let spoken = match upstream.settings.protocol {
            Protocol::Http2 => Some(Spoken::Http2),
            Protocol::Auto if handshake.is_some() => None,
            // Without TLS there is nothing to choose by.
            Protocol::Http1 | Protocol::Auto => Some(Spoken::Http1),
        };
        Self {
            pools: Rc::default(),
            own: RefCell::default(),
            name: resolved.configured.to_string().into(),
            authority: HeaderValue::from_str(&authority).unwrap_or(HeaderValue::from_static("localhost")),
            resolved,
            tally: vitals.tally(),
            vitals,
            upstream: Arc::clone(upstream),
            metrics: Rc::clone(metrics),
            handshake,
            spoken: Cell::new(spoken),
            in_flight: Cell::new(0),
            standing,
            trouble: Cell::new(None),
            retired: Cell::new(false),
        }
    }

    /// The requests that it has not yet answered in full, from this worker.
    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight.get()
    }

    /// What is known of its health.
    pub(super) fn health(&self) -> Health {
        self.vitals.health()
    }

    /// What time it is for it.
    pub(super) fn tick(&self) -> Tick {
        self.vitals.tick(clock::now())
    }

    /// Tells what has happened to it; whether that changed what is known of it.
    pub(super) fn tell(&self, event: Event) -> bool {
        let settings = &self.upstream.settings;
        self.vitals.tell(event, &settings.ejection, settings.slow_start.is_some(), clock::now())
    }

    /// Says what became of a request that was sent to it: the status of its response, or `None` where it gave none, or
    /// none to its end.
    pub fn answered(&self, status: Option<StatusCode>) {
        let event = match status.map(|status| status.as_u16()) {
            None => Event::Failed,
            Some(502..=504) => Event::GatewayError,
            Some(500..) => Event::ServerError,
            Some(_) => {
                self.tally.count(false);
                let settings = &self.upstream.settings;
                return self.vitals.succeeded(&settings.ejection, settings.slow_start.is_some(), clock::now);
            }
        };
        self.tally.count(true);
        self.standing.failed();
        self.tell(event);
    }

    /// Its drivers hold it and it holds its idle connections: without this both would live as long as the peer lets
    /// them.
    pub(super) fn retire(&self) {
        self.retired.set(true);
        self.close_idle(Instant::now(), Duration::ZERO);
    }

    fn close_idle(&self, now: Instant, limit: Duration) {
        // Where somebody waits for a connection, those that nobody uses are closed.
        let are_wanted = self.upstream.slots.as_ref().is_some_and(|slots| slots.are_wanted());
        let limit = if are_wanted { Duration::ZERO } else { limit };
        let close = |pools: &Pools| {
            pools.http1.close_idle(now, limit);
            pools.http2.close_idle(now, limit);
        };
        close(&self.pools);
        self.own.borrow().values().for_each(|pools| close(pools));
    }

    /// The connections that a request of `client` may have.
    fn pools(self: &Rc<Self>, client: Option<&Rc<Client>>) -> Rc<Pools> {
        match client {
            Some(client) if self.upstream.settings.proxy_protocol => {
                let mut own = self.own.borrow_mut();
                let pools = own.entry(*client.addresses()).or_insert_with(|| {
                    client.enter(self);
                    Rc::default()
                });
                Rc::clone(pools)
            }
            _ => Rc::clone(&self.pools),
        }
    }

    /// Lets go of the connections of a client that has gone.
    pub(super) fn leave(&self, client: &Addresses) {
        // Dropped when nothing is borrowed any more.
        let _pools = self.own.borrow_mut().remove(client);
    }

    /// Sends `outgoing` with `body` and waits for the head of the final response. 1xx responses go to the caller's
    /// `interim`.
    ///
    /// # Errors
    /// [`SendError`]; it holds the body where not a byte of the request was sent.
    pub async fn send(
        self: &Rc<Self>,
        outgoing: &Outgoing<'_>,
        body: Upload,
        caller: &Caller,
    ) -> Result<Exchange, SendError> {
        let mut lease = Lease::new(Rc::clone(self), self.pools(caller.client.as_ref()));
        let (mut body, mut made, mut was_sent) = (body, None, false);
        let mut has_no_tunnel = false;
        let sent_at = self.standing.sent();
        let upload = sent_at.and_then(|_| body.state());
        for _ in 0..CHOICES {
            let sent = if self.spoken.get() == Some(Spoken::Http1) || has_no_tunnel {
                let sent = http1::send(self, &lease.pools.http1, outgoing, body, caller, made).await;
                sent.map(|http1::Sent { head, body, connection, uploading, sink }| {
                    (lease.connection, lease.uploading) = (Some(connection), uploading);
                    (head, body, sink)
                })
            } else {
                // In a box of its own: those who speak HTTP/1 need not carry it.
                let sent =
                    Box::pin(http2::send(self, &lease.pools.http2, outgoing, body, caller, made)).await;
                sent.map(|http2::Sent { head, body, hold, sink }| {
                    lease.stream = Some(hold);
                    (head, body, sink)
                })
            };
            match sent {
                Ok((head, body, sink)) => {
                    if self.trouble.get() == Some(Trouble::LateTls) {
                        self.found();
                    }
                    // How long a client takes for its body says nothing of the endpoint.
                    let since = |sent| upload.map_or(Some(sent), |upload| upload.waited_since(sent));
                    self.standing.answered(sent_at.and_then(since));
                    return Ok(Exchange { head, body, lease, sink });
                }
                Err(SendError { kind: SendErrorKind::Otherwise(io), unsent }) => {
                    // What may have been sent before had no body.
                    was_sent |= unsent.is_none();
                    (body, made) = (unsent.unwrap_or_default(), io);
                }
                Err(SendError { kind: SendErrorKind::NoTunnel, unsent: Some(unsent) })
                    if self.upstream.settings.protocol == Protocol::Auto =>
                {
                    let Some(io) = Box::pin(self.connect_http1(caller)).await else {
                        let unsent = Some(unsent).filter(|_| !was_sent);
                        return Err(SendError { kind: SendErrorKind::NoTunnel, unsent });
                    };
                    (body, made, has_no_tunnel) = (unsent, Some(Box::new(io)), true);
                }
                Err(SendError { kind, unsent }) => {
                    return Err(SendError { kind, unsent: unsent.filter(|_| !was_sent) });
                }
            }
        }
        let kind = SendErrorKind::Protocol("the endpoint chooses another protocol each time".into());
        Err(SendError { kind, unsent: Some(body).filter(|_| !was_sent) })
    }

    /// What it speaks, once that is known.
    pub(super) fn spoken(&self) -> Option<Spoken> {
        self.spoken.get()
    }

    /// The scheme of what it is asked for.
    pub(super) fn scheme(&self) -> Scheme {
        if self.handshake.is_some() { Scheme::HTTPS } else { Scheme::HTTP }
    }

    /// Connects to the endpoint for `caller` within `limit`, once it is its turn, and tells where that changes what is known of it; what is
    /// spoken on the connection.
    pub(super) async fn connect(
        &self,
        limit: Duration,
        caller: &Caller,
    ) -> Result<(Io, Spoken, Option<Slot>), ConnectError> {
        let slot = match &self.upstream.slots {
            None => None,
            Some(slots) => Some(slots.take().await.ok_or(ConnectError::Crowded(slots.patience()))?),
        };
        let greeting = self.greeting(caller);
        let address = &self.resolved.address;
        let made = match &self.handshake {
            None => {
                let spoken = self.spoken.get().unwrap_or(Spoken::Http1);
                connect(address, greeting.as_deref(), limit).await.map(|io| (io, spoken))
            }
            // In a box of its own: those without TLS need not carry it.
            Some(handshake) => {
                Box::pin(connect_securely(address, greeting.as_deref(), handshake, limit)).await
            }
        };
        match made {
            Ok((io, spoken)) => {
                if matches!(self.trouble.get(), Some(Trouble::Connect | Trouble::Tls)) {
                    self.found();
                }
                self.spoken.set(Some(spoken));
                Ok((io, spoken, slot))
            }
            Err(error) => {
                let is_tls = matches!(error, ConnectError::Tls(_));
                self.lost(if is_tls { Trouble::Tls } else { Trouble::Connect }, &error);
                Err(error)
            }
        }
    }

    /// A slot for a connection that was made for another protocol, where there is one: it is not closed for want of one.
    pub(super) fn slot(&self) -> Option<Slot> {
        self.upstream.slots.as_ref().and_then(Slots::try_take)
    }

    /// What a connection for `caller` begins with.
    fn greeting(&self, caller: &Caller) -> Option<Vec<u8>> {
        let client = || caller.client.as_ref().map(|client| client.addresses());
        self.upstream.settings.proxy_protocol.then(|| proxy_protocol::header(client()))
    }

    /// Connects to an endpoint that has chosen HTTP/2 for a tunnel that only its HTTP/1.1 may take; what is known of it
    /// stays.
    async fn connect_http1(&self, caller: &Caller) -> Option<Io> {
        let handshake = self.handshake.as_ref()?.for_http1();
        let (greeting, limit) = (self.greeting(caller), self.upstream.settings.connect_timeout);
        let made = connect_securely(&self.resolved.address, greeting.as_deref(), &handshake, limit).await;
        made.ok().filter(|(_, spoken)| *spoken == Spoken::Http1).map(|(io, _)| io)
    }

    /// The failure of TLS that ended a new connection with `error` before anything was read, if that is what it was.
    /// Whatever was sent on it was not read by the endpoint.
    pub(super) fn late_failure(&self, error: Option<&io::Error>) -> Option<ConnectError> {
        let error = ConnectError::Tls(TlsError::of_late_alert(error?)?);
        self.lost(Trouble::LateTls, &error);
        Some(error)
    }

    fn found(&self) {
        self.trouble.set(None);
        self.upstream.reach.found(self.upstream.settings.name.as_str(), &self.name);
    }

    fn lost(&self, trouble: Trouble, error: &ConnectError) {
        if self.trouble.replace(Some(trouble)) != Some(trouble) {
            let upstream = self.upstream.settings.name.as_str();
            self.upstream.reach.lost(upstream, &self.name, trouble, error, Instant::now());
        }
    }

    pub(super) fn event(&self, event: ConnectionEvent) {
        self.metrics.connection(self.upstream.id, event);
    }
}

#[cfg(test)]
mod tests;
