//! Where bodies end, and the fields that were made to let two parsers disagree about it.

use http::Method;

use super::super::{HeadError, Length};
use super::{framing, request, response};

#[test]
fn one_length_or_one_chunked_frames_a_request() {
    let rows: &[(&[u8], Length)] = &[
        (b"", Length::Exact(0)),
        (b"Content-Length: 0\r\n", Length::Exact(0)),
        (b"content-length:5\r\n", Length::Exact(5)),
        (b"CONTENT-LENGTH: \t 5 \t\r\n", Length::Exact(5)),
        // Leading zeros are digits (RFC 9110 §8.6).
        (b"Content-Length: 005\r\n", Length::Exact(5)),
        (b"Content-Length: 010\r\n", Length::Exact(10)),
        (b"Content-Length: 0000000000000000000000000000005\r\n", Length::Exact(5)),
        (b"Content-Length: 9223372036854775807\r\n", Length::Exact((1 << 63) - 1)),
        (b"Transfer-Encoding: chunked\r\n", Length::Chunked),
        (b"transfer-encoding:CHUNKED\r\n", Length::Chunked),
        (b"Transfer-Encoding: \t chunked\t \r\n", Length::Chunked),
        // Other names, whatever somebody behind takes them for.
        (b"Content_Length: 5\r\n", Length::Exact(0)),
        (b"Transfer_Encoding: chunked\r\n", Length::Exact(0)),
        (b"X-Content-Length: 5\r\n", Length::Exact(0)),
        (b"Content-Lengt: 5\r\nContent-Lengths: 6\r\n", Length::Exact(0)),
    ];
    for (lines, expected) in rows {
        assert_eq!(framing(lines), Ok(*expected), "{}", lines.escape_ascii());
    }
}

#[test]
fn framing_that_can_be_read_in_two_ways_is_refused() {
    let rows: &[&[u8]] = &[
        // Both.
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
        b"Transfer-Encoding: identity\r\nContent-Length: 5\r\n",
        b"Transfer-Encoding:\r\nContent-Length: 5\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length:\r\n",
        b"Content-Length: 5\r\nx-a: b\r\ntRANSFER-ENCODING: xchunked\r\n",
        // Lengths.
        b"Content-Length: 5\r\nContent-Length: 5\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: 5\r\ncontent-length:\r\n",
        b"Content-Length:\r\n",
        b"Content-Length: 5, 5\r\n",
        b"Content-Length: 5,5\r\n",
        b"Content-Length: 5,\r\n",
        b"Content-Length: ,5\r\n",
        b"Content-Length: 5 5\r\n",
        b"Content-Length: 5\t5\r\n",
        b"Content-Length: 5;6\r\n",
        b"Content-Length: +5\r\n",
        b"Content-Length: -5\r\n",
        b"Content-Length: -0\r\n",
        b"Content-Length: +0\r\n",
        b"Content-Length: 0x5\r\n",
        b"Content-Length: 5h\r\n",
        b"Content-Length: 0b1\r\n",
        b"Content-Length: 0o5\r\n",
        b"Content-Length: a\r\n",
        b"Content-Length: 5.0\r\n",
        b"Content-Length: 5e0\r\n",
        b"Content-Length: 1_0\r\n",
        b"Content-Length: \"5\"\r\n",
        b"Content-Length: '5'\r\n",
        b"Content-Length: \xb5\r\n",
        b"Content-Length: \xd9\xa5\r\n",
        b"Content-Length: \xef\xbc\x95\r\n",
        b"Content-Length: 5\xa0\r\n",
        b"Content-Length: \xa05\r\n",
        b"Content-Length: NaN\r\n",
        b"Content-Length: 9223372036854775808\r\n",
        b"Content-Length: 18446744073709551615\r\n",
        b"Content-Length: 18446744073709551616\r\n",
        b"Content-Length: 18446744073709551621\r\n",
        b"Content-Length: 99999999999999999999999999999\r\n",
        // Codings.
        b"Transfer-Encoding:\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding:\r\n",
        b"Transfer-Encoding: identity\r\n",
        b"Transfer-Encoding: gzip\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Transfer-Encoding: identity, chunked\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Transfer-Encoding: chunked, chunked\r\n",
        b"Transfer-Encoding: chunked,\r\n",
        b"Transfer-Encoding: ,chunked\r\n",
        b"Transfer-Encoding: chunked;a=b\r\n",
        b"Transfer-Encoding: chunked;q=0.5\r\n",
        b"Transfer-Encoding: chunked foo\r\n",
        b"Transfer-Encoding: xchunked\r\n",
        b"Transfer-Encoding: chunkedx\r\n",
        b"Transfer-Encoding: chunke\r\n",
        b"Transfer-Encoding: \"chunked\"\r\n",
        b"Transfer-Encoding: 'chunked'\r\n",
        b"Transfer-Encoding: chunked\xa0\r\n",
        b"Transfer-Encoding: \xa0chunked\r\n",
        b"Transfer-Encoding: \xffchunked\r\n",
        b"Transfer-Encoding: chun\xe9ked\r\n",
        b"Transfer-Encoding: : chunked\r\n",
    ];
    for lines in rows {
        assert!(framing(lines).is_err(), "{}: {:?}", lines.escape_ascii(), framing(lines));
        // Responses are judged alike, also where no body comes.
        let head = response([b"HTTP/1.1 200 OK\r\n", *lines, b"\r\n"].concat()).unwrap();
        for method in [Method::GET, Method::HEAD] {
            assert!(Length::of_response(&head, &method).is_err(), "{}", lines.escape_ascii());
        }
    }
}

#[test]
fn obfuscated_framing_field_makes_no_head() {
    let rows: &[&[u8]] = &[
        b"Transfer-Encoding : chunked\r\n",
        b"Transfer-Encoding\t: chunked\r\n",
        b"Transfer-Encoding\x0b: chunked\r\n",
        b"Transfer-Encoding\0: chunked\r\n",
        b"Transfer-Encoding\r\n : chunked\r\n",
        b"Transfer-Encoding\r: chunked\r\n",
        b"Transfer-Encoding\n: chunked\r\n",
        b"Transfer-Encoding\xa0: chunked\r\n",
        b"Transfer Encoding: chunked\r\n",
        b" Transfer-Encoding: chunked\r\n",
        b"\tTransfer-Encoding: chunked\r\n",
        b"\x0bTransfer-Encoding: chunked\r\n",
        b"\nTransfer-Encoding: chunked\r\n",
        b"\rTransfer-Encoding: chunked\r\n",
        b"x-a: b\nTransfer-Encoding: chunked\r\n",
        b"x-a: b\rTransfer-Encoding: chunked\r\n",
        b"x-a: b\r\n Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: \x0bchunked\r\n",
        b"Transfer-Encoding: \x0cchunked\r\n",
        b"Transfer-Encoding: chunked\x0b\r\n",
        b"Transfer-Encoding: chunked\0\r\n",
        b"Transfer-Encoding: \0chunked\r\n",
        b"Transfer-Encoding: \x08chunked\r\n",
        b"Transfer-Encoding: \x7fchunked\r\n",
        b"Transfer-Encoding:\r\n chunked\r\n",
        b"Transfer-Encoding:\r\n\tchunked\r\n",
        b"Transfer-Encoding:\n chunked\r\n",
        b"Transfer-Encoding: chunked\r\n , identity\r\n",
        b"Transfer-Encoding: chunked\r\r\n",
        b"Transfer-Encoding: chunked\n\r\n",
        b"Transfer-Encoding = chunked\r\n",
        b"Content-Length : 5\r\n",
        b"Content-Length\0: 5\r\n",
        b"Content-Length: 5\0\r\n",
        b"Content-Length: \x0b5\r\n",
        b"Content-Length: 5\x0c\r\n",
        b"Content-Length:\r\n 5\r\n",
        b"Content-Length: 5\r\n 6\r\n",
        b"Content-Length: 1\r\n 0\r\n",
        b"Content-Length: 5\n\r\n",
        b"Content-Length: 5\rContent-Length: 6\r\n",
        b"\"Content-Length\": 5\r\n",
        b"Content-Length\xc2\xa0: 5\r\n",
    ];
    for lines in rows {
        for place in [0, 1] {
            let before: &[u8] = if place == 0 { b"" } else { b"Host: a\r\n" };
            let behind: &[u8] = if place == 0 { b"Host: a\r\n" } else { b"" };
            let lines = [before, lines, behind, b"\r\n"].concat();
            let found = request([b"POST / HTTP/1.1\r\n", &lines[..]].concat()).map(drop);
            assert_eq!(found, Err(HeadError::Malformed), "{}", lines.escape_ascii());
            let found = response([b"HTTP/1.1 200 OK\r\n", &lines[..]].concat()).map(drop);
            assert_eq!(found, Err(HeadError::Malformed), "{}", lines.escape_ascii());
        }
    }
}

#[test]
fn coding_of_http_1_0_is_refused_and_its_length_is_good() {
    let head = request("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    assert!(Length::of_request(&head).is_err());
    let head = response("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    assert!(Length::of_response(&head, &Method::GET).is_err());
    let head = request("POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\n").unwrap();
    assert_eq!(Length::of_request(&head), Ok(Length::Exact(5)));
}

#[test]
fn body_of_a_response_depends_on_status_and_method() {
    let (length, chunked) = ("Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n");
    let rows = [
        (200, Method::GET, length, Length::Exact(5)),
        (200, Method::GET, chunked, Length::Chunked),
        (200, Method::GET, "", Length::UntilClose),
        (200, Method::POST, "", Length::UntilClose),
        (404, Method::GET, "", Length::UntilClose),
        (205, Method::GET, length, Length::Exact(5)),
        (200, Method::HEAD, length, Length::Exact(0)),
        (200, Method::HEAD, chunked, Length::Exact(0)),
        (200, Method::HEAD, "", Length::Exact(0)),
        (204, Method::GET, length, Length::Exact(0)),
        (204, Method::GET, chunked, Length::Exact(0)),
        (204, Method::GET, "", Length::Exact(0)),
        (304, Method::GET, length, Length::Exact(0)),
        (304, Method::GET, "", Length::Exact(0)),
        (100, Method::POST, length, Length::Exact(0)),
        (101, Method::GET, "", Length::Exact(0)),
        (103, Method::GET, chunked, Length::Exact(0)),
    ];
    for (status, method, lines, expected) in rows {
        let head = response(format!("HTTP/1.1 {status} \r\n{lines}\r\n")).unwrap();
        assert_eq!(Length::of_response(&head, &method), Ok(expected), "{method} {status} {lines}");
    }
}
