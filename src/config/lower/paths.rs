//! `listeners[].paths`.

use super::super::field::Field;
use super::super::raw::paths;
use crate::wire::PathRules;
use crate::wire::path::{DotSegments, HiddenSlashes, Slashes};

/// The rules; `None` where one is wrong.
pub(super) fn rules(field: &Field<paths::Paths>) -> Option<PathRules> {
    let raw = field.get()?;
    Some(PathRules {
        dot_segments: match raw.dot_segments.get()? {
            paths::DotSegments::Resolve => DotSegments::Resolve,
            paths::DotSegments::Refuse => DotSegments::Refuse,
            paths::DotSegments::Keep => DotSegments::Keep,
        },
        slashes: match raw.slashes.get()? {
            paths::Slashes::Keep => Slashes::Keep,
            paths::Slashes::Merge => Slashes::Merge,
            paths::Slashes::Refuse => Slashes::Refuse,
        },
        hidden_slashes: match raw.hidden_slashes.get()? {
            paths::HiddenSlashes::Keep => HiddenSlashes::Keep,
            paths::HiddenSlashes::Decode => HiddenSlashes::Decode,
            paths::HiddenSlashes::Refuse => HiddenSlashes::Refuse,
        },
        normalizes_escapes: matches!(raw.escapes.get()?, paths::Escapes::Normalize),
        refuses_ambiguous: matches!(raw.ambiguous.get()?, paths::Ambiguous::Refuse),
    })
}
