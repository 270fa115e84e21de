//! Nearly valid messages, read by `wire` and by hyper.

use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::{oracle, reading};

/// A change of the bytes at some place.
#[derive(Debug, Clone)]
enum Change {
    Insert(Index, &'static [u8]),
    /// A line behind some other.
    Line(Index, &'static [u8]),
    Replace(Index, u8),
    Remove(Index),
    Repeat(Index, usize),
}

/// What parsers disagree about.
const TRICKS: &[&[u8]] = &[
    b"\r",
    b"\n",
    b"\r\n",
    b"\r\n\r\n",
    b"\0",
    b" ",
    b"\t",
    b"\x0b",
    b"\x0c",
    b":",
    b";",
    b",",
    b"+",
    b"-",
    b"0",
    b"0x",
    b"chunked",
    b", chunked",
    b"\r\n ",
    b"HTTP/1.1",
    b"#",
    b"?",
    b"@",
    b"\"",
    b"\xff",
    b"\x7f",
    b"\r\nContent-Length: 3",
    b"\r\nTransfer-Encoding: chunked",
    b"0\r\n\r\n",
    b"1",
    b"f",
    b"/",
    b"*",
];

/// Lines that change where a body ends, or are to look so.
const LINES: &[&[u8]] = &[
    b"Content-Length: 0",
    b"Content-Length: 5",
    b"content-length:10",
    b"Content-Length: +5",
    b"Content-Length: 5, 5",
    b"Content-Length: 0x5",
    b"Content-Length: 18446744073709551615",
    b"Content-Length : 5",
    b"Transfer-Encoding: chunked",
    b"TRANSFER-ENCODING:\tCHUNKED",
    b"Transfer-Encoding: identity",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: chunked, identity",
    b"Transfer-Encoding: \x0bchunked",
    b"Transfer-Encoding:",
    b"Transfer-Encoding : chunked",
    b" Transfer-Encoding: chunked",
    b"Transfer-Encoding:\r\n chunked",
    b"x-a: b\nTransfer-Encoding: chunked",
    b"x-a: b\rContent-Length: 5",
    b"Connection: close",
    b"Upgrade: h2c",
    b"Expect: 100-continue",
    b"5",
    b"5;a=b",
    b"0",
    b"",
];

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        3 => (any::<Index>(), select(TRICKS)).prop_map(|(at, trick)| Change::Insert(at, trick)),
        3 => (any::<Index>(), select(LINES)).prop_map(|(at, line)| Change::Line(at, line)),
        1 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Change::Replace(at, byte)),
        1 => any::<Index>().prop_map(Change::Remove),
        1 => (any::<Index>(), 1_usize..24).prop_map(|(at, length)| Change::Repeat(at, length)),
    ]
}

fn changed(mut bytes: Vec<u8>, changes: &[Change]) -> Vec<u8> {
    for change in changes {
        if bytes.is_empty() {
            break;
        }
        match change {
            Change::Insert(at, trick) => {
                let at = at.index(bytes.len() + 1);
                bytes.splice(at..at, trick.iter().copied());
            }
            Change::Line(at, line) => {
                let starts = bytes.windows(2).enumerate().filter(|(_, pair)| pair == b"\r\n");
                let starts: Vec<_> = starts.map(|(at, _)| at + 2).collect();
                if !starts.is_empty() {
                    let at = starts[at.index(starts.len())];
                    bytes.splice(at..at, [line, &b"\r\n"[..]].concat());
                }
            }
            Change::Replace(at, byte) => {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            Change::Remove(at) => {
                let at = at.index(bytes.len());
                bytes.remove(at);
            }
            Change::Repeat(at, length) => {
                let at = at.index(bytes.len());
                let part = bytes[at..(at + length).min(bytes.len())].to_vec();
                bytes.splice(at..at, part);
            }
        }
    }
    bytes
}

/// Fields that say nothing of a body.
fn fields() -> impl Strategy<Value = String> {
    let name =
        select(&["Accept", "x-a", "Cookie", "Connection", "Expect", "User-Agent", "TE", "!#$%&'*+-.^_`|~0"]);
    let value =
        select(&["", "a", "keep-alive", "a, b", "100-continue", "  padded\t", "\u{e9}", "a:b;c=\"d\""]);
    let space = select(&["", " ", "\t", "  "]);
    let field = (name, space, value).prop_map(|(name, space, value)| format!("{name}:{space}{value}\r\n"));
    prop::collection::vec(field, 0..4).prop_map(|fields| fields.concat())
}

/// The end of a head, and a body.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let chunk = (
        prop::collection::vec(any::<u8>(), 1..20),
        select(&["", ";a", ";a=b", " ; a = \"b;\\\"\"", ";a;b=c"]),
        select(&["", "0", "000"]),
    )
        .prop_map(|(data, extension, zeros)| {
            [format!("{zeros}{:X}{extension}\r\n", data.len()).as_bytes(), &data, b"\r\n"].concat()
        });
    let trailers = select(&["", "x-a: b\r\n", "x-a:\r\nx-b: c\r\n", "Content-Length: 5\r\n"]);
    let chunked = (prop::collection::vec(chunk, 0..3), trailers).prop_map(|(chunks, trailers)| {
        let end = format!("0\r\n{trailers}\r\n");
        [&b"Transfer-Encoding: chunked\r\n\r\n"[..], &chunks.concat(), end.as_bytes()].concat()
    });
    let exact = (prop::collection::vec(any::<u8>(), 0..20), select(&["", "0", "00000000000000000000"]))
        .prop_map(|(data, zeros)| {
            [format!("Content-Length: {zeros}{}\r\n\r\n", data.len()).as_bytes(), &data].concat()
        });
    prop_oneof![Just(b"\r\n".to_vec()), exact, chunked]
}

fn request() -> impl Strategy<Value = Vec<u8>> {
    let method = select(&["GET", "POST", "HEAD", "OPTIONS", "PUT", "CONNECT", "get", "M-SEARCH", "!"]);
    let target = select(&[
        "/",
        "/a/b?c=d",
        "/?",
        "/a?b?c/d",
        "*",
        "http://a",
        "http://a:80/b",
        "https://a?b",
        "http://[::1]:8/",
        "a:80",
        "//a/b",
        "/%zz%",
        "/\u{e9}",
        "HTTP://A/",
        "[::1]:80",
        "http://a@b/",
        "ftp://a/",
        "http://a:/",
        "/{}|\\^",
    ]);
    let version = prop_oneof![9 => Just("HTTP/1.1"), 1 => Just("HTTP/1.0")];
    (method, target, version, fields(), body()).prop_map(|(method, target, version, fields, body)| {
        [format!("{method} {target} {version}\r\nHost: a\r\n{fields}").as_bytes(), &body].concat()
    })
}

fn response() -> impl Strategy<Value = Vec<u8>> {
    let status = select(&[
        "200 OK",
        "204 ",
        "304 Not Modified",
        "100 Continue",
        "404",
        "500 \u{e9}",
        "999 x",
        "206  ",
    ]);
    let version = prop_oneof![9 => Just("HTTP/1.1"), 1 => Just("HTTP/1.0")];
    (version, status, fields(), body()).prop_map(|(version, status, fields, body)| {
        [format!("{version} {status}\r\n{fields}").as_bytes(), &body].concat()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn requests_that_are_accepted_are_those_that_hyper_sees(
        requests in prop::collection::vec(request(), 1..4),
        changes in prop::collection::vec(change(), 0..3),
    ) {
        let bytes = changed(requests.concat(), &changes);
        oracle::check_requests(&bytes);
        reading::check_request_is_kept(&bytes);
    }

    #[test]
    fn response_that_is_accepted_is_the_one_that_hyper_sees(
        response in response(),
        changes in prop::collection::vec(change(), 0..3),
        is_head in prop::bool::weighted(0.2),
    ) {
        let bytes = changed(response, &changes);
        oracle::check_response(&bytes, if is_head { &http::Method::HEAD } else { &http::Method::GET });
        reading::check_response_is_kept(&bytes);
    }

    #[test]
    fn head_cut_anywhere_gives_the_same_verdict(
        request in request(),
        response in response(),
        changes in prop::collection::vec(change(), 0..3),
    ) {
        reading::check_request_cuts(&changed(request, &changes));
        reading::check_response_cuts(&changed(response, &changes));
    }

    #[test]
    fn chunked_body_cut_anywhere_is_the_one_that_the_grammar_tells(
        body in body(),
        changes in prop::collection::vec(change(), 0..3),
        cuts in prop::collection::vec(0_usize..64, 0..6),
    ) {
        let body = body.strip_prefix(b"Transfer-Encoding: chunked\r\n\r\n").unwrap_or(&body).to_vec();
        reading::check_chunks(&changed(body, &changes), &cuts);
    }
}
