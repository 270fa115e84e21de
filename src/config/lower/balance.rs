//! `upstreams.NAME.endpoints`, `upstreams.NAME.balance` and `upstreams.NAME.slow_start`.

use super::super::diagnostic::Code;
use super::super::field::{Field, Text};
use super::super::model::Endpoint;
use super::super::raw::{self, BalanceBy, EndpointEntry, POLICIES};
use super::super::report::{did_you_mean, nearest};
use super::Lower;
use crate::logic::balance::{Policy, SlowStart};
use crate::logic::condition::Source;
use crate::types::{EndpointAddress, Share, ZoneName};

/// The heaviest that an endpoint may be.
const HEAVIEST: u64 = 1000;

/// The endpoints of `owner`, at least one, no address twice.
pub(super) fn endpoints(
    cx: &mut Lower<'_, '_>,
    owner: &Field<raw::Upstream>,
    list: &Field<Vec<Field<EndpointEntry>>>,
) -> Option<Vec<Endpoint>> {
    let items = cx.require(list, owner.span, "endpoints")?;
    if cx.empty_list(list, "an upstream has at least one endpoint") {
        return None;
    }
    let mut endpoints = Vec::with_capacity(items.len());
    for item in items {
        match item.get() {
            Some(EndpointEntry::Address(text)) => {
                let address = address(cx, text, item);
                let endpoint = address.map(|address| Endpoint { address, weight: 1, zone: None });
                endpoints.extend(endpoint.map(|endpoint| (endpoint, item.span)));
            }
            Some(EndpointEntry::Full(full)) => {
                let place = full.address.span;
                endpoints.extend(self::full(cx, item, full).map(|endpoint| (endpoint, place)));
            }
            None => {}
        }
    }
    let message = "this endpoint stands twice in the upstream";
    let addresses = endpoints.iter().map(|(endpoint, span)| (endpoint.address.clone(), *span));
    cx.distinct(Code::DuplicateAddress, addresses, message);
    (endpoints.len() == items.len()).then(|| endpoints.into_iter().map(|(endpoint, _)| endpoint).collect())
}

fn full(cx: &mut Lower<'_, '_>, item: &Field<EndpointEntry>, raw: &raw::Endpoint) -> Option<Endpoint> {
    let address =
        cx.require(&raw.address, item.span, "address").and_then(|text| address(cx, text, &raw.address));
    let weight = cx.range(&raw.weight, "a weight", 1, HEAVIEST).and_then(|weight| u32::try_from(weight).ok());
    let zone = zone(cx, &raw.zone);
    Some(Endpoint { address: address?, weight: weight?, zone: zone? })
}

fn address<T>(cx: &mut Lower<'_, '_>, text: &Text, place: &Field<T>) -> Option<EndpointAddress> {
    match EndpointAddress::parse(text.as_ref()) {
        Ok(address) => Some(address),
        Err(error) => {
            cx.invalid(Code::InvalidAddress, place, error.to_string());
            None
        }
    }
}

/// A zone, or `Some(None)` where none is written: an empty text is none, so that `${ZONE:-}` may be.
#[expect(clippy::option_option, reason = "wrong, absent and present are three things")]
pub(super) fn zone(cx: &mut Lower<'_, '_>, field: &Field<Text>) -> Option<Option<ZoneName>> {
    match field.get() {
        None => (!field.is_broken()).then_some(None),
        Some(text) if text.as_ref().is_empty() => Some(None),
        Some(_) => cx.name(field, ZoneName::new).map(Some),
    }
}

/// The policy, and where the key of `hash` is read.
pub(super) fn balance(cx: &mut Lower<'_, '_>, field: &Field<BalanceBy>) -> Option<(Policy, Vec<Source>)> {
    let word = match field.get()? {
        BalanceBy::Word(word) => word.as_ref(),
        BalanceBy::Full(full) => {
            let key = &cx.require(&full.hash, field.span, "hash")?.key;
            if cx.empty_list(key, "the key names no source") {
                return None;
            }
            let sources: Vec<_> = key.items().iter().filter_map(|source| cx.attribute(source)).collect();
            let is_whole = sources.len() == key.items().len() && !key.is_broken();
            return is_whole.then_some((Policy::Hash, sources));
        }
    };
    let policy = match word {
        "least_request" => Policy::LeastRequest,
        "round_robin" => Policy::RoundRobin,
        "peak_ewma" => Policy::PeakEwma,
        "hash" => Policy::Hash,
        _ => {
            let known = POLICIES.map(|word| format!("`{word}`")).join(", ");
            let near = nearest(word, POLICIES).filter(|_| field.written.is_none());
            let near = near.map(|word| did_you_mean(word) + " ").unwrap_or_default();
            let message = format!("`{}` is not known here", word.escape_debug());
            cx.invalid(Code::UnknownWord, field, message).hint(format!("{near}known are {known}"));
            return None;
        }
    };
    Some((policy, Vec::new()))
}

/// How weights rise, or `Some(None)` where they do not.
#[expect(clippy::option_option, reason = "wrong, absent and present are three things")]
pub(super) fn slow_start(
    cx: &mut Lower<'_, '_>,
    field: &Field<raw::SlowStart>,
    policy: Option<Policy>,
) -> Option<Option<SlowStart>> {
    let Some(raw) = field.get() else { return (!field.is_broken()).then_some(None) };
    if policy == Some(Policy::Hash) {
        let message = "`balance: hash` knows no slow start: the endpoint of a key does not change with time";
        cx.no_effect(field, message);
    }
    let window = cx.positive(&raw.window);
    let from = cx.share(&raw.from).filter(|from| {
        let is_nothing = *from == Share::NONE;
        if is_nothing {
            cx.report.error(Code::OutOfRange, raw.from.span, "a slow start begins with more than nothing");
        }
        !is_nothing
    });
    Some(Some(SlowStart { window: window?, from: from? }))
}
