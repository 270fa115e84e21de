//! Heads of requests.

use http::{Method, Uri, Version};
use httparse::Status;

use super::fields::{Fields, offset};
use super::{HeadError, lines};

/// A request's head: what it asks for, and its fields.
#[derive(Debug, Clone)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// The version that the client speaks.
    pub version: Version,
    /// The fields.
    pub fields: Fields,
    /// Where the path, the query behind it, and the target's own authority stand in the fields' text.
    path: (u32, u32),
    query_end: u32,
    authority: Option<(u32, u32)>,
    is_secure: bool,
}

/// What a request asks for, as it was sent.
#[derive(Debug, Clone, Copy)]
struct Target<'a> {
    scheme_is_secure: bool,
    authority: Option<&'a [u8]>,
    /// Path and query; empty where an absolute target has no path.
    rest: &'a [u8],
}

/// Where a byte may stand: in a path (1), in a query (2). What RFC 3986 does not allow and clients send all the same
/// stays, but for what ends a line, a word or a target; the rare ones are as the `http` crate has them, for what it
/// refuses could not be passed on by HTTP/2.
const TARGET: [u8; 256] = {
    let mut table = [3; 256];
    let mut byte = 0;
    while byte <= b' ' as usize {
        table[byte] = 0;
        byte += 1;
    }
    table[0x7f] = 0;
    table[b'#' as usize] = 0;
    table[b'"' as usize] = 1;
    table[b'<' as usize] = 0;
    table[b'>' as usize] = 0;
    table[b'`' as usize] = 2;
    table
};

impl RequestHead {
    /// Reads a head from the beginning of `bytes`: `None` while it is not whole, else how many bytes it is.
    ///
    /// # Errors
    /// [`HeadError`]: whatever comes behind it, it will not become a head.
    pub fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, HeadError> {
        // Empty lines before a request are not of it (RFC 9112 §2.2).
        let mut skipped = 0;
        while bytes[skipped..].starts_with(b"\r\n") {
            skipped += 2;
        }
        let bytes = &bytes[skipped..];
        if matches!(bytes.first(), Some(b'\n')) || (bytes.len() > 1 && bytes[0] == b'\r') {
            return Err(HeadError::Malformed);
        }
        let mut room = lines::room();
        let mut request = httparse::Request::new(&mut []);
        let length = match request.parse_with_uninit_headers(bytes, &mut room) {
            Ok(Status::Complete(length)) => length,
            Ok(Status::Partial) => return Ok(None),
            Err(httparse::Error::Version) => return Err(version_error(bytes)),
            Err(error) => return Err(lines::refused(error)),
        };
        let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version)
        else {
            return Err(HeadError::Malformed);
        };
        let head = &bytes[..length];
        // The request line ends where the target's version does, in CR and LF.
        let line_end = lines::place(head, target.as_bytes()).end + b" HTTP/1.1".len();
        if head.get(line_end..line_end + 2) != Some(b"\r\n") {
            return Err(HeadError::Malformed);
        }
        let method = Method::from_bytes(method.as_bytes()).map_err(|_| HeadError::Malformed)?;
        let fields = lines::fields(head, request.headers)?;
        let target = Target::parse(target.as_bytes())?;
        let version = if version == 0 { Version::HTTP_10 } else { Version::HTTP_11 };
        Ok(Some((Self::with_target(method, version, target, head, fields), skipped + length)))
    }

    fn with_target(
        method: Method,
        version: Version,
        target: Target<'_>,
        head: &[u8],
        mut fields: Fields,
    ) -> Self {
        let span = |part: &[u8]| {
            let place = lines::place(head, part);
            (offset(place.start), offset(place.end))
        };
        let authority = target.authority.map(span);
        let (start, end) = if target.rest.first() == Some(&b'/') || target.rest == b"*" {
            span(target.rest)
        } else {
            // An absolute target may have no path; what is sent on has one (RFC 9112 §3.2.1).
            let (start, _) = fields.keep(b"/");
            let (_, end) = fields.keep(target.rest);
            (start, end)
        };
        let path_length = memchr::memchr(b'?', fields.text(start, end)).map_or(end - start, offset);
        Self {
            method,
            version,
            fields,
            path: (start, start + path_length),
            query_end: end,
            authority,
            is_secure: target.scheme_is_secure,
        }
    }

    /// The head of a request that came by HTTP/2, or by no wire at all.
    pub fn new(method: Method, uri: &Uri, version: Version, mut fields: Fields) -> Self {
        let authority = uri.authority().map(|authority| fields.keep(authority.as_str().as_bytes()));
        let path = fields.keep(uri.path().as_bytes());
        let mut query_end = path.1;
        if let Some(query) = uri.query() {
            fields.keep(b"?");
            query_end = fields.keep(query.as_bytes()).1;
        }
        let is_secure = uri.scheme_str() == Some("https");
        Self { method, version, fields, path, query_end, authority, is_secure }
    }

    fn str(&self, from: u32, to: u32) -> &str {
        // It was found to be UTF-8 when it was read.
        std::str::from_utf8(self.fields.text(from, to)).unwrap_or_default()
    }

    /// The path as sent, beginning with `/`; or `*`.
    pub fn path(&self) -> &str {
        self.str(self.path.0, self.path.1)
    }

    /// The query as sent, without `?`.
    pub fn query(&self) -> Option<&str> {
        (self.query_end > self.path.1).then(|| self.str(self.path.1 + 1, self.query_end))
    }

    /// The path and the query as sent.
    pub fn path_and_query(&self) -> &str {
        self.str(self.path.0, self.query_end)
    }

    /// The target's own authority: of a target in absolute form, or HTTP/2's `:authority`.
    pub fn authority(&self) -> Option<&str> {
        self.authority.map(|(from, to)| self.str(from, to))
    }

    /// Whether the target names the scheme `https` itself.
    pub fn names_https(&self) -> bool {
        self.is_secure
    }

    /// Writes the head as HTTP/1.1 has it, with another target: up to the last field, without the blank line.
    pub fn write(&self, target: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(self.method.as_str().as_bytes());
        out.push(b' ');
        out.extend_from_slice(target.as_bytes());
        out.extend_from_slice(b" HTTP/1.1\r\n");
        self.fields.write(out);
    }
}

impl<'a> Target<'a> {
    fn parse(target: &'a [u8]) -> Result<Self, HeadError> {
        if target.first() == Some(&b'/') {
            check(target)?;
            return Ok(Self { scheme_is_secure: false, authority: None, rest: target });
        }
        if target == b"*" {
            return Ok(Self { scheme_is_secure: false, authority: None, rest: target });
        }
        let colon = memchr::memchr(b':', target).ok_or(HeadError::Target)?;
        let scheme_is_secure = match &target[..colon] {
            scheme if scheme.eq_ignore_ascii_case(b"http") => false,
            scheme if scheme.eq_ignore_ascii_case(b"https") => true,
            _ => return Err(HeadError::Target),
        };
        let rest = target[colon + 1..].strip_prefix(b"//").ok_or(HeadError::Target)?;
        let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#')).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        if authority.is_empty() || !authority.is_ascii() {
            return Err(HeadError::Target);
        }
        check(rest)?;
        Ok(Self { scheme_is_secure, authority: Some(authority), rest })
    }
}

/// Whether path and query have no byte that they may not have.
fn check(path_and_query: &[u8]) -> Result<(), HeadError> {
    let end = memchr::memchr(b'?', path_and_query).unwrap_or(path_and_query.len());
    let (path, query) = path_and_query.split_at(end);
    let has = |part: &[u8], bit: u8| part.iter().all(|byte| TARGET[usize::from(*byte)] & bit != 0);
    let is_text = path_and_query.is_ascii() || std::str::from_utf8(path_and_query).is_ok();
    if has(path, 1) && has(query, 2) && is_text { Ok(()) } else { Err(HeadError::Target) }
}

/// What is wrong with a version: another major one, or none.
fn version_error(bytes: &[u8]) -> HeadError {
    let line = bytes.split(|byte| *byte == b'\r' || *byte == b'\n').next().unwrap_or_default();
    let last = line.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
    match last.strip_prefix(b"HTTP/") {
        Some([major, b'.', minor]) if major.is_ascii_digit() && minor.is_ascii_digit() => HeadError::Version,
        _ => HeadError::Malformed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_of_a_target_is_judged_as_http2_would() {
        for byte in 0x21..=0x7f_u8 {
            for (text, bit) in [(format!("/a{}", byte as char), 1), (format!("/a?b{}", byte as char), 2)] {
                if byte == b'?' {
                    continue;
                }
                let fits = text.parse::<http::uri::PathAndQuery>().is_ok() && byte != b'#';
                assert_eq!(TARGET[usize::from(byte)] & bit != 0, fits, "{text:?}");
            }
        }
    }
}
