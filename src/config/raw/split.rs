//! `splits`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::field::{Attribute, Field, Name, Percent, Period, Table, Text, section};
use super::condition::Condition;
use super::empty;

presets! {
    to_baseline: Missing = Missing::Baseline;
    variant_header: Text = "x-weir-variant";
    yes_no: bool = false;
    cookie_name: Text = "weir-unit";
    d_365: Period = "365d";
}

/// A named set of weighted variants. The same unit gets the same variant.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Split {
    /// Where the unit key is read: the first source that is present and not empty. Required, unless `missing` is
    /// `random` or `cookie`.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub(in crate::config) key: Field<Vec<Field<Attribute>>>,
    /// What happens to a request without a unit key.
    #[serde(default = "to_baseline")]
    pub(in crate::config) missing: Field<Missing>,
    /// The cookie of `missing: cookie`.
    #[serde(default)]
    pub(in crate::config) cookie: Field<Cookie>,
    /// The arms, in an order that is part of the layout. The first is the baseline and takes what is left.
    #[schemars(length(min = 1))]
    pub(in crate::config) variants: Field<Vec<Field<Variant>>>,
    /// How a unit key becomes a position.
    #[serde(default = "section::<Hash>")]
    pub(in crate::config) hash: Field<Hash>,
    /// Tried in order before the weights; the first whose conditions hold decides.
    #[serde(default = "empty::<Field<Rule>>")]
    pub(in crate::config) rules: Field<Vec<Field<Rule>>>,
    /// A force for testers. Off by default.
    #[serde(default, rename = "override")]
    pub(in crate::config) force: Field<Override>,
    /// The header that tells the upstream the variant's name.
    #[serde(default = "variant_header")]
    pub(in crate::config) variant_header: Field<Text>,
    /// Whether the client is told the variant, in the same header.
    #[serde(default = "yes_no")]
    pub(in crate::config) expose: Field<bool>,
    /// What shared caches are told about the responses. By default nothing.
    #[serde(default)]
    pub(in crate::config) cache: Field<Cache>,
    /// When a variant is taken back (nothing gives it out any more), how long what lives on with it may do so: tunnels
    /// (WebSocket and the like) and responses that stream. By default to their end.
    #[serde(default)]
    pub(in crate::config) drain: Field<Period>,
}

/// What happens to a request without a unit key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Missing {
    /// It goes to the baseline.
    Baseline,
    /// It draws by itself.
    Random,
    /// It is refused with 400.
    Reject,
    /// A session id is minted, used as the key, and set as a cookie.
    Cookie,
}

/// The cookie of `missing: cookie`.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Cookie {
    /// Its name.
    #[serde(default = "cookie_name")]
    pub(in crate::config) name: Field<Text>,
    /// How long browsers keep it.
    #[serde(default = "d_365")]
    pub(in crate::config) max_age: Field<Period>,
}

/// One arm of a split.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Variant {
    /// Its name.
    pub(in crate::config) name: Field<Name>,
    /// Its share of all units, down to 0.0001%. By default 0%. Not for the baseline, which takes what is left.
    #[serde(default)]
    pub(in crate::config) weight: Field<Percent>,
    /// Its upstream. By default the one that has the variant's name.
    #[serde(default)]
    pub(in crate::config) upstream: Field<Name>,
    /// What happens when it has no usable endpoint: by default `baseline`, for the baseline itself `error`.
    #[serde(default)]
    pub(in crate::config) on_unavailable: Field<OnUnavailable>,
}

/// What happens when a variant has no usable endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum OnUnavailable {
    /// The request goes to the baseline.
    Baseline,
    /// The request is answered with 503.
    Error,
}

/// How a unit key becomes a position.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Hash {
    /// XXH3 with 64 bits.
    #[serde(default = "section::<Xxh3>")]
    pub(in crate::config) xxh3: Field<Xxh3>,
}

/// XXH3 with 64 bits, seed 0.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Xxh3 {
    /// What is hashed before the key: splits with one salt share their cohorts. By default the split's name.
    #[serde(default)]
    pub(in crate::config) salt: Field<Text>,
}

/// A condition with a pin or with weights of its own.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"required": ["variant"]}, {"required": ["weights"]}]))]
pub(in crate::config) struct Rule {
    /// Its name. `rule-N` by default, N from 1.
    #[serde(default)]
    pub(in crate::config) name: Field<Name>,
    /// What must hold: all of these. `[]` always holds.
    pub(in crate::config) when: Field<Vec<Field<Condition>>>,
    /// The variant that every unit gets.
    #[serde(default)]
    pub(in crate::config) variant: Field<Name>,
    /// The shares of variants; those not named get 0%, the baseline what is left.
    #[serde(default)]
    pub(in crate::config) weights: Field<Table<Percent>>,
}

/// Where testers force a variant.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend(
    "oneOf" = [{"required": ["header"]}, {"required": ["cookie"]}],
    "anyOf" = [{"required": ["key_file"]}, {"required": ["bare_from"]}],
))]
pub(in crate::config) struct Override {
    /// The header that carries a token or a variant's name.
    #[serde(default)]
    pub(in crate::config) header: Field<Text>,
    /// The cookie that carries it.
    #[serde(default)]
    pub(in crate::config) cookie: Field<Text>,
    /// The file with the key that verifies tokens: one key a line, the current one first, at most two.
    #[serde(default)]
    pub(in crate::config) key_file: Field<Text>,
    /// The networks of the clients that may send a variant's name without a token.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub(in crate::config) bare_from: Field<Vec<Field<Text>>>,
}

/// What shared caches are told about the responses of a split.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Cache {
    /// `Cache-Control: private`.
    Private,
    /// `Vary` by the headers of the key, the rules and the override.
    Vary,
}
