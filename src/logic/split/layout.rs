//! From position to arm: the layout grows from both ends, the baseline is the middle, further variants thin the middle.
//!
//! Arms are numbered in listed order, 0 is the baseline. With `T(ppm) = ⌊ppm × 2^64 / 10^6⌋`:
//!
//! - arm 1 takes the positions below `T(s1)`;
//! - arm 2 takes those from `T(10^6 − s2)` on (not from `2^64 − T(s2)`: two floors would leave a hole at 100%);
//! - arm k ≥ 3, in listed order, takes of what none before took those units whose *own* position is below
//!   `⌊s_k × 2^64 / (10^6 − b)⌋`, b being the shares of the other arms listed before it, arms 1 and 2 included;
//! - what is left is the baseline's.
//!
//! An arm at 0% takes nobody and keeps its number. All thresholds are computed once, [`Layout::arm`] only compares. Which
//! units a change moves is told in `docs/assignment.md` and held by `super::tests::properties`. Positions come from
//! [`super::hash`].

use crate::types::{Position, Share};

/// One more than the largest position. A threshold may be this, which is why thresholds have 128 bits.
const END: u128 = 1 << 64;

/// The shares of a split's arms, with their thresholds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The share of every arm, the baseline's first.
    shares: Vec<Share>,
    /// Arm 1 takes the positions below; 0 without it.
    first: u128,
    /// Arm 2 takes the positions from here on; [`END`] without it.
    second: u128,
    /// Arm `3 + index` takes the own positions below; 0 takes nobody.
    later: Vec<u128>,
}

/// Which positions an arm takes: `[from, to)` as 128-bit numbers in `[0, 2^64]`. For the third and later variants it is
/// on their own position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The first position inside.
    pub from: u128,
    /// The first position behind.
    pub to: u128,
}

/// The shares of the other variants exceed 100%.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the shares add up to {0} ppm, at most 1000000 (100%) are possible")]
pub struct Oversubscribed(pub u64);

impl Layout {
    /// A layout of a baseline and `others` in listed order.
    ///
    /// # Errors
    /// [`Oversubscribed`] when the others exceed 100% in all.
    pub fn new(others: &[Share]) -> Result<Self, Oversubscribed> {
        let total: u64 = others.iter().map(|share| u64::from(share.ppm())).sum();
        let baseline = u32::try_from(total)
            .ok()
            .and_then(|taken| Share::WHOLE.checked_sub(taken))
            .and_then(Share::from_ppm)
            .ok_or(Oversubscribed(total))?;
        let ppm = |index: usize| others.get(index).map_or(0, |share| share.ppm());
        let mut before = ppm(0) + ppm(1);
        let mut later = Vec::with_capacity(others.len().saturating_sub(2));
        for share in others.iter().skip(2) {
            later.push(part(share.ppm(), Share::WHOLE - before));
            before += share.ppm();
        }
        Ok(Self {
            shares: std::iter::once(baseline).chain(others.iter().copied()).collect(),
            first: threshold(ppm(0)),
            second: threshold(Share::WHOLE - ppm(1)),
            later,
        })
    }

    /// The arm of a unit at `position`: 0 is the baseline. `later(k)` gives the unit's position for arm `k` (k ≥ 3) and
    /// is called only for arms that could take it.
    pub fn arm(&self, position: Position, mut later: impl FnMut(usize) -> Position) -> usize {
        let position = u128::from(position.0);
        if position < self.first {
            return 1;
        }
        if position >= self.second {
            return 2;
        }
        for (arm, &threshold) in (3..).zip(&self.later) {
            if threshold > 0 && u128::from(later(arm).0) < threshold {
                return arm;
            }
        }
        0
    }

    /// The share of every arm, the baseline's (what is left) first.
    pub fn shares(&self) -> &[Share] {
        &self.shares
    }

    /// Which positions arm `k` takes; `None` where it takes nobody. For the baseline: between the two ends.
    ///
    /// Of the positions between the two ends the third and later arms take some units, each by its own position.
    pub fn bounds(&self, arm: usize) -> Option<Bounds> {
        self.shares.get(arm).filter(|share| **share != Share::NONE)?;
        let (from, to) = match arm {
            0 => (self.first, self.second),
            1 => (0, self.first),
            2 => (self.second, END),
            _ => (0, *self.later.get(arm - 3)?),
        };
        Some(Bounds { from, to })
    }
}

/// `T(ppm)`, in `[0, 2^64]`; `ppm` in `[0, 10^6]`.
pub(super) fn threshold(ppm: u32) -> u128 {
    part(ppm, Share::WHOLE)
}

/// `⌊ppm × 2^64 / whole⌋`, and 0 where the whole is nothing.
fn part(ppm: u32, whole: u32) -> u128 {
    (u128::from(ppm) * END).checked_div(u128::from(whole)).unwrap_or(0)
}
