//! The phases of one request, in order.

use std::rc::Rc;

use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, request};
use http_body::Body;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::attempt::{self, attempt};
use super::cohort::Cohort;
use super::headers::{self, Forwarding};
use super::identify::{Trust, identify, is_about_server};
use super::record::{Head, Record};
use super::view::{Authority, View};
use super::worker::{Downstream, Serving, Worker, secret_bits};
use super::{Failure, Outbound, respond};
use crate::config::model::{Action, Route, SplitConfig};
use crate::logic::route::{Lookup, PathPattern};
use crate::logic::split::{Draw, OnUnavailable, Reason, Refusal, assign};
use crate::state::{Arm, Plan, RouteEntry};
use crate::telemetry::Cause;
use crate::upstream::http1::has_dubious_framing;
use crate::upstream::{Inbound, Interim, Upload};

/// Answers `request`. 1xx responses of the upstream go to `interim`, where the client's protocol can take them.
pub async fn handle(
    worker: &Worker,
    downstream: &Downstream,
    request: Request<Inbound>,
    interim: Option<Interim>,
) -> Response<Outbound> {
    let serving = worker.serving();
    let mut record = Box::new(Record::new(Rc::clone(&worker.metrics), Rc::clone(&serving)));
    let (version, is_head) = (request.version(), request.method() == Method::HEAD);
    let secure = downstream.secure;
    let mut exchange = Phases { worker, downstream, serving: &serving, interim, secure };
    match exchange.run(request, &mut record).await {
        Ok(Answer::Ours(mut response, failure)) => {
            finish_ours(&mut response, version, failure);
            record.status = response.status();
            record.response_bytes = if is_head { 0 } else { own_bytes(&response) };
            record.close(failure);
            response
        }
        Ok(Answer::Upstream(stream)) => {
            let Streaming { response, upload, deadline, lease } = *stream;
            record.status = response.status();
            record.endpoint = Some(lease.endpoint().name.clone());
            let (head, body) = response.into_parts();
            let deadline = deadline.map(|at| Box::pin(sleep_until(at)));
            Response::from_parts(head, Outbound::stream(body, lease, upload, record, deadline))
        }
        Err(failure) => {
            let mut response = respond::failure(failure);
            if let Some(cohort) = cohort(&serving, &record, exchange.secure) {
                cohort.tell(response.headers_mut());
            }
            finish_ours(&mut response, version, Some(failure));
            record.status = response.status();
            record.response_bytes = if is_head { 0 } else { own_bytes(&response) };
            record.close(Some(failure));
            response
        }
    }
}

/// The bytes of a body of our own.
fn own_bytes(response: &Response<Outbound>) -> u64 {
    response.body().size_hint().exact().unwrap_or_default()
}

fn finish_ours(response: &mut Response<Outbound>, version: Version, failure: Option<Failure>) {
    if version < Version::HTTP_2 && failure.is_some_and(respond::closes_connection) {
        respond::close(response);
    }
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
    Ours(Response<Outbound>, Option<Failure>),
    /// The upstream's, streaming.
    Upstream(Box<Streaming>),
}

struct Streaming {
    response: Response<Inbound>,
    upload: Rc<crate::upstream::UploadState>,
    deadline: Option<Instant>,
    lease: crate::upstream::local::Lease,
}

struct Phases<'a> {
    worker: &'a Worker,
    downstream: &'a Downstream,
    serving: &'a Rc<Serving>,
    interim: Option<Interim>,
    /// Whether the client's way to us is encrypted; known for good once the request is read.
    secure: bool,
}

impl Phases<'_> {
    async fn run(&mut self, request: Request<Inbound>, record: &mut Record) -> Result<Answer, Failure> {
        let (mut head, body) = request.into_parts();
        let authority = Authority::of(&head);
        let is_dubious = has_dubious_framing(&head.headers);
        let snapshot = &self.serving.snapshot;
        let listener = snapshot.listener(&self.downstream.listener);
        let settings = listener.map_or(&self.downstream.listener, |index| &snapshot.config.listeners[index]);
        let peer = self.downstream.peer;
        let trust = Trust::of(settings.trust.as_ref(), peer);
        let client_ip = identify(&mut head.headers, &snapshot.routing_headers, trust, peer);
        self.secure = headers::is_secure(&head.headers, trust.forwarding, self.downstream.secure);
        let random = self.worker.random_wide();
        let request_id = headers::request_id(&mut head.headers, trust.identity, random);
        if snapshot.access_log.is_some() {
            record.keep(Head {
                method: head.method.clone(),
                uri: head.uri.clone(),
                version: head.version,
                host: authority.as_ref().map(Authority::as_str).unwrap_or_default().to_owned(),
                request_id,
                client_ip,
                listener: settings.clone(),
            });
        }
        // From here on a request may be refused, and is logged.
        if is_about_server(&head)? {
            return Ok(Answer::Ours(respond::options(), None));
        }
        if is_dubious {
            self.worker.metrics.malformed(self.downstream.id);
            return Err(Failure::MalformedBody);
        }
        let authority = authority?;

        let view = View::new(&head, &authority, client_ip);
        let (index, pattern) = match snapshot.table.lookup(&view, listener.unwrap_or(usize::MAX)) {
            Lookup::Found { route, path } => (route, path),
            Lookup::MethodNotAllowed(allowed) => {
                let failure = Some(Failure::MethodNotAllowed);
                return Ok(Answer::Ours(respond::method_not_allowed(&allowed), failure));
            }
            Lookup::NoRoute => return Err(Failure::NoRoute),
            Lookup::UnknownHost => return Err(Failure::UnknownHost),
        };
        record.route = Some(index);
        let entry = &snapshot.routes[index];
        let pattern = pattern.and_then(|path| entry.route.matches.paths.get(path));
        match &entry.plan {
            Plan::Answer(target) => {
                record.target = Some(*target);
                return self.answer(&entry.route, &head, &authority, pattern);
            }
            Plan::Upstream(_) => {}
            Plan::Split { split, arms, refused, .. } => {
                record.target = Some(*refused);
                if let Err(refusal) = self.assign(split, arms, &view, random, record) {
                    if refusal == Refusal::Missing {
                        self.worker.metrics.missing_key(*refused);
                    }
                    return Err(Failure::from(&refusal));
                }
            }
        }

        let limit = entry.route.max_body.map(|size| size.0);
        if let (Some(limit), Some(length)) = (limit, body.size_hint().exact())
            && length > limit
        {
            return Err(Failure::BodyTooLarge);
        }
        let target = respond::rewritten(&head.uri, entry.route.rewrite_prefix.as_deref(), pattern)?;
        let host = client_host(&head, &authority)?;
        let forwarding = Forwarding {
            peer,
            trusted: trust.forwarding,
            secure: self.downstream.secure,
            host: authority.as_str(),
            version: head.version,
        };
        headers::strip_overrides(&mut head.headers, &snapshot.routing_headers);
        headers::forward(&mut head.headers, &forwarding);
        entry.route.request_headers.apply(&mut head.headers);
        let body = if headers::expects_to_be_asked(&mut head) {
            Upload::expecting(body, limit, settings.body_timeout, self.interim.clone())
        } else {
            Upload::new(body, limit, settings.body_timeout)
        };
        let serving = Rc::clone(self.serving);
        let body = body.filtering(move |trailers| {
            headers::strip_request_trailers(trailers, &serving.snapshot.routing_headers);
        });
        let plan = attempt::Plan {
            attempts: entry.route.attempts,
            target,
            host,
            rewrite: &entry.route.host,
            interim: self.interim.take(),
        };
        let deadline = entry.route.timeout.map(|limit| record.started() + limit);
        self.forward(entry, &plan, Request::from_parts(head, body), deadline, record).await
    }

    /// Answers without an upstream.
    fn answer(
        &self,
        route: &Route,
        head: &request::Parts,
        authority: &Authority,
        pattern: Option<&PathPattern>,
    ) -> Result<Answer, Failure> {
        let mut response = match &route.action {
            Action::Redirect(redirect) => {
                respond::redirect(redirect, &head.uri, authority, self.secure, pattern)
            }
            Action::Respond(answer) => respond::fixed(answer),
            Action::Split(_) | Action::Upstream(_) => return Err(Failure::Internal),
        };
        route.response_headers.apply(response.headers_mut());
        Ok(Answer::Ours(response, None))
    }

    /// Draws the variant and counts the draw.
    fn assign(
        &self,
        split: &SplitConfig,
        arms: &[Arm],
        view: &View<'_>,
        random: u128,
        record: &mut Record,
    ) -> Result<(), Refusal> {
        let pure = &split.split;
        let now = if pure.force.is_some() { seconds_now() } else { 0 };
        let mut assignment = assign(pure, view, Draw { random, now })?;
        if assignment.minted {
            // Rare enough to ask the system for bits that nobody can guess.
            assignment = assign(pure, view, Draw { random: secret_bits(), now })?;
        }
        let target = arms[assignment.variant].target;
        let metrics = &self.worker.metrics;
        if assignment.key.is_none() || assignment.minted {
            metrics.missing_key(target);
        }
        metrics.assigned(target, assignment.key.as_ref().and(assignment.position));
        record.target = Some(target);
        record.variant = Some(assignment.variant);
        record.reason = Some(assignment.reason);
        record.assignment = Some(assignment);
        Ok(())
    }

    /// Sends the request on, to the baseline too where the variant cannot take it, and prepares the response.
    async fn forward(
        &self,
        entry: &RouteEntry,
        plan: &attempt::Plan<'_>,
        request: Request<Upload>,
        deadline: Option<Instant>,
        record: &mut Record,
    ) -> Result<Answer, Failure> {
        let upload = request.body().state();
        record.upload = Some(Rc::clone(&upload));
        let sending = async {
            match (&entry.plan, record.variant) {
                (Plan::Upstream(arm), _) => {
                    record.enter(arm.target);
                    let sent = attempt(self.worker, self.serving, arm, plan, request, record).await;
                    sent.map_err(|failed| failed.failure)
                }
                (Plan::Split { split, arms, .. }, Some(variant)) => {
                    self.through_split(split, arms, variant, plan, request, record).await
                }
                _ => Err(Failure::Internal),
            }
        };
        let sent = match deadline {
            Some(deadline) => timeout_at(deadline, sending).await.map_err(|_| Failure::RouteTimeout),
            None => Ok(sending.await),
        };
        if sent.is_err() {
            record.broke_off(Cause::Timeout);
        }
        let exchange = sent??;
        let crate::upstream::Exchange { mut response, lease } = exchange;
        if response.status().is_informational() {
            // A final response cannot be one; 101 without an upgrade asked for is a lie.
            record.broke_off(Cause::Protocol);
            return Err(Failure::UpstreamProtocol);
        }
        // The upstream's version is between it and us: the client is answered in its own.
        let version = std::mem::replace(response.version_mut(), Version::HTTP_11);
        let is_without_content = response.status() == StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        headers::strip_hop_by_hop(headers);
        if is_without_content {
            // RFC 9110 §8.6: not even 0.
            headers.remove(CONTENT_LENGTH);
        }
        headers::via(headers, version);
        if let Some(cohort) = cohort(self.serving, record, self.secure) {
            cohort.tell(headers);
        }
        entry.route.response_headers.apply(headers);
        Ok(Answer::Upstream(Box::new(Streaming { response, upload, deadline, lease })))
    }

    async fn through_split(
        &self,
        split: &SplitConfig,
        arms: &[Arm],
        variant: usize,
        plan: &attempt::Plan<'_>,
        mut request: Request<Upload>,
        record: &mut Record,
    ) -> Result<crate::upstream::Exchange, Failure> {
        request.headers_mut().insert(&split.variant_header, split.variant_values[variant].clone());
        record.enter(arms[variant].target);
        let failed = match attempt(self.worker, self.serving, &arms[variant], plan, request, record).await {
            Ok(exchange) => return Ok(exchange),
            Err(failed) => failed,
        };
        let falls_back =
            variant != 0 && split.split.variants[variant].on_unavailable == OnUnavailable::Baseline;
        let Some(mut request) = failed.unsent.filter(|_| falls_back) else { return Err(failed.failure) };
        request.headers_mut().insert(&split.variant_header, split.variant_values[0].clone());
        record.variant = Some(0);
        record.reason = Some(Reason::Fallback);
        record.enter(arms[0].target);
        let sent = attempt(self.worker, self.serving, &arms[0], plan, *request, record).await;
        sent.map_err(|failed| failed.failure)
    }
}

/// The host that the client asked for, as a field value and as it was sent.
pub(crate) fn client_host(head: &request::Parts, authority: &Authority) -> Result<HeaderValue, Failure> {
    let text = match (head.uri.authority(), head.headers.get(http::header::HOST)) {
        (Some(target), _) => target.as_str(),
        (None, Some(host)) => return Ok(host.clone()),
        (None, None) => authority.as_str(),
    };
    HeaderValue::from_str(text).map_err(|_| Failure::BadHost)
}

/// Seconds since the epoch.
#[expect(clippy::disallowed_methods, reason = "overrides expire by the wall clock")]
pub(crate) fn seconds_now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
