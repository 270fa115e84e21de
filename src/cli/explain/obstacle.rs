//! Why a route does not take a request: the first of its demands that the request does not meet. Which route takes it is
//! `logic/route`'s to say; this is asked only when none does.

use std::sync::Arc;

use http::Method;
use serde::Serialize;

use super::words;
use crate::config::model::{Listener, Route};
use crate::logic::condition::RequestView;

/// Why a route does not take a request.
#[derive(Debug, Serialize)]
pub(super) struct Obstacle {
    /// The route.
    pub(super) route: String,
    /// Which demand is not met.
    pub(super) why: Demand,
    /// What it demands; empty for [`Demand::Host`] where a more specific host has routes.
    pub(super) wanted: String,
    /// What the request has; `None` for nothing.
    pub(super) found: Option<String>,
}

/// What a route may demand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Demand {
    /// A host.
    Host,
    /// A listener.
    Listener,
    /// A path.
    Path,
    /// A method.
    Method,
    /// A condition.
    Condition,
    /// To be for the most specific host: the routes of a less specific one are not asked.
    MoreSpecificHost,
}

impl Obstacle {
    /// What keeps `route` from taking `request`, which came in by number `listener` of `listeners`.
    pub(super) fn of<R: RequestView>(
        route: &Route,
        request: &R,
        listeners: &[Arc<Listener>],
        listener: usize,
    ) -> Self {
        let (why, wanted, found) = first(route, request, listeners, listener);
        Self { route: route.name.to_string(), why, wanted, found }
    }
}

fn first<R: RequestView>(
    route: &Route,
    request: &R,
    listeners: &[Arc<Listener>],
    listener: usize,
) -> (Demand, String, Option<String>) {
    let wanted = &route.matches;
    let (host, port) = (request.host(), request.port());
    if !wanted.hosts.is_empty() && !wanted.hosts.iter().any(|pattern| pattern.matches(host, port)) {
        let found = port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        return (Demand::Host, or(&wanted.hosts), Some(found).filter(|_| !host.is_empty()));
    }
    let name = |index: usize| listeners.get(index).map(|listener| listener.name.to_string());
    if let Some(open) = wanted.listeners.as_ref().filter(|open| !open.contains(&listener)) {
        let names: Vec<_> = open.iter().filter_map(|index| name(*index)).collect();
        return (Demand::Listener, or(&names), name(listener));
    }
    let path = request.path();
    if !wanted.paths.is_empty() && !wanted.paths.iter().any(|pattern| pattern.matches(path)) {
        return (Demand::Path, or(&wanted.paths), Some(path.to_owned()));
    }
    let method = request.method();
    let implied = method == Method::HEAD && wanted.methods.contains(&Method::GET);
    if !wanted.methods.is_empty() && !wanted.methods.contains(method) && !implied {
        return (Demand::Method, or(&wanted.methods), Some(method.to_string()));
    }
    if let Some(condition) = wanted.when.iter().find(|condition| !condition.holds(request)) {
        return (Demand::Condition, words::condition(condition), words::value(condition, request));
    }
    (Demand::MoreSpecificHost, or(&wanted.hosts), None)
}

fn or<T: ToString>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ")
}
