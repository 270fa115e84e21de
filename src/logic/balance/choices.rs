//! The better of two random endpoints, weighted.
//!
//! Two are drawn by weight, and the second takes the request only where it is the better one: endpoints that are equally
//! loaded, as idle ones are, get what their weights say. Loads are compared as those of parts of one size: an endpoint of
//! weight 3 is three endpoints of weight 1 that share its requests as evenly as they can be shared, and one of the three
//! is looked at. With `(load + 1) / weight` an idle upstream would give all to the heaviest, with `load / weight`
//! nearly nothing but its turns.
//!
//! Source: M. Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", IEEE TPDS 12(10), 2001.

use super::pick::Candidate;

/// The place of the better of two among `candidates`, or `None` where there is none. `is_better` says whether its second
/// argument is better than its first; it gets a fraction in `[0, 1)` that says which part of the heavier one is looked
/// at. `random` are random bits.
pub fn better(
    candidates: &[Candidate],
    is_better: impl Fn(&Candidate, &Candidate, f64) -> bool,
    random: u64,
) -> Option<usize> {
    if candidates.len() < 2 {
        return (!candidates.is_empty()).then_some(0);
    }
    let mut bits = Bits(random);
    let first = draw(candidates, None, bits.next())?;
    let second = draw(candidates, Some(first), bits.next())?;
    let second_wins = is_better(&candidates[first], &candidates[second], bits.fraction());
    Some(if second_wins { second } else { first })
}

/// Whether `second` has fewer requests in flight for its weight.
pub fn by_load(first: &Candidate, second: &Candidate, fraction: f64) -> bool {
    let (first, second) = loads(first, second, fraction);
    second < first
}

/// Whether `second` would answer sooner: latency times what is ahead of the request, and itself. Where the weights differ
/// it has to be twice as good: measured latencies are never equal, and would else decide alone while there is little load.
pub fn by_latency(first: &Candidate, second: &Candidate, fraction: f64) -> bool {
    let (ahead_of_first, ahead_of_second) = loads(first, second, fraction);
    let demand = if first.weight == second.weight { 1.0 } else { 2.0 };
    demand * second.seconds * (ahead_of_second + 1.0) < first.seconds * (ahead_of_first + 1.0)
}

/// The requests in flight on a part of each that is as heavy as the lighter of the two.
fn loads(first: &Candidate, second: &Candidate, fraction: f64) -> (f64, f64) {
    let part = first.weight.min(second.weight);
    let load = |candidate: &Candidate| {
        if candidate.weight == part {
            return f64::from(candidate.in_flight);
        }
        (f64::from(candidate.in_flight) * f64::from(part) / f64::from(candidate.weight) + fraction).floor()
    };
    (load(first), load(second))
}

/// The place of one of `candidates` but `except`, each with the probability that its weight gives it.
fn draw(candidates: &[Candidate], except: Option<usize>, bits: u64) -> Option<usize> {
    let others = || candidates.iter().enumerate().filter(|(place, _)| Some(*place) != except);
    let total: u64 = others().map(|(_, candidate)| u64::from(candidate.weight)).sum();
    if total == 0 {
        let count = others().count() as u64;
        let nth = scaled(bits, count);
        return others().zip(0..).find(|(_, number)| *number == nth).map(|((place, _), _)| place);
    }
    let mut left = scaled(bits, total);
    for (place, candidate) in others() {
        let weight = u64::from(candidate.weight);
        if left < weight {
            return Some(place);
        }
        left -= weight;
    }
    None
}

/// A number in `[0, bound)` from 64 random bits.
fn scaled(bits: u64, bound: u64) -> u64 {
    u64::try_from((u128::from(bits) * u128::from(bound)) >> 64).unwrap_or(0)
}

/// More random bits from 64 of them: `SplitMix64` (Steele, Lea and Flood 2014).
pub(super) struct Bits(pub(super) u64);

impl Bits {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A fraction in `[0, 1)`.
    pub(super) fn fraction(&mut self) -> f64 {
        // 32 bits, so that the fraction is exact and never 1.
        f64::from(u32::try_from(self.next() >> 32).unwrap_or(0)) / 4_294_967_296.0
    }
}
