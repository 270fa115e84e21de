//! What is no longer HTTP: bytes both ways between a client and an endpoint, until one of them has had enough. Each way
//! ends by itself; what is read is written before more is read, so that nothing is buffered beyond one filling.
//!
//! Where it is WebSocket it knows where a frame ends, and says goodbye between two of them (RFC 6455 §7.4). What is in a
//! frame is not known here. Who may stay how long: [`super::stay`].

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::time::{Instant, sleep_until, timeout};

use super::Failure;
use super::record::Record;
use super::stay::Stay;
use super::worker::secret_bits;
use crate::net::{Fill, Source};
use crate::telemetry::Cause;
use crate::upstream::exchange::Lease;
use crate::upstream::{Inbound, InboundError, Sink};
use crate::wire::websocket::{self, Frames};

/// How long each side may take for the frame that it is in, and for its own goodbye, before it is cut off.
const GOODBYE: Duration = Duration::from_secs(1);

/// How much is passed over, in fillings, before others have their turn.
const TURN: usize = 8;

/// A tunnel whose handshake is done: the endpoint's end of it.
#[derive(Debug)]
pub struct Tunnel {
    pub(super) body: Inbound,
    pub(super) sink: Sink,
    pub(super) lease: Lease,
    pub(super) record: Box<Record>,
    pub(super) is_websocket: bool,
    pub(super) stay: Stay,
    /// How long it may stand still.
    pub(super) idle: Duration,
}

/// What both ways of a tunnel have in common.
#[derive(Debug)]
struct Course {
    moved: Cell<Instant>,
    is_ending: Cell<bool>,
}

/// One way of a tunnel.
struct Way<'a> {
    body: Inbound,
    course: &'a Course,
    /// Where in its frames it is, where it has some.
    frames: Option<RefCell<Frames>>,
    /// What is said at the end, if it is not the end of the other side's making.
    goodbye: Bytes,
    is_saying_goodbye: bool,
    count: &'a Cell<u64>,
    /// Whether it broke off where it comes from. Where it goes to is seen by whoever writes.
    is_cut: &'a Cell<bool>,
}

impl Way<'_> {
    /// How much of `data` may go on: when this is ending, no more than what belongs to the frame that was begun.
    fn open(&self, data: &[u8]) -> usize {
        match &self.frames {
            Some(frames) if self.course.is_ending.get() => {
                let frames = frames.borrow();
                if frames.is_between() { 0 } else { frames.clone().pass_frame(data) }
            }
            _ => data.len(),
        }
    }

    /// Passes over what comes until its end.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        for _ in 0..TURN {
            if !matches!(ready!(self.body.poll_fill(cx)), Ok(Fill::Data)) {
                return Poll::Ready(());
            }
            let length = self.body.with_data(<[u8]>::len);
            self.body.consume(length);
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Source for Way<'_> {
    type Error = InboundError;

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<Fill, InboundError>> {
        if self.course.is_ending.get() && !self.is_saying_goodbye {
            let is_between = self.frames.as_ref().is_none_or(|frames| frames.borrow().is_between());
            self.is_saying_goodbye = is_between;
        }
        if self.is_saying_goodbye {
            let is_said = self.goodbye.is_empty();
            return Poll::Ready(Ok(if is_said { Fill::End(None) } else { Fill::Data }));
        }
        let polled = self.body.poll_fill(cx);
        if let Poll::Ready(Err(_)) = &polled {
            self.is_cut.set(true);
        }
        polled.map_ok(|fill| match fill {
            Fill::Data => Fill::Data,
            // Nobody but HTTP has trailers.
            Fill::End(_) => Fill::End(None),
        })
    }

    fn with_data<R>(&self, look: impl FnOnce(&[u8]) -> R) -> R {
        if self.is_saying_goodbye {
            return look(&self.goodbye);
        }
        self.body.with_data(|data| look(data.get(..self.open(data)).unwrap_or_default()))
    }

    fn wait(&mut self) {
        self.body.wait();
    }

    fn consume(&mut self, count: usize) {
        self.course.moved.set(Instant::now());
        if self.is_saying_goodbye {
            self.goodbye.advance(count.min(self.goodbye.len()));
            return;
        }
        if let Some(frames) = &self.frames {
            self.body.with_data(|data| frames.borrow_mut().pass(data.get(..count).unwrap_or_default()));
        }
        self.count.set(self.count.get() + count as u64);
        self.body.consume(count);
    }

    fn take(&mut self) -> Bytes {
        if self.is_saying_goodbye {
            return std::mem::take(&mut self.goodbye);
        }
        let length = self.body.with_data(<[u8]>::len);
        let open = self.body.with_data(|data| self.open(data));
        if open == length {
            // What was taken as a whole need not be copied.
            let data = self.body.take();
            self.course.moved.set(Instant::now());
            if let Some(frames) = &self.frames {
                frames.borrow_mut().pass(&data);
            }
            self.count.set(self.count.get() + length as u64);
            return data;
        }
        let data = self.with_data(Bytes::copy_from_slice);
        self.consume(data.len());
        data
    }
}

/// Hears what the peers still say, their own goodbyes: whoever closes before it is read sends a reset, which may overtake
/// ours.
async fn hear_out([up, down]: [&mut Way<'_>; 2]) {
    let hearing = poll_fn(|cx| {
        let are_over = [up.poll_over(cx).is_ready(), down.poll_over(cx).is_ready()];
        if are_over == [true; 2] { Poll::Ready(()) } else { Poll::Pending }
    });
    // Who does not answer has had its time.
    let _ = timeout(GOODBYE, hearing).await;
}

/// Whose failure it is that a way broke off: of whom it comes from, or of whom it goes to.
fn blame(is_cut: &Cell<bool>, from: Failure, to: Failure) -> Failure {
    if is_cut.get() { from } else { to }
}

impl Tunnel {
    /// Passes bytes on between the client's end and the endpoint's, until both have ended, one of them breaks, nothing
    /// has come for too long, or it may stay no longer. Gives whether it has ended in order; else the client is not to
    /// take its end for one.
    pub async fn run(self, from_client: Inbound, to_client: Sink) -> bool {
        let Self { body, sink, lease, mut record, is_websocket, mut stay, idle } = self;
        let course = Course { moved: Cell::new(Instant::now()), is_ending: Cell::new(false) };
        let (sent, received) = (Cell::new(0), Cell::new(0));
        let (is_client_cut, is_endpoint_cut) = (Cell::new(false), Cell::new(false));
        let frames = || is_websocket.then(RefCell::default);
        let goodbye =
            |code, mask| if is_websocket { websocket::close(code, mask).into() } else { Bytes::new() };
        let [a, b, c, d, ..] = secret_bits().to_ne_bytes();
        let mut up = Way {
            body: from_client,
            course: &course,
            frames: frames(),
            goodbye: goodbye(websocket::GOING_AWAY, Some([a, b, c, d])),
            is_saying_goodbye: false,
            count: &sent,
            is_cut: &is_client_cut,
        };
        let mut down = Way {
            body,
            course: &course,
            frames: frames(),
            goodbye: goodbye(websocket::SERVICE_RESTART, None),
            is_saying_goodbye: false,
            count: &received,
            is_cut: &is_endpoint_cut,
        };
        let endpoint = sink.link();
        let outcome = {
            let mut up = pin!(sink.pass(&mut up));
            let mut down = pin!(to_client.pass(&mut down));
            let (mut up_done, mut down_done, mut is_half) = (false, false, false);
            // Once a WebSocket has ended on one side, how the other one goes is no failure.
            let mut timer = pin!(sleep_until(course.moved.get() + idle));
            poll_fn(|cx| {
                if !course.is_ending.get() && stay.poll_over(cx).is_ready() {
                    course.is_ending.set(true);
                    timer.as_mut().reset(Instant::now() + GOODBYE);
                }
                if !up_done && let Poll::Ready(is_whole) = up.as_mut().poll(cx) {
                    if !is_whole {
                        // What the client broke off, or the endpoint does not take any more.
                        let failure = blame(&is_client_cut, Failure::ClientAborted, Failure::UpstreamReset);
                        return Poll::Ready(Some(failure).filter(|_| !(is_websocket && down_done)));
                    }
                    up_done = true;
                }
                if !down_done && let Poll::Ready(is_whole) = down.as_mut().poll(cx) {
                    if !is_whole {
                        let failure = blame(&is_endpoint_cut, Failure::UpstreamReset, Failure::ClientAborted);
                        return Poll::Ready(Some(failure).filter(|_| !(is_websocket && up_done)));
                    }
                    down_done = true;
                }
                if up_done && down_done {
                    return Poll::Ready(None);
                }
                if is_websocket && (up_done || down_done) && !course.is_ending.get() && !is_half {
                    // It has no half that lives on (RFC 6455 §7.1.1). The other side may still answer the goodbye.
                    is_half = true;
                    timer.as_mut().reset(Instant::now() + GOODBYE);
                }
                while timer.as_mut().poll(cx).is_ready() {
                    if course.is_ending.get() {
                        return Poll::Ready(None);
                    }
                    if is_half {
                        course.is_ending.set(true);
                        timer.as_mut().reset(Instant::now() + GOODBYE);
                        cx.waker().wake_by_ref();
                        continue;
                    }
                    let deadline = course.moved.get() + idle;
                    if deadline <= Instant::now() {
                        return Poll::Ready(Some(Failure::TunnelIdle));
                    }
                    timer.as_mut().reset(deadline);
                }
                Poll::Pending
            })
            .await
        };
        if outcome.is_none() {
            hear_out([&mut up, &mut down]).await;
        }
        drop((up, down));
        match outcome {
            // What was said inside is between the two of them.
            Some(Failure::UpstreamReset) => record.is_of_no_use(Cause::Reset),
            // Whichever way it was found out.
            Some(Failure::ClientAborted) => endpoint.iter().for_each(|link| link.io().reset_on_close()),
            _ => {}
        }
        drop(endpoint);
        drop(lease);
        record.request_bytes = sent.get();
        record.response_bytes = received.get();
        record.close(outcome);
        // Of a WebSocket its frames tell whether that was all, and a reset could overtake the last of them.
        is_websocket || !matches!(outcome, Some(Failure::UpstreamReset | Failure::ClientAborted))
    }
}
