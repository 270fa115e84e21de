//! Who moves when one division of the users is replaced by another, and how many had to. Pure.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;

/// What a change of the division did to the users.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Moves {
    /// All users.
    pub(super) users: usize,
    /// Those whose variant is another one now.
    pub(super) moved: usize,
    /// How many must move, whatever the method, to get from the former numbers of users per variant to the new ones:
    /// half the sum of the differences, which is what the growing variants gain.
    pub(super) least: usize,
    /// From where to where how many moved, the largest first.
    pub(super) flows: Vec<Flow>,
}

/// Users who moved from one variant to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Flow {
    /// The variant that they left.
    pub(super) from: String,
    /// The variant that they joined.
    pub(super) to: String,
    /// How many.
    pub(super) users: usize,
}

impl Moves {
    /// Compares the variants of the same users, in the same order, before and after.
    pub(super) fn between<'a>(
        former: impl Iterator<Item = &'a str>,
        latter: impl Iterator<Item = &'a str>,
    ) -> Self {
        let mut pairs = BTreeMap::<(&str, &str), usize>::new();
        let mut counts = BTreeMap::<&str, (usize, usize)>::new();
        for (from, to) in former.zip(latter) {
            *pairs.entry((from, to)).or_default() += 1;
            counts.entry(from).or_default().0 += 1;
            counts.entry(to).or_default().1 += 1;
        }
        let mut flows: Vec<_> = pairs
            .iter()
            .filter(|((from, to), _)| from != to)
            .map(|((from, to), users)| Flow { from: (*from).to_owned(), to: (*to).to_owned(), users: *users })
            .collect();
        flows.sort_by_key(|flow| Reverse(flow.users));
        Self {
            users: pairs.values().sum(),
            moved: flows.iter().map(|flow| flow.users).sum(),
            least: counts.values().map(|(before, after)| after.saturating_sub(*before)).sum(),
            flows,
        }
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} → {} {}", self.from, self.to, self.users)
    }
}

impl fmt::Display for Moves {
    /// `moved 3 of 500 users, least possible 3: blue → canary 3`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "moved {} of {} users, least possible {}", self.moved, self.users, self.least)?;
        for (index, flow) in self.flows.iter().enumerate() {
            write!(f, "{}{flow}", if index == 0 { ": " } else { ", " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn moves_are_counted_and_held_against_the_least() {
        // Former and new variants, a letter a user; moved, least, the largest flow.
        let rows = [
            ("", "", 0, 0, None),
            ("bbbb", "bbbb", 0, 0, None),
            ("bbbb", "bbcc", 2, 2, Some(("b", "c", 2))),
            ("bbcc", "ccbb", 4, 0, Some(("b", "c", 2))),
            ("bbbg", "bbgg", 1, 1, Some(("b", "g", 1))),
            ("bbgc", "bbcc", 1, 1, Some(("g", "c", 1))),
            ("bbbggc", "bbgbcc", 3, 1, Some(("b", "g", 1))),
            ("bbbb", "gggg", 4, 4, Some(("b", "g", 4))),
        ];
        for (former, latter, moved, least, largest) in rows {
            let moves = Moves::between(former.split("").skip(1), latter.split("").skip(1));
            let row = format!("{former} to {latter}: {moves:?}");
            assert_eq!((moves.moved, moves.least), (moved, least), "{row}");
            let first = moves.flows.first().map(|flow| (flow.from.as_str(), flow.to.as_str(), flow.users));
            assert_eq!(first, largest, "{row}");
        }
    }

    proptest! {
        #[test]
        fn least_is_half_the_difference_and_never_more_than_moved(
            pairs in prop::collection::vec(("[a-d]", "[a-d]"), 0..60),
        ) {
            let count = |variant: &str, of: fn(&(String, String)) -> &str| {
                pairs.iter().filter(|pair| of(pair) == variant).count()
            };
            let difference: usize = ["a", "b", "c", "d"]
                .iter()
                .map(|variant| count(variant, |pair| &pair.0).abs_diff(count(variant, |pair| &pair.1)))
                .sum();
            let moves = Moves::between(pairs.iter().map(|pair| &*pair.0), pairs.iter().map(|pair| &*pair.1));
            prop_assert_eq!(moves.users, pairs.len());
            prop_assert_eq!(moves.least * 2, difference);
            prop_assert!(moves.least <= moves.moved);
            prop_assert_eq!(moves.moved, pairs.iter().filter(|(from, to)| from != to).count());
        }
    }
}
