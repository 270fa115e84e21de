//! All that is shown, at one moment: what the live view, the plain lines and the summary are made from.

use std::time::Duration;

use super::ledger::{Applied, Totals};
use super::round::Row;
use crate::state::status::ReloadError;
use crate::types::Generation;

/// All that is shown.
#[derive(Debug, Clone, Default)]
pub(super) struct Figures {
    /// Where the proxy listens.
    pub(super) url: String,
    /// Where its pages are.
    pub(super) admin: Option<String>,
    /// The file to edit.
    pub(super) file: String,
    /// How many users there are.
    pub(super) users: usize,
    /// Requests a second, as wanted.
    pub(super) rate: u32,
    /// Since the start.
    pub(super) elapsed: Duration,
    /// The split of the users.
    pub(super) split: Option<String>,
    /// The generation that serves.
    pub(super) generation: Generation,
    /// The variants.
    pub(super) rows: Vec<Row>,
    /// The numbers since the start.
    pub(super) totals: Totals,
    /// Requests of each whole second, the oldest first.
    pub(super) rates: Vec<u64>,
    /// The last reload that was applied.
    pub(super) applied: Option<Applied>,
    /// Reloads that were refused.
    pub(super) refusals: u64,
    /// The last reload, when it was refused.
    pub(super) refusal: Option<Refusal>,
    /// What may be tried.
    pub(super) hints: Vec<String>,
    /// What is out of the ordinary.
    pub(super) notes: Vec<String>,
}

/// A refused reload.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Refusal {
    /// The first error with its place, and how many more there are.
    pub(super) text: String,
    /// How long ago it was.
    pub(super) ago: Duration,
}

/// The first of `errors` with its place, and how many more there are.
pub(super) fn describe(errors: &[ReloadError]) -> String {
    let Some(first) = errors.first() else { return String::new() };
    let file = first.file.iter().cloned();
    let place = file.chain(first.line.iter().chain(&first.column).map(ToString::to_string));
    let place: String = place.map(|part| part + ":").collect();
    let more = match errors.len() - 1 {
        0 => String::new(),
        1 => " (and one more error)".to_owned(),
        more => format!(" (and {more} more errors)"),
    };
    let space = if place.is_empty() { "" } else { " " };
    format!("{place}{space}{} [{}]{more}", first.message, first.code)
}

/// A part of one as a percentage, or a dash.
pub(super) fn percent(part: Option<f64>) -> String {
    part.map_or_else(|| "-".to_owned(), |part| format!("{:.1}%", part * 100.0))
}

/// A latency in milliseconds to three digits, or a dash.
pub(super) fn milliseconds(latency: Option<Duration>) -> String {
    let Some(latency) = latency else { return "-".to_owned() };
    let milliseconds = latency.as_secs_f64() * 1000.0;
    let digits = if milliseconds < 9.995 { 2 } else { usize::from(milliseconds < 99.95) };
    format!("{milliseconds:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusal_names_the_place_and_how_many_more_there_are() {
        let error = |file: Option<&str>, line| ReloadError {
            code: "invalid-share".to_owned(),
            message: "too much".to_owned(),
            file: file.map(str::to_owned),
            line,
            column: line.map(|_| 7),
        };
        let (placed, plain) = (error(Some("a.yaml"), Some(3)), error(None, None));
        let rows = [
            (vec![], ""),
            (vec![plain.clone()], "too much [invalid-share]"),
            (vec![placed.clone()], "a.yaml:3:7: too much [invalid-share]"),
            (
                vec![placed.clone(), plain.clone()],
                "a.yaml:3:7: too much [invalid-share] (and one more error)",
            ),
            (vec![placed, plain.clone(), plain], "a.yaml:3:7: too much [invalid-share] (and 2 more errors)"),
        ];
        for (errors, expected) in rows {
            assert_eq!(describe(&errors), expected);
        }
    }

    #[test]
    fn latency_has_three_digits() {
        let rows = [
            (310, "0.31"),
            (1_204, "1.20"),
            (9_996, "10.0"),
            (12_340, "12.3"),
            (99_960, "100"),
            (2_000_000, "2000"),
        ];
        for (micros, expected) in rows {
            assert_eq!(milliseconds(Some(Duration::from_micros(micros))), expected);
        }
        assert_eq!(milliseconds(None), "-");
    }
}
