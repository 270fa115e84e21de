//! Many units at once: how many each variant gets, and how many a change moves. All of it is deterministic, so a test
//! that passes passes forever; the tolerance of four standard deviations says how it was chosen, not how it may fail.

use super::{key, split};
use crate::logic::split::{Split, assign_key};

const UNITS: usize = 200_000;

/// The variant of each of the units, by name.
fn cohort(split: &Split) -> Vec<&str> {
    let variant = |unit| assign_key(split, key(&format!("user-{unit}"))).variant;
    (0..UNITS).map(|unit| split.variants[variant(unit)].name.as_str()).collect()
}

fn count(cohort: &[&str], variant: &str) -> usize {
    cohort.iter().filter(|name| **name == variant).count()
}

#[expect(clippy::cast_precision_loss, reason = "numbers up to 200 000 are exact")]
fn assert_near(counted: usize, units: usize, ratio: f64, what: &str) {
    let expected = units as f64 * ratio;
    let tolerance = 4.0 * (expected * (1.0 - ratio)).sqrt();
    assert!((counted as f64 - expected).abs() <= tolerance, "{what}: {counted} of {expected} ± {tolerance}");
}

#[test]
fn many_units_then_each_variant_has_its_share() {
    let rows: [&[(&str, u32)]; 4] = [
        &[("green", 90_000), ("canary", 10_000)],
        &[("a", 500_000), ("b", 500_000)],
        &[("a", 100_000), ("b", 100_000), ("c", 50_000), ("d", 50_000)],
        &[("a", 0), ("b", 333_333), ("c", 333_333), ("d", 0), ("e", 333_334)],
    ];
    for (row, others) in rows.into_iter().enumerate() {
        let split = split("checkout", "blue", others);
        let cohort = cohort(&split);
        for (variant, share) in split.variants.iter().zip(split.layout.shares()) {
            let variant = variant.name.as_str();
            assert_near(count(&cohort, variant), UNITS, share.ratio(), &format!("row {row}, {variant}"));
        }
    }
}

#[test]
fn names_that_differ_in_the_last_byte_then_their_cohorts_are_independent() {
    // A weak hash of `salt ‖ name ‖ key` would give v1.10 and v1.11 nearly the same units.
    let split = split("checkout", "blue", &[("a", 0), ("b", 0), ("v1.10", 500_000), ("v1.11", 250_000)]);
    let cohort = cohort(&split);
    for (variant, ratio) in [("v1.10", 0.5), ("v1.11", 0.25), ("blue", 0.25)] {
        assert_near(count(&cohort, variant), UNITS, ratio, variant);
    }
}

#[test]
fn salts_that_differ_then_cohorts_overlap_by_chance_only() {
    for others in [&[("green", 100_000)][..], &[("x", 0), ("y", 0), ("green", 100_000)]] {
        let [one, same, other] =
            ["checkout", "checkout", "checkout2"].map(|salt| split(salt, "blue", others));
        let [one, same, other] = [&one, &same, &other].map(cohort);
        assert_eq!(one, same, "the same salt shares cohorts");
        let both = one.iter().zip(&other).filter(|(a, b)| **a == "green" && **b == "green").count();
        assert_near(both, UNITS, 0.1 * 0.1, "in both");
    }
}

#[test]
fn ramp_beside_a_second_variant_then_each_step_moves_what_it_must() {
    let at = |percent: u32| split("checkout", "blue", &[("green", 90_000), ("canary", percent * 10_000)]);
    for percent in [(1, 5), (5, 25), (25, 50), (50, 91), (91, 0)] {
        let (old, new) = (at(percent.0), at(percent.1));
        let (old, new) = (cohort(&old), cohort(&new));
        let moved = old.iter().zip(&new).filter(|(old, new)| old != new).count();
        // The fewest that can move: what the growing variants gain.
        let needed: usize = ["blue", "green", "canary"]
            .iter()
            .map(|variant| count(&new, variant).saturating_sub(count(&old, variant)))
            .sum();
        assert!(needed > 0);
        assert_eq!(moved, needed, "canary from {}% to {}%", percent.0, percent.1);
    }
}

#[test]
fn variant_renamed_then_only_a_later_one_is_drawn_anew() {
    let names = ["blue", "green", "canary", "gold", "red"];
    let build = |names: [&str; 5]| {
        let [baseline, a, b, c, d] = names;
        split("checkout", baseline, &[(a, 100_000), (b, 100_000), (c, 100_000), (d, 100_000)])
    };
    let old = build(names);
    let old: Vec<_> = cohort(&old).iter().map(|name| names.iter().position(|n| n == name).unwrap()).collect();
    for renamed in 0..5 {
        let mut names = names;
        names[renamed] = "renamed";
        let new = build(names);
        let new = cohort(&new).into_iter().map(|name| names.iter().position(|n| *n == name).unwrap());
        let moved: Vec<_> = old.iter().copied().zip(new).filter(|(old, new)| old != new).collect();
        assert_eq!(moved.is_empty(), renamed < 3, "{renamed}");
        for (from, to) in moved {
            // Those who enter or leave it, and those whom it leaves to the ones behind it.
            assert!(from == renamed || to == renamed, "{renamed}: {from} to {to}");
        }
    }
}

#[test]
fn two_variants_swapped_then_their_own_units_move_and_nobody_elses() {
    let old = split("checkout", "blue", &[("green", 90_000), ("canary", 10_000), ("gold", 50_000)]);
    let new = split("checkout", "blue", &[("canary", 10_000), ("green", 90_000), ("gold", 50_000)]);
    let (old, new) = (cohort(&old), cohort(&new));
    let moved: Vec<_> = old.iter().zip(&new).filter(|(old, new)| old != new).collect();
    assert_near(moved.len(), UNITS, 0.18, "9% at either end");
    assert!(moved.iter().all(|(old, new)| [old, new].iter().any(|name| ["green", "canary"].contains(name))));
}
