//! Tickets, with which a client that was here before resumes its session: one set of keys for the process, rotated every
//! six hours, so that neither a reload nor another worker forgets a client.
//!
//! A ticket holds whom its client has proven to be, and nobody looks at that again. So it counts only where clients are
//! asked for the same: the listener's authorities, and whether a certificate is required, are sealed into it.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::ProducesTickets;
use sha2::{Digest, Sha256};

use crate::config::tls::Clients;

/// How long the mark of whom clients are asked to be is.
const MARK: usize = 32;

/// The tickets of the process.
#[derive(Debug, Clone)]
pub struct Tickets(Arc<dyn ProducesTickets>);

impl Tickets {
    /// Tickets with keys of their own.
    ///
    /// # Errors
    /// Where the system gives no random bytes.
    pub fn new() -> Result<Self, rustls::Error> {
        Ticketer::new().map(Self)
    }

    /// Those of listeners that ask their clients for this.
    pub(super) fn of(&self, clients: Option<&Clients>) -> Arc<dyn ProducesTickets> {
        let mut hasher = Sha256::new();
        if let Some(clients) = clients {
            hasher.update([1, u8::from(clients.required)]);
            hasher.update(clients.authorities.digest().bytes());
        }
        Arc::new(Marked { mark: hasher.finalize().into(), of_all: Arc::clone(&self.0) })
    }
}

/// Tickets that count under one mark only.
#[derive(Debug)]
struct Marked {
    mark: [u8; MARK],
    of_all: Arc<dyn ProducesTickets>,
}

impl ProducesTickets for Marked {
    fn enabled(&self) -> bool {
        self.of_all.enabled()
    }

    fn lifetime(&self) -> u32 {
        self.of_all.lifetime()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.of_all.encrypt(&[&self.mark, plain].concat())
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        let marked = self.of_all.decrypt(cipher)?;
        marked.strip_prefix(&self.mark).map(<[u8]>::to_vec)
    }
}
