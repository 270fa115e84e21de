//! What the service manager is told (`NOTIFY_SOCKET`, `sd_notify(3)`); nothing where there is none.

use sd_notify::NotifyState;
use tracing::warn;

use crate::state::ReloadStatus;

/// Tells the service manager how the process is.
#[derive(Debug, Clone, Copy)]
pub struct Service {
    is_told: bool,
}

impl Service {
    /// The service manager of this process, if it has one.
    pub fn of_this_process() -> Self {
        Self { is_told: true }
    }

    /// Nobody: this process is no service.
    pub fn nobody() -> Self {
        Self { is_told: false }
    }

    /// It serves, or the change is done with.
    pub fn ready(self, last: &ReloadStatus) {
        let refused = if last.errors.is_empty() { "" } else { "; the last change was refused, see the log" };
        let status = format!("serving generation {}{refused}", last.generation);
        self.tell(&[NotifyState::Ready, NotifyState::Status(&status)]);
    }

    /// It looks for changes of the configuration.
    pub fn reloading(self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => {
                self.tell(&[NotifyState::Reloading, now, NotifyState::Status("reading the configuration")]);
            }
            Err(error) => warn!(%error, "the service manager cannot be told"),
        }
    }

    /// It finishes what is in flight and ends.
    pub fn stopping(self) {
        self.tell(&[NotifyState::Stopping, NotifyState::Status("finishing what is in flight")]);
    }

    /// A new process is being started, or that came to nothing.
    pub fn status(self, text: &str) {
        self.tell(&[NotifyState::Status(text)]);
    }

    /// The service is another process from now on. It is the last thing that this one says: what it does now is no
    /// longer what the service does.
    pub fn hands_over(self, successor: u32) {
        self.tell(&[NotifyState::MainPid(successor), NotifyState::Status("handed over to a new process")]);
    }

    fn tell(self, states: &[NotifyState<'_>]) {
        if self.is_told
            && let Err(error) = sd_notify::notify(states)
        {
            warn!(%error, "the service manager cannot be told");
        }
    }
}
