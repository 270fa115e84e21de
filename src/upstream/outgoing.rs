//! A request's head as an endpoint is to get it: the client's fields as they are, and beside them what is another for
//! each upstream or endpoint. The protocol adds what is of its own hop alone; nothing is decided here.

use http::HeaderValue;

use super::Upgrade;
use crate::wire::{Known, RequestHead};

/// A request's head on its way to an endpoint.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    /// The method and the fields. What is of one hop is not among them, but for `te: trailers`, of which HTTP/1 says in
    /// `Connection` that it is (RFC 9110 §10.1.4).
    pub head: &'a RequestHead,
    /// The path and the query.
    pub target: &'a str,
    /// The host: `None` where the fields hold it as it goes on, else they hold none.
    pub host: Option<&'a HeaderValue>,
    /// What the connection is to become, if anything else.
    pub upgrade: Option<&'a Upgrade>,
}

impl<'a> Outgoing<'a> {
    /// The host, wherever it stands; empty where there is none.
    pub fn host(&self) -> &'a [u8] {
        match self.host {
            Some(host) => host.as_bytes(),
            None => self.head.fields.get(Known::Host).unwrap_or_default(),
        }
    }
}
