//! Where we listen, where we connect, and sets of client networks.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use ipnet::IpNet;

/// Why a text is not an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// There is no port.
    #[error("the port is missing, write `host:port`")]
    NoPort,
    /// The port is not a number in `[1, 65535]` (`[0, 65535]` where we listen).
    #[error("the port is not a number up to 65535")]
    Port,
    /// The host is empty or has characters that a host does not have.
    #[error("{0:?} is not a host name or an IP address")]
    Host(String),
    /// Where we listen must be an IP address, not a name.
    #[error("{0:?} is not an IP address; a listener binds to an address such as 0.0.0.0 or [::1]")]
    NotAnIp(String),
    /// A Unix socket has no path.
    #[error("the path of the Unix socket is missing, write `unix:/path`")]
    NoPath,
    /// A scheme that is not served.
    #[error("the scheme {0:?} is not known, write `host:port`, `https://host:port` or `unix:/path`")]
    Scheme(String),
    /// There is something behind the port: an endpoint has no path.
    #[error("nothing follows the port; the path of a request is that of its route")]
    Path,
}

/// Where a listener accepts: a TCP address or a Unix socket.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BindAddress {
    /// A TCP address; port 0 lets the kernel choose.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl BindAddress {
    /// Parses `address:port`, `[v6]:port` or `unix:/path`.
    ///
    /// # Errors
    /// [`AddressError`] that says which part is wrong.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() { Err(AddressError::NoPath) } else { Ok(Self::Unix(path.into())) };
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::Tcp(address));
        }
        let (host, port) = split_port(text)?;
        port.parse::<u16>().map_err(|_| AddressError::Port)?;
        Err(AddressError::NotAnIp(host.to_owned()))
    }

    /// Whether only this machine can connect: a loopback address or a Unix socket.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl fmt::Display for BindAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Where an upstream's endpoint is: a host and port, or a Unix socket.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EndpointAddress {
    /// A host name or IP address, with its port.
    Tcp {
        /// The host in lower case, an IPv6 address without brackets.
        host: String,
        /// The port, never 0.
        port: u16,
        /// Whether TLS is spoken to it.
        tls: bool,
    },
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl EndpointAddress {
    /// Parses `host:port`, `[v6]:port`, either behind `http://` or `https://`, or `unix:/path`.
    ///
    /// # Errors
    /// [`AddressError`] that says which part is wrong.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() { Err(AddressError::NoPath) } else { Ok(Self::Unix(path.into())) };
        }
        let (tls, rest) = match text.split_once("://") {
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            Some((scheme, _)) => return Err(AddressError::Scheme(scheme.to_owned())),
            None => (false, text),
        };
        if rest.contains('/') {
            return Err(AddressError::Path);
        }
        let (host, port) = split_port(rest)?;
        let port = match port.parse::<u16>() {
            Ok(0) | Err(_) => return Err(AddressError::Port),
            Ok(port) => port,
        };
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(v6) if v6.parse::<std::net::Ipv6Addr>().is_ok() => v6.to_owned(),
            None if is_host_name(host) => host.to_ascii_lowercase(),
            _ => return Err(AddressError::Host(host.to_owned())),
        };
        Ok(Self::Tcp { host, port, tls })
    }

    /// Whether TLS is spoken to it.
    pub fn is_tls(&self) -> bool {
        matches!(self, Self::Tcp { tls: true, .. })
    }

    /// The authority as an HTTP request names it: `host:port`, or `localhost` for a Unix socket.
    pub fn authority(&self) -> String {
        match self {
            Self::Tcp { host, port, .. } if host.contains(':') => format!("[{host}]:{port}"),
            Self::Tcp { host, port, .. } => format!("{host}:{port}"),
            Self::Unix(_) => "localhost".to_owned(),
        }
    }

    /// The path, when this is a Unix socket.
    pub fn unix_path(&self) -> Option<&Path> {
        match self {
            Self::Unix(path) => Some(path),
            Self::Tcp { .. } => None,
        }
    }
}

impl fmt::Display for EndpointAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { tls, .. } => {
                f.write_str(if *tls { "https://" } else { "" })?;
                f.write_str(&self.authority())
            }
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

fn split_port(text: &str) -> Result<(&str, &str), AddressError> {
    match text.rsplit_once(':') {
        Some((host, _)) if host.contains(':') && !host.starts_with('[') => Err(AddressError::NoPort),
        Some((host, _)) if host.starts_with('[') && !host.ends_with(']') => Err(AddressError::NoPort),
        Some(parts) => Ok(parts),
        None => Err(AddressError::NoPort),
    }
}

fn is_host_name(host: &str) -> bool {
    !host.is_empty()
        && host.len() <= 253
        && host.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        })
}

/// How many bits stand before the IPv4 address in a mapped one: `::ffff:0:0/96`.
const MAPPED: u8 = 96;

/// A set of client networks. IPv4-mapped IPv6 addresses count as IPv4.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IpSet(Vec<IpNet>);

impl IpSet {
    /// A set of these networks.
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// Parses one network: `10.0.0.0/8`, `2001:db8::/32`, or a single address.
    ///
    /// # Errors
    /// The text itself, when it is neither.
    pub fn parse_network(text: &str) -> Result<IpNet, String> {
        match text.parse::<IpNet>() {
            Ok(IpNet::V6(network)) if network.prefix_len() >= MAPPED => {
                let length = network.prefix_len() - MAPPED;
                let mapped = network.trunc().addr().to_ipv4_mapped();
                let v4 = mapped.and_then(|address| IpNet::new(address.into(), length).ok());
                return Ok(v4.unwrap_or_else(|| IpNet::V6(network.trunc())));
            }
            Ok(network) => return Ok(network.trunc()),
            Err(_) => {}
        }
        text.parse::<IpAddr>().map(|ip| IpNet::from(ip.to_canonical())).map_err(|_| text.to_owned())
    }

    /// Whether one of the networks holds `ip`.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.0.iter().any(|network| network.contains(&ip))
    }

    /// The networks.
    pub fn networks(&self) -> &[IpNet] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoint_text_is_read_or_refused() {
        let tcp = |host: &str, port| Ok(EndpointAddress::Tcp { host: host.into(), port, tls: false });
        let tls = |host: &str, port| Ok(EndpointAddress::Tcp { host: host.into(), port, tls: true });
        let rows = [
            ("10.0.0.1:80", tcp("10.0.0.1", 80)),
            ("Cart.Internal:8080", tcp("cart.internal", 8080)),
            ("http://cart:8080", tcp("cart", 8080)),
            ("[::1]:80", tcp("::1", 80)),
            ("https://Cart:8443", tls("cart", 8443)),
            ("https://[::1]:8443", tls("::1", 8443)),
            ("https://10.0.0.1", Err(AddressError::NoPort)),
            ("https://cart:8443/api", Err(AddressError::Path)),
            ("http://cart:8080/", Err(AddressError::Path)),
            ("https://unix:/run/a.sock", Err(AddressError::Path)),
            ("unix:/run/a.sock", Ok(EndpointAddress::Unix("/run/a.sock".into()))),
            ("cart", Err(AddressError::NoPort)),
            ("::1", Err(AddressError::NoPort)),
            ("cart:0", Err(AddressError::Port)),
            ("cart:99999", Err(AddressError::Port)),
            ("ca rt:80", Err(AddressError::Host("ca rt".into()))),
            (":80", Err(AddressError::Host(String::new()))),
            ("ftp://cart:80", Err(AddressError::Scheme("ftp".into()))),
            ("unix:", Err(AddressError::NoPath)),
        ];
        for (text, expected) in rows {
            assert_eq!(EndpointAddress::parse(text), expected, "{text:?}");
            if let Ok(address) = expected {
                assert_eq!(EndpointAddress::parse(&address.to_string()), Ok(address), "{text:?}");
            }
        }
    }

    #[test]
    fn bind_text_is_read_or_refused() {
        let rows = [
            ("127.0.0.1:0", Ok(BindAddress::Tcp(([127, 0, 0, 1], 0).into()))),
            ("unix:/run/w.sock", Ok(BindAddress::Unix("/run/w.sock".into()))),
            ("localhost:80", Err(AddressError::NotAnIp("localhost".into()))),
            ("127.0.0.1", Err(AddressError::NoPort)),
            ("127.0.0.1:70000", Err(AddressError::Port)),
        ];
        for (text, expected) in rows {
            assert_eq!(BindAddress::parse(text), expected, "{text:?}");
        }
    }

    #[test]
    fn mapped_address_counts_as_ipv4() {
        let set = IpSet::new(vec![IpSet::parse_network("10.0.0.0/8").unwrap()]);
        assert!(set.contains("::ffff:10.1.2.3".parse().unwrap()));
        assert!(!set.contains("::ffff:11.1.2.3".parse().unwrap()));
        assert!(IpSet::parse_network("10.0.0.0/33").is_err());
        for (text, network) in [
            ("::ffff:10.1.0.0/104", "10.0.0.0/8"),
            ("::ffff:10.1.2.3", "10.1.2.3/32"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
            ("::ffff:0:0/95", "::fffe:0:0/95"),
            ("::/96", "::/96"),
        ] {
            assert_eq!(IpSet::parse_network(text).unwrap().to_string(), network, "{text}");
        }
    }
}
