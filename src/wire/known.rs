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
}

impl Known {
    /// The known name that `name` is, in whatever case.
    pub fn of(name: &[u8]) -> Option<Self> {
        // By length first: most names are ruled out by it.
        let candidates: &[Self] = match name.len() {
            2 => &[Self::Te],
            3 => &[Self::Via],
            4 => &[Self::Host, Self::Date, Self::Vary],
            5 => &[Self::Allow],
            6 => &[Self::Cookie, Self::Expect],
            7 => &[Self::Trailer, Self::Upgrade],
            8 => &[Self::Location],
            9 => &[Self::Forwarded],
            10 => &[Self::Connection, Self::KeepAlive, Self::SetCookie],
            11 => &[Self::RetryAfter],
            12 => &[Self::ContentType, Self::XRequestId, Self::XWeirError],
            13 => &[Self::Authorization, Self::CacheControl],
            14 => &[Self::ContentLength],
            15 => &[Self::XForwardedFor],
            16 => &[Self::XForwardedHost, Self::ProxyConnection],
            17 => &[
                Self::TransferEncoding,
                Self::XForwardedProto,
                Self::CdnCacheControl,
                Self::SurrogateControl,
            ],
            18 => &[Self::ProxyAuthenticate],
            19 => &[Self::ProxyAuthorization],
            _ => return None,
        };
        let first = name.first()? | 0x20;
        let is_it = |known: &&Self| {
            let text = known.as_str().as_bytes();
            text.first() == Some(&first) && text.eq_ignore_ascii_case(name)
        };
        candidates.iter().find(is_it).copied()
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
