//! The page for people: a label, then what is to be said, in the order of the decision. Everything on it is in the JSON
//! too.

use std::fmt::Write;

use http::StatusCode;

use super::choice::{Arm, Choice, RuleTried, SourceTried};
use super::explanation::{Answer, Client, Explanation, Limited, Sent, Why};
use super::obstacle::{Demand, Obstacle};
use super::words::{ordinal, quoted};

/// The width of the labels, with the space behind them.
const LABEL: usize = 11;

/// Headers of the proxy that are told by their names only: who asks, by which way.
const FORWARDING: [&str; 6] =
    ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-request-id"];

/// The page.
pub(super) fn page(told: &Explanation) -> String {
    let mut page = Page::default();
    let Explanation { request, client, .. } = told;
    let host = request.host.as_deref().map(|host| format!(" of {host}")).unwrap_or_default();
    page.line("request", &format!("{} {}{host}", request.method, request.target));
    if let Some(read_as) = &request.read_as {
        page.line("read as", read_as);
    }
    page.line("client", &who(client));
    let removed = told.removed.iter().map(|removed| [removed.header.clone(), reason(removed.why).to_owned()]);
    page.table("removed", &removed.collect::<Vec<_>>());
    if let Some(route) = &told.route {
        let mut line = format!("{}, the {} of {}", route.name, ordinal(route.place), route.of);
        for (what, pattern) in [("host", &route.host), ("path", &route.path)] {
            if let Some(pattern) = pattern {
                let _ = write!(line, ", {what} {pattern}");
            }
        }
        page.line("route", &line);
    }
    if let Some(limit) = &told.rate_limit {
        page.line("limit", &limited(limit));
    }
    if let Some(choice) = &told.split {
        page.choice(choice);
    }
    if let Some(upstream) = &told.upstream {
        page.line("upstream", &format!("{}: {}", upstream.name, upstream.endpoints.join(", ")));
        let otherwise = match upstream.on_unavailable {
            "baseline" => "the baseline, labelled `fallback`",
            _ => "503",
        };
        page.line(
            "otherwise",
            &format!("{otherwise}, when no endpoint takes it ({})", tried(upstream.attempts)),
        );
    }
    if let Some(sent) = &told.sent {
        page.sent(sent);
    }
    if let Some(answer) = &told.answer {
        page.answer(answer);
    }
    page.table("routes", &told.obstacles.iter().map(obstacle).collect::<Vec<_>>());
    page.text
}

#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn line(&mut self, label: &str, text: &str) {
        // Writing to a `String` cannot fail.
        let _ = writeln!(self.text, "{label:<LABEL$}{text}");
    }

    /// Rows in aligned columns, the label before the first.
    fn table<const N: usize>(&mut self, label: &str, rows: &[[String; N]]) {
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: [usize; N] = std::array::from_fn(width);
        for (index, row) in rows.iter().enumerate() {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(widths) {
                let _ = write!(line, "{cell:<width$}{}", if width == 0 { "" } else { "  " });
            }
            self.line(if index == 0 { label } else { "" }, line.trim_end());
        }
    }

    fn choice(&mut self, choice: &Choice) {
        self.line("split", &choice.name);
        self.table("key", &choice.sources.iter().map(source).collect::<Vec<_>>());
        if choice.key.is_none() && choice.reason.is_some() {
            let what = match choice.missing {
                "random" => "none: each request is drawn by itself".to_owned(),
                "cookie" => format!(
                    "none: a session id is minted, and set as the cookie `{}`",
                    choice.mints.as_deref().unwrap_or_default()
                ),
                _ => "none: the baseline takes it, where no rule pins it".to_owned(),
            };
            self.line(if choice.sources.is_empty() { "key" } else { "" }, &what);
        }
        if let Some(force) = &choice.force {
            self.table("override", &[[force.place.clone(), override_text(force.outcome).to_owned()]]);
        }
        self.table("rules", &choice.rules.iter().map(rule).collect::<Vec<_>>());
        if let (Some(shares), Some(position), Some(key)) = (&choice.shares, &choice.position, &choice.key) {
            let salt = quoted(choice.hash.salt.as_bytes());
            let from = if shares.arms.len() > 3 { "; later arms have positions of their own" } else { "" };
            self.line("position", &format!("{position}{}{from}", percent(position)));
            let key =
                if key.text.chars().count() > 40 { "the key".to_owned() } else { format!("{:?}", key.text) };
            self.line("", &format!("= {} of {salt}, 0x00, {key}", choice.hash.algorithm));
        }
        if let Some(shares) = &choice.shares {
            let whose = match &shares.rule {
                Some(rule) => format!("of the rule {rule}"),
                None => "of the split".to_owned(),
            };
            self.line("shares", &whose);
            let ends = shares.arms.iter().filter_map(|arm| arm.to.as_deref());
            let width = ends.map(str::len).max().unwrap_or(0);
            let rows = shares.arms.iter().map(|arm| self::arm(arm, width, choice.by_chance));
            self.table("", &rows.collect::<Vec<_>>());
        }
        let Some(reason) = choice.reason else { return };
        let rule = choice.rule.as_deref().unwrap_or_default();
        let why = match (reason, &choice.shares) {
            ("weights", _) => "by its share".to_owned(),
            ("rule", Some(_)) => format!("by its share in the rule {rule}"),
            ("rule", None) => format!("pinned by the rule {rule}"),
            ("override", _) => "forced by the override".to_owned(),
            _ => "the baseline, for there is no key".to_owned(),
        };
        match (&choice.variant, &choice.mints) {
            (Some(variant), _) => self.line("variant", &format!("{variant}, {why}")),
            (None, Some(_)) => self.line("variant", "drawn with the session id, which keeps it from then on"),
            (None, None) => self.line("variant", "drawn for each request by itself"),
        }
    }

    fn sent(&mut self, sent: &Sent) {
        let host = sent.host.as_deref().unwrap_or("the endpoint");
        self.line("sent", &format!("{} of {host}", sent.target));
        let ours = || sent.headers.iter().filter(|field| !field.from_client);
        for field in ours().filter(|field| !FORWARDING.contains(&field.name.as_str())) {
            let value = field.value.as_deref().unwrap_or("the variant drawn");
            self.line("", &format!("{}: {value}", field.name));
        }
        let mut names: Vec<_> =
            ours().map(|field| field.name.as_str()).filter(|name| FORWARDING.contains(name)).collect();
        names.sort_unstable();
        if !names.is_empty() {
            self.line("", &format!("and {}", names.join(", ")));
        }
    }

    fn answer(&mut self, answer: &Answer) {
        let status = StatusCode::from_u16(answer.status).unwrap_or_default();
        let answered = match (answer.error, &answer.why) {
            (Some(error), Some(why)) => format!("{} {error}: {why}", answer.status),
            _ => format!("{status}, without an upstream"),
        };
        self.line("answer", &answered);
        for field in answer.headers.iter().filter(|field| answer.error.is_none() || field.name == "allow") {
            self.line("", &format!("{}: {}", field.name, field.value.as_deref().unwrap_or_default()));
        }
    }
}

fn who(client: &Client) -> String {
    let Client { peer, listener, trusted, address } = client;
    let trust = match trusted {
        None => "everybody's identity headers count",
        Some(true) => "trusted: identity and forwarding headers count",
        Some(false) => "not trusted: identity headers are removed",
    };
    let through = if address == peer { String::new() } else { format!(" through {peer}") };
    format!("{address}{through} by listener {listener}; {trust}")
}

fn limited(limit: &Limited) -> String {
    let Limited { requests, seconds, burst, source, unit } = limit;
    let per = match seconds {
        1 => "a second".to_owned(),
        60 => "a minute".to_owned(),
        3600 => "an hour".to_owned(),
        seconds => format!("in {seconds} s"),
    };
    let whose = match (source, unit) {
        (Some(source), Some(unit)) => format!("of {source} {}", quoted(unit.as_bytes())),
        _ => "of all requests without a unit".to_owned(),
    };
    format!("{requests} {per}, {burst} at once, {whose}")
}

fn reason(why: Why) -> &'static str {
    match why {
        Why::HopByHop => "is between two hops",
        Why::Alias => "is another spelling of a header that routing reads",
        Why::Ours => "is the proxy's to say",
        Why::Underscore => "has `_` in its name, and the listener removes such",
        Why::Untrusted => "carries identity, and the peer is not trusted",
    }
}

fn source(tried: &SourceTried) -> [String; 2] {
    let value = || tried.value.as_deref().map(|value| quoted(value.as_bytes())).unwrap_or_default();
    let outcome = match tried.outcome {
        "key" => value(),
        "ambiguous" => format!("more than once, with different values: {}", value()),
        "too_long" => "over 1 KiB".to_owned(),
        "not_looked_at" => "not looked at".to_owned(),
        other => other.to_owned(),
    };
    [tried.source.clone(), outcome]
}

fn override_text(outcome: &str) -> &str {
    match outcome {
        "honoured" => "counts",
        "honoured_bare" => "counts: this client may send a bare name",
        "ambiguous" => "ignored: it comes more than once, with different values",
        "bare_not_allowed" => "ignored: this client must bring a token, not a bare name",
        "malformed" => "ignored: it is not a token",
        "bad_signature" => "ignored: its signature does not verify",
        "expired" => "ignored: it has expired",
        "other_split" => "ignored: it is for another split",
        "other_unit" => "ignored: it is for another unit",
        "unknown_variant" => "ignored: it is for a variant that the split does not have",
        other => other,
    }
}

fn rule(rule: &RuleTried) -> [String; 2] {
    let outcome = match (rule.outcome, &rule.condition) {
        ("fails", Some(condition)) => {
            let found = rule.found.as_deref().map(|value| quoted(value.as_bytes()));
            format!("no: {condition}; it is {}", found.as_deref().unwrap_or("absent"))
        }
        ("matches", _) => "yes".to_owned(),
        _ => "not looked at".to_owned(),
    };
    [rule.name.clone(), outcome]
}

fn arm(arm: &Arm, width: usize, by_chance: bool) -> [String; 5] {
    let bounds = match (&arm.from, &arm.to) {
        (Some(from), Some(to)) => format!("[{from:>width$}, {to:>width$})"),
        _ => "nobody".to_owned(),
    };
    let own = match (&arm.own_position, arm.own && arm.to.is_some()) {
        (Some(position), _) => format!("own position {position}"),
        (None, true) => "of its own position".to_owned(),
        (None, false) => String::new(),
    };
    let mark = if arm.chosen { "←".to_owned() } else { String::new() };
    let upstream = if by_chance { format!("to {}", arm.upstream) } else { String::new() };
    [arm.variant.clone(), format!("{:>8}", arm.share), bounds, own, format!("{mark}{upstream}")]
}

fn obstacle(obstacle: &Obstacle) -> [String; 2] {
    let Obstacle { route, why, wanted, found } = obstacle;
    let found = || found.as_deref().unwrap_or("absent");
    let text = match why {
        Demand::Host => format!("host {wanted}"),
        Demand::Listener => format!("listener {wanted}"),
        Demand::Path => format!("path {wanted}"),
        Demand::Method => format!("method {wanted}"),
        Demand::Condition => format!("{wanted}; it is {}", found()),
        Demand::MoreSpecificHost => "a more specific host has routes of its own".to_owned(),
    };
    [route.clone(), text]
}

/// The place of a position in `[0, 2^64)`, as ` (12.3456%)`.
fn percent(position: &str) -> String {
    let Ok(position) = position.parse::<u64>() else { return String::new() };
    // In units of 0.0001%, rounded down, in whole numbers.
    let part = (u128::from(position) * 1_000_000) >> 64;
    format!(" ({}.{:04}%)", part / 10_000, part % 10_000)
}

fn tried(attempts: usize) -> String {
    if attempts == 1 { "1 is tried".to_owned() } else { format!("up to {attempts} are tried") }
}
