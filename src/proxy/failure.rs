//! What goes wrong with a request: its status, its stable code, who is to blame. [`super::respond`] alone turns it into
//! a response.

use http::StatusCode;

use crate::logic::split::Refusal;
use crate::telemetry::Blame;

/// What went wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The head is not as HTTP says.
    MalformedHead,
    /// The head is over the listener's limit, or has too many fields.
    HeadTooLarge,
    /// The request line alone is over the listener's limit.
    TargetTooLong,
    /// Another major version of HTTP.
    BadVersion,
    /// No `Host`, more than one, one that is none, or one that the target contradicts.
    BadHost,
    /// The request has headers whose names have `_`, and the listener refuses such.
    UnderscoreHeader,
    /// The request target cannot be served (`OPTIONS *` aside, a path is needed).
    BadTarget,
    /// The path may be read in several ways, and the listener does not take such.
    AmbiguousPath,
    /// An identity header came twice with different values.
    AmbiguousKey,
    /// The unit key is over 1 KiB.
    KeyTooLong,
    /// The split needs a unit key and there is none.
    MissingKey,
    /// The request body is not framed as the protocol says.
    MalformedBody,
    /// CONNECT and TRACE are not served.
    MethodRefused,
    /// The route does not take this method.
    MethodNotAllowed,
    /// No route.
    NoRoute,
    /// No route is for this host.
    UnknownHost,
    /// The target is for an encrypted connection, and this is none.
    Misdirected,
    /// The head did not come in time.
    HeaderTimeout,
    /// The request's unit has sent too many.
    RateLimited,
    /// The client stopped sending its body.
    BodyTimeout,
    /// The body is over the route's limit.
    BodyTooLarge,
    /// The client went away.
    ClientAborted,
    /// Every endpoint tried refused the connection.
    ConnectRefused,
    /// No connection was made in time.
    ConnectTimeout,
    /// The upstream has as many requests as it may.
    UpstreamOverloaded,
    /// The upstream has no endpoint (its names do not resolve).
    NoEndpoint,
    /// No TLS was made with any endpoint tried.
    UpstreamTls,
    /// The upstream closed an idle connection just when the request was sent on it.
    UpstreamClosed,
    /// The connection broke before or inside the response.
    UpstreamReset,
    /// The response is not HTTP.
    UpstreamProtocol,
    /// The response did not begin in time.
    ResponseTimeout,
    /// The route's time for the whole request is over.
    RouteTimeout,
    /// What lived on had to go: its listener, the process or its variant did.
    Drained,
    /// The tunnel stood still for too long.
    TunnelIdle,
    /// The client asks for a tunnel of a protocol that is not passed on.
    UpgradeUnsupported,
    /// The time that a gRPC client gave is over.
    GrpcDeadline,
    /// There are as many requests in flight as there may be.
    Overloaded,
    /// The system has no file, port or memory for what the request needs.
    NoResources,
    /// A bug of ours.
    Internal,
}

impl Failure {
    /// Every failure.
    pub const ALL: [Self; 39] = [
        Self::MalformedHead,
        Self::HeadTooLarge,
        Self::TargetTooLong,
        Self::BadVersion,
        Self::BadHost,
        Self::UnderscoreHeader,
        Self::BadTarget,
        Self::AmbiguousPath,
        Self::AmbiguousKey,
        Self::KeyTooLong,
        Self::MissingKey,
        Self::MalformedBody,
        Self::MethodRefused,
        Self::MethodNotAllowed,
        Self::NoRoute,
        Self::UnknownHost,
        Self::Misdirected,
        Self::HeaderTimeout,
        Self::RateLimited,
        Self::BodyTimeout,
        Self::BodyTooLarge,
        Self::ClientAborted,
        Self::ConnectRefused,
        Self::ConnectTimeout,
        Self::UpstreamOverloaded,
        Self::NoEndpoint,
        Self::UpstreamTls,
        Self::UpstreamClosed,
        Self::UpstreamReset,
        Self::UpstreamProtocol,
        Self::ResponseTimeout,
        Self::RouteTimeout,
        Self::Drained,
        Self::TunnelIdle,
        Self::UpgradeUnsupported,
        Self::GrpcDeadline,
        Self::Overloaded,
        Self::NoResources,
        Self::Internal,
    ];

    fn row(self) -> (u16, &'static str, Blame, &'static str) {
        use Blame::{Client, Upstream, Us};
        match self {
            Self::MalformedHead => (400, "malformed_head", Client, "the request head is not valid HTTP"),
            Self::HeadTooLarge => (431, "head_too_large", Client, "the request head is too large"),
            Self::TargetTooLong => (414, "target_too_long", Client, "the request target is too long"),
            Self::BadVersion => (505, "bad_version", Client, "this version of HTTP is not supported"),
            Self::BadHost => (400, "bad_host", Client, "the request needs exactly one valid host"),
            Self::UnderscoreHeader => {
                (400, "underscore_header", Client, "header names with `_` are not taken here")
            }
            Self::BadTarget => (400, "bad_target", Client, "the request target is not a path"),
            Self::AmbiguousPath => {
                (400, "ambiguous_path", Client, "the path may be read in more than one way")
            }
            Self::AmbiguousKey => {
                (400, "ambiguous_key", Client, "an identity header came twice with different values")
            }
            Self::KeyTooLong => (400, "key_too_long", Client, "the unit key is over 1 KiB"),
            Self::MissingKey => {
                (400, "missing_key", Client, "the request has none of the identities asked for")
            }
            Self::MalformedBody => {
                (400, "malformed_body", Client, "the request body is not framed correctly")
            }
            Self::MethodRefused => (405, "method_refused", Client, "this method is not served"),
            Self::MethodNotAllowed => {
                (405, "method_not_allowed", Client, "this path does not take the method")
            }
            Self::NoRoute => (404, "no_route", Client, "no route takes this request"),
            Self::UnknownHost => (421, "unknown_host", Client, "this host is not served here"),
            Self::Misdirected => {
                (421, "misdirected", Client, "the target is for an encrypted connection, and this is none")
            }
            Self::HeaderTimeout => (408, "header_timeout", Client, "the request head did not come in time"),
            Self::RateLimited => {
                (429, "rate_limited", Client, "more requests came than are taken in this time")
            }
            Self::BodyTimeout => (408, "body_timeout", Client, "the request body did not come in time"),
            Self::BodyTooLarge => (413, "body_too_large", Client, "the request body is too large"),
            Self::ClientAborted => (499, "client_aborted", Client, "the client went away"),
            Self::ConnectRefused => (503, "connect_refused", Upstream, "no endpoint took the connection"),
            Self::ConnectTimeout => (504, "connect_timeout", Upstream, "no connection was made in time"),
            Self::UpstreamOverloaded => {
                (503, "upstream_overloaded", Us, "there are as many requests as can be served")
            }
            Self::NoEndpoint => (503, "no_endpoint", Upstream, "the upstream has no endpoint"),
            Self::UpstreamTls => {
                (502, "upstream_tls", Upstream, "no secure connection to the upstream was made")
            }
            Self::UpstreamClosed => {
                (502, "upstream_closed", Upstream, "the upstream closed its idle connection as it was used")
            }
            Self::UpstreamReset => (502, "upstream_reset", Upstream, "the upstream broke off"),
            Self::UpstreamProtocol => {
                (502, "upstream_protocol", Upstream, "the upstream did not answer in HTTP")
            }
            Self::ResponseTimeout => {
                (504, "response_timeout", Upstream, "the upstream did not answer in time")
            }
            Self::RouteTimeout => {
                (504, "route_timeout", Upstream, "the request took longer than its route allows")
            }
            Self::Drained => (503, "drained", Us, "what serves the request goes away"),
            Self::TunnelIdle => (408, "tunnel_idle", Client, "nothing came through the tunnel for too long"),
            Self::UpgradeUnsupported => {
                (501, "upgrade_unsupported", Client, "this protocol is not passed on over HTTP/2")
            }
            Self::GrpcDeadline => (504, "grpc_deadline", Upstream, "the time that the client gave is over"),
            Self::Overloaded => (503, "overloaded", Us, "there are too many requests"),
            Self::NoResources => (503, "no_resources", Us, "the proxy has no room for the request"),
            Self::Internal => (500, "internal", Us, "an error of the proxy itself"),
        }
    }

    /// The status the client gets; 499 (never sent) when it went away itself.
    pub fn status(self) -> StatusCode {
        StatusCode::from_u16(self.row().0).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The stable code in `x-weir-error`, log and metric.
    pub fn code(self) -> &'static str {
        self.row().1
    }

    /// Who is to blame.
    pub fn blame(self) -> Blame {
        self.row().2
    }

    /// One sentence for the client. It names nothing of the inside.
    pub fn sentence(self) -> &'static str {
        self.row().3
    }
}

impl From<&Refusal> for Failure {
    fn from(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::Ambiguous(_) => Self::AmbiguousKey,
            Refusal::Key(_) => Self::KeyTooLong,
            Refusal::Missing => Self::MissingKey,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_failure_is_documented_with_its_status_and_blame() {
        let documented = include_str!("../../docs/errors.md");
        for failure in Failure::ALL {
            let row = format!(
                "| {} | `{}` | {} |",
                failure.status().as_u16(),
                failure.code(),
                failure.blame().as_str()
            );
            assert!(documented.contains(&row), "docs/errors.md lacks {row}");
        }
    }

    #[test]
    fn every_failure_has_a_code_of_its_own_and_an_error_status() {
        let codes: HashSet<_> = Failure::ALL.iter().map(|failure| failure.code()).collect();
        assert_eq!(codes.len(), Failure::ALL.len());
        for failure in Failure::ALL {
            let status = failure.status();
            assert!(status.is_client_error() || status.is_server_error(), "{failure:?}");
            match failure.blame() {
                // The two of the client's doing that the standard counts among the server's.
                Blame::Client if failure == Failure::BadVersion => assert_eq!(status.as_u16(), 505),
                Blame::Client if failure == Failure::UpgradeUnsupported => assert_eq!(status.as_u16(), 501),
                Blame::Client => assert!(status.is_client_error(), "{failure:?}"),
                Blame::Upstream | Blame::Us => assert!(status.is_server_error(), "{failure:?}"),
            }
        }
    }
}
