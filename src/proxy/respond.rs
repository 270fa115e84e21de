//! Answers of our own: failures, redirects, fixed responses, `OPTIONS *`.

use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, StatusCode};

use super::authority::Authority;
use super::{Failure, Outbound, Response};
use crate::config::model;
use crate::logic::route::PathPattern;
use crate::state::limiter::{self, Limiter};
use crate::wire::path::dot_segments;
use crate::wire::{Known, RequestHead};

const TEXT: &[u8] = b"text/plain; charset=utf-8";

/// The methods served on any path, for `Allow` where a method is refused everywhere.
const SERVED: &str = "GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH";

/// The answer to a failed request.
pub fn failure(failure: Failure) -> Response {
    let status = failure.status();
    let reason = status.canonical_reason().unwrap_or("Error");
    let body = format!("{} {reason}: {} ({})\n", status.as_u16(), failure.sentence(), failure.code());
    let mut response = Response::new(status, Outbound::full(Bytes::from(body)));
    let fields = &mut response.head.fields;
    fields.append(Known::ContentType, TEXT);
    fields.append(Known::XWeirError, failure.code().as_bytes());
    if status == StatusCode::SERVICE_UNAVAILABLE {
        fields.append(Known::RetryAfter, b"1");
    }
    if failure == Failure::MethodRefused {
        fields.append(Known::Allow, SERVED.as_bytes());
    }
    response
}

/// Whether the connection can go on after this failure: not where the rest of the body may still be coming.
pub fn closes_connection(failure: Failure) -> bool {
    matches!(
        failure,
        Failure::BodyTooLarge | Failure::BodyTimeout | Failure::MalformedBody | Failure::BadHost
    )
}

/// The answer where the path is known and the method is not.
pub fn method_not_allowed(allowed: &[Method]) -> Response {
    let mut response = failure(Failure::MethodNotAllowed);
    let list = allowed.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
    response.head.fields.append(Known::Allow, list.as_bytes());
    response
}

/// The answer to a unit that has sent too many: when it may try again, and what `limiter` lets it send.
///
/// Source: draft-ietf-httpapi-ratelimit-headers-10.
pub fn rate_limited(limiter: &Limiter, wait: Duration) -> Response {
    let mut response = failure(Failure::RateLimited);
    let seconds = limiter::seconds(wait);
    let fields = &mut response.head.fields;
    fields.append(Known::RetryAfter, seconds.to_string().as_bytes());
    fields.append("ratelimit-policy", limiter.policy().as_bytes());
    fields.append("ratelimit", format!("\"default\";r=0;t={seconds}").as_bytes());
    response
}

/// The answer to `OPTIONS *`: a ping, which is about us and not about any resource.
pub fn options() -> Response {
    let mut response = Response::new(StatusCode::NO_CONTENT, Outbound::full(Bytes::new()));
    response.head.fields.append(Known::Allow, SERVED.as_bytes());
    response
}

/// A configured answer.
pub fn fixed(respond: &model::Respond) -> Response {
    let mut response = Response::new(respond.status, Outbound::full(respond.body.clone()));
    if !respond.body.is_empty() {
        response.head.fields.append(Known::ContentType, respond.content_type.as_bytes());
    }
    response
}

/// A redirect of the request `head` for `authority`, whose path was matched by `pattern`.
pub fn redirect(
    redirect: &model::Redirect,
    head: &RequestHead,
    authority: &Authority,
    secure: bool,
    pattern: Option<&PathPattern>,
) -> Response {
    let scheme =
        redirect.scheme.as_ref().map_or(if secure { "https" } else { "http" }, http::uri::Scheme::as_str);
    // Another scheme has another port: the one that the client named does not go with it.
    let own = if redirect.scheme.is_some() { authority.host() } else { authority.as_str() };
    let host = redirect.host.as_deref().unwrap_or(own);
    let asked = head.path();
    let path = match (&redirect.path, &redirect.prefix, pattern) {
        (Some(path), _, _) => path.clone(),
        (None, Some(prefix), Some(pattern)) => {
            pattern.rewrite(asked, prefix).unwrap_or_else(|| asked.to_owned())
        }
        (None, Some(prefix), None) => {
            PathPattern::Prefix(String::new()).rewrite(asked, prefix).unwrap_or_else(|| prefix.clone())
        }
        (None, None, _) => asked.to_owned(),
    };
    let query = head.query().map(|query| format!("?{query}")).unwrap_or_default();
    let location = match host {
        // Nobody named a host (HTTP/1.0): without one, `//` at the beginning would make one of the path.
        "" => format!("/{}{query}", path.trim_start_matches(['/', '\\'])),
        host => format!("{scheme}://{host}{path}{query}"),
    };
    let Ok(location) = HeaderValue::from_str(&location) else { return failure(Failure::BadTarget) };
    let mut response = Response::new(redirect.status, Outbound::full(Bytes::new()));
    response.head.fields.append(Known::Location, location.as_bytes());
    response
}

/// The target of a request that goes to an upstream, after a prefix rewrite; `None` where it stays as it is.
///
/// # Errors
/// [`Failure::BadTarget`] when what comes out is no request target; [`Failure::AmbiguousPath`] when the rewrite makes a
/// segment of dots where there was none, which might lead out of `prefix`.
pub fn rewritten(
    head: &RequestHead,
    prefix: Option<&str>,
    pattern: Option<&PathPattern>,
) -> Result<Option<PathAndQuery>, Failure> {
    let Some(prefix) = prefix else { return Ok(None) };
    let everything = PathPattern::Prefix(String::new());
    let path = pattern.unwrap_or(&everything).rewrite(head.path(), prefix);
    let path = path.unwrap_or_else(|| head.path().to_owned());
    if dot_segments(&path) > dot_segments(head.path()) {
        return Err(Failure::AmbiguousPath);
    }
    let target = match head.query() {
        Some(query) => format!("{path}?{query}"),
        None => path,
    };
    PathAndQuery::try_from(target).map(Some).map_err(|_| Failure::BadTarget)
}
