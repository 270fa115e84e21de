//! Text to a valid configuration, or every error in it at once.
//!
//! Route, driven by [`load()`]: `source` (files and the environment) → `yaml` (text to a tree of `node`s that know their
//! place, a `span`) → `substitute` (environment variables) → `merge` (the files of a folder) → `read` (the tree to
//! `raw`, what may be written, made of `field`s; the origin of the JSON [`schema`]) → `effective` (defaults filled in) →
//! `lower` (raw to valid) → [`model`]. What is wrong goes into a `report` as a [`diagnostic`] with a code of the one list
//! in `code`. [`diff()`] says what changed between two configurations. Nothing here changes a running proxy.

pub mod acme;
mod code;
pub mod diagnostic;
pub mod diff;
mod effective;
mod field;
pub mod health;
mod load;
mod lower;
mod merge;
pub mod model;
mod node;
mod raw;
mod read;
mod report;
pub mod schema;
mod source;
mod span;
mod substitute;
pub mod tls;
pub mod watch;
mod yaml;

pub use diagnostic::{Code, Diagnostic, Severity};
pub use diff::{Changes, diff};
pub use load::{Accepted, Rejected, load, load_text, load_with};
pub use model::Config;

#[cfg(test)]
mod docs;
#[cfg(test)]
mod tests;
