//! The demo in plain lines: where there is no terminal, and the summary at the end. Each function gives text with its
//! line ends.

use std::fmt::Write as _;

use super::figures::{Figures, milliseconds, percent};
use super::round::WINDOW;

/// What is said at the start.
pub(super) fn intro(figures: &Figures) -> String {
    let Figures { url, file, users, rate, admin, hints, .. } = figures;
    let mut text = format!("weir demo: {url} serves {users} users, {rate} requests a second\n");
    let _ = writeln!(text, "edit {file} and save it; what to try stands in it");
    if let Some(admin) = admin {
        let _ = writeln!(text, "status: {admin}/status  metrics: {admin}/metrics");
    }
    for hint in hints {
        let _ = writeln!(text, "try: {hint}");
    }
    for note in &figures.notes {
        let _ = writeln!(text, "note: {note}");
    }
    text
}

/// The line of a second.
pub(super) fn second(figures: &Figures) -> String {
    let rate = figures.rates.last().copied().unwrap_or_default();
    let failed = figures.totals.failed;
    let mut line = format!("{:>4}s  {rate} req/s  failed {failed}", figures.elapsed.as_secs());
    for row in &figures.rows {
        let _ = write!(
            line,
            "  | {} {} observed {} users {} p50 {} p99 {} ms",
            row.name,
            row.configured,
            percent(row.observed),
            row.came,
            milliseconds(row.latencies.percentile(50)),
            milliseconds(row.latencies.percentile(99)),
        );
    }
    line.push('\n');
    line
}

/// What is said when an edit was applied.
pub(super) fn applied(figures: &Figures) -> String {
    let moves = figures.applied.as_ref().map(|applied| applied.moves.to_string()).unwrap_or_default();
    format!("reload applied: generation {}; {moves}\n", figures.generation)
}

/// What is said when an edit was refused.
pub(super) fn refused(figures: &Figures) -> String {
    let why = figures.refusal.as_ref().map(|refusal| refusal.text.as_str()).unwrap_or_default();
    format!("reload refused: {why}; generation {} serves on\n", figures.generation)
}

/// What is said at the end.
pub(super) fn summary(figures: &Figures) -> String {
    let totals = &figures.totals;
    let seconds = figures.elapsed.as_secs_f64();
    let mut text =
        format!("summary: {} requests in {seconds:.1} s, failed {}", totals.requests, totals.failed);
    if totals.repeated > 0 {
        let _ = write!(text, ", repeated on a closed connection {}", totals.repeated);
    }
    let _ = writeln!(text, "\n  since the last reload (shares and latencies: of the last {WINDOW} s)");
    for row in &figures.rows {
        let _ = writeln!(
            text,
            "  {:<8} {:>8}  observed {:>6}  users {}/{}  p50 {} ms  p99 {} ms",
            row.name,
            row.configured,
            percent(row.observed),
            row.came,
            row.users,
            milliseconds(row.latencies.percentile(50)),
            milliseconds(row.latencies.percentile(99)),
        );
    }
    let _ = writeln!(text, "  reloads: {} applied, {} refused", totals.reloads, figures.refusals);
    if let Some(applied) = &figures.applied {
        let seen = applied.seen;
        let _ = writeln!(text, "  last reload: {}", applied.moves);
        let _ = writeln!(
            text,
            "  in the traffic: {} users came again, {} of {} due moved, {} others",
            seen.again, seen.moved, seen.due, seen.needlessly
        );
        if totals.reloads > 1 {
            let _ = writeln!(text, "  all reloads: moved {}, least possible {}", totals.moved, totals.least);
        }
    }
    let _ = writeln!(text, "  answers from another variant than computed: {}", totals.strays);
    if totals.others > 0 {
        let _ = writeln!(text, "  answers from others than the demo's upstreams: {}", totals.others);
    }
    if totals.failed > 0 {
        let why = totals.first_failure.as_deref().unwrap_or_default();
        let _ = writeln!(text, "FAILED: {} of {} requests; the first: {why}", totals.failed, totals.requests);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::figures::Refusal;
    use super::super::ledger::{Applied, Totals};
    use super::super::moves::Moves;
    use super::super::round::{Row, Seen};
    use super::*;
    use crate::types::Generation;

    fn figures() -> Figures {
        let row = |name: &str, configured: &str, observed, came, users| {
            let mut row = Row {
                name: name.into(),
                configured: configured.into(),
                observed,
                came,
                users,
                ..Row::default()
            };
            row.latencies.add(Duration::from_micros(310));
            row
        };
        let moves =
            Moves::between(["blue", "blue", "canary"].into_iter(), ["blue", "canary", "canary"].into_iter());
        Figures {
            url: "http://127.0.0.1:8080".into(),
            file: "weir-demo.yaml".into(),
            users: 3,
            rate: 500,
            elapsed: Duration::from_millis(4010),
            generation: Generation(2),
            rows: vec![row("blue", "95%", Some(0.949), 1, 1), row("canary", "5%", None, 2, 2)],
            totals: Totals { requests: 2000, reloads: 1, moved: 1, least: 1, ..Totals::default() },
            rates: vec![498, 501],
            applied: Some(Applied {
                moves,
                seen: Seen { again: 3, due: 1, moved: 1, needlessly: 0 },
                ago: Duration::from_secs(1),
            }),
            refusal: Some(Refusal { text: "weir-demo.yaml:34:27: too much".into(), ago: Duration::ZERO }),
            ..Figures::default()
        }
    }

    #[test]
    fn second_is_one_line_with_shares_users_and_latencies() {
        let line = second(&figures());
        let expected = "   4s  501 req/s  failed 0  | blue 95% observed 94.9% users 1 p50 0.31 p99 0.31 ms  \
                        | canary 5% observed - users 2 p50 0.31 p99 0.31 ms\n";
        assert_eq!(line, expected);
    }

    #[test]
    fn reload_says_who_moved_and_a_refused_one_where_the_error_is() {
        let figures = figures();
        let told = "reload applied: generation 2; moved 1 of 3 users, least possible 1: blue → canary 1\n";
        assert_eq!(applied(&figures), told);
        let told = "reload refused: weir-demo.yaml:34:27: too much; generation 2 serves on\n";
        assert_eq!(refused(&figures), told);
    }

    #[test]
    fn summary_is_loud_only_when_requests_were_lost() {
        let mut figures = figures();
        let quiet = summary(&figures);
        assert!(quiet.contains("summary: 2000 requests in 4.0 s, failed 0\n"), "{quiet}");
        assert!(
            quiet.contains("in the traffic: 3 users came again, 1 of 1 due moved, 0 others\n"),
            "{quiet}"
        );
        assert!(!quiet.contains("FAILED"), "{quiet}");
        figures.totals.failed = 2;
        figures.totals.first_failure = Some("status 502".into());
        let loud = summary(&figures);
        assert!(loud.ends_with("FAILED: 2 of 2000 requests; the first: status 502\n"), "{loud}");
    }
}
