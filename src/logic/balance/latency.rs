//! What `peak_ewma` remembers of an endpoint: how long it takes to answer, as an average that forgets with time and that
//! believes bad news at once.
//!
//! A sample above the average takes its place; one below moves it by as much as time has passed. Without samples the
//! average falls to nothing, so that who was slow is tried again. Who has never answered gets one request at a time:
//! it looks fast while it has none, and slow while it has one.
//! A failure is no answer, however fast it comes: it counts as [`PENALTY`] at least, and as twice of what was before,
//! or who refuses everything at once would look like the fastest of all.
//!
//! Source: "peak EWMA" of Finagle's and Linkerd's balancers; written anew from its description.

use std::time::Duration;

/// How fast it is forgotten: after so long a sample counts for 1/e.
pub const DECAY: Duration = Duration::from_secs(10);
/// What a failure counts as, at least.
pub const PENALTY: Duration = Duration::from_secs(1);
/// What failures come to, at most: who has failed for long is tried again within minutes.
const WORST: Duration = Duration::from_mins(1);
/// What is assumed of who has a first request and has not answered yet.
const UNKNOWN: Duration = Duration::from_secs(1);

/// How long an endpoint takes to answer, as known at a time.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Latency {
    /// Seconds, and when that was so, since an epoch of the caller's; `None` while it has never answered.
    known: Option<(f64, Duration)>,
}

impl Latency {
    /// How long it takes at `now`, in seconds: 0 for who is not known and idle.
    pub fn seconds(self, in_flight: u32, now: Duration) -> f64 {
        match self.known {
            Some((seconds, at)) => seconds * forgotten(now.saturating_sub(at)),
            None if in_flight == 0 => 0.0,
            None => UNKNOWN.as_secs_f64(),
        }
    }

    /// What is known once it has answered after `taken`.
    #[must_use]
    pub fn answered(self, taken: Duration, now: Duration) -> Self {
        let sample = taken.as_secs_f64();
        let seconds = match self.known {
            Some((former, _)) if sample >= former => sample,
            Some((former, at)) => {
                let kept = forgotten(now.saturating_sub(at));
                former * kept + sample * (1.0 - kept)
            }
            None => sample,
        };
        Self { known: Some((seconds, now)) }
    }

    /// What is known once it has failed after `taken`.
    #[must_use]
    pub fn failed(self, taken: Duration, now: Duration) -> Self {
        let twice = self.known.map_or(0.0, |_| 2.0 * self.seconds(1, now));
        let seconds = twice.min(WORST.as_secs_f64()).max(PENALTY.max(taken).as_secs_f64());
        Self { known: Some((seconds, now)) }
    }
}

/// What is left of a sample after `passed`.
fn forgotten(passed: Duration) -> f64 {
    (-passed.as_secs_f64() / DECAY.as_secs_f64()).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// What `latency` comes to at `now`, in milliseconds.
    fn ms(latency: Latency, now: Duration) -> f64 {
        latency.seconds(1, now) * 1e3
    }

    #[test]
    fn bad_news_counts_at_once_and_good_news_with_time() {
        let known = Latency::default().answered(10 * MS, MS);
        assert!((ms(known, MS) - 10.0).abs() < 1e-9);
        let slow = known.answered(100 * MS, 2 * MS);
        assert!((ms(slow, 2 * MS) - 100.0).abs() < 1e-9, "a peak");
        let soon = slow.answered(10 * MS, 3 * MS);
        assert!(ms(soon, 3 * MS) > 99.0, "one good answer right after it says little");
        let later = slow.answered(10 * MS, 2 * MS + DECAY);
        let expected = 100.0 / std::f64::consts::E + 10.0 * (1.0 - 1.0 / std::f64::consts::E);
        assert!((ms(later, 2 * MS + DECAY) - expected).abs() < 1e-6);
        assert!((ms(slow, 2 * MS + 3 * DECAY) - 100.0 * (-3.0f64).exp()).abs() < 1e-6, "forgotten");
    }

    #[test]
    fn unknown_endpoint_is_tried_with_one_request_at_a_time() {
        let unknown = Latency::default();
        assert_eq!(unknown.seconds(0, MS).to_bits(), 0);
        assert!((unknown.seconds(1, MS) - UNKNOWN.as_secs_f64()).abs() < 1e-9);
    }

    #[test]
    fn failure_never_looks_fast_and_failures_in_a_row_look_worse_up_to_a_bound() {
        let mut latency = Latency::default().answered(MS, MS);
        let mut former = 0.0;
        for number in 0..20 {
            latency = latency.failed(Duration::ZERO, MS * (2 + number));
            let now = latency.seconds(1, MS * (2 + number));
            assert!(now >= PENALTY.as_secs_f64() && now >= former && now <= WORST.as_secs_f64(), "{now}");
            former = now;
        }
        assert!(former > 59.0, "{former}");
        let timeout = latency.failed(2 * WORST, MS * 30);
        assert!((timeout.seconds(1, MS * 30) - 120.0).abs() < 1e-9, "what it took is what it took");
    }

    #[test]
    fn clock_that_stands_or_steps_back_gives_a_number() {
        let latency = Latency::default().answered(10 * MS, 5 * MS);
        for now in [Duration::ZERO, 5 * MS, Duration::MAX] {
            assert!(latency.seconds(3, now).is_finite());
            assert!(latency.answered(MS, now).seconds(3, now).is_finite());
            assert!(latency.failed(Duration::MAX, now).seconds(3, now).is_finite());
        }
    }
}
