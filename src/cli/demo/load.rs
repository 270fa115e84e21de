//! A steady load: users who come one after the other at an even pace, over a bounded number of kept connections.
//!
//! What an answer means is for [`super::ledger`]. No request is ever repeated to hide that it was lost, save where
//! HTTP lets any client do so: one that a kept connection was closed under is asked once more, and counted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::HeaderValue;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::upstreams::ENDPOINT;
use super::users::{Users, request};
use crate::state::Current;
use crate::types::Generation;
use crate::upstream::Address;
use crate::upstream::connect::connect;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long somebody who finds nobody listening waits to be told a new address.
const MOVING: Duration = Duration::from_secs(1);
/// How far the load may fall behind before it lets go of what it missed: it never makes up for it in a burst.
const SLACK: Duration = Duration::from_millis(50);

/// Where the load goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// Where to connect.
    pub(super) address: Address,
    /// The `Host` of the requests.
    pub(super) host: HeaderValue,
}

/// What came of one request.
#[derive(Debug)]
pub(super) struct Answer {
    /// Who asked.
    pub(super) user: u32,
    /// The generation that was known to serve before the request was sent.
    pub(super) before: Generation,
    /// The generation that served when the answer had come.
    pub(super) after: Generation,
    /// How it ended.
    pub(super) outcome: Outcome,
    /// From the request to the last byte of the answer, as the user sees it.
    pub(super) latency: Duration,
    /// Whether it was asked twice because its connection was closed under it.
    pub(super) repeated: bool,
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The demo's upstream at this endpoint answered.
    Upstream(HeaderValue),
    /// Somebody else answered, and well.
    Other,
    /// There was no answer, or one with a status from 400 on; why.
    Failed(String),
}

/// A load that runs. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Load {
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

/// What all its tasks share.
#[derive(Debug)]
struct Shared {
    users: Users,
    pace: Mutex<Pace>,
    settled: Arc<AtomicU64>,
    current: Arc<Current>,
}

/// Who comes next, and when.
#[derive(Debug)]
struct Pace {
    sequence: u64,
    due: Instant,
    interval: Duration,
}

impl Pace {
    /// The next place in the sequence and its time; `now` if that is long over.
    fn next(&mut self, now: Instant) -> (u64, Instant) {
        let due = if self.due + SLACK < now { now } else { self.due };
        self.due = due + self.interval;
        self.sequence += 1;
        (self.sequence - 1, due)
    }
}

impl Load {
    /// Starts `rate` (1 or more) requests a second to `target`. `settled` holds the generation known to serve, which
    /// may lag behind that of `current`.
    pub(super) fn start(
        users: Users,
        rate: u32,
        target: &watch::Receiver<Target>,
        settled: Arc<AtomicU64>,
        current: Arc<Current>,
        answers: &mpsc::Sender<Answer>,
    ) -> Self {
        let interval = Duration::from_secs(1) / rate.max(1);
        let pace = Mutex::new(Pace { sequence: 0, due: Instant::now(), interval });
        let shared = Arc::new(Shared { users, pace, settled, current });
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        for _ in 0..(rate / 25).clamp(4, 64) {
            let line = Line { target: target.clone(), open: None };
            tasks.spawn(visit(Arc::clone(&shared), line, answers.clone(), stopped.clone()));
        }
        Self { stop, tasks }
    }

    /// Sends no more, and waits for the answers to what was sent; how many tasks ended badly.
    pub(super) async fn stop(mut self) -> usize {
        self.stop.send_replace(true);
        let mut broken = 0;
        while let Some(ended) = self.tasks.join_next().await {
            broken += usize::from(ended.is_err());
        }
        broken
    }
}

async fn visit(
    shared: Arc<Shared>,
    mut line: Line,
    answers: mpsc::Sender<Answer>,
    mut stopped: watch::Receiver<bool>,
) {
    loop {
        let (sequence, due) = shared.pace.lock().unwrap_or_else(PoisonError::into_inner).next(Instant::now());
        tokio::select! {
            () = sleep_until(due) => {}
            _ = stopped.wait_for(|stopped| *stopped) => return,
        }
        if answers.send(shared.ask(&mut line, shared.users.at(sequence)).await).await.is_err() {
            return;
        }
    }
}

impl Shared {
    async fn ask(&self, line: &mut Line, user: u32) -> Answer {
        let before = Generation(self.settled.load(Ordering::Acquire));
        let started = Instant::now();
        let mut repeated = false;
        let outcome = match timeout(PATIENCE, line.exchange(user, &mut repeated)).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(error)) => Outcome::Failed(error),
            Err(_) => Outcome::Failed(format!("no answer within {} s", PATIENCE.as_secs())),
        };
        if matches!(outcome, Outcome::Failed(_)) {
            line.open = None;
        }
        let latency = started.elapsed();
        Answer { user, before, after: self.current.generation(), outcome, latency, repeated }
    }
}

/// A connection that is kept, and where it is to go.
#[derive(Debug)]
struct Line {
    target: watch::Receiver<Target>,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    target: Target,
    sender: SendRequest<Empty<Bytes>>,
}

impl Line {
    /// Asks for `user` and reads the whole answer; an error is a sentence.
    async fn exchange(&mut self, user: u32, repeated: &mut bool) -> Result<Outcome, String> {
        let target = self.target.borrow_and_update().clone();
        let kept = self.open.take().filter(|open| open.target == target);
        if let Some(mut open) = kept
            && open.sender.ready().await.is_ok()
        {
            match open.sender.send_request(request(user, &target.host)).await {
                Ok(response) => return self.read(response, open).await,
                Err(_) => *repeated = true,
            }
        }
        let mut open = self.connect(target).await?;
        let request: Request<_> = request(user, &open.target.host);
        let response = open.sender.send_request(request).await.map_err(|error| told(&error))?;
        self.read(response, open).await
    }

    async fn read(&mut self, response: Response<Incoming>, open: Open) -> Result<Outcome, String> {
        let (head, mut body) = response.into_parts();
        while let Some(frame) = body.frame().await {
            frame.map_err(|error| format!("the answer was cut off: {}", told(&error)))?;
        }
        self.open = Some(open);
        if head.status.as_u16() >= 400 {
            return Err(format!("status {}", head.status.as_u16()));
        }
        Ok(head.headers.get(ENDPOINT).map_or(Outcome::Other, |endpoint| Outcome::Upstream(endpoint.clone())))
    }

    /// Connects; where nobody listens any more, to the address that is told next.
    async fn connect(&mut self, mut target: Target) -> Result<Open, String> {
        loop {
            let failed = match connect(&target.address, None, PATIENCE).await {
                Ok(io) => {
                    let (sender, connection) =
                        handshake(TokioIo::new(io)).await.map_err(|error| told(&error))?;
                    drive(async move {
                        // The request that it ends under tells.
                        let _ = connection.await;
                    });
                    return Ok(Open { target, sender });
                }
                Err(error) => told(&error),
            };
            match timeout(MOVING, self.target.changed()).await {
                Ok(Ok(())) => target = self.target.borrow_and_update().clone(),
                _ => return Err(failed),
            }
        }
    }
}

/// An error with its causes.
fn told(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[expect(
    clippy::disallowed_methods,
    reason = "the named worker of the load's connections; each ends with its sender"
)]
fn drive(connection: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(connection);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pace_is_even_and_makes_up_for_nothing() {
        let start = Instant::now();
        let interval = Duration::from_millis(10);
        let mut pace = Pace { sequence: 0, due: start, interval };
        let due: Vec<_> = (0..3).map(|_| pace.next(start)).collect();
        assert_eq!(due, [(0, start), (1, start + interval), (2, start + 2 * interval)]);
        let late = start + Duration::from_secs(5);
        assert_eq!(pace.next(late), (3, late), "what was missed is let go");
        assert_eq!(pace.next(late), (4, late + interval));
        let slightly = late + 2 * interval + SLACK;
        assert_eq!(pace.next(slightly), (5, late + 2 * interval), "a small delay is made good");
    }
}
