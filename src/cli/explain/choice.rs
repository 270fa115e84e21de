//! What a split decides about a request, step by step: the trace of the assignment, with names in place of numbers.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::words;
use crate::config::model::SplitConfig;
use crate::logic::condition::{RequestView, Source};
use crate::logic::split::explain::{OverrideOutcome, RuleOutcome, SourceOutcome};
use crate::logic::split::{Assignment, Layout, Missing, OverridePlace, Refusal, Split, Then, Trace};
use crate::types::{Position, UnitKey};

/// What a split decides.
#[derive(Debug, Serialize)]
pub(super) struct Choice {
    /// The split.
    pub(super) name: String,
    /// Where the key is looked for, in order.
    pub(super) sources: Vec<SourceTried>,
    /// The key; `None` where there is none, or one that is minted.
    pub(super) key: Option<Key>,
    /// What happens without a key: `baseline`, `random`, `reject` or `cookie`.
    pub(super) missing: &'static str,
    /// The cookie that a minted key is set as, where one is.
    pub(super) mints: Option<String>,
    /// What became of the override; `None` where the split has none or the request was refused before.
    #[serde(rename = "override")]
    pub(super) force: Option<Force>,
    /// The rules, in order.
    pub(super) rules: Vec<RuleTried>,
    /// What is hashed how.
    pub(super) hash: Hash,
    /// Where the unit stands, in `[0, 2^64)`; `None` without a key.
    pub(super) position: Option<String>,
    /// The shares that decided; `None` where none did.
    pub(super) shares: Option<Shares>,
    /// The variant; `None` where the request is refused, or chance decides.
    pub(super) variant: Option<String>,
    /// Why, as in metrics and logs; `None` where the request is refused.
    pub(super) reason: Option<&'static str>,
    /// The rule that decided.
    pub(super) rule: Option<String>,
    /// Whether chance decides, anew for each request or each visitor.
    pub(super) by_chance: bool,
}

/// A source of the key.
#[derive(Debug, Serialize)]
pub(super) struct SourceTried {
    /// As the configuration writes it.
    pub(super) source: String,
    /// What it gave.
    pub(super) outcome: &'static str,
    /// What stands there.
    pub(super) value: Option<String>,
}

/// A unit key.
#[derive(Debug, Serialize)]
pub(super) struct Key {
    /// Its source, as the configuration writes it.
    pub(super) source: String,
    /// As text; bytes that are none are replaced.
    pub(super) text: String,
    /// Its bytes, where they are no text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) base64: Option<String>,
}

/// What became of the override.
#[derive(Debug, Serialize)]
pub(super) struct Force {
    /// Where it is read.
    pub(super) place: String,
    /// What became of it.
    pub(super) outcome: &'static str,
}

/// A rule.
#[derive(Debug, Serialize)]
pub(super) struct RuleTried {
    /// Its name.
    pub(super) name: String,
    /// `matches`, `fails`, or `not_looked_at`.
    pub(super) outcome: &'static str,
    /// The first condition that does not hold.
    pub(super) condition: Option<String>,
    /// What the request has there.
    pub(super) found: Option<String>,
}

/// What is hashed how.
#[derive(Debug, Serialize)]
pub(super) struct Hash {
    /// The algorithm.
    pub(super) algorithm: &'static str,
    /// What is hashed before the key.
    pub(super) salt: String,
}

/// The shares that decided.
#[derive(Debug, Serialize)]
pub(super) struct Shares {
    /// The rule whose they are; `None` for the split's own.
    pub(super) rule: Option<String>,
    /// The arms, in listed order; the baseline first.
    pub(super) arms: Vec<Arm>,
}

/// One arm of the shares.
#[derive(Debug, Serialize)]
pub(super) struct Arm {
    /// The variant.
    pub(super) variant: String,
    /// Its upstream.
    pub(super) upstream: String,
    /// Its share, as the configuration writes it.
    pub(super) share: String,
    /// The first position inside; `None` where it takes nobody.
    pub(super) from: Option<String>,
    /// The first position behind; up to 2^64.
    pub(super) to: Option<String>,
    /// Whether `from` and `to` are about a position of its own (the third and later variants).
    pub(super) own: bool,
    /// The unit's position for this arm, where it was asked for.
    pub(super) own_position: Option<String>,
    /// Whether it is the one.
    pub(super) chosen: bool,
}

impl Choice {
    /// What `split` decided about `request`, told by the steps that it took.
    pub(super) fn new<R: RequestView>(
        config: &SplitConfig,
        request: &R,
        outcome: &Result<Assignment, Refusal>,
        trace: &Trace,
    ) -> Self {
        let split = &config.split;
        let assignment = outcome.as_ref().ok();
        let minted = assignment.is_some_and(|assignment| assignment.minted);
        let key = assignment.and_then(|assignment| assignment.key.as_ref()).filter(|_| !minted);
        let by_chance = trace.drawn.is_some() && key.is_none();
        let source = assignment.and_then(|assignment| assignment.key_source);
        let rule = assignment.and_then(|assignment| split.rules.get(assignment.rule?));
        let layout = match rule.map(|rule| &rule.then) {
            Some(Then::Weights(layout)) => layout,
            _ => &split.layout,
        };
        let chosen = assignment.map(|assignment| assignment.variant).filter(|_| !by_chance);
        let rule = rule.map(|rule| rule.name.to_string());
        Self {
            name: split.name.to_string(),
            sources: sources(split, request, trace),
            key: key.map(|key| Key::new(split, key, source)),
            missing: match split.missing {
                Missing::Baseline => "baseline",
                Missing::Random => "random",
                Missing::Reject => "reject",
                Missing::Cookie(_) => "cookie",
            },
            mints: match &split.missing {
                Missing::Cookie(name) if minted => Some(name.clone()),
                _ => None,
            },
            force: force(split, trace),
            rules: rules(split, request, trace),
            hash: Hash { algorithm: "xxh3", salt: split.salt.clone() },
            position: key.map(|key| split.position(key.as_bytes()).to_string()),
            shares: trace
                .drawn
                .map(|_| Shares { rule: rule.clone(), arms: arms(config, layout, trace, chosen, by_chance) }),
            variant: chosen
                .and_then(|index| split.variants.get(index))
                .map(|variant| variant.name.to_string()),
            reason: assignment.map(|assignment| assignment.reason.as_str()),
            rule,
            by_chance,
        }
    }
}

impl Key {
    fn new(split: &Split, key: &UnitKey, source: Option<usize>) -> Self {
        let bytes = key.as_bytes();
        Self {
            source: source
                .and_then(|index| all_sources(split).nth(index))
                .map_or_else(String::new, |s| s.to_string()),
            text: String::from_utf8_lossy(bytes).into_owned(),
            base64: std::str::from_utf8(bytes).is_err().then(|| STANDARD.encode(bytes)),
        }
    }
}

/// The sources of the key; the cookie of a minted one is the last.
fn all_sources(split: &Split) -> impl Iterator<Item = Source> {
    let minted = match &split.missing {
        Missing::Cookie(name) => Some(Source::Cookie(name.clone())),
        _ => None,
    };
    split.key.iter().cloned().chain(minted)
}

fn sources<R: RequestView>(split: &Split, request: &R, trace: &Trace) -> Vec<SourceTried> {
    let outcomes = trace.sources.iter().copied().map(Some).chain(std::iter::repeat(None));
    let tried = all_sources(split).zip(outcomes).map(|(source, outcome)| SourceTried {
        source: source.to_string(),
        outcome: match outcome {
            None => "not_looked_at",
            Some(SourceOutcome::Absent) => "absent",
            Some(SourceOutcome::Empty) => "empty",
            Some(SourceOutcome::Ambiguous) => "ambiguous",
            Some(SourceOutcome::TooLong) => "too_long",
            Some(SourceOutcome::Key) => "key",
        },
        value: outcome
            .filter(|outcome| !matches!(outcome, SourceOutcome::TooLong))
            .and_then(|_| source.value(request))
            .map(|value| String::from_utf8_lossy(&value).into_owned()),
    });
    tried.collect()
}

fn force(split: &Split, trace: &Trace) -> Option<Force> {
    let place = match &split.force.as_ref()?.place {
        OverridePlace::Header(name) => format!("header:{name}"),
        OverridePlace::Cookie(name) => format!("cookie:{name}"),
    };
    let outcome = match trace.force? {
        OverrideOutcome::Absent => "absent",
        OverrideOutcome::Ambiguous => "ambiguous",
        OverrideOutcome::BareNotAllowed => "bare_not_allowed",
        OverrideOutcome::Token(error) => match error {
            crate::logic::split::token::TokenError::Malformed => "malformed",
            crate::logic::split::token::TokenError::Signature => "bad_signature",
            crate::logic::split::token::TokenError::Expired => "expired",
        },
        OverrideOutcome::OtherSplit => "other_split",
        OverrideOutcome::OtherUnit => "other_unit",
        OverrideOutcome::UnknownVariant => "unknown_variant",
        OverrideOutcome::Honoured { bare: true, .. } => "honoured_bare",
        OverrideOutcome::Honoured { bare: false, .. } => "honoured",
    };
    Some(Force { place, outcome })
}

fn rules<R: RequestView>(split: &Split, request: &R, trace: &Trace) -> Vec<RuleTried> {
    let outcomes = trace.rules.iter().copied().map(Some).chain(std::iter::repeat(None));
    let tried = split.rules.iter().zip(outcomes).map(|(rule, outcome)| {
        let failing = match outcome {
            Some(RuleOutcome::Fails(index)) => rule.when.get(index),
            _ => None,
        };
        RuleTried {
            name: rule.name.to_string(),
            outcome: match outcome {
                None => "not_looked_at",
                Some(RuleOutcome::Matches) => "matches",
                Some(RuleOutcome::Fails(_)) => "fails",
            },
            condition: failing.map(words::condition),
            found: failing.and_then(|condition| words::value(condition, request)),
        }
    });
    tried.collect()
}

fn arms(
    config: &SplitConfig,
    layout: &Layout,
    trace: &Trace,
    chosen: Option<usize>,
    by_chance: bool,
) -> Vec<Arm> {
    let variants = config.split.variants.iter().zip(&config.upstreams).zip(layout.shares());
    let arms = variants.enumerate().map(|(index, ((variant, upstream), share))| {
        let bounds = layout.bounds(index);
        let own = |arm: &&(usize, Position)| arm.0 == index && !by_chance;
        Arm {
            variant: variant.name.to_string(),
            upstream: upstream.to_string(),
            share: share.to_string(),
            from: bounds.map(|bounds| bounds.from.to_string()),
            to: bounds.map(|bounds| bounds.to.to_string()),
            own: index > 2,
            own_position: trace.own_positions.iter().find(own).map(|(_, position)| position.to_string()),
            chosen: chosen == Some(index),
        }
    });
    arms.collect()
}
