//! Whom a connection to an endpoint is made for, where the endpoint is told (`proxy_protocol: v2`): such a connection is
//! one client's alone, and goes when the client's does. Which requests a client sends is not known here.

use std::cell::RefCell;
use std::rc::{Rc, Weak};

use super::local::Endpoint;
use super::{http1, http2};
use crate::wire::proxy_protocol::Addresses;

/// A client's connection: where it is from and where it went. With it go the connections that were made for it.
#[derive(Debug)]
pub struct Client {
    addresses: Addresses,
    /// The endpoints that have connections of its own.
    endpoints: RefCell<Vec<Weak<Endpoint>>>,
}

impl Client {
    /// A client's connection with these addresses.
    pub fn new(addresses: Addresses) -> Self {
        Self { addresses, endpoints: RefCell::default() }
    }

    /// What is announced of it.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// From now on `endpoint` has connections of its own for this client.
    pub(super) fn enter(&self, endpoint: &Rc<Endpoint>) {
        let mut endpoints = self.endpoints.borrow_mut();
        // A reload may have taken some away.
        endpoints.retain(|known| known.strong_count() > 0);
        endpoints.push(Rc::downgrade(endpoint));
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        for endpoint in self.endpoints.get_mut().iter().filter_map(Weak::upgrade) {
            endpoint.leave(&self.addresses);
        }
    }
}

/// The connections to an endpoint that requests may share: of all clients, or of one.
#[derive(Debug, Default)]
pub struct Pools {
    pub(super) http1: http1::Pool,
    pub(super) http2: http2::Pool,
}
