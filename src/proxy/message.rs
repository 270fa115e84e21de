//! What goes into [`fn@super::handle`] and what comes out of it: messages of whatever protocol. How they are framed is
//! `front`'s and `upstream`'s.

use http::{StatusCode, Version};

use super::Outbound;
use crate::upstream::Inbound;
use crate::wire::{Fields, RequestHead, ResponseHead};

/// A request of a client.
#[derive(Debug)]
pub struct Request {
    /// Its head.
    pub head: RequestHead,
    /// Its body.
    pub body: Inbound,
}

/// A response for a client.
#[derive(Debug)]
pub struct Response {
    /// Its head; the protocol adds what is of its own hop.
    pub head: ResponseHead,
    /// Its body.
    pub body: Outbound,
    /// Whether a connection of HTTP/1 ends with it.
    pub close: bool,
}

impl Response {
    /// A response of our own, without fields.
    pub fn new(status: StatusCode, body: Outbound) -> Self {
        Self { head: ResponseHead::new(status, Version::HTTP_11, Fields::new()), body, close: false }
    }
}
