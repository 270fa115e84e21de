//! What a request says of itself, and conditions on it: one list everywhere (`routes[].when`, `rules[].when`).
//!
//! Reading order: [`RequestView`] (what logic sees of a request), [`certificate`], [`source`], [`predicate`].

pub mod certificate;
#[cfg(test)]
pub(crate) mod fake;
pub mod predicate;
pub mod source;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use http::{HeaderName, Method};

pub use certificate::ClientCertificate;
pub use predicate::{Condition, Test};
pub use source::{Ambiguous, Source};

/// What the pure part of the house sees of a request. Implemented by the proxy's own request and by `explain`.
pub trait RequestView {
    /// The request's method.
    fn method(&self) -> &Method;
    /// The host in lower case without its port; empty when there is none.
    fn host(&self) -> &str;
    /// The port that the request's authority names, if any.
    fn port(&self) -> Option<u16>;
    /// The path as sent, beginning with `/`.
    fn path(&self) -> &str;
    /// The query as sent, without `?`.
    fn query(&self) -> Option<&str>;
    /// The values of the header fields called `name`, in the order in which they came.
    fn header<'a>(&'a self, name: &HeaderName) -> impl Iterator<Item = &'a [u8]>;
    /// The address of the client: the peer, or what a trusted peer says of it.
    fn client_ip(&self) -> IpAddr;
    /// What the client's certificate says of it, if it has shown one and that was verified.
    fn certificate(&self) -> Option<&ClientCertificate>;
}
