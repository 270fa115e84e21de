//! Text to a valid configuration, or every error in it at once.
//!
//! Route: [`source`] (files and the environment) → [`yaml`] and [`node`] (a tree with places) → [`substitute`]
//! (environment variables) → [`merge`] (the files of a folder) → [`read`] (the tree to [`raw`], what may be written,
//! the origin of the JSON [`schema`]) → [`effective`] (defaults filled in) → [`lower`] (raw to valid) → [`model`]. What
//! is wrong becomes a [`diagnostic`]. [`diff`] says what changed between two. Nothing here changes a running proxy.

pub mod diagnostic;
pub mod diff;
mod effective;
mod field;
mod load;
mod lower;
mod merge;
pub mod model;
mod node;
mod raw;
mod read;
pub mod schema;
mod source;
mod span;
mod substitute;
mod yaml;

pub use diagnostic::{Code, Diagnostic, Severity};
pub use diff::{Changes, diff};
pub use load::{Accepted, Rejected, load, load_text, load_with};
pub use model::Config;

#[cfg(test)]
mod tests;
