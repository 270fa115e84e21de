//! Whether a request stays in the proxy's own zone. It does while enough of the zone's endpoints are usable, and what
//! they could not bear spills over to the others, little by little: as Envoy's priority levels do.
//!
//! With [`SLACK`] a zone that has lost less than a third of its weight still takes everything; below that it takes 1.4
//! times the part that is left, so that no endpoint of it gets more than 1.4 times of what it had.

/// How much more than its part an endpoint may be given, before others help: 1.4, in hundredths.
const SLACK: u64 = 140;

/// What a level of endpoints weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Level {
    /// The weight of the endpoints that are usable.
    pub usable: u64,
    /// The weight of all of them.
    pub whole: u64,
}

impl Level {
    /// The level with one more endpoint.
    #[must_use]
    pub fn with(self, weight: u32, is_usable: bool) -> Self {
        let weight = u64::from(weight);
        Self { usable: self.usable + if is_usable { weight } else { 0 }, whole: self.whole + weight }
    }

    /// What it can take of all requests, in parts per million.
    fn part(self) -> u64 {
        let ratio = u128::from(self.usable) * u128::from(SLACK) * 10_000;
        let part = ratio.checked_div(u128::from(self.whole)).unwrap_or(0);
        u64::try_from(part).unwrap_or(u64::MAX).min(1_000_000)
    }
}

/// The part of the requests that stays with the endpoints of the own zone (`near`) and does not go to the `far` ones, in
/// parts per million. What both together cannot take is shared as they could take it.
pub fn near_part(near: Level, far: Level) -> u64 {
    let own = near.part();
    let rest = far.part().min(1_000_000 - own);
    (own * 1_000_000).checked_div(own + rest).unwrap_or(1_000_000)
}

/// Whether a request of these random bits stays.
pub fn stays(near: Level, far: Level, random: u64) -> bool {
    let drawn = (u128::from(random) * 1_000_000) >> 64;
    drawn < u128::from(near_part(near, far))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_zone_takes_all_it_can_bear_and_the_rest_spills_over() {
        let level = |usable, whole| Level { usable, whole };
        let rows = [
            // Near, far, the part that stays in percent.
            (level(10, 10), level(10, 10), 100),
            (level(8, 10), level(10, 10), 100),
            (level(5, 10), level(10, 10), 70),
            (level(1, 10), level(10, 10), 14),
            (level(0, 10), level(10, 10), 0),
            (level(0, 0), level(10, 10), 0),
            (level(1, 10), level(0, 10), 100),
            (level(2, 10), level(2, 10), 50),
            (level(1, 10), level(0, 0), 100),
            (level(0, 10), level(0, 10), 100),
        ];
        for (near, far, percent) in rows {
            assert_eq!(near_part(near, far), percent * 10_000, "{near:?} {far:?}");
        }
        assert!(stays(level(1, 1), level(1, 1), u64::MAX), "everything is everything");
        assert!(!stays(level(0, 1), level(1, 1), 0), "nothing is nothing");
    }

    #[test]
    fn spilling_is_gradual() {
        let parts: Vec<_> = (0..=100)
            .map(|usable| near_part(Level { usable, whole: 100 }, Level { usable: 9, whole: 9 }))
            .collect();
        assert!(parts.is_sorted() && parts[0] == 0 && parts[100] == 1_000_000);
        assert!(parts.windows(2).all(|pair| pair[1] - pair[0] <= 14_000), "{parts:?}");
    }
}
