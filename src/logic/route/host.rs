//! Host patterns: `shop.example.com`, `*.example.com`, either with a port, and IP addresses.
//!
//! Only the text is looked at here; which of several patterns wins is `host_index`'s.

use std::fmt;
use std::net::Ipv6Addr;

/// The longest host name, in bytes (RFC 1035 §2.3.4, without the root's dot).
const MAX_NAME: usize = 253;

/// The longest label of a host name, in bytes (RFC 1035 §2.3.4).
const MAX_LABEL: usize = 63;

/// A host that a route is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPattern {
    /// Lower case, without the root's dot; an IPv6 address in brackets and canonical (RFC 5952); for a wildcard what
    /// follows `*.`.
    pub name: String,
    /// Whether one or more labels must stand before `name`.
    pub wildcard: bool,
    /// The port the request's authority must name; `None` is any or none. Clients leave out the default port of their
    /// scheme, so that `:80` and `:443` are seldom named.
    pub port: Option<u16>,
}

impl HostPattern {
    /// Parses `shop.example.com`, `*.example.com`, `shop.example.com:8080`, `[::1]:8080`.
    ///
    /// # Errors
    /// A sentence that says what is wrong and what may be written.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some((_, rest)) = text.split_once("://") {
            return Err(format!("a host has no scheme, write `{}`", rest.trim_end_matches('/')));
        }
        if text.contains('/') {
            return Err("a host has no path, write the path under `paths`".to_owned());
        }
        if text.starts_with("*.[") {
            return Err("`*` stands before a name, not before an address".to_owned());
        }
        if text.starts_with('[') {
            return Self::parse_ipv6(text);
        }
        if text.parse::<Ipv6Addr>().is_ok() {
            return Err(format!("an IPv6 address stands in brackets, write `[{text}]`"));
        }
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, Some(parse_port(port)?)),
            None => (text, None),
        };
        if host == "*" {
            return Err(match port {
                None => "leave `hosts` out to match every host, or write `*.example.com`".to_owned(),
                Some(_) => "a port needs a host name before it, write `shop.example.com:8080`".to_owned(),
            });
        }
        let (wildcard, name) = match host.strip_prefix("*.") {
            Some(name) => (true, name),
            None => (false, host),
        };
        let name = name.strip_suffix('.').unwrap_or(name);
        check_name(name)?;
        Ok(Self { name: name.to_ascii_lowercase(), wildcard, port })
    }

    fn parse_ipv6(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not an IPv6 address, write `[::1]` or `[::1]:8080`");
        let (address, rest) =
            text.strip_prefix('[').and_then(|text| text.split_once(']')).ok_or_else(wrong)?;
        let address: Ipv6Addr = address.parse().map_err(|_| wrong())?;
        let port = match rest.strip_prefix(':') {
            Some(port) => Some(parse_port(port)?),
            None if rest.is_empty() => None,
            None => return Err(wrong()),
        };
        Ok(Self { name: format!("[{address}]"), wildcard: false, port })
    }

    /// The address, when this is an IPv6 literal.
    pub fn ipv6(&self) -> Option<Ipv6Addr> {
        ipv6(&self.name)
    }

    /// Whether a request for `host` (lower case, without port) and `port` is for this pattern.
    pub fn matches(&self, host: &str, port: Option<u16>) -> bool {
        let host = without_root(host);
        let name = if self.wildcard {
            host.strip_suffix(self.name.as_str())
                .and_then(|head| head.strip_suffix('.'))
                .is_some_and(|head| !head.is_empty())
        } else if let Some(address) = self.ipv6() {
            ipv6(host) == Some(address)
        } else {
            host == self.name
        };
        name && (self.port.is_none() || self.port == port)
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.wildcard { "*." } else { "" })?;
        f.write_str(&self.name)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// The host without the dot of the DNS root: `shop.example.com.` is `shop.example.com`.
pub(super) fn without_root(host: &str) -> &str {
    host.strip_suffix('.').unwrap_or(host)
}

/// Whether `one` and `other` (lower case, without port) are the same host for every pattern: the root's dot and the
/// writing of an IPv6 address make no difference.
pub fn is_same(one: &str, other: &str) -> bool {
    let (one, other) = (without_root(one), without_root(other));
    one == other || ipv6(one).is_some_and(|address| ipv6(other) == Some(address))
}

/// The IPv6 address that `host` is, in brackets or not.
pub(super) fn ipv6(host: &str) -> Option<Ipv6Addr> {
    let bare = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?,
        None => host,
    };
    bare.parse().ok()
}

fn parse_port(text: &str) -> Result<u16, String> {
    match text.parse::<u16>() {
        Ok(port) if port > 0 && text.bytes().all(|b| b.is_ascii_digit()) => Ok(port),
        _ => Err(format!("{text:?} is not a port, write a number from 1 to 65535 after the host")),
    }
}

fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("the host is empty, write `shop.example.com` or `*.example.com`".to_owned());
    }
    if let Some(tail) = name.strip_prefix('*') {
        return Err(format!(
            "`*` stands for whole labels, write `*.{}`",
            tail.trim_start_matches(['*', '.'])
        ));
    }
    if name.contains('*') {
        return Err("`*` may stand only as the first label, write `*.example.com`".to_owned());
    }
    if !name.is_ascii() {
        return Err(format!(
            "{name:?} is not in ASCII, write its punycode form (`xn--…`), which is what clients send"
        ));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if let Some(c) = name.chars().find(|&c| !allowed(c)) {
        return Err(format!("a host name has letters, digits, `-`, `_` and `.` only, not {c:?}"));
    }
    if name.split('.').any(str::is_empty) {
        return Err(format!("{name:?} has an empty label, write one dot between two labels"));
    }
    if name.len() > MAX_NAME || name.split('.').any(|label| label.len() > MAX_LABEL) {
        return Err(format!(
            "a host name has at most {MAX_NAME} characters and {MAX_LABEL} between two dots"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_a_pattern_and_is_shown_as_it_is_kept() {
        let rows = [
            ("shop.example.com", "shop.example.com"),
            ("Shop.Example.COM", "shop.example.com"),
            ("shop.example.com.", "shop.example.com"),
            ("*.Example.com", "*.example.com"),
            ("*.com", "*.com"),
            ("localhost:8080", "localhost:8080"),
            ("*.example.com.:8080", "*.example.com:8080"),
            ("my_host-1", "my_host-1"),
            ("10.0.0.1:80", "10.0.0.1:80"),
            ("[::1]", "[::1]"),
            ("[0:0::0001]:8080", "[::1]:8080"),
            ("[2001:DB8::1]", "[2001:db8::1]"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ];
        for (text, shown) in rows {
            let pattern = HostPattern::parse(text).unwrap();
            assert_eq!(pattern.to_string(), shown, "{text:?}");
            assert_eq!(HostPattern::parse(shown), Ok(pattern), "{shown:?} reads back");
        }
    }

    #[test]
    fn text_that_is_no_pattern_is_refused_with_what_to_write() {
        let long_label = format!("{}.com", "a".repeat(64));
        let long_name = ["a".repeat(63).as_str(); 4].join(".");
        let rows = [
            ("", "the host is empty"),
            (".", "the host is empty"),
            ("*.", "the host is empty"),
            (":80", "the host is empty"),
            ("*", "leave `hosts` out"),
            ("*:80", "needs a host name"),
            ("*example.com", "write `*.example.com`"),
            ("*.*.com", "write `*.com`"),
            ("a.*.com", "only as the first label"),
            ("a*.com", "only as the first label"),
            ("https://shop.example.com/", "write `shop.example.com`"),
            ("shop.example.com/api", "under `paths`"),
            ("a..b", "empty label"),
            (".a", "empty label"),
            ("bücher.example", "punycode"),
            ("a b", "not ' '"),
            ("a\u{0}", "not '\\0'"),
            ("a:", "is not a port"),
            ("a:0", "from 1 to 65535"),
            ("a:65536", "from 1 to 65535"),
            ("a:+80", "is not a port"),
            ("a:80:90", "is not a port"),
            ("::1", "write `[::1]`"),
            ("[::1", "write `[::1]`"),
            ("[::g]", "is not an IPv6 address"),
            ("[::1]x", "is not an IPv6 address"),
            ("[::1]:x", "is not a port"),
            ("*.[::1]", "not before an address"),
            (&long_label, "63 between two dots"),
            (&long_name, "at most 253"),
        ];
        for (text, part) in rows {
            let error = HostPattern::parse(text).unwrap_err();
            assert!(error.contains(part), "{text:?}: {error}");
            assert!(!error.starts_with(char::is_uppercase), "{text:?}: {error}");
        }
    }

    #[test]
    fn hosts_are_the_same_when_no_pattern_tells_them_apart() {
        for (one, other, expected) in [
            ("shop.test", "shop.test", true),
            ("shop.test", "shop.test.", true),
            ("[::1]", "[0:0:0:0:0:0:0:1]", true),
            ("shop.test", "shop.test..", false),
            ("shop.test", "www.shop.test", false),
            ("[::1]", "[::2]", false),
            ("127.0.0.1", "[::ffff:127.0.0.1]", false),
        ] {
            assert_eq!((is_same(one, other), is_same(other, one)), (expected, expected), "{one} {other}");
        }
    }

    #[test]
    fn host_is_matched_by_name_label_and_port() {
        let rows = [
            ("shop.example.com", "shop.example.com", None, true),
            ("shop.example.com", "shop.example.com.", Some(8080), true),
            ("shop.example.com", "a.shop.example.com", None, false),
            ("shop.example.com:8080", "shop.example.com", Some(8080), true),
            ("shop.example.com:8080", "shop.example.com", Some(80), false),
            ("shop.example.com:8080", "shop.example.com", None, false),
            ("*.example.com", "shop.example.com", None, true),
            ("*.example.com", "a.b.example.com.", None, true),
            ("*.example.com", "example.com", None, false),
            ("*.example.com", ".example.com", None, false),
            ("*.example.com", "badexample.com", None, false),
            ("[::1]", "[::1]", Some(1), true),
            ("[::1]", "[0:0:0:0:0:0:0:1]", None, true),
            ("[::1]", "::1", None, true),
            ("[::1]", "[::2]", None, false),
            ("example.com", "", None, false),
        ];
        for (pattern, host, port, expected) in rows {
            let matched = HostPattern::parse(pattern).unwrap().matches(host, port);
            assert_eq!(matched, expected, "{pattern} for {host:?} {port:?}");
        }
    }
}
