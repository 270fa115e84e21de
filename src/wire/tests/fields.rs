//! Field lines: what a name and a value may be, and how lines end. Requests, responses and trailers are judged alike.

use super::super::{Chunked, HeadError, MAX_FIELDS};
use super::{request, response, rows};

/// Names and values that lines are read as.
type Rows<'a> = &'a [(&'a str, &'a [u8])];

/// What these field lines are: in a request, in a response and behind a chunked body. `None`: not refused, and not
/// whole.
fn check(lines: &[u8], expected: Option<Result<Rows<'_>, HeadError>>) {
    let text = lines.escape_ascii().to_string();
    let expected = expected.map(|expected| {
        expected.map(|rows| {
            rows.iter().map(|(name, value)| ((*name).to_owned(), value.to_vec())).collect::<Vec<_>>()
        })
    });
    let found = super::RequestHead::parse(&[b"GET / HTTP/1.1\r\n", lines].concat());
    assert_eq!(found.map(|head| head.map(|(head, _)| rows(&head.fields))).transpose(), expected, "{text}");
    let found = super::ResponseHead::parse(&[b"HTTP/1.1 200 OK\r\n", lines].concat());
    assert_eq!(found.map(|head| head.map(|(head, _)| rows(&head.fields))).transpose(), expected, "{text}");
    let found = Chunked::default().read(&mut [b"0\r\n", lines].concat());
    assert_eq!(found.map(|read| read.end.map(|fields| rows(&fields))).transpose(), expected, "{text}");
}

#[test]
fn good_lines_are_fields_as_they_stand() {
    let good: &[(&[u8], Rows<'_>)] = &[
        (b"\r\n", &[]),
        (b"a: b\r\n\r\n", &[("a", b"b")]),
        (b"a:b\r\n\r\n", &[("a", b"b")]),
        (b"a:\r\n\r\n", &[("a", b"")]),
        (b"a: \t \r\n\r\n", &[("a", b"")]),
        (b"a: \t b \t c\t \r\n\r\n", &[("a", b"b \t c")]),
        (b"a: :b: c\r\n\r\n", &[("a", b":b: c")]),
        (b"a: \xe9\xff\x80\r\n\r\n", &[("a", b"\xe9\xff\x80")]),
        (b"A: b\r\na: c\r\nB:\r\n\r\n", &[("A", b"b"), ("a", b"c"), ("B", b"")]),
        (b"!#$%&'*+-.^_`|~0: b\r\n\r\n", &[("!#$%&'*+-.^_`|~0", b"b")]),
        (b"a: b\r\n\r\nc: d\r\n\r\n", &[("a", b"b")]),
    ];
    for (lines, expected) in good {
        check(lines, Some(Ok(expected)));
    }
    for lines in [&b""[..], b"a", b"a:", b"a: b", b"a: b\r", b"a: b\r\n", b"a: b\r\nc", b"a: b\r\n\r", b"\r"]
    {
        check(lines, None);
    }
}

#[test]
fn lines_that_are_no_fields_are_refused() {
    let bad: &[&[u8]] = &[
        b"\n",
        b"a: b\n\r\n",
        b"a: b\r\n\n",
        b"a: b\n\n",
        b"a: b\nc: d\r\n\r\n",
        b"a: b\r\nc: d\ne: f\r\n\r\n",
        b"a: b\r\nc:\nd: e\r\n\r\n",
        b"a:\n\r\n\r\n",
        b"a: b\rc: d\r\n\r\n",
        b"a: b\r\r\n\r\n",
        b"a: b\r\n\r\r\n",
        b"a:\r b\r\n\r\n",
        b"a\r: b\r\n\r\n",
        b"\ra: b\r\n\r\n",
        b"a\n: b\r\n\r\n",
        b"\na: b\r\n\r\n",
        b" a: b\r\n\r\n",
        b"\ta: b\r\n\r\n",
        b"a : b\r\n\r\n",
        b"a\t: b\r\n\r\n",
        b"a: b\r\n c\r\n\r\n",
        b"a: b\r\n\tc\r\n\r\n",
        b"a: b\r\n \r\n\r\n",
        b"a:\r\n b\r\n\r\n",
        b"a: b\r\n c: d\r\n\r\n",
        b": b\r\n\r\n",
        b":\r\n\r\n",
        b"a\r\n\r\n",
        b"a b\r\n\r\n",
        b"a b: c\r\n\r\n",
        b"\0\r\n\r\n",
        b"a: b\r\nGET / HTTP/1.1\r\n\r\n",
    ];
    for lines in bad {
        check(lines, Some(Err(HeadError::Malformed)));
    }
}

#[test]
fn each_byte_may_or_may_not_stand_in_names_and_values() {
    for byte in 0..=255_u8 {
        let is_token = byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        for (before, behind) in [("a", "b"), ("", "b"), ("a", "")] {
            if byte == b':' && !before.is_empty() {
                continue;
            }
            let name = [before.as_bytes(), &[byte], behind.as_bytes()].concat();
            let lines = [&name, &b": v\r\n\r\n"[..]].concat();
            if is_token {
                check(&lines, Some(Ok(&[(std::str::from_utf8(&name).unwrap(), b"v")])));
            } else {
                check(&lines, Some(Err(HeadError::Malformed)));
            }
        }
        let value = [b'a', byte, b'b'];
        let lines = [b"n: ", &value[..], b"\r\n\r\n"].concat();
        if matches!(byte, b'\t' | b' '..=b'~' | 0x80..) {
            check(&lines, Some(Ok(&[("n", &value)])));
        } else {
            check(&lines, Some(Err(HeadError::Malformed)));
        }
    }
}

#[test]
fn one_field_too_many_is_refused() {
    for (count, expected) in [
        (0, None),
        (1, None),
        (MAX_FIELDS, None),
        (MAX_FIELDS + 1, Some(HeadError::TooManyFields)),
        (1000, Some(HeadError::TooManyFields)),
    ] {
        let lines = "a: b\r\n".repeat(count);
        let found = request(format!("GET / HTTP/1.1\r\n{lines}\r\n"));
        assert_eq!(found.as_ref().err(), expected.as_ref(), "{count}");
        assert!(found.map_or(true, |head| head.fields.len() == count), "{count}");
        let found = response(format!("HTTP/1.1 200 OK\r\n{lines}\r\n"));
        assert_eq!(found.err(), expected, "{count}");
        let found = Chunked::default().read(&mut format!("0\r\n{lines}\r\n").into_bytes());
        assert_eq!(found.err(), expected, "{count}");
    }
}
