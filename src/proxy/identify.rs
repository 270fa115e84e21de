//! What is settled before a route is looked up: whether the target can be served, whose headers count, and the client's
//! address. `weir explain` calls these same functions. What is removed, and why: [`super::headers`].

use std::net::IpAddr;

use http::Method;

use super::authority::Authority;
use super::identity::Identity;
use super::{Failure, headers};
use crate::state::RoutingHeaders;
use crate::types::IpSet;
use crate::wire::{Fields, RequestHead, forwarded};

/// Whose headers count on a connection.
#[derive(Debug, Clone, Copy)]
pub struct Trust<'a> {
    /// Identity headers of this peer count.
    pub identity: bool,
    /// Forwarding headers of this peer count.
    pub forwarding: bool,
    forwarders: Option<&'a IpSet>,
}

impl<'a> Trust<'a> {
    /// What counts from `peer` on a listener that trusts `listed`; where it names nobody, everybody's identity and
    /// nobody's forwarding.
    pub fn of(listed: Option<&'a IpSet>, peer: IpAddr) -> Self {
        let forwarding = listed.is_some_and(|set| set.contains(peer));
        Self { identity: listed.is_none() || forwarding, forwarding, forwarders: listed }
    }

    /// What counts where somebody is trusted, and it is not known who this is.
    pub fn nobody() -> Self {
        Self { identity: false, forwarding: false, forwarders: None }
    }
}

/// Whom a request is for: by its target, else by `Host`. `is_strict` is the listener's `strict_host`; `is_secure` says
/// that the request came encrypted, or from a trusted peer, whose word it is that it did.
///
/// # Errors
/// [`Failure::BadHost`] for what names no host, or two; [`Failure::Misdirected`] where a strict listener gets a target
/// with `https` on a plain connection (RFC 9110 §7.4).
pub fn addressee(head: &RequestHead, is_strict: bool, is_secure: bool) -> Result<Authority, Failure> {
    let authority = Authority::of(head)?;
    if is_strict && !authority.agrees_with_host(head) {
        return Err(Failure::BadHost);
    }
    if is_strict && head.names_https() && !is_secure {
        return Err(Failure::Misdirected);
    }
    Ok(authority)
}

/// Whether a request for `addressee` is about the server itself (`OPTIONS *`) and not about a path.
///
/// # Errors
/// [`Failure::MethodRefused`] for CONNECT and TRACE, [`Failure::BadTarget`] for anything else without a path, that of
/// the addressee as of any request (RFC 9112 §3.2).
pub fn is_about_server(head: &RequestHead, addressee: &Result<Authority, Failure>) -> Result<bool, Failure> {
    if head.method == Method::CONNECT || head.method == Method::TRACE {
        return Err(Failure::MethodRefused);
    }
    match head.path() {
        "*" if head.method == Method::OPTIONS => addressee.as_ref().map(|_| true).map_err(|failure| *failure),
        path if path.starts_with('/') => Ok(false),
        _ => Err(Failure::BadTarget),
    }
}

/// Removes the headers of a request from `peer` that do not count, says whose certificate it came with, and tells the
/// client's address.
pub fn identify(
    fields: &mut Fields,
    routing: &RoutingHeaders,
    trust: Trust<'_>,
    peer: IpAddr,
    identity: Option<&Identity>,
) -> IpAddr {
    headers::strip_hop_by_hop(fields);
    headers::strip_identities(fields, routing, trust.identity);
    headers::client_certificate(fields, identity, trust.forwarding);
    forwarded::client_ip(fields, peer, trust.forwarders)
}
