//! What goes into [`fn@super::handle`] and what comes out of it: messages of whatever protocol. How they are framed is
//! `front`'s and `upstream`'s.

use http::{StatusCode, Version};

use super::{Outbound, Tunnel};
use crate::upstream::{Inbound, Upgrade};
use crate::wire::{Fields, RequestHead, ResponseHead};

/// A request of a client.
#[derive(Debug)]
pub struct Request {
    /// Its head.
    pub head: RequestHead,
    /// Its body.
    pub body: Inbound,
    /// What its connection or stream is to become, if anything else.
    pub upgrade: Option<Upgrade>,
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
    /// What the connection or stream becomes behind it: the status is 101 then.
    pub tunnel: Option<Box<Tunnel>>,
}

impl Response {
    /// A response of our own, without fields.
    pub fn new(status: StatusCode, body: Outbound) -> Self {
        Self {
            head: ResponseHead::new(status, Version::HTTP_11, Fields::new()),
            body,
            close: false,
            tunnel: None,
        }
    }
}
