//! What an accept loop does when the system has no file for a connection (EMFILE, ENFILE) or no memory: it lets go of
//! what nobody uses, rests for longer each time, and tries again at once when a connection of its worker has gone. The
//! client waits in the kernel's queue meanwhile.

use std::io;
use std::time::Duration;

use rustix::io::Errno;
use tokio::time::{Instant, timeout};
use tracing::warn;

use super::accept::Accepting;
use crate::proxy::Worker;

/// How long the first rest is, and how long the longest.
const RESTS: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(250));

/// How often the log is told, at most.
const TOLD: Duration = Duration::from_mins(1);

/// How many connections that wait for a next request are closed at a time.
const DISMISSED: usize = 32;

/// How it stands with an accept loop.
#[derive(Debug)]
pub(super) struct Shortage {
    rest: Duration,
    told: Option<Instant>,
}

impl Shortage {
    /// There is none.
    pub(super) fn none() -> Self {
        Self { rest: RESTS.0, told: None }
    }

    /// Says that a connection was accepted.
    pub(super) fn is_over(&mut self) {
        self.rest = RESTS.0;
    }

    /// Rests after `error`.
    pub(super) async fn rest(&mut self, worker: &Worker, accepting: &Accepting, error: &io::Error) {
        worker.metrics.accept_failed(accepting.id);
        let now = Instant::now();
        if self.told.is_none_or(|told| now.saturating_duration_since(told) >= TOLD) {
            self.told = Some(now);
            let listener = &accepting.settings.borrow().name;
            warn!(%listener, %error, "a client cannot be accepted; `limits.connections` is to be below the limit of open files");
        }
        if is_shortage(error) {
            worker.close_all_idle();
            worker.idlers.dismiss(DISMISSED);
        }
        // Either way it is tried again.
        let _ = timeout(self.rest, worker.freed.notified()).await;
        self.rest = (2 * self.rest).min(RESTS.1);
    }
}

/// Whether the system lacks what another connection needs.
fn is_shortage(error: &io::Error) -> bool {
    let shortages = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|errno| shortages.contains(&errno))
}
