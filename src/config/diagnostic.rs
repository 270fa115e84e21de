//! What is wrong with a configuration, where, and what to do about it: for people and as JSON.
//!
//! Must not decide what is wrong: that is for `read` and `lower`, which put it into a
//! `report`.

use std::fmt::{self, Write as _};
use std::path::PathBuf;

use serde_json::{Value, json};

pub use super::code::Code;

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
    /// The line without its end; of a long one the part around the column.
    pub text: String,
    /// How many characters of the line stand before `text`.
    pub skipped: usize,
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

impl Place {
    fn render(&self, out: &mut String, width: usize, what: &str, arrow: &str, colours: [&str; 3]) {
        let [caret, blue, reset] = colours;
        let Self { file, line, column, length, text, skipped } = self;
        let file = printable(&file.to_string_lossy());
        let _ = writeln!(out, "{:width$}{blue}{arrow}{reset} {file}:{line}:{column}", "");
        let shown: String = text.chars().map(visible).collect();
        let indent = column - 1 - skipped;
        let shown_from_here = text.chars().count().saturating_sub(indent);
        let carets = "^".repeat((*length).clamp(1, shown_from_here.max(1)));
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

#[cfg(test)]
mod tests {
    use super::super::report::Report;
    use super::super::span::{Sources, Span};
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
}
