//! Defaults that follow from other keys, and the configuration with every default as YAML.
//!
//! [`complete`] runs before [`super::lower`], so that what is printed is what is lowered.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::Value;

use super::field::{Field, Name, Percent, Period, Text, section};
use super::raw::{ClientAuth, EndpointEntry, Health, Missing, OnUnavailable, RateLimit, Root, Route, Split};
use super::span::Span;
use crate::logic::limit::Rate;
use crate::types::quantity::parse_thousandths;
use crate::types::quantity::{format_duration, parse_duration};

/// Fills in the defaults that follow from other keys: names, numbers of cores, salts, upstreams of variants.
pub(super) fn complete(root: &mut Root) {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    root.workers.complete(root.listeners.span, || cores as u64);
    for (number, listener) in numbered(&mut root.listeners) {
        let span = listener.span;
        if let Some(listener) = listener.get_mut() {
            listener.name.complete(span, || Name(format!("listener-{number}")));
            if let Some(tls) = listener.tls.get_mut().filter(|tls| tls.client_ca.is_given()) {
                tls.client_auth.complete(tls.client_ca.span, || ClientAuth::Required);
            }
        }
    }
    if let Some(upstreams) = root.upstreams.get_mut() {
        for upstream in upstreams.0.iter_mut().filter_map(|(_, upstream)| upstream.get_mut()) {
            let is_tls = |endpoint: &EndpointEntry| {
                let address = match endpoint {
                    EndpointEntry::Address(address) => Some(address),
                    EndpointEntry::Full(full) => full.address.get(),
                };
                address.is_some_and(|address| address.as_ref().starts_with("https://"))
            };
            let speaks_tls = upstream.endpoints.items().iter().filter_map(Field::get).any(is_tls);
            if upstream.tls.is_absent() && speaks_tls {
                upstream.tls = section();
            }
            if let Some(health) = upstream.health.get_mut() {
                complete_health(health, speaks_tls);
            }
        }
    }
    if let Some(splits) = root.splits.get_mut() {
        for (name, split) in &mut splits.0 {
            if let Some(split) = split.get_mut() {
                complete_split(split, name);
            }
        }
    }
    for (number, route) in numbered(&mut root.routes) {
        let span = route.span;
        if let Some(route) = route.get_mut() {
            complete_route(route, number, span);
        }
    }
}

/// The longest time for a check where none is written.
const CHECK: Duration = Duration::from_secs(1);

/// Takes a default back.
fn forget<T>(field: &mut Field<T>) {
    if !field.is_given() && !field.is_broken() {
        *field = Field::absent();
    }
}

fn complete_health(health: &mut Health, speaks_tls: bool) {
    // What has no effect is an error where it is written, so it is not printed either.
    if health.path.is_absent() {
        forget(&mut health.method);
        forget(&mut health.status);
    }
    if health.tcp.is_given() {
        forget(&mut health.headers);
    }
    if !speaks_tls {
        forget(&mut health.tls);
    }
    health.unhealthy_interval.follow(&health.interval);
    // What is no duration is reported when it is lowered.
    let period = |field: &Field<Period>| parse_duration(&field.get()?.0).ok();
    let [often, seldom] = [&health.interval, &health.unhealthy_interval];
    let shorter = if period(seldom) < period(often) { seldom } else { often };
    if health.timeout.is_absent() && period(shorter).is_some_and(|shorter| shorter < CHECK) {
        health.timeout.follow(&shorter.clone());
    }
    health.timeout.complete(Span::NONE, || Period(format_duration(CHECK)));
}

fn complete_split(split: &mut Split, name: &Field<Text>) {
    if split.missing.get() == Some(&Missing::Cookie) && split.cookie.is_absent() {
        split.cookie = section();
    }
    if let Some(xxh3) = split.hash.get_mut().and_then(|hash| hash.xxh3.get_mut()) {
        xxh3.salt.follow(name);
    }
    for (number, variant) in numbered(&mut split.variants) {
        let Some(variant) = variant.get_mut() else { continue };
        variant.upstream.follow(&variant.name);
        let baseline = number == 1;
        variant.on_unavailable.complete(variant.name.span, || {
            if baseline { OnUnavailable::Error } else { OnUnavailable::Baseline }
        });
        if !baseline {
            variant.weight.complete(variant.name.span, || Percent("0%".to_owned()));
        }
    }
    for (number, rule) in numbered(&mut split.rules) {
        let span = rule.span;
        if let Some(rule) = rule.get_mut() {
            rule.name.complete(span, || Name(format!("rule-{number}")));
        }
    }
}

fn complete_route(route: &mut Route, number: usize, span: Span) {
    route.name.complete(span, || Name(format!("route-{number}")));
    if route.retry.is_absent() && (route.split.is_given() || route.upstream.is_given()) {
        route.retry = section();
    }
    if let Some(limit) = route.rate_limit.get_mut() {
        complete_limit(limit);
    }
}

/// What comes in a second may come at once.
fn complete_limit(limit: &mut RateLimit) {
    let rates = [(&limit.per_second, 1), (&limit.per_minute, 60), (&limit.per_hour, 3600)];
    let mut rates = rates.into_iter().filter_map(|(field, seconds)| {
        let thousandths = parse_thousandths(field.get()?.as_ref()).ok()?;
        Some((field.span, Rate::new(thousandths, Duration::from_secs(seconds))?))
    });
    if let Some((span, rate)) = rates.next() {
        limit.burst.complete(span, || rate.per_second());
    }
}

fn numbered<T>(list: &mut Field<Vec<T>>) -> impl Iterator<Item = (usize, &mut T)> {
    (1..).zip(list.get_mut().map_or(&mut [][..], Vec::as_mut_slice))
}

/// `root` as JSON, without what is absent.
pub(super) fn to_json(root: &Root) -> Value {
    let mut value = serde_json::to_value(root).unwrap_or_default();
    strip_nulls(&mut value);
    value
}

/// Takes out the entries without a value.
pub(super) fn strip_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(strip_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(strip_nulls),
        _ => {}
    }
}

/// `root` as YAML.
pub(super) fn render(root: &Root) -> String {
    let mut out = String::new();
    if let Value::Object(sections) = to_json(root) {
        entries(&mut out, 0, &sections, false);
    }
    out
}

fn entry(out: &mut String, indent: usize, key: &str, value: &Value) {
    let _ = write!(out, "{:indent$}{}:", "", scalar(key));
    match value {
        Value::Object(map) if !map.is_empty() => {
            out.push('\n');
            entries(out, indent + 2, map, false);
        }
        Value::Array(items) if items.iter().any(|item| item.is_object() || item.is_array()) => {
            out.push('\n');
            for item in items {
                list_item(out, indent + 2, item);
            }
        }
        other => {
            let _ = writeln!(out, " {}", flow(other));
        }
    }
}

fn entries(out: &mut String, indent: usize, map: &serde_json::Map<String, Value>, mut begun: bool) {
    for (key, value) in map {
        let at = if begun { 0 } else { indent };
        let mut lines = String::new();
        entry(&mut lines, indent, key, value);
        out.push_str(&lines[indent - at..]);
        begun = false;
    }
}

fn list_item(out: &mut String, indent: usize, item: &Value) {
    let _ = write!(out, "{:indent$}- ", "");
    match item {
        Value::Object(map) if !map.is_empty() => {
            entries(out, indent + 2, map, true);
        }
        other => {
            let _ = writeln!(out, "{}", flow(other));
        }
    }
}

/// A value in one line.
fn flow(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::Object(map) => {
            let entries: Vec<_> =
                map.iter().map(|(key, value)| format!("{}: {}", scalar(key), flow(value))).collect();
            if entries.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", entries.join(", ")) }
        }
        Value::String(text) => scalar(&text.replace("${", "$${")),
        other => other.to_string(),
    }
}

/// A text, in quotes unless every reader of YAML takes it for a text without.
fn scalar(text: &str) -> String {
    let first = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'/');
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:".contains(&byte);
    let rest = text.bytes().all(plain) && !text.ends_with(':');
    let word = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let number_and_unit = || {
        let unit = text.trim_start_matches(|character: char| character.is_ascii_digit() || character == '.');
        unit.len() < text.len()
            && ["%", "ms", "s", "m", "h", "d", "KiB", "MiB", "GiB", "TiB", "B"].contains(&unit)
    };
    let safe = (first && rest && !word.contains(&text.to_ascii_lowercase().as_str())) || number_and_unit();
    if safe { text.to_owned() } else { Value::String(text.to_owned()).to_string() }
}

#[cfg(test)]
mod tests {
    use super::scalar;

    #[test]
    fn text_is_quoted_unless_it_is_surely_a_text() {
        let rows = [
            ("blue", "blue"),
            ("header:x-user", "header:x-user"),
            ("/api/", "/api/"),
            ("10.5%", "10.5%"),
            ("30s", "30s"),
            ("64KiB", "64KiB"),
            ("", "\"\""),
            ("true", "\"true\""),
            ("No", "\"No\""),
            ("42", "\"42\""),
            ("0.5", "\"0.5\""),
            ("1e3", "\"1e3\""),
            ("a: b", "\"a: b\""),
            ("a:", "\"a:\""),
            ("10.0.0.1:80", "\"10.0.0.1:80\""),
            ("*.example.com", "\"*.example.com\""),
            ("/api/*", "\"/api/*\""),
            ("a\nb", "\"a\\nb\""),
            ("~", "\"~\""),
        ];
        for (text, expected) in rows {
            assert_eq!(scalar(text), expected);
        }
    }
}
