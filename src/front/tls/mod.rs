//! TLS of clients: a listener's settings as rustls has them, made before anything is swapped, so that what cannot serve
//! is never asked to. A connection keeps what it began with.
//!
//! Reading order: [`Secure`], `names` (which certificate), [`tickets`] (who may resume what), [`mod@handshake`]. What the
//! bytes are afterwards is [`crate::net::Tls`]'s. Every listener has one setting of who its clients are, so a connection
//! that is used for several hosts cannot reach one that would have asked for another certificate.

pub mod handshake;
mod names;
pub mod tickets;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, SupportedProtocolVersion};
use tracing::error;

use crate::acme::{self, Shelf, Slot};
use crate::config::model;
use crate::config::tls::{ListenerTls, TlsVersion, UnknownName};
use crate::proxy::handle::seconds_now;
use crate::wire::SubjectName;
use names::Names;
use tickets::Tickets;

pub use handshake::{Refusal, handshake};

/// HTTP/2 in ALPN.
pub(super) const H2: &[u8] = b"h2";
/// HTTP/1.1 in ALPN.
pub(super) const HTTP1: &[u8] = b"http/1.1";

/// How many tickets a client of TLS 1.3 gets: one for each of two connections, as browsers make them.
const TICKETS: usize = 2;

const NEWEST_ONLY: &[&SupportedProtocolVersion] = &[&TLS13];
const BOTH: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];

/// Why TLS cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("TLS of the listener `{listener}` cannot be served: {why}")]
pub struct SecureError {
    listener: String,
    why: String,
}

/// The TLS of a listener.
pub struct Secure {
    model: Arc<ListenerTls>,
    names: Names,
    provider: Arc<CryptoProvider>,
    /// For each certificate, in the order of the model; last, that of the slot.
    configs: Vec<Arc<ServerConfig>>,
    /// Where the certificate is that is got by ACME.
    slot: Option<Arc<Slot>>,
    shelf: Arc<Shelf>,
    /// For an authority that makes sure of a name.
    proof: Arc<ServerConfig>,
    listener: String,
}

impl fmt::Debug for Secure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secure").field("model", &self.model).finish_non_exhaustive()
    }
}

impl Secure {
    /// The TLS that `model` asks for on `listener`, with tickets of the process, and what is got by ACME from `shelf`.
    ///
    /// # Errors
    /// [`SecureError`] where the authorities of clients cannot be used.
    pub fn new(
        listener: &str,
        model: &Arc<ListenerTls>,
        tickets: &Tickets,
        shelf: &Arc<Shelf>,
    ) -> Result<Self, SecureError> {
        let failed = |why: String| SecureError { listener: listener.to_owned(), why };
        // Its suites are those with secrets made for one connection: a key that is stolen opens nothing recorded before.
        let provider = Arc::new(default_provider());
        let verifier = match &model.clients {
            None => None,
            Some(clients) => {
                let roots = Arc::clone(&clients.authorities.roots);
                let builder = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider));
                let builder = if clients.required { builder } else { builder.allow_unauthenticated() };
                Some(builder.build().map_err(|error| failed(error.to_string()))?)
            }
        };
        let versions = match model.min_version {
            TlsVersion::Tls12 => BOTH,
            TlsVersion::Tls13 => NEWEST_ONLY,
        };
        let ticketer = tickets.of(model.clients.as_ref());
        let now = i64::try_from(seconds_now()).unwrap_or(i64::MAX);
        for credentials in model.certificates.iter().filter(|one| !one.valid.contains(&now)) {
            let names: Vec<_> = credentials.names.iter().map(SubjectName::text).collect();
            error!(%listener, ?names, "the certificate has expired or is not valid yet, clients will not believe it");
        }
        let slot = model.acme.as_ref().map(|acme| shelf.slot(acme));
        let certificates = model.certificates.iter().map(|credentials| {
            let certified = SingleCertAndKey::from(Arc::clone(&credentials.certified));
            Arc::new(certified) as Arc<dyn ResolvesServerCert>
        });
        let resolvers = certificates.chain(slot.clone().map(|slot| slot as Arc<dyn ResolvesServerCert>));
        let mut configs = Vec::with_capacity(model.certificates.len() + 1);
        for resolver in resolvers {
            let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
                .with_protocol_versions(versions)
                .map_err(|error| failed(error.to_string()))?;
            let builder = match &verifier {
                Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier)),
                None => builder.with_no_client_auth(),
            };
            let mut config = builder.with_cert_resolver(resolver);
            config.alpn_protocols = vec![H2.to_vec(), HTTP1.to_vec()];
            // Tickets are kept by clients; nothing of a session is kept here, so that nobody can make it grow.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.ticketer = Arc::clone(&ticketer);
            config.send_tls13_tickets = TICKETS;
            // What is sent before the handshake is over can be sent again by anybody who recorded it.
            config.max_early_data_size = 0;
            configs.push(Arc::new(config));
        }
        let mut proof = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(BOTH)
            .map_err(|error| failed(error.to_string()))?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(shelf) as Arc<dyn ResolvesServerCert>);
        proof.alpn_protocols = vec![acme::ALPN.to_vec()];
        proof.session_storage = Arc::new(NoServerSessionStorage {});
        let issued = model.acme.iter().flat_map(|acme| acme.domains.iter().cloned().map(SubjectName::Dns));
        let names = Names::of(&model.certificates, &issued.collect::<Vec<_>>());
        Ok(Self {
            model: Arc::clone(model),
            names,
            provider,
            configs,
            slot,
            shelf: Arc::clone(shelf),
            proof: Arc::new(proof),
            listener: listener.to_owned(),
        })
    }

    /// The TLS of `listener`, if it is to have any: `serving`, which it has, where that is the same.
    ///
    /// # Errors
    /// As of [`Secure::new`].
    pub fn of(
        listener: &model::Listener,
        serving: Option<&Arc<Self>>,
        tickets: &Tickets,
        shelf: &Arc<Shelf>,
    ) -> Result<Option<Arc<Self>>, SecureError> {
        let Some(wanted) = &listener.tls else { return Ok(None) };
        match serving {
            Some(serving) if serving.model == *wanted => Ok(Some(Arc::clone(serving))),
            _ => Self::new(listener.name.as_str(), wanted, tickets, shelf).map(|made| Some(Arc::new(made))),
        }
    }

    /// The same for QUIC: TLS 1.3 alone, and HTTP/3 alone. What a client of it resumes, it may resume over TCP, too.
    ///
    /// # Errors
    /// [`SecureError`] where there is no certificate.
    #[cfg(feature = "http3")]
    pub fn quic(self: &Arc<Self>) -> Result<ServerConfig, SecureError> {
        let Some(any) = self.configs.first() else {
            return Err(SecureError { listener: String::new(), why: "it has no certificate".to_owned() });
        };
        let mut config = ServerConfig::clone(any);
        config.cert_resolver = Arc::new(ByHello(Arc::clone(self)));
        config.alpn_protocols = vec![b"h3".to_vec()];
        Ok(config)
    }

    /// What was asked for.
    pub fn model(&self) -> &Arc<ListenerTls> {
        &self.model
    }

    /// What a client with this hello gets, which connected to the address `local`; `None` where it is refused.
    fn choose(&self, hello: &ClientHello<'_>, local: Option<IpAddr>) -> Option<&Arc<ServerConfig>> {
        if asks_for_proof(hello) && hello.server_name().is_some_and(|name| self.shelf.proof(name).is_some()) {
            return Some(&self.proof);
        }
        let known = match hello.server_name() {
            Some(name) => self.names.of_host(name),
            None => local.map_or(&[][..], |local| self.names.of_address(local)),
        };
        let candidates = match known {
            [] if self.model.unknown_name == UnknownName::Refuse => return None,
            [] => self.names.of_nobody(),
            known => known,
        };
        let fits = |index: &usize, is_old: bool| {
            let Some(certified) = self.certified(*index) else { return false };
            let key = &certified.key;
            let has_suite = self.provider.cipher_suites.iter().any(|suite| {
                hello.cipher_suites().contains(&suite.suite())
                    && suite.tls13().is_none() == is_old
                    && suite.usable_for_signature_algorithm(key.algorithm())
            });
            has_suite && key.choose_scheme(hello.signature_schemes()).is_some()
        };
        // What suits TLS 1.2 suits 1.3 too, and some clients offer suites of 1.3 that then speak 1.2. Where none fits the
        // handshake fails, and the client is told why.
        let of = |is_old| candidates.iter().find(|index| fits(index, is_old));
        let index = of(true).or_else(|| of(false)).or_else(|| candidates.first())?;
        match &self.slot {
            Some(slot) if *index == self.model.certificates.len() && slot.is_empty() => {
                slot.warn_empty(&self.listener);
                None
            }
            _ => self.configs.get(*index),
        }
    }

    /// The certificate of this index, if there is one by now.
    fn certified(&self, index: usize) -> Option<Arc<CertifiedKey>> {
        match self.model.certificates.get(index) {
            Some(credentials) => Some(Arc::clone(&credentials.certified)),
            None => self.slot.as_ref()?.held().map(|held| Arc::clone(&held.certified)),
        }
    }
}

/// Whether a client with this hello is an authority that makes sure of a name, and nothing else (RFC 8737 §3).
fn asks_for_proof(hello: &ClientHello<'_>) -> bool {
    let Some(mut protocols) = hello.alpn() else { return false };
    protocols.next() == Some(acme::ALPN) && protocols.next().is_none()
}

/// The certificate by what a client's hello says, where one configuration serves all of them.
#[cfg(feature = "http3")]
#[derive(Debug)]
struct ByHello(Arc<Secure>);

#[cfg(feature = "http3")]
impl ResolvesServerCert for ByHello {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.choose(&hello, None)?.cert_resolver.resolve(hello)
    }
}
