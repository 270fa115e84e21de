//! The phases of one request, in order.

use std::rc::Rc;

use http::header::{CACHE_CONTROL, SET_COOKIE, VARY};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Request, Response, Version, request};
use http_body::Body;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::attempt::{self, attempt};
use super::headers::{self, Forwarding};
use super::identify::{Trust, identify, is_about_server};
use super::record::{Head, Record};
use super::view::{Authority, View};
use super::worker::{Downstream, Serving, Worker, secret_bits};
use super::{Failure, Outbound, respond};
use crate::config::model::{Action, Cache, SplitConfig};
use crate::logic::route::Lookup;
use crate::logic::split::{Assignment, Draw, Missing, OnUnavailable, OverridePlace, Reason, assign};
use crate::state::build::varies_by;
use crate::state::{Arm, Plan, RouteEntry};
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
    let version = request.version();
    let mut exchange = Phases { worker, downstream, serving: &serving, interim };
    match exchange.run(request, &mut record).await {
        Ok(Answer::Ours(mut response, failure)) => {
            finish_ours(&mut response, version, failure);
            record.status = response.status();
            record.response_bytes = response.body().size_hint().exact().unwrap_or_default();
            record.close(0, failure);
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
            finish_ours(&mut response, version, Some(failure));
            record.status = response.status();
            record.close(0, Some(failure));
            response
        }
    }
}

fn finish_ours(response: &mut Response<Outbound>, version: Version, failure: Option<Failure>) {
    if version < Version::HTTP_2 && failure.is_some_and(respond::closes_connection) {
        respond::close(response);
    }
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
}

impl Phases<'_> {
    async fn run(&mut self, request: Request<Inbound>, record: &mut Record) -> Result<Answer, Failure> {
        let (mut head, body) = request.into_parts();
        if is_about_server(&head)? {
            return Ok(Answer::Ours(respond::options(), None));
        }
        let authority = Authority::of(&head)?;
        let snapshot = &self.serving.snapshot;
        let listener = snapshot.listener(&self.downstream.listener.name);
        let settings = listener.map_or(&self.downstream.listener, |index| &snapshot.config.listeners[index]);
        let peer = self.downstream.peer;
        let trust = Trust::of(settings.trust.as_ref(), peer);
        let client_ip = identify(&mut head.headers, &snapshot.routing_headers, trust, peer);
        let random = self.worker.random_wide();
        let request_id = headers::request_id(&mut head.headers, trust.identity, random);
        if snapshot.access_log.is_some() {
            record.keep(Head {
                method: head.method.clone(),
                uri: head.uri.clone(),
                version: head.version,
                host: authority.as_str().to_owned(),
                request_id,
                client_ip,
                listener: settings.clone(),
            });
        }

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
        let assignment = match &entry.plan {
            Plan::Answer(target) => {
                record.target = Some(*target);
                let secure = self.downstream.secure;
                let mut response = match &entry.route.action {
                    Action::Redirect(redirect) => {
                        respond::redirect(redirect, &head.uri, &authority, secure, pattern)
                    }
                    Action::Respond(answer) => respond::fixed(answer),
                    Action::Split(_) | Action::Upstream(_) => return Err(Failure::Internal),
                };
                entry.route.response_headers.apply(response.headers_mut());
                return Ok(Answer::Ours(response, None));
            }
            Plan::Upstream(_) => None,
            Plan::Split { split, arms } => Some(self.assign(split, arms, &view, random, record)?),
        };

        let limit = entry.route.max_body.map(|size| size.0);
        if let (Some(limit), Some(length)) = (limit, body.size_hint().exact())
            && length > limit
        {
            return Err(Failure::BodyTooLarge);
        }
        let target = respond::rewritten(&head.uri, entry.route.rewrite_prefix.as_deref(), pattern);
        let target = PathAndQuery::try_from(target).map_err(|_| Failure::BadTarget)?;
        let host = client_host(&head, &authority)?;
        let forwarding = Forwarding {
            peer,
            trusted: trust.forwarding,
            secure: self.downstream.secure,
            host: authority.as_str(),
            version: head.version,
        };
        headers::forward(&mut head.headers, &forwarding);
        entry.route.request_headers.apply(&mut head.headers);
        let plan = attempt::Plan {
            attempts: entry.route.attempts,
            target,
            host,
            rewrite: &entry.route.host,
            interim: self.interim.take(),
        };
        let body = Upload::new(body, limit, settings.body_timeout);
        let deadline = entry.route.timeout.map(|limit| record.started() + limit);
        self.forward(entry, assignment, &plan, Request::from_parts(head, body), deadline, record).await
    }

    /// Draws the variant and counts the draw.
    fn assign(
        &self,
        split: &SplitConfig,
        arms: &[Arm],
        view: &View<'_>,
        random: u128,
        record: &mut Record,
    ) -> Result<Assignment, Failure> {
        let pure = &split.split;
        let random = if matches!(pure.missing, Missing::Cookie(_)) { secret_bits() } else { random };
        let now = if pure.force.is_some() { seconds_now() } else { 0 };
        let assignment =
            assign(pure, view, Draw { random, now }).map_err(|refusal| Failure::from(&refusal))?;
        let target = arms[assignment.variant].target;
        let metrics = &self.worker.metrics;
        if assignment.key.is_none() || assignment.minted {
            metrics.missing_key(target);
        }
        metrics.assigned(target, assignment.key.as_ref().and(assignment.position));
        record.variant = Some(assignment.variant);
        record.reason = Some(assignment.reason);
        record.assignment = Some(assignment.clone());
        Ok(assignment)
    }

    /// Sends the request on, to the baseline too where the variant cannot take it, and prepares the response.
    async fn forward(
        &self,
        entry: &RouteEntry,
        assignment: Option<Assignment>,
        plan: &attempt::Plan<'_>,
        mut request: Request<Upload>,
        deadline: Option<Instant>,
        record: &mut Record,
    ) -> Result<Answer, Failure> {
        let upload = request.body().state();
        let sending = async {
            match (&entry.plan, &assignment) {
                (Plan::Upstream(arm), _) => {
                    record.enter(arm.target);
                    let sent = attempt(self.worker, self.serving, arm, plan, request, record).await;
                    sent.map(|exchange| (exchange, 0)).map_err(|failed| failed.failure)
                }
                (Plan::Split { split, arms }, Some(assignment)) => {
                    remove_override(request.headers_mut(), split);
                    self.through_split(split, arms, assignment.variant, plan, request, record).await
                }
                _ => Err(Failure::Internal),
            }
        };
        let (exchange, variant) = match deadline {
            Some(deadline) => timeout_at(deadline, sending).await.unwrap_or(Err(Failure::RouteTimeout))?,
            None => sending.await?,
        };
        let crate::upstream::Exchange { mut response, lease } = exchange;
        let version = response.version();
        let headers = response.headers_mut();
        headers::strip_hop_by_hop(headers);
        headers::via(headers, version);
        if let Plan::Split { split, .. } = &entry.plan {
            after_split(headers, split, variant, assignment.as_ref(), self.downstream.secure);
        }
        entry.route.response_headers.apply(headers);
        if response.status().is_informational() {
            // A final response cannot be one; 101 without an upgrade asked for is a lie.
            return Err(Failure::UpstreamProtocol);
        }
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
    ) -> Result<(crate::upstream::Exchange, usize), Failure> {
        request.headers_mut().insert(&split.variant_header, split.variant_values[variant].clone());
        record.enter(arms[variant].target);
        let failed = match attempt(self.worker, self.serving, &arms[variant], plan, request, record).await {
            Ok(exchange) => return Ok((exchange, variant)),
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
        sent.map(|exchange| (exchange, 0)).map_err(|failed| failed.failure)
    }
}

/// The host that the client asked for, as a field value: its own where it is the one that counts.
pub(crate) fn client_host(head: &request::Parts, authority: &Authority) -> Result<HeaderValue, Failure> {
    match head.headers.get(http::header::HOST) {
        Some(host) if head.uri.authority().is_none() => Ok(host.clone()),
        _ => HeaderValue::from_str(authority.as_str()).map_err(|_| Failure::BadHost),
    }
}

/// An override is for us: the upstream does not see it.
pub(crate) fn remove_override(headers: &mut HeaderMap, split: &SplitConfig) {
    match split.split.force.as_ref().map(|force| &force.place) {
        Some(OverridePlace::Header(name)) => {
            headers.remove(name);
        }
        Some(OverridePlace::Cookie(name)) => headers::remove_cookie(headers, name),
        None => {}
    }
}

/// What a response of a split tells the client and the caches on its way.
fn after_split(
    headers: &mut HeaderMap,
    split: &SplitConfig,
    variant: usize,
    assignment: Option<&Assignment>,
    secure: bool,
) {
    headers.remove(&split.variant_header);
    if split.expose {
        headers.insert(&split.variant_header, split.variant_values[variant].clone());
    }
    match split.cache {
        Cache::Unset => {}
        Cache::Private => make_private(headers),
        Cache::Vary => {
            for name in varies_by(split) {
                headers.append(VARY, HeaderValue::from(name));
            }
        }
    }
    if let (Missing::Cookie(name), Some(assignment)) = (&split.split.missing, assignment)
        && assignment.minted
        && let Some(key) = &assignment.key
    {
        let value = String::from_utf8_lossy(key.as_bytes());
        let secure = if secure { "; Secure" } else { "" };
        let age = split.cookie_max_age.as_secs();
        let cookie = format!("{name}={value}; Path=/; Max-Age={age}; HttpOnly; SameSite=Lax{secure}");
        if let Ok(cookie) = HeaderValue::from_str(&cookie) {
            headers.append(SET_COOKIE, cookie);
        }
    }
}

/// Makes `Cache-Control` private: what invites shared caches goes, the rest stays.
fn make_private(headers: &mut HeaderMap) {
    let mut directives: Vec<String> = Vec::new();
    for value in headers.get_all(CACHE_CONTROL) {
        let text = value.to_str().unwrap_or_default();
        directives.extend(text.split(',').map(str::trim).filter(|one| !one.is_empty()).map(str::to_owned));
    }
    directives.retain(|one| {
        let name = one.split('=').next().unwrap_or_default().trim();
        !["public", "s-maxage", "proxy-revalidate", "private"]
            .iter()
            .any(|gone| name.eq_ignore_ascii_case(gone))
    });
    if !directives.iter().any(|one| one.eq_ignore_ascii_case("no-store")) {
        directives.insert(0, "private".to_owned());
    }
    if let Ok(value) = HeaderValue::from_str(&directives.join(", ")) {
        headers.insert(CACHE_CONTROL, value);
    }
}

/// Seconds since the epoch.
#[expect(clippy::disallowed_methods, reason = "overrides expire by the wall clock")]
pub(crate) fn seconds_now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
