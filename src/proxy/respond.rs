//! Answers of our own: failures, redirects, fixed responses, `OPTIONS *`.

use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method, Response, StatusCode};

use super::view::Authority;
use super::{Failure, Outbound};
use crate::config::model;
use crate::logic::route::PathPattern;

/// The header that carries a failure's code.
pub const X_WEIR_ERROR: HeaderName = HeaderName::from_static("x-weir-error");

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// The methods served on any path, for `Allow` where a method is refused everywhere.
const SERVED: &str = "GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH";

/// The answer to a failed request.
pub fn failure(failure: Failure) -> Response<Outbound> {
    let status = failure.status();
    let reason = status.canonical_reason().unwrap_or("Error");
    let body = format!("{} {reason}: {} ({})\n", status.as_u16(), failure.sentence(), failure.code());
    let mut response = Response::new(Outbound::full(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, TEXT);
    headers.insert(X_WEIR_ERROR, HeaderValue::from_static(failure.code()));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    if failure == Failure::MethodRefused {
        headers.insert(ALLOW, HeaderValue::from_static(SERVED));
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

/// Says that the connection ends with this response.
pub fn close(response: &mut Response<Outbound>) {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
}

/// The answer where the path is known and the method is not.
pub fn method_not_allowed(allowed: &[Method]) -> Response<Outbound> {
    let mut response = failure(Failure::MethodNotAllowed);
    let list = allowed.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
    if let Ok(list) = HeaderValue::from_str(&list) {
        response.headers_mut().insert(ALLOW, list);
    }
    response
}

/// The answer to `OPTIONS *`: a ping, which is about us and not about any resource.
pub fn options() -> Response<Outbound> {
    let mut response = Response::new(Outbound::full(Bytes::new()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(SERVED));
    response
}

/// A configured answer.
pub fn fixed(respond: &model::Respond) -> Response<Outbound> {
    let mut response = Response::new(Outbound::full(respond.body.clone()));
    *response.status_mut() = respond.status;
    if !respond.body.is_empty() {
        response.headers_mut().insert(CONTENT_TYPE, respond.content_type.clone());
    }
    response
}

/// A redirect of the request for `uri` at `authority`, whose path was matched by `pattern`.
pub fn redirect(
    redirect: &model::Redirect,
    uri: &http::Uri,
    authority: &Authority,
    secure: bool,
    pattern: Option<&PathPattern>,
) -> Response<Outbound> {
    let scheme =
        redirect.scheme.as_ref().map_or(if secure { "https" } else { "http" }, http::uri::Scheme::as_str);
    // Another scheme has another port: the one that the client named does not go with it.
    let own = if redirect.scheme.is_some() { authority.host() } else { authority.as_str() };
    let host = redirect.host.as_deref().unwrap_or(own);
    let path = match (&redirect.path, &redirect.prefix, pattern) {
        (Some(path), _, _) => path.clone(),
        (None, Some(prefix), Some(pattern)) => {
            pattern.rewrite(uri.path(), prefix).unwrap_or_else(|| uri.path().to_owned())
        }
        (None, Some(prefix), None) => {
            PathPattern::Prefix(String::new()).rewrite(uri.path(), prefix).unwrap_or_else(|| prefix.clone())
        }
        (None, None, _) => uri.path().to_owned(),
    };
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let location = match host {
        // Nobody named a host (HTTP/1.0): without one, `//` at the beginning would make one of the path.
        "" => format!("/{}{query}", path.trim_start_matches(['/', '\\'])),
        host => format!("{scheme}://{host}{path}{query}"),
    };
    let Ok(location) = HeaderValue::from_str(&location) else { return failure(Failure::BadTarget) };
    let mut response = Response::new(Outbound::full(Bytes::new()));
    *response.status_mut() = redirect.status;
    response.headers_mut().insert(LOCATION, location);
    response
}

/// The target of a request that goes to an upstream, after a prefix rewrite.
///
/// # Errors
/// [`Failure::BadTarget`] when what comes out is no request target.
pub fn rewritten(
    uri: &http::Uri,
    prefix: Option<&str>,
    pattern: Option<&PathPattern>,
) -> Result<PathAndQuery, Failure> {
    let Some(prefix) = prefix else {
        return Ok(uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/")));
    };
    let everything = PathPattern::Prefix(String::new());
    let path = pattern.unwrap_or(&everything).rewrite(uri.path(), prefix);
    let path = path.unwrap_or_else(|| uri.path().to_owned());
    let target = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path,
    };
    PathAndQuery::try_from(target).map_err(|_| Failure::BadTarget)
}
