//! Headers on their way through: what is between two hops stays there, what only we may say is said by us, and
//! strangers' identities are removed.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, FORWARDED, HOST, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, SET_COOKIE, TE, TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::{HeaderMap, HeaderName, HeaderValue, Version, request};

use crate::state::RoutingHeaders;
use crate::types::IpSet;

/// `x-forwarded-for`.
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// `x-forwarded-proto`.
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// `x-forwarded-host`.
pub const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// `x-request-id`.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

const HEX: &[u8; 16] = b"0123456789abcdef";

/// The longest request id that is taken over from a trusted peer.
const MAX_REQUEST_ID: usize = 128;

/// Removes what is between two hops: the fixed set, and whatever `Connection` names (RFC 9110 §7.6.1). `te: trailers`
/// stays, for it is what lets trailers through; `Host` and the length cannot be named away.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
            .filter_map(|token| HeaderName::from_bytes(token.trim_ascii()).ok())
            .filter(|name| *name != HOST && *name != CONTENT_LENGTH && *name != TE)
            .collect();
        for name in named {
            headers.remove(name);
        }
        headers.remove(CONNECTION);
    }
    if headers.contains_key(TE) {
        let trailers = headers.get_all(TE).iter().any(|value| {
            let mut codings = value.as_bytes().split(|byte| *byte == b',');
            codings.any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
        });
        headers.remove(TE);
        if trailers {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        }
    }
    for name in
        [KEEP_ALIVE, PROXY_CONNECTION, TRANSFER_ENCODING, UPGRADE, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION]
    {
        headers.remove(name);
    }
}

/// Removes identities that do not count: aliases of routing headers and what only we may set from everybody, the
/// routing headers themselves from strangers.
pub fn strip_identities(headers: &mut HeaderMap, routing: &RoutingHeaders, trusted: bool) {
    let aliases: Vec<HeaderName> = headers.keys().filter(|name| routing.is_alias(name)).cloned().collect();
    for name in aliases {
        headers.remove(name);
    }
    for name in routing.ours() {
        headers.remove(name);
    }
    if !trusted {
        for name in routing.named() {
            headers.remove(name);
        }
    }
}

/// Removes from trailers what belongs into a head alone (RFC 9110 §6.5.1), and `names`: what was settled by the head is
/// not to be said again behind it.
pub fn strip_trailers<'a>(trailers: &mut HeaderMap, names: impl IntoIterator<Item = &'a HeaderName>) {
    strip_hop_by_hop(trailers);
    for name in [TE, HOST, CONTENT_LENGTH, AUTHORIZATION, COOKIE, SET_COOKIE, FORWARDED, VIA] {
        trailers.remove(name);
    }
    for name in names {
        trailers.remove(name);
    }
}

/// The same for a request: identities count in no trailer, whoever sends it.
pub fn strip_request_trailers(trailers: &mut HeaderMap, routing: &RoutingHeaders) {
    strip_identities(trailers, routing, false);
    let said_by_us = [X_FORWARDED_FOR, X_FORWARDED_PROTO, X_FORWARDED_HOST, X_REQUEST_ID];
    strip_trailers(trailers, routing.override_headers().iter().chain(&said_by_us));
}

/// The address of the client: the peer's, or, where the peer is trusted to forward, the last one in
/// `X-Forwarded-For` (or `Forwarded`) that is not itself trusted.
pub fn client_ip(headers: &HeaderMap, peer: IpAddr, forwarders: Option<&IpSet>) -> IpAddr {
    let peer = peer.to_canonical();
    let Some(forwarders) = forwarders.filter(|set| set.contains(peer)) else { return peer };
    let listed: Vec<Option<IpAddr>> = if headers.contains_key(X_FORWARDED_FOR) {
        elements(headers, &X_FORWARDED_FOR).map(parse_node).collect()
    } else {
        elements(headers, &FORWARDED).map(forwarded_for).collect()
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
fn elements<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).iter().map(|value| value.to_str().unwrap_or("?"));
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|element| !element.is_empty())
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
fn parameter<'a>(element: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = element.split(';').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(known, _)| known.trim().eq_ignore_ascii_case(name))?;
    Some(value.trim().trim_matches('"'))
}

/// What we say of the client to the upstream.
#[derive(Debug, Clone, Copy)]
pub struct Forwarding<'a> {
    /// Who is connected to us.
    pub peer: IpAddr,
    /// Whether the peer's own forwarding headers count.
    pub trusted: bool,
    /// Whether the client's connection is encrypted.
    pub secure: bool,
    /// The host that the client asked for.
    pub host: &'a str,
    /// The protocol that the client speaks.
    pub version: Version,
}

/// Says whom the request is from: `X-Forwarded-For`, `-Proto`, `-Host`, `Forwarded`, `Via`. A trusted peer's lists are
/// continued, a stranger's replaced.
pub fn forward(headers: &mut HeaderMap, by: &Forwarding<'_>) {
    let proto = if by.secure { "https" } else { "http" };
    let mut text = String::with_capacity(64);
    if !by.trusted {
        for name in [X_FORWARDED_FOR, X_FORWARDED_PROTO, X_FORWARDED_HOST, FORWARDED] {
            headers.remove(name);
        }
    }
    let peer = by.peer.to_canonical();
    // Writing to a `String` cannot fail.
    let _ = write!(text, "{peer}");
    continue_list(headers, X_FORWARDED_FOR, &text);
    if !headers.contains_key(X_FORWARDED_PROTO) {
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(proto));
    }
    if !headers.contains_key(X_FORWARDED_HOST)
        && let Ok(host) = HeaderValue::from_str(by.host)
        && !by.host.is_empty()
    {
        headers.insert(X_FORWARDED_HOST, host);
    }
    text.clear();
    let _ = match peer {
        IpAddr::V4(peer) => write!(text, "for={peer}"),
        IpAddr::V6(peer) => write!(text, "for=\"[{peer}]\""),
    };
    if !by.host.is_empty() {
        let quote = if by.host.contains([':', '%', '~']) { "\"" } else { "" };
        let _ = write!(text, ";host={quote}{}{quote}", by.host);
    }
    let _ = write!(text, ";proto={proto}");
    continue_list(headers, FORWARDED, &text);
    via(headers, by.version);
}

/// Appends our own hop to `Via`.
pub fn via(headers: &mut HeaderMap, version: Version) {
    let hop = match version {
        Version::HTTP_10 => "1.0 weir",
        Version::HTTP_2 => "2 weir",
        _ => "1.1 weir",
    };
    if headers.contains_key(VIA) {
        continue_list(headers, VIA, hop);
    } else {
        headers.insert(VIA, HeaderValue::from_static(hop));
    }
}

/// Appends `element` to the list in `name`, as one field.
fn continue_list(headers: &mut HeaderMap, name: HeaderName, element: &str) {
    let joined = if headers.contains_key(&name) {
        let mut joined = Vec::new();
        for value in headers.get_all(&name) {
            joined.extend_from_slice(value.as_bytes());
            joined.extend_from_slice(b", ");
        }
        joined.extend_from_slice(element.as_bytes());
        HeaderValue::from_bytes(&joined)
    } else {
        HeaderValue::from_str(element)
    };
    if let Ok(value) = joined {
        headers.insert(name, value);
    }
}

/// The request's id: a trusted peer's, where it has a plain one, else `random` in hexadecimal.
pub fn request_id(headers: &mut HeaderMap, trusted: bool, random: u128) -> HeaderValue {
    let plain = |value: &&HeaderValue| {
        (1..=MAX_REQUEST_ID).contains(&value.len()) && value.as_bytes().iter().all(u8::is_ascii_graphic)
    };
    if trusted && let Some(given) = headers.get(X_REQUEST_ID).filter(plain) {
        let given = given.clone();
        headers.insert(X_REQUEST_ID, given.clone());
        return given;
    }
    // By hand, for this is done for each request and formatting a u128 is slow.
    let mut digits = [0; 32];
    for (index, pair) in digits.chunks_exact_mut(2).enumerate() {
        let byte = usize::from(random.to_be_bytes()[index]);
        pair.copy_from_slice(&[HEX[byte >> 4], HEX[byte & 15]]);
    }
    let made = HeaderValue::from_bytes(&digits).unwrap_or(HeaderValue::from_static("0"));
    headers.insert(X_REQUEST_ID, made.clone());
    made
}

/// Whether the client waits to be asked for its body. HTTP/1.0 knows no 100: there the expectation goes (RFC 9110
/// §10.1.1).
pub fn expects_to_be_asked(head: &mut request::Parts) -> bool {
    let Some(expected) = head.headers.get(EXPECT) else { return false };
    if head.version == Version::HTTP_10 {
        head.headers.remove(EXPECT);
        return false;
    }
    expected.as_bytes().eq_ignore_ascii_case(b"100-continue")
}

/// Removes what is for us alone: overrides, on whatever route. Other cookies stay, in one field (RFC 9113 §8.2.3 wants
/// the crumbs of HTTP/2 joined, and an upstream that takes the last of two fields would see another user than we do).
pub fn strip_overrides(headers: &mut HeaderMap, routing: &RoutingHeaders) {
    for name in routing.override_headers() {
        headers.remove(name);
    }
    let gone = routing.override_cookies();
    let is_gone = |pair: &[u8]| {
        let end = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
        gone.iter().any(|name| pair[..end].trim_ascii() == name.as_bytes())
    };
    let cookies = || {
        let fields = headers.get_all(COOKIE).iter();
        fields.flat_map(|field| field.as_bytes().split(|byte| *byte == b';')).map(<[u8]>::trim_ascii)
    };
    let is_one_field = headers.get_all(COOKIE).iter().nth(1).is_none();
    if is_one_field && (gone.is_empty() || !cookies().any(is_gone)) {
        return;
    }
    let kept: Vec<&[u8]> = cookies().filter(|pair| !pair.is_empty() && !is_gone(pair)).collect();
    match HeaderValue::from_bytes(&kept.join(&b"; "[..])) {
        Ok(joined) if !joined.is_empty() => headers.insert(COOKIE, joined),
        _ => headers.remove(COOKIE),
    };
}

/// Whether the client's way to us is encrypted: `secure` says it of the peer's connection, and a peer that is trusted
/// to forward says it of the client's (`X-Forwarded-Proto`, else `Forwarded`).
pub fn is_secure(headers: &HeaderMap, trusted: bool, secure: bool) -> bool {
    if !trusted {
        return secure;
    }
    let forwarded = || elements(headers, &FORWARDED).next().and_then(|element| parameter(element, "proto"));
    // Of a chain the first is the client's own connection.
    let said = elements(headers, &X_FORWARDED_PROTO).next().or_else(forwarded);
    said.map_or(secure, |proto| proto.eq_ignore_ascii_case("https"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::split::OverridePlace;

    fn map(rows: &[(&'static str, &'static str)]) -> HeaderMap {
        rows.iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    fn list(headers: &HeaderMap) -> Vec<(String, String)> {
        let mut list: Vec<_> = headers
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect();
        list.sort();
        list
    }

    #[test]
    fn hop_by_hop_headers_and_those_that_connection_names_are_removed() {
        let mut headers = map(&[
            ("connection", "keep-alive, X-Hop"),
            ("connection", "host, content-length"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("te", "gzip, trailers"),
            ("x-hop", "1"),
            ("x-end", "2"),
            ("host", "a"),
            ("content-length", "3"),
            ("proxy-authorization", "Basic x"),
        ]);
        strip_hop_by_hop(&mut headers);
        let expected = [("content-length", "3"), ("host", "a"), ("te", "trailers"), ("x-end", "2")];
        assert_eq!(list(&headers), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn stranger_loses_identities_and_nobody_keeps_aliases_or_our_header() {
        let routing = RoutingHeaders::new(
            [HeaderName::from_static("x-tenant-id")].into_iter(),
            [HeaderName::from_static("x-weir-variant")].into_iter(),
            std::iter::empty(),
        );
        let sent = [
            ("x-tenant-id", "a"),
            ("x_tenant_id", "b"),
            ("x.tenant.id", "c"),
            ("x-weir-variant", "canary"),
            ("x_weir_variant", "canary"),
            ("x_forwarded_for", "6.6.6.6"),
            ("x_other", "d"),
        ];
        for (trusted, expected) in [(true, &["x-tenant-id", "x_other"][..]), (false, &["x_other"][..])] {
            let mut headers = map(&sent);
            strip_identities(&mut headers, &routing, trusted);
            let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
            names.sort_unstable();
            assert_eq!(names, expected, "trusted: {trusted}");
        }
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
        headers.append(X_FORWARDED_FOR, HeaderValue::from_bytes(b"\xff").unwrap());
        let found = client_ip(&headers, "10.0.0.1".parse().unwrap(), Some(&trust));
        assert_eq!(found, "10.0.0.1".parse::<IpAddr>().unwrap(), "what is no text ends what is believed");
        let found = client_ip(&map(&[("x-forwarded-for", "1.1.1.1")]), "10.0.0.1".parse().unwrap(), None);
        assert_eq!(found, "10.0.0.1".parse::<IpAddr>().unwrap(), "without trust nobody forwards");
    }

    #[test]
    fn forwarding_headers_are_continued_for_a_trusted_peer_and_replaced_for_a_stranger() {
        let sent = [
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "shop"),
            ("forwarded", "for=1.1.1.1"),
            ("via", "1.1 edge"),
        ];
        let by = |trusted| Forwarding {
            peer: "2001:db8::1".parse().unwrap(),
            trusted,
            secure: false,
            host: "cart:8080",
            version: Version::HTTP_2,
        };
        let rows = [
            (true, "1.1.1.1, 2001:db8::1", "https", "shop", "for=1.1.1.1, "),
            (false, "2001:db8::1", "http", "cart:8080", ""),
        ];
        for (trusted, chain, proto, host, before) in rows {
            let mut headers = map(&sent);
            forward(&mut headers, &by(trusted));
            assert_eq!(headers[X_FORWARDED_FOR], chain);
            assert_eq!(headers[X_FORWARDED_PROTO], proto);
            assert_eq!(headers[X_FORWARDED_HOST], host);
            let ours = format!("{before}for=\"[2001:db8::1]\";host=\"cart:8080\";proto=http");
            assert_eq!(headers[FORWARDED], ours);
            assert_eq!(headers[VIA], "1.1 edge, 2 weir");
        }
    }

    #[test]
    fn request_id_of_a_trusted_peer_is_kept_when_it_is_plain() {
        let rows = [("abc-1", true, true), ("abc-1", false, false), ("a b", true, false), ("", true, false)];
        for (given, trusted, kept) in rows {
            let mut headers = map(&[("x-request-id", given)]);
            let id = request_id(&mut headers, trusted, 7);
            assert_eq!(id == given, kept, "{given:?} {trusted}");
            assert_eq!(headers[X_REQUEST_ID], id);
        }
    }

    #[test]
    fn override_is_removed_and_the_other_cookies_stay_in_one_field() {
        let rows = [
            (&["a=1; force=x; b=2"][..], Some("a=1; b=2")),
            (&["force=x"], None),
            (&["force"], None),
            (&["a=1", "force=x", "b=2"], Some("a=1; b=2")),
            (&["a=1;b=2", "c=3"], Some("a=1; b=2; c=3")),
            (&["forced=1;  b=2 ;"], Some("forced=1;  b=2 ;")),
        ];
        let places = [OverridePlace::Cookie("force".into()), OverridePlace::Header(X_REQUEST_ID)];
        let routing = RoutingHeaders::new(std::iter::empty(), std::iter::empty(), places.iter());
        for (sent, expected) in rows {
            let mut headers = map(&[("x-request-id", "weir1.x.y")]);
            for field in sent {
                headers.append("cookie", HeaderValue::from_static(field));
            }
            strip_overrides(&mut headers, &routing);
            let left: Vec<_> = headers.iter().map(|(_, value)| value).collect();
            assert_eq!(left, expected.as_slice(), "{sent:?}");
        }
    }

    #[test]
    fn client_is_secure_when_its_connection_is_or_a_trusted_peer_says_so() {
        let rows: &[(Headers, bool, bool, bool)] = &[
            (&[], true, false, false),
            (&[], true, true, true),
            (&[("x-forwarded-proto", "https")], true, false, true),
            (&[("x-forwarded-proto", "HTTPS, http")], true, false, true),
            (&[("x-forwarded-proto", "http, https")], true, true, false),
            (&[("x-forwarded-proto", "https")], false, false, false),
            (&[("x-forwarded-proto", "http")], false, true, true),
            (&[("forwarded", "for=a;Proto=\"https\", for=b;proto=http")], true, false, true),
            (&[("forwarded", "for=a")], true, true, true),
        ];
        for (headers, trusted, secure, expected) in rows {
            assert_eq!(
                is_secure(&map(headers), *trusted, *secure),
                *expected,
                "{headers:?} {trusted} {secure}"
            );
        }
    }
}
