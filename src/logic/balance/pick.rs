//! The policies, and which function stands for each: [`alike`] where all endpoints are the same but for their load,
//! which is nearly always; [`choose`] where some weigh more, or may not be used. Both are one policy: an upstream may
//! change between them with each request.

use super::choices;
use super::turns;

/// How an upstream spreads requests over its endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// The better of two random endpoints, by requests in flight (Mitzenmacher 2001).
    #[default]
    LeastRequest,
    /// The better of two random endpoints, by latency and requests in flight ([`super::latency`]).
    PeakEwma,
    /// One after the other.
    RoundRobin,
    /// The one that the request's hash names ([`super::maglev`]).
    Hash,
}

/// The weight of an endpoint that nobody has given one, and that is not in slow start.
pub const WHOLE: u32 = 1000;

/// An endpoint that may take the request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// Its place in the list of endpoints.
    pub index: usize,
    /// How much it is to take, beside the others: [`WHOLE`] times what the configuration says, less in slow start. One of
    /// weight 0 takes a request only where all are such.
    pub weight: u32,
    /// Requests that it has not yet answered in full.
    pub in_flight: u32,
    /// How long it takes, in seconds, for `peak_ewma` ([`super::Latency::seconds`]); 0 for the others.
    pub seconds: f64,
    /// What is owed to it, for `round_robin` ([`turns::next`]).
    pub credit: i64,
}

/// The place among `candidates` of the one that takes the request, or `None` where there is none. `random` are random
/// bits. For [`Policy::RoundRobin`] credits are changed, which the caller keeps. [`Policy::Hash`] is not asked here but
/// for requests without a hash: those go anywhere.
pub fn choose(policy: Policy, candidates: &mut [Candidate], random: u64) -> Option<usize> {
    match policy {
        Policy::RoundRobin => turns::next(candidates),
        Policy::LeastRequest | Policy::Hash => choices::better(candidates, choices::by_load, random),
        Policy::PeakEwma => choices::better(candidates, choices::by_latency, random),
    }
}

/// The endpoint for the next request among `count` that are alike, or `None` when none is left.
///
/// `excluded` are those already tried for this request; `cost` tells what one more request would cost at an endpoint;
/// `turn` is a counter that the caller raises with each request; `random` are random bits.
pub fn alike<Cost: PartialOrd>(
    policy: Policy,
    count: usize,
    excluded: &[usize],
    cost: impl Fn(usize) -> Cost,
    turn: usize,
    random: u64,
) -> Option<usize> {
    let free = count.checked_sub(excluded.len())?;
    if free == 0 {
        return None;
    }
    // The n-th endpoint that is not excluded; `excluded` has at most a handful of entries.
    let nth = |n: usize| (0..count).filter(|index| !excluded.contains(index)).nth(n);
    match policy {
        Policy::RoundRobin => nth(turn % free),
        _ if free == 1 => nth(0),
        _ => {
            let first = below(random >> 32, free);
            let second = (first + 1 + below(random & 0xffff_ffff, free - 1)) % free;
            let (first, second) = (nth(first)?, nth(second)?);
            Some(if cost(second) < cost(first) { second } else { first })
        }
    }
}

/// A number in `[0, bound)` from 32 random bits, without a division.
fn below(bits: u64, bound: usize) -> usize {
    usize::try_from((bits * bound as u64) >> 32).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_robin_takes_each_in_turn() {
        let taken: Vec<_> = (0..6).map(|turn| alike(Policy::RoundRobin, 3, &[], |_| 0, turn, 0)).collect();
        assert_eq!(taken, [Some(0), Some(1), Some(2), Some(0), Some(1), Some(2)]);
    }

    #[test]
    fn excluded_endpoint_is_never_picked() {
        for policy in [Policy::RoundRobin, Policy::LeastRequest, Policy::PeakEwma, Policy::Hash] {
            for turn in 0..50 {
                let random = (turn as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                assert_ne!(alike(policy, 3, &[1], |_| 0, turn, random), Some(1));
            }
            assert_eq!(alike(policy, 2, &[0, 1], |_| 0, 0, 0), None);
            assert_eq!(alike(policy, 0, &[], |_| 0, 0, 0), None);
        }
    }

    #[test]
    fn least_request_prefers_the_less_loaded_of_two_and_spreads_evenly() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut even = [0u32; 4];
        let mut loaded = [0u32; 4];
        for _ in 0..40_000 {
            even[alike(Policy::LeastRequest, 4, &[], |_| 0, 0, random.u64(..)).unwrap()] += 1;
            let load = |index| if index == 0 { 9 } else { 1 };
            loaded[alike(Policy::LeastRequest, 4, &[], load, 0, random.u64(..)).unwrap()] += 1;
        }
        assert!(even.iter().all(|&n| (9_500..10_500).contains(&n)), "{even:?}");
        assert_eq!(loaded[0], 0, "two distinct choices never take the most loaded of four: {loaded:?}");
    }
}
