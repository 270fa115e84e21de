//! What `wire` accepts and what it refuses. The same against another parser, and payloads of known attacks:
//! `tests/wire` at the root.

mod chunks;
mod edits;
mod fields;
mod framing;
mod paths;
mod properties;
mod proxy_protocol;
mod requests;
mod responses;
mod targets;

use super::{Fields, FramingError, HeadError, Length, RequestHead, ResponseHead};

/// Parses the request that `bytes` begin with, which has to be whole.
fn request(bytes: impl AsRef<[u8]>) -> Result<RequestHead, HeadError> {
    let bytes = bytes.as_ref();
    RequestHead::parse(bytes)
        .map(|parsed| parsed.unwrap_or_else(|| panic!("not whole: {}", bytes.escape_ascii())).0)
}

/// Parses the response that `bytes` begin with, which has to be whole.
fn response(bytes: impl AsRef<[u8]>) -> Result<ResponseHead, HeadError> {
    let bytes = bytes.as_ref();
    ResponseHead::parse(bytes)
        .map(|parsed| parsed.unwrap_or_else(|| panic!("not whole: {}", bytes.escape_ascii())).0)
}

/// What the framing of a request with these lines is.
fn framing(lines: &[u8]) -> Result<Length, FramingError> {
    let head = [b"POST / HTTP/1.1\r\nHost: a\r\n", lines, b"\r\n"].concat();
    let head = request(&head).unwrap_or_else(|error| panic!("{error}: {}", lines.escape_ascii()));
    Length::of_request(&head)
}

/// Names and values, for comparison.
fn rows(fields: &Fields) -> Vec<(String, Vec<u8>)> {
    fields.iter().map(|(name, value)| (String::from_utf8(name.to_vec()).unwrap(), value.to_vec())).collect()
}
