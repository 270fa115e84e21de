//! Text to a valid configuration, or every error in it at once.
//!
//! Route: [`source`] (files and the environment) → [`node`] (YAML with positions) → [`raw`] (what may be written, the
//! origin of the JSON schema) → [`lower`] (raw to valid) → [`model`]. What is wrong becomes a [`diagnostic`].
//! [`watch`] tells when files changed. Nothing here changes a running proxy.

pub mod model;
pub mod watch;

pub use model::Config;
