//! `upstreams`.

use super::super::field::{Field, Table, Text};
use super::super::model::{Protocol, Upstream};
use super::super::raw;
use super::Lower;
use super::balance::{balance, endpoints, slow_start};
use crate::logic::balance::health::MOST_IN_A_ROW;
use crate::logic::balance::{Ejection, SuccessRate};
use crate::types::{Share, UpstreamName, ZoneName};

/// The upstreams that are right, in file order; `zone` is the proxy's own.
pub(super) fn upstreams(
    cx: &mut Lower<'_, '_>,
    table: &Field<Table<raw::Upstream>>,
    zone: Option<&ZoneName>,
) -> Vec<Upstream> {
    table.entries().iter().filter_map(|(name, upstream)| self::upstream(cx, name, upstream, zone)).collect()
}

fn upstream(
    cx: &mut Lower<'_, '_>,
    name: &Field<Text>,
    field: &Field<raw::Upstream>,
    zone: Option<&ZoneName>,
) -> Option<Upstream> {
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
    let balance = balance(cx, &raw.balance);
    let slow_start = slow_start(cx, &raw.slow_start, balance.as_ref().map(|(policy, _)| *policy));
    let (connect, response, idle) = timeouts?;
    let ((balance, hash_key), endpoints) = (balance?, endpoints?);
    let zone = zone.filter(|zone| endpoints.iter().any(|endpoint| endpoint.zone.as_ref() == Some(*zone)));
    Some(Upstream {
        name: name?,
        zone: zone.cloned(),
        endpoints,
        protocol: match raw.protocol.get()? {
            raw::Protocol::Http1 => Protocol::Http1,
            raw::Protocol::Http2 => Protocol::Http2,
            raw::Protocol::Auto => Protocol::Auto,
        },
        proxy_protocol: matches!(raw.proxy_protocol.get()?, raw::Announcement::V2),
        tls: tls?,
        health: health?,
        ejection: ejection?,
        limits: limits?,
        balance,
        hash_key,
        slow_start: slow_start?,
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
