//! What is wrong with a configuration, where, and what to do about it: for people and as JSON.
//!
//! [`Code`] is the one list of diagnostic codes; each has a golden file in `tests/golden/diagnostics` and a line in
//! `docs/configuration.md`. Must not decide what is wrong: that is for [`super::read`] and [`super::lower`].

use std::fmt::{self, Write as _};
use std::path::PathBuf;

use serde_json::{Value, json};

use super::span::{Sources, Span};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration is refused.
    Error,
    /// The configuration works, probably not as meant.
    Warning,
    /// The configuration works; something about it should be known.
    Note,
}

impl Severity {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }

    const fn colour(self) -> &'static str {
        match self {
            Self::Error => "\x1b[1;31m",
            Self::Warning => "\x1b[1;33m",
            Self::Note => "\x1b[1;36m",
        }
    }
}

macro_rules! codes {
    ($($name:ident $text:literal $meaning:literal;)*) => {
        /// What is wrong, as a stable word.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code {
            $(#[doc = $meaning] $name,)*
        }

        impl Code {
            /// Every code, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The word.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// What it means, as half a sentence.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => $meaning,)* }
            }
        }
    };
}

codes! {
    FileUnreadable "file-unreadable" "a file cannot be read";
    FileTooLarge "file-too-large" "a file is larger than is accepted";
    NotUtf8 "not-utf8" "a file is not UTF-8 text";
    NoFiles "no-files" "a folder has no `*.yaml` file";
    YamlSyntax "yaml-syntax" "the text is not YAML";
    YamlLimit "yaml-limit" "the YAML is nested too deeply or its aliases grow too large";
    YamlTag "yaml-tag" "a YAML tag is used";
    SeveralDocuments "several-documents" "a file has more than one YAML document";
    DuplicateKey "duplicate-key" "a key stands twice in one mapping";
    DuplicateSection "duplicate-section" "a section that cannot be merged is defined in two files";
    UnsetVariable "unset-variable" "an environment variable is not set and has no default";
    BadSubstitution "bad-substitution" "a `${` is not followed by a variable's name and `}`";
    UnknownKey "unknown-key" "a key is not known here";
    MissingKey "missing-key" "a required key is missing";
    WrongType "wrong-type" "a value is of the wrong kind";
    UnknownWord "unknown-word" "a word is none of those that may stand here";
    EmptyList "empty-list" "a list is empty where that has no meaning";
    OutOfRange "out-of-range" "a number or size is outside its range";
    InvalidName "invalid-name" "a name has characters that names do not have";
    DuplicateName "duplicate-name" "two things of one kind have the same name";
    InvalidAddress "invalid-address" "an address cannot be read";
    DuplicateAddress "duplicate-address" "an address is used twice";
    InvalidDuration "invalid-duration" "a duration cannot be read";
    ZeroDuration "zero-duration" "a duration of zero has no meaning here";
    InvalidSize "invalid-size" "a size cannot be read";
    InvalidShare "invalid-share" "a weight is not a percentage";
    InvalidNetwork "invalid-network" "a network cannot be read";
    InvalidRegex "invalid-regex" "a regular expression cannot be read";
    InvalidSource "invalid-source" "a source of an attribute cannot be read";
    InvalidHeader "invalid-header" "a header name or value cannot be sent";
    HopByHopHeader "hop-by-hop-header" "a header belongs to one connection or frames the message";
    InvalidCookie "invalid-cookie" "a cookie name cannot be sent";
    InvalidHost "invalid-host" "a host cannot be read";
    InvalidPath "invalid-path" "a path cannot be read";
    InvalidMethod "invalid-method" "a method cannot be read";
    InvalidStatus "invalid-status" "a status code cannot be used here";
    NoListeners "no-listeners" "there is no listener";
    NoRoutes "no-routes" "there is no route";
    UnknownListener "unknown-listener" "a listener is not defined";
    UnknownUpstream "unknown-upstream" "an upstream is not defined";
    UnknownSplit "unknown-split" "a split is not defined";
    UnknownVariant "unknown-variant" "a variant is not one of the split's";
    SharesOverWhole "shares-over-whole" "the weights add up to more than 100%";
    BaselineWeight "baseline-weight" "the baseline has a weight, but takes what is left";
    OneOf "one-of" "exactly one of several keys must be given";
    RewriteRegex "rewrite-regex" "a prefix cannot be replaced where the path is a regular expression";
    NoEffect "no-effect" "a key has no effect here";
    KeyTooShort "key-too-short" "a key that signs overrides is too short";
    TooManyKeys "too-many-keys" "a key file has more than two keys";
    UnreachableRoute "unreachable-route" "another route takes every request of this one";
    UnusedUpstream "unused-upstream" "no route and no split leads to an upstream";
    UnusedSplit "unused-split" "no route leads to a split";
    UntrustedHeaders "untrusted-headers" "everybody's identity headers count on a listener";
    MovingAttribute "moving-attribute" "an attribute may change, which moves the unit";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A place in a file, with the line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file, as it was named.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// How many characters are meant; 0 where something is missing.
    pub length: usize,
    /// The line without its end.
    pub text: String,
}

/// One thing that is wrong, or should be known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// What it is.
    pub code: Code,
    /// What it is, for people.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// Where; `None` where no line says it.
    pub place: Option<Place>,
    /// Other places that matter, each with what it is.
    pub related: Vec<(Place, &'static str)>,
}

impl Diagnostic {
    /// The diagnostic for people, some lines with an end each; with terminal colours if `colour`.
    pub fn render(&self, colour: bool) -> String {
        let paint = |code: &'static str| if colour { code } else { "" };
        let (strong, blue, reset) = (paint("\x1b[1m"), paint("\x1b[1;34m"), paint("\x1b[0m"));
        let severity = paint(self.severity.colour());
        let mut out = String::new();
        let _ = writeln!(
            out,
            "{severity}{}[{}]{reset}{strong}: {}{reset}",
            self.severity.as_str(),
            self.code,
            printable(&self.message)
        );
        let places = || self.place.iter().chain(self.related.iter().map(|(place, _)| place));
        let width = places().map(|place| place.line.to_string().len()).max().unwrap_or(0);
        if let Some(place) = &self.place {
            place.render(&mut out, width, "", "-->", [severity, blue, reset]);
        }
        for (place, what) in &self.related {
            place.render(&mut out, width, what, ":::", [blue, blue, reset]);
        }
        if let Some(hint) = &self.hint {
            let _ = writeln!(out, "{:width$} {blue}={reset} hint: {}", "", printable(hint));
        }
        out
    }

    /// The diagnostic for programs.
    pub fn to_json(&self) -> Value {
        let place = |place: &Place| {
            json!({
                "file": place.file.to_string_lossy(),
                "line": place.line,
                "column": place.column,
                "length": place.length,
                "text": place.text,
            })
        };
        json!({
            "severity": self.severity.as_str(),
            "code": self.code.as_str(),
            "message": self.message,
            "hint": self.hint,
            "place": self.place.as_ref().map(place),
            "related": self.related.iter()
                .map(|(at, what)| json!({ "what": what, "place": place(at) }))
                .collect::<Vec<_>>(),
        })
    }
}

impl fmt::Display for Diagnostic {
    /// One line: `file:line:column: error[code]: message`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Place { file, line, column, .. }) = &self.place {
            write!(f, "{}:{line}:{column}: ", file.display())?;
        }
        write!(f, "{}[{}]: {}", self.severity.as_str(), self.code, printable(&self.message))
    }
}

/// How many characters of a long line are shown before what is meant, and in all.
const BEFORE: usize = 60;
const SHOWN: usize = 140;

impl Place {
    fn render(&self, out: &mut String, width: usize, what: &str, arrow: &str, colours: [&str; 3]) {
        let [caret, blue, reset] = colours;
        let Self { file, line, column, length, text } = self;
        let file = printable(&file.to_string_lossy());
        let _ = writeln!(out, "{:width$}{blue}{arrow}{reset} {file}:{line}:{column}", "");
        let skipped = if text.chars().count() > SHOWN { (column - 1).saturating_sub(BEFORE) } else { 0 };
        let shown: String = text.chars().skip(skipped).take(SHOWN).map(visible).collect();
        let indent = column - 1 - skipped;
        let carets = "^".repeat((*length).clamp(1, SHOWN.saturating_sub(indent).max(1)));
        let what = if what.is_empty() { String::new() } else { format!(" {what}") };
        let _ = writeln!(out, "{:width$} {blue}|{reset}", "");
        let _ = writeln!(out, "{blue}{line:width$} |{reset} {shown}");
        let _ = writeln!(out, "{:width$} {blue}|{reset} {:indent$}{caret}{carets}{what}{reset}", "", "");
    }
}

/// What stands for `character` on a terminal: one column, and nothing that controls it.
fn visible(character: char) -> char {
    match character {
        '\t' => ' ',
        character if character.is_control() => char::REPLACEMENT_CHARACTER,
        character => character,
    }
}

/// `text` with what controls a terminal replaced, except line ends.
fn printable(text: &str) -> String {
    text.chars().map(|character| if character == '\n' { '\n' } else { visible(character) }).collect()
}

/// What has been found so far; places are looked up in `sources`.
#[derive(Debug)]
pub(super) struct Report<'a> {
    pub(super) sources: &'a Sources,
    found: Vec<(Span, Diagnostic)>,
}

impl<'a> Report<'a> {
    /// An empty report on `sources`.
    pub(super) fn new(sources: &'a Sources) -> Self {
        Self { sources, found: Vec::new() }
    }

    /// Adds a diagnostic; what is returned takes a hint and related places.
    pub(super) fn add(
        &mut self,
        severity: Severity,
        code: Code,
        span: Span,
        message: impl Into<String>,
    ) -> Added<'_> {
        let place = self.place(span);
        let diagnostic =
            Diagnostic { severity, code, message: message.into(), hint: None, place, related: Vec::new() };
        let at = self.found.len();
        self.found.push((span, diagnostic));
        Added { sources: self.sources, diagnostic: &mut self.found[at].1 }
    }

    /// Adds an error.
    pub(super) fn error(&mut self, code: Code, span: Span, message: impl Into<String>) -> Added<'_> {
        self.add(Severity::Error, code, span, message)
    }

    /// Whether there is an error so far.
    pub(super) fn has_errors(&self) -> bool {
        self.found.iter().any(|(_, diagnostic)| diagnostic.severity == Severity::Error)
    }

    /// Everything found, in the order of the files; first what has no place.
    pub(super) fn finish(mut self) -> Vec<Diagnostic> {
        self.found.sort_by_key(|(span, _)| (!span.is_none(), *span));
        self.found.into_iter().map(|(_, diagnostic)| diagnostic).collect()
    }

    fn place(&self, span: Span) -> Option<Place> {
        place(self.sources, span)
    }
}

fn place(sources: &Sources, span: Span) -> Option<Place> {
    sources.locate(span).map(|at| Place {
        file: at.path.to_owned(),
        line: at.line,
        column: at.column,
        length: at.length,
        text: at.text.to_owned(),
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

/// A hint with the one of `known` that is nearest to `text`, if one is near.
pub(super) fn nearest<'a>(text: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let length = text.chars().count();
    if length > 64 {
        return None;
    }
    let limit = 1 + length / 4;
    known
        .into_iter()
        .map(|word| (strsim::osa_distance(&text.to_lowercase(), word), word))
        .filter(|&(distance, word)| distance <= limit && distance < word.chars().count())
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn diagnostic_shows_the_line_and_a_caret_under_what_is_meant() {
        let mut sources = Sources::default();
        let file = sources.add("weir.yaml".into(), "a: 1\n\tb: \x1b[31mx\n".to_owned());
        let mut report = Report::new(&sources);
        report
            .error(Code::UnknownKey, Span::new(file, 6..7), "the key `b` is not known")
            .hint("remove it")
            .related(Span::new(file, 0..1), "first here");
        report.error(Code::NoRoutes, Span::NONE, "no routes");
        let found = report.finish();
        assert_eq!(found[0].code, Code::NoRoutes);
        assert_eq!(found[0].render(false), "error[no-routes]: no routes\n");
        assert_eq!(
            found[1].render(false),
            "error[unknown-key]: the key `b` is not known\n --> weir.yaml:2:2\n  |\n2 |  b: \u{fffd}[31mx\n  |  ^\n \
             ::: weir.yaml:1:1\n  |\n1 | a: 1\n  | ^ first here\n  = hint: remove it\n"
        );
        assert_eq!(found[1].to_string(), "weir.yaml:2:2: error[unknown-key]: the key `b` is not known");
        assert_eq!(found[1].to_json()["place"]["line"], 2);
        assert!(found[1].render(true).contains("\x1b[1;31merror[unknown-key]\x1b[0m"));
    }

    #[test]
    fn long_line_is_cut_around_the_caret() {
        let mut sources = Sources::default();
        let file = sources.add("a".into(), format!("{}X{}", "a".repeat(1000), "b".repeat(1000)));
        let mut report = Report::new(&sources);
        report.error(Code::WrongType, Span::new(file, 1000..1001), "x");
        let text = report.finish()[0].render(false);
        assert!(text.lines().all(|line| line.chars().count() < 160), "{text}");
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[3].find('X'), lines[4].find('^'));
    }

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

    #[test]
    fn codes_are_kebab_case_and_distinct() {
        let mut words: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert!(
            words
                .iter()
                .all(|word| word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'))
        );
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), Code::ALL.len());
    }
}
