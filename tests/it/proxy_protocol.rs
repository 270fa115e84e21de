//! The PROXY protocol: headers of balancers, and headers for endpoints; HAProxy is the peer on both sides.

mod incoming;
mod outgoing;
mod peer;
mod refused;

use weir::wire::proxy_protocol::Addresses;

/// What is written ahead of version 2.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn addresses(source: &str, destination: &str) -> Addresses {
    Addresses::new(source.parse().unwrap(), destination.parse().unwrap())
}

/// A header of version 2.
fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[command, family], &length, rest].concat()
}

/// The line that announces a client at `source`, which may be of either family.
fn line(source: &str) -> Vec<u8> {
    let (kind, destination) = if source.contains(':') { (6, "2001:db8::80") } else { (4, "198.51.100.80") };
    format!("PROXY TCP{kind} {source} {destination} 56324 443\r\n").into_bytes()
}
