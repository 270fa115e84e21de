//! Which endpoints do not take connections, as the workers find it: for the log and for `/status`. It decides nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

/// An endpoint that comes and goes is told of at most this often.
const QUIET: Duration = Duration::from_secs(10);

/// What is known of the endpoints of one upstream. Workers come here only when their own view of one changes.
#[derive(Debug, Default)]
pub(super) struct Reach(Mutex<HashMap<Arc<str>, State>>);

/// What is wrong with an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// No connection is made.
    Connect,
    /// A connection is made, but no TLS on it.
    Tls,
    /// It says so of our TLS when the handshake is over for us.
    LateTls,
}

#[derive(Debug, Default)]
struct State {
    trouble: Option<Trouble>,
    /// When it was last told of as away, for connections and for TLS, and whether it is still to be told of as back.
    told: [Option<Instant>; 2],
    owes: bool,
}

impl Reach {
    /// A worker could not connect to `endpoint`.
    pub(super) fn lost(
        &self,
        upstream: &str,
        endpoint: &Arc<str>,
        trouble: Trouble,
        error: &(dyn std::error::Error + 'static),
        now: Instant,
    ) {
        let mut known = self.lock();
        let state = known.entry(Arc::clone(endpoint)).or_default();
        let told = &mut state.told[usize::from(trouble != Trouble::Connect)];
        let is_due = told.is_none_or(|told| now.saturating_duration_since(told) >= QUIET);
        if state.trouble != Some(trouble) && is_due {
            warn!(upstream, endpoint = &**endpoint, error, "endpoint takes no connections");
            (*told, state.owes) = (Some(now), true);
        }
        state.trouble = Some(trouble);
    }

    /// A worker could connect to `endpoint` again.
    pub(super) fn found(&self, upstream: &str, endpoint: &Arc<str>) {
        let mut known = self.lock();
        let Some(state) = known.get_mut(endpoint) else { return };
        state.trouble = None;
        if std::mem::take(&mut state.owes) {
            info!(upstream, endpoint = &**endpoint, "endpoint takes connections again");
        }
    }

    /// Whether the last connect to `endpoint` failed.
    pub(super) fn is_away(&self, endpoint: &str) -> bool {
        self.lock().get(endpoint).is_some_and(|state| state.trouble.is_some())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, State>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn endpoint_is_away_from_the_failure_to_the_next_success_and_told_of_seldom() {
        let (reach, endpoint) = (Reach::default(), Arc::from("10.0.0.1:80"));
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let told = |reach: &Reach| reach.lock()[&endpoint].told[0];
        let lose = |trouble| reach.lost("canary", &endpoint, trouble, &refused, Instant::now());
        assert!(!reach.is_away(&endpoint));
        let first = Instant::now();
        lose(Trouble::Connect);
        assert!(reach.is_away(&endpoint));
        assert_eq!(told(&reach), Some(first));
        for _ in 0..100 {
            reach.found("canary", &endpoint);
            assert!(!reach.is_away(&endpoint));
            lose(Trouble::Connect);
            assert!(reach.is_away(&endpoint));
        }
        assert_eq!(told(&reach), Some(first), "once for all of these");
        reach.found("canary", &endpoint);
        tokio::time::advance(QUIET).await;
        lose(Trouble::Connect);
        assert_eq!(told(&reach), Some(Instant::now()));
        lose(Trouble::Tls);
        assert_eq!(reach.lock()[&endpoint].told, [Some(Instant::now()); 2], "another trouble is news");
    }
}
