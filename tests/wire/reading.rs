//! A connection's bytes read by `wire` as a server and a client read them: which messages there are, and how it ends.
//! The fuzz targets are built from this file too.

use http::{HeaderMap, Method, StatusCode, Version};

use super::grammar;
use crate::wire::proxy_protocol::{self, Parsed};
use crate::wire::{Chunked, Fields, FramingError, HeadError, Length, RequestHead, ResponseHead};

/// How reading ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Behind a message.
    Clean,
    /// Within a message, or within what may become one.
    Waits,
    /// At a head that is none.
    Head(HeadError),
    /// At a head that does not tell where its body ends.
    Framing,
    /// In a body that is none.
    Body,
}

/// A body as far as it was read.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Body {
    /// Its data.
    pub data: Vec<u8>,
    /// Its trailers.
    pub trailers: HeaderMap,
    /// Whether its end was seen.
    pub is_whole: bool,
}

/// A request that was accepted, at least its head.
#[derive(Debug)]
pub struct Request {
    /// The head.
    pub head: RequestHead,
    /// The body.
    pub body: Body,
}

/// Reads requests, one behind the other, up to a tunnel.
pub fn requests(mut bytes: &[u8]) -> (Vec<Request>, End) {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let (head, length) = match RequestHead::parse(bytes) {
            Ok(Some(parsed)) => parsed,
            Ok(None) => return (found, End::Waits),
            Err(error) => return (found, End::Head(error)),
        };
        let Ok(framing) = Length::of_request(&head) else { return (found, End::Framing) };
        let is_tunnel = head.method == Method::CONNECT;
        let (body, used, end) = body(framing, &bytes[length..]);
        bytes = &bytes[length + used..];
        let is_whole = body.is_whole;
        found.push(Request { head, body });
        if !is_whole || is_tunnel {
            return (found, end);
        }
    }
    (found, End::Clean)
}

/// Reads the response to a request by `method`, behind informational ones.
pub fn response(mut bytes: &[u8], method: &Method) -> (Option<(ResponseHead, Body)>, End) {
    loop {
        let (head, length) = match ResponseHead::parse(bytes) {
            Ok(Some(parsed)) => parsed,
            Ok(None) => return (None, End::Waits),
            Err(error) => return (None, End::Head(error)),
        };
        let Ok(framing) = Length::of_response(&head, method) else { return (None, End::Framing) };
        bytes = &bytes[length..];
        if !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS {
            let (body, _, end) = body(framing, bytes);
            return (Some((head, body)), end);
        }
    }
}

/// The body at the beginning of `bytes`, how many of them it is, and how it ended.
fn body(framing: Length, bytes: &[u8]) -> (Body, usize, End) {
    match framing {
        Length::UntilClose => {
            (Body { data: bytes.to_vec(), is_whole: true, ..Body::default() }, bytes.len(), End::Clean)
        }
        Length::Exact(length) => {
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            let data = bytes[..length.min(bytes.len())].to_vec();
            let (used, is_whole) = (data.len(), data.len() == length);
            let end = if is_whole { End::Clean } else { End::Waits };
            (Body { data, is_whole, ..Body::default() }, used, end)
        }
        Length::Chunked => match chunks(bytes, &[]) {
            Ok((data, Some(trailers), used)) => {
                (Body { data, trailers: trailers.to_map(), is_whole: true }, used, End::Clean)
            }
            Ok((data, None, used)) => (Body { data, ..Body::default() }, used, End::Waits),
            Err(_) => (Body::default(), bytes.len(), End::Body),
        },
    }
}

/// A chunked body read in pieces that end at `cuts`: its data, its trailers if it ended, and how many bytes it is.
///
/// # Errors
/// Those of the decoder.
pub fn chunks(bytes: &[u8], cuts: &[usize]) -> Result<(Vec<u8>, Option<Fields>, usize), HeadError> {
    let mut decoder = Chunked::default();
    let (mut data, mut used) = (Vec::new(), 0);
    let mut ends: Vec<_> = cuts.iter().map(|cut| (*cut).min(bytes.len())).chain([bytes.len()]).collect();
    ends.sort_unstable();
    for end in ends {
        let mut piece = bytes[used..end].to_vec();
        let read = decoder.read(&mut piece)?;
        assert!(read.used <= piece.len() && read.data <= read.used, "{read:?} of {}", piece.len());
        data.extend_from_slice(&piece[..read.data]);
        used += read.used;
        if read.end.is_some() {
            let mut more = b"5\r\nhello".to_vec();
            let more = decoder.read(&mut more).map(|read| (read.data, read.used, read.end));
            assert_eq!(more, Ok((0, 0, None)), "what stands behind the end is not of the body");
            return Ok((data, read.end, used));
        }
        assert_eq!(read.used, piece.len(), "the body goes on, so all of it is the body's");
    }
    Ok((data, None, used))
}

/// Whether both are the same head, as a pair of them that was parsed twice.
pub fn same_request(one: &RequestHead, other: &RequestHead) -> bool {
    let parts = |head: &RequestHead| {
        let own = head.authority().map(str::to_owned);
        (head.method.clone(), head.version, head.path_and_query().to_owned(), own, head.names_https())
    };
    parts(one) == parts(other) && one.fields == other.fields
}

/// Checks that a head is found whole or not at all, whatever part of `bytes` has come, and that the verdict is the
/// same.
pub fn check_request_cuts(bytes: &[u8]) {
    let whole = RequestHead::parse(bytes);
    for cut in 0..bytes.len() {
        match (RequestHead::parse(&bytes[..cut]), &whole) {
            (Ok(None), _) => {}
            (Ok(Some((head, length))), Ok(Some((expected, expected_length)))) => {
                assert_eq!(length, *expected_length, "cut at {cut}: {}", bytes.escape_ascii());
                assert!(cut >= length && same_request(&head, expected), "cut at {cut}");
            }
            (Err(error), Err(expected)) => {
                assert_eq!(error, *expected, "cut at {cut}: {}", bytes.escape_ascii());
            }
            (part, whole) => panic!("cut at {cut}: {part:?}, not {whole:?}: {}", bytes.escape_ascii()),
        }
    }
}

/// The same of a response's head.
pub fn check_response_cuts(bytes: &[u8]) {
    let whole = ResponseHead::parse(bytes);
    for cut in 0..bytes.len() {
        match (ResponseHead::parse(&bytes[..cut]), &whole) {
            (Ok(None), _) => {}
            (Ok(Some((head, length))), Ok(Some((expected, expected_length)))) => {
                assert_eq!(length, *expected_length, "cut at {cut}: {}", bytes.escape_ascii());
                assert!(cut >= length && head.status == expected.status && head.fields == expected.fields);
            }
            (Err(error), Err(expected)) => {
                assert_eq!(error, *expected, "cut at {cut}: {}", bytes.escape_ascii());
            }
            (part, whole) => panic!("cut at {cut}: {part:?}, not {whole:?}: {}", bytes.escape_ascii()),
        }
    }
}

/// Checks that a request, if `bytes` are one, is the same after it was written and read.
pub fn check_request_is_kept(bytes: &[u8]) {
    let Ok(Some((head, _))) = RequestHead::parse(bytes) else { return };
    if head.method == Method::CONNECT {
        return;
    }
    let mut written = Vec::new();
    head.write(head.path_and_query(), &mut written);
    written.extend_from_slice(b"\r\n");
    let (again, length) = RequestHead::parse(&written).unwrap().unwrap();
    assert_eq!(length, written.len());
    assert_eq!((&head.method, head.path(), head.query()), (&again.method, again.path(), again.query()));
    assert_eq!(head.fields, again.fields);
    if head.version == Version::HTTP_11 {
        assert_eq!(Length::of_request(&head), Length::of_request(&again));
    }
}

/// The same of a response.
pub fn check_response_is_kept(bytes: &[u8]) {
    let Ok(Some((head, _))) = ResponseHead::parse(bytes) else { return };
    let mut written = Vec::new();
    head.write(&mut written);
    written.extend_from_slice(b"\r\n");
    let (again, length) = ResponseHead::parse(&written).unwrap().unwrap();
    assert_eq!((length, head.status), (written.len(), again.status));
    assert_eq!(head.fields, again.fields);
    for method in [Method::GET, Method::HEAD] {
        let framing: Result<_, FramingError> = Length::of_response(&head, &method);
        if head.version == Version::HTTP_11 {
            assert_eq!(framing, Length::of_response(&again, &method));
        }
    }
}

/// Checks that a chunked body is the same body however it comes, and the one that the grammar tells.
pub fn check_chunks(bytes: &[u8], cuts: &[usize]) {
    let whole = chunks(bytes, &[]);
    let every: Vec<_> = (0..bytes.len()).collect();
    for cuts in [cuts, &every] {
        assert_eq!(chunks(bytes, cuts), whole, "cut at {cuts:?}: {}", bytes.escape_ascii());
    }
    let found = whole.ok().and_then(|(data, trailers, used)| trailers.map(|_| (data, used)));
    assert_eq!(found, grammar::chunked_body(bytes), "{}", bytes.escape_ascii());
}

/// The same of an input that begins with the number of cuts and their places, a byte each.
pub fn check_chunks_with_cuts(input: &[u8]) {
    let Some((count, rest)) = input.split_first() else { return };
    let (cuts, body) = rest.split_at(usize::from(count % 8).min(rest.len()));
    let cuts: Vec<_> = cuts.iter().map(|cut| usize::from(*cut)).collect();
    check_chunks(body, &cuts);
}

/// Checks that a PROXY header is found whole or not at all, whatever part of `bytes` has come, that the verdict is the
/// same, and that what it announces is the same after it was written and read.
pub fn check_proxy_header(bytes: &[u8]) {
    let whole = proxy_protocol::parse(bytes);
    for cut in 0..bytes.len() {
        match (proxy_protocol::parse(&bytes[..cut]), whole) {
            (Ok(Parsed::Incomplete(needed)), Ok(Parsed::Whole(header))) => {
                assert!(
                    needed > 0 && cut + needed <= header.length,
                    "cut at {cut}: {}",
                    bytes.escape_ascii()
                );
            }
            (Ok(Parsed::Incomplete(needed)), _) => assert!(needed > 0, "cut at {cut}"),
            (Ok(Parsed::Whole(header)), _) => {
                assert_eq!(whole, Ok(Parsed::Whole(header)), "cut at {cut}: {}", bytes.escape_ascii());
                assert!(header.length <= cut, "cut at {cut}: {}", bytes.escape_ascii());
            }
            (Err(error), _) => assert_eq!(whole, Err(error), "cut at {cut}: {}", bytes.escape_ascii()),
        }
    }
    if let Ok(Parsed::Whole(header)) = whole {
        assert!(header.length <= bytes.len());
        let written = proxy_protocol::header(header.addresses.as_ref());
        let again = Parsed::Whole(proxy_protocol::Header { length: written.len(), ..header });
        assert_eq!(proxy_protocol::parse(&written), Ok(again), "{}", bytes.escape_ascii());
    }
}
