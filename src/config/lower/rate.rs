//! `routes[].rate_limit` and `upstreams.NAME.limits`.

use std::time::Duration;

use super::super::diagnostic::Code;
use super::super::field::{Decimal, Field};
use super::super::model::{RateLimit, UpstreamLimits};
use super::super::raw;
use super::{Lower, begin};
use crate::logic::condition::Source;
use crate::logic::limit::{Gcra, Rate};
use crate::types::quantity::parse_thousandths;

/// The most units that a limit remembers: 128 MiB.
const MOST_UNITS: u64 = 1 << 24;

/// A route's limit; `None` when it is wrong.
pub(super) fn rate_limit(cx: &mut Lower<'_, '_>, field: &Field<raw::RateLimit>) -> Option<RateLimit> {
    let raw = field.get()?;
    let key = key(cx, raw);
    let rates = [
        ("per_second", &raw.per_second, Duration::from_secs(1)),
        ("per_minute", &raw.per_minute, Duration::from_mins(1)),
        ("per_hour", &raw.per_hour, Duration::from_hours(1)),
    ];
    let given = rates.map(|(key, rate, _)| (key, rate.is_given()));
    let chosen = cx.one_of("a rate limit", field.span, &given);
    // All that are given are looked at, so that no error hides behind another.
    let rates = rates.map(|(key, rate, per)| (key, self::rate(cx, key, rate, per)));
    let rate = chosen.and_then(|chosen| rates.into_iter().find(|(key, _)| *key == chosen)?.1);
    let burst = cx.range(&raw.burst, "`burst`", 1, Gcra::MOST_BURST);
    let units = cx.range(&raw.units, "`units`", 8, MOST_UNITS);
    Some(RateLimit { key: key?, rate: rate?, burst: burst?, units: usize::try_from(units?).ok()? })
}

fn key(cx: &mut Lower<'_, '_>, raw: &raw::RateLimit) -> Option<Vec<Source>> {
    if raw.key.is_absent() {
        cx.no_effect(&raw.units, "without a `key` there is one unit");
        return Some(Vec::new());
    }
    let items = raw.key.get()?.of(&raw.key);
    if items.is_empty() {
        cx.report.error(Code::EmptyList, raw.key.span, "the key names no source");
        return None;
    }
    let sources: Vec<_> = items.iter().filter_map(|item| cx.identity(item)).collect();
    (sources.len() == items.len()).then_some(sources)
}

fn rate(cx: &mut Lower<'_, '_>, key: &str, field: &Field<Decimal>, per: Duration) -> Option<Rate> {
    let text = field.get()?.as_ref();
    match parse_thousandths(text).map(|thousandths| Rate::new(thousandths, per)) {
        Ok(Some(rate)) => Some(rate),
        Ok(None) => {
            let message = format!("`{key}` is more than 0 and at most {} a second, not {text}", Rate::MOST);
            cx.invalid(Code::OutOfRange, field, message);
            None
        }
        Err(error) => {
            cx.invalid(Code::InvalidRate, field, format!("`{}`: {error}", text.escape_debug()))
                .hint("write a number with up to three decimal places, as in `100` or `0.5`");
            None
        }
    }
}

/// The limits of an upstream; `None` when they are wrong.
pub(super) fn upstream(cx: &mut Lower<'_, '_>, field: &Field<raw::UpstreamLimits>) -> Option<UpstreamLimits> {
    let raw = field.get()?;
    let requests = if raw.requests.is_absent() {
        Some(None)
    } else {
        cx.range(&raw.requests, "`requests`", 1, 1_000_000).map(|requests| u32::try_from(requests).ok())
    };
    let connections = if raw.connections.is_absent() {
        Some(None)
    } else {
        let connections = cx.range(&raw.connections, "`connections`", 1, 1_000_000);
        connections.map(|connections| usize::try_from(connections).ok())
    };
    let pending = cx.range(&raw.pending, "`pending`", 0, 1_000_000);
    let pending_timeout = cx.positive(&raw.pending_timeout);
    let adaptive = *raw.adaptive.get()?;
    if raw.requests.is_absent() && raw.connections.is_absent() && !adaptive {
        cx.report
            .error(Code::MissingKey, begin(field.span), "these limits limit nothing")
            .hint("write how many `requests` or `connections` there may be, or `adaptive: true`");
        return None;
    }
    Some(UpstreamLimits {
        connections: connections?,
        requests: requests?,
        pending: usize::try_from(pending?).ok()?,
        pending_timeout: pending_timeout?,
        adaptive,
    })
}
