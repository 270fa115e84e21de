//! Where an attribute of a request is read: `header:NAME`, `cookie:NAME`, `query:NAME`, `path:N`, `host`, `client_ip`,
//! `tls:san`, `tls:cn`, `tls:fingerprint`.
//!
//! The exact bytes are part of the contract: anybody must be able to compute the same cohort. They are told for users in
//! `docs/assignment.md`; change them there, here and in the vectors, or not at all. Nothing here hashes or decides.
//! What is done with a value: [`super::predicate`] and `logic/split/assign`.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroUsize;

use http::{HeaderName, header};
use ipnet::IpNet;
use percent_encoding::percent_decode;

use super::RequestView;
use super::certificate::Part;

/// What may be written, for the sentences of [`Source::parse`].
const FORMS: &str = "`header:NAME`, `cookie:NAME`, `query:NAME`, `path:N`, `host`, `client_ip`, `tls:san`, `tls:cn` or `tls:fingerprint`";

/// The words before the colon.
const SCHEMES: [&str; 7] = ["header", "cookie", "query", "path", "host", "client_ip", "tls"];

/// Where an attribute is read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Source {
    /// `header:NAME`: the value as sent, optional white space around it trimmed.
    Header(HeaderName),
    /// `cookie:NAME`: the first cookie of that name, its value as sent.
    Cookie(String),
    /// `query:NAME`: the first parameter of that name, percent-decoded, `+` as a space.
    Query(String),
    /// `path:N`: the N-th segment of the path, from 1, percent-decoded.
    Path(NonZeroUsize),
    /// `host`: lower case, without port.
    Host,
    /// `client_ip`, `client_ip/24`, `client_ip/64`, `client_ip/24/64`: canonical text (RFC 5952), or its network.
    ClientIp {
        /// The prefix length for IPv4, in `[0, 32]`; `None` keeps the address.
        v4: Option<u8>,
        /// The prefix length for IPv6, in `[0, 128]`; `None` keeps the address.
        v6: Option<u8>,
    },
    /// `tls:san`, `tls:cn`, `tls:fingerprint`: what the client's certificate says, which was verified.
    Tls(Part),
}

/// A header came more than once with different values: an identity that is never guessed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the header `{0}` appears more than once with different values")]
pub struct Ambiguous(pub HeaderName);

impl Source {
    /// Parses the text that the configuration uses, such as `header:x-tenant-id`.
    ///
    /// One prefix behind `client_ip` is for IPv4 up to 32 and for IPv6 above; two are for IPv4 and IPv6. The family that
    /// no prefix names keeps its whole address.
    ///
    /// # Errors
    /// A sentence that says what is wrong and what may be written.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(prefixes) = text.strip_prefix("client_ip/") {
            return client_ip(prefixes);
        }
        match (text, text.split_once(':')) {
            ("host", _) => Ok(Self::Host),
            ("client_ip", _) => Ok(Self::ClientIp { v4: None, v6: None }),
            (_, Some(("header", name))) => HeaderName::from_bytes(name.as_bytes())
                .map(Self::Header)
                .map_err(|_| format!("{name:?} is not a header name, write for example `header:x-user-id`")),
            (_, Some(("cookie", name))) if is_cookie_name(name) => Ok(Self::Cookie(name.to_owned())),
            (_, Some(("cookie", name))) => {
                Err(format!("{name:?} is not a cookie name, write for example `cookie:session`"))
            }
            (_, Some(("query", name))) if !name.is_empty() && name.trim() == name => {
                Ok(Self::Query(name.to_owned()))
            }
            (_, Some(("query", name))) => {
                Err(format!("{name:?} is not a parameter name, write for example `query:user`"))
            }
            (_, Some(("path", number))) => match parse_number(number).and_then(NonZeroUsize::new) {
                Some(number) => Ok(Self::Path(number)),
                None => Err(format!("{number:?} is not a segment, write `path:1` for the first one")),
            },
            (_, Some(("tls", word))) => match Part::ALL.into_iter().find(|part| part.word() == word) {
                Some(part) => Ok(Self::Tls(part)),
                None => Err(format!(
                    "{word:?} is not in a certificate, write `tls:san`, `tls:cn` or `tls:fingerprint`"
                )),
            },
            (_, Some((scheme @ ("host" | "client_ip"), _))) => {
                Err(format!("`{scheme}` takes no name, write `{scheme}` alone"))
            }
            ("header" | "cookie" | "query", None) => {
                Err(format!("the name is missing, write `{text}:NAME`, for example `{text}:user`"))
            }
            ("tls", None) => {
                Err("the part is missing, write `tls:san`, `tls:cn` or `tls:fingerprint`".to_owned())
            }
            ("path", None) => Err("the segment is missing, write `path:1` for the first one".to_owned()),
            (_, parts) => Err(unknown(parts.map_or(text, |(scheme, _)| scheme))),
        }
    }

    /// Reads this source as a unit key does: `None` when absent or empty.
    ///
    /// Only the source that is read can be ambiguous: the header of a later source, which an earlier one made
    /// needless, has no say in who the unit is, so it has none in whether the request is served.
    ///
    /// # Errors
    /// [`Ambiguous`] when a header appears twice with different values, blank ones included. The same value twice is one
    /// value. (The fields called `cookie` are one list in pieces, RFC 9113 §8.2.3, and are never ambiguous.)
    pub fn read<'a, R: RequestView>(&self, request: &'a R) -> Result<Option<Cow<'a, [u8]>>, Ambiguous> {
        match self {
            Self::Header(name) if *name != header::COOKIE => {
                Ok(single_header(request, name)?.map(Cow::Borrowed))
            }
            _ => Ok(self.value(request).filter(|value| !value.is_empty())),
        }
    }

    /// Reads this source as a condition does: several header fields of one name are joined by `, ` (RFC 9110 §5.2)
    /// and a present but empty value is `Some` of nothing.
    ///
    /// Of several names in a certificate (`tls:san`) it is the first; a condition looks at all of them.
    /// Fields called `cookie` are joined by `; `. A query parameter without `=` is present and empty, and so is the
    /// segment behind a trailing slash.
    pub fn value<'a, R: RequestView>(&self, request: &'a R) -> Option<Cow<'a, [u8]>> {
        match self {
            Self::Header(name) => joined_header(request, name),
            Self::Cookie(name) => cookie(request, name).map(Cow::Borrowed),
            Self::Query(name) => query(request.query()?, name),
            Self::Path(number) => {
                let segments = request.path().strip_prefix('/')?;
                let segment = segments.split('/').nth(number.get() - 1)?;
                Some(percent_decode(segment.as_bytes()).into())
            }
            Self::Host => match request.host() {
                "" => None,
                host => Some(Cow::Borrowed(host.as_bytes())),
            },
            Self::ClientIp { v4, v6 } => {
                Some(Cow::Owned(network_text(request.client_ip(), *v4, *v6).into_bytes()))
            }
            Self::Tls(part) => part.of(request.certificate()?).map(|text| Cow::Borrowed(text.as_bytes())),
        }
    }

    /// The header whose field a stranger would forge, if this source is one (`cookie` is not an identity header).
    pub fn header_name(&self) -> Option<&HeaderName> {
        match self {
            Self::Header(name) => Some(name),
            _ => None,
        }
    }
}

impl fmt::Display for Source {
    /// Writes what [`Source::parse`] reads.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
            Self::Query(name) => write!(f, "query:{name}"),
            Self::Path(number) => write!(f, "path:{number}"),
            Self::Host => f.write_str("host"),
            Self::ClientIp { v4: None, v6: None } => f.write_str("client_ip"),
            Self::ClientIp { v4: Some(v4), v6: None } => write!(f, "client_ip/{v4}"),
            // An IPv6 prefix of 32 and less needs the two-number form, or it would be read as one for IPv4.
            Self::ClientIp { v4: None, v6: Some(v6) } if *v6 > 32 => write!(f, "client_ip/{v6}"),
            Self::Tls(part) => write!(f, "tls:{}", part.word()),
            Self::ClientIp { v4, v6: Some(v6) } => write!(f, "client_ip/{}/{v6}", v4.unwrap_or(32)),
        }
    }
}

/// The one value of a header, white space around it trimmed; `None` when absent or blank.
///
/// # Errors
/// [`Ambiguous`] when it appears twice with different values.
pub(crate) fn single_header<'a, R: RequestView>(
    request: &'a R,
    name: &HeaderName,
) -> Result<Option<&'a [u8]>, Ambiguous> {
    let mut values = request.header(name).map(trim);
    let Some(first) = values.next() else { return Ok(None) };
    if values.any(|value| value != first) {
        return Err(Ambiguous(name.clone()));
    }
    Ok((!first.is_empty()).then_some(first))
}

/// The value of the first cookie called `name`, over all `cookie` fields, as sent; it may be empty.
pub(crate) fn cookie<'a, R: RequestView>(request: &'a R, name: &str) -> Option<&'a [u8]> {
    request.header(&header::COOKIE).flat_map(|field| field.split(|&b| b == b';')).find_map(|pair| {
        let equals = pair.iter().position(|&b| b == b'=')?;
        (trim(&pair[..equals]) == name.as_bytes()).then(|| trim(&pair[equals + 1..]))
    })
}

fn joined_header<'a, R: RequestView>(request: &'a R, name: &HeaderName) -> Option<Cow<'a, [u8]>> {
    let separator: &[u8] = if *name == header::COOKIE { b"; " } else { b", " };
    let mut values = request.header(name).map(trim);
    let mut joined = Cow::Borrowed(values.next()?);
    for value in values {
        let joined = joined.to_mut();
        joined.extend_from_slice(separator);
        joined.extend_from_slice(value);
    }
    Some(joined)
}

fn query<'a>(query: &'a str, name: &str) -> Option<Cow<'a, [u8]>> {
    query.as_bytes().split(|&b| b == b'&').find_map(|parameter| {
        let equals = parameter.iter().position(|&b| b == b'=');
        let (key, value) = parameter.split_at(equals.unwrap_or(parameter.len()));
        (*decode_form(key) == *name.as_bytes()).then(|| decode_form(value.get(1..).unwrap_or_default()))
    })
}

/// Decodes one name or value of a query; what is no percent sequence stays as it is.
fn decode_form(text: &[u8]) -> Cow<'_, [u8]> {
    if text.contains(&b'+') {
        let spaced: Vec<u8> = text.iter().map(|&b| if b == b'+' { b' ' } else { b }).collect();
        return Cow::Owned(percent_decode(&spaced).collect());
    }
    percent_decode(text).into()
}

/// `bytes` without the optional white space (SP and HTAB, RFC 9110 §5.6.3) around them.
fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// The address as text, or the network that the prefix of its family makes of it.
fn network_text(ip: IpAddr, v4: Option<u8>, v6: Option<u8>) -> String {
    let ip = ip.to_canonical();
    let prefix = if ip.is_ipv4() { v4 } else { v6 };
    match prefix.and_then(|prefix| IpNet::new(ip, prefix).ok()) {
        Some(network) => network.trunc().to_string(),
        None => ip.to_string(),
    }
}

fn client_ip(prefixes: &str) -> Result<Source, String> {
    let wrong = || {
        format!(
            "`client_ip/{prefixes}` is not a prefix, write `client_ip/24` (IPv4, up to 32), `client_ip/64` (IPv6, \
             33 to 128) or `client_ip/24/64`"
        )
    };
    let prefix = |text, most| {
        parse_number(text).and_then(|number| u8::try_from(number).ok()).filter(|number| *number <= most)
    };
    match prefixes.split_once('/') {
        Some((v4, v6)) => match (prefix(v4, 32), prefix(v6, 128)) {
            (v4 @ Some(_), v6 @ Some(_)) => Ok(Source::ClientIp { v4, v6 }),
            _ => Err(wrong()),
        },
        None => match prefix(prefixes, 128) {
            v4 @ Some(..=32) => Ok(Source::ClientIp { v4, v6: None }),
            v6 @ Some(_) => Ok(Source::ClientIp { v4: None, v6 }),
            None => Err(wrong()),
        },
    }
}

/// A number of plain digits; a sign or a leading zero would be a second way to write it.
fn parse_number(text: &str) -> Option<usize> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

/// Whether a `Cookie` field can carry this name; wider than RFC 6265's token, for so are the names in use.
fn is_cookie_name(name: &str) -> bool {
    !name.is_empty()
        && !name.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '=' | ';' | ','))
}

fn unknown(scheme: &str) -> String {
    let lower = scheme.to_ascii_lowercase();
    let distance = |known: &&str| strsim::damerau_levenshtein(&lower, known);
    match SCHEMES.into_iter().min_by_key(distance).filter(|known| distance(known) <= 2) {
        Some(near) => format!("{scheme:?} is not a source, did you mean `{near}`? Write {FORMS}"),
        None => format!("{scheme:?} is not a source, write {FORMS}"),
    }
}
