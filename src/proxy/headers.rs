//! Headers on their way through: what is between two hops stays there, what only we may say is said by us, and
//! strangers' identities are removed.

use http::{HeaderName, Version};

use super::identity::Identity;
use super::peer::Peer;
use super::underscores;
use crate::config::model::Underscores;
use crate::state::RoutingHeaders;
use crate::wire::forwarded::{elements, parameter};
use crate::wire::{Fields, Known, Name, RequestHead};

const HEX: &[u8; 16] = b"0123456789abcdef";

/// The longest request id that is taken over from a trusted peer.
const MAX_REQUEST_ID: usize = 128;

/// What is between two hops, whatever `Connection` says (RFC 9110 §7.6.1).
const HOP_BY_HOP: [Known; 7] = [
    Known::Connection,
    Known::KeepAlive,
    Known::ProxyConnection,
    Known::TransferEncoding,
    Known::Upgrade,
    Known::ProxyAuthenticate,
    Known::ProxyAuthorization,
];

/// What we say of the client to the upstream, or a trusted peer does.
const FORWARDING: [Known; 4] =
    [Known::XForwardedFor, Known::XForwardedProto, Known::XForwardedHost, Known::Forwarded];

/// What belongs into a head alone (RFC 9110 §6.5.1).
const OF_A_HEAD: [Known; 10] = [
    Known::Te,
    Known::Host,
    Known::Expect,
    Known::Trailer,
    Known::ContentLength,
    Known::Authorization,
    Known::Cookie,
    Known::SetCookie,
    Known::Forwarded,
    Known::Via,
];

fn remove_all<'a, N: Into<Name<'a>>>(fields: &mut Fields, names: impl IntoIterator<Item = N>) {
    for name in names {
        fields.remove(name);
    }
}

/// Removes what is between two hops: the fixed set, and whatever `Connection` names (RFC 9110 §7.6.1). `te: trailers`
/// stays, for it is what lets trailers through; `Host` and the length cannot be named away.
pub fn strip_hop_by_hop(fields: &mut Fields) {
    if fields.contains(Known::Connection) {
        // Mostly it names nothing but what goes anyway, or is not there.
        let named: Vec<String> = fields
            .all(Known::Connection)
            .flat_map(|value| value.split(|byte| *byte == b','))
            .filter_map(|token| std::str::from_utf8(token.trim_ascii()).ok())
            .filter(|name| match Name::from(*name) {
                Name::Known(Known::Host | Known::ContentLength | Known::Te) => false,
                Name::Known(known) => fields.contains(known) && !HOP_BY_HOP.contains(&known),
                other @ Name::Other(_) => fields.contains(other),
            })
            .map(str::to_owned)
            .collect();
        remove_all(fields, named.iter().map(String::as_str));
    }
    if fields.contains(Known::Te) {
        let is_trailers = |coding: &[u8]| coding.trim_ascii().eq_ignore_ascii_case(b"trailers");
        let takes_trailers =
            fields.all(Known::Te).any(|value| value.split(|byte| *byte == b',').any(is_trailers));
        fields.remove(Known::Te);
        if takes_trailers {
            fields.append(Known::Te, b"trailers");
        }
    }
    remove_all(fields, HOP_BY_HOP);
}

/// Removes identities that do not count: aliases of routing headers and what only we may set from everybody, the
/// routing headers themselves from strangers.
pub fn strip_identities(fields: &mut Fields, routing: &RoutingHeaders, trusted: bool) {
    fields.remove_others(|name| routing.is_alias(name));
    remove_all(fields, routing.known_aliases().iter().copied());
    remove_all(fields, routing.ours());
    if !trusted {
        remove_all(fields, routing.named());
    }
}

/// Removes from trailers what belongs into a head alone (RFC 9110 §6.5.1), and `names`: what was settled by the head is
/// not to be said again behind it.
pub fn strip_trailers(trailers: &mut Fields, names: &[HeaderName]) {
    strip_hop_by_hop(trailers);
    remove_all(trailers, OF_A_HEAD);
    remove_all(trailers, names);
}

/// The same for a request, and what the listener says of `underscores`: identities count in no trailer, whoever sends
/// it.
pub fn strip_request_trailers(trailers: &mut Fields, routing: &RoutingHeaders, underscores: Underscores) {
    underscores::strip(trailers, underscores);
    strip_identities(trailers, routing, false);
    strip_trailers(trailers, routing.override_headers());
    remove_all(trailers, FORWARDING);
    remove_all(trailers, [Known::XRequestId, Known::XForwardedClientCert]);
}

/// What we say of the client to the upstream.
#[derive(Debug, Clone, Copy)]
pub struct Forwarding<'a> {
    /// Who is connected to us.
    pub peer: &'a Peer,
    /// Whether the peer's own forwarding headers count.
    pub trusted: bool,
    /// Whether the client's connection is encrypted.
    pub secure: bool,
    /// The host that the client asked for.
    pub host: &'a str,
    /// The protocol that the client speaks.
    pub version: Version,
}

/// Says whose certificate the request came with: ours is the word where it is `identity` that is connected, whatever
/// was sent; else that of a peer that is trusted to forward, and of nobody.
pub fn client_certificate(fields: &mut Fields, identity: Option<&Identity>, trusted: bool) {
    if let Some(identity) = identity {
        fields.set(Known::XForwardedClientCert, identity.element().as_bytes());
    } else if !trusted {
        fields.remove(Known::XForwardedClientCert);
    }
}

/// Says whom the request is from: `X-Forwarded-For`, `-Proto`, `-Host`, `Forwarded`, `Via`. A trusted peer's lists are
/// continued, a stranger's replaced.
pub fn forward(fields: &mut Fields, by: &Forwarding<'_>) {
    let proto = if by.secure { "https" } else { "http" };
    if !by.trusted {
        remove_all(fields, FORWARDING);
    }
    continue_list(fields, Known::XForwardedFor, |text| text.extend_from_slice(by.peer.address().as_bytes()));
    if !fields.contains(Known::XForwardedProto) {
        fields.append(Known::XForwardedProto, proto.as_bytes());
    }
    if !by.host.is_empty() && !fields.contains(Known::XForwardedHost) {
        fields.append(Known::XForwardedHost, by.host.as_bytes());
    }
    continue_list(fields, Known::Forwarded, |text| {
        text.extend_from_slice(by.peer.element().as_bytes());
        if !by.host.is_empty() {
            let quote = if by.host.contains([':', '%', '~']) { "\"" } else { "" };
            for part in [";host=", quote, by.host, quote] {
                text.extend_from_slice(part.as_bytes());
            }
        }
        text.extend_from_slice(b";proto=");
        text.extend_from_slice(proto.as_bytes());
    });
    via(fields, by.version);
}

/// Appends our own hop to `Via`.
pub fn via(fields: &mut Fields, version: Version) {
    let hop: &[u8] = match version {
        Version::HTTP_10 => b"1.0 weir",
        Version::HTTP_2 => b"2 weir",
        Version::HTTP_3 => b"3 weir",
        _ => b"1.1 weir",
    };
    continue_list(fields, Known::Via, |text| text.extend_from_slice(hop));
}

/// Appends the element that `write` writes to the list in `name`, as one field.
fn continue_list(fields: &mut Fields, name: Known, write: impl FnOnce(&mut Vec<u8>)) {
    if !fields.contains(name) {
        return fields.append_with(name, write);
    }
    let mut joined = Vec::with_capacity(128);
    for value in fields.all(name) {
        joined.extend_from_slice(value);
        joined.extend_from_slice(b", ");
    }
    write(&mut joined);
    fields.set(name, &joined);
}

/// Gives the request its id: a trusted peer's, where it has a plain one, else `random` in hexadecimal.
pub fn request_id(fields: &mut Fields, trusted: bool, random: u128) {
    if trusted && let Some(id) = fields.get(Known::XRequestId).filter(|id| is_plain(id)) {
        if fields.all(Known::XRequestId).nth(1).is_some() {
            let first = id.to_vec();
            fields.set(Known::XRequestId, &first);
        }
        return;
    }
    // By hand, for this is done for each request and formatting a u128 is slow.
    let mut digits = [0; 32];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(random.to_be_bytes()) {
        pair.copy_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
    }
    fields.set(Known::XRequestId, &digits);
}

fn is_plain(id: &[u8]) -> bool {
    (1..=MAX_REQUEST_ID).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic)
}

/// Whether the client waits to be asked for its body. HTTP/1.0 knows no 100: there the expectation goes (RFC 9110
/// §10.1.1).
pub fn expects_to_be_asked(head: &mut RequestHead) -> bool {
    let Some(expected) = head.fields.get(Known::Expect) else { return false };
    if head.version == Version::HTTP_10 {
        head.fields.remove(Known::Expect);
        return false;
    }
    expected.eq_ignore_ascii_case(b"100-continue")
}

/// Removes what is for us alone: overrides, on whatever route. Other cookies stay, in one field (RFC 9113 §8.2.3 wants
/// the crumbs of HTTP/2 joined, and an upstream that takes the last of two fields would see another user than we do).
pub fn strip_overrides(fields: &mut Fields, routing: &RoutingHeaders) {
    remove_all(fields, routing.override_headers());
    if !fields.contains(Known::Cookie) {
        return;
    }
    let gone = routing.override_cookies();
    let is_gone = |pair: &[u8]| {
        let end = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
        gone.iter().any(|name| pair[..end].trim_ascii() == name.as_bytes())
    };
    let cookies = || {
        let pairs = fields.all(Known::Cookie).flat_map(|field| field.split(|byte| *byte == b';'));
        pairs.map(<[u8]>::trim_ascii)
    };
    let is_one_field = fields.all(Known::Cookie).nth(1).is_none();
    if is_one_field && (gone.is_empty() || !cookies().any(is_gone)) {
        return;
    }
    let kept: Vec<&[u8]> = cookies().filter(|pair| !pair.is_empty() && !is_gone(pair)).collect();
    let joined = kept.join(&b"; "[..]);
    fields.remove(Known::Cookie);
    if !joined.is_empty() {
        fields.append(Known::Cookie, &joined);
    }
}

/// Whether the client's way to us is encrypted: `secure` says it of the peer's connection, and a peer that is trusted
/// to forward says it of the client's (`X-Forwarded-Proto`, else `Forwarded`).
pub fn is_secure(fields: &Fields, trusted: bool, secure: bool) -> bool {
    if !trusted {
        return secure;
    }
    let forwarded =
        || elements(fields, Known::Forwarded).next().and_then(|element| parameter(element, "proto"));
    // Of a chain the first is the client's own connection.
    let said = elements(fields, Known::XForwardedProto).next().or_else(forwarded);
    said.map_or(secure, |proto| proto.eq_ignore_ascii_case("https"))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;
    use crate::logic::split::OverridePlace;

    /// Names that are known and names that are not, in whatever case.
    const NAMES: &[&str] =
        &["Host", "content-length", "TE", "Keep-Alive", "Upgrade", "close", "Cookie", "x-a", "X-A", "X-B"];

    type Headers<'a> = &'a [(&'static str, &'static str)];

    fn map(rows: Headers<'_>) -> Fields {
        rows.iter().copied().collect()
    }

    fn text(value: Option<&[u8]>) -> &str {
        std::str::from_utf8(value.unwrap_or_default()).unwrap()
    }

    fn list(fields: &Fields) -> Vec<(&str, &str)> {
        let mut list: Vec<_> =
            fields.iter().map(|(name, value)| (text(Some(name)), text(Some(value)))).collect();
        list.sort_unstable();
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
        assert_eq!(list(&headers), expected);
    }

    proptest! {
        #[test]
        fn what_connection_names_goes_and_the_rest_stays_in_its_order(
            rows in vec((select(NAMES), "[ -~]{0,8}"), 0..12),
            named in vec(vec(select(NAMES), 0..4), 0..3),
        ) {
            let lists: Vec<String> = named.iter().map(|names| names.join(" ,\t")).collect();
            let sent = rows.iter().map(|(name, value)| (*name, value));
            let mut fields: Fields = sent.chain(lists.iter().map(|list| ("Connection", list))).collect();
            strip_hop_by_hop(&mut fields);
            let is_kept = |name: &str| match Known::of(name.as_bytes()) {
                Some(Known::Host | Known::ContentLength) => true,
                Some(known) if HOP_BY_HOP.contains(&known) || known == Known::Te => false,
                _ => !named.iter().flatten().any(|one| one.eq_ignore_ascii_case(name)),
            };
            let kept: Vec<_> = rows.iter().filter(|(name, _)| is_kept(name)).collect();
            let left: Vec<_> = fields.iter().collect();
            prop_assert_eq!(left.len(), kept.len());
            for ((name, value), (sent_name, sent_value)) in left.into_iter().zip(kept) {
                prop_assert!(name.eq_ignore_ascii_case(sent_name.as_bytes()));
                prop_assert_eq!(value, sent_value.as_bytes());
            }
        }
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
            ("X_Weir_Variant", "canary"),
            ("x_forwarded_for", "6.6.6.6"),
            ("x_other", "d"),
        ];
        for (trusted, expected) in [(true, &["x-tenant-id", "x_other"][..]), (false, &["x_other"][..])] {
            let mut headers = map(&sent);
            strip_identities(&mut headers, &routing, trusted);
            let names: Vec<_> = list(&headers).into_iter().map(|(name, _)| name).collect();
            assert_eq!(names, expected, "trusted: {trusted}");
        }
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
        let peer = Peer::new("2001:db8::1".parse().unwrap());
        let by = |trusted| Forwarding {
            peer: &peer,
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
            assert_eq!(headers.len(), sent.len());
            assert_eq!(text(headers.get(Known::XForwardedFor)), chain);
            assert_eq!(text(headers.get(Known::XForwardedProto)), proto);
            assert_eq!(text(headers.get(Known::XForwardedHost)), host);
            let ours = format!("{before}for=\"[2001:db8::1]\";host=\"cart:8080\";proto=http");
            assert_eq!(text(headers.get(Known::Forwarded)), ours);
            assert_eq!(text(headers.get(Known::Via)), "1.1 edge, 2 weir");
        }
    }

    #[test]
    fn request_id_of_a_trusted_peer_is_kept_when_it_is_plain() {
        let made = "00000000000000000000000000000007";
        let rows = [("abc-1", true, "abc-1"), ("abc-1", false, made), ("a b", true, made), ("", true, made)];
        for (given, trusted, expected) in rows {
            let mut headers = map(&[("x-request-id", given), ("X-Request-Id", "second")]);
            request_id(&mut headers, trusted, 7);
            let ids: Vec<_> = headers.all(Known::XRequestId).collect();
            assert_eq!(ids, [expected.as_bytes()], "{given:?} {trusted}");
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
        let places = [
            OverridePlace::Cookie("force".into()),
            OverridePlace::Header(HeaderName::from_static("x-request-id")),
        ];
        let routing = RoutingHeaders::new(std::iter::empty(), std::iter::empty(), places.iter());
        for (sent, expected) in rows {
            let mut headers = map(&[("x-request-id", "weir1.x.y")]);
            for field in sent {
                headers.append("cookie", field.as_bytes());
            }
            strip_overrides(&mut headers, &routing);
            let left: Vec<_> = headers.iter().map(|(_, value)| text(Some(value))).collect();
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
