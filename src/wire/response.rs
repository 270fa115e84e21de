//! Heads of responses.

use http::{StatusCode, Version};
use httparse::Status;

use super::fields::{Fields, offset};
use super::{HeadError, lines};

/// A response's head: the status and the fields.
#[derive(Debug, Clone)]
pub struct ResponseHead {
    /// The status.
    pub status: StatusCode,
    /// The version that the endpoint speaks.
    pub version: Version,
    /// The fields.
    pub fields: Fields,
    /// Where the reason stands in the fields' text, where the endpoint gave one.
    reason: (u32, u32),
}

impl ResponseHead {
    /// A head with these fields and the usual reason.
    pub fn new(status: StatusCode, version: Version, fields: Fields) -> Self {
        Self { status, version, fields, reason: (0, 0) }
    }

    /// The reason that the endpoint gave; empty where it gave none.
    pub fn reason(&self) -> &[u8] {
        self.fields.text(self.reason.0, self.reason.1)
    }

    /// Reads a head from the beginning of `bytes`: `None` while it is not whole, else how many bytes it is.
    ///
    /// # Errors
    /// [`HeadError`]: whatever comes behind it, it will not become a head.
    pub fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, HeadError> {
        // httparse would skip empty lines; before a response there are none.
        if matches!(bytes.first(), Some(b'\r' | b'\n')) {
            return Err(HeadError::Malformed);
        }
        let mut room = lines::room();
        let mut response = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        let length = match config.parse_response_with_uninit_headers(&mut response, bytes, &mut room) {
            Ok(Status::Complete(length)) => length,
            Ok(Status::Partial) => return Ok(None),
            Err(httparse::Error::Version) => return Err(HeadError::Version),
            Err(error) => return Err(lines::refused(error)),
        };
        let (Some(version), Some(code)) = (response.version, response.code) else {
            return Err(HeadError::Malformed);
        };
        let head = &bytes[..length];
        let line_end = memchr::memchr(b'\n', head).unwrap_or(0);
        let line = head.get(..line_end).and_then(|line| line.strip_suffix(b"\r"));
        let line = line.ok_or(HeadError::Malformed)?;
        let status = StatusCode::from_u16(code).map_err(|_| HeadError::Malformed)?;
        let fields = lines::fields(head, response.headers)?;
        // `HTTP/1.1 200 ` stands before the reason.
        let reason = if line.len() > 13 { (13, offset(line.len())) } else { (0, 0) };
        let version = if version == 0 { Version::HTTP_10 } else { Version::HTTP_11 };
        Ok(Some((Self { status, version, fields, reason }, length)))
    }

    /// Writes the head as HTTP/1.1 has it: up to the last field, without the blank line.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(self.status.as_str().as_bytes());
        out.push(b' ');
        match self.reason() {
            b"" => out.extend_from_slice(self.status.canonical_reason().unwrap_or_default().as_bytes()),
            reason => out.extend_from_slice(reason),
        }
        out.extend_from_slice(b"\r\n");
        self.fields.write(out);
    }
}
