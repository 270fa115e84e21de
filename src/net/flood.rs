//! What a peer may make us do over HTTP/2 for nothing: how many resets, pings, settings and window updates of it are
//! taken, per time and per useful frame. The `h2` crate bounds what a peer makes us *hold* (heads, CONTINUATION frames,
//! small and empty DATA frames, streams that are reset before they are looked at, acknowledgements: one at a time); it does not
//! bound what a peer makes us *do* for as long as it reads our answers. Pure: the time is an argument.
//!
//! The guard that counts the frames of a connection is [`super::guard`].

use tokio::time::Instant;

use crate::wire::{FrameHead, FrameKind};

/// What is granted of one kind of frame: at first and after a rest, and for each second. Where a peer does something
/// useful it is granted more than that, up to [`MOST`].
#[derive(Debug, Clone, Copy)]
struct Grant {
    burst: u32,
    per_second: u32,
}

/// Streams that end before there was an answer (CVE-2023-44487), and those that we are made to reset (CVE-2025-8671).
/// 256 streams may be open, so who gives each of them half a second never gets there.
const RESETS: Grant = Grant { burst: 1000, per_second: 500 };
/// Pings, settings, priorities, and frames that nobody knows. A keep-alive is one in seconds, a browser sends a handful.
const CONTROLS: Grant = Grant { burst: 500, per_second: 100 };
/// Room for data. Each stream may be granted some at once.
const WINDOWS: Grant = Grant { burst: 1000, per_second: 100 };

/// What can be saved up of one kind.
const MOST: u32 = 1 << 16;
/// Window updates for each DATA frame that the peer got: one for the stream, one for the connection, in small steps.
const WINDOWS_PER_DATA: u32 = 10;
/// Window updates for each head, whoever sends it: a stream begins.
const WINDOWS_PER_HEAD: u32 = 2;
/// Priorities for each head that the peer sends.
const CONTROLS_PER_HEAD: u32 = 4;

/// What is left of a grant.
#[derive(Debug)]
struct Budget {
    grant: Grant,
    left: u32,
    /// Until when it has been granted by time.
    until: Instant,
}

impl Budget {
    fn new(grant: Grant, now: Instant) -> Self {
        Self { grant, left: grant.burst, until: now }
    }

    fn credit(&mut self, count: u32) {
        self.left = self.left.saturating_add(count).min(MOST.max(self.grant.burst));
    }

    /// Takes one; false where none is left. The clock is looked at only when what was granted is used up.
    fn take(&mut self, now: impl FnOnce() -> Instant) -> bool {
        if self.left == 0 {
            let now = now();
            let passed = now.saturating_duration_since(self.until);
            let gained = passed.as_millis().saturating_mul(self.grant.per_second.into()) / 1000;
            if gained == 0 {
                return false;
            }
            self.left = u32::try_from(gained).unwrap_or(u32::MAX).min(self.grant.burst);
            self.until = now;
        }
        self.left -= 1;
        true
    }
}

/// What a peer has left of each kind of frame.
#[derive(Debug)]
pub struct Flood {
    resets: Budget,
    controls: Budget,
    windows: Budget,
    /// Whether resets that we send are of the peer's making.
    provoked: bool,
}

impl Flood {
    /// What a client has at `now`: a stream that we reset before its answer began is one that it broke.
    pub fn of_client(now: Instant) -> Self {
        Self {
            resets: Budget::new(RESETS, now),
            controls: Budget::new(CONTROLS, now),
            windows: Budget::new(WINDOWS, now),
            provoked: true,
        }
    }

    /// What an endpoint has at `now`: streams that we reset are those that our clients gave up.
    pub fn of_endpoint(now: Instant) -> Self {
        Self { provoked: false, ..Self::of_client(now) }
    }

    /// Counts a frame of the peer; whether that was one that it may send.
    pub fn came(&mut self, frame: FrameHead, now: impl FnOnce() -> Instant) -> bool {
        match frame.kind {
            // How many there may be in a head is the library's business, as are empty DATA frames.
            FrameKind::Data | FrameKind::Continuation | FrameKind::PushPromise => true,
            FrameKind::Headers => {
                self.controls.credit(CONTROLS_PER_HEAD);
                self.windows.credit(WINDOWS_PER_HEAD);
                true
            }
            FrameKind::Reset => self.resets.take(now),
            FrameKind::WindowUpdate => self.windows.take(now),
            FrameKind::Ping
            | FrameKind::Settings
            | FrameKind::Priority
            | FrameKind::GoAway
            | FrameKind::Other => self.controls.take(now),
        }
    }

    /// Counts a frame of ours; whether it is one that the peer may make us send.
    pub fn went(&mut self, frame: FrameHead, now: impl FnOnce() -> Instant) -> bool {
        match frame.kind {
            FrameKind::Data => {
                self.windows.credit(WINDOWS_PER_DATA);
                // Who measures how fast it may go sends a ping with each window of data.
                self.controls.credit(1);
            }
            FrameKind::Headers => {
                self.resets.credit(1);
                self.windows.credit(WINDOWS_PER_HEAD);
                self.controls.credit(1);
            }
            FrameKind::Reset if self.provoked => return self.resets.take(now),
            _ => {}
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Long enough for every budget to be full again.
    const REST: Duration = Duration::from_mins(1);

    fn head(kind: FrameKind) -> FrameHead {
        FrameHead { kind, length: 8 }
    }

    /// How many of `kind` are taken at `now`.
    fn taken(flood: &mut Flood, kind: FrameKind, now: Instant) -> u32 {
        (0..=2 * MOST).find(|_| !flood.came(head(kind), || now)).unwrap()
    }

    #[test]
    fn frames_over_the_budget_are_refused_and_time_grants_new_ones() {
        let start = Instant::now();
        for (kind, grant) in [
            (FrameKind::Reset, RESETS),
            (FrameKind::Ping, CONTROLS),
            (FrameKind::Settings, CONTROLS),
            (FrameKind::Priority, CONTROLS),
            (FrameKind::GoAway, CONTROLS),
            (FrameKind::Other, CONTROLS),
            (FrameKind::WindowUpdate, WINDOWS),
        ] {
            let mut flood = Flood::of_client(start);
            assert_eq!(taken(&mut flood, kind, start), grant.burst, "{kind:?}");
            assert_eq!(taken(&mut flood, kind, start), 0);
            let second = start + Duration::from_secs(1);
            assert_eq!(taken(&mut flood, kind, second), grant.per_second);
            assert_eq!(taken(&mut flood, kind, second + REST), grant.burst, "no more than at first");
        }
    }

    #[test]
    fn frames_that_carry_something_are_never_refused() {
        let start = Instant::now();
        let mut flood = Flood::of_client(start);
        for kind in [FrameKind::Data, FrameKind::Headers, FrameKind::Continuation] {
            assert!((0..100_000).all(|_| flood.came(head(kind), || start)), "{kind:?}");
        }
    }

    #[test]
    fn peer_that_takes_data_may_ping_and_open_windows_for_it() {
        let start = Instant::now();
        let mut flood = Flood::of_client(start);
        for _ in 0..1_000_000 {
            assert!(flood.went(head(FrameKind::Data), || start));
            assert!(flood.came(head(FrameKind::Ping), || start));
            assert!(flood.came(head(FrameKind::WindowUpdate), || start));
            assert!(flood.came(head(FrameKind::WindowUpdate), || start));
        }
        let saved = taken(&mut flood, FrameKind::WindowUpdate, start);
        assert_eq!(saved, MOST - 2, "what can be saved up is bounded");
    }

    #[test]
    fn reset_of_an_answered_stream_is_free_and_one_that_we_are_made_to_send_is_not() {
        let start = Instant::now();
        let mut flood = Flood::of_client(start);
        for _ in 0..100_000 {
            assert!(flood.went(head(FrameKind::Headers), || start));
            assert!(flood.came(head(FrameKind::Reset), || start));
        }
        let made = (0..=2 * MOST).find(|_| !flood.went(head(FrameKind::Reset), || start)).unwrap();
        assert_eq!(made, RESETS.burst);
        let mut flood = Flood::of_endpoint(start);
        assert!((0..100_000).all(|_| flood.went(head(FrameKind::Reset), || start)), "our clients gave up");
    }

    #[test]
    fn frames_at_the_granted_pace_are_taken_for_ever() {
        let start = Instant::now();
        let mut flood = Flood::of_client(start);
        for tick in 0..100_000 {
            let now = start + Duration::from_millis(10) * tick;
            assert!(flood.came(head(FrameKind::Ping), || now), "ping {tick}");
            assert!((0..5).all(|_| flood.came(head(FrameKind::Reset), || now)), "resets {tick}");
        }
    }
}
