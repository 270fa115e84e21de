//! The checks of one endpoint, one after the other: when each begins, and that not too many are under way in all.

use std::future::Future;

use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, sleep_until};

use super::Failure;
use crate::logic::balance::check::{Pace, Verdict};

/// The most checks that are under way at a time, of all upstreams together: each has a file.
static SLOTS: Semaphore = Semaphore::const_new(128);

/// What is checked.
pub trait Ask {
    /// One check.
    fn ask(&self) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// When the checks of an endpoint begin.
#[derive(Debug, Clone, Copy)]
pub struct Rhythm {
    /// How often.
    pub pace: Pace,
    /// Whether the first one is at once, for somebody waits for it.
    pub at_once: bool,
}

impl Rhythm {
    /// Checks `target` again and again, and gives each result to `told`, which says what they came to; ends when that is
    /// `None`.
    pub async fn keep(self, target: impl Ask, mut told: impl FnMut(Result<(), Failure>) -> Option<Verdict>) {
        if !self.at_once {
            sleep(self.pace.first(fastrand::f64())).await;
        }
        loop {
            // It is never closed.
            let slot = SLOTS.acquire().await.ok();
            let began = Instant::now();
            let result = target.ask().await;
            drop(slot);
            let Some(verdict) = told(result) else { return };
            sleep_until(began + self.pace.pause(Some(verdict), fastrand::f64())).await;
        }
    }
}
