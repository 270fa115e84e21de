//! Sockets, and messages on them: what clients' connections and endpoints' have in common. Nothing here knows which side
//! it is on, or what a message means.
//!
//! Reading order: [`socket`] (TCP or Unix), [`tls`] (what may lie over it), [`io`] (either), [`buffer`] (a worker's pool), [`clock`]
//! and [`alarm`] (one look at the time for an event, one timer for many deadlines),
//! [`link`] (a connection that HTTP/1 is read from), [`body`] (what streams, and whence), [`transfer`] (a message on its
//! way out), `quic` (what HTTP/3 goes over), [`drain`] (the orderly end), and for HTTP/2 [`flood`] (what a peer may make us do) and [`guard`] (who counts
//! it).

pub mod alarm;
pub mod backlog;
pub mod body;
pub mod buffer;
pub mod clock;
pub mod drain;
pub mod flood;
pub mod guard;
pub mod idlers;
pub mod io;
pub mod link;
pub mod patience;
#[cfg(feature = "http3")]
pub mod quic;
pub mod socket;
#[cfg(test)]
mod tests;
pub mod tls;
pub mod transfer;

pub use alarm::{Alarm, in_time};
pub use backlog::Backlog;
pub use body::{Fill, Source};
pub use buffer::Buffer;
pub use drain::{Drain, Drained};
pub use guard::{Guarded, Watch};
pub use idlers::{Idlers, Waiting};
pub use io::Io;
pub use link::{Link, LinkError};
pub use patience::Patience;
pub use socket::Socket;
pub use tls::{Tls, Writer};
pub use transfer::{Coding, Transfer, TransferError};
