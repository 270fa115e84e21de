//! Which endpoint of an upstream takes a request.

pub mod pick;

pub use pick::{Policy, pick};
