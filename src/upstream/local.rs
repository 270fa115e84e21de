//! A worker's own view of an upstream: its endpoints, its connections, and the choice among them. Nothing here is
//! shared with other workers.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Request, Response};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::connect::{ConnectError, Io, connect};
use super::{Inbound, Resolved, Upload, Upstream, http1, http2};
use crate::config::model::Protocol;
use crate::logic::balance::pick;
use crate::telemetry::{ConnectionEvent, Worker};

/// Where 1xx responses go while a request waits for its final one. Full: the interim response is dropped.
pub type Interim = mpsc::Sender<Response<()>>;

/// A worker's own view of an upstream.
#[derive(Debug)]
pub struct Local {
    shared: Arc<Upstream>,
    version: Cell<u64>,
    endpoints: RefCell<Rc<[Rc<Endpoint>]>>,
    turn: Cell<usize>,
    metrics: Rc<Worker>,
}

/// A worker's own view of an endpoint: its load and its connections.
#[derive(Debug)]
pub struct Endpoint {
    pub(super) resolved: Resolved,
    pub(super) upstream: Arc<Upstream>,
    pub(super) metrics: Rc<Worker>,
    pub(super) http1: http1::Pool,
    pub(super) http2: http2::Pool,
    /// The configured address, for the access log.
    pub name: Arc<str>,
    /// The configured authority, as a `Host` value.
    pub authority: HeaderValue,
    in_flight: Cell<u32>,
    /// Whether this worker's last connect failed.
    is_away: Cell<bool>,
}

/// A response and the hold on the connection that it came by.
#[derive(Debug)]
pub struct Exchange {
    /// The response; its body streams.
    pub response: Response<Inbound>,
    /// Give it back when the body has ended well, drop it otherwise.
    pub lease: Lease,
}

/// The hold on an endpoint (counted as a request in flight) and on a connection, or a stream of one.
#[derive(Debug)]
pub struct Lease {
    endpoint: Rc<Endpoint>,
    connection: Option<http1::Sender>,
    stream: Option<http2::Hold>,
}

/// A request that got no response.
#[derive(Debug, thiserror::Error)]
#[error("the request got no response")]
pub struct SendError {
    /// Why.
    #[source]
    pub kind: SendErrorKind,
    /// The request, untouched, when no byte of it was sent.
    pub unsent: Option<Box<Request<Upload>>>,
}

/// Why a request got no response.
#[derive(Debug, thiserror::Error)]
pub enum SendErrorKind {
    /// No connection was made.
    #[error("no connection")]
    Connect(#[from] ConnectError),
    /// The connection broke, or the endpoint reset the request.
    #[error("the connection broke before the response")]
    Reset(#[source] Box<dyn std::error::Error>),
    /// What came is not HTTP.
    #[error("the response is not valid HTTP")]
    Protocol(#[source] Box<dyn std::error::Error>),
    /// The response did not begin in time.
    #[error("the response did not begin in time")]
    Timeout,
}

impl Local {
    /// A worker's view of `shared`, without connections.
    pub fn new(shared: Arc<Upstream>, metrics: Rc<Worker>) -> Self {
        let local = Self {
            shared,
            version: Cell::new(0),
            endpoints: RefCell::new(Rc::from([])),
            turn: Cell::new(0),
            metrics,
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
    pub fn pick(&self, tried: &[Rc<Endpoint>], random: u64) -> Option<Rc<Endpoint>> {
        if self.version.get() != self.shared.version() {
            self.reconcile();
        }
        let endpoints = self.endpoints.borrow();
        let turn = self.turn.get();
        self.turn.set(turn.wrapping_add(1));
        let policy = self.shared.settings.balance;
        let load = |index: usize| endpoints.get(index).map_or(u32::MAX, |endpoint| endpoint.in_flight.get());
        let picked = if tried.is_empty() {
            pick(policy, endpoints.len(), &[], load, turn, random)
        } else {
            let excluded: Vec<usize> = (0..endpoints.len())
                .filter(|&index| tried.iter().any(|tried| Rc::ptr_eq(tried, &endpoints[index])))
                .collect();
            pick(policy, endpoints.len(), &excluded, load, turn, random)
        };
        picked.map(|index| Rc::clone(&endpoints[index]))
    }

    /// Takes over the endpoints as last resolved; those that stay keep their connections.
    fn reconcile(&self) {
        let version = self.shared.version();
        let former = Rc::clone(&self.endpoints.borrow());
        let endpoints = self
            .shared
            .endpoints()
            .iter()
            .map(|resolved| {
                former.iter().find(|endpoint| endpoint.resolved == *resolved).map_or_else(
                    || Rc::new(Endpoint::new(resolved.clone(), &self.shared, &self.metrics)),
                    Rc::clone,
                )
            })
            .collect();
        self.endpoints.replace(endpoints);
        self.version.set(version);
    }

    /// Closes connections that have been idle for too long.
    pub fn close_idle(&self, now: Instant) {
        let limit = self.shared.settings.idle_timeout;
        for endpoint in self.endpoints.borrow().iter() {
            endpoint.http1.close_idle(now, limit);
            endpoint.http2.close_idle(now, limit);
        }
    }
}

impl Endpoint {
    fn new(resolved: Resolved, upstream: &Arc<Upstream>, metrics: &Rc<Worker>) -> Self {
        let authority = resolved.configured.authority();
        Self {
            http1: http1::Pool::default(),
            http2: http2::Pool::default(),
            name: resolved.configured.to_string().into(),
            authority: HeaderValue::from_str(&authority).unwrap_or(HeaderValue::from_static("localhost")),
            resolved,
            upstream: Arc::clone(upstream),
            metrics: Rc::clone(metrics),
            in_flight: Cell::new(0),
            is_away: Cell::new(false),
        }
    }

    /// Sends `request` and waits for the head of the final response. 1xx responses go to `interim`.
    ///
    /// # Errors
    /// [`SendError`]; it holds the request where not a byte of it was sent.
    pub async fn send(
        self: &Rc<Self>,
        request: Request<Upload>,
        interim: Option<Interim>,
    ) -> Result<Exchange, SendError> {
        let mut lease = Lease::new(Rc::clone(self));
        let response = match self.upstream.settings.protocol {
            Protocol::Http1 => {
                let (response, connection) = http1::send(self, request, interim).await?;
                lease.connection = Some(connection);
                response
            }
            Protocol::Http2 => {
                let (response, stream) = http2::send(self, request, interim).await?;
                lease.stream = Some(stream);
                response
            }
        };
        Ok(Exchange { response, lease })
    }

    /// Connects to the endpoint within `limit`, and tells where that changes what is known of it.
    pub(super) async fn connect(&self, limit: Duration) -> Result<Io, ConnectError> {
        let settings = &self.upstream.settings;
        let made = connect(&self.resolved.address, limit).await;
        match &made {
            Ok(_) if self.is_away.replace(false) => {
                self.upstream.reach.found(settings.name.as_str(), &self.name);
            }
            Err(error) if !self.is_away.replace(true) => {
                self.upstream.reach.lost(settings.name.as_str(), &self.name, error, Instant::now());
            }
            _ => {}
        }
        made
    }

    pub(super) fn event(&self, event: ConnectionEvent) {
        self.metrics.connection(self.upstream.id, event);
    }
}

impl Lease {
    fn new(endpoint: Rc<Endpoint>) -> Self {
        endpoint.in_flight.set(endpoint.in_flight.get() + 1);
        Self { endpoint, connection: None, stream: None }
    }

    /// The endpoint that answered.
    pub fn endpoint(&self) -> &Rc<Endpoint> {
        &self.endpoint
    }

    /// Gives the connection back for the next request: both bodies have ended well.
    pub fn give_back(mut self) {
        if let Some(connection) = self.connection.take() {
            self.endpoint.http1.put(connection, &self.endpoint);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.endpoint.in_flight.set(self.endpoint.in_flight.get().saturating_sub(1));
    }
}

/// Waits for `response` no longer than `limit` after the last progress of the request's body.
pub(super) async fn within<F: Future>(
    response: F,
    upload: &super::UploadState,
    limit: Duration,
) -> Result<F::Output, SendErrorKind> {
    let started = Instant::now();
    let mut response = std::pin::pin!(response);
    let mut deadline = started + limit;
    loop {
        match tokio::time::timeout_at(deadline, response.as_mut()).await {
            Ok(output) => return Ok(output),
            Err(_) => match upload.last_progress() {
                Some(progress) if progress + limit > deadline => deadline = progress + limit,
                _ => return Err(SendErrorKind::Timeout),
            },
        }
    }
}
