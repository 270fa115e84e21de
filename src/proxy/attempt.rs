//! Sending a request to an endpoint of one upstream: pick, connect, send, and again at another endpoint where not a
//! byte was sent. It never leaves the upstream: crossing to another variant is decided by [`mod@super::handle`] alone.

use std::sync::Arc;

use http::header::{CONNECTION, HOST, TE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Request, Uri, Version};
use tokio::time::Instant;

use super::Failure;
use super::record::Record;
use super::worker::{Serving, Worker};
use crate::config::model::{HostRewrite, Protocol};
use crate::state::Arm;
use crate::telemetry::{Cause, RetryOutcome};
use crate::upstream::connect::ConnectError;
use crate::upstream::{Exchange, Interim, SendErrorKind, Upload, UploadFailure};

/// What is the same for every attempt of a request.
#[derive(Debug)]
pub struct Plan<'a> {
    /// Attempts in all.
    pub attempts: usize,
    /// The target on the way to the upstream.
    pub target: PathAndQuery,
    /// The host that the client asked for.
    pub host: HeaderValue,
    /// What becomes of the host.
    pub rewrite: &'a HostRewrite,
    /// Where 1xx responses go.
    pub interim: Option<Interim>,
}

/// A request that got no response.
#[derive(Debug)]
pub struct Failed {
    /// What the client will be told.
    pub failure: Failure,
    /// The request, when not a byte of it was sent.
    pub unsent: Option<Box<Request<Upload>>>,
}

/// Sends `request` to an endpoint of `arm` and waits for the response's head.
///
/// # Errors
/// [`Failed`]; it holds the request where not a byte of it was sent, so that the baseline may still have it.
pub async fn attempt(
    worker: &Worker,
    serving: &Serving,
    arm: &Arm,
    plan: &Plan<'_>,
    request: Request<Upload>,
    record: &mut Record,
) -> Result<Exchange, Failed> {
    let local = &serving.upstreams[arm.upstream];
    let protocol = local.shared().settings.protocol;
    let mut request = Box::new(request);
    let mut tried = Vec::new();
    let mut last = Failure::NoEndpoint;
    while tried.len() < plan.attempts {
        let Some(endpoint) = local.pick(&tried, worker.random()) else { break };
        record.attempts += 1;
        record.endpoint = Some(Arc::clone(&endpoint.name));
        let host = match plan.rewrite {
            // HTTP/1.0 may name no host, HTTP/2 must.
            HostRewrite::Preserve if plan.host.is_empty() && protocol == Protocol::Http2 => {
                &endpoint.authority
            }
            HostRewrite::Preserve => &plan.host,
            HostRewrite::Endpoint => &endpoint.authority,
            HostRewrite::Name(name) => name,
        };
        if address(&mut request, protocol, host, &plan.target).is_err() {
            return Err(Failed { failure: Failure::BadHost, unsent: None });
        }
        let upload = request.body().state();
        let sent = Instant::now();
        let error = match endpoint.send(*request, plan.interim.clone()).await {
            Ok(exchange) => {
                let duration = sent.elapsed();
                worker.metrics.response_head(arm.target, duration);
                record.upstream_duration = Some(duration);
                if !tried.is_empty() {
                    worker.metrics.retried(arm.target, RetryOutcome::Success);
                }
                return Ok(exchange);
            }
            Err(error) => error,
        };
        if !tried.is_empty() {
            worker.metrics.retried(arm.target, RetryOutcome::Failure);
        }
        if let Some(failure) = upload.failure() {
            return Err(Failed { failure: client_failure(failure), unsent: None });
        }
        let (failure, cause) = classify(&error.kind);
        worker.metrics.upstream_failed(arm.target, cause);
        tracing::debug!(
            endpoint = &*endpoint.name,
            error = &error as &dyn std::error::Error,
            "attempt failed"
        );
        last = failure;
        match error.unsent {
            Some(unsent) => request = unsent,
            None => return Err(Failed { failure, unsent: None }),
        }
        tried.push(endpoint);
    }
    if tried.is_empty() {
        worker.metrics.upstream_failed(arm.target, Cause::NoEndpoint);
    }
    Err(Failed { failure: last, unsent: Some(request) })
}

/// Puts the target and the host where the protocol has them.
fn address(
    request: &mut Request<Upload>,
    protocol: Protocol,
    host: &HeaderValue,
    target: &PathAndQuery,
) -> Result<(), http::Error> {
    match protocol {
        Protocol::Http1 => {
            *request.version_mut() = Version::HTTP_11;
            let uri = request.uri();
            if uri.authority().is_some() || uri.path_and_query() != Some(target) {
                *request.uri_mut() = Uri::from(target.clone());
            }
            let headers = request.headers_mut();
            headers.insert(HOST, host.clone());
            if headers.contains_key(TE) {
                // What we say of this hop alone (RFC 9110 §10.1.4).
                headers.insert(CONNECTION, HeaderValue::from_static("te"));
            }
        }
        Protocol::Http2 => {
            *request.version_mut() = Version::HTTP_2;
            let authority = Authority::try_from(host.as_bytes())?;
            *request.uri_mut() = Uri::builder()
                .scheme(Scheme::HTTP)
                .authority(authority)
                .path_and_query(target.clone())
                .build()?;
            request.headers_mut().remove(HOST);
            request.headers_mut().remove(CONNECTION);
        }
    }
    Ok(())
}

/// What a body that the client broke off comes to.
pub fn client_failure(failure: UploadFailure) -> Failure {
    match failure {
        UploadFailure::Aborted => Failure::ClientAborted,
        UploadFailure::Malformed => Failure::MalformedBody,
        UploadFailure::Stalled => Failure::BodyTimeout,
        UploadFailure::TooLarge => Failure::BodyTooLarge,
    }
}

fn classify(kind: &SendErrorKind) -> (Failure, Cause) {
    match kind {
        SendErrorKind::Connect(ConnectError::Timeout(_)) => (Failure::ConnectTimeout, Cause::Connect),
        SendErrorKind::Connect(ConnectError::Io(_)) => (Failure::ConnectRefused, Cause::Connect),
        SendErrorKind::Reset(_) => (Failure::UpstreamReset, Cause::Reset),
        SendErrorKind::Protocol(_) => (Failure::UpstreamProtocol, Cause::Protocol),
        SendErrorKind::Timeout => (Failure::ResponseTimeout, Cause::Timeout),
    }
}
