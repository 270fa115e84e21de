//! What a change of the endpoints moves in a table, beyond what has to move.

use super::super::Maglev;
use super::super::maglev::{PLACES, hash};

fn name(number: usize) -> String {
    format!("10.0.{}.{}:8080", number / 250, number % 250 + 1)
}

/// A table of endpoints by number and weight.
fn table(endpoints: &[(usize, u32)]) -> Maglev {
    let names: Vec<_> = endpoints.iter().map(|(number, weight)| (name(*number), *weight)).collect();
    Maglev::new(names.iter().map(|(name, weight)| (name.as_str(), *weight)))
}

/// The number of the endpoint of every place.
fn owners(endpoints: &[(usize, u32)]) -> Vec<usize> {
    let table = table(endpoints);
    (0..PLACES as u64).map(|place| endpoints[table.look_up(place, |_| true).unwrap()].0).collect()
}

fn even(numbers: impl IntoIterator<Item = usize>) -> Vec<(usize, u32)> {
    numbers.into_iter().map(|number| (number, 1)).collect()
}

/// The part of the places that has another owner, in percent.
fn moved(before: &[usize], after: &[usize]) -> f64 {
    let moved = before.iter().zip(after).filter(|(before, after)| before != after).count();
    100.0 * moved as f64 / PLACES as f64
}

#[test]
fn every_endpoint_has_its_part_of_the_places() {
    let rows = [
        even(0..1),
        even(0..2),
        even(0..10),
        even(0..1000),
        vec![(1, 1), (2, 2), (3, 5)],
        vec![(1, 1000), (2, 1), (3, 999)],
    ];
    for endpoints in rows {
        let owners = owners(&endpoints);
        let whole: u32 = endpoints.iter().map(|(_, weight)| weight).sum();
        for (number, weight) in &endpoints {
            let had = owners.iter().filter(|owner| *owner == number).count() as f64;
            let due = PLACES as f64 * f64::from(*weight) / f64::from(whole);
            assert!((had - due).abs() <= 2.0, "{number} of weight {weight}: {had} of {due}");
        }
    }
}

#[test]
fn endpoint_that_comes_or_goes_moves_little_beyond_its_own() {
    // Endpoints, and how much more than needed may move, in percent of all.
    for (count, excess) in [(2, 0.1), (3, 0.5), (5, 0.5), (10, 0.5), (50, 1.0), (200, 1.5), (1000, 2.5)] {
        let all = owners(&even(0..count));
        let own = 100.0 / count as f64;
        let mut worst = 0.0f64;
        for gone in [0, count / 2, count - 1] {
            let fewer = owners(&even((0..count).filter(|number| *number != gone)));
            let moved = moved(&all, &fewer);
            assert!(moved >= own - 0.1, "{count}: {moved}");
            worst = worst.max(moved - own);
        }
        println!("{count} endpoints, one comes or goes: {own:.1} % have to move, {worst:.2} % more do");
        assert!(worst <= excess, "{count} endpoints: {worst:.2} % more than needed");
    }
}

#[test]
fn weight_that_changes_moves_little_beyond_the_difference() {
    let before = owners(&even(0..10));
    let mut endpoints = even(0..10);
    endpoints[4].1 = 2;
    let after = owners(&endpoints);
    let due = 100.0 * (2.0 / 11.0 - 0.1);
    let moved = moved(&before, &after);
    println!("one of 10 doubles: {due:.1} % have to move, {moved:.1} % do");
    assert!((due - 0.1..due + 1.0).contains(&moved), "{moved:.2} of {due:.2} %");
}

#[test]
fn order_of_the_file_moves_nothing() {
    let forth = owners(&[(1, 1), (2, 3), (3, 1), (4, 2)]);
    let back = owners(&[(4, 2), (2, 3), (3, 1), (1, 1)]);
    assert_eq!(forth, back);
}

#[test]
fn endpoint_that_may_not_be_used_moves_its_own_hashes_and_spreads_them() {
    const UNITS: u64 = 100_000;
    let table = table(&even(0..10));
    let without = |gone: &[usize]| -> Vec<usize> {
        let owner = |unit: u64| {
            table.look_up(hash("carts", &unit.to_le_bytes()), |number| !gone.contains(&number)).unwrap()
        };
        (0..UNITS).map(owner).collect()
    };
    let (all, one, two) = (without(&[]), without(&[3]), without(&[3, 7]));
    let mut taken = [0usize; 10];
    for ((all, one), two) in all.iter().zip(&one).zip(&two) {
        assert_eq!(all == one, *all != 3, "nobody else's moves");
        assert_eq!(one == two, *one != 7, "nor with the second");
        taken[*one] += usize::from(*all == 3);
    }
    let due = UNITS as f64 / 10.0 / 9.0;
    for (number, taken) in taken.iter().enumerate().filter(|(number, _)| *number != 3) {
        assert!((*taken as f64 - due).abs() < due * 0.15, "{number} takes {taken} of about {due:.0}");
    }
    assert_eq!(table.look_up(7, |_| false), None);
    assert_eq!(Maglev::new([]).look_up(7, |_| true), None);
}

#[test]
fn table_and_hash_are_the_same_everywhere() {
    // From an independent implementation of what docs/configuration.md tells. A change of these moves the units of
    // everybody who upgrades.
    const OWNERS: [usize; 20] = [1, 2, 2, 1, 2, 1, 1, 2, 2, 1, 2, 2, 0, 1, 0, 2, 0, 0, 2, 0];
    assert_eq!(hash("carts", b"42"), 0xbacf_fa91_9113_e38b);
    let table = table(&[(0, 1), (1, 1), (2, 2)]);
    let owners: Vec<_> = (0..20)
        .map(|unit| table.look_up(hash("carts", format!("user-{unit}").as_bytes()), |_| true).unwrap())
        .collect();
    assert_eq!(owners, OWNERS);
}
