//! Asking endpoints whether they are well (`upstreams.NAME.health`), on the control thread: a worker has no part in it but
//! to see what it came to.
//!
//! Reading order: [`target`] (one check of one endpoint; `http1`, `http2` and `grpc` ask, `failure` says why it failed,
//! `bounded` how much is read), [`rhythm`] (checks of one endpoint, one after the other), [`verdicts`] (what they came to,
//! for the log, the metrics and `/status`), [`keeper`] (who has the endpoints of an upstream checked as they come and go).
//! After how many checks an endpoint is taken for something else is decided in `logic::balance::check`.
//!
//! Each check has a connection of its own. A kept one would go on to answer while the endpoint takes no new ones, and
//! what is asked is whether the next client would be served; one connection in some seconds costs nothing.

mod bounded;
mod failure;
mod grpc;
mod http1;
mod http2;
pub mod keeper;
pub mod rhythm;
pub mod target;
pub mod verdicts;

pub use failure::Failure;
pub(super) use keeper::tell_all;
pub use keeper::{first_verdicts, keep_checked};
pub use verdicts::{Checked, Verdicts};

/// How we call ourselves.
const USER_AGENT: &str = concat!("weir-health-check/", env!("CARGO_PKG_VERSION"));

/// How much of a body is read: what is asked for has to stand in it, and of a longer one the rest does not count.
const MAX_BODY: usize = 64 * 1024;

#[cfg(test)]
mod tests;
