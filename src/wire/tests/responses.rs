//! Heads of responses.

use http::{StatusCode, Version};

use super::super::{Fields, HeadError, ResponseHead};
use super::response;

#[test]
fn status_line_is_read_strictly() {
    let good: &[(&[u8], u16, Version)] = &[
        (b"HTTP/1.1 200 OK", 200, Version::HTTP_11),
        (b"HTTP/1.0 404 Not Found", 404, Version::HTTP_10),
        (b"HTTP/1.1 200 ", 200, Version::HTTP_11),
        (b"HTTP/1.1 200", 200, Version::HTTP_11),
        (b"HTTP/1.1 200   a\t b ", 200, Version::HTTP_11),
        (b"HTTP/1.1 599 \xe9\xff", 599, Version::HTTP_11),
        (b"HTTP/1.1 100 Continue", 100, Version::HTTP_11),
        (b"HTTP/1.1 999 x", 999, Version::HTTP_11),
    ];
    for (line, status, version) in good {
        let head = response([line, &b"\r\nx-a: b\r\n\r\n"[..]].concat()).unwrap();
        assert_eq!((head.status.as_u16(), head.version), (*status, *version), "{}", line.escape_ascii());
        assert_eq!(head.fields.get("x-a"), Some(&b"b"[..]));
    }
    let bad: &[(&[u8], HeadError)] = &[
        (b"\r\nHTTP/1.1 200 OK", HeadError::Malformed),
        (b"\nHTTP/1.1 200 OK", HeadError::Malformed),
        (b" HTTP/1.1 200 OK", HeadError::Version),
        (b"HTTP/1.1\t200 OK", HeadError::Version),
        (b"HTTP/1.1  200 OK", HeadError::Malformed),
        (b"HTTP/1.1 200\tOK", HeadError::Malformed),
        (b"HTTP/1.1 20 OK", HeadError::Malformed),
        (b"HTTP/1.1 2000 OK", HeadError::Malformed),
        (b"HTTP/1.1 099 OK", HeadError::Malformed),
        (b"HTTP/1.1 000 OK", HeadError::Malformed),
        (b"HTTP/1.1 +20 OK", HeadError::Malformed),
        (b"HTTP/1.1 2x0 OK", HeadError::Malformed),
        (b"HTTP/1.1 200 O\0K", HeadError::Malformed),
        (b"HTTP/1.1 200 O\x7fK", HeadError::Malformed),
        (b"HTTP/1.1 200 O\rK", HeadError::Malformed),
        (b"HTTP/1.1 200 OK\r", HeadError::Malformed),
        (b"HTTP/1.1 200 OK\nx-b: c", HeadError::Malformed),
        (b"HTTP/1.1 200\nx-b: c", HeadError::Malformed),
        (b"HTTP/1.1 OK", HeadError::Malformed),
        (b"HTTP/1.2 200 OK", HeadError::Version),
        (b"HTTP/2.0 200 OK", HeadError::Version),
        (b"http/1.1 200 OK", HeadError::Version),
        (b"ICY 200 OK", HeadError::Version),
        (b"hello", HeadError::Version),
    ];
    for (line, error) in bad {
        let found = response([line, &b"\r\nx-a: b\r\n\r\n"[..]].concat()).map(drop);
        assert_eq!(found, Err(*error), "{}", line.escape_ascii());
    }
}

#[test]
fn bare_line_feed_anywhere_in_a_response_is_refused() {
    let text = b"HTTP/1.1 200 OK\r\na: b\r\nc: d\r\n\r\n";
    for at in (0..text.len()).filter(|at| text[*at] == b'\r') {
        let mut bare = text.to_vec();
        bare.remove(at);
        // Without the last CR the head may still be whole, so a following one must not make it good.
        bare.extend_from_slice(b"\r\n\r\n");
        assert_eq!(response(&bare).map(drop), Err(HeadError::Malformed), "{}", bare.escape_ascii());
    }
    assert_eq!(response("HTTP/1.1 200 OK\n\n").map(drop), Err(HeadError::Malformed));
    assert_eq!(response("HTTP/1.1 200 OK\r\n\n").map(drop), Err(HeadError::Malformed));
    assert!(response("HTTP/1.1 200 OK\r\n\r\n").is_ok());
}

#[test]
fn reason_is_kept_and_the_usual_one_stands_in_for_none() {
    let rows: &[(&[u8], &[u8])] = &[
        (b"HTTP/1.1 200 Fine, thanks\r\n\r\n", b"HTTP/1.1 200 Fine, thanks\r\n"),
        (b"HTTP/1.0 404 \xe9\r\na:b\r\n\r\n", b"HTTP/1.1 404 \xe9\r\na: b\r\n"),
        (b"HTTP/1.1 200 \r\n\r\n", b"HTTP/1.1 200 OK\r\n"),
        (b"HTTP/1.1 503\r\n\r\n", b"HTTP/1.1 503 Service Unavailable\r\n"),
        (b"HTTP/1.1 299 \r\n\r\n", b"HTTP/1.1 299 \r\n"),
    ];
    for (text, expected) in rows {
        let mut written = Vec::new();
        response(text).unwrap().write(&mut written);
        assert_eq!(written, *expected, "{}", written.escape_ascii());
    }
    let own = ResponseHead::new(StatusCode::BAD_GATEWAY, Version::HTTP_11, Fields::from_iter([("x-a", "b")]));
    let mut written = Vec::new();
    own.write(&mut written);
    assert_eq!(written, b"HTTP/1.1 502 Bad Gateway\r\nx-a: b\r\n");
}
