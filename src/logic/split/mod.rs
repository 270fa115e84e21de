//! How a request gets its variant: a pure function from request attributes, shares and a random draw (used only where
//! there is no key) to a variant and the reason for it.
//!
//! Reading order: [`hash`] (key to position), [`layout`] (position to arm), [`token`] (signed overrides), [`assign`]
//! (override, rules, weights, in that order). Shape of a split: [`Split`].

pub mod assign;
pub mod hash;
pub mod layout;
pub mod token;

use http::HeaderName;

pub use assign::{Assignment, Draw, Reason, Refusal};
pub use layout::{Bounds, Layout};

use crate::logic::condition::{Condition, Source};
use crate::types::{IpSet, RuleName, SplitName, VariantName};

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
    /// The split's own shares.
    pub layout: Layout,
    /// Tried in order before the shares; the first that matches decides.
    pub rules: Vec<Rule>,
    /// A force for testers.
    pub force: Option<Override>,
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
