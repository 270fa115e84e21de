//! Who asked, as peers tell it that pass requests on: `X-Forwarded-For`, and `Forwarded` (RFC 7239). Whose word counts is
//! an argument; what the proxy says itself is `proxy/headers`.

use std::net::{IpAddr, SocketAddr};

use super::{Fields, Known};
use crate::types::IpSet;

/// The address of the client: the peer's, or, where the peer is trusted to forward, the last one in
/// `X-Forwarded-For` (or `Forwarded`) that is not itself trusted.
pub fn client_ip(fields: &Fields, peer: IpAddr, forwarders: Option<&IpSet>) -> IpAddr {
    let peer = peer.to_canonical();
    let Some(forwarders) = forwarders.filter(|set| set.contains(peer)) else { return peer };
    let listed: Vec<Option<IpAddr>> = if fields.contains(Known::XForwardedFor) {
        elements(fields, Known::XForwardedFor).map(parse_node).collect()
    } else {
        elements(fields, Known::Forwarded).map(forwarded_for).collect()
    };
    let mut client = peer;
    for address in listed.into_iter().rev() {
        // What cannot be read ends what can be believed.
        let Some(address) = address else { break };
        client = address;
        if !forwarders.contains(address) {
            break;
        }
    }
    client
}

/// The elements of a list; empty ones are none (RFC 9110 §5.6.1.2), and a field that is no text is one that means
/// nothing.
pub fn elements(fields: &Fields, name: Known) -> impl Iterator<Item = &str> {
    let is_text = |byte: &u8| matches!(byte, b' '..=b'~' | b'\t');
    let texts = fields.all(name).map(move |value| match std::str::from_utf8(value) {
        Ok(text) if value.iter().all(is_text) => text,
        _ => "?",
    });
    texts.flat_map(|text| text.split(',')).map(str::trim).filter(|element| !element.is_empty())
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`.
fn parse_node(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let ip = bare.parse::<IpAddr>().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|node| node.ip()))?;
    Some(ip.to_canonical())
}

fn forwarded_for(element: &str) -> Option<IpAddr> {
    parse_node(parameter(element, "for")?)
}

/// The value of a parameter in one element of `Forwarded`, without quotes.
pub fn parameter<'a>(element: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = element.split(';').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(known, _)| known.trim().eq_ignore_ascii_case(name))?;
    Some(value.trim().trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(rows: Headers<'_>) -> Fields {
        rows.iter().copied().collect()
    }

    /// Peer, headers, the client that follows.
    type Row<'a> = (&'a str, Headers<'a>, &'a str);
    type Headers<'a> = &'a [(&'static str, &'static str)];

    #[test]
    fn client_is_the_last_untrusted_address_of_a_trusted_chain() {
        let trust = IpSet::new(vec![IpSet::parse_network("10.0.0.0/8").unwrap()]);
        let rows: &[Row] = &[
            ("192.0.2.9", &[("x-forwarded-for", "1.1.1.1")], "192.0.2.9"),
            ("10.0.0.1", &[("x-forwarded-for", "1.1.1.1")], "1.1.1.1"),
            ("10.0.0.1", &[("x-forwarded-for", "6.6.6.6, 1.1.1.1, 10.0.0.2")], "1.1.1.1"),
            ("10.0.0.1", &[("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "1.1.1.1")], "1.1.1.1"),
            ("10.0.0.1", &[("x-forwarded-for", "1.1.1.1, unknown, 10.0.0.2")], "10.0.0.2"),
            (
                "10.0.0.1",
                &[("x-forwarded-for", "6.6.6.6, 1.1.1.1,, 10.0.0.2,"), ("x-forwarded-for", "")],
                "1.1.1.1",
            ),
            ("10.0.0.1", &[("x-forwarded-for", "1.1.1.1:4711")], "1.1.1.1"),
            ("10.0.0.1", &[("x-forwarded-for", "[2001:db8::1]:80")], "2001:db8::1"),
            ("10.0.0.1", &[("x-forwarded-for", "10.0.0.3, 10.0.0.2")], "10.0.0.3"),
            ("10.0.0.1", &[("forwarded", "for=1.1.1.1;proto=https, for=\"[2001:db8::2]:1\"")], "2001:db8::2"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("::ffff:10.0.0.1", &[("x-forwarded-for", "1.1.1.1")], "1.1.1.1"),
        ];
        for (peer, headers, expected) in rows {
            let found = client_ip(&map(headers), peer.parse().unwrap(), Some(&trust));
            assert_eq!(found, expected.parse::<IpAddr>().unwrap(), "{peer} {headers:?}");
        }
        let mut headers = map(&[("x-forwarded-for", "1.1.1.1")]);
        headers.append(Known::XForwardedFor, b"\xff");
        let found = client_ip(&headers, "10.0.0.1".parse().unwrap(), Some(&trust));
        assert_eq!(found, "10.0.0.1".parse::<IpAddr>().unwrap(), "what is no text ends what is believed");
        let found = client_ip(&map(&[("x-forwarded-for", "1.1.1.1")]), "10.0.0.1".parse().unwrap(), None);
        assert_eq!(found, "10.0.0.1".parse::<IpAddr>().unwrap(), "without trust nobody forwards");
    }
}
