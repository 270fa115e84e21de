//! What gRPC adds to HTTP/2, as bytes and back: which requests are gRPC, their deadline, and the status that a response
//! ends with. What the proxy makes of it stands in `proxy::grpc`.
//!
//! Source: <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md> and `statuscodes.md` beside it.

use std::time::Duration;

use super::Fields;

/// The field that a response ends with.
pub const STATUS: &str = "grpc-status";
/// The field that says more for people; percent-encoded.
pub const MESSAGE: &str = "grpc-message";
/// The field with the time that a request may take.
pub const TIMEOUT: &str = "grpc-timeout";
/// The content type of gRPC; `+proto` and the like may follow.
pub const CONTENT_TYPE: &str = "application/grpc";

macro_rules! statuses {
    ($($(#[$doc:meta])* $name:ident = $code:literal $text:literal,)*) => {
        /// How a gRPC request ended.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Status {
            $($(#[$doc])* $name,)*
            /// The response ended without a status, or with one that is none: for a client the same as `UNKNOWN`.
            Missing,
        }

        impl Status {
            /// Every status, in the order of their codes, [`Status::Missing`] last.
            pub const ALL: [Self; 18] = [$(Self::$name,)* Self::Missing];

            /// The number on the wire; that of `UNKNOWN` where there was none.
            pub const fn code(self) -> u8 {
                match self {
                    $(Self::$name => $code,)*
                    Self::Missing => 2,
                }
            }

            /// The name in the specification; `MISSING` where there was none.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                    Self::Missing => "MISSING",
                }
            }

            fn of_code(code: u8) -> Self {
                match code {
                    $($code => Self::$name,)*
                    _ => Self::Missing,
                }
            }
        }
    };
}

statuses! {
    /// Success.
    Ok = 0 "OK",
    /// The caller gave up.
    Cancelled = 1 "CANCELLED",
    /// An error that nobody named.
    Unknown = 2 "UNKNOWN",
    /// The request is wrong whatever the state of the system.
    InvalidArgument = 3 "INVALID_ARGUMENT",
    /// The time was over.
    DeadlineExceeded = 4 "DEADLINE_EXCEEDED",
    /// What was asked for is not there.
    NotFound = 5 "NOT_FOUND",
    /// What was to be made is there.
    AlreadyExists = 6 "ALREADY_EXISTS",
    /// The caller may not.
    PermissionDenied = 7 "PERMISSION_DENIED",
    /// A limit was met.
    ResourceExhausted = 8 "RESOURCE_EXHAUSTED",
    /// The system is not in the state that this needs.
    FailedPrecondition = 9 "FAILED_PRECONDITION",
    /// Two got in each other's way.
    Aborted = 10 "ABORTED",
    /// Past the end.
    OutOfRange = 11 "OUT_OF_RANGE",
    /// There is no such method.
    Unimplemented = 12 "UNIMPLEMENTED",
    /// Something is broken.
    Internal = 13 "INTERNAL",
    /// Not now: try again.
    Unavailable = 14 "UNAVAILABLE",
    /// Data is lost for good.
    DataLoss = 15 "DATA_LOSS",
    /// Nobody knows who the caller is.
    Unauthenticated = 16 "UNAUTHENTICATED",
}

impl Status {
    /// The status in trailers, or in a head that is a whole response.
    pub fn of(fields: &Fields) -> Self {
        let mut values = fields.all(STATUS);
        match (values.next(), values.next()) {
            (Some(value), None) => Self::parse(value),
            _ => Self::Missing,
        }
    }

    /// The status of these digits: a number without a leading zero, `[0, 16]`.
    fn parse(value: &[u8]) -> Self {
        match *value {
            [digit @ b'0'..=b'9'] => Self::of_code(digit - b'0'),
            [b'1', digit @ b'0'..=b'6'] => Self::of_code(10 + digit - b'0'),
            _ => Self::Missing,
        }
    }

    /// Whether the server is at fault: what in HTTP is a status from 500 on. The rest is an answer that a server in good
    /// health gives to what it was asked.
    pub const fn is_fault(self) -> bool {
        matches!(
            self,
            Self::Unknown
                | Self::DeadlineExceeded
                | Self::Unimplemented
                | Self::Internal
                | Self::Unavailable
                | Self::DataLoss
                | Self::Missing
        )
    }
}

/// Whether a message with these fields is gRPC: `application/grpc`, alone or with `+proto` or the like or parameters.
/// gRPC-Web (`application/grpc-web`) is not: its trailers are in its body, and for a proxy it is HTTP.
pub fn is_grpc(content_type: &[u8]) -> bool {
    let Some((name, rest)) = content_type.split_at_checked(CONTENT_TYPE.len()) else { return false };
    name.eq_ignore_ascii_case(CONTENT_TYPE.as_bytes())
        && matches!(rest.first(), None | Some(b'+' | b';' | b' ' | b'\t'))
}

/// The time that a request may take: up to eight digits and a unit. `None` where there is none, or what is there is
/// none: what the peer makes of that is its business.
pub fn timeout(fields: &Fields) -> Option<Duration> {
    let mut values = fields.all(TIMEOUT);
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (unit, digits) = value.split_last()?;
    if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits.iter().fold(0, |number: u64, digit| number * 10 + u64::from(digit - b'0'));
    match unit {
        b'H' => Some(Duration::from_hours(number)),
        b'M' => Some(Duration::from_mins(number)),
        b'S' => Some(Duration::from_secs(number)),
        b'm' => Some(Duration::from_millis(number)),
        b'u' => Some(Duration::from_micros(number)),
        b'n' => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

/// `message` as `grpc-message` has it: printable ASCII but `%` as it is, all else percent-encoded.
pub fn encode_message(message: &str) -> String {
    use std::fmt::Write;

    let mut encoded = String::with_capacity(message.len());
    for byte in message.bytes() {
        if matches!(byte, b' '..=b'~') && byte != b'%' {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn content_type_is_grpc_only_where_the_specification_says_so() {
        for (text, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("Application/gRPC+json", true),
            ("application/grpc;charset=utf-8", true),
            ("application/grpc ; a=b", true),
            ("application/grpc-web", false),
            ("application/grpc-web+proto", false),
            ("application/grpcx", false),
            ("application/grp", false),
            ("application/json", false),
            ("", false),
        ] {
            assert_eq!(is_grpc(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn status_is_read_from_exactly_one_valid_field() {
        for status in Status::ALL {
            let code = status.code().to_string();
            let fields = Fields::from_iter([(STATUS, &*code)]);
            let expected = if status == Status::Missing { Status::Unknown } else { status };
            assert_eq!(Status::of(&fields), expected, "{code}");
        }
        for text in ["", "17", "00", "01", "-1", "+0", "0 ", "OK", "100", "٣"] {
            assert_eq!(Status::of(&Fields::from_iter([(STATUS, text)])), Status::Missing, "{text}");
        }
        assert_eq!(Status::of(&Fields::new()), Status::Missing);
        let twice = Fields::from_iter([(STATUS, "0"), (STATUS, "0")]);
        assert_eq!(Status::of(&twice), Status::Missing);
    }

    #[test]
    fn timeout_is_digits_and_a_unit_and_nothing_else() {
        for (text, expected) in [
            ("1H", Some(Duration::from_hours(1))),
            ("2M", Some(Duration::from_mins(2))),
            ("3S", Some(Duration::from_secs(3))),
            ("4m", Some(Duration::from_millis(4))),
            ("5u", Some(Duration::from_micros(5))),
            ("6n", Some(Duration::from_nanos(6))),
            ("0S", Some(Duration::ZERO)),
            ("00000001S", Some(Duration::from_secs(1))),
            ("99999999H", Some(Duration::from_hours(99_999_999))),
            ("000000001S", None),
            ("S", None),
            ("1", None),
            ("", None),
            ("1s", None),
            ("1h", None),
            ("-1S", None),
            ("+1S", None),
            ("1 S", None),
            (" 1S", None),
            ("1.5S", None),
            ("1SS", None),
        ] {
            assert_eq!(timeout(&Fields::from_iter([(TIMEOUT, text)])), expected, "{text:?}");
        }
        assert_eq!(timeout(&Fields::from_iter([(TIMEOUT, "1S"), (TIMEOUT, "2S")])), None, "which?");
        assert_eq!(timeout(&Fields::new()), None);
    }

    #[test]
    fn message_is_percent_encoded() {
        for (text, expected) in [
            ("plain text, with signs: ~", "plain text, with signs: ~"),
            ("100%", "100%25"),
            ("ä\n\x7f", "%C3%A4%0A%7F"),
            ("", ""),
        ] {
            assert_eq!(encode_message(text), expected);
        }
    }

    proptest! {
        #[test]
        fn message_comes_back(text in any::<String>()) {
            let encoded = encode_message(&text);
            prop_assert!(encoded.bytes().all(|byte| matches!(byte, b' '..=b'~')));
            let back = percent_encoding::percent_decode_str(&encoded).decode_utf8().unwrap();
            prop_assert_eq!(back, text);
        }

        #[test]
        fn any_bytes_are_read(bytes in vec(any::<u8>(), 0..20)) {
            let _ = is_grpc(&bytes);
            prop_assert!(bytes.len() < 3 || Status::parse(&bytes) == Status::Missing);
        }
    }
}
