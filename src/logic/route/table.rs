//! The look-up: its cost does not grow with the number of hosts, exact paths and prefixes, but with the labels of the
//! request's host, the segments of its path, and the regular expressions of the host. It does not allocate, unless the
//! answer is [`Lookup::MethodNotAllowed`].
//!
//! The rules of precedence stand in the module above ([`super`]); this file joins `host_index` and `path_index` and
//! judges what is left: listener, method, conditions.

use http::Method;

use super::RouteMatch;
use super::host_index::HostIndex;
use super::path_index::{Candidate, PathIndex};
use crate::logic::condition::RequestView;

/// All routes, indexed.
#[derive(Debug)]
pub struct Table {
    routes: Vec<RouteMatch>,
    hosts: HostIndex<Site>,
}

/// What is known of one host.
#[derive(Debug, Default)]
struct Site {
    paths: PathIndex,
    /// Whether one of its routes is open to all listeners.
    open: bool,
    /// The listeners that its routes name.
    listeners: Vec<usize>,
}

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// This route (index in file order), by this one of its path patterns (`None` when it names none).
    Found {
        /// The route.
        route: usize,
        /// The path pattern of the route that matched.
        path: Option<usize>,
    },
    /// A route knows the path, none the method; what they allow, in the order of the file, each once.
    MethodNotAllowed(Vec<Method>),
    /// The host is known, the path (or what else the routes ask for) is not.
    NoRoute,
    /// No route is for this host.
    UnknownHost,
}

/// Whether a route takes a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Takes {
    /// It names it.
    Named,
    /// It names none, which is all.
    Any,
    /// It names GET, and the method is HEAD.
    Implied,
    /// It does not.
    Not,
}

impl Table {
    /// Indexes `routes`, in file order.
    pub fn new(routes: Vec<RouteMatch>) -> Self {
        let mut hosts = HostIndex::<Site>::default();
        for (route, matches) in routes.iter().enumerate() {
            for host in optional(&matches.hosts) {
                let site = hosts.entry(host.map(|(_, host)| host));
                match &matches.listeners {
                    None => site.open = true,
                    Some(listeners) => site.listeners.extend(listeners),
                }
                for path in optional(&matches.paths) {
                    let candidate =
                        Candidate { route, path: path.map(|(index, _)| index), rank: matches.rank() };
                    site.paths.add(path.map(|(_, path)| path), candidate);
                }
            }
        }
        for site in hosts.values_mut() {
            site.paths.sort();
            site.listeners.sort_unstable();
            site.listeners.dedup();
        }
        Self { routes, hosts }
    }

    /// The route of `request`, which came in by `listener` (index of the configuration's list).
    pub fn lookup<R: RequestView>(&self, request: &R, listener: usize) -> Lookup {
        let Some(site) = self.hosts.find(request.host(), request.port(), |site| site.is_open_to(listener))
        else {
            return Lookup::UnknownHost;
        };
        let path = request.path();
        let mut refused = false;
        for candidates in site.paths.find(path) {
            if let Some(found) = self.choose(candidates, request, listener, &mut refused) {
                return Lookup::Found { route: found.route, path: found.path };
            }
        }
        if refused { self.refuse(site, request, listener) } else { Lookup::NoRoute }
    }

    /// The first of `candidates` (all of one path, in rank and file order) that takes the request. `refused` becomes
    /// true when one does not because of its methods, whatever its conditions say.
    fn choose<R: RequestView>(
        &self,
        candidates: &[Candidate],
        request: &R,
        listener: usize,
        refused: &mut bool,
    ) -> Option<Candidate> {
        // A route that implies HEAD waits for one of its own rank that names it.
        let mut waiting: Option<Candidate> = None;
        for &candidate in candidates {
            if waiting.is_some_and(|waiting| waiting.rank != candidate.rank) {
                break;
            }
            let route = &self.routes[candidate.route];
            if !route.is_open_to(listener) {
                continue;
            }
            match takes(&route.methods, request.method()) {
                Takes::Not => *refused = true,
                Takes::Any | Takes::Implied if waiting.is_some() => {}
                Takes::Named | Takes::Any if holds(route, request) => return Some(candidate),
                Takes::Implied if holds(route, request) => waiting = Some(candidate),
                Takes::Named | Takes::Any | Takes::Implied => {}
            }
        }
        waiting
    }

    /// The answer when no route takes the request and one at least does not because of its methods.
    fn refuse<R: RequestView>(&self, site: &Site, request: &R, listener: usize) -> Lookup {
        let mut routes: Vec<usize> =
            site.paths.find(request.path()).flatten().map(|candidate| candidate.route).collect();
        routes.sort_unstable();
        routes.dedup();
        let mut allowed: Vec<Method> = Vec::new();
        // No route took the request: one whose listener and conditions fit does not because of its methods.
        for route in routes.into_iter().map(|route| &self.routes[route]) {
            if !route.is_open_to(listener) || !holds(route, request) {
                continue;
            }
            for method in &route.methods {
                let implied = (method == Method::GET).then_some(&Method::HEAD);
                for method in [method].into_iter().chain(implied) {
                    if !allowed.contains(method) {
                        allowed.push(method.clone());
                    }
                }
            }
        }
        if allowed.is_empty() { Lookup::NoRoute } else { Lookup::MethodNotAllowed(allowed) }
    }
}

impl Site {
    /// Whether any of its routes may take requests of this listener.
    fn is_open_to(&self, listener: usize) -> bool {
        self.open || self.listeners.binary_search(&listener).is_ok()
    }
}

/// The items with their indices, or once `None` when there are no items.
fn optional<T>(items: &[T]) -> impl Iterator<Item = Option<(usize, &T)>> {
    items.iter().enumerate().map(Some).chain(items.is_empty().then_some(None))
}

fn takes(methods: &[Method], method: &Method) -> Takes {
    if methods.is_empty() {
        Takes::Any
    } else if methods.contains(method) {
        Takes::Named
    } else if method == Method::HEAD && methods.contains(&Method::GET) {
        Takes::Implied
    } else {
        Takes::Not
    }
}

fn holds<R: RequestView>(route: &RouteMatch, request: &R) -> bool {
    route.when.iter().all(|condition| condition.holds(request))
}

#[cfg(test)]
mod tests {
    use super::super::oracle::{Request, route};
    use super::*;

    /// Looks up `METHOD host[:port]/path [#header] [@listener]` and tells the answer in words.
    fn answer(table: &Table, text: &str) -> String {
        let mut words = text.split_whitespace();
        let (method, target) = (words.next().unwrap(), words.next().unwrap());
        let (authority, path) = target.split_at(target.find('/').unwrap());
        let mut request = Request::new(method, authority, path);
        let mut listener = 0;
        for word in words {
            match word.split_at(1) {
                ("#", name) => request = request.with_header(name, "1"),
                ("@", number) => listener = number.parse().unwrap(),
                _ => panic!("{word:?}"),
            }
        }
        match table.lookup(&request, listener) {
            Lookup::Found { route, path: None } => format!("{route}"),
            Lookup::Found { route, path: Some(path) } => format!("{route}.{path}"),
            Lookup::MethodNotAllowed(methods) => format!("405 {methods:?}"),
            Lookup::NoRoute => "no route".to_owned(),
            Lookup::UnknownHost => "unknown host".to_owned(),
        }
    }

    fn check(routes: &[&str], rows: &[(&str, &str)]) {
        let table = Table::new(routes.iter().map(|text| route(text)).collect());
        for &(request, expected) in rows {
            assert_eq!(answer(&table, request), expected, "{request:?} among {routes:?}");
        }
    }

    #[test]
    fn no_condition_then_everything_else() {
        check(&[""], &[("GET a/", "0"), ("PUT a.b:8/x/y", "0"), ("GET /", "0")]);
        check(&[], &[("GET a/", "unknown host")]);
        check(&["a /x"], &[("GET a/y", "no route"), ("GET b/x", "unknown host"), ("GET a/x", "0.0")]);
    }

    #[test]
    fn most_specific_host_is_final() {
        let routes = ["/x/y", "a.b /x", "*.b /*", "a.b:8 /z", "*.b:8 /w"];
        check(
            &routes,
            &[
                ("GET a.b/x", "1.0"),
                ("GET a.b/x/y", "no route"),
                ("GET a.b:9/x", "1.0"),
                ("GET a.b:8/x", "no route"),
                ("GET a.b:8/z", "3.0"),
                ("GET a.b./x", "1.0"),
                ("GET c.b/x/y", "2.0"),
                ("GET c.b:8/w", "4.0"),
                ("GET c.b:8/x", "no route"),
                ("GET c.c/x/y", "0.0"),
                ("GET b/x/y", "0.0"),
            ],
        );
    }

    #[test]
    fn host_that_is_closed_to_the_listener_does_not_count() {
        let routes = ["a.b @1 /x", "*.b", "@2"];
        check(
            &routes,
            &[
                ("GET a.b/x", "1"),
                ("GET a.b/x @1", "0.0"),
                ("GET a.b/y @1", "no route"),
                ("GET c/ @2", "2"),
                ("GET c/ @1", "unknown host"),
            ],
        );
    }

    #[test]
    fn most_specific_path_wins_whatever_the_order() {
        let routes = ["", "~/a/.*", "/a/*", "/a/b/*", "/a/b", "~.*", "/c /a/b/c"];
        check(
            &routes,
            &[
                ("GET h/a/b", "4.0"),
                ("GET h/a/b/", "3.0"),
                ("GET h/a/b/c", "6.1"),
                ("GET h/a/bc", "2.0"),
                ("GET h/a", "2.0"),
                ("GET h/ab", "5.0"),
            ],
        );
        check(&["~/a/.*", "~/.*", ""], &[("GET h/a/x", "0.0"), ("GET h/b", "1.0")]);
    }

    #[test]
    fn path_whose_routes_fail_otherwise_gives_way() {
        let routes = ["/a #x", "/a/* POST", "~/a @1", "#y", "/*"];
        check(
            &routes,
            &[
                ("GET h/a #x", "0.0"),
                ("POST h/a", "1.0"),
                ("GET h/a", "4.0"),
                ("GET h/a @1", "4.0"),
                ("GET h/a #y", "4.0"),
            ],
        );
        let routes = ["/a #x", "/a/* POST", "~/a @1", "#y"];
        check(&routes, &[("GET h/a @1", "2.0"), ("GET h/a #y", "3"), ("GET h/b", "no route")]);
    }

    #[test]
    fn more_conditions_go_first_then_file_order() {
        let routes = ["/a", "/a #x", "/a #x #y", "/a GET #y", "/a GET @0 #x", "/a #x"];
        check(
            &routes,
            &[
                ("GET h/a", "0.0"),
                ("PUT h/a #x", "1.0"),
                ("GET h/a #x", "4.0"),
                ("PUT h/a #x #y", "2.0"),
                ("GET h/a #x #y", "4.0"),
                ("GET h/a #x #y @1", "2.0"),
                ("GET h/a #y", "3.0"),
            ],
        );
    }

    #[test]
    fn path_is_known_but_method_is_not_then_what_is_allowed() {
        let routes = ["h /a POST DELETE", "h /* PUT POST", "h /a GET #x", "h @1 TRACE", "h /b #x PATCH"];
        check(
            &routes,
            &[
                ("GET h/a", "405 [POST, DELETE, PUT]"),
                ("PATCH h/a #x", "405 [POST, DELETE, PUT, GET, HEAD]"),
                ("PATCH h/c @1", "405 [PUT, POST, TRACE]"),
                ("DELETE h/b", "405 [PUT, POST]"),
                ("GET g/a", "unknown host"),
            ],
        );
        check(&["/b #x PATCH"], &[("GET h/b", "no route"), ("GET h/b #x", "405 [PATCH]")]);
    }

    #[test]
    fn get_takes_head_unless_a_route_of_its_rank_names_it() {
        check(&["/a GET"], &[("HEAD h/a", "0.0"), ("POST h/a", "405 [GET, HEAD]")]);
        check(&["/a HEAD"], &[("GET h/a", "405 [HEAD]")]);
        check(&["/a GET", "/a HEAD"], &[("HEAD h/a", "1.0"), ("GET h/a", "0.0")]);
        check(&["/a GET #x", "/a HEAD"], &[("HEAD h/a #x", "0.0"), ("HEAD h/a", "1.0")]);
        check(&["/a GET", "/a #x", "/a HEAD #x"], &[("HEAD h/a #x", "2.0"), ("HEAD h/a", "0.0")]);
        check(&["/a GET", "/a @0"], &[("HEAD h/a", "0.0"), ("POST h/a", "1.0")]);
        check(&["/a GET", "/a HEAD @1"], &[("HEAD h/a", "0.0"), ("HEAD h/a @1", "1.0")]);
    }
}
