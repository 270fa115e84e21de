//! Which endpoint of an upstream takes a request, and which get none.
//!
//! Reading order: [`check`] (what a row of health checks says), [`health`] (what is known of an endpoint), [`pick`] (the policies, and who calls which), [`choices`]
//! (the better of two random ones), [`turns`] (one after the other), [`latency`] (what `peak_ewma` remembers),
//! [`setback`] (what a failure counts as), [`maglev`] (a table by hash), [`zone`] (whether an endpoint of the own zone
//! takes it), [`warmth`] (slow start), [`retry`] (whether a request that failed is sent again). The policies do not know
//! of health: their caller brings those that may take the request.

pub mod check;
pub mod choices;
pub mod health;
pub mod latency;
pub mod maglev;
pub mod pick;
pub mod retry;
pub mod setback;
#[cfg(test)]
mod tests;
pub mod turns;
pub mod warmth;
pub mod zone;

pub use health::{Cause, Ejection, Event, Health, State, SuccessRate, Tick};
pub use latency::Latency;
pub use maglev::Maglev;
pub use pick::{Candidate, Policy, alike, choose};
pub use retry::{Budget, BudgetPolicy, Happened, Retries, Statuses};
pub use setback::Setback;
pub use warmth::SlowStart;
