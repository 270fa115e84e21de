//! The two messages of gRPC's health protocol, as bytes and back. Each has one field, so that no code is generated for
//! them.
//!
//! Source: <https://github.com/grpc/grpc/blob/master/doc/health-checking.md>, the encoding of Protocol Buffers
//! (<https://protobuf.dev/programming-guides/encoding/>), and the frames of gRPC's `PROTOCOL-HTTP2.md`.

/// What is asked.
pub const PATH: &str = "/grpc.health.v1.Health/Check";

/// How many bytes stand before a message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// The longest answer: a field of one number, and what later versions may add to it.
pub const MAX_ANSWER: usize = 1024;

/// What a server says of itself or of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serving {
    /// Nothing, or something that nobody knows.
    Unknown,
    /// It serves.
    Serving,
    /// It does not.
    NotServing,
    /// There is no such service. An answer to `Watch`, though some give it to `Check`.
    ServiceUnknown,
}

impl Serving {
    /// The name in the specification.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "UNKNOWN",
            Self::Serving => "SERVING",
            Self::NotServing => "NOT_SERVING",
            Self::ServiceUnknown => "SERVICE_UNKNOWN",
        }
    }
}

/// Why bytes are no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// It is compressed, and nobody said that it may be.
    #[error("the answer is compressed")]
    Compressed,
    /// Not one whole message.
    #[error("the answer is not one whole message")]
    Length,
    /// No message of Protocol Buffers.
    #[error("the answer is no message of Protocol Buffers")]
    Malformed,
}

/// The request for `service` with what stands before it; empty is the server as a whole.
pub fn request(service: &str) -> Vec<u8> {
    let mut message = Vec::with_capacity(service.len() + 6);
    if !service.is_empty() {
        // Field 1, of the kind that has a length.
        message.push(0x0a);
        write_number(service.len() as u64, &mut message);
        message.extend_from_slice(service.as_bytes());
    }
    let mut out = Vec::with_capacity(message.len() + PREFIX);
    out.push(0);
    out.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(&message);
    out
}

/// What the answer `bytes`, which are all of it with what stands before it, says.
///
/// # Errors
/// [`AnswerError`]; fields that are not known are passed over.
pub fn answer(bytes: &[u8]) -> Result<Serving, AnswerError> {
    let (prefix, mut message) = bytes.split_first_chunk::<PREFIX>().ok_or(AnswerError::Length)?;
    let [compressed, length @ ..] = *prefix;
    if compressed != 0 {
        return Err(AnswerError::Compressed);
    }
    if usize::try_from(u32::from_be_bytes(length)) != Ok(message.len()) {
        return Err(AnswerError::Length);
    }
    let mut serving = Serving::Unknown;
    while !message.is_empty() {
        // Of a field that stands twice the last counts.
        if let Some(found) = field(&mut message).ok_or(AnswerError::Malformed)? {
            serving = found;
        }
    }
    Ok(serving)
}

/// Reads a field; what it says, where it is the one that is known.
#[expect(clippy::option_option, reason = "malformed, unknown and known are three things")]
fn field(bytes: &mut &[u8]) -> Option<Option<Serving>> {
    let key = read_number(bytes)?;
    let (number, kind) = (key >> 3, key & 7);
    if number == 0 || number > 0x1fff_ffff {
        return None;
    }
    let length = match kind {
        0 => {
            let value = read_number(bytes)?;
            return Some((number == 1).then_some(match value {
                1 => Serving::Serving,
                2 => Serving::NotServing,
                3 => Serving::ServiceUnknown,
                _ => Serving::Unknown,
            }));
        }
        1 => 8,
        2 => usize::try_from(read_number(bytes)?).ok()?,
        5 => 4,
        _ => return None,
    };
    *bytes = bytes.get(length..)?;
    Some(None)
}

/// A number of up to 64 bits, seven in each byte, the low ones first.
fn read_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for at in 0..10 {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        // The tenth byte has room for one bit.
        if at == 9 && byte > 1 {
            return None;
        }
        number |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn write_number(mut number: u64, out: &mut Vec<u8>) {
    loop {
        let [low, ..] = number.to_le_bytes();
        number >>= 7;
        if number == 0 {
            out.push(low & 0x7f);
            return;
        }
        out.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn framed(message: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
        bytes.extend_from_slice(message);
        bytes
    }

    #[test]
    fn request_names_the_service() {
        assert_eq!(request(""), [0, 0, 0, 0, 0]);
        assert_eq!(request("cart"), b"\0\0\0\0\x06\x0a\x04cart");
        let long = "s".repeat(300);
        assert_eq!(&request(&long)[..8], [0, 0, 0, 1, 47, 0x0a, 0xac, 0x02]);
    }

    #[test]
    fn answer_is_read_or_refused() {
        use AnswerError::{Compressed, Length, Malformed};
        for (bytes, expected) in [
            (framed(&[]), Ok(Serving::Unknown)),
            (framed(&[8, 1]), Ok(Serving::Serving)),
            (framed(&[8, 2]), Ok(Serving::NotServing)),
            (framed(&[8, 3]), Ok(Serving::ServiceUnknown)),
            (framed(&[8, 0x81, 0]), Ok(Serving::Serving)),
            (framed(&[8, 77]), Ok(Serving::Unknown)),
            (framed(&[8, 1, 8, 2]), Ok(Serving::NotServing)),
            (framed(&[0x12, 2, 8, 2, 8, 1]), Ok(Serving::Serving)),
            (framed(&[0x15, 1, 2, 3, 4, 8, 1]), Ok(Serving::Serving)),
            (framed(&[0x11, 1, 2, 3, 4, 5, 6, 7, 8]), Ok(Serving::Unknown)),
            (framed(&[8]), Err(Malformed)),
            (framed(&[0, 1]), Err(Malformed)),
            (framed(&[0x0b]), Err(Malformed)),
            (framed(&[0x12, 3, 0]), Err(Malformed)),
            (framed(&[8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]), Err(Malformed)),
            (vec![0, 0, 0, 0, 3, 8, 1], Err(Length)),
            (vec![0, 0, 0, 0, 1, 8, 1], Err(Length)),
            (vec![0, 0, 0, 0], Err(Length)),
            (Vec::new(), Err(Length)),
            (vec![1, 0, 0, 0, 2, 8, 1], Err(Compressed)),
        ] {
            assert_eq!(answer(&bytes), expected, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn service_that_is_written_is_the_one_that_is_read(service in ".{0,300}") {
            let bytes = request(&service);
            let (prefix, mut message) = bytes.split_first_chunk::<5>().unwrap();
            prop_assert_eq!(prefix[0], 0);
            prop_assert_eq!(u32::from_be_bytes(prefix[1..].try_into().unwrap()) as usize, message.len());
            if service.is_empty() {
                prop_assert!(message.is_empty());
            } else {
                prop_assert_eq!(read_number(&mut message), Some(0x0a));
                prop_assert_eq!(read_number(&mut message), Some(service.len() as u64));
                prop_assert_eq!(message, service.as_bytes());
            }
        }

        #[test]
        fn number_that_is_written_is_the_one_that_is_read(number: u64) {
            let mut bytes = Vec::new();
            write_number(number, &mut bytes);
            let mut left = bytes.as_slice();
            prop_assert_eq!(read_number(&mut left), Some(number));
            prop_assert!(left.is_empty());
        }

        #[test]
        fn any_bytes_are_an_answer_or_refused(bytes in vec(any::<u8>(), 0..40)) {
            let _ = answer(&bytes);
            let _ = answer(&framed(&bytes));
        }
    }
}
