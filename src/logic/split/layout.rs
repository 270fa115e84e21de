//! From position to arm: the layout grows from both ends, the baseline is the middle, further variants thin the middle.

use crate::types::{Position, Share};

/// The shares of a split's arms, with their thresholds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    shares: Vec<Share>,
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
    pub fn new(_others: &[Share]) -> Result<Self, Oversubscribed> {
        unimplemented!()
    }

    /// The arm of a unit at `position`: 0 is the baseline. `later(k)` gives the unit's position for arm `k` (k ≥ 3) and
    /// is called only for arms that could take it.
    pub fn arm(&self, _position: Position, _later: impl FnMut(usize) -> Position) -> usize {
        unimplemented!()
    }

    /// The share of every arm, the baseline's (what is left) first.
    pub fn shares(&self) -> &[Share] {
        &self.shares
    }

    /// Which positions arm `k` takes; `None` where it takes nobody. For the baseline: between the two ends.
    pub fn bounds(&self, _arm: usize) -> Option<Bounds> {
        unimplemented!()
    }
}
