//! Where a body ends (RFC 9112 §6.3). A message that could be read in two ways is refused.

use http::{Method, StatusCode, Version};

use super::{Fields, Known, RequestHead, ResponseHead};

/// The longest body and the longest chunk: what 63 bits hold.
pub(super) const MAX_LENGTH: u64 = u64::MAX >> 1;

/// How the end of a body is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// After so many bytes; 0 where there is no body.
    Exact(u64),
    /// By the last chunk.
    Chunked,
    /// By the end of the connection.
    UntilClose,
}

/// A head that says two things of its body's end, or something that is not understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the framing of the body is ambiguous")]
pub struct FramingError;

impl Length {
    /// Where the body of a request ends.
    ///
    /// # Errors
    /// [`FramingError`], after which nothing on the connection can be trusted.
    pub fn of_request(head: &RequestHead) -> Result<Self, FramingError> {
        Ok(declared(&head.fields, head.version)?.unwrap_or(Self::Exact(0)))
    }

    /// Where the body of the response to a request by `method` ends.
    ///
    /// # Errors
    /// [`FramingError`], after which nothing on the connection can be trusted.
    pub fn of_response(head: &ResponseHead, method: &Method) -> Result<Self, FramingError> {
        let declared = declared(&head.fields, head.version)?;
        let is_bodiless = head.status.is_informational()
            || head.status == StatusCode::NO_CONTENT
            || head.status == StatusCode::NOT_MODIFIED
            || method == Method::HEAD;
        Ok(if is_bodiless { Self::Exact(0) } else { declared.unwrap_or(Self::UntilClose) })
    }
}

/// What the fields say: one length, or one coding that is `chunked`, and never both.
fn declared(fields: &Fields, version: Version) -> Result<Option<Length>, FramingError> {
    let mut codings = fields.all(Known::TransferEncoding);
    let mut lengths = fields.all(Known::ContentLength);
    match (codings.next(), lengths.next()) {
        (None, None) => Ok(None),
        (None, Some(length)) if lengths.next().is_none() => {
            Ok(Some(Length::Exact(number(length).ok_or(FramingError)?)))
        }
        // HTTP/1.0 knows no codings: somebody on the way did not understand what it passed on.
        (Some(coding), None)
            if codings.next().is_none()
                && version != Version::HTTP_10
                && coding.eq_ignore_ascii_case(b"chunked") =>
        {
            Ok(Some(Length::Chunked))
        }
        _ => Err(FramingError),
    }
}

/// Digits and nothing else, below 2^63: parsers whose lengths have a sign would read a larger one as another.
fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    let number = text.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })?;
    (number <= MAX_LENGTH).then_some(number)
}

/// Writes a length that begins with zeros without them: there are parsers that take such a number for an octal one.
pub fn write_plainly(fields: &mut Fields) {
    let written = fields.get(Known::ContentLength).unwrap_or_default();
    if let [b'0', _, ..] = written
        && let Some(length) = number(written)
    {
        fields.set(Known::ContentLength, length.to_string().as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_is_passed_on_as_the_number_that_was_read() {
        for (written, passed) in
            [("5", "5"), ("0", "0"), ("010", "10"), ("00", "0"), ("0x5", "0x5"), ("", "")]
        {
            let mut fields: Fields = [("content-length", written)].into_iter().collect();
            write_plainly(&mut fields);
            assert_eq!(fields.get(Known::ContentLength), Some(passed.as_bytes()), "{written:?}");
        }
        let mut none = Fields::default();
        write_plainly(&mut none);
        assert!(none.is_empty());
    }
}
