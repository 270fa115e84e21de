//! What is told about the traffic: metrics and the access log.
//!
//! Nothing here decides anything, waits for anything, or lets a worker wait: a number costs a few nanoseconds, and a
//! line that cannot be written is dropped and counted.
//!
//! Reading order: [`labels`] (the closed sets of label values), [`families`] (the list of metrics), [`worker`] (the hot
//! path) over `cells`, `histogram` and `sketch`; [`Crowd`] (what is counted for all workers together); [`metrics`] with `sums` and `scrape` (what a scraper gets);
//! [`access_log`]; [`panics`], which the process has counted and logged.

pub mod access_log;
mod cells;
mod crowd;
pub mod families;
pub mod histogram;
pub mod labels;
pub mod metrics;
pub mod outcome;
pub mod panics;
mod scrape;
mod sketch;
mod sums;
#[cfg(test)]
mod tests;
pub mod worker;

pub use access_log::{AccessLog, AccessLogError, Record, Sink};
pub use crowd::Crowd;
pub use histogram::HistogramSnapshot;
pub use labels::{
    Blame, Cause, ConnectionEvent, DownstreamEvent, LimitId, ListenerId, Outcome, Refused, RetryOutcome,
    RetryReason, Target, TargetId, UpstreamId,
};
pub use metrics::{ArmTotals, Assigned, EndpointStates, Expiry, Metrics, MetricsError, Totals, Weight};
pub use worker::Worker;

/// The `Content-Type` of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
