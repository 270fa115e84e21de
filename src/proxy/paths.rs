//! What a request's path comes to, by the rules of its listener: before anything reads it, so that a route is chosen by
//! what the upstream gets. The rules themselves are [`crate::wire::path`]'s; `weir explain` calls the same function.

use super::Failure;
use crate::wire::{PathRules, RequestHead};

/// Puts the path of `head` as `rules` have it; gives what was asked for, where that is another one.
///
/// # Errors
/// [`Failure::AmbiguousPath`] where the rules refuse it.
pub fn settle(head: &mut RequestHead, rules: PathRules) -> Result<Option<Box<str>>, Failure> {
    let asked = head.path();
    let settled = rules.settled(asked).map_err(|_| Failure::AmbiguousPath)?;
    if let std::borrow::Cow::Owned(settled) = settled {
        let asked = asked.into();
        head.set_path(&settled);
        return Ok(Some(asked));
    }
    Ok(None)
}
