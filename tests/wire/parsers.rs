//! What must hold of the parsers behind the framing, whatever they are given: paths, targets and hosts, cookies and
//! other sources, who was forwarded, tokens, frames, certificates. The fuzz targets are built from this file too; each
//! check takes any bytes.

use std::net::IpAddr;

use http::{HeaderName, Method};

use crate::logic::condition::{ClientCertificate, RequestView, Source};
use crate::logic::split::token::{Claim, Key, sign, verify};
use crate::proxy::authority::Authority;
use crate::types::IpSet;
use crate::wire::path::{DotSegments, HiddenSlashes, PathRules, Slashes, dot_segments};
use crate::wire::{
    Certificate, Fields, Known, RequestHead, Scanner, StreamFrames, forwarded, grpc, websocket,
};

/// The rules that `number` stands for: each combination has some.
fn rules(number: u8) -> PathRules {
    PathRules {
        dot_segments: [DotSegments::Resolve, DotSegments::Refuse, DotSegments::Keep][usize::from(number % 3)],
        slashes: [Slashes::Keep, Slashes::Merge, Slashes::Refuse][usize::from(number / 3 % 3)],
        hidden_slashes: [HiddenSlashes::Keep, HiddenSlashes::Decode, HiddenSlashes::Refuse]
            [usize::from(number / 9 % 3)],
        normalizes_escapes: (number / 27).is_multiple_of(2),
        refuses_ambiguous: (number / 54).is_multiple_of(2),
    }
}

/// Checks what becomes of a path, by the rules that the first byte chooses: the rest is the target and, behind a line
/// end, the `Host` of a request.
///
/// # Panics
/// Where something does not hold.
pub fn check_target(bytes: &[u8]) {
    let Some((first, rest)) = bytes.split_first() else { return };
    let mut lines = rest.splitn(2, |byte| *byte == b'\n');
    let (target, host) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    if let Ok(host) = std::str::from_utf8(host) {
        check_authority(host);
    }
    let line = [b"GET ", target, b" HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
    let Ok(Some((mut head, length))) = RequestHead::parse(&line) else { return };
    if length != line.len() {
        return;
    }
    if let Some(authority) = head.authority() {
        check_authority(authority);
    }
    let (path, query) = (head.path().to_owned(), head.query().map(str::to_owned));
    let rules = rules(*first);
    let Ok(settled) = rules.settled(&path) else {
        assert_ne!(rules, PathRules::AS_SENT, "{path:?}");
        return;
    };
    if !path.starts_with('/') {
        assert_eq!(settled, path);
        return;
    }
    assert!(settled.starts_with('/'), "{path:?} to {settled:?}");
    assert_eq!(rules.settled(&settled).as_deref(), Ok(&*settled), "{path:?} by {rules:?}, again");
    assert!(rules.dot_segments == DotSegments::Keep || dot_segments(&settled) == 0, "{settled:?}");
    assert!(rules.slashes == Slashes::Keep || !settled.contains("//"), "{settled:?}");
    if rules.refuses_ambiguous && rules.dot_segments == DotSegments::Resolve {
        // Whoever decodes once, and takes a backslash for a slash, sees no dots either.
        let decoded = percent_encoding::percent_decode_str(&settled).collect::<Vec<_>>();
        let mut segments = decoded.split(|byte| matches!(byte, b'/' | b'\\'));
        assert!(!segments.any(|segment| matches!(segment, b"." | b"..")), "{path:?} to {settled:?}");
        assert!(!decoded.contains(&0), "{path:?}");
    }
    // What is written is read again as the same, and HTTP/2 can say it.
    head.set_path(&settled);
    assert_eq!((head.path(), head.query()), (&*settled, query.as_deref()));
    let mut written = Vec::new();
    head.write(head.path_and_query(), &mut written);
    written.extend_from_slice(b"\r\n");
    let (again, _) = RequestHead::parse(&written).unwrap().unwrap();
    assert_eq!(again.path_and_query(), head.path_and_query(), "{path:?}");
    let http2 = head.path_and_query().parse::<http::uri::PathAndQuery>();
    assert_eq!(http2.unwrap().as_str(), head.path_and_query(), "{path:?}");
}

fn check_authority(text: &str) {
    let Ok(authority) = Authority::parse(text) else { return };
    let (host, whole) = (authority.host(), authority.as_str());
    assert!(!host.is_empty() && host == host.to_ascii_lowercase(), "{text:?}");
    assert!(!whole.contains(['@', '/', '\\', '?', '#', ' ', ',']), "{text:?} as {whole:?}");
    assert_eq!(Authority::parse(whole).as_ref(), Ok(&authority), "{text:?}");
    let is_address = host.starts_with('[');
    assert_eq!(host.contains(':'), is_address, "{text:?}");
    let port =
        authority.port().map(|port| format!(":{}", &whole[host.len() + 1..]).len() - 1 > 0 && port > 0);
    assert_eq!(authority.port().is_some(), whole.len() > host.len(), "{text:?} {port:?}");
}

/// A request that has what a source reads.
struct Asked<'a> {
    path: &'a str,
    query: Option<&'a str>,
    cookies: Vec<&'a [u8]>,
}

impl RequestView for Asked<'_> {
    fn method(&self) -> &Method {
        &Method::GET
    }

    fn host(&self) -> &'static str {
        ""
    }

    fn port(&self) -> Option<u16> {
        None
    }

    fn path(&self) -> &str {
        self.path
    }

    fn query(&self) -> Option<&str> {
        self.query
    }

    fn header<'a>(&'a self, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
        let is_cookie = *name == http::header::COOKIE;
        self.cookies.iter().copied().filter(move |_| is_cookie)
    }

    fn client_ip(&self) -> IpAddr {
        IpAddr::from([127, 0, 0, 1])
    }

    fn certificate(&self) -> Option<&ClientCertificate> {
        None
    }
}

/// Checks the sources that take a request apart: a name in the first line, the target in the second, and a `Cookie` field
/// in each further one.
///
/// # Panics
/// Where something does not hold.
pub fn check_sources(bytes: &[u8]) {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let mut text = || std::str::from_utf8(lines.next().unwrap_or_default());
    let (Ok(name), Ok(target)) = (text(), text()) else { return };
    let cookies: Vec<_> = lines.collect();
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let asked = Asked { path, query, cookies };
    if let Ok(source) = Source::parse(&format!("cookie:{name}")) {
        let expected = cookie(&asked.cookies, name);
        assert_eq!(source.value(&asked).as_deref(), expected, "cookie {name:?}");
        let key = source.read(&asked).unwrap();
        assert_eq!(key.as_deref(), expected.filter(|value| !value.is_empty()), "cookie {name:?}");
        // A cookie behind those that are there changes nothing where one of this name is among them.
        let more = format!("{name}=another");
        let cookies = [&asked.cookies[..], &[more.as_bytes()]].concat();
        let later = Asked { cookies, ..asked };
        assert_eq!(source.value(&later).as_deref(), expected.or(Some(b"another")), "cookie {name:?}");
    }
    let asked = Asked { path, query, cookies: Vec::new() };
    if let Ok(source) = Source::parse(&format!("query:{name}")) {
        let value = source.value(&asked).map(|value| String::from_utf8_lossy(&value).into_owned());
        let mut pairs = query.into_iter().flat_map(|query| query.split('&')).filter(|pair| !pair.is_empty());
        let found = pairs.find_map(|pair| {
            let (known, value) = form_urlencoded::parse(pair.as_bytes()).next()?;
            // What is no text is not the name of anything that can be written in a configuration.
            (known == name && !known.contains('\u{fffd}')).then(|| value.into_owned())
        });
        if !name.contains('\u{fffd}') {
            assert_eq!(value, found, "query {name:?}");
        }
    }
    for number in 1..4 {
        let source = Source::parse(&format!("path:{number}")).unwrap();
        let segment = path.strip_prefix('/').and_then(|path| path.split('/').nth(number - 1));
        let decoded =
            segment.map(|segment| percent_encoding::percent_decode_str(segment).collect::<Vec<_>>());
        assert_eq!(source.value(&asked).as_deref(), decoded.as_deref(), "path:{number}");
    }
}

/// The first cookie of a name, byte by byte.
fn cookie<'a>(fields: &[&'a [u8]], name: &str) -> Option<&'a [u8]> {
    let is_space = |byte: u8| byte == b' ' || byte == b'\t';
    for field in fields {
        let mut at = 0;
        while at <= field.len() {
            let end =
                field[at..].iter().position(|byte| *byte == b';').map_or(field.len(), |length| at + length);
            let pair = &field[at..end];
            at = end + 1;
            let Some(equals) = pair.iter().position(|byte| *byte == b'=') else { continue };
            let (mut known, mut value) = (&pair[..equals], &pair[equals + 1..]);
            for part in [&mut known, &mut value] {
                while part.first().is_some_and(|byte| is_space(*byte)) {
                    *part = &part[1..];
                }
                while part.last().is_some_and(|byte| is_space(*byte)) {
                    *part = &part[..part.len() - 1];
                }
            }
            if known == name.as_bytes() {
                return Some(value);
            }
        }
    }
    None
}

/// Checks who is taken for the client: each line is a field's value, of `Forwarded` where the first one begins with
/// `F`, else of `X-Forwarded-For`.
///
/// # Panics
/// Where something does not hold.
pub fn check_forwarded(bytes: &[u8]) {
    let is_standard = bytes.first() == Some(&b'F');
    let name = if is_standard { Known::Forwarded } else { Known::XForwardedFor };
    // What no field has is refused before.
    if bytes.iter().any(|byte| matches!(byte, b'\r' | b'\0')) {
        return;
    }
    let values: Vec<_> = bytes.strip_prefix(b"F").unwrap_or(bytes).split(|byte| *byte == b'\n').collect();
    let fields = |more: &[&[u8]]| {
        let mut fields = Fields::new();
        for value in values.iter().chain(more) {
            fields.append(name, value);
        }
        fields
    };
    let trusted = IpSet::new(vec![IpSet::parse_network("10.0.0.0/8").unwrap()]);
    let (peer, stranger) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([192, 0, 2, 1]));
    let said = fields(&[]);
    assert_eq!(forwarded::client_ip(&said, peer, None), peer, "nobody is trusted");
    assert_eq!(forwarded::client_ip(&said, stranger, Some(&trusted)), stranger, "a stranger's word");
    let client = forwarded::client_ip(&said, peer, Some(&trusted));
    // A client cannot say anything behind what the trusted peer says of it.
    let behind = |address: &str| if is_standard { format!("for={address}") } else { address.to_owned() };
    let told = fields(&[behind("198.51.100.7").as_bytes()]);
    let expected = IpAddr::from([198, 51, 100, 7]);
    assert_eq!(forwarded::client_ip(&told, peer, Some(&trusted)), expected, "{}", bytes.escape_ascii());
    // A trusted hop more changes nothing, but for one that said nothing that can be read.
    let hop = IpAddr::from([10, 9, 9, 9]);
    let told = fields(&[behind("10.9.9.9").as_bytes()]);
    let through = forwarded::client_ip(&told, peer, Some(&trusted));
    assert!(through == client || (through == hop && client == peer), "{through} for {client}");
    // What cannot be read ends it.
    let told = fields(&[b"\xff"]);
    assert_eq!(forwarded::client_ip(&told, peer, Some(&trusted)), peer);
}

/// Checks override tokens: the bytes as a token, and a claim made of them whose token is then damaged at a place that
/// they choose.
///
/// # Panics
/// Where something does not hold.
pub fn check_token(bytes: &[u8]) {
    let keys =
        [Key::new(b"the key of the fuzz target").unwrap(), Key::new(b"one that is rotated out").unwrap()];
    let strange = Key::new(b"a key that nobody has here").unwrap();
    let text = String::from_utf8_lossy(bytes);
    assert!(verify(&keys, &text, 0).is_err(), "forged: {text:?}");
    let mut words = text.split('\n');
    let mut word = || words.next().unwrap_or_default().to_owned();
    let expires =
        bytes.iter().take(8).fold(1, |sum: u64, byte| sum.wrapping_mul(257) + u64::from(*byte)) >> 1;
    let claim = Claim { split: word(), variant: word(), unit: word(), expires: expires.max(1) };
    let token = sign(&keys[bytes.len() % 2], &claim);
    assert!(
        token.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')),
        "{token}"
    );
    assert_eq!(verify(&keys, &token, claim.expires - 1).as_ref(), Ok(&claim));
    assert!(verify(&keys, &token, claim.expires).is_err(), "expired");
    assert!(verify(&[strange], &token, 0).is_err(), "of another key");
    let (at, by) =
        (bytes.iter().map(|byte| usize::from(*byte)).sum::<usize>() % token.len(), bytes.len() % 94);
    let mut damaged = token.clone().into_bytes();
    damaged[at] = b'!' + (damaged[at] - b'!' + 1 + u8::try_from(by).unwrap() % 93) % 94;
    let damaged = String::from_utf8(damaged).unwrap();
    assert_ne!(damaged, token);
    assert!(verify(&keys, &damaged, 0).is_err(), "{damaged} passes for {token}");
    assert!(verify(&keys, &token[..at], 0).is_err(), "cut at {at}");
    assert!(verify(&keys, &format!("{token}{}", &token[at..]), 0).is_err() || at == token.len());
}

/// Checks those that look for the ends of frames: the same however the bytes are cut, and as read in one go.
///
/// # Panics
/// Where something does not hold.
pub fn check_frames(bytes: &[u8]) {
    let Some((first, bytes)) = bytes.split_first() else { return };
    let step = usize::from(*first % 23) + 1;
    // HTTP/2.
    let mut at = 0;
    let mut expected = Vec::new();
    while let Some([high, middle, low, ..]) = bytes.get(at..at + 9) {
        let length = u32::from_be_bytes([0, *high, *middle, *low]);
        expected.push(length);
        at += 9 + usize::try_from(length).unwrap();
    }
    let mut kinds = [Vec::new(), Vec::new()];
    for (kinds, step) in kinds.iter_mut().zip([step, bytes.len().max(1)]) {
        let (mut scanner, mut lengths) = (Scanner::of_server(), Vec::new());
        for part in bytes.chunks(step) {
            scanner.scan(part, |head| {
                kinds.push(head.kind);
                lengths.push(head.length);
            });
        }
        assert_eq!(lengths, expected, "in parts of {step}");
    }
    assert_eq!(kinds[0], kinds[1]);
    // WebSocket.
    let ends = |step: usize| {
        let mut frames = websocket::Frames::default();
        let (mut at, mut ends) = (0, Vec::new());
        for part in bytes.chunks(step) {
            let mut rest = part;
            while !rest.is_empty() {
                let passed = frames.pass_frame(rest);
                assert!(passed > 0 && passed <= rest.len());
                rest = &rest[passed..];
                at += passed;
                if frames.is_between() {
                    ends.push(at);
                }
            }
        }
        ends
    };
    assert_eq!(ends(step), ends(bytes.len().max(1)), "in parts of {step}");
    assert_eq!(ends(step), websocket_ends(bytes));
    // HTTP/3: frames of a request.
    let passed = |step: usize| {
        let mut frames = StreamFrames::of_request(64);
        let result = bytes.chunks(step).try_for_each(|part| frames.pass(part));
        (result.is_ok(), result.is_ok() && frames.is_between())
    };
    assert_eq!(passed(step), passed(bytes.len().max(1)), "in parts of {step}");
    // A deadline of gRPC.
    if bytes.iter().any(|byte| matches!(byte, b'\r' | b'\n' | b'\0')) {
        return;
    }
    let mut fields = Fields::new();
    fields.append("grpc-timeout", bytes);
    if let Some(timeout) = grpc::timeout(&fields) {
        let text = std::str::from_utf8(bytes).unwrap();
        assert!((2..=9).contains(&text.len()) && text[..text.len() - 1].parse::<u32>().is_ok(), "{text:?}");
        assert!(timeout.as_secs() <= 99_999_999 * 3600, "{text:?}");
    }
}

/// Where WebSocket frames end.
fn websocket_ends(bytes: &[u8]) -> Vec<usize> {
    let (mut at, mut ends) = (0_usize, Vec::new());
    while let Some(&[_, second]) = bytes.get(at..at + 2) {
        let (wide, mask) = (
            match second & 0x7f {
                126 => 2,
                127 => 8,
                _ => 0,
            },
            if second & 0x80 == 0 { 0 } else { 4 },
        );
        let Some(length) = bytes.get(at + 2..at + 2 + wide) else { break };
        let length = match wide {
            0 => u64::from(second & 0x7f),
            _ => length.iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
        };
        let end = u64::try_from(at + 2 + wide + mask).unwrap().saturating_add(length);
        match usize::try_from(end) {
            Ok(end) if end <= bytes.len() => at = end,
            _ => break,
        }
        ends.push(at);
    }
    ends
}

/// Checks that what is read of a certificate can be shown and compared, and that nothing may stand behind it.
///
/// # Panics
/// Where something does not hold.
pub fn check_certificate(bytes: &[u8]) {
    let Ok(read) = Certificate::parse(bytes) else { return };
    assert!(!read.subject.contains('"') && !read.subject.contains(['\r', '\n', '\0']), "{:?}", read.subject);
    assert!(read.common_name.as_ref().is_none_or(|name| !name.contains(char::is_control)), "{read:?}");
    for name in &read.names {
        assert!(name.text().bytes().all(|byte| byte.is_ascii_graphic()), "{name:?}");
    }
    assert_eq!(Certificate::parse(bytes), Ok(read));
    assert!(Certificate::parse(&[bytes, b"\0"].concat()).is_err(), "something stands behind it");
    assert!(Certificate::parse(&bytes[..bytes.len() - 1]).is_err(), "its end is missing");
}
