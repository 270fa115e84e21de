//! A route's rate limit at work: which unit a request is of, and whether that one may send it. All workers ask the same
//! table, and a change of the configuration that leaves the limit as it is leaves the table, too.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::model::RateLimit;
use crate::logic::condition::{Ambiguous, RequestView};
use crate::logic::limit::{self, Gcra, Table, Verdict};
use crate::telemetry::LimitId;

/// A route's rate limit at work.
#[derive(Debug)]
pub struct Limiter {
    /// Its label.
    pub id: LimitId,
    settings: Arc<RateLimit>,
    table: Table,
    /// A secret of this process and limit: nobody outside can tell which units share a place in the table.
    keyed: RandomState,
    epoch: Instant,
    policy: Box<str>,
}

impl Limiter {
    /// A limit under which nobody has sent anything yet.
    pub fn new(settings: Arc<RateLimit>, id: LimitId, now: Instant) -> Self {
        let gcra = Gcra::new(settings.rate, settings.burst);
        let units = if settings.key.is_empty() { 1 } else { settings.units };
        let (burst, window) = (settings.burst, settings.rate.seconds_for(settings.burst));
        Self {
            id,
            table: Table::new(gcra, units),
            keyed: RandomState::new(),
            epoch: now,
            policy: format!("\"default\";q={burst};w={window}").into(),
            settings,
        }
    }

    /// The settings.
    pub fn settings(&self) -> &Arc<RateLimit> {
        &self.settings
    }

    /// Whether the unit of `request` may send it `now`. Requests without a key are one unit.
    ///
    /// # Errors
    /// [`Ambiguous`] when the header that names the unit came twice with different values.
    pub fn ask<R: RequestView>(&self, request: &R, now: Instant) -> Result<Verdict, Ambiguous> {
        let unit = limit::unit(&self.settings.key, request)?;
        // A tenant and an address of the same text are two.
        let hash = self.keyed.hash_one(&unit);
        Ok(self.table.ask(hash, now.saturating_duration_since(self.epoch)))
    }

    /// What the limit is, in the words of `RateLimit-Policy`: the burst, and the seconds in which it is given again.
    pub fn policy(&self) -> &str {
        &self.policy
    }
}

/// Whole seconds until a client may try again that has to wait for `wait`: 1 or more.
pub fn seconds(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::condition::Source;
    use crate::logic::condition::fake::Fake;
    use crate::logic::limit::Rate;

    const SECOND: Duration = Duration::from_secs(1);

    fn limiter(key: &[&str], now: Instant) -> Limiter {
        let key = key.iter().map(|source| Source::parse(source).unwrap()).collect();
        let rate = Rate::new(500, SECOND).unwrap();
        let id = crate::telemetry::Metrics::new().limit("web");
        Limiter::new(Arc::new(RateLimit { key, rate, burst: 2, units: 64 }), id, now)
    }

    #[test]
    fn unit_is_the_first_source_that_is_present_and_the_keyless_are_one() {
        let now = Instant::now();
        let limiter = limiter(&["header:x-tenant-id", "header:x-user"], now);
        let tenant = |name: &str| Fake::new().header("x-tenant-id", name);
        for (request, expected) in [
            (tenant("a"), true),
            (tenant("a").header("x-user", "1"), true),
            (tenant("a").header("x-user", "2"), false),
            (tenant("b"), true),
            (tenant("").header("x-user", "b"), true),
            (tenant("").header("x-user", "b"), true),
            (tenant("").header("x-user", "b"), false),
            (tenant("b"), true),
            (tenant("b"), false),
            (Fake::new(), true),
            (tenant(" "), true),
            (Fake::new().path("/other"), false),
        ] {
            let verdict = limiter.ask(&request, now).unwrap();
            assert_eq!(matches!(verdict, Verdict::Admitted { .. }), expected, "{request:?}");
        }
        assert!(limiter.ask(&tenant("a").header("x-tenant-id", "b"), now).is_err());
    }

    #[test]
    fn without_a_key_all_requests_are_one_unit_and_time_gives_again() {
        let now = Instant::now();
        let limiter = limiter(&[], now);
        let ask = |number: u32, later: Duration| {
            limiter.ask(&Fake::new().header("x-user", &number.to_string()), now + later).unwrap()
        };
        let served = Verdict::Admitted { forgot: false };
        assert_eq!([0, 1].map(|number| ask(number, Duration::ZERO)), [served; 2]);
        assert_eq!(ask(2, Duration::ZERO), Verdict::Refused(2 * SECOND));
        assert_eq!(ask(2, 2 * SECOND), served);
        assert_eq!(limiter.policy(), "\"default\";q=2;w=4");
    }

    #[test]
    fn seconds_to_wait_are_whole_rounded_up_and_one_at_least() {
        for (milliseconds, expected) in [(0, 1), (1, 1), (1000, 1), (1001, 2), (59_999, 60)] {
            assert_eq!(seconds(Duration::from_millis(milliseconds)), expected);
        }
    }
}
