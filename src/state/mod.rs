//! The one immutable [`Snapshot`] that a request reads, and the one [`writer::Writer`] that replaces it.
//!
//! Reading order: [`snapshot`], [`limiter`] (how much may come),
//! [`build`] (configuration to snapshot, everything that can fail), `health` (its upstreams
//! are checked), [`writer`] (one queue of changes, one swap), [`status`] (what the last change came to).

pub mod build;
mod health;
pub mod limiter;
pub mod snapshot;
pub mod status;
pub mod writer;

pub use limiter::Limiter;
pub use snapshot::{Arm, Current, Plan, RouteEntry, RoutingHeaders, Snapshot, Varies};
pub use status::{ReloadStatus, Status};
pub use writer::{Change, Sockets, Writer};
