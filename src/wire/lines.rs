//! From what httparse found to [`Fields`], refusing what it lets pass: lines that end in a bare LF.

use std::mem::MaybeUninit;
use std::ops::Range;

use httparse::{Header, Status};

use super::{Fields, HeadError, MAX_FIELDS};

/// Room for the fields of a head, not yet filled.
pub(super) type Room<'b> = [MaybeUninit<Header<'b>>; MAX_FIELDS];

/// An empty room.
pub(super) fn room<'b>() -> Room<'b> {
    [const { MaybeUninit::uninit() }; MAX_FIELDS]
}

/// Where `part` stands in `whole`, which it was taken from.
pub(super) fn place(whole: &[u8], part: &[u8]) -> Range<usize> {
    let start = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize).min(whole.len());
    start..(start + part.len()).min(whole.len())
}

/// What the parser's error means.
pub(super) fn refused(error: httparse::Error) -> HeadError {
    match error {
        httparse::Error::TooManyHeaders => HeadError::TooManyFields,
        _ => HeadError::Malformed,
    }
}

/// The fields that were found in `head`, behind which nothing stands but the blank line.
pub(super) fn fields(head: &[u8], found: &[Header<'_>]) -> Result<Fields, HeadError> {
    let mut fields = Fields::with_text(head, found.len());
    let is_crlf = |at: usize| at >= 2 && head.get(at - 2..at) == Some(b"\r\n");
    for (index, header) in found.iter().enumerate() {
        let name = place(head, header.name.as_bytes());
        // The line before ends here: httparse takes a bare LF, others do not (RFC 9112 §2.2).
        if !is_crlf(name.start) && name.start > 0 {
            return Err(HeadError::Malformed);
        }
        let value = if header.value.is_empty() { name.end..name.end } else { place(head, header.value) };
        let next = match found.get(index + 1) {
            Some(next) => place(head, next.name.as_bytes()).start,
            None => head.len().saturating_sub(2),
        };
        let is_plain = value.end + 2 == next && head.get(name.end..value.start) == Some(b": ");
        fields.found(name, value, is_plain);
    }
    // Without fields the blank line alone is judged here.
    let is_ended = if found.is_empty() { is_crlf(head.len()) } else { head.ends_with(b"\r\n\r\n") };
    if is_ended { Ok(fields) } else { Err(HeadError::Malformed) }
}

/// Reads the fields behind a body and the blank line that ends them: `None` while they are not whole, else how many
/// bytes they are.
///
/// # Errors
/// [`HeadError`] where they are no fields.
pub(super) fn trailers(bytes: &[u8]) -> Result<Option<(Fields, usize)>, HeadError> {
    let mut room = [httparse::EMPTY_HEADER; MAX_FIELDS];
    match httparse::parse_headers(bytes, &mut room).map_err(refused)? {
        Status::Partial => Ok(None),
        Status::Complete((length, found)) => Ok(Some((fields(&bytes[..length], found)?, length))),
    }
}
