//! What has been found so far, with its places.
//!
//! Shared by all steps from text to configuration; the steps decide what is wrong.

use super::diagnostic::{Code, Diagnostic, Place, Severity};
use super::span::{Sources, Span};

/// How many diagnostics are kept; further ones are counted. Nobody reads so many, and each holds a part of its text.
const KEPT: usize = 1000;

/// What has been found so far; places are looked up in `sources`.
#[derive(Debug)]
pub(super) struct Report<'a> {
    pub(super) sources: &'a Sources,
    found: Vec<(Span, Diagnostic)>,
    errors: usize,
    /// The last one that was not kept.
    dropped: Option<Diagnostic>,
}

impl<'a> Report<'a> {
    /// An empty report on `sources`.
    pub(super) fn new(sources: &'a Sources) -> Self {
        Self { sources, found: Vec::new(), errors: 0, dropped: None }
    }

    /// Adds a diagnostic; what is returned takes a hint and related places.
    pub(super) fn add(
        &mut self,
        severity: Severity,
        code: Code,
        span: Span,
        message: impl Into<String>,
    ) -> Added<'_> {
        self.errors += usize::from(severity == Severity::Error);
        let full = self.found.len() >= KEPT;
        let place = if full { None } else { place(self.sources, span) };
        let diagnostic =
            Diagnostic { severity, code, message: message.into(), hint: None, place, related: Vec::new() };
        let diagnostic = if full {
            self.dropped.insert(diagnostic)
        } else {
            let at = self.found.len();
            self.found.push((span, diagnostic));
            &mut self.found[at].1
        };
        Added { sources: self.sources, diagnostic }
    }

    /// Adds an error.
    pub(super) fn error(&mut self, code: Code, span: Span, message: impl Into<String>) -> Added<'_> {
        self.add(Severity::Error, code, span, message)
    }

    /// Whether there is an error so far.
    pub(super) fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// Whether a key that is not known, inside of `owner`, was probably meant to be one of `keys`.
    pub(super) fn mistyped(&self, owner: Span, keys: &[&str]) -> bool {
        let inside = |span: &Span| {
            owner.is_none() || span.file == owner.file && (owner.start..=owner.end).contains(&span.start)
        };
        self.found.iter().any(|(span, found)| {
            let meant = |key: &&str| found.hint.as_deref() == Some(&did_you_mean(key));
            found.code == Code::UnknownKey && inside(span) && keys.iter().any(meant)
        })
    }

    /// How many errors there are, also those that were not kept.
    pub(super) fn errors(&self) -> usize {
        self.errors
    }

    /// What was found and kept, in the order of the files; first what has no place.
    pub(super) fn finish(mut self) -> Vec<Diagnostic> {
        self.found.sort_by_key(|(span, _)| (!span.is_none(), *span));
        self.found.into_iter().map(|(_, diagnostic)| diagnostic).collect()
    }
}

/// The most characters of a line that a place keeps, and how many of them before what is meant.
const LINE: usize = 140;
const BEFORE: usize = 60;

fn place(sources: &Sources, span: Span) -> Option<Place> {
    let at = sources.locate(span)?;
    let long = at.text.chars().nth(LINE).is_some();
    let skipped = if long { (at.column - 1).saturating_sub(BEFORE) } else { 0 };
    Some(Place {
        file: at.path.to_owned(),
        line: at.line,
        column: at.column,
        length: at.length,
        text: at.text.chars().skip(skipped).take(LINE).collect(),
        skipped,
    })
}

/// A diagnostic just added.
#[derive(Debug)]
pub(super) struct Added<'r> {
    sources: &'r Sources,
    diagnostic: &'r mut Diagnostic,
}

impl Added<'_> {
    /// Says what to do.
    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        self.diagnostic.hint = Some(hint.into());
        self
    }

    /// Says what to do, if that is known.
    pub(super) fn maybe_hint(self, hint: Option<String>) -> Self {
        self.diagnostic.hint = hint;
        self
    }

    /// Shows another place.
    pub(super) fn related(self, span: Span, what: &'static str) -> Self {
        if let Some(place) = place(self.sources, span) {
            self.diagnostic.related.push((place, what));
        }
        self
    }
}

/// The hint with a word that was probably meant.
pub(super) fn did_you_mean(word: &str) -> String {
    format!("did you mean `{word}`?")
}

/// The most words and the longest one that a near word is looked for among: it is a service, not worth any time.
const WORDS: usize = 1000;
const LONGEST: usize = 64;

/// The one of `known` that is nearest to `text`, if one is near.
pub(super) fn nearest<'a>(text: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let length = text.chars().count();
    if length > LONGEST {
        return None;
    }
    let (text, limit) = (text.to_lowercase(), 1 + length / 4);
    known
        .into_iter()
        .take(WORDS)
        .filter(|word| word.len() <= 2 * LONGEST)
        .map(|word| (strsim::osa_distance(&text, word), word))
        .filter(|&(distance, word)| distance <= limit && distance < word.chars().count())
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_word_is_found_only_when_it_is_near() {
        let rows = [
            ("upstreem", Some("upstream")),
            ("Upstream", Some("upstream")),
            ("listner", Some("listeners")),
            ("splti", Some("split")),
            ("xyz", None),
            ("", None),
        ];
        for (text, expected) in rows {
            assert_eq!(nearest(text, ["upstream", "listeners", "split"]), expected, "{text:?}");
        }
    }
}
