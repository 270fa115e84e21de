//! `upstreams`.

use super::super::diagnostic::Code;
use super::super::field::{Field, Table, Text};
use super::super::model::{Protocol, Upstream};
use super::super::raw;
use super::Lower;
use crate::logic::balance::Policy;
use crate::types::{EndpointAddress, UpstreamName};

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
        connect_timeout: connect?,
        response_timeout: response?,
        idle_timeout: idle?,
        dns_refresh: dns_refresh?,
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
