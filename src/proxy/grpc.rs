//! gRPC clients: what is said to them in their own words. They look at the status in trailers and hardly at that of HTTP,
//! so an error of our own is a response that consists of trailers alone, and a response that breaks off gets its trailers
//! from us.
//!
//! A client of gRPC is one of HTTP/2 whose request says so by its content type. Everything else of gRPC is HTTP/2 as of
//! anybody: streams both ways at once, metadata as header fields, trailers.

use std::time::Duration;

use bytes::Bytes;
use http::{StatusCode, Version};
use tokio::time::Instant;

use super::{Failure, Outbound, Response};
use crate::config::model::Listener;
use crate::net::Patience;
use crate::wire::grpc::{CONTENT_TYPE, MESSAGE, STATUS, Status, encode_message, is_grpc, timeout};
use crate::wire::{Fields, Known, RequestHead};

/// Whether `head` is of a gRPC client.
pub fn is_of_grpc(head: &RequestHead) -> bool {
    head.version == Version::HTTP_2 && head.fields.get(Known::ContentType).is_some_and(is_grpc)
}

/// The status that stands for `failure`: the one table of them.
pub fn status(failure: Failure) -> Status {
    match failure {
        Failure::MalformedHead
        | Failure::BadHost
        | Failure::UnderscoreHeader
        | Failure::BadTarget
        | Failure::AmbiguousPath
        | Failure::AmbiguousKey
        | Failure::KeyTooLong
        | Failure::MissingKey
        | Failure::MalformedBody => Status::InvalidArgument,
        Failure::BadVersion
        | Failure::MethodRefused
        | Failure::MethodNotAllowed
        | Failure::NoRoute
        | Failure::UnknownHost
        | Failure::UpgradeUnsupported
        | Failure::Misdirected => Status::Unimplemented,
        // Not UNAVAILABLE, on which many clients try again at once: what is used up is the client's own share.
        Failure::HeadTooLarge | Failure::TargetTooLong | Failure::BodyTooLarge | Failure::RateLimited => {
            Status::ResourceExhausted
        }
        Failure::HeaderTimeout
        | Failure::BodyTimeout
        | Failure::TunnelIdle
        | Failure::ResponseTimeout
        | Failure::RouteTimeout
        | Failure::GrpcDeadline => Status::DeadlineExceeded,
        Failure::ClientAborted => Status::Cancelled,
        Failure::ConnectRefused
        | Failure::ConnectTimeout
        | Failure::NoEndpoint
        | Failure::UpstreamClosed
        | Failure::UpstreamOverloaded
        | Failure::UpstreamReset
        | Failure::UpstreamTls
        | Failure::Drained
        | Failure::Overloaded
        | Failure::NoResources => Status::Unavailable,
        Failure::UpstreamProtocol | Failure::Internal => Status::Internal,
    }
}

/// Tells `failure` in the fields that a gRPC response ends with.
fn tell(failure: Failure, fields: &mut Fields) {
    let message = encode_message(&format!("{} ({})", failure.sentence(), failure.code()));
    fields.set(STATUS, status(failure).code().to_string().as_bytes());
    fields.set(MESSAGE, message.as_bytes());
    fields.set(Known::XWeirError, failure.code().as_bytes());
}

/// Makes an answer of our own to `failure` one for gRPC: 200, no body, and the status in its head.
pub fn translate(response: &mut Response, failure: Failure) {
    let head = &mut response.head;
    head.status = StatusCode::OK;
    for of_http in [Known::RetryAfter, Known::Allow, Known::ContentLength] {
        head.fields.remove(of_http);
    }
    head.fields.set(Known::ContentType, CONTENT_TYPE.as_bytes());
    tell(failure, &mut head.fields);
    response.body = Outbound::full(Bytes::new());
}

/// The trailers of a response that `failure` ends.
pub fn trailers(failure: Failure) -> Fields {
    let mut fields = Fields::new();
    tell(failure, &mut fields);
    fields
}

/// How long a request's body may be waited for: a stream of gRPC may be silent for as long as both sides like.
pub fn patience(grpc: Option<Status>, listener: &Listener) -> Patience {
    match grpc {
        Some(_) => Duration::MAX.into(),
        None => Patience::new(listener.body_timeout, listener.min_rate.request, listener.min_rate.grace),
    }
}

/// When a request that began at `started` has to be over, and what it comes to then: the sooner of what the route
/// allows and what the client asks for.
pub fn deadline(
    head: &RequestHead,
    is_grpc: bool,
    route: Option<Duration>,
    started: Instant,
) -> Option<(Instant, Failure)> {
    let route = route.map(|limit| (limit, Failure::RouteTimeout));
    let asked = if is_grpc { timeout(&head.fields) } else { None };
    let asked = asked.map(|limit| (limit, Failure::GrpcDeadline));
    let (limit, failure) = match (route, asked) {
        (Some(route), Some(asked)) => Some(if asked.0 < route.0 { asked } else { route }),
        (route, asked) => route.or(asked),
    }?;
    // One that lies beyond all time is none.
    Some((started.checked_add(limit)?, failure))
}

#[cfg(test)]
mod tests {
    use http::{Method, Uri};

    use super::*;
    use crate::wire::grpc::TIMEOUT;

    fn head(version: Version, fields: &[(&str, &str)]) -> RequestHead {
        RequestHead::new(Method::POST, &Uri::from_static("/a.B/C"), version, fields.iter().copied().collect())
    }

    #[test]
    fn request_is_of_grpc_over_http2_with_its_content_type() {
        for (version, kind, expected) in [
            (Version::HTTP_2, "application/grpc", true),
            (Version::HTTP_2, "application/grpc+proto", true),
            (Version::HTTP_2, "application/grpc-web+proto", false),
            (Version::HTTP_2, "application/json", false),
            (Version::HTTP_11, "application/grpc", false),
        ] {
            assert_eq!(is_of_grpc(&head(version, &[("content-type", kind)])), expected, "{version:?} {kind}");
        }
        assert!(!is_of_grpc(&head(Version::HTTP_2, &[])));
    }

    #[test]
    fn every_failure_is_documented_with_its_grpc_status() {
        let documented = include_str!("../../docs/errors.md");
        for failure in Failure::ALL {
            let row = documented.lines().find(|line| line.contains(&format!("| `{}` |", failure.code())));
            let row = row.unwrap_or_else(|| panic!("docs/errors.md lacks {failure:?}"));
            let told = format!("| {} {} |", status(failure).code(), status(failure).as_str());
            assert!(row.contains(&told), "{failure:?}: {row} lacks {told}");
        }
    }

    #[test]
    fn answer_of_our_own_is_trailers_alone() {
        for failure in Failure::ALL {
            let mut response = super::super::respond::failure(failure);
            translate(&mut response, failure);
            let fields = &response.head.fields;
            assert_eq!(response.head.status, StatusCode::OK);
            assert!(response.body.is_empty());
            assert_eq!(fields.get(Known::ContentType), Some(&b"application/grpc"[..]));
            assert_eq!(Status::of(fields), status(failure));
            assert_eq!(fields.all(Known::XWeirError).collect::<Vec<_>>(), [failure.code().as_bytes()]);
            assert!(!fields.contains(Known::RetryAfter) && !fields.contains(Known::Allow));
        }
    }

    #[test]
    fn deadline_is_the_sooner_of_the_clients_and_the_routes() {
        let second = Duration::from_secs(1);
        let started = Instant::now();
        let (route, asked) = (Failure::RouteTimeout, Failure::GrpcDeadline);
        for (limit, text, is_grpc, expected) in [
            (None, "", true, None),
            (Some(5), "", true, Some((5, route))),
            (None, "5S", true, Some((5, asked))),
            (Some(5), "3S", true, Some((3, asked))),
            (Some(5), "7S", true, Some((5, route))),
            (Some(5), "5S", true, Some((5, route))),
            (Some(5), "3S", false, Some((5, route))),
            (None, "3", true, None),
            (None, "0n", true, Some((0, asked))),
        ] {
            let fields: &[_] = if text.is_empty() { &[] } else { &[(TIMEOUT, text)] };
            let found =
                deadline(&head(Version::HTTP_2, fields), is_grpc, limit.map(|limit| limit * second), started);
            let expected = expected.map(|(seconds, failure)| (started + seconds * second, failure));
            assert_eq!(found, expected, "{limit:?} {text:?}");
        }
    }
}
