//! Which endpoint of an upstream takes a request, and which get none.
//!
//! Reading order: [`check`] (what a row of health checks says), [`health`] (what is known of an endpoint), [`pick`](mod@pick) (the choice), [`retry`] (whether a
//! request that failed is sent again).

pub mod check;
pub mod health;
pub mod pick;
pub mod retry;

pub use health::{Cause, Ejection, Event, Health, State, SuccessRate, Tick};
pub use pick::{Policy, pick};
pub use retry::{Budget, BudgetPolicy, Happened, Retries, Statuses};
