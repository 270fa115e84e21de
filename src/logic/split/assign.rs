//! The one function that every command and the proxy call: a request's variant and the reason for it.

use super::Split;
use crate::logic::condition::RequestView;
use crate::types::{Position, UnitKey};

/// Why a variant was chosen; the `reason` label of metrics and logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// Drawn by the split's own shares.
    Weights,
    /// A rule decided: a pin, or drawn by the rule's own shares.
    Rule,
    /// A tester's override.
    Override,
    /// There was no key.
    Missing,
    /// The drawn variant had no usable endpoint. Set by the proxy, never by [`assign`].
    Fallback,
}

impl Reason {
    /// Every reason, in label order.
    pub const ALL: [Self; 5] = [Self::Weights, Self::Rule, Self::Override, Self::Missing, Self::Fallback];

    /// The label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Weights => "weights",
            Self::Rule => "rule",
            Self::Override => "override",
            Self::Missing => "missing",
            Self::Fallback => "fallback",
        }
    }
}

/// What chance and the clock give to an assignment. Read only where there is no key, or an override is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draw {
    /// Random bits: the position of a keyless request, or the minted session id.
    pub random: u128,
    /// Seconds since the epoch, for the expiry of overrides.
    pub now: u64,
}

/// A request's variant and the reason for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// Index into [`Split::variants`].
    pub variant: usize,
    /// Why.
    pub reason: Reason,
    /// The rule that decided (index into [`Split::rules`]).
    pub rule: Option<usize>,
    /// The unit key, when there is one.
    pub key: Option<UnitKey>,
    /// Which source gave the key (index into [`Split::key`]; its length means the minted cookie).
    pub key_source: Option<usize>,
    /// Where the unit stands, when it was hashed or drawn.
    pub position: Option<Position>,
    /// Whether the key was minted now, so that the response must set the cookie.
    pub minted: bool,
    /// Whether shares decided (the split's or a rule's) for a unit with a key: only these count for a rollout.
    pub drawn: bool,
}

/// Why a request gets no variant: it is answered with 400.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The identity is ambiguous.
    #[error(transparent)]
    Ambiguous(#[from] crate::logic::condition::Ambiguous),
    /// The key is over 1 KiB.
    #[error(transparent)]
    Key(#[from] crate::types::unit::UnitKeyError),
    /// There is no key, and the split's policy is `reject`.
    #[error("the split needs a unit key and the request has none")]
    Missing,
}

/// The variant of `request` in `split`.
///
/// # Errors
/// [`Refusal`] when the request must be answered with 400.
pub fn assign<R: RequestView>(_split: &Split, _request: &R, _draw: Draw) -> Result<Assignment, Refusal> {
    unimplemented!()
}
