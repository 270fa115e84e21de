//! Heads of requests: first lines, and what stands around heads.

use http::{Method, Uri, Version};

use super::super::{Fields, HeadError, RequestHead};
use super::request;

/// Whether a request with this first line is accepted.
fn check_line(line: &[u8], expected: Result<(), HeadError>) {
    let found = request([line, b"\r\nHost: a\r\n\r\n"].concat()).map(drop);
    assert_eq!(found, expected, "{}", line.escape_ascii());
}

#[test]
fn request_line_is_three_words_with_one_space_between_or_malformed() {
    let good: &[&[u8]] = &[
        b"GET / HTTP/1.1",
        b"GET / HTTP/1.0",
        b"get / HTTP/1.1",
        b"M-SEARCH * HTTP/1.1",
        b"!#$%&'*+-.^_`|~09AZaz / HTTP/1.1",
        b"\r\nGET / HTTP/1.1",
        b"\r\n\r\n\r\nGET / HTTP/1.1",
    ];
    for line in good {
        check_line(line, Ok(()));
    }
    let bad: &[&[u8]] = &[
        b" GET / HTTP/1.1",
        b"\tGET / HTTP/1.1",
        b"\nGET / HTTP/1.1",
        b"\rGET / HTTP/1.1",
        b"\r\n\nGET / HTTP/1.1",
        b"\r\n\rGET / HTTP/1.1",
        b"\r\n GET / HTTP/1.1",
        b"\n\r\nGET / HTTP/1.1",
        b"GET  / HTTP/1.1",
        b"GET\t/ HTTP/1.1",
        b"GET\x0b/ HTTP/1.1",
        b"GET /  HTTP/1.1",
        b"GET /\tHTTP/1.1",
        b"GET / HTTP/1.1 ",
        b"GET / HTTP/1.1\t",
        b"GET / HTTP/1.1\r",
        b"GET / HTTP/1.1\n",
        b"GET / HTTP/1.1\0",
        b"GET /a b HTTP/1.1",
        b"GET / HTTP/1.1 HTTP/1.1",
        b"GET HTTP/1.1",
        b"GET  HTTP/1.1",
        b" / HTTP/1.1",
        b"/ HTTP/1.1",
        b"GET",
        b"GET /",
        b"GET / ",
        b"GET\0 / HTTP/1.1",
        b"\0GET / HTTP/1.1",
        b"GET: / HTTP/1.1",
        b"G\xc3\x89T / HTTP/1.1",
        b"GET\x7f / HTTP/1.1",
        b"GE(T / HTTP/1.1",
    ];
    for line in bad {
        check_line(line, Err(HeadError::Malformed));
    }
}

#[test]
fn version_other_than_1_0_and_1_1_is_refused_however_it_is_cut() {
    let rows = [
        ("HTTP/1.1", Ok(())),
        ("HTTP/1.0", Ok(())),
        ("HTTP/0.9", Err(HeadError::Version)),
        ("HTTP/1.2", Err(HeadError::Version)),
        ("HTTP/1.9", Err(HeadError::Version)),
        ("HTTP/2.0", Err(HeadError::Version)),
        ("HTTP/3.0", Err(HeadError::Version)),
        ("HTTP/2", Err(HeadError::Malformed)),
        ("HTTP/1", Err(HeadError::Malformed)),
        ("HTTP/1.", Err(HeadError::Malformed)),
        ("HTTP/1.10", Err(HeadError::Malformed)),
        ("HTTP/1.11", Err(HeadError::Malformed)),
        ("HTTP/2.01", Err(HeadError::Malformed)),
        ("HTTP/01.1", Err(HeadError::Malformed)),
        ("HTTP/1,1", Err(HeadError::Malformed)),
        ("HTTP/1 .1", Err(HeadError::Malformed)),
        ("HTTP/+1.1", Err(HeadError::Malformed)),
        ("HTTP/-1.1", Err(HeadError::Malformed)),
        ("HTTP/A.1", Err(HeadError::Malformed)),
        ("http/1.1", Err(HeadError::Malformed)),
        ("Http/1.1", Err(HeadError::Malformed)),
        ("HTTPS/1.1", Err(HeadError::Malformed)),
        ("HTTP 1.1", Err(HeadError::Malformed)),
        ("ICY", Err(HeadError::Malformed)),
        ("X HTTP/2.0", Err(HeadError::Malformed)),
    ];
    for (version, expected) in rows {
        let text = format!("GET / {version}\r\nHost: a\r\n\r\n");
        assert_eq!(request(&text).map(drop), expected, "{version}");
        for cut in 0..text.len() {
            match RequestHead::parse(&text.as_bytes()[..cut]) {
                Ok(None) => {}
                found => assert_eq!(found.map(drop), expected, "{version}, cut at {cut}"),
            }
        }
    }
    assert_eq!(request("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").map(drop), Err(HeadError::Version));
}

#[test]
fn head_tells_its_length_and_leaves_what_stands_behind_it() {
    for (before, behind) in
        [("", ""), ("\r\n", ""), ("", "hello"), ("\r\n\r\n", "GET / HTTP/1.1\r\n\r\n"), ("", "\n")]
    {
        let text = format!("{before}POST /a HTTP/1.0\r\nContent-Length: 5\r\n\r\n{behind}");
        let (head, length) = RequestHead::parse(text.as_bytes()).unwrap().unwrap();
        assert_eq!(length, text.len() - behind.len(), "{text:?}");
        assert_eq!((head.method, head.version), (Method::POST, Version::HTTP_10));
    }
    for part in
        ["", "\r", "\r\n", "\r\n\r\n", "G", "GET ", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r"]
    {
        assert!(RequestHead::parse(part.as_bytes()).unwrap().is_none(), "{part:?}");
    }
}

#[test]
fn request_without_a_wire_is_written_as_one_from_it() {
    for (uri, authority, target, is_secure) in [
        ("https://b:8/c?d=e", Some("b:8"), "/c?d=e", true),
        ("http://b", Some("b"), "/", false),
        ("/c?", None, "/c?", false),
        ("*", None, "*", false),
    ] {
        let fields = Fields::from_iter([("x-a", "b")]);
        let head = RequestHead::new(Method::PUT, &uri.parse::<Uri>().unwrap(), Version::HTTP_2, fields);
        assert_eq!((head.authority(), head.path_and_query()), (authority, target), "{uri}");
        assert_eq!(head.names_https(), is_secure, "{uri}");
        let mut written = Vec::new();
        head.write(head.path_and_query(), &mut written);
        assert_eq!(written.escape_ascii().to_string(), format!("PUT {target} HTTP/1.1\\r\\nx-a: b\\r\\n"));
    }
}
