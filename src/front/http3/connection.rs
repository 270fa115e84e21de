//! A connection of HTTP/3 from its handshake to its end: streams come in, until it is idle for too long, drains, or its
//! client breaks the rules.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use h3::error::{Code, ConnectionError};
use h3::frame::FrameStream;
use h3::proto::varint::VarInt;
use h3::server;
use h3::stream::BufRecvStream;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};

use super::stream::{self, Fared};
use crate::front::accept::spawn;
use crate::net::quic::{Breach, Connection, Stream, number};
use crate::proxy::{Downstream, Worker};
use crate::telemetry::Refused;

/// The largest head that the h3 crate can hold: it has at most so many fields of the least size as its map takes.
const LARGEST_HEAD: u64 = 768 * 1024;
/// How much larger than its fields a head may be as it is sent: QPACK can make it longer, if it wants.
const PADDING: u64 = 4;
/// How long a client that was told of the end may take to hear it: what it asks for meanwhile is served.
const GRACE: Duration = Duration::from_millis(250);
/// The highest number that a request may have: who is told of it knows that the end is near, and loses nothing.
const ANY: u64 = (1 << 62) - 4;
/// How many requests a client may give up before they are answered, at first, and for each second.
const GIVEN_UP: (u32, u32) = (1000, 500);
/// How many streams a client may give up before they are requests, in all: each leaves something behind in h3.
const STILLBORN: u32 = 10_000;

/// What is open, and what the client has given up.
#[derive(Debug)]
struct Activity {
    streams: Cell<usize>,
    idle_since: Cell<Instant>,
    given_up: Cell<u32>,
    stillborn: Cell<u32>,
    since: Cell<Instant>,
    /// Told when a stream has ended.
    ended: Notify,
}

/// One open stream, for as long as it lives.
struct Opened(Rc<Activity>);

impl Activity {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            streams: Cell::new(0),
            idle_since: Cell::new(now),
            given_up: Cell::new(0),
            stillborn: Cell::new(0),
            since: Cell::new(now),
            ended: Notify::new(),
        }
    }

    /// Counts how a stream fared.
    fn count(&self, fared: Fared) {
        match fared {
            Fared::Answered => return,
            Fared::Stillborn => self.stillborn.set(self.stillborn.get() + 1),
            Fared::GivenUp => {}
        }
        let now = Instant::now();
        let passed = now.saturating_duration_since(self.since.get()).as_millis();
        let forgiven = u32::try_from(passed * u128::from(GIVEN_UP.1) / 1000).unwrap_or(u32::MAX);
        if forgiven > 0 {
            self.since.set(now);
        }
        self.given_up.set(self.given_up.get().saturating_sub(forgiven) + 1);
    }

    fn is_flood(&self) -> bool {
        self.given_up.get() > GIVEN_UP.0 || self.stillborn.get() > STILLBORN
    }
}

impl Opened {
    fn new(activity: &Rc<Activity>) -> Self {
        activity.streams.set(activity.streams.get() + 1);
        Self(Rc::clone(activity))
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.0.streams.set(self.0.streams.get().saturating_sub(1));
        self.0.idle_since.set(Instant::now());
        self.0.ended.notify_one();
    }
}

/// Where the orderly end of a connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// It is not wanted.
    No,
    /// The client has been told that it is near; what it has asked for meanwhile still counts.
    Near,
    /// Nothing from this number on is served.
    From(u64),
}

/// Serves a connection until it ends, is idle for too long, or drains.
pub(super) async fn serve(worker: &Rc<Worker>, connection: quinn::Connection, downstream: Downstream) {
    let (head_limit, idle_limit) = (downstream.listener.header_timeout, downstream.listener.idle_timeout);
    let largest = downstream.listener.max_header.0.min(LARGEST_HEAD);
    let transport = Connection::new(connection.clone(), largest * PADDING);
    let breach = transport.breach();
    let mut builder = server::builder();
    builder.max_field_section_size(largest).send_grease(false);
    let built = timeout(head_limit, builder.build::<_, Bytes>(transport)).await;
    let Ok(Ok(mut http)) = built else { return };
    let downstream = Rc::new(downstream);
    let activity = Rc::new(Activity::new());
    let mut waiting = downstream.drained.clone();
    let mut end = pin!(waiting.wanted());
    let (mut ending, mut next) = (Ending::No, 0);
    let mut timer = pin!(sleep_until(Instant::now() + idle_limit));
    let mut told: Option<VarInt> = None;
    loop {
        if activity.is_flood() {
            worker.metrics.refused(downstream.id, Refused::Flood);
            connection.close(number(Code::H3_EXCESSIVE_LOAD.value()), b"too many requests are given up");
            return;
        }
        if matches!(ending, Ending::From(_)) && activity.streams.get() == 0 {
            break;
        }
        tokio::select! {
            biased;
            accepted = poll_fn(|cx| http.poll_accept_request_stream(cx)) => match accepted {
                Ok(Some(stream)) => {
                    let number = stream.number();
                    if let Ending::From(first) = ending && number >= first {
                        stream.reject();
                        continue;
                    }
                    next = next.max(number + 4);
                    begin(worker, &downstream, &activity, &mut http, stream);
                }
                Ok(None) => break,
                Err(error) => return failed(worker, &downstream, &breach, &error),
            },
            () = activity.ended.notified() => {}
            () = end.as_mut(), if ending == Ending::No => {
                ending = Ending::Near;
                timer.as_mut().reset(Instant::now() + GRACE);
                if http.inner.shutdown(&mut told, goaway(ANY)).await.is_err() {
                    return;
                }
            }
            () = timer.as_mut() => {
                let now = Instant::now();
                let is_busy = activity.streams.get() > 0;
                let deadline = activity.idle_since.get() + idle_limit;
                let first = match ending {
                    Ending::No if is_busy => {
                        timer.as_mut().reset(now + idle_limit);
                        continue;
                    }
                    Ending::No if deadline > now => {
                        timer.as_mut().reset(deadline);
                        continue;
                    }
                    Ending::No => {
                        ending = Ending::Near;
                        timer.as_mut().reset(now + GRACE);
                        ANY
                    }
                    Ending::Near => {
                        ending = Ending::From(next);
                        timer.as_mut().reset(now + idle_limit);
                        next
                    }
                    // Somebody still reads what he asked for.
                    Ending::From(_) => {
                        timer.as_mut().reset(now + idle_limit);
                        continue;
                    }
                };
                if http.inner.shutdown(&mut told, goaway(first)).await.is_err() {
                    return;
                }
            }
        }
    }
    connection.close(number(Code::H3_NO_ERROR.value()), b"");
}

/// The number of the first request that is not served, as h3 has it; all that there are fit.
fn goaway(first: u64) -> VarInt {
    VarInt::from_u64(first).unwrap_or(VarInt::from_u32(0))
}

fn begin(
    worker: &Rc<Worker>,
    downstream: &Rc<Downstream>,
    activity: &Rc<Activity>,
    http: &mut server::Connection<Connection, Bytes>,
    stream: Stream,
) {
    let (unended, settled) = (stream.unended(), Box::pin(stream.settled()));
    let resolver = http.create_resolver(FrameStream::new(BufRecvStream::new(stream)));
    let (worker, downstream, activity) = (Rc::clone(worker), Rc::clone(downstream), Rc::clone(activity));
    let opened = Opened::new(&activity);
    spawn(async move {
        let fared = stream::serve(&worker, &downstream, resolver, unended, settled).await;
        activity.count(fared);
        drop(opened);
    });
}

/// Counts a connection whose client broke the protocol.
fn failed(worker: &Worker, downstream: &Downstream, breach: &Breach, error: &ConnectionError) {
    let is_ours = matches!(error, ConnectionError::Local { .. }) && !error.is_h3_no_error();
    if is_ours || breach.is_found() {
        worker.metrics.malformed(downstream.id);
    }
}
