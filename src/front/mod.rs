//! Where clients come in: sockets, connections, protocols. Bytes become requests for [`crate::proxy`], its responses
//! become bytes; what a request means is not known here.
//!
//! Reading order: [`bind`] (sockets, and the refusal to share an address with another process), [`handover`] (sockets of
//! the process before this one, which come by [`channel`], and of the service manager, by [`activation`]), [`accept`] (a
//! worker's accept loops), `admit` (who is let in) and `shortage` (when there are no files), [`connection`] (which protocol it is), `proxy_header` (whose it is, where a balancer says so), [`tls`],
//! [`http1`] and [`http2`] (and `complete`, `date`), `http3`. The orderly end is [`crate::net::drain`]'s.

pub mod accept;
pub mod activation;
mod admit;
pub mod bind;
pub mod channel;
mod complete;
pub mod connection;
mod date;
pub mod handover;
pub mod http1;
pub mod http2;
#[cfg(feature = "http3")]
mod http3;
mod proxy_header;
mod shortage;
pub mod tls;

pub use accept::{Acceptor, Command};
pub use bind::{BindError, Socket};
pub use tls::Secure;
pub use tls::tickets::Tickets;
