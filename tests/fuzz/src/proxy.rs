//! Of the proxy: whom a request is for.

#[path = "../../../src/proxy/authority.rs"]
pub mod authority;

/// What goes wrong there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The host is none.
    BadHost,
}
