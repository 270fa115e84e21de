//! The request as pure logic sees it, borrowed from its head.

use std::net::IpAddr;

use http::{HeaderName, Method};

use super::authority::Authority;
use crate::logic::condition::{ClientCertificate, RequestView};
use crate::wire::RequestHead;

/// A request's head, seen by pure logic.
#[derive(Debug)]
pub struct View<'a> {
    head: &'a RequestHead,
    authority: &'a Authority,
    client_ip: IpAddr,
    certificate: Option<&'a ClientCertificate>,
}

impl<'a> View<'a> {
    /// The view of a request from `client_ip`, which has shown `certificate`, for `authority`.
    pub fn new(
        head: &'a RequestHead,
        authority: &'a Authority,
        client_ip: IpAddr,
        certificate: Option<&'a ClientCertificate>,
    ) -> Self {
        Self { head, authority, client_ip, certificate }
    }
}

impl RequestView for View<'_> {
    fn method(&self) -> &Method {
        &self.head.method
    }

    fn host(&self) -> &str {
        self.authority.host()
    }

    fn port(&self) -> Option<u16> {
        self.authority.port()
    }

    fn path(&self) -> &str {
        self.head.path()
    }

    fn query(&self) -> Option<&str> {
        self.head.query()
    }

    fn header<'b>(&'b self, name: &HeaderName) -> impl Iterator<Item = &'b [u8]> {
        self.head.fields.all(name)
    }

    fn client_ip(&self) -> IpAddr {
        self.client_ip
    }

    fn certificate(&self) -> Option<&ClientCertificate> {
        self.certificate
    }
}
