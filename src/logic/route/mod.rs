//! Which route a request takes: host, then path, then the number of other conditions, then file order.
//!
//! Reading order: [`table`] (the look-up), [`host`], [`path`]. Conditions are `logic/condition`'s.

pub mod host;
pub mod path;
pub mod table;

use http::Method;

pub use host::HostPattern;
pub use path::PathPattern;
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
    /// One of these methods.
    pub methods: Vec<Method>,
    /// All of these.
    pub when: Vec<Condition>,
}
