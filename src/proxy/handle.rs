//! The phases of one request, in order.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{Method, StatusCode, Version};
use tokio::time::{Instant, timeout_at};

use super::affinity::Affinity;
use super::attempt::{self, attempt};
use super::authority::Authority;
use super::cohort::Cohort;
use super::headers::{self, Forwarding};
use super::host::Host;
use super::identify::{Trust, addressee, identify, is_about_server};
use super::identity::Identity;
use super::outbound::Deadline;
use super::record::{Noted, Record};
use super::stay::{Kind, Stay};
use super::view::View;
use super::worker::{Downstream, Serving, Worker, secret_bits};
use super::{Failure, Outbound, Request, Response, Tunnel, challenge, grpc, paths, respond, underscores};
use crate::config::model::{Action, Listener, Route, SplitConfig};
use crate::logic::limit::Verdict;
use crate::logic::route::{Lookup, PathPattern};
use crate::logic::split::{Assignment, Draw, OnUnavailable, Reason, Refusal, assign};
use crate::net::clock;
use crate::state::{Arm, Plan, RouteEntry};
use crate::telemetry::{Cause, TargetId};
use crate::upstream::{Caller, Exchange, Inbound, Needs, Upgrade, Upload, UploadState};
use crate::wire::grpc::Status;
use crate::wire::{Fields, Known, Length, RequestHead, websocket};

const WEBSOCKET_KEY: &str = "sec-websocket-key";

/// Answers `request`, in the task of `caller`.
pub async fn handle(worker: &Worker, downstream: &Downstream, request: Request, caller: &Caller) -> Response {
    let serving = worker.serving();
    let Request { head, body, upgrade } = request;
    let (version, is_head) = (head.version, head.method == Method::HEAD);
    let mut record = Box::new(Record::new(Rc::clone(&worker.metrics), Rc::clone(&serving), head));
    record.grpc = grpc::is_of_grpc(&record.head).then_some(Status::Missing);
    let secure = downstream.secure;
    let upgrade = upgrade.as_ref();
    let mut phases = Phases { worker, downstream, serving: &serving, caller, upgrade, secure };
    let (mut response, failure) = match phases.run(body, &mut record).await {
        Ok(Answer::Upstream(Streaming { exchange, upload, deadline })) => {
            let Exchange { head, body, lease, sink } = exchange;
            record.status = head.status;
            if let Some(sink) = sink {
                let is_websocket = upgrade.is_some_and(Upgrade::is_websocket);
                let stay = Stay::of(worker, downstream, &record, Kind::Tunnel);
                let idle = phases.downstream.listener.tunnel_timeout;
                let tunnel = Tunnel { body, sink, lease, record, is_websocket, stay, idle };
                let (body, tunnel) = (Outbound::full(Bytes::new()), Some(Box::new(tunnel)));
                return Response { head, body, close: false, tunnel };
            }
            if record.grpc.is_some() {
                // Where it is a whole response; else its trailers tell.
                record.grpc = Some(Status::of(&head.fields));
            }
            let deadline = deadline.map(|(at, failure)| Deadline::new(at, failure));
            let body = Outbound::stream(body, lease, upload, record, deadline);
            return Response { head, body, close: false, tunnel: None };
        }
        Ok(Answer::Ours(response, failure)) => (response, failure),
        Err(failure) => {
            let mut response = respond::failure(failure);
            if let Some(cohort) = cohort(&serving, &record, phases.secure) {
                cohort.tell(&mut response.head.fields);
            }
            (response, Some(failure))
        }
    };
    if let (Some(failure), Some(_)) = (failure, record.grpc) {
        grpc::translate(&mut response, failure);
    }
    response.close = version < Version::HTTP_2 && failure.is_some_and(respond::closes_connection);
    record.status = response.head.status;
    record.response_bytes = if is_head { 0 } else { response.body.length().unwrap_or_default() };
    record.close(failure);
    response
}

/// The cohort of a request that has got a variant.
fn cohort<'a>(serving: &'a Serving, record: &'a Record, secure: bool) -> Option<Cohort<'a>> {
    let Plan::Split { split, varies, .. } = &serving.snapshot.routes.get(record.route?)?.plan else {
        return None;
    };
    Some(Cohort { split, varies, variant: record.variant?, assignment: record.assignment.as_ref()?, secure })
}

/// What a request comes to.
enum Answer {
    /// An answer of our own; a failure where it is one.
    Ours(Response, Option<Failure>),
    /// The upstream's, streaming.
    Upstream(Streaming),
}

struct Streaming {
    exchange: Exchange,
    upload: Option<Rc<UploadState>>,
    deadline: Option<(Instant, Failure)>,
}

/// What is to be done with a request once its route, and its variant where it has one, are known.
enum Step<'a> {
    /// It is answered without an upstream; a failure where it is one.
    Answer(Response, Option<Failure>),
    /// The record's head and this body go to an upstream.
    Forward(&'a RouteEntry, attempt::Plan<'a>, Upload),
}

struct Phases<'a> {
    worker: &'a Worker,
    downstream: &'a Downstream,
    serving: &'a Rc<Serving>,
    caller: &'a Caller,
    /// What the connection or stream is to become, if anything else.
    upgrade: Option<&'a Upgrade>,
    /// Whether the client's way to us is encrypted; known for good once the request is read.
    secure: bool,
}

impl<'a> Phases<'a> {
    async fn run(&mut self, body: Inbound, record: &mut Record) -> Result<Answer, Failure> {
        match self.decide(body, record)? {
            Step::Answer(response, failure) => Ok(Answer::Ours(response, failure)),
            Step::Forward(entry, plan, upload) => self.forward(entry, &plan, upload, record).await,
        }
    }

    /// Everything before the first byte is sent: nothing of it waits.
    fn decide(&mut self, body: Inbound, record: &mut Record) -> Result<Step<'a>, Failure> {
        let head = &mut record.head;
        let is_dubious = Length::of_request(head).is_err();
        let snapshot = &self.serving.snapshot;
        let listener = snapshot.listener(&self.downstream.listener);
        let settings = listener.map_or(&self.downstream.listener, |index| &snapshot.config.listeners[index]);
        let peer = &self.downstream.peer;
        let trust = match settings.trust.as_ref() {
            Some(_) if self.downstream.is_anonymous => Trust::nobody(),
            listed => Trust::of(listed, peer.ip()),
        };
        let authority = addressee(head, settings.strict_host, self.downstream.secure || trust.forwarding);
        let is_named_well = underscores::settle(&mut head.fields, settings.underscores);
        let asked = paths::settle(head, settings.paths);
        let identity = self.downstream.identity.as_deref();
        let client_ip = identify(&mut head.fields, &snapshot.routing_headers, trust, peer.ip(), identity);
        self.secure = headers::is_secure(&head.fields, trust.forwarding, self.downstream.secure);
        let random = self.worker.random_wide();
        headers::request_id(&mut head.fields, trust.identity, random);
        if snapshot.access_log.is_some() {
            let asked = asked.as_ref().ok().and_then(Clone::clone);
            note(record, authority.as_ref().ok(), client_ip, asked, settings);
        }
        // From here on a request may be refused, and is logged. First of all one that is too many.
        self.admit(record)?;
        let head = &mut record.head;
        is_named_well?;
        asked?;
        if is_about_server(head, &authority)? {
            return Ok(Step::Answer(respond::options(), None));
        }
        if is_dubious {
            self.worker.metrics.malformed(self.downstream.id);
            return Err(Failure::MalformedBody);
        }
        if !self.downstream.secure
            && let Some(page) = challenge::page(head, self.worker.shelf())
        {
            return Ok(Step::Answer(page, None));
        }
        let authority = authority?;

        let view = View::new(head, &authority, client_ip, identity.map(Identity::certificate));
        let (index, pattern) = match snapshot.table.lookup(&view, listener.unwrap_or(usize::MAX)) {
            Lookup::Found { route, path } => (route, path),
            Lookup::MethodNotAllowed(allowed) => {
                let failure = Some(Failure::MethodNotAllowed);
                return Ok(Step::Answer(respond::method_not_allowed(&allowed), failure));
            }
            Lookup::NoRoute => return Err(Failure::NoRoute),
            Lookup::UnknownHost => return Err(Failure::UnknownHost),
        };
        record.route = Some(index);
        let entry = &snapshot.routes[index];
        if let Some(answer) = self.limited(entry, &view)? {
            return Ok(answer);
        }
        let pattern = pattern.and_then(|path| entry.route.matches.paths.get(path));
        let affinity;
        match &entry.plan {
            Plan::Answer(target) => {
                record.target = Some(*target);
                return self.answer(&entry.route, head, &authority, pattern);
            }
            Plan::Upstream(arm) => affinity = Affinity::of(arm, None, &view, None),
            Plan::Split { split, arms, refused, .. } => {
                record.target = Some(*refused);
                let (assignment, target) = self.assign((split, arms, *refused), &view, random)?;
                let (arm, unit) = (&arms[assignment.variant], assignment.key.as_ref());
                affinity = Affinity::of(arm, arms.first(), &view, unit);
                record.target = Some(target);
                record.variant = Some(assignment.variant);
                record.reason = Some(assignment.reason);
                record.assignment = Some(assignment);
            }
        }

        let limit = body_limit(&entry.route, &body)?;
        let target = respond::rewritten(head, entry.route.rewrite_prefix.as_deref(), pattern)?;
        let host = Host::of(head, &authority, &entry.route.host)?;
        let forwarding = Forwarding {
            peer,
            trusted: trust.forwarding,
            secure: self.downstream.secure,
            host: authority.as_str(),
            version: head.version,
        };
        if host != Host::Kept {
            head.fields.remove(Known::Host);
        }
        headers::strip_overrides(&mut head.fields, &snapshot.routing_headers);
        headers::forward(&mut head.fields, &forwarding);
        entry.route.request_headers.apply(&mut head.fields);
        let upload = self.upload(record, body, limit, settings);
        if self.upgrade.is_some() {
            have_key(&mut record.head);
        }
        Ok(Step::Forward(entry, self.plan(entry, affinity, target, host), upload))
    }

    /// What is the same for every attempt.
    fn plan(
        &self,
        entry: &'a RouteEntry,
        affinity: Affinity,
        target: Option<PathAndQuery>,
        host: Host<'a>,
    ) -> attempt::Plan<'a> {
        let (upgrade, caller) = (self.upgrade, self.caller);
        attempt::Plan { retries: &entry.route.retries, affinity, target, host, upgrade, caller }
    }

    /// The answer to a request whose unit has sent too many.
    fn limited(&self, entry: &RouteEntry, view: &View<'_>) -> Result<Option<Step<'a>>, Failure> {
        let Some(limiter) = &entry.limiter else { return Ok(None) };
        match limiter.ask(view, clock::now()).map_err(|_| Failure::AmbiguousKey)? {
            Verdict::Admitted { forgot: false } => Ok(None),
            Verdict::Admitted { forgot: true } => {
                self.worker.metrics.unit_forgotten(limiter.id);
                Ok(None)
            }
            Verdict::Refused(wait) => {
                self.worker.metrics.rate_limited(limiter.id);
                let answer = respond::rate_limited(limiter, wait);
                Ok(Some(Step::Answer(answer, Some(Failure::RateLimited))))
            }
        }
    }

    /// Counts the request among those in flight, where they are limited.
    fn admit(&self, record: &mut Record) -> Result<(), Failure> {
        if let Some(most) = self.serving.snapshot.config.limits.requests {
            record.permit = Some(self.worker.admission.request(most).ok_or(Failure::Overloaded)?);
        }
        Ok(())
    }

    /// The body on its way, with its limits.
    fn upload(&self, record: &mut Record, body: Inbound, limit: Option<u64>, settings: &Listener) -> Upload {
        let patience = grpc::patience(record.grpc, settings);
        let until = settings.request_timeout.filter(|_| record.grpc.is_none());
        let until = until.and_then(|limit| record.started().checked_add(limit));
        let upload = if headers::expects_to_be_asked(&mut record.head) {
            Upload::expecting(body, limit, patience, self.caller.interim.clone())
        } else {
            Upload::new(body, limit, patience)
        };
        upload.until(until).filtering(|| {
            let (serving, underscores) = (Rc::clone(self.serving), settings.underscores);
            Box::new(move |trailers| {
                headers::strip_request_trailers(trailers, &serving.snapshot.routing_headers, underscores);
            })
        })
    }

    /// Answers without an upstream.
    fn answer(
        &self,
        route: &Route,
        head: &mut RequestHead,
        authority: &Authority,
        pattern: Option<&PathPattern>,
    ) -> Result<Step<'a>, Failure> {
        let mut response = match &route.action {
            Action::Redirect(redirect) => respond::redirect(redirect, head, authority, self.secure, pattern),
            Action::Respond(answer) => respond::fixed(answer),
            Action::Split(_) | Action::Upstream(_) => return Err(Failure::Internal),
        };
        if self.asks_by_connect(head) && response.head.status.is_success() {
            return Err(Failure::UpgradeUnsupported);
        }
        route.response_headers.apply(&mut response.head.fields);
        Ok(Step::Answer(response, None))
    }

    /// Whether a tunnel is asked for in the words of HTTP/2, where any success says that it is open (RFC 8441 §5).
    fn asks_by_connect(&self, head: &RequestHead) -> bool {
        self.upgrade.is_some() && head.version == Version::HTTP_2
    }

    /// Draws the variant and counts the draw; gives the labels of where it leads, too.
    fn assign(
        &self,
        (split, arms, refused): (&SplitConfig, &[Arm], TargetId),
        view: &View<'_>,
        random: u128,
    ) -> Result<(Assignment, TargetId), Failure> {
        let why = |refusal: Refusal| {
            if refusal == Refusal::Missing {
                self.worker.metrics.missing_key(refused);
            }
            Failure::from(&refusal)
        };
        let pure = &split.split;
        let now = if pure.force.is_some() { seconds_now() } else { 0 };
        let mut assignment = assign(pure, view, Draw { random, now }).map_err(why)?;
        if assignment.minted {
            // Rare enough to ask the system for bits that nobody can guess.
            assignment = assign(pure, view, Draw { random: secret_bits(), now }).map_err(why)?;
        }
        let target = arms[assignment.variant].target;
        let metrics = &self.worker.metrics;
        if assignment.key.is_none() || assignment.minted {
            metrics.missing_key(target);
        }
        metrics.assigned(target, assignment.key.as_ref().and(assignment.position));
        Ok((assignment, target))
    }

    /// Sends the request on, to the baseline too where the variant cannot take it, and prepares the response.
    async fn forward(
        &self,
        entry: &RouteEntry,
        plan: &attempt::Plan<'_>,
        body: Upload,
        record: &mut Record,
    ) -> Result<Answer, Failure> {
        let upload = body.state();
        record.upload.clone_from(&upload);
        let deadline =
            grpc::deadline(&record.head, record.grpc.is_some(), entry.route.timeout, record.started());
        let sent = match deadline {
            // In a box of its own: most routes have none.
            Some((deadline, failure)) => {
                let sending = Box::pin(timeout_at(deadline, self.send(entry, plan, body, record)));
                sending.await.map_err(|_| failure)
            }
            None => Ok(self.send(entry, plan, body, record).await),
        };
        if sent.is_err() {
            record.broke_off(Cause::Timeout);
        }
        let mut exchange = sent??;
        let head = &mut exchange.head;
        if head.status.is_informational() && exchange.sink.is_none() {
            // A final response cannot be one; 101 without an upgrade asked for is a lie.
            record.broke_off(Cause::Protocol);
            return Err(Failure::UpstreamProtocol);
        }
        if self.asks_by_connect(&record.head) && exchange.sink.is_none() && head.status.is_success() {
            // To the client it would say that the tunnel is open. Any endpoint may be asked for one.
            record.is_of_no_use(Cause::Protocol);
            return Err(Failure::UpstreamProtocol);
        }
        let fields = &mut head.fields;
        let chosen: Option<Box<[u8]>> = match (&exchange.sink, self.upgrade) {
            (Some(_), Some(upgrade)) if upgrade.is_websocket() && !answers(fields, &record.head) => {
                // The key was the client's.
                record.is_of_no_use(Cause::Protocol);
                return Err(Failure::UpstreamProtocol);
            }
            (Some(_), _) => fields.get(Known::Upgrade).map(Into::into),
            _ => None,
        };
        record.release();
        headers::strip_hop_by_hop(fields);
        if let Some(chosen) = chosen {
            fields.append(Known::Upgrade, &chosen);
            // It has no body (RFC 9110 §8.6), and what follows is no body either.
            fields.remove(Known::ContentLength);
        }
        if head.status == StatusCode::NO_CONTENT {
            // RFC 9110 §8.6: not even 0.
            fields.remove(Known::ContentLength);
        }
        headers::via(fields, head.version);
        if let Some(cohort) = cohort(self.serving, record, self.secure) {
            cohort.tell(fields);
        }
        entry.route.response_headers.apply(fields);
        // The upstream's version is between it and us: the client is answered in its own.
        head.version = Version::HTTP_11;
        Ok(Answer::Upstream(Streaming { exchange, upload, deadline }))
    }

    async fn send(
        &self,
        entry: &RouteEntry,
        plan: &attempt::Plan<'_>,
        body: Upload,
        record: &mut Record,
    ) -> Result<Exchange, Failure> {
        match (&entry.plan, record.variant) {
            (Plan::Upstream(arm), _) => {
                record.enter(arm.target);
                let sent = attempt(self.worker, self.serving, arm, plan, Needs::Somebody, body, record).await;
                sent.map_err(|failed| failed.failure)
            }
            (Plan::Split { split, arms, .. }, Some(variant)) => {
                self.through_split(split, arms, variant, plan, body, record).await
            }
            _ => Err(Failure::Internal),
        }
    }

    async fn through_split(
        &self,
        split: &SplitConfig,
        arms: &[Arm],
        variant: usize,
        plan: &attempt::Plan<'_>,
        body: Upload,
        record: &mut Record,
    ) -> Result<Exchange, Failure> {
        record.head.fields.set(&split.variant_header, split.variant_values[variant].as_bytes());
        record.enter(arms[variant].target);
        let falls_back =
            variant != 0 && split.split.variants[variant].on_unavailable == OnUnavailable::Baseline;
        let needs = if falls_back { Needs::Usable } else { Needs::Somebody };
        let arm = &arms[variant];
        let failed = match attempt(self.worker, self.serving, arm, plan, needs, body, record).await {
            Ok(exchange) => return Ok(exchange),
            Err(failed) => failed,
        };
        let Some(body) = failed.unsent.filter(|_| falls_back) else { return Err(failed.failure) };
        record.head.fields.set(&split.variant_header, split.variant_values[0].as_bytes());
        record.give_up();
        record.variant = Some(0);
        record.reason = Some(Reason::Fallback);
        record.enter(arms[0].target);
        let sent = attempt(self.worker, self.serving, &arms[0], plan, Needs::Somebody, body, record).await;
        sent.map_err(|failed| failed.failure)
    }
}

/// The most bytes that a request's body may have on `route`.
///
/// # Errors
/// [`Failure::BodyTooLarge`] where `body` says itself that it has more.
fn body_limit(route: &Route, body: &Inbound) -> Result<Option<u64>, Failure> {
    let limit = route.max_body.map(|size| size.0);
    let is_over = limit.zip(body.length()).is_some_and(|(limit, length)| length > limit);
    if is_over { Err(Failure::BodyTooLarge) } else { Ok(limit) }
}

/// Keeps what the access log will say of the request as it came.
fn note(
    record: &mut Record,
    authority: Option<&Authority>,
    client_ip: IpAddr,
    asked: Option<Box<str>>,
    listener: &Arc<Listener>,
) {
    let request_id = record.head.fields.get(Known::XRequestId).unwrap_or_default().into();
    let host = authority.map(Authority::as_str).unwrap_or_default().into();
    record.note(Noted { host, request_id, client_ip, asked, listener: Arc::clone(listener) });
}

/// Gives a request for a tunnel by HTTP/2 the key that HTTP/1.1 asks for (RFC 8441 §5).
fn have_key(head: &mut RequestHead) {
    if head.version >= Version::HTTP_2 && !head.fields.contains(WEBSOCKET_KEY) {
        head.fields.append(WEBSOCKET_KEY, websocket::key(secret_bits()).as_bytes());
    }
}

/// Whether the response's fields answer the key that the request has.
fn answers(fields: &Fields, request: &RequestHead) -> bool {
    let expected = request.fields.get(WEBSOCKET_KEY).map(websocket::accept);
    fields.get("sec-websocket-accept") == expected.as_deref().map(str::as_bytes)
}

/// Seconds since the epoch.
#[expect(clippy::disallowed_methods, reason = "overrides and certificates expire by the wall clock")]
pub(crate) fn seconds_now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
