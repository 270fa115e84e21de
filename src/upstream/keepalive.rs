//! Whether an HTTP/2 endpoint that has said nothing for a while is still there: it is asked by a ping, and a connection
//! whose ping nobody answers is given up, so that its requests fail soon and not after their whole time. Whatever comes
//! is a sign of life.
//!
//! gRPC servers close a connection that pings too often while nothing is sent on it: the third ping within five minutes
//! of each other is one too many (grpc-go, gRPC C++ and grpc-java alike). So there are two at most, and the next after
//! those five minutes; a head or data of the endpoint's makes the count begin anew.

use std::future::poll_fn;
use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::time::{Instant, sleep_until, timeout};

use crate::net::Watch;

/// How long an endpoint may say nothing before it is asked.
const SILENCE: Duration = Duration::from_secs(10);
/// How long it may take to answer.
const ANSWER: Duration = Duration::from_secs(5);
/// Between pings to an endpoint that answers nothing but pings.
const SPACING: Duration = Duration::from_secs(301);
/// Pings of a silence that come without that spacing, where requests are under way and where none are.
const PINGS_BUSY: u32 = 2;
const PINGS_IDLE: u32 = 1;

/// What a ping depends on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    /// Streams under way.
    pub(super) streams: usize,
    /// Since when there are some.
    pub(super) since: Instant,
}

/// The pings since the endpoint last spoke.
#[derive(Debug, Clone, Copy)]
struct Silence {
    pings: u32,
    last: Instant,
}

impl Silence {
    /// When to ping next; `None` where there is no reason to.
    fn due(&self, heard: Instant, load: Load) -> Option<Instant> {
        let (limit, since) =
            if load.streams > 0 { (PINGS_BUSY, heard.max(load.since)) } else { (PINGS_IDLE, heard) };
        match self.pings < limit {
            true => Some(since + SILENCE),
            false if load.streams > 0 => Some((since + SILENCE).max(self.last + SPACING)),
            false => None,
        }
    }
}

/// Waits until the endpoint answers no more. `load` is asked for anew each time; `None` from it is the end.
pub(super) async fn dead(watch: &Watch, mut pings: PingPong, load: impl Fn() -> Option<Load>) {
    let mut silence = Silence { pings: 0, last: Instant::now() };
    let mut spoken = watch.spoken();
    loop {
        let Some(now) = load() else { return };
        if watch.spoken() != spoken {
            spoken = watch.spoken();
            silence.pings = 0;
        }
        match silence.due(watch.heard(), now) {
            Some(due) if due <= Instant::now() => {
                if !is_answered(watch, &mut pings).await {
                    return;
                }
                silence = Silence { pings: silence.pings + 1, last: Instant::now() };
            }
            // What changes meanwhile makes it later, but for the first stream of a connection that was idle.
            Some(due) => sleep_until(due.min(Instant::now() + SILENCE)).await,
            None => sleep_until(Instant::now() + SILENCE).await,
        }
    }
}

async fn is_answered(watch: &Watch, pings: &mut PingPong) -> bool {
    if pings.send_ping(Ping::opaque()).is_err() {
        return false;
    }
    loop {
        let asked = Instant::now();
        match timeout(ANSWER, poll_fn(|cx| pings.poll_pong(cx))).await {
            Ok(answer) => return answer.is_ok(),
            Err(_) if watch.heard() < asked => return false,
            // It speaks, though not of this.
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ping_is_due_after_a_silence_and_seldom_where_only_pings_are_answered() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let at = |seconds: u32| start + seconds * second;
        // (heard, streams, since, pings, last) and when the next is due.
        for (heard, streams, since, pings, last, expected) in [
            (0, 0, 0, 0, 0, Some(10)),
            (0, 1, 0, 0, 0, Some(10)),
            (7, 1, 0, 0, 0, Some(17)),
            // A stream on a connection that has been idle: the endpoint may take its time.
            (0, 1, 60, 0, 0, Some(70)),
            (0, 1, 60, 1, 10, Some(70)),
            (10, 0, 0, 1, 10, None),
            (10, 1, 0, 1, 10, Some(20)),
            (20, 1, 0, 2, 20, Some(321)),
            (20, 1, 600, 2, 20, Some(610)),
            (321, 1, 0, 3, 321, Some(622)),
        ] {
            let silence = Silence { pings, last: at(last) };
            let due = silence.due(at(heard), Load { streams, since: at(since) });
            assert_eq!(due, expected.map(at), "{heard} {streams} {since} {pings} {last}");
        }
    }
}
