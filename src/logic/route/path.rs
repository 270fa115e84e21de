//! Path patterns: exact `/a`, prefix by whole segments `/a/*`, regular expression `~^/v[0-9]+/`.

use regex::Regex;

/// A path that a route is for.
#[derive(Debug, Clone)]
pub enum PathPattern {
    /// The whole path.
    Exact(String),
    /// This path or anything below it, by whole segments; without the `/*`, so `/*` is the empty text.
    Prefix(String),
    /// An anchored regular expression (the whole path must match).
    Regex(Regex),
}

impl PathPattern {
    /// Parses `/a`, `/a/*` or `~regex`.
    ///
    /// # Errors
    /// A sentence that says what is wrong and what may be written.
    pub fn parse(_text: &str) -> Result<Self, String> {
        unimplemented!()
    }
}
