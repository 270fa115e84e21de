//! Heads of requests.

use http::{Method, Uri, Version};
use httparse::Status;

use super::fields::{Fields, offset};
use super::target::Target;
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
            Err(httparse::Error::Version) => return version_error(bytes).map_or(Ok(None), Err),
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
        let target = Target::parse(&method, target.as_bytes())?;
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
        let (start, end) = if target.path.is_empty() {
            span(target.rest)
        } else {
            let (start, _) = fields.keep(target.path);
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

    /// The path as sent, or as it was set since, beginning with `/`; or `*`; empty for CONNECT.
    pub fn path(&self) -> &str {
        self.str(self.path.0, self.path.1)
    }

    /// The query as sent, without `?`.
    pub fn query(&self) -> Option<&str> {
        (self.query_end > self.path.1).then(|| self.str(self.path.1 + 1, self.query_end))
    }

    /// Puts `path` in place of the path; the query stays.
    pub fn set_path(&mut self, path: &str) {
        let query = self.fields.text(self.path.1, self.query_end).to_vec();
        self.path = self.fields.keep(path.as_bytes());
        self.query_end = self.fields.keep(&query).1;
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

/// What is wrong with a version: another one, or none. `None` while the line is not whole and may be either, so that
/// the verdict is the same however the bytes are cut.
fn version_error(bytes: &[u8]) -> Option<HeadError> {
    let end = bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
    let line = end.map_or(bytes, |end| &bytes[..end]);
    let version = line.splitn(3, |byte| *byte == b' ').nth(2).unwrap_or_default();
    let fits = |(byte, like): (&u8, &u8)| if *like == b'0' { byte.is_ascii_digit() } else { byte == like };
    let may_be = version.len() <= 8 && version.iter().zip(b"HTTP/0.0").all(fits);
    match end {
        None if may_be => None,
        Some(_) if may_be && version.len() == 8 => Some(HeadError::Version),
        _ => Some(HeadError::Malformed),
    }
}
