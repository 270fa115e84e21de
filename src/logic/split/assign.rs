//! The one function that every command and the proxy call: a request's variant and the reason for it.
//!
//! In this order: the unit key (a request that is ambiguous or must have a key is refused before anything else), a
//! tester's override, the rules, the split's own shares. No clock and no randomness but what comes as [`Draw`]. The key
//! is hashed only where shares decide. Who watches the steps: [`super::explain`].

use std::borrow::Cow;

use super::explain::{Drawn, Nobody, Observer, OverrideOutcome, RuleOutcome, SourceOutcome, Step};
use super::{Layout, Missing, Override, OverridePlace, Split, Then, hash, token};
use crate::logic::condition::{Ambiguous, RequestView, source};
use crate::types::unit::UnitKeyError;
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
    /// Random bits: the position of a keyless request (the low 64; the third and later variants' own positions are the
    /// hash of all 16 bytes, big-endian, in the place of a key), or the minted session id (all, as 32 digits).
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
    /// The rule that decided (index into [`Split::rules`]): its pin, or its shares, those asked in vain for a keyless
    /// request included.
    pub rule: Option<usize>,
    /// The unit key, when there is one.
    pub key: Option<UnitKey>,
    /// Which source gave the key (index into [`Split::key`]; its length means the minted cookie).
    pub key_source: Option<usize>,
    /// Where the unit stands, when it was hashed or drawn: not for pins, overrides and keyless baselines.
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
    Ambiguous(#[from] Ambiguous),
    /// The key is over 1 KiB.
    #[error(transparent)]
    Key(#[from] UnitKeyError),
    /// There is no key, and the split's policy is `reject`.
    #[error("the split needs a unit key and the request has none")]
    Missing,
}

/// The variant of `request` in `split`.
///
/// A source that was not looked at, because an earlier one gave the key, refuses nothing.
///
/// # Errors
/// [`Refusal`] when the request must be answered with 400.
pub fn assign<R: RequestView>(split: &Split, request: &R, draw: Draw) -> Result<Assignment, Refusal> {
    observed(split, request, draw, &mut Nobody)
}

/// The variant of the unit `key` in `split`, whoever `request` says it is: overrides, rules and shares as in [`assign`], but
/// the sources of the key are not read, so that nothing can be refused.
pub fn assign_unit<R: RequestView>(split: &Split, key: UnitKey, request: &R, draw: Draw) -> Assignment {
    decide(split, Unit { key: Some(key), source: None, minted: false }, request, draw, &mut Nobody)
}

/// The variant of the unit `key` by the split's own shares: what [`assign`] gives for a request that has this key, no
/// override, and attributes that no rule matches.
///
/// Rules and overrides are on requests, and here is none: they are not consulted.
pub fn assign_key(split: &Split, key: UnitKey) -> Assignment {
    let unit = Unit { key: Some(key), source: None, minted: false };
    by_shares(split, &split.layout, None, unit, 0, &mut Nobody)
}

/// [`assign`], watched.
pub(super) fn observed<R: RequestView, O: Observer>(
    split: &Split,
    request: &R,
    draw: Draw,
    observer: &mut O,
) -> Result<Assignment, Refusal> {
    let unit = identify(split, request, draw, observer)?;
    Ok(decide(split, unit, request, draw, observer))
}

/// Override, rules, shares: the first that decides.
fn decide<R: RequestView, O: Observer>(
    split: &Split,
    unit: Unit,
    request: &R,
    draw: Draw,
    observer: &mut O,
) -> Assignment {
    if let Some(force) = &split.force {
        let outcome = forced(split, force, request, unit.key.as_ref(), draw.now);
        observer.see(|| Step::Override(outcome));
        if let OverrideOutcome::Honoured { variant, .. } = outcome {
            return unit.assigned(variant, Reason::Override, None);
        }
    }
    for (index, rule) in split.rules.iter().enumerate() {
        let failing = rule.when.iter().position(|condition| !condition.holds(request));
        observer.see(|| Step::Rule(failing.map_or(RuleOutcome::Matches, RuleOutcome::Fails)));
        if failing.is_none() {
            return match &rule.then {
                Then::Pin(variant) => unit.assigned(*variant, Reason::Rule, Some(index)),
                Then::Weights(layout) => by_shares(split, layout, Some(index), unit, draw.random, observer),
            };
        }
    }
    by_shares(split, &split.layout, None, unit, draw.random, observer)
}

/// Who a request is.
struct Unit {
    key: Option<UnitKey>,
    source: Option<usize>,
    minted: bool,
}

impl Unit {
    /// The assignment of this unit where no shares decided.
    fn assigned(self, variant: usize, reason: Reason, rule: Option<usize>) -> Assignment {
        Assignment {
            variant,
            reason,
            rule,
            key: self.key,
            key_source: self.source,
            position: None,
            minted: self.minted,
            drawn: false,
        }
    }
}

fn identify<R: RequestView>(
    split: &Split,
    request: &R,
    draw: Draw,
    observer: &mut impl Observer,
) -> Result<Unit, Refusal> {
    for (index, source) in split.key.iter().enumerate() {
        let key = source.read(request).map_err(Refusal::from).and_then(unit_key);
        observer.see(|| Step::Source(source_outcome(&key, || source.value(request).is_some())));
        if let Some(key) = key? {
            return Ok(Unit { key: Some(key), source: Some(index), minted: false });
        }
    }
    let session = Some(split.key.len());
    match &split.missing {
        Missing::Baseline | Missing::Random => Ok(Unit { key: None, source: None, minted: false }),
        Missing::Reject => Err(Refusal::Missing),
        Missing::Cookie(name) => {
            let sent = source::cookie(request, name);
            let key = unit_key(sent.filter(|value| !value.is_empty()).map(Cow::Borrowed));
            observer.see(|| Step::Source(source_outcome(&key, || sent.is_some())));
            Ok(match key? {
                Some(key) => Unit { key: Some(key), source: session, minted: false },
                None => Unit { key: Some(mint(draw.random)?), source: session, minted: true },
            })
        }
    }
}

fn unit_key(bytes: Option<Cow<'_, [u8]>>) -> Result<Option<UnitKey>, Refusal> {
    Ok(bytes.map(UnitKey::new).transpose()?)
}

/// A session id: 128 random bits as 32 lower-case hexadecimal digits.
fn mint(random: u128) -> Result<UnitKey, UnitKeyError> {
    UnitKey::new(format!("{random:032x}").into_bytes())
}

fn source_outcome(key: &Result<Option<UnitKey>, Refusal>, present: impl FnOnce() -> bool) -> SourceOutcome {
    match key {
        Ok(Some(_)) => SourceOutcome::Key,
        Ok(None) if present() => SourceOutcome::Empty,
        Ok(None) => SourceOutcome::Absent,
        Err(Refusal::Ambiguous(_)) => SourceOutcome::Ambiguous,
        Err(_) => SourceOutcome::TooLong,
    }
}

/// What becomes of the request's override. Anything that does not count is ignored, for a refusal would tell a stranger
/// that there is something to try.
fn forced<R: RequestView>(
    split: &Split,
    force: &Override,
    request: &R,
    key: Option<&UnitKey>,
    now: u64,
) -> OverrideOutcome {
    let sent = match &force.place {
        OverridePlace::Header(name) => source::single_header(request, name),
        OverridePlace::Cookie(name) => Ok(source::cookie(request, name).filter(|value| !value.is_empty())),
    };
    let sent = match sent {
        Ok(Some(sent)) => sent,
        Ok(None) => return OverrideOutcome::Absent,
        Err(Ambiguous(_)) => return OverrideOutcome::Ambiguous,
    };
    let Ok(text) = std::str::from_utf8(sent) else {
        return OverrideOutcome::Token(token::TokenError::Malformed);
    };
    let bare = split.variant(text);
    if let Some(variant) = bare
        && force.bare_from.contains(request.client_ip())
    {
        return OverrideOutcome::Honoured { variant, bare: true };
    }
    let claim = match token::verify(&force.keys, text, now) {
        Ok(claim) => claim,
        Err(token::TokenError::Malformed) if bare.is_some() => return OverrideOutcome::BareNotAllowed,
        Err(error) => return OverrideOutcome::Token(error),
    };
    let is_unit = claim.unit == "*" || key.is_some_and(|key| key.as_bytes() == claim.unit.as_bytes());
    match split.variant(&claim.variant) {
        _ if claim.split != split.name.as_str() => OverrideOutcome::OtherSplit,
        _ if !is_unit => OverrideOutcome::OtherUnit,
        None => OverrideOutcome::UnknownVariant,
        Some(variant) => OverrideOutcome::Honoured { variant, bare: false },
    }
}

/// The variant of `unit` by the shares of `layout`: those of the split, or of its rule number `rule`.
fn by_shares(
    split: &Split,
    layout: &Layout,
    rule: Option<usize>,
    unit: Unit,
    random: u128,
    observer: &mut impl Observer,
) -> Assignment {
    let bits = random.to_be_bytes();
    let (position, hashed, reason) = match (&unit.key, &split.missing) {
        (Some(key), _) => {
            let reason = if rule.is_some() { Reason::Rule } else { Reason::Weights };
            (split.position(key.as_bytes()), key.as_bytes(), reason)
        }
        #[expect(clippy::cast_possible_truncation, reason = "the low 64 bits are what is wanted")]
        (None, Missing::Random) => (Position(random as u64), bits.as_slice(), Reason::Missing),
        (None, _) => return unit.assigned(0, Reason::Missing, rule),
    };
    let variant = layout.arm(position, |arm| {
        let own = hash::variant_position(&split.salt, &split.variants[arm].name, hashed);
        observer.see(|| Step::OwnPosition(arm, own));
        own
    });
    observer.see(|| Step::Drawn(Drawn { position, bounds: layout.bounds(variant) }));
    let drawn = unit.key.is_some();
    Assignment { position: Some(position), drawn, ..unit.assigned(variant, reason, rule) }
}
