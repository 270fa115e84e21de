//! What a failure counts as for policies that look at requests in flight: as a request that takes a second.
//!
//! Who refuses everything at once has nothing in flight and would look like the idlest of all: of two endpoints the
//! broken one would get nearly everything. This stands beside ejection: it needs no threshold, takes nobody out, and
//! holds for endpoints that fail now and then as well.

use std::time::Duration;

/// How long a failure counts: as an average, for it is forgotten little by little.
pub const LASTS: Duration = Duration::from_secs(1);
/// When it is forgotten altogether, whatever it was: a million failures are less than half of one by then.
pub const FORGOTTEN: Duration = Duration::from_secs(15);

/// Failures that still count.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Setback {
    count: f64,
    /// When it was so many, since an epoch of the caller's.
    at: Duration,
}

impl Setback {
    /// How many requests more seem to be in flight at `now`.
    pub fn load(self, now: Duration) -> u32 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count that saturates")]
        let load = self.count(now).round() as u32;
        load
    }

    /// With one more failure at `now`.
    #[must_use]
    pub fn failed(self, now: Duration) -> Self {
        Self { count: (self.count(now) + 1.0).min(1e6), at: now }
    }

    fn count(self, now: Duration) -> f64 {
        self.count * (-now.saturating_sub(self.at).as_secs_f64() / LASTS.as_secs_f64()).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_add_up_and_are_forgotten() {
        let start = Duration::from_secs(5);
        let mut setback = Setback::default();
        assert_eq!(setback.load(start), 0);
        for _ in 0..10 {
            setback = setback.failed(start);
        }
        let rows = [(0, 10), (1, 4), (2, 1), (3, 0)];
        for (seconds, expected) in rows {
            assert_eq!(setback.load(start + seconds * LASTS), expected, "after {seconds} s");
        }
        let many = (0..2_000_000).fold(setback, |setback, _| setback.failed(start));
        assert_eq!((many.load(start), many.load(start + FORGOTTEN)), (1_000_000, 0), "bounded");
        assert_eq!(many.load(Duration::ZERO), 1_000_000, "a clock that steps back");
    }
}
