//! Each endpoint gets what its weight says.

use super::super::{choose, turns};
use super::*;

/// What `policy` gives to idle endpoints of `weights`, of `total` requests.
fn taken(policy: Policy, weights: &[u32], total: usize, seed: u64) -> Vec<usize> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut candidates = all_idle(weights);
    let mut taken = vec![0; weights.len()];
    for _ in 0..total {
        taken[choose(policy, &mut candidates, random.u64(..)).unwrap()] += 1;
    }
    taken
}

#[test]
fn idle_endpoints_get_what_their_weights_say() {
    // The quantiles of chi square for 0.999, by degrees of freedom from 1.
    const BOUNDS: [f64; 9] = [10.83, 13.82, 16.27, 18.47, 20.52, 22.46, 24.32, 26.12, 27.88];
    const TOTAL: usize = 60_000;
    let rows: [&[u32]; 6] =
        [&[1, 1], &[2, 1], &[1, 10], &[1, 2, 5], &[1000, 1, 1], &[1, 1, 1, 1, 1, 1, 1, 1, 1, 2]];
    for policy in POLICIES {
        for (weights, seed) in rows.into_iter().zip(1..) {
            let taken = taken(policy, weights, TOTAL, seed);
            let whole: u32 = weights.iter().sum();
            let expected = |weight: u32| TOTAL as f64 * f64::from(weight) / f64::from(whole);
            let chi: f64 = taken
                .iter()
                .zip(weights)
                .map(|(taken, weight)| (*taken as f64 - expected(*weight)).powi(2) / expected(*weight))
                .sum();
            assert!(
                chi < BOUNDS[weights.len() - 2],
                "{policy:?} {weights:?}: {taken:?}, chi square {chi:.1}"
            );
        }
    }
}

#[test]
fn round_robin_never_gives_more_in_a_row_than_the_weight_needs() {
    let order = |weights: &[u32], count: usize| -> Vec<usize> {
        let mut candidates = all_idle(weights);
        (0..count).map(|_| turns::next(&mut candidates).unwrap()).collect()
    };
    assert_eq!(order(&[5, 1, 1], 7), [0, 0, 1, 0, 2, 0, 0]);
    assert_eq!(order(&[1, 1, 1], 6), [0, 1, 2, 0, 1, 2]);
    // In any window every endpoint has its part to within one request and a bit.
    for weights in [&[3u32, 2, 1][..], &[7, 1], &[10, 9, 1, 1], &[1; 8]] {
        let whole: u32 = weights.iter().sum();
        let order = order(weights, 500);
        for width in [1, 2, whole as usize, 3 * whole as usize, 100] {
            for window in order.windows(width) {
                for (place, weight) in weights.iter().enumerate() {
                    let had = window.iter().filter(|taken| **taken == place).count() as f64;
                    let due = width as f64 * f64::from(*weight) / f64::from(whole);
                    assert!((had - due).abs() < 2.0, "{weights:?}: {place} had {had} of {due} in {window:?}");
                }
            }
        }
    }
}

#[test]
fn round_robin_begins_at_another_place_on_each_worker() {
    let mut first = [0u32; 4];
    for worker in 0..4000 {
        let mut candidates = all_idle(&[1; 4]);
        let mut random = fastrand::Rng::with_seed(worker);
        for candidate in &mut candidates {
            candidate.credit = turns::begin(candidate.weight, random.u64(..));
        }
        let order: Vec<_> = (0..8).map(|_| turns::next(&mut candidates).unwrap()).collect();
        assert_eq!(order[..4], order[4..], "each in turn, wherever it begins");
        first[order[0]] += 1;
    }
    assert!(first.iter().all(|&count| (850..1150).contains(&count)), "{first:?}");
}

#[test]
fn endpoint_that_was_away_has_nothing_to_catch_up_with() {
    let mut all = all_idle(&[1, 1, 1]);
    for _ in 0..30 {
        turns::next(&mut all).unwrap();
    }
    let mut without = [all[0], all[2]];
    for _ in 0..1000 {
        turns::next(&mut without).unwrap();
    }
    (all[0], all[2]) = (without[0], without[1]);
    let back: Vec<_> = (0..9).map(|_| turns::next(&mut all).unwrap()).collect();
    for place in 0..3 {
        assert_eq!(back.iter().filter(|taken| **taken == place).count(), 3, "{back:?}");
    }
}

#[test]
fn loaded_endpoints_are_compared_by_load_for_weight() {
    let mut candidates = all_idle(&[1, 1, 4]);
    let rows = [([9, 1, 4], 0), ([1, 9, 4], 1), ([1, 1, 40], 2)];
    for policy in [Policy::LeastRequest, Policy::PeakEwma] {
        for (in_flight, never) in rows {
            for (candidate, in_flight) in candidates.iter_mut().zip(in_flight) {
                candidate.in_flight = in_flight;
            }
            let mut random = fastrand::Rng::with_seed(3);
            for _ in 0..2000 {
                assert_ne!(choose(policy, &mut candidates, random.u64(..)), Some(never), "{in_flight:?}");
            }
        }
    }
}
