//! An assignment with its reasons: what `weir explain` shows.
//!
//! There is one path, in [`mod@super::assign`]; it tells an `Observer` each step that it takes. Here is the observer that
//! writes them down, and the one that does not care and costs nothing. So an explanation cannot disagree with the
//! assignment: it is that very assignment, watched. Nothing here decides, and no text for people is made here.

use super::assign::{self, Assignment, Draw, Refusal};
use super::token::TokenError;
use super::{Bounds, Split};
use crate::logic::condition::RequestView;
use crate::types::Position;

/// The variant of `request` in `split` as [`super::assign::assign`] gives it, and each step on the way there.
pub fn assign_traced<R: RequestView>(
    split: &Split,
    request: &R,
    draw: Draw,
) -> (Result<Assignment, Refusal>, Trace) {
    let mut trace = Trace::default();
    let outcome = assign::observed(split, request, draw, &mut trace);
    (outcome, trace)
}

/// What was looked at on the way to an assignment, in this order. What is not here was not looked at.
///
/// It holds no bytes of the request: the key is in [`Assignment::key`], the salt in [`Split::salt`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Trace {
    /// The sources of the key that were tried, in the order of [`Split::key`]; one more than that has is the session
    /// cookie of `missing: cookie`. The last one decided.
    pub sources: Vec<SourceOutcome>,
    /// What became of the override; `None` where the split has none, or the request was refused before.
    pub force: Option<OverrideOutcome>,
    /// The rules that were tried, in the order of [`Split::rules`]. The last one decided, if it matched.
    pub rules: Vec<RuleOutcome>,
    /// The own positions of later arms that were asked for: the number of the arm (3 and more), and where the unit
    /// stands for it. An arm before the chosen one that is not here could take nobody.
    pub own_positions: Vec<(usize, Position)>,
    /// How shares decided; `None` where they did not.
    pub drawn: Option<Drawn>,
}

/// What a source of the key gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceOutcome {
    /// The request does not have it.
    Absent,
    /// It is there and empty, which counts as missing.
    Empty,
    /// A header came twice with different values: the request is refused.
    Ambiguous,
    /// It has more bytes than a key may have: the request is refused.
    TooLong,
    /// This is the key.
    Key,
}

/// What became of an override.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverrideOutcome {
    /// The request brings none.
    Absent,
    /// Its header came twice with different values.
    Ambiguous,
    /// It is the name of a variant, from a client that must bring a token.
    BareNotAllowed,
    /// It is no good token.
    Token(TokenError),
    /// The token is for another split.
    OtherSplit,
    /// The token is for another unit.
    OtherUnit,
    /// The token is for a variant that the split does not have.
    UnknownVariant,
    /// It decided.
    Honoured {
        /// The variant that it forces (index into [`Split::variants`]).
        variant: usize,
        /// Whether it was a bare name and not a token.
        bare: bool,
    },
}

/// Whether a rule matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleOutcome {
    /// All its conditions hold.
    Matches,
    /// This condition (index into [`super::Rule::when`]) is the first that does not hold.
    Fails(usize),
}

/// How shares decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drawn {
    /// Where the unit stands.
    pub position: Position,
    /// Which positions the chosen arm takes; for the third and later arms: of the last of [`Trace::own_positions`].
    pub bounds: Option<Bounds>,
}

/// One step of an assignment.
#[derive(Debug)]
pub(super) enum Step {
    Source(SourceOutcome),
    Override(OverrideOutcome),
    Rule(RuleOutcome),
    OwnPosition(usize, Position),
    Drawn(Drawn),
}

/// Who is told the steps of an assignment.
pub(super) trait Observer {
    /// Takes a step; whoever does not care never makes it.
    fn see(&mut self, step: impl FnOnce() -> Step);
}

/// The observer of the proxy: does not care.
#[derive(Debug)]
pub(super) struct Nobody;

impl Observer for Nobody {
    #[inline]
    fn see(&mut self, _step: impl FnOnce() -> Step) {}
}

impl Observer for Trace {
    fn see(&mut self, step: impl FnOnce() -> Step) {
        match step() {
            Step::Source(outcome) => self.sources.push(outcome),
            Step::Override(outcome) => self.force = Some(outcome),
            Step::Rule(outcome) => self.rules.push(outcome),
            Step::OwnPosition(arm, position) => self.own_positions.push((arm, position)),
            Step::Drawn(drawn) => self.drawn = Some(drawn),
        }
    }
}
