//! Who is connected, and the words by which an upstream is told: made once a connection, for formatting an address costs
//! more than all the rest that is said.

use std::net::IpAddr;

/// Who is connected.
#[derive(Debug, Clone)]
pub struct Peer {
    ip: IpAddr,
    /// The element of `Forwarded`, in which the address stands as text.
    element: Box<str>,
}

impl Peer {
    /// The peer at `ip`; an IPv4 address that is written as one of IPv6 is one of IPv4.
    pub fn new(ip: IpAddr) -> Self {
        let ip = ip.to_canonical();
        let element = match ip {
            IpAddr::V4(ip) => format!("for={ip}"),
            IpAddr::V6(ip) => format!("for=\"[{ip}]\""),
        };
        Self { ip, element: element.into() }
    }

    /// The address.
    pub fn ip(&self) -> IpAddr {
        self.ip
    }

    /// The address as text, for `X-Forwarded-For`.
    pub fn address(&self) -> &str {
        let address = match self.ip {
            IpAddr::V4(_) => self.element.strip_prefix("for="),
            IpAddr::V6(_) => self.element.strip_prefix("for=\"[").and_then(|text| text.strip_suffix("]\"")),
        };
        address.unwrap_or_default()
    }

    /// The peer as `Forwarded` has it (RFC 7239 §4): `for=192.0.2.1`, `for="[2001:db8::1]"`.
    pub fn element(&self) -> &str {
        &self.element
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peer_is_told_as_both_headers_have_it() {
        for (ip, address, element) in [
            ("192.0.2.1", "192.0.2.1", "for=192.0.2.1"),
            ("2001:db8::1", "2001:db8::1", "for=\"[2001:db8::1]\""),
            ("::ffff:192.0.2.1", "192.0.2.1", "for=192.0.2.1"),
        ] {
            let peer = Peer::new(ip.parse().unwrap());
            assert_eq!((peer.address(), peer.element()), (address, element), "{ip}");
            assert_eq!(peer.ip().to_string(), address);
        }
    }
}
