//! The chunked coding: what is one, and what is refused.

use super::super::chunked::{MAX_SIZE_LINE, Read, last_chunk, size_line};
use super::super::{Chunked, Fields, HeadError};

/// What reading `bytes` at once gives: the data, and how many bytes were of the body if it has ended.
fn read(bytes: &[u8]) -> Result<(Vec<u8>, Option<usize>), HeadError> {
    let mut bytes = bytes.to_vec();
    let Read { data, used, end } = Chunked::default().read(&mut bytes)?;
    Ok((bytes[..data].to_vec(), end.map(|_| used)))
}

#[test]
fn good_bodies_are_read_to_their_end_and_not_further() {
    let rows: &[(&[u8], &[u8], usize)] = &[
        (b"0\r\n\r\n", b"", 0),
        (b"0000000000000000\r\n\r\n", b"", 0),
        (b"0;a\r\n\r\n", b"", 0),
        (b"5\r\nhello\r\n0\r\n\r\n", b"hello", 0),
        (b"5\r\nhello\r\n0\r\n\r\n0", b"hello", 1),
        (b"5\r\nhello\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n", b"hello", 18),
        (b"5\r\nhello\r\n0\r\n\r\n\r\n", b"hello", 2),
        (b"0005\r\nhello\r\n00\r\n\r\n", b"hello", 0),
        (b"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", b"01234567890123456789", 0),
        (b"2\r\n\r\n\r\n1\r\n0\r\n0\r\n\r\n", b"\r\n0", 0),
        (b"5;a=b\r\nhello\r\n0\r\n\r\n", b"hello", 0),
        (b"5;a\r\nhello\r\n0\r\n\r\n", b"hello", 0),
        (b"5 ;a\r\nhello\r\n0\r\n\r\n", b"hello", 0),
        (b"5\t ; \ta \t= \tb \t; c\r\nhello\r\n0\r\n\r\n", b"hello", 0),
        (b"5;a=\"\"\r\nhello\r\n0\r\n\r\n", b"hello", 0),
        (b"5;a=\"b;c=\\\"\\\\\t \xff\";d\r\nhello\r\n0\r\n\r\n", b"hello", 0),
        (b"0\r\nx-a: b\r\n\r\n", b"", 0),
        (b"0\r\nx-a: b\r\n\r\nx", b"", 1),
    ];
    for (bytes, data, behind) in rows {
        assert_eq!(read(bytes), Ok((data.to_vec(), Some(bytes.len() - behind))), "{}", bytes.escape_ascii());
    }
}

#[test]
fn what_is_no_size_and_no_extension_is_refused() {
    let sizes: &[&[u8]] = &[
        b"",
        b" 5",
        b"\t5",
        b"5 ",
        b"5\t",
        b"5 5",
        b"0x5",
        b"0X5",
        b"x5",
        b"-5",
        b"+5",
        b"-0",
        b"5h",
        b"g",
        b"5.",
        b"5,",
        b"5_0",
        b"\"5\"",
        b"5\0",
        b"\x005",
        b"5\x0b",
        b"5\xa0",
        b"\xef\xbc\x95",
        b"5\r",
        b"5\n",
        b"\r5",
        b"\n5",
        b"5 \r",
        b"00000000000000005",
        b"10000000000000000",
        b"ffffffffffffffff",
        b"8000000000000000",
        b"fffffffffffffffff",
        b"5;",
        b"5; ",
        b"5;;a",
        b"5;a;",
        b"5;a ",
        b"5;=b",
        b"5;a=",
        b"5;a= ",
        b"5;a=;b",
        b"5;a b",
        b"5;a=b c",
        b"5;a\0",
        b"5;a=b\0",
        b"5;a\n",
        b"5;a\r",
        b"5;\r\n a",
        b"5;a=\"b",
        b"5;a=\"b\\\"",
        b"5;a=\"b\"c",
        b"5;a=b\"c\"",
        b"5;a=\"\r\n\"",
        b"5;a=\"\n\"",
        b"5;a=\"\\\n\"",
        b"5;a=\"\0\"",
        b"5;a=\x7f",
        b"5;\xe9",
        b"5;a=\xe9",
        b"5;a,b",
        b"5;a==b",
        b"5;(a)",
        b"5 a",
        b"5=a",
        b"5:a",
        b"5 =a",
        b"5;a=b=c",
    ];
    for size in sizes {
        let body = [size, &b"\r\nhello\r\n0\r\n\r\n"[..]].concat();
        assert_eq!(read(&body), Err(HeadError::Malformed), "{}", body.escape_ascii());
    }
}

#[test]
fn what_is_no_end_of_a_chunk_or_of_a_body_is_refused() {
    let bodies: &[&[u8]] = &[
        b"5\nhello\r\n0\r\n\r\n",
        b"5\rhello\r\n0\r\n\r\n",
        b"5;a\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\n0\r\n\r\n",
        b"5\r\nhello\r0\r\n\r\n",
        b"5\r\nhello\n\r0\r\n\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"5\r\nhello \r\n0\r\n\r\n",
        b"5\r\nhell\r\n0\r\n\r\n",
        b"5\r\nhello!\r\n0\r\n\r\n",
        b"4\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\r\n\r\n0\r\n\r\n",
        b"5\r\nhello\r\n0\n\r\n",
        b"5\r\nhello\r\n0\r\n\n",
        b"5\r\nhello\r\n0\r\nx\r\n\r\n",
        b"5\r\nhello\r\n0\r\n \r\n\r\n",
        b"5\r\nhello\r\n0\r\n\rx",
        b"5\r\nhello\r\n0\r\nx-a : b\r\n\r\n",
        b"5\r\nhello\r\n0\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"5\r\nhello\r\n0\r\nx-a: b\r\n c\r\n\r\n",
        b"0\r\nx-a: b\n\r\n",
        b"0\r\nx-a: b\r\n\n",
    ];
    for body in bodies {
        // What stands behind gives an end to lines that wait for theirs.
        let body = [body, &b"\r\n\r\n"[..]].concat();
        assert_eq!(read(&body), Err(HeadError::Malformed), "{}", body.escape_ascii());
    }
}

#[test]
fn largest_size_is_what_63_bits_hold_and_waits_for_its_data() {
    for size in ["7fffffffffffffff", "7FFFFFFFFFFFFFFF", "1000000000000000"] {
        assert_eq!(read(format!("{size}\r\nhello").as_bytes()), Ok((b"hello".to_vec(), None)), "{size}");
    }
}

#[test]
fn extensions_of_a_body_are_limited_together() {
    let limit = 16 * 1024;
    // Each `;a` and its CR; of the `;` the limit takes no notice.
    for (count, is_good) in [(1, true), (limit / 2, true), (limit / 2 + 1, false)] {
        let body = format!("{}0\r\n\r\n", "1;a\r\nx\r\n".repeat(count));
        assert_eq!(read(body.as_bytes()).is_ok(), is_good, "{count} chunks");
    }
    for (length, is_good) in [(1, true), (limit - 1, true), (limit, false), (10 * limit, false)] {
        let body = format!("1;{}\r\nx\r\n0\r\n\r\n", "a".repeat(length));
        assert_eq!(read(body.as_bytes()).is_ok(), is_good, "{length} bytes");
        let mut decoder = Chunked::default();
        let cut = body.bytes().try_for_each(|byte| decoder.read(&mut [byte]).map(drop));
        assert_eq!(cut.is_ok(), is_good, "{length} bytes, one at a time");
    }
}

#[test]
fn trailers_are_kept_over_reads_and_limited() {
    let limit = 16 * 1024;
    let around = "a: \r\n\r\n".len();
    for (trailers, is_good) in [(around + 1, true), (limit, true), (limit + 1, false), (2 * limit, false)] {
        let length = trailers - around;
        let body = format!("0\r\na: {}\r\n\r\nmore", "b".repeat(length));
        for step in [1, 7, 4096, body.len()] {
            let mut decoder = Chunked::default();
            let mut found = Ok(None);
            for piece in body.as_bytes().chunks(step) {
                match decoder.read(&mut piece.to_vec()) {
                    Ok(Read { end: None, used, .. }) => assert_eq!(used, piece.len()),
                    Ok(Read { end: Some(fields), .. }) => {
                        found = Ok(fields.get("a").map(<[u8]>::len));
                        break;
                    }
                    Err(error) => {
                        found = Err(error);
                        break;
                    }
                }
            }
            let expected = if is_good { Ok(Some(length)) } else { Err(HeadError::Malformed) };
            assert_eq!(found, expected, "{length} bytes, {step} at a time");
        }
    }
}

#[test]
fn data_stands_together_at_the_beginning() {
    let mut bytes = b"1\r\na\r\n2\r\nbc\r\n3;x=y\r\ndef\r\n4\r\ngh".to_vec();
    let mut decoder = Chunked::default();
    let read = decoder.read(&mut bytes).unwrap();
    assert_eq!((&bytes[..read.data], read.used, read.end), (&b"abcdefgh"[..], bytes.len(), None));
    let mut more = b"ij\r\n0\r\nx-a: b\r\nX-C:d\r\n\r\nGET".to_vec();
    let read = decoder.read(&mut more).unwrap();
    assert_eq!((&more[..read.data], read.used), (&b"ij"[..], more.len() - 3));
    assert_eq!(read.end, Some(Fields::from_iter([("x-a", "b"), ("x-c", "d")])));
    let read = decoder.read(&mut b"5\r\nhello".to_vec()).unwrap();
    assert_eq!(read, Read { data: 0, used: 0, end: None }, "the body has ended");
    assert_eq!(decoder.read(&mut []).unwrap(), Read { data: 0, used: 0, end: None });
}

#[test]
fn written_chunks_are_read_again() {
    for length in [1, 9, 10, 15, 16, 17, 255, 256, 65_535, 65_536, usize::MAX >> 1, usize::MAX] {
        let mut line = Vec::new();
        size_line(length, &mut line);
        assert_eq!(line, format!("{length:x}\r\n").as_bytes());
        assert!(line.len() <= MAX_SIZE_LINE, "{length}");
    }
    for trailers in [None, Some(Fields::new()), Some(Fields::from_iter([("x-a", "b"), ("x-c", "")]))] {
        let mut body = Vec::new();
        for chunk in ["hello", ", ", "0123456789abcdefg"] {
            size_line(chunk.len(), &mut body);
            body.extend_from_slice(chunk.as_bytes());
            body.extend_from_slice(b"\r\n");
        }
        last_chunk(trailers.as_ref(), &mut body);
        let read = Chunked::default().read(&mut body).unwrap();
        assert_eq!(&body[..read.data], b"hello, 0123456789abcdefg");
        assert_eq!((read.used, read.end), (body.len(), Some(trailers.unwrap_or_default())));
    }
}
