//! `upstreams`.

use super::super::diagnostic::Code;
use super::super::field::{Field, Table, Text};
use super::super::model::{Protocol, Upstream};
use super::super::raw;
use super::Lower;
use crate::logic::balance::health::MOST_IN_A_ROW;
use crate::logic::balance::{Ejection, Policy, SuccessRate};
use crate::types::{EndpointAddress, Share, UpstreamName};

/// The upstreams that are right, in file order.
pub(super) fn upstreams(cx: &mut Lower<'_, '_>, table: &Field<Table<raw::Upstream>>) -> Vec<Upstream> {
    table.entries().iter().filter_map(|(name, upstream)| self::upstream(cx, name, upstream)).collect()
}

fn upstream(cx: &mut Lower<'_, '_>, name: &Field<Text>, field: &Field<raw::Upstream>) -> Option<Upstream> {
    let name = cx.name(name, UpstreamName::new);
    let raw = field.get()?;
    let endpoints = endpoints(cx, field, &raw.endpoints);
    let timeouts = raw.timeouts.get().map(|timeouts| {
        (cx.positive(&timeouts.connect), cx.positive(&timeouts.response), cx.positive(&timeouts.idle))
    });
    let dns_refresh = cx.positive(&raw.dns_refresh);
    let tls = cx.upstream_tls(raw, endpoints.as_deref());
    let health = cx.health(&raw.health, endpoints.as_deref());
    let ejection = raw.ejection.get().and_then(|raw| ejection(cx, raw));
    let limits =
        if raw.limits.is_absent() { Some(None) } else { super::rate::upstream(cx, &raw.limits).map(Some) };
    let (connect, response, idle) = timeouts?;
    Some(Upstream {
        name: name?,
        endpoints: endpoints?,
        protocol: match raw.protocol.get()? {
            raw::Protocol::Http1 => Protocol::Http1,
            raw::Protocol::Http2 => Protocol::Http2,
            raw::Protocol::Auto => Protocol::Auto,
        },
        proxy_protocol: matches!(raw.proxy_protocol.get()?, raw::Announcement::V2),
        tls: tls?,
        balance: match raw.balance.get()? {
            raw::Balance::LeastRequest => Policy::LeastRequest,
            raw::Balance::RoundRobin => Policy::RoundRobin,
        },
        health: health?,
        ejection: ejection?,
        slow_start: None,
        limits: limits?,
        connect_timeout: connect?,
        response_timeout: response?,
        idle_timeout: idle?,
        dns_refresh: dns_refresh?,
    })
}

fn ejection(cx: &mut Lower<'_, '_>, raw: &raw::Ejection) -> Option<Ejection> {
    let most = u64::from(MOST_IN_A_ROW);
    let mut count = |field, key| cx.range(field, key, 0, most).and_then(|count| u8::try_from(count).ok());
    let failures = count(&raw.failures, "`failures`");
    let gateway_errors = count(&raw.gateway_errors, "`gateway_errors`");
    let server_errors = count(&raw.server_errors, "`server_errors`");
    let (time, max_time) = (cx.positive(&raw.time), cx.positive(&raw.max_time));
    let max_ejected = cx.share(&raw.max_ejected);
    let success_rate = raw.success_rate.get().and_then(|raw| {
        let (margin, interval) = (cx.share(&raw.margin), cx.positive(&raw.interval));
        let min_requests = cx.range(&raw.min_requests, "`min_requests`", 1, 1_000_000);
        let min_requests = u32::try_from(min_requests?).ok()?;
        Some(SuccessRate { interval: interval?, min_requests, margin: margin? })
    });
    Some(Ejection {
        failures: failures?,
        gateway_errors: gateway_errors?,
        server_errors: server_errors?,
        time: time?,
        max_time: max_time?,
        max_ejected: max_ejected?,
        success_rate: Some(success_rate?).filter(|policy| policy.margin < Share::ALL),
    })
}

fn endpoints(
    cx: &mut Lower<'_, '_>,
    owner: &Field<raw::Upstream>,
    list: &Field<Vec<Field<Text>>>,
) -> Option<Vec<EndpointAddress>> {
    let items = cx.require(list, owner.span, "endpoints")?;
    if cx.empty_list(list, "an upstream has at least one endpoint") {
        return None;
    }
    let mut endpoints = Vec::with_capacity(items.len());
    for item in items {
        let Some(text) = item.get() else { continue };
        match EndpointAddress::parse(text.as_ref()) {
            Ok(endpoint) => endpoints.push((endpoint, item.span)),
            Err(error) => {
                cx.invalid(Code::InvalidAddress, item, error.to_string());
            }
        }
    }
    let message = "this endpoint stands twice in the upstream";
    cx.distinct(Code::DuplicateAddress, endpoints.iter().cloned(), message);
    (endpoints.len() == items.len()).then(|| endpoints.into_iter().map(|(endpoint, _)| endpoint).collect())
}
