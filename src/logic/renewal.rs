//! When a certificate is asked for: before the first, in time before its end, and after failures. Times are seconds since
//! 1970, for certificates have no others. Who asks is `acme`'s.
//!
//! Nothing here can make an authority be asked in a tight loop: after a success half of what is left must pass, and at
//! least [`GAP`]; after failures the waits double up to a day.

use std::time::Duration;

/// The least time between a certificate and the next, in seconds, however short they last.
pub const GAP: i64 = 10;

/// The first wait after an authority could not be asked, in seconds.
const UNREACHABLE: i64 = 60;
/// The first wait after an authority refused, in seconds: with what follows, 4 attempts in the first hour. Let's Encrypt
/// counts 5 an hour for each name.
const REFUSED: i64 = 300;
/// The longest wait of our own, in seconds.
const DAY: i64 = 86_400;
/// The longest wait that an authority may ask for, in seconds: what is longer is a mistake.
const WEEK: i64 = 7 * DAY;

/// When a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// From here.
    pub from: i64,
    /// To here, this second included.
    pub until: i64,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A certificate is asked for, now.
    Order,
    /// Nothing before this time.
    Wait(i64),
}

/// Why there is no certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The authority could not be asked, or did not answer.
    Unreachable,
    /// It said no, or could not reach us.
    Refused,
}

/// What is known of earlier attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Renewal {
    failures: u32,
    not_before: Option<i64>,
}

impl Renewal {
    /// What is to be done at `now` with what is `held`.
    pub fn step(&self, held: Option<Held>, renew_before: Option<Duration>, now: i64) -> Step {
        let due = held.map(|held| due(held, renew_before));
        // A wait that is longer than any was told when the clock was wrong.
        let wait = self.not_before.filter(|at| *at <= now.saturating_add(WEEK));
        let at = due.max(wait).unwrap_or(now);
        if at <= now { Step::Order } else { Step::Wait(at) }
    }

    /// How many attempts have failed since the last success.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Notes that a certificate was got at `now`, valid to `until`.
    pub fn succeeded(&mut self, until: i64, now: i64) {
        let half = until.saturating_sub(now) / 2;
        *self = Self { failures: 0, not_before: Some(now.saturating_add(half.clamp(GAP, DAY))) };
    }

    /// Notes that an attempt failed at `now`; the next one is not before `retry_after`, where the authority says so.
    /// `draw` is random, in `[0, 1)`: it keeps proxies that failed together from coming back together.
    pub fn failed(&mut self, trouble: Trouble, retry_after: Option<Duration>, draw: f64, now: i64) {
        let first = match trouble {
            Trouble::Unreachable => UNREACHABLE,
            Trouble::Refused => REFUSED,
        };
        let doubled = first.checked_shl(self.failures.min(16)).unwrap_or(DAY).min(DAY);
        // Three quarters to the whole.
        #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "at most a day")]
        let own = doubled - (doubled as f64 * draw.clamp(0.0, 1.0) / 4.0) as i64;
        let asked = retry_after.map_or(0, |wait| i64::try_from(wait.as_secs()).unwrap_or(WEEK).min(WEEK));
        self.failures = self.failures.saturating_add(1);
        self.not_before = Some(now.saturating_add(own.max(asked)));
    }
}

/// When a certificate is to be renewed: `renew_before` its end, or when a third of its time is left; never in the first
/// half of its time.
pub fn due(held: Held, renew_before: Option<Duration>) -> i64 {
    let lifetime = held.until.saturating_sub(held.from).max(0);
    let before = match renew_before {
        None => lifetime / 3,
        Some(before) => i64::try_from(before.as_secs()).unwrap_or(i64::MAX),
    };
    held.until.saturating_sub(before.min(lifetime / 2))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: i64 = 3600;

    #[test]
    fn certificate_is_asked_for_when_there_is_none_and_renewed_in_time() {
        let quarter = Held { from: 0, until: 90 * DAY };
        let days = |days: u64| Some(Duration::from_secs(days * 86_400));
        let rows = [
            (None, None, 0, Step::Order),
            (Some(quarter), None, 0, Step::Wait(60 * DAY)),
            (Some(quarter), None, 60 * DAY, Step::Order),
            (Some(quarter), None, 100 * DAY, Step::Order),
            (Some(quarter), days(10), 79 * DAY, Step::Wait(80 * DAY)),
            (Some(quarter), days(10), 80 * DAY, Step::Order),
            // So long before its end would be at once, always again.
            (Some(quarter), days(365), 0, Step::Wait(45 * DAY)),
            (Some(Held { from: 5, until: 0 }), None, 1, Step::Order),
        ];
        for (held, before, now, expected) in rows {
            assert_eq!(Renewal::default().step(held, before, now), expected, "{held:?} {before:?} at {now}");
        }
    }

    #[test]
    fn wait_after_a_failure_doubles_to_a_day_and_is_over_after_a_success() {
        for (trouble, first) in [(Trouble::Unreachable, 60), (Trouble::Refused, 300)] {
            let mut renewal = Renewal::default();
            let mut expected = first;
            for _ in 0..40 {
                renewal.failed(trouble, None, 0.0, 1000);
                assert_eq!(renewal.step(None, None, 1000), Step::Wait(1000 + expected));
                expected = (expected * 2).min(DAY);
            }
            assert_eq!(renewal.failures(), 40);
            renewal.succeeded(1000 + 8 * HOUR, 1000);
            assert_eq!(
                (renewal.failures(), renewal.step(None, None, 1000)),
                (0, Step::Wait(1000 + 4 * HOUR))
            );
        }
    }

    #[test]
    fn wait_that_the_authority_asks_for_is_kept_up_to_a_week() {
        let rows = [(10, 300), (HOUR, HOUR), (3 * DAY, 3 * DAY), (365 * DAY, WEEK)];
        for (asked, expected) in rows {
            let mut renewal = Renewal::default();
            let wait = Some(Duration::from_secs(asked.unsigned_abs()));
            renewal.failed(Trouble::Refused, wait, 0.0, 0);
            assert_eq!(renewal.step(None, None, 0), Step::Wait(expected), "{asked}");
        }
    }

    #[test]
    fn wait_from_a_clock_that_was_wrong_is_forgotten() {
        let mut renewal = Renewal::default();
        renewal.failed(Trouble::Refused, None, 0.0, 1000 * DAY);
        assert_eq!(renewal.step(None, None, 1000 * DAY), Step::Wait(1000 * DAY + 300));
        assert_eq!(renewal.step(None, None, 10 * DAY), Step::Order);
    }

    proptest! {
        #[test]
        fn no_authority_is_ever_asked_in_a_tight_loop(
            from in -DAY..DAY, lifetime in -DAY..DAY, before in proptest::option::of(0_u64..1_000_000),
            draw in 0.0..1.0_f64, outcomes in proptest::collection::vec(any::<Option<bool>>(), 1..20),
        ) {
            let (mut renewal, mut now) = (Renewal::default(), 0);
            let held = Some(Held { from, until: from + lifetime });
            for outcome in outcomes {
                match outcome {
                    None => renewal.succeeded(from + lifetime, now),
                    Some(true) => renewal.failed(Trouble::Refused, None, draw, now),
                    Some(false) => renewal.failed(Trouble::Unreachable, None, draw, now),
                }
                let Step::Wait(until) = renewal.step(held, before.map(Duration::from_secs), now) else {
                    panic!("at once after {outcome:?}");
                };
                let least = match outcome { None => GAP, Some(true) => 225, Some(false) => 45 };
                prop_assert!(until - now >= least, "{} s after {outcome:?}", until - now);
                now = until;
                prop_assert_eq!(renewal.step(held, before.map(Duration::from_secs), now), Step::Order);
            }
        }

        #[test]
        fn renewal_is_due_in_the_second_half(
            from in -DAY..DAY, lifetime in 0..400 * DAY, before in proptest::option::of(any::<u64>()),
        ) {
            let held = Held { from, until: from + lifetime };
            let at = due(held, before.map(Duration::from_secs));
            prop_assert!((from + lifetime / 2..=held.until).contains(&at));
        }
    }
}
