//! Sending a request to an endpoint of one upstream: pick, connect, send, and again at another endpoint where not a
//! byte was sent. It never leaves the upstream: crossing to another variant is decided by [`mod@super::handle`] alone.

use std::rc::Rc;

use http::uri::PathAndQuery;

use super::Failure;
use super::host::Host;
use super::record::Record;
use super::worker::{Serving, Worker};
use crate::config::model::Protocol;
use crate::logic::balance::Retries;
use crate::net::clock;
use crate::state::Arm;
use crate::telemetry::{Cause, RetryOutcome};
use crate::upstream::connect::ConnectError;
use crate::upstream::{
    Caller, Exchange, Needs, Outgoing, SendErrorKind, Upgrade, Upload, UploadFailure, Wish,
};

/// What is the same for every attempt of a request, beside its head.
#[derive(Debug)]
pub struct Plan<'a> {
    /// When it is sent again.
    pub retries: &'a Retries,
    /// The target on the way to the upstream; `None` where it is the client's.
    pub target: Option<PathAndQuery>,
    /// The host; where it is not kept, the head has no `Host` field any more.
    pub host: Host<'a>,
    /// What the connection is to become, if anything else.
    pub upgrade: Option<&'a Upgrade>,
    /// The request's task.
    pub caller: &'a Caller,
}

/// A request that got no response.
#[derive(Debug)]
pub struct Failed {
    /// What the client will be told.
    pub failure: Failure,
    /// The body, when not a byte of the request was sent.
    pub unsent: Option<Upload>,
}

/// Sends the record's head and `body` to an endpoint of `arm` and waits for the response's head.
///
/// # Errors
/// [`Failed`]; it holds the body where not a byte of the request was sent, so that the baseline may still have it.
pub async fn attempt(
    worker: &Worker,
    serving: &Serving,
    arm: &Arm,
    plan: &Plan<'_>,
    needs: Needs,
    mut body: Upload,
    record: &mut Record,
) -> Result<Exchange, Failed> {
    let local = &serving.upstreams[arm.upstream];
    let protocol = local.shared().settings.protocol;
    let upload = body.state();
    let wish = Wish { needs, is_spare: plan.retries.attempts > 1 };
    let mut tried = Vec::new();
    let mut last = Failure::NoEndpoint;
    while tried.len() < plan.retries.attempts {
        let Some(endpoint) = local.pick(&tried, worker.random(), wish) else { break };
        record.attempts += 1;
        record.endpoint = Some(Rc::clone(&endpoint));
        let host = match &plan.host {
            Host::Kept => None,
            Host::Endpoint => Some(&endpoint.authority),
            // HTTP/1.0 may name no host, HTTP/2 must, and so does what may turn out to be HTTP/2.
            Host::Named(name) if name.is_empty() && protocol != Protocol::Http1 => Some(&endpoint.authority),
            Host::Named(name) => Some(&**name),
        };
        let target = plan.target.as_ref().map_or_else(|| record.head.path_and_query(), PathAndQuery::as_str);
        let outgoing = Outgoing { head: &record.head, target, host, upgrade: plan.upgrade };
        let sent = clock::now();
        let error = match endpoint.send(&outgoing, body, plan.caller).await {
            Ok(exchange) => {
                let duration = clock::now().saturating_duration_since(sent);
                worker.metrics.response_head(arm.target, duration);
                record.upstream_duration = Some(duration);
                if !tried.is_empty() {
                    worker.metrics.retried(arm.target, RetryOutcome::Success);
                }
                return Ok(exchange);
            }
            Err(error) => error,
        };
        let Some((failure, cause)) = classify(&error.kind) else {
            return Err(Failed { failure: Failure::BadHost, unsent: None });
        };
        if !tried.is_empty() {
            worker.metrics.retried(arm.target, RetryOutcome::Failure);
        }
        if let Some(failure) = upload.as_ref().and_then(|upload| upload.failure()) {
            return Err(Failed { failure: client_failure(failure), unsent: None });
        }
        worker.metrics.upstream_failed(arm.target, cause);
        tracing::debug!(
            endpoint = &*endpoint.name,
            error = &error as &dyn std::error::Error,
            "attempt failed"
        );
        last = failure;
        match error.unsent {
            Some(unsent) => body = unsent,
            None => return Err(Failed { failure, unsent: None }),
        }
        tried.push(endpoint);
    }
    if tried.is_empty() {
        worker.metrics.upstream_failed(arm.target, Cause::NoEndpoint);
    }
    Err(Failed { failure: last, unsent: Some(body) })
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

/// What an attempt that failed comes to; `None` where the client's host is to blame.
fn classify(kind: &SendErrorKind) -> Option<(Failure, Cause)> {
    Some(match kind {
        SendErrorKind::Connect(ConnectError::Timeout(_)) => (Failure::ConnectTimeout, Cause::Connect),
        SendErrorKind::Connect(ConnectError::Io(_)) => (Failure::ConnectRefused, Cause::Connect),
        SendErrorKind::Connect(ConnectError::Tls(_)) => (Failure::UpstreamTls, Cause::Tls),
        SendErrorKind::Reset(_) | SendErrorKind::Refused(_) => (Failure::UpstreamReset, Cause::Reset),
        SendErrorKind::Protocol(_) | SendErrorKind::NoTunnel | SendErrorKind::Otherwise(_) => {
            (Failure::UpstreamProtocol, Cause::Protocol)
        }
        SendErrorKind::Timeout => (Failure::ResponseTimeout, Cause::Timeout),
        SendErrorKind::Host => return None,
    })
}
