//! How the endpoints of an upstream are asked whether they are well. Who asks them is `upstream::probe`.

use std::ops::RangeInclusive;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method, StatusCode};

use crate::logic::balance::check::{Pace, Thresholds};

/// How the endpoints of an upstream are asked whether they are well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// What they are asked.
    pub probe: Probe,
    /// The host that is asked for; `None`: each endpoint's own.
    pub host: Option<HeaderValue>,
    /// Further headers. They may hold what is secret, so that nothing shows their values.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The port that is asked, where it is not that of the traffic; never 0.
    pub port: Option<u16>,
    /// Whether TLS is spoken to those that speak it.
    pub tls: bool,
    /// How often.
    pub pace: Pace,
    /// How long a whole check may take; at most the shorter interval.
    pub timeout: Duration,
    /// After how many checks in a row an endpoint is taken for something else.
    pub thresholds: Thresholds,
    /// Whether a new endpoint gets no traffic before its first check has ended.
    pub wait: bool,
}

/// What endpoints are asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// An HTTP request.
    Http(HttpProbe),
    /// A connection, and nothing on it.
    Tcp,
    /// The health protocol of gRPC.
    Grpc {
        /// The service; empty is the server as a whole.
        service: String,
    },
}

/// An HTTP request, and what its answer has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpProbe {
    /// GET or HEAD.
    pub method: Method,
    /// What is asked for.
    pub path: PathAndQuery,
    /// The statuses of an endpoint that is well; at least one.
    pub status: Vec<RangeInclusive<u16>>,
    /// What the body has; never empty.
    pub body: Option<Vec<u8>>,
}

impl Health {
    /// Whether both ask the same, however often.
    pub fn asks_as(&self, other: &Self) -> bool {
        self.probe == other.probe
            && self.host == other.host
            && self.headers == other.headers
            && self.port == other.port
            && self.tls == other.tls
    }
}

impl HttpProbe {
    /// Whether an endpoint that is well answers with `status`.
    pub fn expects(&self, status: StatusCode) -> bool {
        self.status.iter().any(|range| range.contains(&status.as_u16()))
    }
}
