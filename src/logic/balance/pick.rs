//! Picking an endpoint: `round_robin`, `least_request` by two choices.

/// How an upstream spreads requests over its endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// The better of two random endpoints, by requests in flight (Mitzenmacher 2001).
    #[default]
    LeastRequest,
    /// One after the other.
    RoundRobin,
}

/// The endpoint for the next request among `count`, or `None` when none is left.
///
/// `excluded` are those already tried for this request; `in_flight` tells the load; `turn` is a counter that the caller
/// raises with each request; `random` are random bits.
pub fn pick(
    policy: Policy,
    count: usize,
    excluded: &[usize],
    in_flight: impl Fn(usize) -> u32,
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
        Policy::LeastRequest if free == 1 => nth(0),
        Policy::LeastRequest => {
            let first = below(random >> 32, free);
            let second = (first + 1 + below(random & 0xffff_ffff, free - 1)) % free;
            let (first, second) = (nth(first)?, nth(second)?);
            Some(if in_flight(second) < in_flight(first) { second } else { first })
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
        let taken: Vec<_> = (0..6).map(|turn| pick(Policy::RoundRobin, 3, &[], |_| 0, turn, 0)).collect();
        assert_eq!(taken, [Some(0), Some(1), Some(2), Some(0), Some(1), Some(2)]);
    }

    #[test]
    fn excluded_endpoint_is_never_picked() {
        for policy in [Policy::RoundRobin, Policy::LeastRequest] {
            for turn in 0..50 {
                let random = (turn as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                assert_ne!(pick(policy, 3, &[1], |_| 0, turn, random), Some(1));
            }
            assert_eq!(pick(policy, 2, &[0, 1], |_| 0, 0, 0), None);
            assert_eq!(pick(policy, 0, &[], |_| 0, 0, 0), None);
        }
    }

    #[test]
    fn least_request_prefers_the_less_loaded_of_two_and_spreads_evenly() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut even = [0u32; 4];
        let mut loaded = [0u32; 4];
        for _ in 0..40_000 {
            even[pick(Policy::LeastRequest, 4, &[], |_| 0, 0, random.u64(..)).unwrap()] += 1;
            let load = |index| if index == 0 { 9 } else { 1 };
            loaded[pick(Policy::LeastRequest, 4, &[], load, 0, random.u64(..)).unwrap()] += 1;
        }
        assert!(even.iter().all(|&n| (9_500..10_500).contains(&n)), "{even:?}");
        assert_eq!(loaded[0], 0, "two distinct choices never take the most loaded of four: {loaded:?}");
    }
}
