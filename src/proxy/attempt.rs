//! Sending a request to an endpoint of one upstream: pick, send, and again where that may be done and there is a reason
//! to. It never leaves the upstream: crossing to another variant is decided by [`mod@super::handle`] alone. Whether a
//! request may be sent twice is decided in `logic/balance/retry`.

use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::{Either, select};
use http::Method;
use http::uri::PathAndQuery;
use tokio::time::Instant;

use super::Failure;
use super::affinity::Affinity;
use super::host::Host;
use super::record::Record;
use super::worker::{Serving, Worker};
use crate::config::model::Protocol;
use crate::logic::balance::{Happened, Retries};
use crate::net::clock;
use crate::state::Arm;
use crate::telemetry::{Cause, RetryOutcome, RetryReason};
use crate::upstream::connect::{ConnectError, is_ours};
use crate::upstream::local::Endpoint;
use crate::upstream::{
    Caller, Exchange, Local, Needs, Outgoing, Overloaded, Permit, Replay, SendError, SendErrorKind, Upgrade,
    Upload, UploadFailure, Wish,
};

/// How many endpoints that refuse the connection are passed over, beside those that count as attempts: of that nobody has
/// noticed anything.
const PASSED_OVER: usize = 3;

/// An endpoint that took longer to fail is not asked again at once.
const TRANSIENT: Duration = Duration::from_secs(1);

/// What is the same for every attempt of a request, beside its head.
#[derive(Debug)]
pub struct Plan<'a> {
    /// When it is sent again.
    pub retries: &'a Retries,
    /// By what it finds its endpoint.
    pub affinity: Affinity,
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
    /// The body, when the upstream did not take the request: no endpoint has looked at it, or the one that did is gone and
    /// it may be sent again.
    pub unsent: Option<Upload>,
}

/// Sends the record's head and `body` to an endpoint of `arm` and waits for the response's head.
///
/// # Errors
/// [`Failed`]; it holds the body where the upstream did not take the request, so that the baseline may still have it.
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
    let upload = body.state();
    let permit = match &local.shared().admission {
        None => None,
        // In a box of its own: most upstreams have none.
        Some(admission) => match Box::pin(admission.enter()).await {
            Ok(permit) => Some(permit),
            Err(Overloaded) => {
                return Err(Failed { failure: Failure::UpstreamOverloaded, unsent: Some(body) });
            }
        },
    };
    let wish = Wish { needs, is_spare: false, hash: plan.affinity.hash(arm.upstream) };
    let mut tries = Tries::new(local, plan, wish, &body, &record.head.method);
    loop {
        let Some(endpoint) = tries.pick(worker) else {
            worker.metrics.upstream_failed(arm.target, Cause::NoEndpoint);
            return Err(Failed { failure: Failure::NoEndpoint, unsent: Some(body) });
        };
        record.attempts += 1;
        record.endpoint = Some(Rc::clone(&endpoint));
        let sent = clock::now();
        // How long a client takes for its body says nothing of the upstream.
        let waited_since = || upload.as_ref().map_or(Some(sent), |upload| upload.waited_since(sent));
        let (result, endpoint) = tries.send(worker, arm, endpoint, body, record).await;
        let (happened, again) = match result {
            Ok(mut exchange) => {
                let status = exchange.head.status;
                endpoint.answered(Some(status));
                let duration = clock::now().saturating_duration_since(sent);
                worker.metrics.response_head(arm.target, duration);
                record.upstream_duration = Some(duration);
                let happened = Happened::Answered(status);
                let is_reason = plan.retries.allows(happened, &record.head.method);
                // What is not tried again is the answer. Only what is has to be remembered.
                let again = if is_reason {
                    tries.done_with(endpoint);
                    tries.replay.again()
                } else {
                    None
                };
                let Some(again) = again.filter(|_| tries.may_go_on(worker, arm, happened)) else {
                    record.is_charged |= is_reason;
                    tries.ended(worker, arm, RetryOutcome::Success);
                    if let Some(permit) = permit {
                        hold(permit, waited_since(), &mut exchange);
                    }
                    return Ok(exchange);
                };
                worker.metrics.upstream_failed(arm.target, Cause::Status);
                exchange.discard();
                record.is_charged = true;
                (happened, Some(again))
            }
            Err(error) => {
                let Some(fault) = Fault::of(&error) else {
                    return Err(Failed { failure: Failure::BadHost, unsent: None });
                };
                let Fault { failure, cause, happened, is_endpoints, is_transient } = fault;
                if let Some(failure) = upload.as_ref().and_then(|upload| upload.failure()) {
                    return Err(Failed { failure: client_failure(failure), unsent: None });
                }
                worker.metrics.upstream_failed(arm.target, cause);
                if let (SendErrorKind::Timeout, Some(permit), Some(since)) =
                    (&error.kind, &permit, waited_since())
                {
                    permit.took(since, clock::now());
                }
                // A client that still sends must not be able to make an endpoint fail: endpoints give up on it, too.
                let may_be_clients = matches!(error.kind, SendErrorKind::Timeout | SendErrorKind::Reset(_))
                    && waited_since().is_none();
                if is_endpoints && !may_be_clients {
                    endpoint.answered(None);
                }
                tracing::debug!(
                    endpoint = &*endpoint.name,
                    error = &error as &dyn std::error::Error,
                    "attempt failed"
                );
                record.is_charged |= is_endpoints;
                tries.done_with(endpoint);
                tries.may_repeat = is_transient && clock::now().saturating_duration_since(sent) < TRANSIENT;
                tries.is_refused = failure == Failure::ConnectRefused;
                if failure == Failure::UpstreamOverloaded {
                    // Its other endpoints are no less crowded.
                    tries.left = 0;
                }
                let again = error.unsent.or_else(|| tries.replay.again());
                let is_reason = plan.retries.allows(happened, &record.head.method) || tries.is_refused;
                if again.is_none() || !is_reason || !tries.may_go_on(worker, arm, happened) {
                    tries.ended(worker, arm, RetryOutcome::Failure);
                    let unsent = again.filter(|_| tries.may_cross(happened, &record.head.method));
                    return Err(Failed { failure, unsent });
                }
                (happened, again)
            }
        };
        tries.ended(worker, arm, RetryOutcome::Failure);
        body = again.unwrap_or_default();
        tries.next(worker, happened, record).await;
    }
}

/// Has `exchange` hold its place in the upstream to its end; `waited_since` is since when nobody but the endpoint was waited
/// for.
fn hold(permit: Permit, waited_since: Option<Instant>, exchange: &mut Exchange) {
    if let Some(since) = waited_since {
        permit.took(since, clock::now());
    }
    exchange.lease.hold(permit);
}

/// The attempts of one request.
struct Tries<'a> {
    local: &'a Rc<Local>,
    plan: &'a Plan<'a>,
    wish: Wish,
    replay: Replay,
    tried: Vec<Rc<Endpoint>>,
    /// Attempts that may still be made, and endpoints that may still be passed over.
    left: usize,
    passes: usize,
    pauses: u32,
    /// Whether some endpoint may have looked at the request.
    was_seen: bool,
    /// Whether the last one has refused the connection.
    is_refused: bool,
    /// Whether the last one may be asked again, where there is no other.
    may_repeat: bool,
    /// Why the present attempt is made, if it is not the first.
    reason: Option<RetryReason>,
}

impl<'a> Tries<'a> {
    fn new(local: &'a Rc<Local>, plan: &'a Plan<'a>, wish: Wish, body: &Upload, method: &Method) -> Self {
        let retries = plan.retries;
        let is_repeatable = retries.attempts > 1 && retries.is_repeatable(method);
        // Over HTTP/1 a body that was begun was seen; over HTTP/2 the endpoint may say that it was not.
        let is_kept =
            is_repeatable || (retries.attempts > 1 && local.shared().settings.protocol != Protocol::Http1);
        let replay = body.keep(if is_kept && retries.may_replay(method) { retries.max_body.0 } else { 0 });
        if retries.attempts > 1 {
            local.earn(&retries.budget);
        }
        Self {
            local,
            plan,
            wish: Wish { is_spare: is_repeatable, ..wish },
            replay,
            tried: Vec::new(),
            left: retries.attempts,
            passes: PASSED_OVER,
            pauses: 0,
            was_seen: false,
            is_refused: false,
            may_repeat: true,
            reason: None,
        }
    }

    /// The endpoint for the next attempt: another one than before, as far as there is one.
    fn pick(&mut self, worker: &Worker) -> Option<Rc<Endpoint>> {
        self.left = self.left.saturating_sub(1);
        self.local.pick(&self.tried, worker.random(), self.wish)
    }

    /// Notes that `endpoint` was tried.
    fn done_with(&mut self, endpoint: Rc<Endpoint>) {
        (self.is_refused, self.may_repeat) = (false, true);
        self.tried.push(endpoint);
    }

    /// Whether another attempt can be made after this, and takes it from the budget if so.
    fn may_go_on(&mut self, worker: &Worker, arm: &Arm, happened: Happened) -> bool {
        let is_other = self.local.has_other(&self.tried, self.wish);
        if self.is_refused && is_other && self.passes > 0 {
            self.passes -= 1;
            self.left += 1;
            return true;
        }
        // Where another upstream takes what this one does not, nobody waits for this one.
        let may_repeat =
            self.may_repeat && (self.wish.needs == Needs::Somebody || happened != Happened::Untouched);
        if self.left == 0 || (!is_other && !may_repeat) {
            return false;
        }
        let is_left = self.local.spend(&self.plan.retries.budget);
        if !is_left {
            worker.metrics.retried(arm.target, reason(happened), RetryOutcome::Denied);
        }
        is_left
    }

    /// Whether the request may go to another upstream: this one did not take it, and has not looked at it before, or it is
    /// one that is sent again all the same.
    fn may_cross(&self, happened: Happened, method: &Method) -> bool {
        let may_repeat = || self.plan.retries.allows(Happened::Broken, method);
        match happened {
            Happened::Untouched => !self.was_seen || may_repeat(),
            // With it the last of its endpoints has gone.
            Happened::Broken => may_repeat() && !self.local.has_other(&[], self.wish),
            _ => false,
        }
    }

    /// Says what became of the present attempt, if it is a further one.
    fn ended(&self, worker: &Worker, arm: &Arm, outcome: RetryOutcome) {
        if let Some(reason) = self.reason {
            worker.metrics.retried(arm.target, reason, outcome);
        }
    }

    /// Gets ready for the next attempt: at another endpoint at once, at the same one after a pause.
    async fn next(&mut self, worker: &Worker, happened: Happened, record: &mut Record) {
        self.was_seen |= happened != Happened::Untouched;
        self.reason = Some(reason(happened));
        record.retried.push(reason(happened));
        let is_other = self.local.has_other(&self.tried, self.wish);
        if is_other && self.pauses == 0 && !matches!(happened, Happened::Answered(_)) {
            return;
        }
        if !is_other {
            self.tried.clear();
        }
        self.pauses += 1;
        let pause = self.plan.retries.pause(self.pauses, worker.random());
        if !pause.is_zero() {
            // In a box of its own: seldom needed.
            Box::pin(tokio::time::sleep(pause)).await;
        }
    }

    /// Sends the request to `endpoint`, or to another one beside it where it takes long; from whom the result is.
    async fn send(
        &mut self,
        worker: &Worker,
        arm: &Arm,
        endpoint: Rc<Endpoint>,
        body: Upload,
        record: &mut Record,
    ) -> (Result<Exchange, SendError>, Rc<Endpoint>) {
        let (plan, retries) = (self.plan, self.plan.retries);
        let is_hedged = retries.hedge.filter(|_| {
            body.is_empty() && plan.upgrade.is_none() && retries.is_repeatable(&record.head.method)
        });
        let Some(after) = is_hedged else {
            let result = self.once(&endpoint, body, plan.caller, record).await;
            return (result, endpoint);
        };
        // In a box of its own: few routes ask for it.
        Box::pin(self.hedged(worker, arm, endpoint, after, record)).await
    }

    /// Sends the request, which has no body, to `endpoint`, and after a while to a second one; the first response that
    /// begins is taken, the other request is given up.
    async fn hedged(
        &mut self,
        worker: &Worker,
        arm: &Arm,
        endpoint: Rc<Endpoint>,
        after: Duration,
        record: &mut Record,
    ) -> (Result<Exchange, SendError>, Rc<Endpoint>) {
        let caller = Caller { client: self.plan.caller.client.clone(), ..Caller::default() };
        let mut lost = None;
        let (result, other, is_second) = {
            let record = &*record;
            let begun = Rc::clone(&endpoint);
            let first = pin!(self.once(&begun, Upload::default(), self.plan.caller, record));
            let first = match select(first, pin!(tokio::time::sleep(after))).await {
                Either::Left((result, _)) => return (result, endpoint),
                Either::Right(((), first)) => first,
            };
            let mut tried = self.tried.clone();
            tried.push(Rc::clone(&endpoint));
            let second = self.local.pick(&tried, worker.random(), self.wish);
            let Some(other) = second.filter(|_| self.local.spend(&self.plan.retries.budget)) else {
                return (first.await, endpoint);
            };
            let beside = Rc::clone(&other);
            let second = pin!(self.once(&beside, Upload::default(), &caller, record));
            match select(first, second).await {
                Either::Left((Ok(exchange), _)) => (Ok(exchange), other, false),
                Either::Right((Ok(exchange), _)) => (Ok(exchange), other, true),
                // The other one may still answer.
                Either::Left((Err(error), second)) => {
                    lost = Some(Fault::lost(worker, arm, &endpoint, &error));
                    (second.await, other, true)
                }
                Either::Right((Err(error), first)) => {
                    lost = Some(Fault::lost(worker, arm, &other, &error));
                    (first.await, other, false)
                }
            }
        };
        record.is_charged |= lost.unwrap_or_default();
        if lost.is_some() {
            self.tried.push(Rc::clone(if is_second { &endpoint } else { &other }));
        }
        let outcome = if is_second && result.is_ok() { RetryOutcome::Success } else { RetryOutcome::Failure };
        worker.metrics.retried(arm.target, RetryReason::Hedge, outcome);
        record.attempts += 1;
        record.retried.push(RetryReason::Hedge);
        let winner = if is_second { other } else { endpoint };
        record.endpoint = Some(Rc::clone(&winner));
        (result, winner)
    }

    /// Sends the request to `endpoint` once.
    async fn once(
        &self,
        endpoint: &Rc<Endpoint>,
        body: Upload,
        caller: &Caller,
        record: &Record,
    ) -> Result<Exchange, SendError> {
        let plan = self.plan;
        let protocol = self.local.shared().settings.protocol;
        let host = match &plan.host {
            Host::Kept => None,
            Host::Endpoint => Some(&endpoint.authority),
            // HTTP/1.0 may name no host, HTTP/2 must, and so does what may turn out to be HTTP/2.
            Host::Named(name) if name.is_empty() && protocol != Protocol::Http1 => Some(&endpoint.authority),
            Host::Named(name) => Some(&**name),
        };
        let target = plan.target.as_ref().map_or_else(|| record.head.path_and_query(), PathAndQuery::as_str);
        let outgoing = Outgoing { head: &record.head, target, host, upgrade: plan.upgrade };
        let sending = endpoint.send(&outgoing, body, caller);
        match plan.retries.per_try {
            // In a box of its own: few routes ask for it.
            Some(limit) => {
                let sent = tokio::time::timeout(limit, Box::pin(sending)).await;
                sent.unwrap_or(Err(SendError { kind: SendErrorKind::Timeout, unsent: None }))
            }
            None => sending.await,
        }
    }
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

fn reason(happened: Happened) -> RetryReason {
    match happened {
        Happened::Untouched => RetryReason::Connect,
        Happened::Broken | Happened::Garbled => RetryReason::Reset,
        Happened::Silent => RetryReason::Timeout,
        Happened::Answered(_) => RetryReason::Status,
    }
}

/// What an attempt that failed comes to.
struct Fault {
    failure: Failure,
    cause: Cause,
    happened: Happened,
    /// Whether it says something of the endpoint.
    is_endpoints: bool,
    /// Whether the same endpoint may have changed its mind a moment later.
    is_transient: bool,
}

impl Fault {
    /// Counts and tells that `endpoint` has failed with `error`, where another one may still answer; whether it is its
    /// fault.
    fn lost(worker: &Worker, arm: &Arm, endpoint: &Endpoint, error: &SendError) -> bool {
        let Some(Self { cause, is_endpoints, .. }) = Self::of(error) else { return false };
        worker.metrics.upstream_failed(arm.target, cause);
        if is_endpoints {
            endpoint.answered(None);
        }
        is_endpoints
    }

    /// `None` where the client's host is to blame.
    fn of(error: &SendError) -> Option<Self> {
        use Happened::{Broken, Garbled, Silent, Untouched};
        let kind = &error.kind;
        let (failure, cause, happened, is_endpoints) = match kind {
            SendErrorKind::Connect(ConnectError::Crowded(_)) => {
                (Failure::UpstreamOverloaded, Cause::Connect, Untouched, false)
            }
            SendErrorKind::Connect(ConnectError::Timeout(_)) => {
                (Failure::ConnectTimeout, Cause::Connect, Untouched, true)
            }
            SendErrorKind::Connect(ConnectError::Io(error)) if is_ours(error) => {
                (Failure::NoResources, Cause::Connect, Untouched, false)
            }
            SendErrorKind::Connect(ConnectError::Io(_)) => {
                (Failure::ConnectRefused, Cause::Connect, Untouched, true)
            }
            SendErrorKind::Connect(ConnectError::Tls(_)) => {
                (Failure::UpstreamTls, Cause::Tls, Untouched, true)
            }
            SendErrorKind::Reset(_) => (Failure::UpstreamReset, Cause::Reset, Broken, true),
            SendErrorKind::Stale(_) => (Failure::UpstreamClosed, Cause::Reset, Broken, false),
            SendErrorKind::Refused(_) => (Failure::UpstreamReset, Cause::Reset, Untouched, false),
            SendErrorKind::Protocol(_) | SendErrorKind::Otherwise(_) => {
                (Failure::UpstreamProtocol, Cause::Protocol, Garbled, true)
            }
            SendErrorKind::NoTunnel => (Failure::UpstreamProtocol, Cause::Protocol, Untouched, false),
            SendErrorKind::Timeout => (Failure::ResponseTimeout, Cause::Timeout, Silent, true),
            SendErrorKind::Host => return None,
        };
        let is_transient = match kind {
            SendErrorKind::Connect(ConnectError::Io(_))
            | SendErrorKind::Reset(_)
            | SendErrorKind::Stale(_) => true,
            // One without a body under way was refused again and again.
            SendErrorKind::Refused(_) => error.unsent.is_none(),
            _ => false,
        };
        Some(Self { failure, cause, happened, is_endpoints, is_transient })
    }
}
