//! Slow start: what an endpoint weighs that is new, or has come back. Its caches are empty and its code is cold, so its
//! weight rises over a window from a part to the whole.

use std::time::Duration;

use crate::types::Share;

/// How an endpoint's weight rises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlowStart {
    /// How long it takes.
    pub window: Duration,
    /// The part of its weight that it begins with.
    pub from: Share,
}

impl SlowStart {
    /// What is left of `weight` once an endpoint has been there for `age`: from the first part to the whole, as time
    /// passes, and 1 at least.
    pub fn weight(self, weight: u32, age: Duration) -> u32 {
        if age >= self.window {
            return weight;
        }
        let first = self.from.ratio();
        let passed = age.as_secs_f64() / self.window.as_secs_f64();
        let part = first + (1.0 - first) * passed;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of a u32")]
        let weight = (f64::from(weight) * part) as u32;
        weight.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weight_rises_from_the_first_part_to_the_whole_and_never_falls() {
        let second = Duration::from_secs(1);
        let slow = SlowStart { window: 30 * second, from: Share::parse("10%").unwrap() };
        let rows =
            [(0, 1000, 100), (15, 1000, 550), (27, 1000, 910), (30, 1000, 1000), (31, 7, 7), (0, 1, 1)];
        for (age, weight, expected) in rows {
            assert_eq!(slow.weight(weight, age * second), expected, "{age} s of {weight}");
        }
        let rising: Vec<_> = (0..40).map(|age| slow.weight(1000, age * second)).collect();
        assert!(rising.is_sorted() && rising[39] == 1000);
        assert_eq!(SlowStart { window: Duration::ZERO, ..slow }.weight(5, Duration::ZERO), 5);
    }
}
