//! HTTP/1 messages as bytes and back, without sockets or clocks: heads whose fields stay where they were read, where a
//! body ends, and chunks; and the PROXY protocol. To the letter of RFC 9112 and of that protocol's specification: what two
//! parsers could read differently is refused, never guessed.
//!
//! Reading order: [`known`] (the names that the proxy itself reads), [`fields`] (header fields of any protocol),
//! [`request`] (with its `target`) and [`response`] (heads), [`path`] (what a path comes to), `lines` (what both have in common), [`framing`] (where a
//! body ends), [`chunked`]; [`websocket`] and [`http3`] (where their frames end); of HTTP/2 [`frames`] (which frames pass by, not what is
//! in them); [`grpc`] (what gRPC adds to HTTP), [`grpc_health`] (its health protocol); [`forwarded`] (who asked, by the word of those between); [`proxy_protocol`] (whose connection it is); [`certificate`] (what X.509
//! says of a peer). What a message means is not known here; sockets are `net`'s.

pub mod certificate;
pub mod chunked;
pub mod fields;
pub mod forwarded;
pub mod frames;
pub mod framing;
pub mod grpc;
pub mod grpc_health;
pub mod http3;
pub mod known;
mod lines;
pub mod path;
pub mod proxy_protocol;
pub mod request;
pub mod response;
mod target;
pub mod websocket;

#[cfg(test)]
mod tests;

pub use certificate::{Certificate, CertificateError, SubjectName};
pub use chunked::Chunked;
pub use fields::{Fields, Name};
pub use frames::{FrameHead, FrameKind, Scanner};
pub use framing::{FramingError, Length};
pub use http3::StreamFrames;
pub use known::Known;
pub use path::{AmbiguousPath, PathRules};
pub use request::RequestHead;
pub use response::ResponseHead;

/// The most fields of a head or of trailers.
pub const MAX_FIELDS: usize = 128;

/// Why bytes are no head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// Not as RFC 9112 says.
    #[error("the head is malformed")]
    Malformed,
    /// The target is none of the forms that a request may have.
    #[error("the request target is malformed")]
    Target,
    /// Another version of HTTP than 1.0 and 1.1.
    #[error("the version of HTTP is not supported")]
    Version,
    /// More than [`MAX_FIELDS`] fields.
    #[error("the head has more than {MAX_FIELDS} fields")]
    TooManyFields,
}
