//! What was observed, held against the [`Division`]s, which say what the proxy must do. Pure: the time is an argument.
//!
//! What belongs to the current configuration alone is in [`super::round`].

use std::collections::VecDeque;
use std::time::Duration;

use super::division::Division;
use super::load::{Answer, Outcome};
use super::moves::Moves;
use super::round::{Round, Row, Seen, Visit};
use crate::types::Generation;

/// How many seconds of the rate are kept.
const HISTORY: usize = 240;
/// How many divisions answers may refer to.
const DIVISIONS: usize = 8;

/// Everything that was observed.
#[derive(Debug)]
pub(super) struct Ledger {
    /// The numbers since the start.
    pub(super) totals: Totals,
    /// The current division first, then the former ones.
    divisions: VecDeque<Division>,
    /// What each user got last.
    last: Vec<Option<Visit>>,
    round: Round,
    /// Answers of each second, the current one last.
    rate: VecDeque<u64>,
    second: u64,
}

/// The numbers since the start.
#[derive(Debug, Clone, Default)]
pub(super) struct Totals {
    /// Requests that ended.
    pub(super) requests: u64,
    /// Those without an answer, or with a status from 400 on.
    pub(super) failed: u64,
    /// Why the first of these failed.
    pub(super) first_failure: Option<String>,
    /// Those answered well by somebody who is not an upstream of the demo.
    pub(super) others: u64,
    /// Those answered by another variant than the one computed.
    pub(super) strays: u64,
    /// Those asked twice because their connection was closed under them.
    pub(super) repeated: u64,
    /// Configurations applied after the first.
    pub(super) reloads: u64,
    /// Users moved by all of them, by computation.
    pub(super) moved: usize,
    /// The least possible for each of them, added up.
    pub(super) least: usize,
}

/// The last reload that was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Applied {
    /// Who moved, by computation.
    pub(super) moves: Moves,
    /// What the traffic showed of it so far.
    pub(super) seen: Seen,
    /// How long ago it was.
    pub(super) ago: Duration,
}

impl Ledger {
    /// A ledger that has seen nothing; `first` serves.
    pub(super) fn new(first: Division) -> Self {
        let last = vec![None; first.names().count()];
        Self {
            totals: Totals::default(),
            round: Round::new(Duration::ZERO, None, last.clone()),
            divisions: VecDeque::from([first]),
            last,
            rate: VecDeque::from([0]),
            second: 0,
        }
    }

    /// The current division.
    pub(super) fn current(&self) -> Option<&Division> {
        self.divisions.front()
    }

    /// The generation of the current division.
    pub(super) fn generation(&self) -> Generation {
        self.current().map_or(Generation(0), |division| division.generation)
    }

    /// Notes that `division` serves since `now`, and returns who moves.
    pub(super) fn replace(&mut self, division: Division, now: Duration) -> Moves {
        let moves = self.current().map(|former| former.moves_to(&division)).unwrap_or_default();
        self.divisions.push_front(division);
        self.divisions.truncate(DIVISIONS);
        self.totals.reloads += 1;
        self.totals.moved += moves.moved;
        self.totals.least += moves.least;
        self.round = Round::new(now, Some(moves.clone()), self.last.clone());
        moves
    }

    /// Lets time pass.
    pub(super) fn advance(&mut self, now: Duration) {
        while self.second < now.as_secs() {
            self.second += 1;
            self.rate.push_back(0);
        }
        let surplus = self.rate.len().saturating_sub(HISTORY);
        self.rate.drain(..surplus);
        self.round.forget(self.second);
    }

    /// Notes an answer that came at `now`.
    pub(super) fn record(&mut self, answer: &Answer, now: Duration) {
        self.advance(now);
        self.totals.requests += 1;
        self.totals.repeated += u64::from(answer.repeated);
        if let Some(rate) = self.rate.back_mut() {
            *rate += 1;
        }
        match &answer.outcome {
            Outcome::Failed(why) => {
                self.totals.failed += 1;
                self.totals.first_failure.get_or_insert_with(|| why.clone());
            }
            Outcome::Other => self.totals.others += 1,
            Outcome::Upstream(endpoint) => self.place(answer, endpoint.as_bytes()),
        }
    }

    /// Holds an answer of the upstream at `endpoint` against the divisions that may have served it: that of the
    /// generation known to serve when it was sent, and that of the one that served when it had come.
    fn place(&mut self, answer: &Answer, endpoint: &[u8]) {
        let user = answer.user;
        let serving: Vec<&Division> = [answer.after, answer.before]
            .iter()
            .filter_map(|generation| self.divisions.iter().find(|known| known.generation == *generation))
            .collect();
        let computed = serving.iter().find_map(|division| {
            let arm = division.arm(user).filter(|arm| division.is_at(*arm, endpoint))?;
            Some((*division, arm))
        });
        let is_stray = computed.is_none() && serving.iter().all(|division| division.arm(user).is_some());
        self.totals.strays += u64::from(is_stray);
        let found = computed
            .or_else(|| serving.iter().find_map(|division| Some((*division, division.arm_at(endpoint)?))));
        let Some((division, arm)) = found else { return };
        let name: Box<str> = division.arms.get(arm).map_or("", |arm| &arm.name).into();
        let generation = division.generation;
        // Sent when the current configuration was known to serve: it alone can have decided.
        if answer.before == self.generation() && generation == answer.before {
            let before = self.round.before(user);
            let former = before.and_then(|visit| self.division(visit.generation));
            let due = former.map(|former| former.name(user) != division.name(user));
            self.round.observe(user, (arm, &name), due, answer.latency, self.second);
        }
        if let Some(last) = self.last.get_mut(user as usize) {
            *last = Some(Visit { variant: name, generation });
        }
    }

    fn division(&self, generation: Generation) -> Option<&Division> {
        self.divisions.iter().find(|division| division.generation == generation)
    }

    /// The variants of the current division in numbers.
    pub(super) fn rows(&self) -> Vec<Row> {
        self.current().map(|division| self.round.rows(&division.arms)).unwrap_or_default()
    }

    /// The last reload that was applied, if any was.
    pub(super) fn applied(&self, now: Duration) -> Option<Applied> {
        let moves = self.round.moves.clone()?;
        Some(Applied { moves, seen: self.round.seen, ago: now.saturating_sub(self.round.began) })
    }

    /// Requests of each whole second, the oldest first.
    pub(super) fn rates(&self) -> Vec<u64> {
        let whole = self.rate.len().saturating_sub(1);
        self.rate.iter().copied().take(whole).collect()
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const BLUE: &str = "blue";
    const CANARY: &str = "canary";

    fn answer(user: u32, before: u64, after: u64, by: &'static str) -> Answer {
        Answer {
            user,
            before: Generation(before),
            after: Generation(after),
            outcome: Outcome::Upstream(HeaderValue::from_static(by)),
            latency: Duration::from_millis(1),
            repeated: false,
        }
    }

    /// Four users; user 1 moves from blue to canary with the second generation.
    fn ledger() -> Ledger {
        let mut ledger = Ledger::new(Division::named(1, &[BLUE, BLUE, BLUE, CANARY]));
        for (user, by) in [(0, BLUE), (1, BLUE), (3, CANARY)] {
            ledger.record(&answer(user, 1, 1, by), Duration::ZERO);
        }
        let moves = ledger.replace(Division::named(2, &[BLUE, CANARY, BLUE, CANARY]), Duration::from_secs(1));
        assert_eq!((moves.moved, moves.least), (1, 1));
        ledger
    }

    #[test]
    fn answer_is_held_against_the_generations_that_may_have_served_it() {
        // User, generations before and after, by whom; whether it strays, how many came again, how many of them moved.
        let rows = [
            (1, 2, 2, CANARY, false, 1, 1),
            (1, 1, 2, CANARY, false, 0, 0),
            (1, 1, 2, BLUE, false, 0, 0),
            (1, 1, 1, BLUE, false, 0, 0),
            (1, 2, 2, BLUE, true, 1, 0),
            (1, 1, 1, CANARY, true, 0, 0),
            (0, 2, 2, BLUE, false, 1, 0),
            (2, 2, 2, BLUE, false, 0, 0),
            (0, 2, 2, "elsewhere", true, 0, 0),
        ];
        for (user, before, after, by, strays, again, moved) in rows {
            let mut ledger = ledger();
            ledger.record(&answer(user, before, after, by), Duration::from_secs(1));
            let seen = ledger.applied(Duration::from_secs(1)).unwrap().seen;
            let row = format!("user {user} by {by}, generations {before} to {after}: {seen:?}");
            assert_eq!(ledger.totals.strays, u64::from(strays), "{row}");
            assert_eq!((seen.again, seen.moved, seen.needlessly), (again, moved, 0), "{row}");
        }
    }

    #[test]
    fn user_who_missed_a_generation_is_held_against_the_one_he_saw() {
        let mut ledger = ledger();
        ledger.replace(Division::named(3, &[BLUE, BLUE, BLUE, CANARY]), Duration::from_secs(2));
        ledger.record(&answer(1, 3, 3, BLUE), Duration::from_secs(2));
        let seen = ledger.applied(Duration::from_secs(2)).unwrap().seen;
        assert_eq!(seen, Seen { again: 1, due: 0, moved: 0, needlessly: 0 });
        assert_eq!((ledger.totals.reloads, ledger.totals.moved, ledger.totals.least), (2, 2, 2));
    }

    #[test]
    fn failures_and_strangers_are_counted_and_the_first_reason_is_kept() {
        let mut ledger = ledger();
        let failed = |why: &str| Answer { outcome: Outcome::Failed(why.to_owned()), ..answer(0, 2, 2, BLUE) };
        ledger.record(&failed("status 502"), Duration::from_secs(1));
        ledger.record(&failed("status 503"), Duration::from_secs(1));
        ledger.record(&Answer { outcome: Outcome::Other, ..answer(0, 2, 2, BLUE) }, Duration::from_secs(1));
        let totals = &ledger.totals;
        assert_eq!((totals.requests, totals.failed, totals.others, totals.strays), (6, 2, 1, 0));
        assert_eq!(totals.first_failure.as_deref(), Some("status 502"));
    }

    #[test]
    fn rate_is_that_of_whole_seconds_and_quiet_ones_count() {
        let mut ledger = ledger();
        assert_eq!(ledger.rates(), [0; 0]);
        ledger.record(&answer(0, 2, 2, BLUE), Duration::from_millis(2500));
        ledger.advance(Duration::from_secs(3));
        assert_eq!(ledger.rates(), [3, 0, 1]);
        ledger.advance(Duration::from_secs(10_000));
        assert_eq!(ledger.rates().len(), HISTORY - 1);
    }
}
