//! The look-up: its cost does not grow with the number of hosts and exact paths, and hardly with prefixes.

use http::Method;

use super::RouteMatch;
use crate::logic::condition::RequestView;

/// All routes, indexed.
#[derive(Debug)]
pub struct Table {}

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

impl Table {
    /// Indexes `routes`, in file order.
    pub fn new(_routes: Vec<RouteMatch>) -> Self {
        unimplemented!()
    }

    /// The route of `request`, which came in by `listener` (index of the configuration's list).
    pub fn lookup<R: RequestView>(&self, _request: &R, _listener: usize) -> Lookup {
        unimplemented!()
    }
}
