//! `routes[].retry`.

use std::time::Duration;

use http::StatusCode;

use super::super::diagnostic::Code;
use super::super::field::{Field, Period, Text};
use super::super::raw;
use super::Lower;
use crate::logic::balance::{BudgetPolicy, Retries, Statuses};

/// When requests of the route are sent again.
pub(super) fn retries(cx: &mut Lower<'_, '_>, raw: &raw::Retry) -> Option<Retries> {
    let attempts = cx.range(&raw.attempts, "`attempts`", 1, 100);
    let reasons: Option<Vec<_>> =
        raw.on.get().map(|on| on.iter().filter_map(|word| reason(cx, word)).collect());
    let methods: Vec<_> =
        raw.methods.items().iter().filter_map(|name| super::route::method(cx, name)).collect();
    let per_try = cx.positive(&raw.per_try_timeout);
    let hedge = cx.positive(&raw.hedge_after);
    let is_right = |period: Option<Duration>, field: &Field<Period>| period.is_some() || field.is_absent();
    let max_body = cx.size(&raw.max_body);
    let share = cx.share(&raw.budget);
    let min_per_second = cx.range(&raw.min_per_second, "`min_per_second`", 0, 1_000_000);
    let (backoff, max_backoff) = (cx.period(&raw.backoff), cx.period(&raw.max_backoff));
    let reasons = reasons?;
    if !is_right(per_try, &raw.per_try_timeout)
        || !is_right(hedge, &raw.hedge_after)
        || reasons.len() != raw.on.items().len()
        || methods.len() != raw.methods.items().len()
    {
        return None;
    }
    let has = |reason| reasons.contains(&reason);
    Some(Retries {
        attempts: usize::try_from(attempts?).ok()?,
        on_connect: has(Reason::Connect),
        on_reset: has(Reason::Reset),
        on_timeout: has(Reason::Timeout),
        on_statuses: reasons
            .iter()
            .filter_map(|reason| if let Reason::Statuses(statuses) = reason { Some(*statuses) } else { None })
            .collect(),
        methods,
        per_try,
        max_body: max_body?,
        budget: BudgetPolicy { share: share?, min_per_second: u32::try_from(min_per_second?).ok()? },
        backoff: backoff?,
        max_backoff: max_backoff?,
        hedge,
    })
}

#[derive(PartialEq)]
enum Reason {
    Connect,
    Reset,
    Timeout,
    Statuses(Statuses),
}

const WORDS: [&str; 5] = ["connect", "reset", "timeout", "gateway_error", "5xx"];

fn reason(cx: &mut Lower<'_, '_>, field: &Field<Text>) -> Option<Reason> {
    let text = field.get()?.as_ref();
    Some(match text {
        "connect" => Reason::Connect,
        "reset" => Reason::Reset,
        "timeout" => Reason::Timeout,
        "gateway_error" => Reason::Statuses(Statuses::GatewayErrors),
        "5xx" => Reason::Statuses(Statuses::ServerErrors),
        _ => {
            let status = text.parse().ok().filter(|code| (400..=599).contains(code));
            let Some(status) = status.and_then(|code| StatusCode::from_u16(code).ok()) else {
                let words = WORDS.join("`, `");
                let message =
                    format!("`{}` is none of `{words}` and no status from 400 to 599", text.escape_debug());
                cx.invalid(Code::UnknownWord, field, message);
                return None;
            };
            Reason::Statuses(Statuses::One(status))
        }
    })
}
