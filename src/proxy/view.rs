//! The request as pure logic sees it, borrowed from its head.

use std::net::IpAddr;

use http::header::HOST;
use http::{HeaderMap, HeaderName, Method, Uri, request};

use super::Failure;
use crate::logic::condition::RequestView;

/// A request's head, seen by pure logic.
#[derive(Debug)]
pub struct View<'a> {
    method: &'a Method,
    uri: &'a Uri,
    headers: &'a HeaderMap,
    authority: &'a Authority,
    client_ip: IpAddr,
}

/// Whom a request is for: a host in lower case and perhaps a port. Empty for HTTP/1.0 without `Host`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    text: String,
    host_end: usize,
    port: Option<u16>,
}

impl Authority {
    /// Reads the authority of a request: the target's own where it has one (it wins over `Host`, RFC 9112 §3.2.2),
    /// else the one `Host` field that HTTP/1.1 demands.
    ///
    /// # Errors
    /// [`Failure::BadHost`] when there is none (and HTTP/1.1 or 2 is spoken), more than one, or one that is no host.
    pub fn of(head: &request::Parts) -> Result<Self, Failure> {
        let mut hosts = head.headers.get_all(HOST).iter();
        let host = hosts.next();
        if hosts.next().is_some() {
            return Err(Failure::BadHost);
        }
        let host = match host {
            Some(value) => Some(value.to_str().map_err(|_| Failure::BadHost)?),
            None => None,
        };
        match (head.uri.authority(), host) {
            (Some(target), host) => {
                let target = Self::parse(target.as_str())?;
                let is_wrong = match (head.version, host) {
                    // Both mean the same; if they differ somebody is to be deceived (RFC 9113 §8.3.1).
                    (http::Version::HTTP_2, host) => {
                        host.is_some_and(|host| Self::parse(host).as_ref() != Ok(&target))
                    }
                    // It is not used, and is demanded all the same (RFC 9112 §3.2).
                    (http::Version::HTTP_11, None) => true,
                    (_, host) => host.is_some_and(|host| !host.is_empty() && Self::parse(host).is_err()),
                };
                if is_wrong { Err(Failure::BadHost) } else { Ok(target) }
            }
            (None, Some(host)) => Self::parse(host),
            (None, None) if head.version == http::Version::HTTP_10 => {
                Ok(Self { text: String::new(), host_end: 0, port: None })
            }
            (None, None) => Err(Failure::BadHost),
        }
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
        let text = match port {
            Some(_) => text.to_ascii_lowercase(),
            None => host.to_ascii_lowercase(),
        };
        Ok(Self { text, host_end, port })
    }

    /// The host in lower case; an IPv6 address keeps its brackets.
    pub fn host(&self) -> &str {
        &self.text[..self.host_end]
    }

    /// The host and, where one was named, the port.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The port, where one was named.
    pub fn port(&self) -> Option<u16> {
        self.port
    }
}

impl<'a> View<'a> {
    /// The view of a request from `client_ip` for `authority`.
    pub fn new(head: &'a request::Parts, authority: &'a Authority, client_ip: IpAddr) -> Self {
        Self { method: &head.method, uri: &head.uri, headers: &head.headers, authority, client_ip }
    }
}

impl RequestView for View<'_> {
    fn method(&self) -> &Method {
        self.method
    }

    fn host(&self) -> &str {
        self.authority.host()
    }

    fn port(&self) -> Option<u16> {
        self.authority.port()
    }

    fn path(&self) -> &str {
        self.uri.path()
    }

    fn query(&self) -> Option<&str> {
        self.uri.query()
    }

    fn header<'b>(&'b self, name: &HeaderName) -> impl Iterator<Item = &'b [u8]> {
        self.headers.get_all(name).iter().map(http::HeaderValue::as_bytes)
    }

    fn client_ip(&self) -> IpAddr {
        self.client_ip
    }
}

#[cfg(test)]
mod tests {
    use http::Version;

    use super::*;

    #[test]
    fn authority_is_split_and_lowered_or_refused() {
        let rows = [
            ("Shop.Example.com", Some(("shop.example.com", None))),
            ("shop.example.com:8080", Some(("shop.example.com", Some(8080)))),
            ("shop.example.com:", Some(("shop.example.com", None))),
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
        ];
        for (text, expected) in rows {
            let read = Authority::parse(text);
            let seen = read.as_ref().ok().map(|authority| (authority.host(), authority.port()));
            assert_eq!(seen, expected, "{text:?}");
        }
    }

    #[test]
    fn target_wins_over_host_and_two_hosts_are_refused() {
        let head = |uri: &str, version, hosts: &[&str]| {
            let mut request = http::Request::builder().uri(uri).version(version);
            for host in hosts {
                request = request.header(HOST, *host);
            }
            Authority::of(&request.body(()).unwrap().into_parts().0).map(|authority| authority.text)
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
        assert_eq!(head("/", v2, &[]), Err(Failure::BadHost));
    }
}
