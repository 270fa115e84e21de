//! Certificates that authorities issue by ACME (RFC 8555): asked for, proven, kept, renewed, and ready for the next
//! handshake.
//!
//! Reading order: [`shelf`] (what handshakes and requests look up), [`keep`] (the folder that outlives the process),
//! `credentials` (what was issued, checked), [`authority`] (the one thing that an authority is asked), [`client`] (asks
//! by ACME; `transport` carries it, `proof` makes what shows that a name is ours), [`keeper`] (the task that asks in
//! time). When that is, is decided by [`crate::logic::renewal`].

pub mod authority;
pub mod client;
mod credentials;
pub mod keep;
pub mod keeper;
mod proof;
pub mod shelf;
mod transport;

pub use client::Client;
pub use keep::{Keep, KeepError};
pub use keeper::{Keeper, Wanted};
pub use shelf::{Shelf, Slot};

/// The protocol in ALPN by which an authority asks for its proof (RFC 8737 §6.2).
pub const ALPN: &[u8] = b"acme-tls/1";
