//! Pure decisions: which route, which variant, which endpoint, how much.
//!
//! No tokio, no I/O, no clock, no environment and no global randomness: time and random numbers come as arguments, so
//! that `explain`, `assign` and the proxy call the same functions and a test can jump time.
#![deny(clippy::disallowed_methods)]

pub mod balance;
pub mod condition;
pub mod limit;
pub mod renewal;
pub mod route;
pub mod split;
