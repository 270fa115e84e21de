//! A check over HTTP/1.1: one request, and its answer to its end.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::target::Request;
use super::{Failure, MAX_BODY};
use crate::wire::{Chunked, Fields, Known, Length, ResponseHead};

/// The most of heads that is read, 1xx ones included.
const MAX_HEAD: usize = 64 * 1024;

/// What a connection has given and nobody has looked at yet.
struct Reader<'a, T> {
    io: &'a mut T,
    bytes: Vec<u8>,
}

/// Sends `request` and reads the answer.
pub(super) async fn ask<T>(io: &mut T, request: &Request<'_>) -> Result<(), Failure>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    io.write_all(&head(request)).await.map_err(Failure::of_io)?;
    io.flush().await.map_err(Failure::of_io)?;
    let mut reader = Reader { io, bytes: Vec::new() };
    let head = reader.head().await?;
    if !request.http.expects(head.status) {
        return Err(Failure::Status(head.status));
    }
    let length = Length::of_response(&head, &request.http.method).map_err(|_| Failure::NotHttp)?;
    request.judge(&reader.body(length).await?)
}

/// The head of the request.
fn head(request: &Request<'_>) -> Vec<u8> {
    let mut fields = Fields::new();
    fields.append(Known::Host, request.host.as_bytes());
    fields.append(Known::Connection, b"close");
    for (name, value) in request.fields() {
        fields.append(name, value.as_bytes());
    }
    let mut out = Vec::with_capacity(256);
    out.extend_from_slice(request.http.method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(request.http.path.as_str().as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    fields.write(&mut out);
    out.extend_from_slice(b"\r\n");
    out
}

impl<T: AsyncRead + Unpin> Reader<'_, T> {
    /// Reads on; false at the end.
    async fn more(&mut self) -> Result<bool, Failure> {
        self.bytes.reserve(4096);
        let read = self.io.read_buf(&mut self.bytes).await.map_err(Failure::of_io)?;
        Ok(read > 0)
    }

    /// The head of the final answer.
    async fn head(&mut self) -> Result<ResponseHead, Failure> {
        let (mut seen, mut before) = (0, 0);
        // Looked at when its end has come or it has doubled: who sends it byte by byte makes nobody read it each time.
        let mut due = 1;
        loop {
            let new = self.bytes.get(seen..).unwrap_or_default();
            let has_end = memchr::memmem::find(new, b"\r\n\r\n").is_some();
            if has_end || self.bytes.len() >= due {
                due = 2 * self.bytes.len().max(16);
                match ResponseHead::parse(&self.bytes) {
                    Ok(Some((head, length))) => {
                        self.bytes.drain(..length);
                        if !head.status.is_informational() || head.status.as_u16() == 101 {
                            return Ok(head);
                        }
                        before += length;
                        (seen, due) = (0, 1);
                        continue;
                    }
                    Ok(None) => {}
                    Err(_) => return Err(Failure::NotHttp),
                }
            }
            // Its end may stand in what was read and what is read next.
            seen = self.bytes.len().saturating_sub(3);
            if before + self.bytes.len() >= MAX_HEAD {
                return Err(Failure::TooLarge);
            }
            if !self.more().await? {
                return Err(Failure::Closed);
            }
        }
    }

    /// The body to its end, of a longer one the first [`MAX_BODY`] bytes or a little more.
    async fn body(mut self, length: Length) -> Result<Vec<u8>, Failure> {
        match length {
            Length::Exact(length) => {
                let wanted = usize::try_from(length).unwrap_or(usize::MAX).min(MAX_BODY);
                while self.bytes.len() < wanted {
                    if !self.more().await? {
                        return Err(Failure::Closed);
                    }
                }
                self.bytes.truncate(wanted);
                Ok(self.bytes)
            }
            Length::UntilClose => {
                while self.bytes.len() < MAX_BODY && self.more().await? {}
                Ok(self.bytes)
            }
            Length::Chunked => {
                let (mut chunked, mut body) = (Chunked::default(), Vec::new());
                loop {
                    let read = chunked.read(&mut self.bytes).map_err(|_| Failure::NotHttp)?;
                    body.extend_from_slice(self.bytes.get(..read.data).unwrap_or_default());
                    self.bytes.clear();
                    if read.end.is_some() || body.len() >= MAX_BODY {
                        return Ok(body);
                    }
                    if !self.more().await? {
                        return Err(Failure::Closed);
                    }
                }
            }
        }
    }
}
