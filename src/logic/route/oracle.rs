//! Tests only: a request of words, routes of words, and the rules of precedence once more, as a linear scan over texts,
//! written from the design and not from the table, so that a property test can hold the two against each other.

use std::cmp::Reverse;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::LazyLock;

use http::{HeaderName, Method};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::{HostPattern, Lookup, PathPattern, RouteMatch, Table, shadowed};
use crate::logic::condition::{ClientCertificate, Condition, RequestView, Source, Test};

/// A request as the table sees it.
#[derive(Debug, Clone)]
pub(super) struct Request {
    method: Method,
    host: String,
    port: Option<u16>,
    path: String,
    headers: Vec<(HeaderName, String)>,
}

impl Request {
    /// A request without headers; `authority` is `host`, `host:port` or nothing.
    pub(super) fn new(method: &str, authority: &str, path: &str) -> Self {
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port.parse().unwrap())),
            _ => (authority, None),
        };
        let method = method.parse().unwrap();
        Self { method, host: host.to_owned(), port, path: path.to_owned(), headers: Vec::new() }
    }

    /// The same request with one more header.
    pub(super) fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.parse().unwrap(), value.to_owned()));
        self
    }
}

impl RequestView for Request {
    fn method(&self) -> &Method {
        &self.method
    }
    fn host(&self) -> &str {
        &self.host
    }
    fn port(&self) -> Option<u16> {
        self.port
    }
    fn path(&self) -> &str {
        &self.path
    }
    fn query(&self) -> Option<&str> {
        None
    }
    fn header<'a>(&'a self, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
        self.headers.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_bytes())
    }
    fn client_ip(&self) -> IpAddr {
        Ipv4Addr::LOCALHOST.into()
    }

    fn certificate(&self) -> Option<&ClientCertificate> {
        None
    }
}

/// A route as it is written.
#[derive(Debug, Clone, Default)]
pub(super) struct Spec {
    hosts: Vec<String>,
    listeners: Option<Vec<usize>>,
    paths: Vec<String>,
    methods: Vec<String>,
    /// Headers that must be there.
    headers: Vec<String>,
}

impl Spec {
    /// Reads a route of words: `GET` a method, `@1` a listener, `#name` a header that must be there, `/…` or `~…` a
    /// path, anything else a host.
    fn read(text: &str) -> Self {
        let mut spec = Self::default();
        for word in text.split_whitespace() {
            if let Some(listener) = word.strip_prefix('@') {
                spec.listeners.get_or_insert_default().push(listener.parse().unwrap());
            } else if let Some(name) = word.strip_prefix('#') {
                spec.headers.push(name.to_owned());
            } else if word.starts_with(['/', '~']) {
                spec.paths.push(word.to_owned());
            } else if word.bytes().all(|byte| byte.is_ascii_uppercase()) {
                spec.methods.push(word.to_owned());
            } else {
                spec.hosts.push(word.to_owned());
            }
        }
        spec
    }

    fn build(&self) -> RouteMatch {
        let present = |name: &String| Condition {
            source: Source::Header(name.parse().unwrap()),
            test: Test::Present(true),
            not: false,
        };
        RouteMatch {
            hosts: self.hosts.iter().map(|text| HostPattern::parse(text).unwrap()).collect(),
            listeners: self.listeners.clone(),
            paths: self.paths.iter().map(|text| path(text)).collect(),
            methods: self.methods.iter().map(|text| text.parse().unwrap()).collect(),
            when: self.headers.iter().map(present).collect(),
        }
    }

    fn conditions(&self) -> usize {
        self.headers.len() + usize::from(!self.methods.is_empty()) + usize::from(self.listeners.is_some())
    }

    fn open(&self, listener: usize) -> bool {
        self.listeners.as_ref().is_none_or(|listeners| listeners.contains(&listener))
    }

    fn conditions_hold(&self, request: &Request) -> bool {
        self.headers.iter().all(|name| request.headers.iter().any(|(known, _)| known.as_str() == name))
    }

    fn allows(&self, method: &str) -> bool {
        self.methods.is_empty() || self.names(method) || (method == "HEAD" && self.names("GET"))
    }

    fn names(&self, method: &str) -> bool {
        self.methods.iter().any(|known| known == method)
    }
}

/// The route that `text` says, see [`Spec::read`].
pub(super) fn route(text: &str) -> RouteMatch {
    Spec::read(text).build()
}

/// The pattern of `text`; those of [`PATHS`] are parsed once, for a regular expression takes its time to compile.
fn path(text: &str) -> PathPattern {
    static PARSED: LazyLock<Vec<PathPattern>> =
        LazyLock::new(|| PATHS.iter().map(|text| PathPattern::parse(text).unwrap()).collect());
    let known = PATHS.iter().position(|known| *known == text);
    known.map_or_else(|| PathPattern::parse(text).unwrap(), |at| PARSED[at].clone())
}

/// How specific a host is: 2 exact, 1 wildcard, 0 none; the length of a wildcard; whether the port is named.
type HostRank = (u8, usize, bool);

fn host_rank(pattern: &str, request: &Request) -> Option<HostRank> {
    let (name, port) = match pattern.split_once(':') {
        Some((name, port)) => (name, Some(port.parse::<u16>().unwrap())),
        None => (pattern, None),
    };
    if port.is_some() && port != request.port {
        return None;
    }
    let labels = |text: &str| text.split('.').map(str::to_owned).collect::<Vec<_>>();
    let mut host = labels(&request.host);
    if host.len() > 1 && host.last().is_some_and(String::is_empty) {
        host.pop();
    }
    match name.strip_prefix("*.") {
        None => (labels(name) == host).then_some((2, 0, port.is_some())),
        Some(suffix) => {
            let suffix = labels(suffix);
            let fits = host.len() > suffix.len() && host.ends_with(&suffix);
            fits.then_some((1, suffix.iter().map(|label| label.len() + 1).sum(), port.is_some()))
        }
    }
}

/// How specific a path is: 3 exact, 2 prefix, 1 regular expression, 0 none; then longer prefixes and earlier
/// expressions first.
type PathRank = (u8, usize, Reverse<usize>);

fn path_rank(pattern: &str, path: &str, expressions: &[&String]) -> Option<PathRank> {
    if let Some((_, whole)) = EXPRESSIONS.iter().find(|(text, _)| *text == pattern) {
        let first = expressions.iter().position(|known| *known == pattern)?;
        return whole(path).then_some((1, 0, Reverse(first)));
    }
    let Some(prefix) = pattern.strip_suffix("/*") else {
        return (pattern == path).then_some((3, 0, Reverse(0)));
    };
    let below = path == prefix || path.starts_with(&format!("{prefix}/"));
    below.then_some((2, prefix.len(), Reverse(0)))
}

/// What the design says, by looking at everything.
fn expected(specs: &[Spec], request: &Request, listener: usize) -> Lookup {
    let hosts_of = |spec: &Spec| -> Vec<HostRank> {
        if spec.hosts.is_empty() {
            return vec![(0, 0, false)];
        }
        spec.hosts.iter().filter_map(|host| host_rank(host, request)).collect()
    };
    let Some(host) = specs.iter().filter(|spec| spec.open(listener)).flat_map(hosts_of).max() else {
        return Lookup::UnknownHost;
    };
    let at_host = |spec: &&Spec| hosts_of(spec).contains(&host);
    let expressions: Vec<_> = specs.iter().filter(at_host).flat_map(|spec| &spec.paths).collect();

    let mut fitting = Vec::new();
    for (index, spec) in specs.iter().enumerate() {
        if !spec.open(listener) || !at_host(&spec) || !spec.conditions_hold(request) {
            continue;
        }
        if spec.paths.is_empty() {
            fitting.push(((0, 0, Reverse(0)), index, None));
        }
        for (at, path) in spec.paths.iter().enumerate() {
            if let Some(rank) = path_rank(path, &request.path, &expressions) {
                fitting.push((rank, index, Some(at)));
            }
        }
    }
    if fitting.is_empty() {
        return Lookup::NoRoute;
    }
    fitting.sort_by_key(|&(rank, index, at)| (Reverse((rank, specs[index].conditions())), index, at));

    let method = request.method.as_str();
    let taking: Vec<_> = fitting.iter().filter(|(_, index, _)| specs[*index].allows(method)).collect();
    let Some(&first) = taking.first() else {
        fitting.sort_by_key(|&(_, index, _)| index);
        let mut allowed: Vec<Method> = Vec::new();
        for (_, index, _) in fitting {
            for method in &specs[index].methods {
                let more = if method == "GET" { vec!["GET", "HEAD"] } else { vec![method.as_str()] };
                allowed.extend(more.into_iter().map(|method| method.parse::<Method>().unwrap()));
            }
        }
        let mut once = Vec::new();
        for method in allowed {
            if !once.contains(&method) {
                once.push(method);
            }
        }
        return Lookup::MethodNotAllowed(once);
    };
    let implied = !specs[first.1].methods.is_empty() && !specs[first.1].names(method);
    let equal = |other: &&&(PathRank, usize, _)| {
        other.0 == first.0
            && specs[other.1].conditions() == specs[first.1].conditions()
            && specs[other.1].names(method)
    };
    let &(_, route, path) = if implied { taking.iter().find(equal).unwrap_or(&first) } else { first };
    Lookup::Found { route, path }
}

const HOSTS: [&str; 10] = ["a", "b.a", "c.b.a", "a:1", "b.a:1", "*.a", "*.b.a", "*.a:1", "*.b.a:1", "*.c"];
/// A regular expression and what it says in other words.
type Expression = (&'static str, fn(&str) -> bool);

/// Those of [`PATHS`].
const EXPRESSIONS: [Expression; 4] = [
    ("~/a.*", |path| path.starts_with("/a")),
    ("~.*b", |path| path.ends_with('b')),
    ("~/[ab]/?", |path| ["/a", "/b", "/a/", "/b/"].contains(&path)),
    ("~/b/.+", |path| path.starts_with("/b/") && path.len() > 3),
];
const PATHS: [&str; 14] = [
    "/", "/a", "/a/", "/a/b", "/a/b/", "/*", "/a/*", "/a/b/*", "/b/*", "/a//*", "~/a.*", "~.*b", "~/[ab]/?",
    "~/b/.+",
];
const METHODS: [&str; 3] = ["GET", "HEAD", "POST"];
const HEADERS: [&str; 2] = ["x", "y"];

fn texts(from: &'static [&'static str], most: usize) -> impl Strategy<Value = Vec<String>> {
    subsequence(from, 0..=most)
        .prop_shuffle()
        .prop_map(|texts| texts.into_iter().map(str::to_owned).collect())
}

fn specs() -> impl Strategy<Value = Vec<Spec>> {
    let listeners = proptest::option::weighted(0.3, subsequence(vec![0, 1], 0..=2));
    let spec = (texts(&HOSTS, 2), listeners, texts(&PATHS, 3), texts(&METHODS, 2), texts(&HEADERS, 2));
    let spec = spec.prop_map(|(hosts, listeners, paths, methods, headers)| Spec {
        hosts,
        listeners,
        paths,
        methods,
        headers,
    });
    proptest::collection::vec(spec, 0..12)
}

fn requests() -> impl Strategy<Value = Vec<(Request, usize)>> {
    let authority =
        ("(([abc]\\.){0,3}[ac]\\.?)?", select(vec!["", ":1", ":2"])).prop_map(|(host, port)| host + port);
    let request =
        (select(&METHODS[..]), authority, "/([ab]{1,2}/){0,2}[ab/]?", texts(&HEADERS, 2), 0..3usize);
    let request = request.prop_map(|(method, authority, path, headers, listener)| {
        let request = Request::new(method, &authority, &path);
        (headers.iter().fold(request, |request, name| request.with_header(name, "")), listener)
    });
    proptest::collection::vec(request, 1..20)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn table_answers_as_a_linear_scan_of_the_rules_does(specs in specs(), requests in requests()) {
        let routes: Vec<_> = specs.iter().map(Spec::build).collect();
        let never = shadowed(&routes);
        let table = Table::new(routes);
        for (request, listener) in requests {
            let found = table.lookup(&request, listener);
            prop_assert_eq!(&found, &expected(&specs, &request, listener), "{:?} by listener {}", request, listener);
            if let Lookup::Found { route, .. } = found {
                prop_assert!(never.iter().all(|&(later, _)| later != route), "route {} is taken: {:?}", route, never);
            }
        }
    }
}
