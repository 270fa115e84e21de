//! How many distinct units there were: a `HyperLogLog` of one-byte registers that one worker raises while anybody reads.
//!
//! Written here and not taken from a crate, because the crates either need `&mut` to count or are shared maps behind
//! locks; what is needed is one writer without a lock, and readers that merge the registers of all workers.
//!
//! Source: P. Flajolet et al., "`HyperLogLog`: the analysis of a near-optimal cardinality estimation algorithm" (2007),
//! for the registers; O. Ertl, "New cardinality estimation algorithms for `HyperLogLog` sketches", arXiv:1702.01284
//! (2017), Algorithm 6, for the estimate, which needs no switch between ranges and no table of corrections.

use std::f64::consts::LN_2;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::types::Position;

/// The bits of a hash that choose the register.
const INDEX_BITS: u32 = 12;
/// How many registers there are. The relative standard error is `1.04 / sqrt(REGISTERS)`, 1.6%.
const REGISTERS: usize = 1 << INDEX_BITS;
/// The bits that are left for the rank, which is in `[1, RANK_BITS + 1]`.
const RANK_BITS: u32 = u64::BITS - INDEX_BITS;

/// The registers of one worker.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Sketch([AtomicU8; REGISTERS]);

impl Default for Sketch {
    fn default() -> Self {
        Self([const { AtomicU8::new(0) }; REGISTERS])
    }
}

/// Spreads a position over all 64 bits: the step and the finaliser of splitmix64, a bijection, so that distinct units
/// stay distinct.
///
/// A position is a hash already, but a variant owns a contiguous range of positions: all units of a 1% canary share
/// their top six bits, would meet in 41 of 4096 registers, and look like a handful.
///
/// Source: S. Vigna, splitmix64.c; G. Steele et al., "Fast splittable pseudorandom number generators" (2014).
const fn spread(position: u64) -> u64 {
    let mut bits = position.wrapping_add(0x9E37_79B9_7F4A_7C15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

impl Sketch {
    /// Counts the unit at `position`; a unit that was counted before changes nothing. One thread only may call it.
    pub(super) fn insert(&self, position: Position) {
        let hash = spread(position.0);
        let index = usize::try_from(hash >> RANK_BITS).unwrap_or(0);
        // The bit behind the last one ends the count of zeros: the rank is at most RANK_BITS + 1.
        let rest = (hash << INDEX_BITS) | (1 << (INDEX_BITS - 1));
        let rank = u8::try_from(rest.leading_zeros() + 1).unwrap_or(u8::MAX);
        if let Some(register) = self.0.get(index)
            && register.load(Ordering::Relaxed) < rank
        {
            register.store(rank, Ordering::Relaxed);
        }
    }
}

/// The registers of several sketches, merged.
#[derive(Debug, Clone)]
pub(super) struct Union(Box<[u8; REGISTERS]>);

impl Default for Union {
    fn default() -> Self {
        Self(Box::new([0; REGISTERS]))
    }
}

impl Union {
    /// Adds the units of `sketch`.
    pub(super) fn add(&mut self, sketch: &Sketch) {
        for (register, other) in self.0.iter_mut().zip(&sketch.0) {
            *register = (*register).max(other.load(Ordering::Relaxed));
        }
    }

    /// How many distinct units were inserted: exact to a few for small numbers, 1.6% standard error for large ones.
    pub(super) fn estimate(&self) -> u64 {
        let mut registers_of_rank = [0.0_f64; RANK_BITS as usize + 2];
        for register in self.0.iter() {
            if let Some(number) = registers_of_rank.get_mut(usize::from(*register)) {
                *number += 1.0;
            }
        }
        let [empty, between @ .., full] = registers_of_rank;
        let all = f64::from(1 << INDEX_BITS);
        let mut sum = all * tau(1.0 - full / all);
        for number in between.iter().rev() {
            sum = f64::midpoint(sum, *number);
        }
        sum += all * sigma(empty / all);
        let estimate = all * all / (2.0 * LN_2 * sum);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "`as` saturates, and NaN is 0"
        )]
        let whole = estimate.round() as u64;
        whole
    }
}

/// `x + sum over k >= 1 of x^(2^k) * 2^(k-1)`, for `x` in `[0, 1]`; infinite at 1.
fn sigma(x: f64) -> f64 {
    if x >= 1.0 {
        return f64::INFINITY;
    }
    let (mut power, mut weight, mut sum) = (x, 1.0, x);
    loop {
        power *= power;
        let next = sum + power * weight;
        if next <= sum {
            return sum;
        }
        sum = next;
        weight *= 2.0;
    }
}

/// `(1 - x - sum over k >= 1 of (1 - x^(2^-k))^2 * 2^-k) / 3`, for `x` in `[0, 1]`.
fn tau(x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return 0.0;
    }
    let (mut root, mut weight, mut sum) = (x, 1.0, 1.0 - x);
    loop {
        root = root.sqrt();
        weight *= 0.5;
        let next = sum - (1.0 - root).powi(2) * weight;
        if next >= sum {
            return sum / 3.0;
        }
        sum = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn estimate(positions: impl Iterator<Item = u64>) -> f64 {
        let sketch = Sketch::default();
        for position in positions {
            sketch.insert(Position(position));
        }
        let mut union = Union::default();
        union.add(&sketch);
        #[expect(clippy::cast_precision_loss, reason = "a small number")]
        let estimate = union.estimate() as f64;
        estimate
    }

    #[test]
    fn spread_gives_the_published_sequence() {
        // The first outputs of splitmix64 with the seed 0: the n-th spreads (n - 1) steps of its increment.
        let golden =
            [0xE220_A839_7B1D_CDAF, 0x6E78_9E6A_A1B9_65F4, 0x06C4_5D18_8009_454F, 0xF88B_B8A8_724C_81EC];
        for (step, expected) in (0_u64..).zip(golden) {
            assert_eq!(spread(step.wrapping_mul(0x9E37_79B9_7F4A_7C15)), expected, "step {step}");
        }
    }

    #[test]
    fn number_of_units_is_estimated_within_five_standard_errors() {
        // Whole range, the range of a 1% canary at the bottom, of a 0.1% variant at the top, and counting numbers.
        type Place = fn(u64) -> u64;
        let places: [(&str, Place); 4] = [
            ("everywhere", |n| spread(n ^ 0x5EED)),
            ("1% at the bottom", |n| spread(n ^ 0x5EED) / 100),
            ("0.1% at the top", |n| u64::MAX - spread(n ^ 0x5EED) / 1000),
            ("consecutive", |n| n),
        ];
        for (name, place) in places {
            for number in [1_u32, 2, 10, 100, 1000, 4096, 10_000, 20_000, 100_000, 1_000_000] {
                let measured = estimate((0..u64::from(number)).map(place));
                let tolerance = (f64::from(number) * 5.0 * 1.04 / 64.0).max(1.0);
                let error = measured - f64::from(number);
                assert!(error.abs() <= tolerance, "{name}: {number} units, estimate {measured}");
            }
        }
    }

    #[test]
    fn mean_of_many_estimates_is_unbiased_where_classical_estimates_are_not() {
        // Around 2.5 registers' worth of units the classical switch to linear counting is biased by some percent.
        for number in [5_000_u32, 10_000, 15_000, 20_000] {
            let runs = 40_u32;
            let sum: f64 = (0..runs)
                .map(|run| estimate((0..u64::from(number)).map(|n| spread(n << 20 | u64::from(run)) / 100)))
                .sum();
            let bias = sum / f64::from(runs) / f64::from(number) - 1.0;
            // The standard error of the mean is 1.6% / sqrt(40) = 0.26%.
            assert!(bias.abs() < 0.012, "{number} units: bias {bias}");
        }
    }

    #[test]
    fn unit_seen_again_or_by_another_worker_is_not_counted_again() {
        let (one, two) = (Sketch::default(), Sketch::default());
        for n in 0..1000 {
            one.insert(Position(n));
            one.insert(Position(n));
            two.insert(Position(n));
        }
        let mut union = Union::default();
        union.add(&one);
        let alone = union.estimate();
        union.add(&two);
        assert_eq!(union.estimate(), alone);
        assert_eq!(Union::default().estimate(), 0);
    }

    #[test]
    fn registers_that_are_all_full_give_a_number_and_no_panic() {
        let sketch = Sketch::default();
        for register in &sketch.0 {
            register.store(u8::try_from(RANK_BITS + 1).unwrap(), Ordering::Relaxed);
        }
        let mut union = Union::default();
        union.add(&sketch);
        assert!(union.estimate() > 1 << 60);
    }
}
