//! The properties that the layout promises (`docs/assignment.md`), for any shares and at any position.

use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

use super::{layout, share, shares};
use crate::logic::split::layout::threshold;
use crate::logic::split::{Layout, Oversubscribed};
use crate::types::{Position, Share};

/// Where a unit stands: for the two ends, and for each later arm.
#[derive(Debug, Clone)]
struct Stand {
    position: u64,
    own: Vec<u64>,
}

impl Stand {
    fn arm(&self, layout: &Layout) -> usize {
        layout.arm(Position(self.position), |arm| Position(self.own[arm]))
    }
}

/// Anywhere, at the ends, or near a whole percentage.
fn place() -> impl Strategy<Value = u64> {
    let near = (0u32..=100, -2i128..=2).prop_map(|(percent, beside)| {
        let at = i128::try_from(threshold(percent * 10_000)).unwrap() + beside;
        u64::try_from(at.clamp(0, i128::from(u64::MAX))).unwrap()
    });
    prop_oneof![any::<u64>(), near, Just(0), Just(u64::MAX)]
}

fn stand() -> impl Strategy<Value = Stand> {
    (place(), prop::collection::vec(place(), 9)).prop_map(|(position, own)| Stand { position, own })
}

/// Those positions at which the bounds of one of the layouts lie, and their neighbours.
fn edges(layouts: &[&Layout]) -> Vec<u64> {
    let arms =
        layouts.iter().flat_map(|layout| (0..layout.shares().len()).filter_map(|arm| layout.bounds(arm)));
    let bounds = arms.flat_map(|bounds| [bounds.from, bounds.to]);
    let near = bounds.flat_map(|bound| [bound.saturating_sub(1), bound, bound + 1]);
    near.filter_map(|near| u64::try_from(near).ok()).collect()
}

/// Runs `check` on `stand`, and with its positions moved to each edge of the layouts.
fn at_edges(stand: &Stand, layouts: &[&Layout], check: impl Fn(&Stand) -> TestCaseResult) -> TestCaseResult {
    check(stand)?;
    for edge in edges(layouts) {
        check(&Stand { position: edge, ..stand.clone() })?;
        for arm in 0..stand.own.len() {
            let mut moved = stand.clone();
            moved.own[arm] = edge;
            check(&moved)?;
        }
    }
    Ok(())
}

/// How many of the grid's points `T(0)…T(10^6 − 1)` each arm takes; later arms are offered nobody.
fn count_grid(layout: &Layout) -> Vec<u32> {
    let mut counts = vec![0; layout.shares().len()];
    for ppm in 0..Share::WHOLE {
        let position = u64::try_from(threshold(ppm)).unwrap();
        counts[layout.arm(Position(position), |_| Position(u64::MAX))] += 1;
    }
    counts
}

/// The grid's points that change their arm, counted.
fn count_moved(old: &Layout, new: &Layout) -> u32 {
    let moved = |ppm: &u32| {
        let position = Position(u64::try_from(threshold(*ppm)).unwrap());
        let arm =
            |layout: &Layout| layout.arm(position, |_| unreachable!("three variants have no later arm"));
        arm(old) != arm(new)
    };
    (0..Share::WHOLE).filter(moved).count().try_into().unwrap()
}

/// `shares` with `ppm` moved from the baseline to the arm, as far as the baseline has it.
fn raised(shares: &[u32], arm: usize, ppm: u32) -> Vec<u32> {
    let free = Share::WHOLE - shares.iter().sum::<u32>();
    let mut shares = shares.to_vec();
    shares[arm - 1] += ppm.min(free);
    shares
}

#[test]
fn shares_over_a_hundred_percent_are_refused() {
    let check = |others: &[u32]| Layout::new(&others.iter().map(|&ppm| share(ppm)).collect::<Vec<_>>());
    let rows: [(&[u32], Result<u32, u64>); 7] = [
        (&[], Ok(1_000_000)),
        (&[0], Ok(1_000_000)),
        (&[1_000_000], Ok(0)),
        (&[400_000, 599_999], Ok(1)),
        (&[1_000_000, 1], Err(1_000_001)),
        (&[500_000, 500_000, 500_000], Err(1_500_000)),
        (&[1_000_000; 4096], Err(4_096_000_000)),
    ];
    for (others, expected) in rows {
        let outcome = check(others).map(|layout| layout.shares()[0].ppm());
        assert_eq!(outcome, expected.map_err(Oversubscribed), "{} others", others.len());
    }
}

#[test]
fn bounds_are_those_of_the_formula() {
    let end = 1 << 64;
    let layout = layout(&[10_000, 90_000, 0, 100_000, 800_000]);
    let bounds = |arm| layout.bounds(arm).map(|bounds| (bounds.from, bounds.to));
    assert_eq!(bounds(0), None, "nothing is left");
    assert_eq!(bounds(1), Some((0, 184_467_440_737_095_516)));
    assert_eq!(bounds(2), Some((16_786_537_107_075_691_970, end)));
    assert_eq!(bounds(3), None, "0% takes nobody");
    assert_eq!(bounds(4), Some((0, 2_049_638_230_412_172_401)), "a ninth of what is left");
    assert_eq!(bounds(5), Some((0, end)), "the last one takes all that is left");
    assert_eq!(bounds(6), None);
}

proptest! {
    /// (a) total, and bounds tell the truth.
    #[test]
    fn unit_then_exactly_one_arm_within_its_bounds(others in shares(6), stand in stand()) {
        let layout = layout(&others);
        prop_assert_eq!(layout.shares().iter().map(|share| share.ppm()).sum::<u32>(), Share::WHOLE);
        at_edges(&stand, &[&layout], |stand| {
            let arm = stand.arm(&layout);
            prop_assert!(layout.shares()[arm] != Share::NONE, "arm {} at 0% took {:?}", arm, stand);
            let bounds = layout.bounds(arm).unwrap();
            let position = u128::from(if arm < 3 { stand.position } else { stand.own[arm] });
            prop_assert!((bounds.from..bounds.to).contains(&position), "{:?} {:?}", bounds, stand);
            Ok(())
        })?;
    }

    /// (c) monotone.
    #[test]
    fn share_raised_from_the_baseline_then_nobody_leaves_it(
        others in shares(6), stand in stand(), arm in any::<prop::sample::Index>(), ppm in 0..=Share::WHOLE,
    ) {
        prop_assume!(!others.is_empty());
        let arm = 1 + arm.index(others.len());
        let (old, new) = (layout(&others), layout(&raised(&others, arm, ppm)));
        at_edges(&stand, &[&old, &new], |stand| {
            if stand.arm(&old) == arm {
                prop_assert_eq!(stand.arm(&new), arm);
            }
            Ok(())
        })?;
    }

    /// (d) with up to three variants nobody moves but from the baseline to the raised one.
    #[test]
    fn share_raised_among_three_then_only_the_baseline_pays(
        others in shares(2), stand in stand(), arm in any::<prop::sample::Index>(), ppm in 0..=Share::WHOLE,
    ) {
        prop_assume!(!others.is_empty());
        let arm = 1 + arm.index(others.len());
        let (old, new) = (layout(&others), layout(&raised(&others, arm, ppm)));
        at_edges(&stand, &[&old, &new], |stand| {
            let (before, after) = (stand.arm(&old), stand.arm(&new));
            prop_assert!(before == after || (before, after) == (0, arm), "{} to {}", before, after);
            Ok(())
        })?;
    }

    /// (d) an arm added at the end, or the last one grown, takes from the baseline alone.
    #[test]
    fn last_arm_added_or_grown_then_nobody_moves_between_the_others(
        others in shares(6), stand in stand(), ppm in 0..=Share::WHOLE,
    ) {
        let last = others.len() + 1;
        let added = raised(&[&others[..], &[0]].concat(), last, ppm);
        let grown = raised(&added, last, ppm);
        for pair in [layout(&others), layout(&added), layout(&grown)].windows(2) {
            at_edges(&stand, &[&pair[0], &pair[1]], |stand| {
                let (before, after) = (stand.arm(&pair[0]), stand.arm(&pair[1]));
                prop_assert!(before == after || (before, after) == (0, last), "{} to {}", before, after);
                Ok(())
            })?;
        }
    }

    /// (e) everybody, and an arm at 0% changes nothing but the numbers of those behind it.
    #[test]
    fn arm_at_a_hundred_percent_then_it_takes_everybody(arm in 0usize..7, stand in stand()) {
        let mut others = [0; 6];
        if arm > 0 {
            others[arm - 1] = Share::WHOLE;
        }
        prop_assert_eq!(stand.arm(&layout(&others)), arm);
    }

    #[test]
    fn arm_at_nothing_then_it_is_never_asked(others in shares(6), stand in stand()) {
        let layout = layout(&others);
        let mut asked = Vec::new();
        let arm = layout.arm(Position(stand.position), |arm| {
            asked.push(arm);
            Position(stand.own[arm])
        });
        prop_assert!(asked.iter().all(|&arm| arm >= 3 && others[arm - 1] > 0), "{:?}", asked);
        prop_assert!(asked.is_sorted() && (arm < 3 || asked.last() == Some(&arm)), "{:?} {}", asked, arm);
    }
}

proptest! {
    // A million points a case.
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// (b) exact to the last point.
    #[test]
    fn grid_then_the_ends_and_what_they_leave_have_their_shares(others in shares(6)) {
        let counts = count_grid(&layout(&others));
        let ppm = |arm: usize| others.get(arm).copied().unwrap_or(0);
        prop_assert_eq!(counts.get(1).copied().unwrap_or(0), ppm(0));
        prop_assert_eq!(counts.get(2).copied().unwrap_or(0), ppm(1));
        let left: u32 = counts.iter().enumerate().filter(|(arm, _)| !(1..3).contains(arm)).map(|(_, n)| n).sum();
        prop_assert_eq!(left, Share::WHOLE - ppm(0) - ppm(1));
    }

    /// (d) minimal: exactly the difference moves.
    #[test]
    fn share_raised_among_three_then_exactly_the_difference_moves(
        others in shares(2), arm in any::<prop::sample::Index>(), ppm in 0..=Share::WHOLE,
    ) {
        prop_assume!(!others.is_empty());
        let arm = arm.index(others.len());
        let new = raised(&others, arm + 1, ppm);
        prop_assert_eq!(count_moved(&layout(&others), &layout(&new)), new[arm] - others[arm]);
    }
}
