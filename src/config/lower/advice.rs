//! What is allowed but odd: warnings and notes on a configuration without errors.

use std::collections::{BTreeSet, HashSet};

use http::HeaderName;
use http::uri::Scheme;

use super::super::diagnostic::{Code, Severity};
use super::super::field::Field;
use super::super::model::{Action, Config, Underscores};
use super::super::raw::{self, Root};
use super::super::report::Report;
use super::super::span::Span;
use super::begin;
use crate::logic::route::{PathPattern, shadowed};
use crate::types::BindAddress;

/// Puts warnings and notes on `config`, which `root` describes, into the report.
pub(super) fn advise(report: &mut Report<'_>, root: &Root, config: &Config) {
    unused(report, root, config);
    unreachable(report, root, config);
    unmatched(report, root, config);
    insecure(report, root, config);
    looping(report, root, config);
    untrusted(report, root, config);
    announced(report, root, config);
    underscored(report, root, config);
    moving(report, root);
}

fn unused(report: &mut Report<'_>, root: &Root, config: &Config) {
    let mut splits = HashSet::new();
    let mut upstreams = HashSet::new();
    for route in &config.routes {
        match &route.action {
            Action::Split(index) => {
                splits.insert(*index);
            }
            Action::Upstream(name) => {
                upstreams.insert(name.as_str());
            }
            Action::Redirect(_) | Action::Respond(_) => {}
        }
    }
    for (index, (name, _)) in root.splits.entries().iter().enumerate() {
        if !splits.contains(&index) {
            report.add(Severity::Warning, Code::UnusedSplit, name.span, "no route leads to this split");
        }
    }
    // A split that is not used is reported itself, not also its upstreams.
    let arms = config.splits.iter().flat_map(|split| &split.upstreams);
    upstreams.extend(arms.map(crate::types::UpstreamName::as_str));
    for (name, _) in root.upstreams.entries() {
        if name.get().is_some_and(|name| !upstreams.contains(name.0.as_str())) {
            let message = "no route and no split leads to this upstream";
            report.add(Severity::Warning, Code::UnusedUpstream, name.span, message);
        }
    }
}

fn unreachable(report: &mut Report<'_>, root: &Root, config: &Config) {
    let matches: Vec<_> = config.routes.iter().map(|route| route.matches.clone()).collect();
    let routes = root.routes.items();
    for (hidden, by) in shadowed(&matches) {
        if let (Some(hidden), Some(by)) = (routes.get(hidden), routes.get(by)) {
            report
                .add(
                    Severity::Warning,
                    Code::UnreachableRoute,
                    begin(hidden.span),
                    "no request takes this route",
                )
                .related(begin(by.span), "this one takes them all");
        }
    }
}

/// Paths of routes that no request has, for what is sent so is another path before a route is looked up.
fn unmatched(report: &mut Report<'_>, root: &Root, config: &Config) {
    for (route, field) in config.routes.iter().zip(root.routes.items()) {
        let Some(raw) = field.get() else { continue };
        let is_of_route = |index: &usize| {
            route.matches.listeners.as_ref().is_none_or(|listeners| listeners.contains(index))
        };
        let listeners = config.listeners.iter().enumerate().filter(|(index, _)| is_of_route(index));
        let rules: Vec<_> = listeners.map(|(_, listener)| listener.paths).collect();
        for (pattern, written) in route.matches.paths.iter().zip(raw.paths.items()) {
            let (literal, rest) = match pattern {
                PathPattern::Exact(path) => (path, ""),
                PathPattern::Prefix(path) => (path, "/*"),
                PathPattern::Regex(_) => continue,
            };
            let mut settled = rules.iter().map(|rules| rules.settled(literal));
            let Some(first) = settled.next() else { continue };
            let stays = |settled: &Result<std::borrow::Cow<'_, str>, _>| settled.as_deref() == Ok(&**literal);
            if stays(&first) || settled.any(|other| stays(&other)) {
                continue;
            }
            let warning = report.add(
                Severity::Warning,
                Code::UnmatchedPath,
                written.span,
                "no request has this path when a route is looked up",
            );
            match first {
                Ok(path) => warning.hint(format!(
                    "write `{}{rest}`, which it comes to",
                    if rest.is_empty() { &*path } else { path.trim_end_matches('/') }
                )),
                Err(_) => warning.hint("the listener's `paths` refuse it, say there what they are to keep"),
            };
        }
    }
}

fn insecure(report: &mut Report<'_>, root: &Root, config: &Config) {
    for (upstream, (_, field)) in config.upstreams.values().zip(root.upstreams.entries()) {
        let Some(tls) = field.get().and_then(|upstream| upstream.tls.get()) else { continue };
        if upstream.tls.as_ref().is_some_and(|tls| !tls.verify) {
            let message = format!(
                "the endpoints of upstream `{}` are believed whatever certificate they show",
                upstream.name
            );
            report
                .add(Severity::Warning, Code::InsecureUpstream, tls.insecure_skip_verify.span, message)
                .hint("name in `ca` the file of who issued the certificate, or of the certificate itself");
        }
    }
}

fn looping(report: &mut Report<'_>, root: &Root, config: &Config) {
    for (route, field) in config.routes.iter().zip(root.routes.items()) {
        let Action::Redirect(redirect) = &route.action else { continue };
        let stays = redirect.host.is_none() && redirect.path.is_none() && redirect.prefix.is_none();
        let of = &route.matches.listeners;
        let secure = config.listeners.iter().enumerate().find(|(index, listener)| {
            listener.tls.is_some() && of.as_ref().is_none_or(|of| of.contains(index))
        });
        let is_https = redirect.scheme == Some(Scheme::HTTPS);
        if let (true, Some((index, listener))) = (stays && is_https, secure) {
            let at = root.listeners.items().get(index).map_or(Span::NONE, |listener| begin(listener.span));
            let message =
                format!("a client of the listener `{}` is sent to where it is already", listener.name);
            let span = field.get().map_or(field.span, |raw| raw.redirect.span);
            report
                .add(Severity::Warning, Code::RedirectLoop, span, message)
                .related(at, "this one speaks TLS")
                .hint("name the plain ones: `listeners: [...]`");
        }
    }
}

fn untrusted(report: &mut Report<'_>, root: &Root, config: &Config) {
    let limits = config.routes.iter().zip(root.routes.items()).find(|(route, _)| {
        let mut sources = route.rate_limit.iter().flat_map(|limit| &limit.key);
        sources.any(|source| source.header_name().is_some())
    });
    let reading = config.splits.iter().zip(root.splits.entries()).find(|(split, _)| {
        let split = &split.split;
        let sources =
            split.key.iter().chain(split.rules.iter().flat_map(|rule| &rule.when).map(|when| &when.source));
        sources.into_iter().any(|source| source.header_name().is_some())
    });
    let (at, reader) = match (reading, limits) {
        (Some((_, (name, _))), _) => (name.span, "this split reads headers"),
        (None, Some((_, route))) => {
            let span = route.get().map_or(route.span, |raw| raw.rate_limit.span);
            (begin(span), "this rate limit reads headers")
        }
        (None, None) => return,
    };
    for (listener, field) in config.listeners.iter().zip(root.listeners.items()) {
        if listener.trust.is_some() {
            continue;
        }
        let Some(raw) = field.get() else { continue };
        let (severity, message) = if listener.bind.is_local() {
            (Severity::Note, "every process of this machine may say which unit it is")
        } else {
            (Severity::Warning, "every client may say which unit it is")
        };
        report
            .add(severity, Code::UntrustedHeaders, raw.bind.span, message)
            .related(at, reader)
            .hint("name the peers whose headers count, as in `trust: [10.0.0.0/8]`");
    }
}

fn announced(report: &mut Report<'_>, root: &Root, config: &Config) {
    for (listener, field) in config.listeners.iter().zip(root.listeners.items()) {
        let is_open = listener.proxy_protocol && listener.trust.is_none();
        // Who may open a Unix socket is settled by its permissions.
        let Some(raw) = field.get().filter(|_| is_open && matches!(listener.bind, BindAddress::Tcp(_)))
        else {
            continue;
        };
        let (severity, message) = if listener.bind.is_local() {
            (Severity::Note, "every process of this machine may claim any client address")
        } else {
            (Severity::Warning, "everybody who can connect may claim any client address")
        };
        report
            .add(severity, Code::OpenProxyHeader, raw.proxy_protocol.span, message)
            .hint("name the balancers that may send the PROXY header, as in `trust: [10.0.0.0/8]`");
    }
}

fn underscored(report: &mut Report<'_>, root: &Root, config: &Config) {
    if config.listeners.iter().any(|listener| listener.underscores == Underscores::Keep) {
        return;
    }
    let Some(listener) = root.listeners.items().iter().find_map(Field::get) else { return };
    let of_routes = config.routes.iter().flat_map(|route| &route.matches.when);
    let of_routes = of_routes.filter_map(|condition| condition.source.header_name());
    let of_limits = config.routes.iter().filter_map(|route| route.rate_limit.as_ref());
    let of_limits = of_limits.flat_map(|limit| &limit.key).filter_map(|source| source.header_name());
    let of_splits = config.splits.iter().flat_map(|split| split.split.routing_headers());
    let names: BTreeSet<_> = of_routes.chain(of_limits).chain(of_splits).map(HeaderName::as_str).collect();
    for name in names.into_iter().filter(|name| name.contains('_')) {
        let message = format!("no listener lets in the header `{name}`, which is read");
        report
            .add(Severity::Warning, Code::UnderscoredHeader, listener.underscores.span, message)
            .hint("read one that is spelt with `-`, or write `underscores: keep`");
    }
}

fn moving(report: &mut Report<'_>, root: &Root) {
    let splits = root.splits.entries().iter().filter_map(|(_, split)| split.get());
    let rules = splits.flat_map(|split| split.rules.items()).filter_map(Field::get);
    for condition in rules.flat_map(|rule: &raw::Rule| rule.when.items()).filter_map(Field::get) {
        let moves = condition.value.get().is_some_and(|value| value.0.starts_with("client_ip"));
        if moves {
            let message = "a client's address may change, and its unit's variant with it";
            report.add(Severity::Note, Code::MovingAttribute, condition.value.span, message);
        }
    }
}
