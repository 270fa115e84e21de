//! The names of fields that the proxy itself reads or writes: one byte each, so that most questions to a head are one
//! bit.

/// Defines the names once: the variant and its text in lower case.
macro_rules! names {
    ($($(#[$doc:meta])* $variant:ident => $text:literal,)*) => {
        /// A field name that the proxy knows.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Known {
            $(#[doc = concat!("`", $text, "`")] $variant,)*
        }

        impl Known {
            /// Every known name.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name in lower case.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }
        }
    };
}

names! {
    Te => "te",
    Via => "via",
    Date => "date",
    Host => "host",
    Vary => "vary",
    Allow => "allow",
    Cookie => "cookie",
    Expect => "expect",
    Trailer => "trailer",
    Upgrade => "upgrade",
    Location => "location",
    Forwarded => "forwarded",
    Connection => "connection",
    KeepAlive => "keep-alive",
    SetCookie => "set-cookie",
    RetryAfter => "retry-after",
    ContentType => "content-type",
    XRequestId => "x-request-id",
    XWeirError => "x-weir-error",
    Authorization => "authorization",
    CacheControl => "cache-control",
    ContentLength => "content-length",
    XForwardedFor => "x-forwarded-for",
    XForwardedHost => "x-forwarded-host",
    ProxyConnection => "proxy-connection",
    CdnCacheControl => "cdn-cache-control",
    SurrogateControl => "surrogate-control",
    TransferEncoding => "transfer-encoding",
    XForwardedProto => "x-forwarded-proto",
    ProxyAuthenticate => "proxy-authenticate",
    ProxyAuthorization => "proxy-authorization",
    XForwardedClientCert => "x-forwarded-client-cert",
}

impl Known {
    /// The known name that `name` is, in whatever case.
    pub fn of(name: &[u8]) -> Option<Self> {
        // By length and first letter all are told apart but two.
        let known = match (name.len(), name.first()? | 0x20) {
            (2, b't') => Self::Te,
            (3, b'v') => Self::Via,
            (4, b'd') => Self::Date,
            (4, b'h') => Self::Host,
            (4, b'v') => Self::Vary,
            (5, b'a') => Self::Allow,
            (6, b'c') => Self::Cookie,
            (6, b'e') => Self::Expect,
            (7, b't') => Self::Trailer,
            (7, b'u') => Self::Upgrade,
            (8, b'l') => Self::Location,
            (9, b'f') => Self::Forwarded,
            (10, b'c') => Self::Connection,
            (10, b'k') => Self::KeepAlive,
            (10, b's') => Self::SetCookie,
            (11, b'r') => Self::RetryAfter,
            (12, b'c') => Self::ContentType,
            (12, b'x') if name.get(2)? | 0x20 == b'r' => Self::XRequestId,
            (12, b'x') => Self::XWeirError,
            (13, b'a') => Self::Authorization,
            (13, b'c') => Self::CacheControl,
            (14, b'c') => Self::ContentLength,
            (15, b'x') => Self::XForwardedFor,
            (16, b'p') => Self::ProxyConnection,
            (16, b'x') => Self::XForwardedHost,
            (17, b'c') => Self::CdnCacheControl,
            (17, b's') => Self::SurrogateControl,
            (17, b't') => Self::TransferEncoding,
            (17, b'x') => Self::XForwardedProto,
            (18, b'p') => Self::ProxyAuthenticate,
            (19, b'p') => Self::ProxyAuthorization,
            (23, b'x') => Self::XForwardedClientCert,
            _ => return None,
        };
        known.as_str().as_bytes().eq_ignore_ascii_case(name).then_some(known)
    }

    /// The bit that stands for this name in a set.
    pub(super) const fn bit(self) -> u64 {
        1 << (self as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_name_is_found_in_any_case_and_no_other() {
        assert!(Known::ALL.len() <= 64, "a set of them is one word");
        for &known in Known::ALL {
            let text = known.as_str();
            assert_eq!(Known::of(text.as_bytes()), Some(known), "{text}");
            assert_eq!(Known::of(text.to_ascii_uppercase().as_bytes()), Some(known), "{text}");
            assert_eq!(Known::of(format!("{text}s").as_bytes()), None, "{text}s");
            assert_eq!(Known::of(text.replace('-', "_").as_bytes()).is_some(), !text.contains('-'), "{text}");
            assert_eq!(Known::of(&text.as_bytes()[1..]), None, "{text}");
        }
        assert_eq!(Known::of(b""), None);
        assert_eq!(Known::of(b"x-user-id"), None);
    }
}
