//! `listeners[].paths`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::field::Field;

presets! {
    dots: DotSegments = DotSegments::Resolve;
    slashes: Slashes = Slashes::Keep;
    hidden: HiddenSlashes = HiddenSlashes::Keep;
    escapes: Escapes = Escapes::Normalize;
    ambiguous: Ambiguous = Ambiguous::Refuse;
}

/// What becomes of a request's path before anything reads it. Routes, keys and conditions read what comes of it, and the
/// upstream gets that.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Paths {
    /// What becomes of segments `.` and `..`, also where their dots are written `%2e`.
    #[serde(default = "dots")]
    pub(in crate::config) dot_segments: Field<DotSegments>,
    /// What becomes of `//`, which many servers take for `/`.
    #[serde(default = "slashes")]
    pub(in crate::config) slashes: Field<Slashes>,
    /// What becomes of `%2F`, `%5C` and `\`, which some servers take for `/`.
    #[serde(default = "hidden")]
    pub(in crate::config) hidden_slashes: Field<HiddenSlashes>,
    /// What becomes of escapes such as `%61` for `a` and `%c3` for `%C3`.
    #[serde(default = "escapes")]
    pub(in crate::config) escapes: Field<Escapes>,
    /// What becomes of a path that some servers read as another one: `..%2F`, `..;`, `%252e%252e`, `%00`.
    #[serde(default = "ambiguous")]
    pub(in crate::config) ambiguous: Field<Ambiguous>,
}

/// What becomes of segments of dots.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum DotSegments {
    /// They are resolved: `/a/../b` is `/b`. Above the root is the root.
    Resolve,
    /// The request is refused with 400.
    Refuse,
    /// They stay.
    Keep,
}

/// What becomes of empty segments.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Slashes {
    /// They stay.
    Keep,
    /// Several are one, before dot segments are resolved.
    Merge,
    /// The request is refused with 400.
    Refuse,
}

/// What becomes of what some servers take for a slash.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum HiddenSlashes {
    /// They stay.
    Keep,
    /// They become `/`, before anything else.
    Decode,
    /// The request is refused with 400.
    Refuse,
}

/// What becomes of escapes.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Escapes {
    /// Letters, digits and `-._~` are written as they are, other escapes in upper case.
    Normalize,
    /// They stay.
    Keep,
}

/// What becomes of a path that some servers read as another one.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Ambiguous {
    /// The request is refused with 400.
    Refuse,
    /// It stays.
    Keep,
}
