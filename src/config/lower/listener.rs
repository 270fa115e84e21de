//! `listeners`.

use super::super::diagnostic::Code;
use super::super::field::Field;
use super::super::model::{Admin, Listener, Telemetry, Underscores};
use super::super::raw::{self, Root};
use super::super::span::Span;
use super::{Lower, begin, limits, paths, shown};
use crate::types::{BindAddress, ByteSize, ListenerName};

const LEAST_HEADER: ByteSize = ByteSize(4 << 10);
const MOST_HEADER: ByteSize = ByteSize(1 << 20);

/// The listeners in file order, `None` for each that is wrong.
pub(super) fn listeners(cx: &mut Lower<'_, '_>, root: &Root) -> Vec<Option<Listener>> {
    let items = root.listeners.items();
    if items.is_empty() && !root.listeners.is_broken() && !cx.report.mistyped(Span::NONE, &["listeners"]) {
        cx.report
            .error(Code::NoListeners, begin(root.listeners.span), "there is no listener")
            .hint("write for example `listeners: [{ bind: 127.0.0.1:8080 }]`");
    }
    let names = items.iter().filter_map(|item| Some(&item.get()?.name));
    let names = names.filter_map(|name| Some((name.get()?.0.clone(), name.span)));
    cx.distinct(Code::DuplicateName, names, "another listener has this name");
    items.iter().map(|item| listener(cx, item)).collect()
}

fn listener(cx: &mut Lower<'_, '_>, field: &Field<raw::Listener>) -> Option<Listener> {
    let raw = field.get()?;
    let bind = cx.require(&raw.bind, field.span, "bind").and_then(|_| cx.bind(&raw.bind));
    let name = cx.name(&raw.name, ListenerName::new);
    let tls = cx.listener_tls(&raw.tls);
    let trust = cx.networks(&raw.trust).map(|networks| (!raw.trust.is_absent()).then_some(networks));
    let timeouts = raw.timeouts.get().map(|timeouts| {
        let header = cx.positive(&timeouts.header);
        let request = cx.positive(&timeouts.request);
        let (idle, body) = (cx.positive(&timeouts.idle), cx.positive(&timeouts.body));
        (header, idle, body, request, cx.positive(&timeouts.tunnel))
    });
    let limits = limits::of_listener(cx, &raw.limits);
    let min_rate = limits::min_rate(cx, &raw.min_rate);
    let max_header = cx.size(&raw.max_header).filter(|size| {
        let fits = (LEAST_HEADER..=MOST_HEADER).contains(size);
        if !fits {
            let message = format!(
                "`max_header` is from {LEAST_HEADER} to {MOST_HEADER}, not {}",
                shown(&raw.max_header)
            );
            cx.report.error(Code::OutOfRange, raw.max_header.span, message);
        }
        fits
    });
    let http3 = raw.http3.get().copied();
    if http3 == Some(true) {
        may_serve_http3(cx, raw, bind.as_ref());
    }
    let (header, idle, body, request, tunnel) = timeouts?;
    Some(Listener {
        name: name?,
        bind: bind?,
        proxy_protocol: matches!(raw.proxy_protocol.get()?, raw::ProxyHeader::Required),
        tls: tls?,
        trust: trust?,
        header_timeout: header?,
        idle_timeout: idle?,
        body_timeout: body?,
        request_timeout: request,
        tunnel_timeout: tunnel?,
        limits: limits?,
        min_rate: min_rate?,
        max_header: max_header?,
        http3: http3?,
        strict_host: *raw.strict_host.get()?,
        underscores: match raw.underscores.get()? {
            raw::Underscores::Keep => Underscores::Keep,
            raw::Underscores::Remove => Underscores::Remove,
            raw::Underscores::Refuse => Underscores::Refuse,
        },
        paths: paths::rules(&raw.paths)?,
    })
}

/// Reports why a listener cannot serve HTTP/3, which goes over UDP and TLS 1.3.
fn may_serve_http3(cx: &mut Lower<'_, '_>, raw: &raw::Listener, bind: Option<&BindAddress>) {
    let span = raw.http3.span;
    if matches!(bind, Some(BindAddress::Unix(_))) {
        cx.report
            .error(Code::NoHttp3, span, "HTTP/3 goes over UDP, and this listener is a Unix socket")
            .hint("take `http3` away, or bind to an address and a port");
    } else if raw.tls.is_absent() {
        cx.report
            .error(Code::NoHttp3, span, "HTTP/3 is always encrypted, and this listener has no `tls`")
            .hint("give it `tls: { certificates: [{ cert: …, key: … }] }`, or take `http3` away");
    } else if matches!(raw.proxy_protocol.get(), Some(raw::ProxyHeader::Required)) {
        cx.report
            .error(Code::NoHttp3, span, "a PROXY header goes before TCP, and HTTP/3 has nothing like it")
            .hint("take `http3` or `proxy_protocol` away");
    } else if cfg!(not(feature = "http3")) {
        cx.report
            .error(Code::NoHttp3, span, "this binary was built without HTTP/3")
            .hint("build it with the feature `http3`, or take the key away");
    }
}

/// Reports addresses that two of all those that listen have in common.
pub(super) fn distinct_addresses(
    cx: &mut Lower<'_, '_>,
    root: &Root,
    listeners: &[Option<Listener>],
    telemetry: Option<&Telemetry>,
    admin: Option<&Admin>,
) {
    let fields = root.listeners.items().iter();
    let mut addresses: Vec<(BindAddress, Span)> = fields
        .zip(listeners)
        .filter_map(|(field, listener)| Some((listener.as_ref()?.bind.clone(), field.get()?.bind.span)))
        .collect();
    if let (Some(telemetry), Some(raw)) = (telemetry, root.telemetry.get()) {
        addresses.push((telemetry.bind.clone(), raw.bind.span));
    }
    if let (Some(admin), Some(raw)) = (admin, root.admin.get()) {
        let span = if raw.bind.is_given() { raw.bind.span } else { begin(root.admin.span) };
        addresses.push((admin.bind.clone(), span));
    }
    let chosen_by_kernel =
        |bind: &BindAddress| matches!(bind, BindAddress::Tcp(address) if address.port() == 0);
    let addresses = addresses.into_iter().filter(|(bind, _)| !chosen_by_kernel(bind));
    cx.distinct(Code::DuplicateAddress, addresses, "another one listens on this address");
}
