//! What was observed since the last configuration was applied: shares, latencies, and who really moved. Pure.

use std::collections::VecDeque;
use std::time::Duration;

use super::division::Arm;
use super::latency::Latencies;
use super::moves::Moves;
use crate::types::Generation;

/// Over how many seconds shares and latencies are taken.
pub(super) const WINDOW: u64 = 10;

/// The time since the last configuration was applied.
#[derive(Debug, Default)]
pub(super) struct Round {
    /// When it began.
    pub(super) began: Duration,
    /// Who moved at its beginning, by computation; `None` in the first round.
    pub(super) moves: Option<Moves>,
    /// What the traffic showed of it so far.
    pub(super) seen: Seen,
    /// What each user had got before.
    before: Vec<Option<Visit>>,
    /// The variant of each user who came, an index into the division's arms.
    came: Vec<Option<usize>>,
    window: VecDeque<Slot>,
}

/// What a user got last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Visit {
    /// The variant's name, by the answer.
    pub(super) variant: Box<str>,
    /// The generation that served.
    pub(super) generation: Generation,
}

/// What the traffic showed of the moves. A user may have been there last some generations ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Seen {
    /// Users who had been there before and came again.
    pub(super) again: usize,
    /// Of these, those whose computed variant is another one than when they were there last.
    pub(super) due: usize,
    /// Of these, those who got another variant.
    pub(super) moved: usize,
    /// Those who came again and got another variant without being due.
    pub(super) needlessly: usize,
}

/// What each variant did in one second.
#[derive(Debug)]
struct Slot {
    second: u64,
    arms: Vec<Latencies>,
}

/// One variant in numbers.
#[derive(Debug, Clone, Default)]
pub(super) struct Row {
    /// Its name.
    pub(super) name: String,
    /// The share in the file.
    pub(super) configured: String,
    /// Its part of the answers of the last seconds, in `[0, 1]`; `None` before the first.
    pub(super) observed: Option<f64>,
    /// How many users it has by computation.
    pub(super) users: usize,
    /// How many users it had since the round began.
    pub(super) came: usize,
    /// Its latencies of the last seconds.
    pub(super) latencies: Latencies,
}

impl Round {
    /// A round that begins now; `before` is what each user got last.
    pub(super) fn new(began: Duration, moves: Option<Moves>, before: Vec<Option<Visit>>) -> Self {
        let came = vec![None; before.len()];
        Self { began, moves, before, came, ..Self::default() }
    }

    /// What `user` got before the round began.
    pub(super) fn before(&self, user: u32) -> Option<&Visit> {
        self.before.get(user as usize)?.as_ref()
    }

    /// Counts that `user` got the variant `name`, number `arm` of the division, in this `second`; `due` says whether
    /// the computed variant is another one than [`Round::before`], where both are known.
    pub(super) fn observe(
        &mut self,
        user: u32,
        (arm, name): (usize, &str),
        due: Option<bool>,
        latency: Duration,
        second: u64,
    ) {
        if let Some(latencies) = self.cell(arm, second) {
            latencies.add(latency);
        }
        let Some(came) = self.came.get_mut(user as usize) else { return };
        let is_first = came.replace(arm).is_none();
        if let (true, Some(due), Some(before)) = (is_first, due, self.before(user)) {
            let moved = *before.variant != *name;
            self.seen.again += 1;
            self.seen.due += usize::from(due);
            self.seen.moved += usize::from(due && moved);
            self.seen.needlessly += usize::from(!due && moved);
        }
    }

    fn cell(&mut self, arm: usize, second: u64) -> Option<&mut Latencies> {
        if self.window.back().is_none_or(|slot| slot.second != second) {
            self.window.push_back(Slot { second, arms: Vec::new() });
        }
        let slot = self.window.back_mut()?;
        if slot.arms.len() <= arm {
            slot.arms.resize_with(arm + 1, Latencies::default);
        }
        slot.arms.get_mut(arm)
    }

    /// Forgets what is older than the last [`WINDOW`] seconds, this `second` among them.
    pub(super) fn forget(&mut self, second: u64) {
        while self.window.front().is_some_and(|slot| slot.second + WINDOW <= second) {
            self.window.pop_front();
        }
    }

    /// The variants `arms` in numbers.
    pub(super) fn rows(&self, arms: &[Arm]) -> Vec<Row> {
        let row = |arm: &Arm| Row {
            name: arm.name.clone(),
            configured: arm.configured.to_string(),
            users: arm.users,
            ..Row::default()
        };
        let mut rows: Vec<Row> = arms.iter().map(row).collect();
        for slot in &self.window {
            for (row, latencies) in rows.iter_mut().zip(&slot.arms) {
                row.latencies.merge(latencies);
            }
        }
        for arm in self.came.iter().flatten() {
            if let Some(row) = rows.get_mut(*arm) {
                row.came += 1;
            }
        }
        let all: u64 = rows.iter().map(|row| row.latencies.count()).sum();
        for row in &mut rows {
            row.observed = ratio(row.latencies.count(), all);
        }
        rows
    }
}

#[expect(clippy::cast_precision_loss, reason = "a ratio for people; 2^53 requests are far away")]
fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_counts_once_a_round_and_needlessly_only_when_not_due() {
        let visit = Some(Visit { variant: "blue".into(), generation: Generation(1) });
        let before = vec![visit.clone(), visit.clone(), visit.clone(), visit, None];
        let mut round = Round::new(Duration::ZERO, None, before);
        // User, variant, whether due; what was seen then: again, due, moved, needlessly.
        let rows = [
            (0, (0, "blue"), Some(false), (1, 0, 0, 0)),
            (0, (0, "blue"), Some(false), (1, 0, 0, 0)),
            (1, (1, "canary"), Some(true), (2, 1, 1, 0)),
            (2, (1, "canary"), Some(false), (3, 1, 1, 1)),
            (3, (0, "blue"), Some(true), (4, 2, 1, 1)),
            (4, (1, "canary"), None, (4, 2, 1, 1)),
        ];
        for (user, arm, is_due, (again, due, moved, needlessly)) in rows {
            round.observe(user, arm, is_due, Duration::from_millis(1), 0);
            assert_eq!(round.seen, Seen { again, due, moved, needlessly }, "user {user}");
        }
    }

    #[test]
    fn share_is_that_of_the_last_seconds() {
        let mut round = Round::new(Duration::ZERO, None, vec![None; 2]);
        let arms = [Arm::named("blue"), Arm::named("green")];
        let observed =
            |round: &Round| -> Vec<_> { round.rows(&arms).iter().map(|row| row.observed).collect() };
        assert_eq!(observed(&round), [None, None]);
        for second in 0..4 {
            round.observe(0, (0, "blue"), None, Duration::from_millis(1), second);
        }
        for second in WINDOW..WINDOW + 4 {
            round.observe(1, (1, "green"), None, Duration::from_millis(1), second);
        }
        round.forget(WINDOW - 1);
        assert_eq!(observed(&round), [Some(0.5), Some(0.5)]);
        round.forget(WINDOW + 2);
        assert_eq!(observed(&round), [Some(0.2), Some(0.8)]);
        round.forget(2 * WINDOW + 4);
        assert_eq!(observed(&round), [None, None]);
        assert_eq!(round.rows(&arms)[0].came, 1, "users count since the round began");
    }
}
