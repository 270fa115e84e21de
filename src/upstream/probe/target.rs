//! One check of one endpoint: a new connection, and on it what the configuration asks.

use std::sync::Arc;
use std::time::Duration;

use http::uri::Scheme;
use http::{HeaderName, HeaderValue, header};
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout_at};

use super::bounded::Bounded;
use super::rhythm::Ask;
use super::{Failure, USER_AGENT, grpc, http1, http2};
use crate::config::health::{Health, HttpProbe, Probe};
use crate::config::model::{self, Protocol};
use crate::net::Io;
use crate::types::EndpointAddress;
use crate::upstream::connect::{Spoken, connect, connect_securely};
use crate::upstream::handshake::Handshake;
use crate::upstream::{Address, Resolved, Upstream};
use crate::wire::proxy_protocol;

/// An endpoint and all that is needed to check it.
#[derive(Debug)]
pub struct Target {
    settings: Arc<model::Upstream>,
    address: Address,
    host: HeaderValue,
    handshake: Option<Handshake>,
    /// What a connection begins with.
    greeting: Option<Vec<u8>>,
    /// What is spoken where nobody chooses.
    spoken: Spoken,
}

/// A request by HTTP.
pub(super) struct Request<'a> {
    pub(super) http: &'a HttpProbe,
    pub(super) scheme: &'a Scheme,
    pub(super) host: &'a HeaderValue,
    headers: &'a [(HeaderName, HeaderValue)],
}

/// A call by gRPC.
pub(super) struct Call<'a> {
    pub(super) service: &'a str,
    pub(super) timeout: Duration,
    pub(super) scheme: &'a Scheme,
    pub(super) host: &'a HeaderValue,
    headers: &'a [(HeaderName, HeaderValue)],
}

impl<'a> Request<'a> {
    /// A request to `host` with `headers`.
    pub(super) fn new(
        http: &'a HttpProbe,
        scheme: &'a Scheme,
        host: &'a HeaderValue,
        headers: &'a [(HeaderName, HeaderValue)],
    ) -> Self {
        Self { http, scheme, host, headers }
    }

    /// The fields beside the host.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        fields(self.headers)
    }

    /// Whether `body`, or as much as was read of it, is that of an endpoint that is well.
    pub(super) fn judge(&self, body: &[u8]) -> Result<(), Failure> {
        match &self.http.body {
            Some(text) if memchr::memmem::find(body, text).is_none() => Err(Failure::Body),
            _ => Ok(()),
        }
    }
}

impl Call<'_> {
    /// The fields beside the host and those of gRPC.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        fields(self.headers)
    }
}

/// How we call ourselves, unless `headers` say it, and these.
fn fields(headers: &[(HeaderName, HeaderValue)]) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
    static OURS: (HeaderName, HeaderValue) = (header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
    let is_named = headers.iter().any(|(name, _)| *name == header::USER_AGENT);
    let ours = (!is_named).then_some(&OURS);
    ours.into_iter().chain(headers).map(|(name, value)| (name, value))
}

impl Target {
    /// What is needed to check `endpoint` of `upstream`; `None` where nothing is to be checked.
    pub fn new(upstream: &Upstream, endpoint: &Resolved) -> Option<Self> {
        let settings = Arc::clone(&upstream.settings);
        let health = settings.health.as_ref()?;
        let is_grpc = matches!(health.probe, Probe::Grpc { .. });
        let handshake = upstream.handshake(&endpoint.configured).filter(|_| health.tls);
        let only = is_grpc.then_some(Spoken::Http2);
        let handshake = handshake.map(|handshake| handshake.for_check(only));
        let spoken = match settings.protocol {
            _ if is_grpc => Spoken::Http2,
            Protocol::Http2 => Spoken::Http2,
            Protocol::Http1 | Protocol::Auto => Spoken::Http1,
        };
        let host = health.host.clone().or_else(|| authority(health, &endpoint.configured));
        // Another port has nothing to do with how the traffic's begins.
        let is_announced = settings.proxy_protocol && health.port.is_none();
        Some(Self {
            address: address(health, &endpoint.address),
            host: host.unwrap_or(HeaderValue::from_static("localhost")),
            handshake,
            greeting: is_announced.then(|| proxy_protocol::header(None)),
            spoken,
            settings,
        })
    }

    /// Asks on a connection that is made.
    async fn ask_on(&self, health: &Health, io: Io, spoken: Spoken) -> Result<(), Failure> {
        let scheme = if self.handshake.is_some() { &Scheme::HTTPS } else { &Scheme::HTTP };
        let (host, headers) = (&self.host, health.headers.as_slice());
        let mut io = Bounded::new(io);
        match &health.probe {
            Probe::Tcp => {
                // That it is there has been seen; how it takes our leave is its own business.
                let _ = io.shutdown().await;
                Ok(())
            }
            Probe::Http(http) => {
                let request = Request::new(http, scheme, host, headers);
                match spoken {
                    Spoken::Http1 => http1::ask(&mut io, &request).await,
                    Spoken::Http2 => http2::ask(io, &request).await,
                }
            }
            Probe::Grpc { service } => {
                if spoken != Spoken::Http2 {
                    return Err(Failure::NotHttp2);
                }
                grpc::ask(io, &Call { service, timeout: health.timeout, scheme, host, headers }).await
            }
        }
    }
}

impl Ask for Target {
    async fn ask(&self) -> Result<(), Failure> {
        let Some(health) = &self.settings.health else { return Ok(()) };
        let limit = health.timeout;
        let by = Instant::now() + limit;
        let greeting = self.greeting.as_deref();
        let (io, spoken) = match &self.handshake {
            None => (connect(&self.address, greeting, limit).await?, self.spoken),
            Some(handshake) => connect_securely(&self.address, greeting, handshake, limit).await?,
        };
        timeout_at(by, self.ask_on(health, io, spoken)).await.unwrap_or(Err(Failure::Timeout(limit)))
    }
}

/// Where a check connects to.
fn address(health: &Health, address: &Address) -> Address {
    match (address, health.port) {
        (Address::Tcp(address), Some(port)) => Address::Tcp((address.ip(), port).into()),
        (address, _) => address.clone(),
    }
}

/// The host that a check asks for where none is written.
fn authority(health: &Health, endpoint: &EndpointAddress) -> Option<HeaderValue> {
    let authority = match (endpoint, health.port) {
        (EndpointAddress::Tcp { host, tls, .. }, Some(port)) => {
            EndpointAddress::Tcp { host: host.clone(), port, tls: *tls }.authority()
        }
        (endpoint, _) => endpoint.authority(),
    };
    HeaderValue::try_from(authority).ok()
}
