//! The live view, made for 80 columns and 24 lines and for anything else: what matters least gives way first.

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Sparkline};

use super::figures::{Figures, milliseconds, percent};
use super::paint::{Palette, bar, ends, title, wrapped};
use super::round::Row;

/// The most lines that the rate gets.
const TALLEST: usize = 4;

/// Draws `figures` over the whole frame.
pub(super) fn draw(frame: &mut Frame<'_>, figures: &Figures, palette: Palette) {
    let area = frame.area();
    let (width, height) = (usize::from(area.width), usize::from(area.height));
    let head = head(figures, width, palette);
    let table = table(&figures.rows, figures.split.as_deref(), width, palette);
    let reload = reload(figures, width, palette);
    let hints = hints(figures, width);
    // What is always there, then what there is room for, and empty lines between where they fit too.
    let mut rest = height.saturating_sub(head.len() + table.len() + reload.len());
    let mut take = |lines| {
        let fits = lines <= rest;
        rest -= if fits { lines } else { 0 };
        fits
    };
    let (shows_hints, shows_rate) = (take(hints.len()), take(2));
    let gap = usize::from(take(2 + usize::from(shows_hints) + usize::from(shows_rate)));

    let mut place = Place { frame, area, y: 0 };
    place.text(head);
    place.skip(gap);
    place.text(table);
    place.skip(gap);
    place.text(reload);
    if shows_rate {
        place.skip(gap);
        place.text(vec![title("requests a second", palette)]);
        place.rate(&figures.rates, (1 + rest).min(TALLEST), palette.paint(Color::Cyan));
    }
    if shows_hints {
        place.skip(gap);
        place.text(hints);
    }
}

/// Where the next lines go.
struct Place<'a, 'b> {
    frame: &'a mut Frame<'b>,
    area: Rect,
    y: u16,
}

impl Place<'_, '_> {
    fn skip(&mut self, lines: usize) {
        self.y = self.y.saturating_add(u16::try_from(lines).unwrap_or(u16::MAX)).min(self.area.height);
    }

    fn next(&mut self, lines: usize) -> Rect {
        let y = self.area.y + self.y;
        self.skip(lines);
        Rect { y, height: self.area.y + self.y - y, ..self.area }
    }

    fn text(&mut self, lines: Vec<Line<'_>>) {
        let area = self.next(lines.len());
        self.frame.render_widget(Paragraph::new(lines), area);
    }

    fn rate(&mut self, rates: &[u64], lines: usize, style: Style) {
        let area = self.next(lines);
        let latest = &rates[rates.len().saturating_sub(usize::from(area.width))..];
        self.frame.render_widget(Sparkline::default().data(latest).style(style), area);
    }
}

fn head(figures: &Figures, width: usize, palette: Palette) -> Vec<Line<'static>> {
    let totals = &figures.totals;
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let failed = match totals.failed {
        0 => Span::raw("failed 0"),
        failed => {
            Span::styled(format!("FAILED {failed}"), palette.paint(Color::Red).add_modifier(Modifier::BOLD))
        }
    };
    let rate = figures.rates.last().copied().unwrap_or_default();
    let seconds = figures.elapsed.as_secs();
    let left = vec![Span::styled("weir demo  ", bold), Span::raw(figures.url.clone())];
    let right = vec![
        Span::raw(format!("{rate} req/s  ")),
        failed,
        Span::raw(format!("  {}:{:02}", seconds / 60, seconds % 60)),
    ];
    let edit = vec![Span::raw("edit "), Span::styled(figures.file.clone(), bold), Span::raw(" and save it")];
    let mut lines = vec![ends(left, right, width), ends(edit, vec![Span::raw("q quits")], width)];
    let warning = palette.paint(Color::Red);
    lines.extend(figures.notes.iter().take(3).map(|note| Line::styled(note.clone(), warning)));
    if totals.strays > 0 {
        let text = format!("{} answers came from another variant than the one computed", totals.strays);
        lines.push(Line::styled(text, warning));
    }
    lines
}

fn table(rows: &[Row], split: Option<&str>, width: usize, palette: Palette) -> Vec<Line<'static>> {
    let name = rows.iter().map(|row| row.name.chars().count()).chain(split.map(str::len)).max();
    let name = name.unwrap_or_default().clamp(8, 16);
    let users = rows.iter().map(|row| format!("{}/{}", row.came, row.users).len()).max();
    let users = users.unwrap_or_default().max(5);
    let columns = |parts: [&str; 3], bar: &str, bar_width: usize, ends: [&str; 3]| {
        let [first, configured, observed] = parts;
        let [seen, p50, p99] = ends;
        (
            format!("{first:<name$.name$} {configured:>8} {observed:>8} "),
            format!("{bar:<bar_width$}"),
            format!(" {seen:>users$} {p50:>6} {p99:>6}"),
        )
    };
    let bar_width = width.saturating_sub(name + 19 + users + 15).min(60);
    let (left, empty, right) = columns(
        [split.unwrap_or("upstream"), "share", "observed"],
        "",
        bar_width,
        ["users", "p50 ms", "p99 ms"],
    );
    let mut lines = vec![title(&format!("{left}{empty}{right}"), palette)];
    for (index, row) in rows.iter().enumerate() {
        let filled = bar(row.observed.unwrap_or_default(), bar_width);
        let percentile = |percent| milliseconds(row.latencies.percentile(percent));
        let (left, filled, right) = columns(
            [&row.name, &row.configured, &percent(row.observed)],
            &filled,
            bar_width,
            [&format!("{}/{}", row.came, row.users), &percentile(50), &percentile(99)],
        );
        let style = palette.variant(&row.name, index);
        lines.push(Line::from(vec![
            Span::styled(left, style),
            Span::styled(filled, style),
            Span::raw(right),
        ]));
    }
    lines
}

fn reload(figures: &Figures, width: usize, palette: Palette) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    let bold = |style: Style| style.add_modifier(Modifier::BOLD);
    if let Some(refusal) = &figures.refusal {
        let text =
            format!("reload refused {}: generation {} serves on", ago(refusal.ago), figures.generation);
        let style = palette.paint(Color::Red);
        lines.push(Line::styled(text, bold(style)));
        let told = wrapped(&refusal.text, width.saturating_sub(2)).into_iter().take(3);
        lines.extend(told.map(|line| Line::styled(format!("  {line}"), style)));
    }
    let Some(applied) = &figures.applied else {
        if lines.is_empty() {
            lines.push(title(&format!("no reload yet: generation {} serves", figures.generation), palette));
        }
        return lines;
    };
    let (moves, seen) = (&applied.moves, applied.seen);
    let text = format!("reload applied {}", ago(applied.ago));
    let text =
        if lines.is_empty() { format!("{text}: generation {} serves", figures.generation) } else { text };
    lines.push(Line::styled(text, bold(palette.paint(Color::Green))));
    let minimal = if moves.moved == moves.least { Color::Green } else { Color::Yellow };
    lines.push(Line::from(vec![
        Span::raw(format!("  moved {} of {} users, ", moves.moved, moves.users)),
        Span::styled(format!("least possible {}", moves.least), palette.paint(minimal)),
    ]));
    if !moves.flows.is_empty() {
        let flows: Vec<_> = moves.flows.iter().map(ToString::to_string).collect();
        lines.push(Line::raw(format!("  {}", flows.join(", "))));
    }
    lines.push(Line::raw(format!(
        "  in the traffic: {} came again, {} of {} due moved, {} others",
        seen.again, seen.moved, seen.due, seen.needlessly
    )));
    lines
}

fn hints(figures: &Figures, width: usize) -> Vec<Line<'static>> {
    let lines = figures.hints.iter().map(|hint| {
        let text: String = format!("try  {hint}").chars().take(width).collect();
        Line::raw(text)
    });
    lines.collect()
}

fn ago(time: Duration) -> String {
    match time.as_secs() {
        0 => "just now".to_owned(),
        seconds @ 1..60 => format!("{seconds} s ago"),
        seconds => format!("{} min ago", seconds / 60),
    }
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::super::figures::Refusal;
    use super::super::ledger::{Applied, Totals};
    use super::super::moves::Moves;
    use super::super::round::Seen;
    use super::*;

    fn figures() -> Figures {
        let row = |name: &str, configured: &str, observed, users| Row {
            name: name.into(),
            configured: configured.into(),
            observed: Some(observed),
            users,
            came: users,
            ..Row::default()
        };
        let (former, latter) = (["blue", "blue", "canary"], ["blue", "canary", "canary"]);
        Figures {
            url: "http://127.0.0.1:8080".into(),
            file: "weir-demo.yaml".into(),
            split: Some("checkout".into()),
            rows: vec![
                row("blue", "86%", 0.859, 4301),
                row("green", "9%", 0.091, 452),
                row("canary", "5%", 0.05, 247),
            ],
            totals: Totals { requests: 5000, ..Totals::default() },
            rates: (0..200).collect(),
            applied: Some(Applied {
                moves: Moves::between(former.into_iter(), latter.into_iter()),
                seen: Seen { again: 3, due: 1, moved: 1, needlessly: 0 },
                ago: Duration::from_secs(7),
            }),
            hints: ["one", "two", "three", "four"].map(str::to_owned).into(),
            ..Figures::default()
        }
    }

    fn drawn(figures: &Figures, width: u16, height: u16, palette: Palette) -> Terminal<TestBackend> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, figures, palette)).unwrap();
        terminal
    }

    fn text(terminal: &Terminal<TestBackend>) -> Vec<String> {
        let buffer = terminal.backend().buffer();
        let width = usize::from(buffer.area.width);
        let symbols: Vec<_> = buffer.content.iter().map(ratatui::buffer::Cell::symbol).collect();
        symbols.chunks(width).map(<[&str]>::concat).collect()
    }

    #[test]
    fn everything_shows_where_there_is_room_and_what_matters_least_gives_way() {
        let refused = Figures {
            refusal: Some(Refusal {
                text: "weir-demo.yaml:34:27: the weights add up to 509% [shares-over-whole]".into(),
                ago: Duration::ZERO,
            }),
            ..figures()
        };
        let always =
            ["weir demo", "86%", "85.9%", "4301/4301", "least possible 1", "blue → canary 1", "0 others"];
        // Width, height, what shows beside, what does not.
        let rows: [(u16, u16, &[&str], &[&str]); 4] = [
            (120, 40, &["requests a second", "try  one", "try  four"], &[]),
            (80, 24, &["requests a second", "try  one", "try  four"], &[]),
            (60, 15, &["try  one"], &[]),
            (60, 11, &[], &["requests a second", "try"]),
        ];
        for (width, height, shown, absent) in rows {
            let lines = text(&drawn(&figures(), width, height, Palette::Colours));
            let whole = lines.join("\n");
            for word in always.iter().chain(shown) {
                assert!(whole.contains(word), "{width}x{height}: {word}\n{whole}");
            }
            for word in absent {
                assert!(!whole.contains(word), "{width}x{height}: {word}\n{whole}");
            }
            let whole = text(&drawn(&refused, width, height, Palette::Colours)).join("\n");
            assert!(whole.contains("reload refused just now") && whole.contains(":34:27:"), "{whole}");
        }
    }

    #[test]
    fn any_size_is_drawn_without_harm() {
        for width in [1, 2, 10, 39, 300] {
            for height in [1, 2, 3, 9, 12, 100] {
                drawn(&figures(), width, height, Palette::Colours);
                drawn(&Figures::default(), width, height, Palette::Colours);
            }
        }
    }

    #[test]
    fn without_colours_no_cell_has_one() {
        let failed = Totals { failed: 3, strays: 1, ..Totals::default() };
        let figures = Figures { totals: failed, refusal: Some(Refusal::default()), ..figures() };
        for (palette, coloured) in [(Palette::Plain, false), (Palette::Colours, true)] {
            let terminal = drawn(&figures, 80, 24, palette);
            let cells = &terminal.backend().buffer().content;
            let any = cells.iter().any(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset);
            assert_eq!(any, coloured, "{palette:?}");
        }
    }
}
