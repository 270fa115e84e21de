//! What an authority is asked, and what can come of it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::keep::Keep;
use super::shelf::Shelf;
use crate::config::acme::Acme;
use crate::logic::renewal::Trouble;

/// The most of an authority's words that is repeated.
const WORDS: usize = 400;

/// Issues certificates.
pub trait Authority: Send + Sync + 'static {
    /// Asks for the certificate `acme`: a new private key and the chain that was issued for it, in PEM, unchecked. What
    /// shows that the names are ours stands on `shown` meanwhile; the account is kept in `keep`.
    fn obtain(
        &self,
        acme: &Acme,
        keep: &Keep,
        shown: &Arc<Shelf>,
    ) -> impl Future<Output = Result<Vec<u8>, OrderError>> + Send;
}

/// Why there is no certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct OrderError {
    /// Whose fault it is.
    pub trouble: Trouble,
    /// What happened, in one line.
    pub message: String,
    /// How long the authority wants to be left alone.
    pub retry_after: Option<Duration>,
}

impl OrderError {
    /// An error; `message` may have words of a stranger.
    pub fn new(trouble: Trouble, message: &str, retry_after: Option<Duration>) -> Self {
        let mut words = message.chars().map(|c| if c.is_control() { ' ' } else { c });
        let mut message: String = words.by_ref().take(WORDS).collect();
        if words.next().is_some() {
            message.push('…');
        }
        Self { trouble, message, retry_after }
    }

    /// The authority could not be asked.
    pub fn unreachable(message: &str) -> Self {
        Self::new(Trouble::Unreachable, message, None)
    }

    /// The authority said no, or gave what cannot be used.
    pub fn refused(message: &str) -> Self {
        Self::new(Trouble::Refused, message, None)
    }
}
