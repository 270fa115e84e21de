//! What changed between two configurations, by name.
//!
//! For one log line, and for whoever keeps what did not change. Compares what the configurations mean: the order of
//! listeners and upstreams does not count, that of routes does. Must not apply anything.

use std::collections::HashMap;
use std::fmt;

use super::model::{Action, Config, Route, SplitConfig};
use crate::logic::condition::{Condition, Test};
use crate::logic::route::RouteMatch;
use crate::logic::split::{Override, Rule, Split, Then};

/// What changed between two configurations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "one for each section that has no names")]
pub struct Changes {
    /// Listeners.
    pub listeners: Names,
    /// Upstreams.
    pub upstreams: Names,
    /// Splits.
    pub splits: Names,
    /// Routes.
    pub routes: Names,
    /// Whether routes that stayed now stand in another order.
    pub route_order: bool,
    /// `workers`.
    pub workers: bool,
    /// `shutdown_timeout`.
    pub shutdown_timeout: bool,
    /// `state_dir`.
    pub state_dir: bool,
    /// `limits`.
    pub limits: bool,
    /// `telemetry`.
    pub telemetry: bool,
    /// `admin`.
    pub admin: bool,
    /// `access_log`.
    pub access_log: bool,
}

/// What changed among things of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// Only in the new one, in its order.
    pub added: Vec<String>,
    /// Only in the old one, in its order.
    pub removed: Vec<String>,
    /// In both, and not the same; in the new one's order.
    pub changed: Vec<String>,
}

impl Names {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }

    fn of<'c, T: 'c>(
        old: impl Iterator<Item = (&'c str, T)>,
        new: impl Iterator<Item = (&'c str, T)>,
        same: impl Fn(&T, &T) -> bool,
    ) -> Self {
        let old: Vec<_> = old.collect();
        let mut before: HashMap<&str, &T> = old.iter().map(|(name, item)| (*name, item)).collect();
        let mut names = Self::default();
        for (name, item) in new {
            match before.remove(name) {
                None => names.added.push(name.to_owned()),
                Some(earlier) if same(earlier, &item) => {}
                Some(_) => names.changed.push(name.to_owned()),
            }
        }
        let gone = old.iter().map(|(name, _)| *name).filter(|name| before.contains_key(name));
        names.removed = gone.map(str::to_owned).collect();
        names
    }
}

/// What is different in `new`.
pub fn diff(old: &Config, new: &Config) -> Changes {
    // Taken apart, so that a new section cannot be forgotten here.
    let Config {
        workers,
        shutdown_timeout,
        state_dir,
        limits,
        listeners,
        telemetry,
        admin,
        access_log,
        upstreams,
        splits,
        routes,
    } = old;
    let names = |config: &'_ Config| -> Vec<String> {
        config.routes.iter().map(|route| route.name.as_str().to_owned()).collect()
    };
    let (before, after) = (names(old), names(new));
    let kept = |names: &[String], others: &[String]| -> Vec<String> {
        let others: std::collections::HashSet<_> = others.iter().collect();
        names.iter().filter(|name| others.contains(name)).cloned().collect()
    };
    Changes {
        listeners: Names::of(
            listeners.iter().map(|listener| (listener.name.as_str(), listener)),
            new.listeners.iter().map(|listener| (listener.name.as_str(), listener)),
            |a, b| a == b,
        ),
        upstreams: Names::of(
            upstreams.iter().map(|(name, upstream)| (name.as_str(), upstream)),
            new.upstreams.iter().map(|(name, upstream)| (name.as_str(), upstream)),
            |a, b| a == b,
        ),
        splits: Names::of(
            splits.iter().map(|split| (split.split.name.as_str(), split)),
            new.splits.iter().map(|split| (split.split.name.as_str(), split)),
            |a, b| same_split(a, b),
        ),
        routes: Names::of(
            routes.iter().map(|route| (route.name.as_str(), route)),
            new.routes.iter().map(|route| (route.name.as_str(), route)),
            |a, b| same_route((old, a), (new, b)),
        ),
        route_order: kept(&before, &after) != kept(&after, &before),
        workers: *workers != new.workers,
        shutdown_timeout: *shutdown_timeout != new.shutdown_timeout,
        state_dir: *state_dir != new.state_dir,
        limits: *limits != new.limits,
        telemetry: *telemetry != new.telemetry,
        admin: *admin != new.admin,
        access_log: *access_log != new.access_log,
    }
}

impl Changes {
    /// Whether the configurations mean the same.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Changes {
    /// One line, such as `upstreams +green ~blue, splits ~checkout, admin`; `nothing` when nothing changed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { listeners, upstreams, splits, routes, .. } = self;
        let mut parts = Vec::new();
        for (kind, names) in
            [("listeners", listeners), ("upstreams", upstreams), ("splits", splits), ("routes", routes)]
        {
            if !names.is_empty() {
                let signs = [("+", &names.added), ("-", &names.removed), ("~", &names.changed)];
                let signed =
                    signs.iter().flat_map(|(sign, names)| names.iter().map(move |name| (sign, name)));
                parts.push(signed.fold(kind.to_owned(), |part, (sign, name)| part + " " + sign + name));
            }
        }
        let flags = [
            ("route order", self.route_order),
            ("workers", self.workers),
            ("shutdown_timeout", self.shutdown_timeout),
            ("state_dir", self.state_dir),
            ("limits", self.limits),
            ("telemetry", self.telemetry),
            ("admin", self.admin),
            ("access_log", self.access_log),
        ];
        parts.extend(flags.iter().filter(|(_, changed)| *changed).map(|(name, _)| (*name).to_owned()));
        f.write_str(if parts.is_empty() { "nothing" } else { "" })?;
        f.write_str(&parts.join(", "))
    }
}

fn same_split(a: &SplitConfig, b: &SplitConfig) -> bool {
    let SplitConfig {
        split,
        upstreams,
        variant_header,
        variant_values,
        expose,
        cache,
        cookie_max_age,
        drain,
    } = a;
    let Split { name, key, missing, salt, variants, layout, rules, force } = split;
    *name == b.split.name
        && *key == b.split.key
        && *missing == b.split.missing
        && *salt == b.split.salt
        && *variants == b.split.variants
        && *layout == b.split.layout
        && same_all(rules, &b.split.rules, same_rule)
        && same_override(force.as_ref(), b.split.force.as_ref())
        && *upstreams == b.upstreams
        && *variant_header == b.variant_header
        && *variant_values == b.variant_values
        && *expose == b.expose
        && *cache == b.cache
        && *cookie_max_age == b.cookie_max_age
        && *drain == b.drain
}

fn same_rule(a: &Rule, b: &Rule) -> bool {
    let Rule { name, when, then } = a;
    let same_outcome = match (then, &b.then) {
        (Then::Pin(a), Then::Pin(b)) => a == b,
        (Then::Weights(a), Then::Weights(b)) => a == b,
        _ => false,
    };
    *name == b.name && same_all(when, &b.when, same_condition) && same_outcome
}

fn same_override(a: Option<&Override>, b: Option<&Override>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(Override { place, keys, bare_from }), Some(b)) => {
            *place == b.place && *keys == b.keys && *bare_from == b.bare_from
        }
        _ => false,
    }
}

fn same_condition(a: &Condition, b: &Condition) -> bool {
    let Condition { source, test, not } = a;
    let same_test = match (test, &b.test) {
        (Test::In(a), Test::In(b)) => a == b,
        (Test::Prefix(a), Test::Prefix(b)) | (Test::Suffix(a), Test::Suffix(b)) => a == b,
        (Test::Matches(a), Test::Matches(b)) => a.as_str() == b.as_str(),
        (Test::Present(a), Test::Present(b)) => a == b,
        (Test::Cidr(a), Test::Cidr(b)) => a == b,
        _ => false,
    };
    *source == b.source && same_test && *not == b.not
}

/// Whether two routes are the same, each in its configuration (they refer to splits and listeners by index).
fn same_route((old, a): (&Config, &Route), (new, b): (&Config, &Route)) -> bool {
    let Route {
        name,
        matches,
        action,
        rewrite_prefix,
        host,
        request_headers,
        response_headers,
        timeout,
        retries,
        max_body,
        rate_limit,
    } = a;
    let same_action = match (action, &b.action) {
        (Action::Split(a), Action::Split(b)) => {
            let name = |config: &Config, index: usize| config.splits.get(index).map(|s| s.split.name.clone());
            name(old, *a) == name(new, *b)
        }
        (Action::Upstream(a), Action::Upstream(b)) => a == b,
        (Action::Redirect(a), Action::Redirect(b)) => a == b,
        (Action::Respond(a), Action::Respond(b)) => a == b,
        _ => false,
    };
    *name == b.name
        && same_match((old, matches), (new, &b.matches))
        && same_action
        && *rewrite_prefix == b.rewrite_prefix
        && *host == b.host
        && *request_headers == b.request_headers
        && *response_headers == b.response_headers
        && *timeout == b.timeout
        && *retries == b.retries
        && *max_body == b.max_body
        && *rate_limit == b.rate_limit
}

fn same_match((old, a): (&Config, &RouteMatch), (new, b): (&Config, &RouteMatch)) -> bool {
    let RouteMatch { hosts, listeners, paths, methods, when } = a;
    let names = |config: &Config, listeners: &Option<Vec<usize>>| {
        let name = |index: &usize| config.listeners.get(*index).map(|listener| listener.name.clone());
        listeners.as_ref().map(|listeners| listeners.iter().map(name).collect::<Vec<_>>())
    };
    *hosts == b.hosts
        && names(old, listeners) == names(new, &b.listeners)
        && *paths == b.paths
        && *methods == b.methods
        && same_all(when, &b.when, same_condition)
}

fn same_all<T>(a: &[T], b: &[T], same: impl Fn(&T, &T) -> bool) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
}
