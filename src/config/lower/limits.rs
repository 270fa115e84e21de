//! `limits`, `listeners[].limits` and `listeners[].min_rate`.

use super::super::field::Field;
use super::super::model::{Limits, ListenerLimits, MinRate};
use super::super::raw;
use super::Lower;

/// More than any system has, and less than where counting ends.
const MOST: u64 = 1_000_000_000;

/// `limits`.
pub(super) fn limits(cx: &mut Lower<'_, '_>, field: &Field<raw::Limits>) -> Option<Limits> {
    let raw = field.get()?;
    let connections = number(cx, &raw.connections, "`limits.connections`");
    let requests = number(cx, &raw.requests, "`limits.requests`");
    Some(Limits { connections, requests })
}

/// `listeners[].limits`.
pub(super) fn of_listener(
    cx: &mut Lower<'_, '_>,
    field: &Field<raw::ListenerLimits>,
) -> Option<ListenerLimits> {
    let raw = field.get()?;
    let connections = number(cx, &raw.connections, "`limits.connections`");
    let per_client = number(cx, &raw.per_client, "`limits.per_client`");
    Some(ListenerLimits { connections, per_client })
}

/// `listeners[].min_rate`.
pub(super) fn min_rate(cx: &mut Lower<'_, '_>, field: &Field<raw::MinRate>) -> Option<MinRate> {
    let raw = field.get()?;
    let (request, response) = (cx.size(&raw.request), cx.size(&raw.response));
    let grace = cx.positive(&raw.grace);
    Some(MinRate { request: request?.0, response: response?.0, grace: grace? })
}

/// A number; `None` where nobody wrote it.
fn number(cx: &mut Lower<'_, '_>, field: &Field<u64>, what: &str) -> Option<usize> {
    usize::try_from(cx.range(field, what, 1, MOST)?).ok()
}
