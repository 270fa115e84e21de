//! Durations in buckets: the cells that a worker writes, and the snapshot that a reader merges and asks for quantiles.
//!
//! The number of observations is never stored: it is the sum of the buckets, so the two cannot disagree in a scrape.

use std::time::Duration;

use super::cells::Count;

/// The upper bounds of the buckets in microseconds, inclusive (`le`); one more bucket takes what is longer.
///
/// Half a millisecond, then 1-2-3-5 in each decade up to 10 s, then 30 s and 60 s: up to 10 s no bound is more than
/// twice the one below it, so a quantile that is interpolated inside a bucket is off by less than a factor of two at
/// worst, and the usual limits (100 ms, 300 ms, 500 ms, 1 s, the default response timeout of 30 s) are exact.
pub(super) const BOUNDS: [u64; 20] = [
    500, 1_000, 2_000, 3_000, 5_000, 10_000, 20_000, 30_000, 50_000, 100_000, 200_000, 300_000, 500_000,
    1_000_000, 2_000_000, 3_000_000, 5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

const BUCKETS: usize = BOUNDS.len() + 1;

/// The buckets of one worker.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    buckets: [Count; BUCKETS],
    /// In microseconds: as nanoseconds the sum of many long streams would overflow within weeks.
    sum: Count,
}

/// Whole microseconds, rounded up so that a bucket's bound stays inclusive to the nanosecond.
fn microseconds(duration: Duration) -> u64 {
    let fraction = u64::from(duration.subsec_nanos().div_ceil(1000));
    duration.as_secs().saturating_mul(1_000_000).saturating_add(fraction)
}

impl Histogram {
    /// Counts one observation.
    pub(super) fn observe(&self, duration: Duration) {
        let microseconds = microseconds(duration);
        let bucket = BOUNDS.partition_point(|bound| *bound < microseconds);
        if let Some(cell) = self.buckets.get(bucket) {
            cell.add(1);
        }
        self.sum.add(microseconds);
    }

    /// Adds what is in the cells to `snapshot`.
    pub(super) fn add_to(&self, snapshot: &mut HistogramSnapshot) {
        for (total, cell) in snapshot.buckets.iter_mut().zip(&self.buckets) {
            *total = total.wrapping_add(cell.read());
        }
        snapshot.sum = snapshot.sum.wrapping_add(self.sum.read());
    }
}

/// What a histogram held at one moment, over any number of workers and routes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistogramSnapshot {
    /// How many observations fell into each bucket (not cumulative); the last one has no upper bound.
    buckets: [u64; BUCKETS],
    sum: u64,
}

impl Default for HistogramSnapshot {
    fn default() -> Self {
        Self { buckets: [0; BUCKETS], sum: 0 }
    }
}

impl HistogramSnapshot {
    /// How many observations there are.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// All durations together, to a microsecond an observation.
    pub fn sum(&self) -> Duration {
        Duration::from_micros(self.sum)
    }

    /// The buckets with an upper bound, each with that bound in seconds and the observations up to it.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        let mut total = 0;
        BOUNDS.iter().zip(&self.buckets).map(move |(bound, count)| {
            total += count;
            (Duration::from_micros(*bound).as_secs_f64(), total)
        })
    }

    /// Adds what `other` holds.
    pub fn merge(&mut self, other: &Self) {
        for (total, count) in self.buckets.iter_mut().zip(&other.buckets) {
            *total += count;
        }
        self.sum += other.sum;
    }

    /// What came after `earlier`, a snapshot of the same histogram.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut buckets = self.buckets;
        for (count, before) in buckets.iter_mut().zip(&earlier.buckets) {
            *count = count.saturating_sub(*before);
        }
        Self { buckets, sum: self.sum.saturating_sub(earlier.sum) }
    }

    /// The duration below which the part `quantile` (in `[0, 1]`) of the observations lies, interpolated inside its
    /// bucket; 60 s where it lies above all bounds, `None` without observations.
    pub fn quantile(&self, quantile: f64) -> Option<Duration> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
        let as_float = |number: u64| number as f64;
        let rank = quantile.clamp(0.0, 1.0) * as_float(count);
        let (mut below, mut lower) = (0, 0);
        for (bound, in_bucket) in BOUNDS.iter().zip(&self.buckets) {
            if *in_bucket > 0 && as_float(below + in_bucket) >= rank {
                let part = ((rank - as_float(below)) / as_float(*in_bucket)).clamp(0.0, 1.0);
                let bucket = Duration::from_micros(bound - lower);
                return Some(Duration::from_micros(lower) + bucket.mul_f64(part));
            }
            below += in_bucket;
            lower = *bound;
        }
        Some(Duration::from_micros(lower))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn snapshot_of(durations: &[Duration]) -> HistogramSnapshot {
        let histogram = Histogram::default();
        for duration in durations {
            histogram.observe(*duration);
        }
        let mut snapshot = HistogramSnapshot::default();
        histogram.add_to(&mut snapshot);
        snapshot
    }

    #[test]
    fn bounds_rise_and_at_most_double_up_to_ten_seconds() {
        for pair in BOUNDS.windows(2) {
            assert!(pair[0] < pair[1], "{pair:?}");
            assert!(pair[1] > 10_000_000 || pair[1] <= 2 * pair[0], "{pair:?}");
        }
    }

    #[test]
    fn duration_falls_into_the_bucket_whose_bound_includes_it() {
        let rows = [
            (Duration::ZERO, 0),
            (Duration::from_micros(500), 0),
            (Duration::from_nanos(500_001), 1),
            (Duration::from_millis(1), 1),
            (Duration::from_millis(4), 4),
            (Duration::from_mins(1), 19),
            (Duration::from_nanos(60_000_000_001), 20),
            (Duration::MAX, 20),
        ];
        for (duration, bucket) in rows {
            let snapshot = snapshot_of(&[duration]);
            assert_eq!(snapshot.buckets[bucket], 1, "{duration:?}: {snapshot:?}");
            assert_eq!(snapshot.count(), 1);
        }
    }

    #[test]
    fn sum_is_that_of_the_observations() {
        let snapshot =
            snapshot_of(&[Duration::from_millis(1), Duration::from_secs(2), Duration::from_secs(100)]);
        assert_eq!(snapshot.sum(), Duration::from_millis(102_001));
    }

    #[test]
    fn quantile_is_interpolated_inside_its_bucket() {
        let even: Vec<_> = (1..=1000).map(Duration::from_millis).collect();
        let snapshot = snapshot_of(&even);
        for (quantile, expected) in [(0.5, 500), (0.99, 990), (0.25, 250), (1.0, 1000)] {
            let measured = snapshot.quantile(quantile).unwrap();
            let difference = measured.abs_diff(Duration::from_millis(expected));
            assert!(difference < Duration::from_millis(3), "{quantile}: {measured:?}");
        }
        assert_eq!(HistogramSnapshot::default().quantile(0.5), None);
        assert_eq!(snapshot_of(&[Duration::from_secs(1000)]).quantile(0.5), Some(Duration::from_mins(1)));
    }

    proptest! {
        #[test]
        fn snapshot_since_an_earlier_one_holds_what_came_between(
            before in proptest::collection::vec(0u64..100_000_000, 0..50),
            between in proptest::collection::vec(0u64..100_000_000, 0..50),
        ) {
            let durations = |micros: &[u64]| micros.iter().copied().map(Duration::from_micros).collect::<Vec<_>>();
            let (earlier, later) = (snapshot_of(&durations(&before)), snapshot_of(&durations(&between)));
            let mut both = earlier.clone();
            both.merge(&later);
            prop_assert_eq!(both.since(&earlier), later);
        }

        #[test]
        fn quantile_lies_in_the_bucket_of_the_true_one(
            mut micros in proptest::collection::vec(1u64..59_000_000, 1..200), part in 0.0f64..=1.0,
        ) {
            let snapshot = snapshot_of(&micros.iter().copied().map(Duration::from_micros).collect::<Vec<_>>());
            micros.sort_unstable();
            #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss,
                reason = "a small index")]
            let exact = micros[((part * micros.len() as f64).ceil() as usize).max(1) - 1];
            let upper = BOUNDS.partition_point(|bound| *bound < exact);
            let lower = if upper == 0 { 0 } else { BOUNDS[upper - 1] };
            let measured = snapshot.quantile(part).unwrap();
            prop_assert!(measured >= Duration::from_micros(lower), "{measured:?} below {lower} µs");
            prop_assert!(measured <= Duration::from_micros(BOUNDS[upper]), "{measured:?} over {} µs", BOUNDS[upper]);
        }
    }
}
