//! HTTP/3 from clients, over quinn and the h3 crate: one endpoint for a worker and a listener, on a UDP socket of its
//! own beside the TCP ones. Requests go where those of HTTP/2 go; 1xx responses and trailers pass, and no body is buffered
//! beyond the windows.
//!
//! The kernel gives the packets of one pair of addresses to one worker. A client whose address changes would come to
//! another, which knows nothing of it, so it is told not to, and makes a new connection ([`endpoint`]). What happens on a
//! connection is [`connection`]'s, a request's stream [`stream`]'s.

mod connection;
mod endpoint;
mod stream;

pub(super) use endpoint::accept;
