//! The small things that the view is made of: colours, bars, and text in its place.

use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};

/// What the bars are made of, in eighths of a column.
const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
/// Whether there are colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Palette {
    /// As the terminal has them.
    Colours,
    /// None, as `NO_COLOR` wants it.
    Plain,
}

impl Palette {
    /// A style of this colour.
    pub(super) fn paint(self, colour: Color) -> Style {
        match self {
            Self::Colours => Style::new().fg(colour),
            Self::Plain => Style::new(),
        }
    }

    /// A variant called by a colour has it; the others have what is left, in order.
    pub(super) fn variant(self, name: &str, index: usize) -> Style {
        let known = [("blue", Color::LightBlue), ("green", Color::Green), ("canary", Color::Yellow)];
        let others = [Color::Magenta, Color::Cyan, Color::LightRed, Color::White];
        let known = known.iter().find(|(word, _)| name.contains(word)).map(|(_, colour)| *colour);
        self.paint(known.or_else(|| others.get(index % others.len()).copied()).unwrap_or_default())
    }
}

/// A line that heads a part.
pub(super) fn title(text: &str, palette: Palette) -> Line<'static> {
    let style = if palette == Palette::Colours { palette.paint(Color::Gray) } else { Style::new() };
    Line::styled(text.to_owned(), style.add_modifier(Modifier::BOLD))
}

/// `left` and `right` at the two ends of a line.
pub(super) fn ends(left: Vec<Span<'static>>, right: Vec<Span<'static>>, width: usize) -> Line<'static> {
    let used = |spans: &[Span<'_>]| spans.iter().map(Span::width).sum::<usize>();
    let free = width.saturating_sub(used(&left) + used(&right)).max(1);
    let mut spans = left;
    spans.push(Span::raw(" ".repeat(free)));
    spans.extend(right);
    Line::from(spans)
}

/// A bar of `part` (in `[0, 1]`) of `width` columns; what is more than nothing shows.
pub(super) fn bar(part: f64, width: usize) -> String {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a few hundred eighths of a column"
    )]
    let eighths = (part.clamp(0.0, 1.0) * (width * 8) as f64).round() as usize;
    let eighths = if part > 0.0 { eighths.max(1) } else { 0 };
    let end = EIGHTHS.get(eighths % 8).copied().unwrap_or_default();
    "█".repeat(eighths / 8) + end
}

/// `text` in lines of at most `width` characters, broken at spaces where there are any.
pub(super) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let mut word: Vec<char> = word.chars().collect();
        while !word.is_empty() {
            let Some(line) = lines.last_mut() else { break };
            let used = line.chars().count();
            let gap = usize::from(used > 0);
            if used + gap + word.len() <= width || (used == 0 && word.len() > width) {
                line.extend(std::iter::repeat_n(' ', gap));
                let rest = word.split_off(word.len().min(width));
                line.extend(word);
                word = rest;
            } else {
                lines.push(String::new());
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bar_is_as_long_as_its_part_and_never_nothing_for_something() {
        let rows = [(0.0, 0), (0.0001, 1), (0.01, 1), (0.5, 10), (0.999, 20), (1.0, 20), (7.0, 20)];
        for (part, columns) in rows {
            assert_eq!(bar(part, 20).chars().count(), columns, "{part}");
        }
    }

    #[test]
    fn text_is_broken_at_spaces_where_there_are_any() {
        let rows: [(&str, usize, &[&str]); 4] = [
            ("one two three", 7, &["one two", "three"]),
            ("one", 80, &["one"]),
            ("abcdefgh ij", 3, &["abc", "def", "gh", "ij"]),
            ("", 10, &[""]),
        ];
        for (text, width, lines) in rows {
            assert_eq!(wrapped(text, width), lines, "{text}");
        }
    }
}
