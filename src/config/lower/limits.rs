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
    Some(Limits { connections: connections?, requests: requests? })
}

/// `listeners[].limits`.
pub(super) fn of_listener(
    cx: &mut Lower<'_, '_>,
    field: &Field<raw::ListenerLimits>,
) -> Option<ListenerLimits> {
    let raw = field.get()?;
    let connections = number(cx, &raw.connections, "`limits.connections`");
    let per_client = number(cx, &raw.per_client, "`limits.per_client`");
    Some(ListenerLimits { connections: connections?, per_client: per_client? })
}

/// `listeners[].min_rate`.
pub(super) fn min_rate(cx: &mut Lower<'_, '_>, field: &Field<raw::MinRate>) -> Option<MinRate> {
    let raw = field.get()?;
    let (request, response) = (cx.size(&raw.request), cx.size(&raw.response));
    let grace = cx.positive(&raw.grace);
    Some(MinRate { request: request?.0, response: response?.0, grace: grace? })
}

/// What `read` makes of `field`, where somebody wrote it; `None` where it is wrong.
pub(super) fn unless_absent<T, V>(
    field: &Field<T>,
    read: impl FnOnce(&Field<T>) -> Option<V>,
) -> Option<Option<V>> {
    if field.is_absent() { Some(None) } else { read(field).map(Some) }
}

fn number(cx: &mut Lower<'_, '_>, field: &Field<u64>, what: &str) -> Option<Option<usize>> {
    unless_absent(field, |field| usize::try_from(cx.range(field, what, 1, MOST)?).ok())
}
