//! Which route a request takes: host, then path, then the number of other conditions, then file order.
//!
//! 1. **Host.** Exact, then wildcard (longest suffix first), then routes without hosts; of one name, with the request's
//!    port before without. The most specific host for which any route is open to the request's listener is final:
//!    there is no falling back to a less specific host.
//! 2. **Path,** among the routes of that host. Exact, then the longest prefix by whole segments, then regular
//!    expressions in the order of their first appearance in the file, then routes without paths. A path whose routes
//!    all fail for another reason gives way to the next less specific one.
//! 3. **Other conditions.** Among the routes of one path, the one with more of them goes first: each entry of `when`
//!    counts 1, methods count 1 together, listeners count 1 together.
//! 4. **File order.**
//!
//! Methods are literal, except that GET takes HEAD too (RFC 9110 §9.1: a general-purpose server supports both); at
//! equal rank a route that names HEAD goes before one that only implies it.
//!
//! Reading order: [`table`] (the look-up), [`host_index`] and [`path_index`] (what it looks in), [`host`] and [`path`]
//! (the patterns), [`shadow`] (routes that can never be taken). Conditions are `logic/condition`'s.

pub mod host;
mod host_index;
#[cfg(test)]
mod oracle;
pub mod path;
mod path_index;
pub mod shadow;
pub mod table;

use http::Method;

pub use host::HostPattern;
pub use path::PathPattern;
pub use shadow::shadowed;
pub use table::{Lookup, Table};

use crate::logic::condition::Condition;

/// What a request must be to take a route. Empty lists match everything.
#[derive(Debug, Clone, Default)]
pub struct RouteMatch {
    /// One of these hosts.
    pub hosts: Vec<HostPattern>,
    /// On one of these listeners (indices of the configuration's list); `None` is all.
    pub listeners: Option<Vec<usize>>,
    /// One of these paths.
    pub paths: Vec<PathPattern>,
    /// One of these methods; GET takes HEAD too.
    pub methods: Vec<Method>,
    /// All of these.
    pub when: Vec<Condition>,
}

impl RouteMatch {
    /// The number of conditions beside host and path: each of `when`, methods, listeners.
    pub fn rank(&self) -> usize {
        self.when.len() + usize::from(!self.methods.is_empty()) + usize::from(self.listeners.is_some())
    }

    /// Whether requests of this listener may take the route.
    fn is_open_to(&self, listener: usize) -> bool {
        self.listeners.as_ref().is_none_or(|listeners| listeners.contains(&listener))
    }
}
