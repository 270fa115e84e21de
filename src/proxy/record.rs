//! What is counted and logged of a request, gathered on its way and closed once, when its last byte has gone or its
//! end is known otherwise.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode, Version};
use tokio::time::Instant;

use super::admission::Permit;
use super::worker::Serving;
use super::{Failure, grpc};
use crate::logic::split::{Assignment, Reason};
use crate::net::clock;
use crate::state::{Plan, RoutingHeaders};
use crate::telemetry::{self, Blame, Cause, Outcome, RetryReason, TargetId};
use crate::types::{SplitName, VariantName};
use crate::upstream::UploadState;
use crate::upstream::local::Endpoint;
use crate::wire::grpc::Status;
use crate::wire::{Fields, RequestHead};

/// What is gathered of a request.
#[derive(Debug)]
pub struct Record {
    metrics: Rc<telemetry::Worker>,
    serving: Rc<Serving>,
    started: Instant,
    /// The request's head: as it came in at first, then as it goes on.
    pub head: RequestHead,
    /// The route, an index into the snapshot's.
    pub route: Option<usize>,
    /// The destination's labels; `None` until one is known.
    pub target: Option<TargetId>,
    /// The assignment, on a split's route.
    pub assignment: Option<Assignment>,
    /// Why the variant was chosen; after a fall-back no longer what the assignment says.
    pub reason: Option<Reason>,
    /// The variant that serves, an index into the split's.
    pub variant: Option<usize>,
    /// The endpoint that answered, or was tried last.
    pub endpoint: Option<Rc<Endpoint>>,
    /// Attempts made.
    pub attempts: u32,
    /// Why further attempts were made, in their order.
    pub retried: Vec<RetryReason>,
    /// Whether an attempt failed by the upstream's fault: it counts as its failure, whatever the client gets at last.
    pub is_charged: bool,
    /// From the request head sent to the response head received.
    pub upstream_duration: Option<Duration>,
    /// What the client was told.
    pub status: StatusCode,
    /// How it ended for a gRPC client; `None` where it is none.
    pub grpc: Option<Status>,
    /// The request's body, once it is on its way.
    pub upload: Option<Rc<UploadState>>,
    /// Bytes sent on of what is no request body: those of a tunnel.
    pub request_bytes: u64,
    /// Bytes of the response body sent on.
    pub response_bytes: u64,
    /// Its place among the requests in flight, where they are counted.
    pub permit: Option<Permit>,
    /// Whether an upstream holds this request in its count of active ones.
    active: Option<TargetId>,
    noted: Option<Box<Noted>>,
    closed: bool,
}

/// What only the access log needs, and the head does not hold for good.
#[derive(Debug)]
pub struct Noted {
    /// The host asked for; empty where it is none.
    pub host: Box<str>,
    /// The request's id.
    pub request_id: Box<[u8]>,
    /// The client.
    pub client_ip: IpAddr,
    /// The path asked for, where the one that goes on is another.
    pub asked: Option<Box<str>>,
    /// The listener.
    pub listener: Arc<crate::config::model::Listener>,
}

impl Record {
    /// The record of the request `head`, which began now.
    pub fn new(metrics: Rc<telemetry::Worker>, serving: Rc<Serving>, head: RequestHead) -> Self {
        Self {
            metrics,
            serving,
            started: clock::now(),
            head,
            route: None,
            target: None,
            assignment: None,
            reason: None,
            variant: None,
            endpoint: None,
            attempts: 0,
            retried: Vec::new(),
            is_charged: false,
            upstream_duration: None,
            status: StatusCode::OK,
            grpc: None,
            upload: None,
            request_bytes: 0,
            response_bytes: 0,
            permit: None,
            active: None,
            noted: None,
            closed: false,
        }
    }

    /// Notes what the access log tells; called only where it is on.
    pub fn note(&mut self, noted: Noted) {
        self.noted = Some(Box::new(noted));
    }

    /// Lets go of what no attempt needs any more: a response may stream for long.
    pub fn release(&mut self) {
        if self.noted.is_none() {
            self.head.fields = Fields::default();
        }
    }

    /// The headers that carry identity, in the snapshot that serves this request.
    pub fn routing_headers(&self) -> &RoutingHeaders {
        &self.serving.snapshot.routing_headers
    }

    /// Whether the response has no body, whatever its head says of one (RFC 9110 §6.4.1).
    pub fn is_bodiless(&self) -> bool {
        self.head.method == Method::HEAD
            || self.status == StatusCode::NO_CONTENT
            || self.status == StatusCode::NOT_MODIFIED
    }

    /// The snapshot that serves the request.
    pub fn serving(&self) -> &Serving {
        &self.serving
    }

    /// The split and the variant that serve the request, where it has some.
    pub fn cohort(&self) -> Option<(&SplitName, &VariantName)> {
        let Plan::Split { split, .. } = &self.serving.snapshot.routes.get(self.route?)?.plan else {
            return None;
        };
        let pure = &split.split;
        Some((&pure.name, &pure.variants.get(self.variant?)?.name))
    }

    /// When the request began.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Whether the request began longer ago than `age`, by the clock of what has come.
    pub fn is_older_than(&self, age: Duration) -> bool {
        clock::now().saturating_duration_since(self.started) > age
    }

    /// The request goes to `target`'s upstream from now on.
    pub fn enter(&mut self, target: TargetId) {
        self.leave();
        // One of another upstream has no part in what comes.
        self.endpoint = None;
        self.metrics.request_started(target);
        self.active = Some(target);
        self.target = Some(target);
    }

    fn leave(&mut self) {
        if let Some(target) = self.active.take() {
            self.metrics.request_ended(target);
        }
    }

    /// The request goes to another upstream, for the one that it was for did not take it: that is its failure.
    pub fn give_up(&mut self) {
        if let Some(target) = self.active {
            self.metrics.request_ended_with(target, Some(Outcome::Failure), None);
        }
        self.is_charged = false;
    }

    /// The response did not come, or broke off after its head: the endpoint's failure.
    pub fn broke_off(&self, cause: Cause) {
        self.is_of_no_use(cause);
        // A client that still sends, or has set the time itself, must not be able to say that of an endpoint.
        let is_clients = cause == Cause::Timeout
            && (self.grpc.is_some() || self.upload.as_ref().is_some_and(|upload| !upload.is_done()));
        if let (Some(endpoint), false) = (&self.endpoint, is_clients) {
            endpoint.answered(None);
        }
    }

    /// The response is of no use, in which the client may have its part: nothing is held against the endpoint.
    pub fn is_of_no_use(&self, cause: Cause) {
        if let Some(target) = self.active {
            self.metrics.upstream_failed(target, cause);
        }
    }

    /// Counts and logs the request. `failure` is what went wrong, if anything did.
    pub fn close(mut self: Box<Self>, failure: Option<Failure>) {
        self.finish(failure);
    }

    fn finish(&mut self, failure: Option<Failure>) {
        self.closed = true;
        let request_bytes = self.request_bytes + self.upload.as_ref().map_or(0, |upload| upload.bytes());
        let mut whole = clock::now().saturating_duration_since(self.started);
        if whole.is_zero() {
            // Answered within one event: by ourselves.
            whole = self.started.elapsed();
        }
        if let (Some(failure), Some(Status::Missing)) = (failure, self.grpc) {
            self.grpc = Some(grpc::status(failure));
        }
        if let Some(failure) = failure {
            self.metrics.error(failure.code(), failure.blame());
        }
        if let Some(target) = self.target {
            if self.active.is_some() {
                let code = self.status.as_u16();
                let (request, response) = (request_bytes, self.response_bytes);
                // A tunnel lives as long as its peers like: what can be compared is how long its handshake took.
                let is_tunnel = self.status == StatusCode::SWITCHING_PROTOCOLS;
                let observed = self.upstream_duration.filter(|_| is_tunnel).unwrap_or(whole);
                self.metrics.request_finished(target, code, self.reason, observed, request, response);
                self.metrics.request_ended_with(target, self.outcome(failure), self.grpc);
            } else {
                self.metrics.answered(target, whole);
            }
        }
        self.leave();
        self.log(whole, request_bytes, failure);
    }

    /// Whether the upstream did well; `None` where the client is the cause that nobody knows.
    fn outcome(&self, failure: Option<Failure>) -> Option<Outcome> {
        match failure.map(Failure::blame) {
            None if self.is_charged => Some(Outcome::Failure),
            None => Some(Outcome::of(self.status.as_u16(), self.grpc)),
            Some(Blame::Upstream) => Some(Outcome::Failure),
            Some(Blame::Client | Blame::Us) => None,
        }
    }

    #[expect(clippy::disallowed_methods, reason = "the access log tells when a request arrived")]
    fn log(&self, whole: Duration, request_bytes: u64, failure: Option<Failure>) {
        let (Some(log), Some(noted)) = (&self.serving.snapshot.access_log, &self.noted) else { return };
        let route = self.route.and_then(|route| self.serving.snapshot.routes.get(route));
        let split = route.and_then(|route| match &route.plan {
            Plan::Split { split, arms, .. } => Some((&split.split, arms)),
            _ => None,
        });
        let variant = self.variant;
        let arm = route.and_then(|route| match (&route.plan, variant) {
            (Plan::Split { arms, .. }, Some(variant)) => arms.get(variant),
            (Plan::Upstream(arm), _) => Some(arm),
            _ => None,
        });
        let upstream = arm.and_then(|arm| self.serving.snapshot.upstreams.get(arm.upstream));
        let assignment = self.assignment.as_ref();
        let rule = split.zip(assignment.and_then(|assignment| assignment.rule));
        let now = std::time::SystemTime::now();
        log.record(&telemetry::Record {
            time: now.checked_sub(whole).unwrap_or(now),
            request_id: &noted.request_id,
            client_ip: noted.client_ip,
            listener: noted.listener.name.as_str(),
            protocol: protocol(self.head.version),
            method: self.head.method.as_str().as_bytes(),
            host: noted.host.as_bytes(),
            path: noted.asked.as_deref().unwrap_or_else(|| self.head.path()).as_bytes(),
            status: self.status.as_u16(),
            grpc_status: self.grpc.map(Status::as_str),
            route: route.map_or("", |route| &*route.name),
            split: split.map_or("", |(split, _)| split.name.as_str()),
            variant: split
                .zip(variant)
                .and_then(|((split, _), index)| split.variants.get(index))
                .map_or("", |variant| variant.name.as_str()),
            reason: self.reason,
            rule: rule
                .and_then(|((split, _), index)| split.rules.get(index))
                .map_or("", |rule| rule.name.as_str()),
            position: assignment.and_then(|assignment| assignment.position),
            unit: assignment
                .and_then(|assignment| assignment.key.as_ref())
                .filter(|_| log.unit_key())
                .map(crate::types::UnitKey::as_bytes),
            upstream: upstream.map_or("", |upstream| upstream.settings.name.as_str()),
            endpoint: self.endpoint.as_ref().map_or("", |endpoint| &*endpoint.name),
            attempts: self.attempts,
            retried: &self.retried,
            duration: whole,
            upstream_duration: self.upstream_duration,
            request_bytes,
            response_bytes: self.response_bytes,
            error: failure.map(Failure::code),
            blame: failure.map(Failure::blame),
        });
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        // Given up before there was a response: the client went away.
        if !self.closed {
            self.status = Failure::ClientAborted.status();
            self.finish(Some(Failure::ClientAborted));
        }
    }
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_3 => "HTTP/3",
        _ => "HTTP/1.1",
    }
}
