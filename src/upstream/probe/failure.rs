//! Why a check failed, in words for the log and for `/status`: nothing that an endpoint sends stands in them.

use std::error::Error;
use std::io;
use std::time::Duration;

use http::StatusCode;

use crate::types::quantity::format_duration;
use crate::upstream::connect::ConnectError;
use crate::wire::grpc::Status;
use crate::wire::grpc_health::{AnswerError, Serving};

/// Why a check failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// There is no connection.
    #[error("{}", connect(.0))]
    Connect(#[from] ConnectError),
    /// There is a connection, and not the whole answer in time.
    #[error("no answer within {}", format_duration(*.0))]
    Timeout(Duration),
    /// The connection ended before the answer did.
    #[error("the connection was closed before the answer was whole")]
    Closed,
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broke(#[source] io::Error),
    /// What came is no HTTP.
    #[error("the answer is not valid HTTP")]
    NotHttp,
    /// More came than an answer to a check has.
    #[error("the answer is too large")]
    TooLarge,
    /// What HTTP/2 says.
    #[error("HTTP/2: {0}")]
    Http2(#[source] h2::Error),
    /// Another status than those that are expected.
    #[error("status {}", .0.as_u16())]
    Status(StatusCode),
    /// The body has not what it should.
    #[error("the body lacks the text")]
    Body,
    /// HTTP/2 is needed, and the endpoint chose HTTP/1.1.
    #[error("the endpoint did not choose HTTP/2 by ALPN")]
    NotHttp2,
    /// It is HTTP/2, and no gRPC.
    #[error("the answer is not gRPC")]
    NotGrpc,
    /// gRPC's own status.
    #[error("gRPC status {}", .0.as_str())]
    Grpc(Status),
    /// What came is not an answer.
    #[error("{0}")]
    Answer(#[from] AnswerError),
    /// It says itself that it does not serve.
    #[error("{}", .0.as_str())]
    Serving(Serving),
}

impl Failure {
    /// What an error of reading or writing says.
    pub(super) fn of_io(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Closed,
            io::ErrorKind::QuotaExceeded => Self::TooLarge,
            _ => Self::Broke(error),
        }
    }

    /// What an error of HTTP/2 says.
    pub(super) fn of_http2(error: h2::Error) -> Self {
        match error.get_io().map(io::Error::kind) {
            Some(io::ErrorKind::QuotaExceeded) => Self::TooLarge,
            Some(io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe) => Self::Closed,
            _ => Self::Http2(error),
        }
    }
}

fn connect(error: &ConnectError) -> String {
    match error {
        ConnectError::Crowded(limit) | ConnectError::Timeout(limit) => {
            format!("no connection within {}", format_duration(*limit))
        }
        ConnectError::Io(error) => error.to_string(),
        ConnectError::Tls(error) => match error.source() {
            Some(source) => format!("TLS: {error}: {source}"),
            None => format!("TLS: {error}"),
        },
    }
}
