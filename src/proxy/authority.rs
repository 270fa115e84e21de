//! Whom a request is for: read from its target or its `Host`, in lower case, and refused where that could be read in two
//! ways.

use http::Version;

use super::Failure;
use crate::logic::route::host;
use crate::wire::{Known, RequestHead};

/// The longest authority that needs no memory of its own: most are names of fewer bytes.
const SHORT: usize = 62;

/// Whom a request is for: a host in lower case and perhaps a port. Empty for HTTP/1.0 without `Host`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    text: Text,
    host_end: usize,
    port: Option<u16>,
}

/// ASCII in lower case, mostly without memory of its own. What is behind the end of a short one is 0.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Text {
    Short { bytes: [u8; SHORT], length: u8 },
    Long(Box<str>),
}

impl Text {
    fn lowered(text: &str) -> Self {
        let mut bytes = [0; SHORT];
        match (bytes.get_mut(..text.len()), u8::try_from(text.len())) {
            (Some(own), Ok(length)) => {
                own.copy_from_slice(text.as_bytes());
                own.make_ascii_lowercase();
                Self::Short { bytes, length }
            }
            _ => Self::Long(text.to_ascii_lowercase().into()),
        }
    }

    fn as_str(&self) -> &str {
        match self {
            // It came from a `str`.
            Self::Short { bytes, length } => {
                std::str::from_utf8(&bytes[..usize::from(*length)]).unwrap_or_default()
            }
            Self::Long(text) => text,
        }
    }
}

impl Authority {
    /// Reads the authority of a request: the target's own where it has one (it wins over `Host`, RFC 9112 §3.2.2),
    /// else the one `Host` field that HTTP/1.1 demands.
    ///
    /// # Errors
    /// [`Failure::BadHost`] when there is none (and HTTP/1.1 or 2 is spoken), more than one, or one that is no host.
    pub fn of(head: &RequestHead) -> Result<Self, Failure> {
        let mut hosts = head.fields.all(Known::Host);
        let host = hosts.next();
        if hosts.next().is_some() {
            return Err(Failure::BadHost);
        }
        let host = host.map(std::str::from_utf8).transpose().map_err(|_| Failure::BadHost)?;
        match (head.authority(), host) {
            (Some(target), host) => {
                let target = Self::parse(target)?;
                let is_wrong = match (head.version, host) {
                    // Both mean the same; if they differ somebody is to be deceived (RFC 9113 §8.3.1).
                    (Version::HTTP_2 | Version::HTTP_3, Some(_)) => !target.agrees_with_host(head),
                    // It is not used, and is demanded all the same (RFC 9112 §3.2).
                    (Version::HTTP_11, None) => true,
                    (_, host) => host.is_some_and(|host| !host.is_empty() && Self::parse(host).is_err()),
                };
                if is_wrong { Err(Failure::BadHost) } else { Ok(target) }
            }
            (None, Some(host)) => Self::parse(host),
            (None, None) if head.version == Version::HTTP_10 => {
                Ok(Self { text: Text::lowered(""), host_end: 0, port: None })
            }
            (None, None) => Err(Failure::BadHost),
        }
    }

    /// Whether `Host`, where `head` has it beside the target's own authority, which this is, names the same host and
    /// port. What the routes do not tell apart is the same (the root's dot, the writing of an IPv6 address), and so is
    /// the scheme's port where it is left out (RFC 3986 §6.2.3).
    pub fn agrees_with_host(&self, head: &RequestHead) -> bool {
        let Some(host) = head.authority().and_then(|_| head.fields.get(Known::Host)) else { return true };
        let Some(host) = std::str::from_utf8(host).ok().and_then(|host| Self::parse(host).ok()) else {
            return false;
        };
        let default_port = if head.names_https() { 443 } else { 80 };
        self.port.unwrap_or(default_port) == host.port.unwrap_or(default_port)
            && host::is_same(self.host(), host.host())
    }

    /// Parses `host`, `host:port`, `[v6]`, `[v6]:port`.
    ///
    /// # Errors
    /// [`Failure::BadHost`] for anything else: user information, spaces, a bad port, an empty host.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let text = text.trim_matches([' ', '\t']);
        let host_end = match text.strip_prefix('[') {
            Some(rest) => {
                let end = rest.find(']').ok_or(Failure::BadHost)?;
                rest[..end].parse::<std::net::Ipv6Addr>().map_err(|_| Failure::BadHost)?;
                end + 2
            }
            None => text.find(':').unwrap_or(text.len()),
        };
        let (host, rest) = text.split_at(host_end);
        let name =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'%');
        if host.is_empty() || !(host.starts_with('[') || host.bytes().all(name)) {
            return Err(Failure::BadHost);
        }
        let port = match rest.strip_prefix(':') {
            None if rest.is_empty() => None,
            Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
                // `host:` names no port (RFC 3986 §3.2.3).
                if port.is_empty() { None } else { Some(port.parse().map_err(|_| Failure::BadHost)?) }
            }
            _ => return Err(Failure::BadHost),
        };
        Ok(Self { text: Text::lowered(if port.is_some() { text } else { host }), host_end, port })
    }

    /// The host in lower case; an IPv6 address keeps its brackets.
    pub fn host(&self) -> &str {
        &self.as_str()[..self.host_end]
    }

    /// The host and, where one was named, the port.
    pub fn as_str(&self) -> &str {
        self.text.as_str()
    }

    /// The port, where one was named.
    pub fn port(&self) -> Option<u16> {
        self.port
    }
}

#[cfg(test)]
mod tests {
    use http::{Method, Uri};

    use super::*;
    use crate::wire::Fields;

    #[test]
    fn authority_is_split_and_lowered_or_refused() {
        let long = format!("{}.Example.com", "a".repeat(SHORT));
        let lowered = long.to_ascii_lowercase();
        let rows = [
            ("Shop.Example.com", Some(("shop.example.com", None))),
            ("shop.example.com:8080", Some(("shop.example.com", Some(8080)))),
            ("shop.example.com:", Some(("shop.example.com", None))),
            (&long[..SHORT], Some((&lowered[..SHORT], None))),
            (&long, Some((&lowered, None))),
            ("[::1]:80", Some(("[::1]", Some(80)))),
            ("[2001:DB8::1]", Some(("[2001:db8::1]", None))),
            ("127.0.0.1", Some(("127.0.0.1", None))),
            ("", None),
            (":80", None),
            ("a b", None),
            ("user@host", None),
            ("host:80:80", None),
            ("host:99999", None),
            ("host:+80", None),
            ("host/path", None),
            ("[::1", None),
            ("[evil]", None),
            ("[::1]x", None),
            ("a,b", None),
            ("hôte", None),
        ];
        for (text, expected) in rows {
            let read = Authority::parse(text);
            let seen = read.as_ref().ok().map(|authority| (authority.host(), authority.port()));
            assert_eq!(seen, expected, "{text:?}");
        }
    }

    #[test]
    fn target_wins_over_host_and_two_hosts_are_refused() {
        let head = |uri: &'static str, version, hosts: &[&str]| {
            let fields: Fields = hosts.iter().map(|host| (Known::Host, host)).collect();
            let head = RequestHead::new(Method::GET, &Uri::from_static(uri), version, fields);
            Authority::of(&head).map(|authority| authority.as_str().to_owned())
        };
        let (v10, v11, v2) = (Version::HTTP_10, Version::HTTP_11, Version::HTTP_2);
        assert_eq!(head("/", v11, &["a"]), Ok("a".into()));
        assert_eq!(head("http://b/", v11, &["a"]), Ok("b".into()));
        assert_eq!(head("http://b/", v11, &[""]), Ok("b".into()));
        assert_eq!(head("http://b/", v11, &["a b"]), Err(Failure::BadHost));
        assert_eq!(head("http://b/", v11, &[]), Err(Failure::BadHost));
        assert_eq!(head("http://b/", v10, &[]), Ok("b".into()));
        assert_eq!(head("/", v11, &[]), Err(Failure::BadHost));
        assert_eq!(head("/", v11, &["a", "a"]), Err(Failure::BadHost));
        assert_eq!(head("/", v10, &[]), Ok(String::new()));
        assert_eq!(head("http://b/", v2, &[]), Ok("b".into()));
        assert_eq!(head("http://b/", v2, &["B"]), Ok("b".into()));
        assert_eq!(head("http://b/", v2, &["a"]), Err(Failure::BadHost));
        assert_eq!(head("http://b/", v2, &["b:80"]), Ok("b".into()));
        assert_eq!(head("https://b/", v2, &["b:80"]), Err(Failure::BadHost));
        assert_eq!(head("http://b/", v2, &[""]), Err(Failure::BadHost));
        assert_eq!(head("/", v2, &[]), Err(Failure::BadHost));
    }

    #[test]
    fn target_and_host_agree_when_they_name_the_same_host_and_port() {
        let rows = [
            ("http://shop.test/", Some("shop.test"), true),
            ("http://Shop.test/", Some("sHOP.TEST"), true),
            ("http://shop.test/", Some("shop.test:80"), true),
            ("http://shop.test:80/", Some("shop.test"), true),
            ("http://shop.test:/", Some("shop.test:80"), true),
            ("https://shop.test/", Some("shop.test:443"), true),
            ("http://shop.test:8080/", Some("shop.test:8080"), true),
            ("http://shop.test/", Some("shop.test."), true),
            ("http://shop.test.:80/", Some("shop.test"), true),
            ("http://[::1]/", Some("[0:0::1]:80"), true),
            ("http://[2001:DB8::1]/", Some("[2001:db8::1]"), true),
            ("http://shop.test/", None, true),
            ("/", Some("shop.test"), true),
            ("http://shop.test/", Some("cart.test"), false),
            ("http://shop.test/", Some("shop.test:443"), false),
            ("https://shop.test/", Some("shop.test:80"), false),
            ("http://shop.test:8080/", Some("shop.test"), false),
            ("http://shop.test/", Some("shop.test:8080"), false),
            ("http://shop.test/", Some("www.shop.test"), false),
            ("http://shop.test/", Some("shop.test.."), false),
            ("http://[::1]/", Some("[::2]"), false),
            ("http://127.0.0.1/", Some("[::ffff:127.0.0.1]"), false),
            ("http://shop.test/", Some(""), false),
        ];
        for (uri, host, expected) in rows {
            let fields: Fields = host.map(|host| (Known::Host, host)).into_iter().collect();
            let head = RequestHead::new(Method::GET, &Uri::from_static(uri), Version::HTTP_10, fields);
            let authority = Authority::of(&head).unwrap();
            assert_eq!(authority.agrees_with_host(&head), expected, "{uri} {host:?}");
        }
    }
}
