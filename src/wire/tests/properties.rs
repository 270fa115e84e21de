//! Whatever comes, and however it is cut.

use proptest::prelude::*;

use super::super::{Chunked, Known, Length, RequestHead, ResponseHead};

/// Bytes that get far, and any others.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        Just(&b"GET / HTTP/1.1\r\n"[..]),
        Just(&b"POST http://a?b HTTP/1.0\r\n"[..]),
        Just(&b"HTTP/1.1 200 OK\r\n"[..]),
        Just(&b"Content-Length: 5\r\n"[..]),
        Just(&b"Transfer-Encoding: chunked\r\n"[..]),
        Just(&b"a: b\r\n"[..]),
        Just(&b"\r\n"[..]),
        Just(&b"5\r\nhello\r\n"[..]),
        Just(&b"0\r\n"[..]),
        Just(&b"5;a=\"b\"\r\n"[..]),
    ]
    .prop_map(<[u8]>::to_vec);
    let part = prop_oneof![5 => part, 1 => prop::collection::vec(any::<u8>(), 0..8)];
    prop::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_give_a_verdict(bytes in bytes(), cut in any::<prop::sample::Index>()) {
        if let Ok(Some((head, length))) = RequestHead::parse(&bytes) {
            prop_assert!(length <= bytes.len() && bytes[..length].ends_with(b"\r\n\r\n"));
            prop_assert!(head.path().starts_with('/') || ["*", ""].contains(&head.path()), "{}", head.path());
            let _ = (Length::of_request(&head), head.authority(), head.query(), head.fields.to_map());
            for cut in 0..length {
                prop_assert!(matches!(RequestHead::parse(&bytes[..cut]), Ok(None)), "cut at {}", cut);
            }
        }
        if let Ok(Some((head, length))) = ResponseHead::parse(&bytes) {
            prop_assert!(length <= bytes.len() && bytes[..length].ends_with(b"\r\n\r\n"));
            let _ = (Length::of_response(&head, &http::Method::GET), head.fields.get(Known::Date));
            for cut in 0..length {
                prop_assert!(matches!(ResponseHead::parse(&bytes[..cut]), Ok(None)), "cut at {}", cut);
            }
        }
        let (first, second) = bytes.split_at(cut.index(bytes.len() + 1));
        let mut decoder = Chunked::default();
        for piece in [first, second] {
            let mut piece = piece.to_vec();
            let Ok(read) = decoder.read(&mut piece) else { break };
            prop_assert!(read.data <= read.used && read.used <= piece.len());
            if read.end.is_some() {
                break;
            }
        }
    }

    #[test]
    fn body_in_chunks_of_any_size_is_the_same_body(
        data in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..6),
        trailers in prop::collection::vec(("[a-z]{1,5}", "[a-z]{0,5}"), 0..3),
        behind in prop::collection::vec(any::<u8>(), 0..10),
        step in 1_usize..50,
    ) {
        use super::super::chunked::{last_chunk, size_line};
        let trailers: super::Fields = trailers.iter().map(|(name, value)| (name.as_str(), value)).collect();
        let mut body = Vec::new();
        for chunk in &data {
            size_line(chunk.len(), &mut body);
            body.extend_from_slice(chunk);
            body.extend_from_slice(b"\r\n");
        }
        last_chunk(Some(&trailers), &mut body);
        let length = body.len();
        body.extend_from_slice(&behind);
        let (mut decoder, mut found, mut used, mut end) = (Chunked::default(), Vec::new(), 0, None);
        for piece in body.chunks_mut(step) {
            let read = decoder.read(piece).unwrap();
            found.extend_from_slice(&piece[..read.data]);
            used += read.used;
            if read.end.is_some() {
                end = read.end;
                break;
            }
        }
        prop_assert_eq!((found, used, end), (data.concat(), length, Some(trailers)));
    }
}
