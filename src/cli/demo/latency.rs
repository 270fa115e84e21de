//! Latencies in buckets fine enough for a loopback: each is at most a sixteenth wider than its lower bound.

use std::time::Duration;

/// Bits of precision behind the leading one.
const PRECISION: u32 = 4;
const STEPS: u64 = 1 << PRECISION;
/// The longest latency that is told apart, in microseconds: about a minute.
const LONGEST: u64 = (1 << 26) - 1;

/// How many latencies fell into each bucket.
#[derive(Debug, Clone, Default)]
pub(super) struct Latencies {
    buckets: Vec<u32>,
    count: u64,
}

/// The bucket of a latency: itself up to 31 µs, then sixteen to a doubling.
fn bucket(micros: u64) -> usize {
    let micros = micros.min(LONGEST);
    let doublings = micros.max(1).ilog2().saturating_sub(PRECISION);
    usize::try_from(u64::from(doublings) * STEPS + (micros >> doublings)).unwrap_or_default()
}

/// The middle of a bucket.
fn middle(bucket: usize) -> Duration {
    let bucket = bucket as u64;
    let doublings = (bucket / STEPS).saturating_sub(1);
    let lower = (bucket - doublings * STEPS) << doublings;
    Duration::from_micros(lower) + Duration::from_nanos(500 << doublings)
}

impl Latencies {
    /// Counts one.
    pub(super) fn add(&mut self, latency: Duration) {
        let bucket = bucket(u64::try_from(latency.as_micros()).unwrap_or(LONGEST));
        if self.buckets.len() <= bucket {
            self.buckets.resize(bucket + 1, 0);
        }
        if let Some(count) = self.buckets.get_mut(bucket) {
            *count = count.saturating_add(1);
        }
        self.count += 1;
    }

    /// Counts those of `other`.
    pub(super) fn merge(&mut self, other: &Self) {
        if self.buckets.len() < other.buckets.len() {
            self.buckets.resize(other.buckets.len(), 0);
        }
        for (total, count) in self.buckets.iter_mut().zip(&other.buckets) {
            *total = total.saturating_add(*count);
        }
        self.count += other.count;
    }

    /// How many were counted.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// The latency that `percent` of a hundred do not exceed, to 3%; `None` when none was counted.
    pub(super) fn percentile(&self, percent: u64) -> Option<Duration> {
        let rank = (self.count * percent).div_ceil(100).max(1);
        let mut below = 0;
        let found = self.buckets.iter().position(|count| {
            below += u64::from(*count);
            below >= rank
        });
        found.map(middle)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_counted_then_there_is_no_percentile() {
        assert_eq!(Latencies::default().percentile(50), None);
    }

    proptest! {
        #[test]
        fn percentile_is_that_of_the_sorted_latencies_to_a_thirtieth(
            mut micros in prop::collection::vec(1u64..50_000_000, 1..300), percent in 1u64..=100,
        ) {
            let (mut even, mut odd) = (Latencies::default(), Latencies::default());
            for (index, latency) in micros.iter().enumerate() {
                let half = if index % 2 == 0 { &mut even } else { &mut odd };
                half.add(Duration::from_micros(*latency));
            }
            even.merge(&odd);
            prop_assert_eq!(even.count(), micros.len() as u64);
            micros.sort_unstable();
            let rank = (micros.len() * usize::try_from(percent).unwrap()).div_ceil(100);
            let exact = Duration::from_micros(micros[rank - 1]);
            let measured = even.percentile(percent).unwrap();
            prop_assert!(measured.abs_diff(exact) <= exact / 30 + Duration::from_micros(1), "{measured:?}, {exact:?}");
        }
    }
}
