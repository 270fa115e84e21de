//! How a request gets its variant: a pure function from request attributes, shares and a random draw (used only where
//! there is no key) to a variant and the reason for it.
//!
//! Reading order: [`hash`] (key to position), [`layout`] (position to arm), [`token`] (signed overrides), [`mod@assign`]
//! (override, rules, weights, in that order), [`explain`] (the same, watched). Shape of a split: [`Split`]. For users:
//! `docs/assignment.md`.

pub mod assign;
pub mod explain;
pub mod hash;
pub mod layout;
#[cfg(test)]
mod tests;
pub mod token;

use http::HeaderName;

pub use assign::{Assignment, Draw, Reason, Refusal, assign, assign_key, assign_unit};
pub use explain::{Trace, assign_traced};
pub use layout::{Bounds, Layout, Oversubscribed};

use crate::logic::condition::{Condition, Source};
use crate::types::{IpSet, Position, RuleName, Share, SplitName, VariantName};

/// A named set of weighted variants. The first variant is the baseline.
#[derive(Debug, Clone)]
pub struct Split {
    /// Its name, the default of `salt`.
    pub name: SplitName,
    /// The sources of the unit key; the first that is present and not empty wins.
    pub key: Vec<Source>,
    /// What happens without a key.
    pub missing: Missing,
    /// What is hashed before the key.
    pub salt: String,
    /// The arms in listed order, the first is the baseline. At least one.
    pub variants: Vec<Variant>,
    /// The split's own shares; as many arms as there are variants (so has the layout of each rule).
    pub layout: Layout,
    /// Tried in order before the shares; the first that matches decides.
    pub rules: Vec<Rule>,
    /// A force for testers.
    pub force: Option<Override>,
}

impl Split {
    /// A split of a baseline and others with their shares, and nothing else: salted by its name, without key sources,
    /// rules and override.
    ///
    /// # Errors
    /// [`Oversubscribed`] when the others exceed 100% in all.
    pub fn new(
        name: SplitName,
        baseline: VariantName,
        others: &[(VariantName, Share)],
    ) -> Result<Self, Oversubscribed> {
        let shares: Vec<Share> = others.iter().map(|(_, share)| *share).collect();
        let baseline = Variant { name: baseline, on_unavailable: OnUnavailable::Error };
        let others = others
            .iter()
            .map(|(name, _)| Variant { name: name.clone(), on_unavailable: OnUnavailable::Baseline });
        Ok(Self {
            key: Vec::new(),
            missing: Missing::Baseline,
            salt: name.as_str().to_owned(),
            name,
            variants: std::iter::once(baseline).chain(others).collect(),
            layout: Layout::new(&shares)?,
            rules: Vec::new(),
            force: None,
        })
    }

    /// The number of the variant called `name`: its index into [`Split::variants`].
    pub fn variant(&self, name: &str) -> Option<usize> {
        self.variants.iter().position(|variant| variant.name.as_str() == name)
    }

    /// Whether shares or a rule give this variant (an index) to anybody. An override may all the same.
    pub fn is_given_out(&self, variant: usize) -> bool {
        let has_share =
            |layout: &Layout| layout.shares().get(variant).is_some_and(|share| *share != Share::NONE);
        has_share(&self.layout)
            || self.rules.iter().any(|rule| match &rule.then {
                Then::Pin(pinned) => *pinned == variant,
                Then::Weights(layout) => has_share(layout),
            })
    }

    /// The position of a unit key in this split.
    pub fn position(&self, key: &[u8]) -> Position {
        hash::position(&self.salt, key)
    }

    /// Every header that the key, a condition of a rule, or the override names; one may come more than once.
    ///
    /// These are the fields that a stranger would forge and that a response varies by. Cookies are not among them
    /// ([`Split::reads_cookies`]), for a stranger's cookies are not taken from him; `header:cookie` is.
    pub fn routing_headers(&self) -> impl Iterator<Item = &HeaderName> {
        let force = self.force.as_ref().and_then(|force| match &force.place {
            OverridePlace::Header(name) => Some(name),
            OverridePlace::Cookie(_) => None,
        });
        self.sources().filter_map(Source::header_name).chain(force)
    }

    /// Whether a cookie has a say in the variant, so that a response varies by the `cookie` header too.
    pub fn reads_cookies(&self) -> bool {
        let force = self.force.as_ref().is_some_and(|force| matches!(force.place, OverridePlace::Cookie(_)));
        force
            || matches!(self.missing, Missing::Cookie(_))
            || self.sources().any(|source| matches!(source, Source::Cookie(_)))
    }

    /// Every source of the key and of the conditions.
    fn sources(&self) -> impl Iterator<Item = &Source> {
        let conditions = self.rules.iter().flat_map(|rule| &rule.when);
        self.key.iter().chain(conditions.map(|condition| &condition.source))
    }
}

/// One arm of a split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    /// Its name.
    pub name: VariantName,
    /// What happens when it has no usable endpoint.
    pub on_unavailable: OnUnavailable,
}

/// What happens when a variant has no usable endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnUnavailable {
    /// The request goes to the baseline, labelled `fallback`. The default of every variant but the baseline.
    #[default]
    Baseline,
    /// The request is answered with 503. The baseline's only possibility.
    Error,
}

/// What happens to a request without a unit key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Missing {
    /// It goes to the baseline.
    #[default]
    Baseline,
    /// Each request draws by itself.
    Random,
    /// It is refused with 400.
    Reject,
    /// A session id is minted, used as the key, and set as a cookie of this name. The cookie is also the last source
    /// of the key.
    Cookie(String),
}

/// A condition with its own shares or a pin.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Its name.
    pub name: RuleName,
    /// All must hold; an empty list always holds.
    pub when: Vec<Condition>,
    /// What it decides.
    pub then: Then,
}

/// What a rule decides.
#[derive(Debug, Clone)]
pub enum Then {
    /// This variant (index into [`Split::variants`]).
    Pin(usize),
    /// These shares, by the split's own position.
    Weights(Layout),
}

/// Where an override is read and who may give one.
#[derive(Debug, Clone)]
pub struct Override {
    /// Where the token is.
    pub place: OverridePlace,
    /// The keys that verify it: the current one, then the one that is rotated out. Empty: no token is accepted.
    pub keys: Vec<token::Key>,
    /// Clients that may send a bare variant name.
    pub bare_from: IpSet,
}

/// Where an override is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OverridePlace {
    /// A header.
    Header(HeaderName),
    /// A cookie.
    Cookie(String),
}
