//! What handshakes and requests look up: the certificates that were got, and what an authority asks for while it makes
//! sure of a name. Workers read it without a lock; the keeper alone writes.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tracing::warn;

use crate::config::acme::{Acme, CertificateId};
use crate::config::tls::Credentials;

/// The certificates that were got, and the proofs that are asked for.
#[derive(Debug, Default)]
pub struct Shelf {
    slots: Mutex<HashMap<CertificateId, Arc<Slot>>>,
    proofs: ArcSwap<Proofs>,
    is_asked: AtomicBool,
}

/// What shows that a name is ours.
#[derive(Clone)]
pub enum Proof {
    /// A page, by its token: what it says.
    Page {
        /// The last segment of its path.
        token: Arc<str>,
        /// What it says.
        text: Arc<str>,
    },
    /// A certificate for a name.
    Certificate {
        /// The name, in lower case.
        name: Arc<str>,
        /// The certificate.
        certified: Arc<CertifiedKey>,
    },
}

#[derive(Clone, Default)]
struct Proofs(Vec<Proof>);

/// The place of one certificate; whoever serves it looks here at each handshake.
#[derive(Default)]
pub struct Slot {
    held: ArcSwapOption<Credentials>,
    notes: Mutex<Notes>,
    has_warned: AtomicBool,
}

/// How it stands with a certificate, for people.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Notes {
    /// When it is asked for next, in seconds since 1970; `None` while it is being asked for, and where another process
    /// does that.
    pub next: Option<i64>,
    /// How many attempts have failed since the last success.
    pub failures: u32,
    /// What the last failure was, until the next success.
    pub last_error: Option<String>,
}

/// Keeps proofs on the shelf; they are taken away when this is dropped.
#[derive(Debug)]
pub struct Proving(Arc<Shelf>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shelf {
    /// The place of the certificate `acme`, the same as long as anybody has it.
    pub fn slot(&self, acme: &Acme) -> Arc<Slot> {
        Arc::clone(lock(&self.slots).entry(acme.certificate_id()).or_default())
    }

    /// Forgets the places of all but `wanted`; who still has one goes on with it.
    pub fn retain(&self, wanted: &[CertificateId]) {
        lock(&self.slots).retain(|id, _| wanted.contains(id));
    }

    /// What the page of `token` says, while an authority is to ask for it.
    pub fn page(&self, token: &str) -> Option<Arc<str>> {
        // Seldom is anything asked for; one load, then.
        if !self.is_asked.load(Ordering::Acquire) {
            return None;
        }
        self.proofs.load().0.iter().find_map(|proof| match proof {
            Proof::Page { token: known, text } if **known == *token => Some(Arc::clone(text)),
            _ => None,
        })
    }

    /// The certificate that shows that `name` is ours, while an authority is to ask for it.
    pub fn proof(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        if !self.is_asked.load(Ordering::Acquire) {
            return None;
        }
        self.proofs.load().0.iter().find_map(|proof| match proof {
            Proof::Certificate { name: known, certified } if known.eq_ignore_ascii_case(name) => {
                Some(Arc::clone(certified))
            }
            _ => None,
        })
    }

    /// Proofs can be put on the shelf as long as what is returned lives.
    pub fn proving(self: &Arc<Self>) -> Proving {
        Proving(Arc::clone(self))
    }

    fn put(&self, proofs: Proofs) {
        let is_asked = !proofs.0.is_empty();
        self.proofs.store(Arc::new(proofs));
        self.is_asked.store(is_asked, Ordering::Release);
    }
}

impl Proving {
    /// Puts `proof` on the shelf beside the others.
    pub fn add(&self, proof: Proof) {
        let mut proofs = Proofs::clone(&self.0.proofs.load());
        proofs.0.push(proof);
        self.0.put(proofs);
    }

    /// Puts these on the shelf, in place of all others.
    pub fn replace(&self, proofs: Vec<Proof>) {
        self.0.put(Proofs(proofs));
    }
}

impl Drop for Proving {
    fn drop(&mut self) {
        self.0.put(Proofs::default());
    }
}

impl Slot {
    /// What is held.
    pub fn held(&self) -> Option<Arc<Credentials>> {
        self.held.load_full()
    }

    /// Whether nothing is held yet.
    pub fn is_empty(&self) -> bool {
        self.held.load().is_none()
    }

    /// Serves `credentials` from the next handshake on.
    pub fn install(&self, credentials: Arc<Credentials>) {
        self.held.store(Some(credentials));
        self.has_warned.store(false, Ordering::Relaxed);
    }

    /// How it stands.
    pub fn notes(&self) -> Notes {
        lock(&self.notes).clone()
    }

    /// Notes how it stands.
    pub(super) fn note(&self, change: impl FnOnce(&mut Notes)) {
        change(&mut lock(&self.notes));
    }

    /// Says once that clients of `listener` are refused because nothing is held yet.
    pub fn warn_empty(&self, listener: &str) {
        if !self.has_warned.swap(true, Ordering::Relaxed) {
            warn!(listener, "clients are refused until the first certificate has been got");
        }
    }
}

impl ResolvesServerCert for Slot {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.held.load().as_ref().map(|credentials| Arc::clone(&credentials.certified))
    }
}

impl ResolvesServerCert for Shelf {
    /// What shows that the name is ours.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.proof(hello.server_name()?)
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot")
            .field("held", &self.held())
            .field("notes", &self.notes())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Proofs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.0).finish()
    }
}

impl fmt::Debug for Proof {
    /// What is asked for, not the answer.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Page { token, .. } => f.debug_tuple("Page").field(token).finish(),
            Self::Certificate { name, .. } => f.debug_tuple("Certificate").field(name).finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proof_is_found_only_while_it_is_asked_for() {
        let shelf = Arc::new(Shelf::default());
        assert_eq!(shelf.page("one"), None);
        let proving = shelf.proving();
        assert_eq!(shelf.page("one"), None);
        for token in ["one", "two"] {
            proving.add(Proof::Page { token: token.into(), text: format!("{token}.key").into() });
        }
        let rows =
            [("one", Some("one.key")), ("two", Some("two.key")), ("ONE", None), ("", None), ("on", None)];
        for (token, expected) in rows {
            assert_eq!(shelf.page(token).as_deref(), expected, "{token}");
        }
        proving.replace(vec![Proof::Page { token: "three".into(), text: "x".into() }]);
        assert_eq!((shelf.page("one"), shelf.page("three").as_deref()), (None, Some("x")));
        drop(proving);
        assert_eq!(shelf.page("three"), None);
    }
}
