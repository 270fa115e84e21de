//! How long a peer may still make us wait: for so long at a time, and no longer than what it has sent or taken is worth
//! at the least rate. Only time in which it alone is waited for counts.

use std::time::Duration;

use tokio::time::Instant;

/// How long a peer may still make us wait.
///
/// It begins with a grace, waiting uses it up, and each byte adds to it what a byte may take at the least rate, up to
/// the longest wait. So who has sent much may stand still for that long, and who sends little by little cannot go on for
/// ever.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// The longest wait.
    most: Duration,
    /// Bytes in a second; 0 is no rate.
    rate: u64,
    left: Duration,
    since: Option<Instant>,
}

impl Patience {
    /// Waits of at most `most`, and `rate` bytes in a second after `grace`; a rate of 0 is none.
    pub fn new(most: Duration, rate: u64, grace: Duration) -> Self {
        let left = if rate == 0 { most } else { grace.min(most) };
        Self { most, rate, left, since: None }
    }

    /// Says that it is waited for; until when it may be, if there is an end to it.
    pub fn wait(&mut self, now: impl FnOnce() -> Instant) -> Option<Instant> {
        self.since.get_or_insert_with(now).checked_add(self.left)
    }

    /// Says that `bytes` have come or gone, and the waiting is over.
    pub fn moved(&mut self, bytes: u64, now: impl FnOnce() -> Instant) {
        let since = self.since.take();
        if self.rate == 0 {
            return;
        }
        if let Some(since) = since {
            self.left = self.left.saturating_sub(now().saturating_duration_since(since));
        }
        if self.left < self.most {
            let worth = bytes.saturating_mul(1_000_000) / self.rate;
            self.left = self.left.saturating_add(Duration::from_micros(worth)).min(self.most);
        }
    }

    /// Says that somebody else is waited for.
    pub fn pause(&mut self, now: impl FnOnce() -> Instant) {
        if self.since.is_some() {
            self.moved(0, now);
        }
    }
}

impl From<Duration> for Patience {
    fn from(most: Duration) -> Self {
        Self::new(most, 0, most)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A peer that moves so many bytes each time after so many seconds: when it is given up.
    fn given_up(patience: &mut Patience, moves: impl IntoIterator<Item = (u64, u32)>) -> Option<Duration> {
        let start = Instant::now();
        let mut now = start;
        for (bytes, seconds) in moves {
            let until = patience.wait(|| now);
            now += seconds * SECOND;
            if let Some(until) = until.filter(|until| *until <= now) {
                return Some(until - start);
            }
            patience.moved(bytes, || now);
        }
        None
    }

    #[test]
    fn peer_is_given_up_when_it_is_slower_than_the_rate_or_stands_still_for_too_long() {
        let rows = [
            // A byte a second is worth a hundredth of one.
            (100, vec![(1, 1); 100], Some(20_u32)),
            (0, vec![(1, 1); 100], None),
            (100, vec![(100, 1); 1000], None),
            (100, vec![(99, 1); 1000], None),
            // Nothing at all: the grace.
            (100, vec![(0, 60)], Some(20)),
            (0, vec![(0, 60)], Some(30)),
            // Who has sent much may stand still for the longest wait, once.
            (100, vec![(1_000_000, 1), (0, 29), (0, 60)], Some(31)),
            (100, vec![(1_000_000, 1), (0, 60)], Some(31)),
        ];
        for (rate, moves, expected) in rows {
            let mut patience = Patience::new(30 * SECOND, rate, 20 * SECOND);
            let found = given_up(&mut patience, moves.clone());
            let is_as_expected = match (found, expected) {
                (Some(found), Some(seconds)) => found.abs_diff(seconds * SECOND) < SECOND / 2,
                (found, expected) => found.is_none() && expected.is_none(),
            };
            assert!(is_as_expected, "{rate} {:?}…: {found:?}", &moves[..moves.len().min(3)]);
        }
    }

    #[test]
    fn time_in_which_somebody_else_is_waited_for_does_not_count() {
        let mut patience = Patience::new(30 * SECOND, 100, 20 * SECOND);
        let mut now = Instant::now();
        for _ in 0..19 {
            assert!(patience.wait(|| now).is_some_and(|until| until > now + SECOND));
            now += SECOND;
            patience.pause(|| now);
            now += 1000 * SECOND;
            patience.pause(|| now);
        }
        assert_eq!(patience.wait(|| now), Some(now + SECOND));
    }

    #[test]
    fn wait_without_end_has_none() {
        assert_eq!(Patience::from(Duration::MAX).wait(Instant::now), None);
    }

    proptest! {
        #[test]
        fn whoever_keeps_the_rate_is_never_given_up_and_half_of_it_never_suffices(
            rate in 1_u64..100_000,
            steps in prop::collection::vec(1_u32..10, 200..400),
        ) {
            let fast = steps.iter().map(|seconds| (rate * u64::from(*seconds), *seconds));
            let slow = steps.iter().map(|seconds| (rate * u64::from(*seconds) / 2, *seconds));
            let patience = Patience::new(30 * SECOND, rate, 20 * SECOND);
            prop_assert_eq!(given_up(&mut patience.clone(), fast), None);
            prop_assert!(given_up(&mut patience.clone(), slow).is_some());
        }
    }
}
