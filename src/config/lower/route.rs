//! `routes`.

use std::sync::Arc;

use bytes::Bytes;
use http::uri::Scheme;
use http::{HeaderValue, Method, StatusCode};

use super::super::diagnostic::Code;
use super::super::field::{Field, PathText, Text};
use super::super::model::{Action, HostRewrite, Redirect, Respond, Route};
use super::super::raw::{self, Root};
use super::super::span::Span;
use super::{Lower, begin, rate};
use crate::logic::balance::Retries;
use crate::logic::route::{HostPattern, PathPattern, RouteMatch};
use crate::types::{ByteSize, RouteName, UpstreamName};

/// The redirects that a client follows by the `Location` header.
const REDIRECTS: [u64; 5] = [301, 302, 303, 307, 308];

/// The routes that are right, in file order.
pub(super) fn routes(cx: &mut Lower<'_, '_>, root: &Root) -> Vec<Route> {
    let items = root.routes.items();
    if items.is_empty() && !root.routes.is_broken() && !cx.report.mistyped(Span::NONE, &["routes"]) {
        cx.report
            .error(Code::NoRoutes, begin(root.routes.span), "there is no route")
            .hint("write for example `routes: [{ upstream: NAME }]`");
    }
    let names = items.iter().filter_map(|item| Some(&item.get()?.name));
    let names = names.filter_map(|name| Some((name.get()?.0.clone(), name.span)));
    cx.distinct(Code::DuplicateName, names, "another route has this name");
    items.iter().filter_map(|item| route(cx, item)).collect()
}

fn route(cx: &mut Lower<'_, '_>, field: &Field<raw::Route>) -> Option<Route> {
    let raw = field.get()?;
    let name = cx.name(&raw.name, RouteName::new);
    let matches = matches(cx, raw);
    let action = action(cx, field, raw);
    if raw.redirect.is_given() != raw.respond.is_given() {
        let message = "nothing is forwarded by this route, so the key has no effect";
        cx.no_effect(&raw.rewrite, message);
        cx.no_effect(&raw.request_headers, message);
        cx.no_effect(&raw.timeout, message);
        cx.no_effect(&raw.retry, message);
    }
    let rewrite = rewrite(cx, raw);
    let request_headers = cx.changes(&raw.request_headers);
    let response_headers = cx.changes(&raw.response_headers);
    let timeout = if raw.timeout.is_absent() { Some(None) } else { cx.positive(&raw.timeout).map(Some) };
    let retries = match raw.retry.get() {
        Some(retry) => super::retry::retries(cx, retry),
        None => raw.retry.is_absent().then(Retries::default),
    };
    let max_body = cx.size(&raw.max_body).map(|size| (size != ByteSize(0)).then_some(size));
    let rate_limit = optional(&raw.rate_limit, |field| rate::rate_limit(cx, field));
    let (rewrite_prefix, host) = rewrite?;
    Some(Route {
        name: name?,
        matches: matches?,
        action: action?,
        rewrite_prefix,
        host,
        request_headers: request_headers?,
        response_headers: response_headers?,
        timeout: timeout?,
        retries: retries?,
        max_body: max_body?,
        rate_limit: rate_limit?.map(Arc::new),
    })
}

fn matches(cx: &mut Lower<'_, '_>, raw: &raw::Route) -> Option<RouteMatch> {
    let hosts = list(cx, &raw.hosts, "hosts", host);
    let paths = list(cx, &raw.paths, "paths", path);
    let methods = list(cx, &raw.methods, "methods", method);
    let listeners =
        list(cx, &raw.listeners, "listeners", |cx, name| cx.refer(|names| &names.listeners, name));
    let when = cx.conditions(&raw.when);
    Some(RouteMatch {
        hosts: hosts?,
        listeners: listeners.map(|listeners| raw.listeners.is_given().then_some(listeners))?,
        paths: paths?,
        methods: methods?,
        when: when?,
    })
}

/// The items of a list that may be absent (then there are none) but not empty.
fn list<T, V>(
    cx: &mut Lower<'_, '_>,
    list: &Field<Vec<Field<T>>>,
    key: &str,
    mut item: impl FnMut(&mut Lower<'_, '_>, &Field<T>) -> Option<V>,
) -> Option<Vec<V>> {
    if list.is_broken() || cx.empty_list(list, &format!("`{key}` is empty, so no request would match")) {
        return None;
    }
    let items = list.items();
    let values: Vec<_> = items.iter().filter_map(|field| item(cx, field)).collect();
    (values.len() == items.len()).then_some(values)
}

fn host(cx: &mut Lower<'_, '_>, field: &Field<Text>) -> Option<HostPattern> {
    match HostPattern::parse(field.get()?.as_ref()) {
        Ok(host) => Some(host),
        Err(message) => {
            cx.invalid(Code::InvalidHost, field, message);
            None
        }
    }
}

fn path(cx: &mut Lower<'_, '_>, field: &Field<PathText>) -> Option<PathPattern> {
    let text = field.get()?.as_ref();
    match PathPattern::parse(text) {
        Ok(path) => Some(path),
        Err(message) => {
            let code = if text.starts_with('~') { Code::InvalidRegex } else { Code::InvalidPath };
            cx.invalid(code, field, message);
            None
        }
    }
}

pub(super) fn method(cx: &mut Lower<'_, '_>, field: &Field<Text>) -> Option<Method> {
    let text = field.get()?.as_ref();
    let known = Method::from_bytes(text.as_bytes()).ok();
    // Methods are case-sensitive (RFC 9110 §9.1), and no registered one has small letters.
    if let Some(method) = known.filter(|_| !text.bytes().any(|byte| byte.is_ascii_lowercase())) {
        return Some(method);
    }
    cx.invalid(Code::InvalidMethod, field, format!("`{}` is not a method", text.escape_debug()))
        .hint("methods are written in capitals, as in `GET`");
    None
}

fn action(cx: &mut Lower<'_, '_>, field: &Field<raw::Route>, raw: &raw::Route) -> Option<Action> {
    let actions = [
        ("split", raw.split.is_given()),
        ("upstream", raw.upstream.is_given()),
        ("redirect", raw.redirect.is_given()),
        ("respond", raw.respond.is_given()),
    ];
    let chosen = cx.one_of("a route", field.span, &actions);
    // All that are given are looked at, so that no error hides behind another.
    let split = cx.refer(|names| &names.splits, &raw.split).map(Action::Split);
    let upstream = cx
        .refer(|names| &names.upstreams, &raw.upstream)
        .and_then(|_| UpstreamName::new(raw.upstream.get()?.as_ref()).ok())
        .map(Action::Upstream);
    let redirect = redirect(cx, &raw.redirect, raw).map(Action::Redirect);
    let respond = respond(cx, &raw.respond).map(Action::Respond);
    match chosen? {
        "split" => split,
        "upstream" => upstream,
        "redirect" => redirect,
        _ => respond,
    }
}

/// Reports a prefix that cannot replace anything, for the route's path is a regular expression.
fn no_regex(cx: &mut Lower<'_, '_>, prefix: Span, route: &raw::Route) {
    let regex =
        route.paths.items().iter().find(|path| path.get().is_some_and(|path| path.0.starts_with('~')));
    if let Some(regex) = regex {
        cx.report
            .error(Code::RewriteRegex, prefix, "a regular expression has no prefix that could be replaced")
            .related(regex.span, "the regular expression");
    }
}

fn rewrite(cx: &mut Lower<'_, '_>, route: &raw::Route) -> Option<(Option<String>, HostRewrite)> {
    let Some(raw) = route.rewrite.get() else {
        return route.rewrite.is_absent().then_some((None, HostRewrite::Preserve));
    };
    let prefix = optional(&raw.prefix, |prefix| cx.sent_path(prefix));
    if raw.prefix.is_given() {
        no_regex(cx, raw.prefix.span, route);
    }
    let host = match raw.host.get().map(AsRef::as_ref) {
        None => raw.host.is_absent().then_some(HostRewrite::Preserve),
        Some("{endpoint}") => Some(HostRewrite::Endpoint),
        Some(_) => {
            cx.authority(&raw.host).and_then(|host| HeaderValue::try_from(host).ok()).map(HostRewrite::Name)
        }
    };
    Some((prefix?, host?))
}

fn redirect(cx: &mut Lower<'_, '_>, field: &Field<raw::RedirectTo>, route: &raw::Route) -> Option<Redirect> {
    let raw = &field.get()?.0;
    let status = status(cx, &raw.status, |status| REDIRECTS.contains(&status), "301, 302, 303, 307 or 308");
    let host = optional(&raw.host, |host| cx.authority(host));
    let path = optional(&raw.path, |path| cx.sent_path(path));
    let prefix = optional(&raw.prefix, |prefix| cx.sent_path(prefix));
    let scheme = optional(&raw.scheme, |scheme| {
        Some(match scheme.get()? {
            raw::Scheme::Http => Scheme::HTTP,
            raw::Scheme::Https => Scheme::HTTPS,
        })
    });
    if raw.prefix.is_given() {
        no_regex(cx, raw.prefix.span, route);
    }
    if raw.path.is_given() && raw.prefix.is_given() {
        let keys = [("path", true), ("prefix", true)];
        cx.one_of("a redirect", field.span, &keys);
    }
    let given = [raw.host.is_given(), raw.path.is_given(), raw.prefix.is_given(), !raw.scheme.is_absent()];
    if !given.contains(&true) {
        cx.report
            .error(Code::MissingKey, begin(field.span), "the redirect leads to where it came from")
            .hint("name at least one of `scheme`, `host`, `path` and `prefix`");
        return None;
    }
    Some(Redirect { status: status?, scheme: scheme?, host: host?, path: path?, prefix: prefix? })
}

fn respond(cx: &mut Lower<'_, '_>, field: &Field<raw::Respond>) -> Option<Respond> {
    let raw = field.get()?;
    let status = status(cx, &raw.status, |status| (200..=599).contains(&status), "from 200 to 599");
    // RFC 9110 §15.3.5, §15.3.6, §15.4.5.
    let bodiless = matches!(raw.status.get(), Some(204 | 205 | 304));
    if bodiless && raw.body.get().is_some_and(|body| !body.0.is_empty()) {
        cx.no_effect(&raw.body, "a response with this status has no body");
    }
    let content_type = cx.header_value(&raw.content_type);
    Some(Respond {
        status: status?,
        body: Bytes::from(raw.body.get()?.0.clone()),
        content_type: content_type?,
    })
}

fn status(
    cx: &mut Lower<'_, '_>,
    field: &Field<u64>,
    fits: impl Fn(u64) -> bool,
    expected: &str,
) -> Option<StatusCode> {
    let number = *field.get()?;
    let code = u16::try_from(number).ok().and_then(|code| StatusCode::from_u16(code).ok());
    let code = code.filter(|_| fits(number));
    if code.is_none() {
        cx.invalid(Code::InvalidStatus, field, format!("the status is {expected}, not {number}"));
    }
    code
}

/// `Some(None)` of what is not written, `None` of what is wrong.
#[expect(clippy::option_option, reason = "wrong, absent and present are three things")]
fn optional<T, V>(field: &Field<T>, value: impl FnOnce(&Field<T>) -> Option<V>) -> Option<Option<V>> {
    if field.is_absent() { Some(None) } else { value(field).map(Some) }
}
