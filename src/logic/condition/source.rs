//! Where an attribute of a request is read: `header:NAME`, `cookie:NAME`, `query:NAME`, `path:N`, `host`, `client_ip`.
//! The exact bytes are part of the contract: anybody must be able to compute the same cohort.

use std::borrow::Cow;
use std::num::NonZeroUsize;

use http::HeaderName;

use super::RequestView;

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
}

/// A header came more than once with different values: an identity that is never guessed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the header `{0}` appears more than once with different values")]
pub struct Ambiguous(pub HeaderName);

impl Source {
    /// Parses the text that the configuration uses, such as `header:x-tenant-id`.
    ///
    /// # Errors
    /// A sentence that says what is wrong and what may be written.
    pub fn parse(_text: &str) -> Result<Self, String> {
        unimplemented!()
    }

    /// Reads this source as a unit key does: `None` when absent or empty.
    ///
    /// # Errors
    /// [`Ambiguous`] when a header appears twice with different values.
    pub fn read<'a, R: RequestView>(&self, _request: &'a R) -> Result<Option<Cow<'a, [u8]>>, Ambiguous> {
        unimplemented!()
    }

    /// Reads this source as a condition does: several header fields of one name are joined by `, ` (RFC 9110 §5.2)
    /// and a present but empty value is `Some` of nothing.
    pub fn value<'a, R: RequestView>(&self, _request: &'a R) -> Option<Cow<'a, [u8]>> {
        unimplemented!()
    }

    /// The header whose field a stranger would forge, if this source is one (`cookie` is not an identity header).
    pub fn header_name(&self) -> Option<&HeaderName> {
        match self {
            Self::Header(name) => Some(name),
            _ => None,
        }
    }
}
