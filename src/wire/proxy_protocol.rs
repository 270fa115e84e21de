//! The PROXY protocol: how a balancer that passes bytes on says, ahead of them, whose they are. Versions 1 (a line) and 2
//! (binary) are read, version 2 is written. Whether a header is expected, and from whom, is not decided here: a
//! connection of which that is not known before it comes must not be looked at for one.
//!
//! Source: "The PROXY protocol, versions 1 & 2" (`proxy-protocol.txt`), sections 2.1 and 2.2.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest line of version 1, with its end.
const MAX_LINE: usize = 107;

/// The shortest line of version 1.
const MIN_LINE: usize = b"PROXY UNKNOWN\r\n".len();

/// The first bytes of version 2.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// What of version 2 is always there; its last two bytes are the length of the rest.
const FIXED: usize = 16;

/// The longest rest of version 2. It could be 65535; who sends that much has no use for it.
const MAX_REST: usize = 16 * 1024;

/// The type of the value that has a checksum of the whole header.
const CRC32C: u8 = 0x03;

/// Whence and whereto a connection was made. An IPv4 address that is written as one of IPv6 is one of IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Addresses {
    source: SocketAddr,
    destination: SocketAddr,
}

impl Addresses {
    /// A connection from `source` to `destination`.
    pub fn new(source: SocketAddr, destination: SocketAddr) -> Self {
        // Made anew: a scope or a flow has no meaning elsewhere.
        let plain = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        Self { source: plain(source), destination: plain(destination) }
    }

    /// Who connected.
    pub fn source(&self) -> SocketAddr {
        self.source
    }

    /// Where the source connected to.
    pub fn destination(&self) -> SocketAddr {
        self.destination
    }
}

/// What was read of a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed {
    /// It is not whole: all bytes are of it, and at least so many more.
    Incomplete(usize),
    /// It is whole.
    Whole(Header),
}

/// A header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What it says. `None` where the sender speaks for itself (`LOCAL`), does not know, or names no IP addresses: those
    /// of the connection itself count then.
    pub addresses: Option<Addresses>,
    /// How many bytes it is.
    pub length: usize,
}

/// Why bytes are no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// They begin as neither version does.
    #[error("it begins with the signature of no version")]
    Signature,
    /// A line without an end.
    #[error("the line does not end within {MAX_LINE} bytes")]
    LineTooLong,
    /// A line that is none of TCP4, TCP6 and UNKNOWN.
    #[error("the line names no known protocol")]
    Protocol,
    /// A line without exactly two addresses and two ports, each behind one space.
    #[error("the line has not two addresses and two ports")]
    Fields,
    /// An address that is none of the line's protocol.
    #[error("the line has an address that is none of its protocol")]
    Address,
    /// A port that is none.
    #[error("the line has a port that is no plain number up to 65535")]
    Port,
    /// The signature of version 2, and another version.
    #[error("the version is {0}, not 2")]
    Version(u8),
    /// Neither LOCAL nor PROXY.
    #[error("the command {0} is unknown")]
    Command(u8),
    /// A family or a transport that version 2 does not have.
    #[error("the family and transport {0:#04x} are unknown")]
    Family(u8),
    /// No room for the addresses.
    #[error("the length {0} is too small for the addresses")]
    TooShort(usize),
    /// More than anybody needs.
    #[error("the length {0} is more than {MAX_REST}")]
    TooLong(usize),
    /// The values behind the addresses do not fill what is left.
    #[error("the values behind the addresses are cut off")]
    Values,
    /// The checksum is not the header's, or stands there twice.
    #[error("the checksum is wrong")]
    Checksum,
}

/// Reads the header that `bytes` begin with.
///
/// # Errors
/// [`ProxyError`] for what is, and will become, no header.
pub fn parse(bytes: &[u8]) -> Result<Parsed, ProxyError> {
    if is_beginning(bytes, SIGNATURE) {
        return parse_binary(bytes);
    }
    if is_beginning(bytes, b"PROXY ") {
        return parse_line(bytes);
    }
    Err(ProxyError::Signature)
}

/// Whether `bytes` begin with `pattern`, or are a beginning of it.
fn is_beginning(bytes: &[u8], pattern: &[u8]) -> bool {
    bytes.iter().zip(pattern).all(|(byte, expected)| byte == expected)
}

fn parse_line(bytes: &[u8]) -> Result<Parsed, ProxyError> {
    let within = bytes.get(..MAX_LINE).unwrap_or(bytes);
    let Some(end) = within.windows(2).position(|pair| pair == b"\r\n") else {
        if within.len() == MAX_LINE {
            return Err(ProxyError::LineTooLong);
        }
        let end = if within.last() == Some(&b'\r') { 1 } else { 2 };
        return Ok(Parsed::Incomplete(MIN_LINE.saturating_sub(bytes.len()).max(end)));
    };
    let length = end + 2;
    let line = within.get(b"PROXY ".len()..end).unwrap_or_default();
    let mut words = line.splitn(2, |byte| *byte == b' ');
    let (protocol, rest) = (words.next().unwrap_or_default(), words.next());
    let addresses = match protocol {
        b"TCP4" => Some(line_addresses::<Ipv4Addr>(rest)?),
        b"TCP6" => Some(line_addresses::<Ipv6Addr>(rest)?),
        // Whatever stands behind it has no meaning.
        b"UNKNOWN" => None,
        _ => return Err(ProxyError::Protocol),
    };
    Ok(Parsed::Whole(Header { addresses, length }))
}

fn line_addresses<A: std::str::FromStr + Into<IpAddr>>(rest: Option<&[u8]>) -> Result<Addresses, ProxyError> {
    let text = std::str::from_utf8(rest.unwrap_or_default()).map_err(|_| ProxyError::Address)?;
    let mut fields = text.split(' ');
    let mut next = || fields.next().ok_or(ProxyError::Fields);
    let [source, destination, source_port, destination_port] = [next()?, next()?, next()?, next()?];
    if fields.next().is_some() {
        return Err(ProxyError::Fields);
    }
    // The standard library takes no leading zeros in IPv4, no zone and no prefix.
    let address = |text: &str| text.parse::<A>().map(Into::into).map_err(|_| ProxyError::Address);
    let source = SocketAddr::new(address(source)?, port(source_port)?);
    Ok(Addresses::new(source, SocketAddr::new(address(destination)?, port(destination_port)?)))
}

fn port(text: &str) -> Result<u16, ProxyError> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_plain).ok_or(ProxyError::Port)
}

fn parse_binary(bytes: &[u8]) -> Result<Parsed, ProxyError> {
    let Some((fixed, rest)) = bytes.split_first_chunk::<FIXED>() else {
        // Until the first byte has come it may be a line.
        let least = if bytes.is_empty() { MIN_LINE } else { FIXED };
        return Ok(Parsed::Incomplete(least - bytes.len()));
    };
    let &[.., command, family, high, low] = fixed;
    let announced = usize::from(u16::from_be_bytes([high, low]));
    if command >> 4 != 2 {
        return Err(ProxyError::Version(command >> 4));
    }
    if announced > MAX_REST {
        return Err(ProxyError::TooLong(announced));
    }
    let length = FIXED + announced;
    let addresses = match command & 0xf {
        // Whatever it says of families and addresses is passed over.
        0 => 0,
        1 => address_length(family)?,
        command => return Err(ProxyError::Command(command)),
    };
    if announced < addresses {
        return Err(ProxyError::TooShort(announced));
    }
    let Some(rest) = rest.get(..announced) else {
        return Ok(Parsed::Incomplete(length - bytes.len()));
    };
    let (addresses, values) = rest.split_at(addresses);
    if !addresses.is_empty() {
        check_values(fixed, addresses, values)?;
    }
    Ok(Parsed::Whole(Header { addresses: binary_addresses(addresses), length }))
}

/// How many bytes of addresses a family has; 0 where those of the connection count.
fn address_length(family: u8) -> Result<usize, ProxyError> {
    match (family >> 4, family & 0xf) {
        (0, 0..=2) | (1..=3, 0) => Ok(0),
        // A datagram's addresses are addresses too.
        (1, 1 | 2) => Ok(12),
        (2, 1 | 2) => Ok(36),
        // Two paths, which are looked over: a client of a Unix socket has no address.
        (3, 1 | 2) => Ok(216),
        _ => Err(ProxyError::Family(family)),
    }
}

fn binary_addresses(bytes: &[u8]) -> Option<Addresses> {
    fn read<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
        let (first, rest) = bytes.split_first_chunk::<N>()?;
        *bytes = rest;
        Some(*first)
    }
    let (is_ipv4, mut left) = (bytes.len() == 12, bytes);
    if !is_ipv4 && bytes.len() != 36 {
        return None;
    }
    let mut address = || -> Option<IpAddr> {
        Some(if is_ipv4 { read::<4>(&mut left)?.into() } else { read::<16>(&mut left)?.into() })
    };
    let (source, destination) = (address()?, address()?);
    let mut port = || Some(u16::from_be_bytes(read(&mut left)?));
    let source = SocketAddr::new(source, port()?);
    Some(Addresses::new(source, SocketAddr::new(destination, port()?)))
}

/// Checks that `values` are whole, and the checksum where they have one. What else they say is passed over.
fn check_values(fixed: &[u8], addresses: &[u8], values: &[u8]) -> Result<(), ProxyError> {
    let (mut at, mut checksum) = (0, None);
    while at < values.len() {
        let Some(&[kind, high, low]) = values.get(at..at + 3) else { return Err(ProxyError::Values) };
        let start = at + 3;
        let end = start + usize::from(u16::from_be_bytes([high, low]));
        let value = values.get(start..end).ok_or(ProxyError::Values)?;
        if kind == CRC32C {
            let expected = value.try_into().map_err(|_| ProxyError::Checksum)?;
            if checksum.replace((start..end, u32::from_be_bytes(expected))).is_some() {
                return Err(ProxyError::Checksum);
            }
        }
        at = end;
    }
    let Some((place, expected)) = checksum else { return Ok(()) };
    // The checksum is that of the header with zeros in its own place.
    let values = values.iter().enumerate();
    let values = values.map(|(at, value)| if place.contains(&at) { 0 } else { *value });
    let whole = fixed.iter().chain(addresses).copied().chain(values);
    if crc32c(whole) == expected { Ok(()) } else { Err(ProxyError::Checksum) }
}

/// The checksum of RFC 9260 (appendix A) and RFC 3720, bit by bit: few senders have one, and each connection has one at
/// most, so that no table and no crate is worth its place.
fn crc32c(bytes: impl Iterator<Item = u8>) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    !bytes.fold(!0, |sum, byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| (sum >> 1) ^ (POLYNOMIAL & (sum & 1).wrapping_neg()))
    })
}

/// The header of version 2 that announces a connection; that the sender speaks for itself (`LOCAL`) where there are no
/// addresses.
pub fn header(addresses: Option<&Addresses>) -> Vec<u8> {
    let mut out = Vec::with_capacity(FIXED + 36);
    out.extend_from_slice(SIGNATURE);
    let Some(&Addresses { source, destination }) = addresses else {
        out.extend_from_slice(&[0x20, 0x00, 0, 0]);
        return out;
    };
    match (source.ip(), destination.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            out.extend_from_slice(&[0x21, 0x11, 0, 12]);
            out.extend_from_slice(&from.octets());
            out.extend_from_slice(&to.octets());
        }
        // One family has to do for both.
        (from, to) => {
            out.extend_from_slice(&[0x21, 0x21, 0, 36]);
            out.extend_from_slice(&mapped(from).octets());
            out.extend_from_slice(&mapped(to).octets());
        }
    }
    out.extend_from_slice(&source.port().to_be_bytes());
    out.extend_from_slice(&destination.port().to_be_bytes());
    out
}

fn mapped(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}
