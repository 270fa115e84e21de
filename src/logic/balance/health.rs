//! What is known of an endpoint, and what each thing that happens makes of it: a pure machine, small enough for one
//! word of memory, so that every worker reads it with one load and changes it with one exchange. Where the word stands
//! and who tells it what: `upstream/vitals`. Which endpoints are used when too many are out: `upstream/choice`.

use std::time::Duration;

use crate::types::Share;

/// A time in hundredths of a second since an epoch that the caller keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Tick(u64);

/// The bits of a [`Tick`]: 10 years.
const TICK_BITS: u32 = 35;
const TICK_MASK: u64 = (1 << TICK_BITS) - 1;

impl Tick {
    /// The time `since` the epoch, rounded up.
    pub fn after(since: Duration) -> Self {
        Self(u64::try_from(since.as_millis().div_ceil(10)).unwrap_or(TICK_MASK).min(TICK_MASK))
    }

    /// The time that is `duration` later.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self((self.0 + Self::after(duration).0).min(TICK_MASK))
    }

    /// How long after `earlier` it is; nothing where it is not.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0) * 10)
    }
}

/// Whether an endpoint gets requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum State {
    /// It does.
    #[default]
    Passing,
    /// It does not.
    Ejected,
    /// It may have one at a time, to see.
    Probing,
}

impl State {
    /// The word for it, in logs and on pages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Passing => "passing",
            Self::Ejected => "ejected",
            Self::Probing => "probing",
        }
    }
}

/// Why an endpoint is ejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cause {
    /// It could not be connected to, broke off or did not answer.
    #[default]
    Unreachable,
    /// It answered with errors, or with more of them than the others.
    Outlier,
    /// Its health check says so.
    Unhealthy,
}

impl Cause {
    /// Every cause.
    pub const ALL: [Self; 3] = [Self::Unreachable, Self::Outlier, Self::Unhealthy];

    /// The word for it, in labels, logs and on pages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Outlier => "outlier",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// When endpoints are ejected by what becomes of their requests, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ejection {
    /// So many requests in a row without a response; 0 is never.
    pub failures: u8,
    /// So many responses 502, 503 or 504 in a row; 0 is never.
    pub gateway_errors: u8,
    /// So many responses 5xx in a row; 0 is never.
    pub server_errors: u8,
    /// How long the first time, and twice as long each time after.
    pub time: Duration,
    /// … but no longer than this.
    pub max_time: Duration,
    /// The part of an upstream that may be out; when it is more, all are used.
    pub max_ejected: Share,
    /// Whether the success rate of each is compared to that of the others.
    pub success_rate: Option<SuccessRate>,
}

/// When the success rate of an endpoint is out of line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SuccessRate {
    /// How often they are compared.
    pub interval: Duration,
    /// How many requests an endpoint, and all others together, must have had in that time.
    pub min_requests: u32,
    /// How far below that of all others together it may be.
    pub margin: Share,
}

impl Default for Ejection {
    fn default() -> Self {
        Self {
            failures: 3,
            gateway_errors: 5,
            server_errors: 0,
            time: Duration::from_secs(3),
            max_time: Duration::from_mins(5),
            max_ejected: Share::from_ppm(Share::WHOLE / 2).unwrap_or(Share::ALL),
            success_rate: Some(SuccessRate {
                interval: Duration::from_secs(10),
                min_requests: 100,
                margin: Share::from_ppm(Share::WHOLE / 4).unwrap_or(Share::ALL),
            }),
        }
    }
}

impl Ejection {
    /// How long the `count`-th ejection in a row lasts; `count` is from 1.
    pub fn duration(&self, count: u8) -> Duration {
        let doublings = u32::from(count.saturating_sub(1)).min(20);
        self.time.saturating_mul(1 << doublings).min(self.max_time.max(self.time))
    }
}

/// What happens to an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// It answered well.
    Succeeded,
    /// It answered 502, 503 or 504.
    GatewayError,
    /// It answered with another 5xx.
    ServerError,
    /// It could not be connected to, broke off or did not answer.
    Failed,
    /// It is too far from the others.
    OutOfLine,
    /// It could be connected to, though no request was sent.
    Reached,
    /// A request is sent to see whether it is back. Refused (nothing changes) where it is not due.
    Probe,
    /// Its health check says that it is well.
    CheckPassed,
    /// Its health check says that it is not.
    CheckFailed,
    /// It is in a list of endpoints that was serving without it.
    Joined,
    /// Its slow start is over.
    Warm,
}

/// What is known of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Health {
    /// What its requests say.
    state: State,
    /// Why it is ejected or probed.
    cause: Cause,
    /// Whether its health check says that it is not well.
    is_down: bool,
    /// Whether it begins slowly.
    is_warming: bool,
    /// Whether the probe that is due is under way.
    is_claimed: bool,
    /// Failures in a row, up to 31.
    failures: u8,
    /// Gateway errors in a row, up to 31.
    gateway_errors: u8,
    /// Server errors in a row, gateway errors too, up to 31.
    server_errors: u8,
    /// Ejections in a row, up to 15.
    ejections: u8,
    /// Passing: since when. Ejected: until when. Probing: since when it is due; once claimed, until when.
    at: Tick,
}

/// The most that is counted in a row.
pub const MOST_IN_A_ROW: u8 = 31;
const MOST_EJECTIONS: u8 = 15;

/// How long a probe that nobody hears of again is waited for.
const PROBE: Duration = Duration::from_secs(10);

/// How long a probe waits for a request that may be sent again elsewhere, before any request will do.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long an endpoint must have passed before its next ejection counts as its first, at least.
const FORGIVEN: Duration = Duration::from_secs(30);

impl Health {
    /// An endpoint of which nothing is known; it passes since `now`.
    pub fn new(now: Tick) -> Self {
        Self { at: now, ..Self::default() }
    }

    /// One of which nothing is to be thought before its first check.
    pub fn unchecked(now: Tick) -> Self {
        Self { is_down: true, ..Self::new(now) }
    }

    /// Whether it gets requests, and why not.
    pub fn state(&self) -> State {
        if self.is_down { State::Ejected } else { self.state }
    }

    /// Why it is out; `None` where it passes.
    pub fn cause(&self) -> Option<Cause> {
        match self.state {
            _ if self.is_down => Some(Cause::Unhealthy),
            State::Passing => None,
            State::Ejected | State::Probing => Some(self.cause),
        }
    }

    /// Whether it passes and nothing is held against it: nothing is learnt from another success.
    pub fn is_settled(&self) -> bool {
        self.is_plain() && self.failures == 0 && self.server_errors == 0
    }

    /// Whether it passes with its whole weight: who chooses need not look any further.
    pub fn is_plain(&self) -> bool {
        self.state == State::Passing && !self.is_down && !self.is_warming
    }

    /// How long it is out at least, by what its requests say.
    pub fn out_for(&self, now: Tick) -> Duration {
        if self.state == State::Ejected { self.at.since(now) } else { Duration::ZERO }
    }

    /// Since when it begins slowly, if it does.
    pub fn warming_since(&self) -> Option<Tick> {
        (self.is_warming && self.state() == State::Passing).then_some(self.at)
    }

    /// Whether it may be connected to, to see: it was not reached, and its time is over.
    pub fn is_to_be_reached(&self, now: Tick) -> bool {
        self.state == State::Ejected && self.cause == Cause::Unreachable && now >= self.at
    }

    /// Whether a request may be sent to see whether it is back. `is_spare` is a request that can be sent again elsewhere;
    /// others come where none of those came for long.
    pub fn is_probe_due(&self, now: Tick, is_spare: bool) -> bool {
        let patience = if is_spare { Duration::ZERO } else { PATIENCE };
        !self.is_down
            && match self.state {
                State::Passing => false,
                // Of one that was not reached, a connection tells first.
                State::Ejected => self.cause != Cause::Unreachable && now >= self.at.plus(patience),
                State::Probing if self.is_claimed => now >= self.at,
                State::Probing => now >= self.at.plus(patience),
            }
    }

    /// What `event` at `now` makes of it.
    #[must_use]
    pub fn after(self, event: Event, policy: &Ejection, now: Tick, slow_start: bool) -> Self {
        let next = self.step(event, policy, now, slow_start);
        next.check_invariants();
        next
    }

    fn step(mut self, event: Event, policy: &Ejection, now: Tick, slow_start: bool) -> Self {
        let reaches = |count: u8, limit: u8| limit > 0 && count >= limit.min(MOST_IN_A_ROW);
        match event {
            Event::Succeeded => {
                (self.failures, self.gateway_errors, self.server_errors) = (0, 0, 0);
                if self.state == State::Probing {
                    self = self.back(now, slow_start);
                }
            }
            Event::GatewayError | Event::ServerError => {
                let is_gateway = event == Event::GatewayError;
                self.failures = 0;
                self.gateway_errors = if is_gateway { more(self.gateway_errors) } else { 0 };
                self.server_errors = more(self.server_errors);
                let counts = (policy.server_errors > 0) || (is_gateway && policy.gateway_errors > 0);
                let is_too_much = reaches(self.gateway_errors, policy.gateway_errors)
                    || reaches(self.server_errors, policy.server_errors);
                match self.state {
                    State::Passing if is_too_much => self = self.ejected(Cause::Outlier, policy, now),
                    State::Probing if counts && self.cause == Cause::Outlier => {
                        self = self.ejected(Cause::Outlier, policy, now);
                    }
                    // It answers: that is what was in doubt.
                    State::Probing => self = self.back(now, slow_start),
                    State::Passing | State::Ejected => {}
                }
            }
            Event::Failed => {
                self.failures = more(self.failures);
                let is_too_much = reaches(self.failures, policy.failures);
                let is_probe = self.state == State::Probing && policy.failures > 0;
                if (self.state == State::Passing && is_too_much) || is_probe {
                    self = self.ejected(Cause::Unreachable, policy, now);
                } else if self.state == State::Probing {
                    self = self.back(now, slow_start);
                }
            }
            Event::OutOfLine if self.state == State::Passing => {
                self = self.ejected(Cause::Outlier, policy, now);
            }
            Event::Reached if self.is_to_be_reached(now) => {
                (self.state, self.is_claimed, self.at) = (State::Probing, false, now);
            }
            Event::Probe if self.is_probe_due(now, true) => {
                (self.state, self.is_claimed, self.at) = (State::Probing, true, now.plus(PROBE));
            }
            Event::CheckPassed if self.is_down => {
                self.is_down = false;
                if self.state == State::Passing {
                    (self.at, self.is_warming) = (now, slow_start);
                }
            }
            Event::CheckFailed => self.is_down = true,
            Event::Joined => (self.at, self.is_warming) = (now, slow_start),
            Event::Warm => self.is_warming = false,
            Event::OutOfLine | Event::Reached | Event::Probe | Event::CheckPassed => {}
        }
        self
    }

    fn back(mut self, now: Tick, slow_start: bool) -> Self {
        if self.cause == Cause::Unreachable {
            // A restart is no bad habit: to find out whether it is back, a connection was made, and no request was risked.
            self.ejections /= 2;
        }
        (self.state, self.is_claimed, self.at) = (State::Passing, false, now);
        (self.failures, self.gateway_errors, self.server_errors) = (0, 0, 0);
        self.is_warming = slow_start;
        self
    }

    fn ejected(mut self, cause: Cause, policy: &Ejection, now: Tick) -> Self {
        if self.state == State::Passing {
            let last = policy.duration(self.ejections.max(1));
            if now.since(self.at) > (last * 2).max(FORGIVEN) {
                self.ejections = 0;
            }
        }
        self.ejections = (self.ejections + 1).min(MOST_EJECTIONS);
        (self.state, self.cause, self.is_claimed, self.is_warming) = (State::Ejected, cause, false, false);
        self.at = now.plus(policy.duration(self.ejections));
        (self.failures, self.gateway_errors, self.server_errors) = (0, 0, 0);
        self
    }

    /// The word that says all of it.
    pub fn pack(self) -> u64 {
        let flags =
            u64::from(self.is_down) | u64::from(self.is_warming) << 1 | u64::from(self.is_claimed) << 2;
        let mut word = self.at.0;
        let mut shift = TICK_BITS;
        let mut put = |value: u64, bits: u32| {
            word |= value << shift;
            shift += bits;
        };
        put(self.state as u64, 2);
        put(self.cause as u64, 2);
        put(flags, 3);
        put(u64::from(self.failures), 5);
        put(u64::from(self.gateway_errors), 5);
        put(u64::from(self.server_errors), 5);
        put(u64::from(self.ejections), 4);
        word
    }

    /// What [`Health::pack`] has packed.
    pub fn unpack(word: u64) -> Self {
        let mut shift = TICK_BITS;
        let mut get = |bits: u32| {
            let value = (word >> shift) & ((1 << bits) - 1);
            shift += bits;
            u8::try_from(value).unwrap_or_default()
        };
        let state = match get(2) {
            0 => State::Passing,
            1 => State::Ejected,
            _ => State::Probing,
        };
        let cause = match get(2) {
            0 => Cause::Unreachable,
            1 => Cause::Outlier,
            _ => Cause::Unhealthy,
        };
        let flags = get(3);
        Self {
            state,
            cause,
            is_down: flags & 1 != 0,
            is_warming: flags & 2 != 0,
            is_claimed: flags & 4 != 0,
            failures: get(5),
            gateway_errors: get(5),
            server_errors: get(5),
            ejections: get(4),
            at: Tick(word & TICK_MASK),
        }
    }

    fn check_invariants(&self) {
        debug_assert!(self.failures <= MOST_IN_A_ROW && self.server_errors <= MOST_IN_A_ROW, "{self:?}");
        debug_assert!(self.gateway_errors <= self.server_errors, "{self:?}");
        debug_assert!(self.ejections <= MOST_EJECTIONS, "{self:?}");
        debug_assert!(!self.is_claimed || self.state == State::Probing, "{self:?}");
        debug_assert!(self.cause != Cause::Unhealthy, "that is what `is_down` says: {self:?}");
    }
}

fn more(count: u8) -> u8 {
    (count + 1).min(MOST_IN_A_ROW)
}

/// Whether all endpoints are used that are not well by their requests alone: because more of them are ejected than may
/// be, or all. `causes` says for each endpoint why it is out, if it is; those that a health check has taken out count only
/// where it has taken out all.
pub fn is_panic(causes: impl Iterator<Item = Option<Cause>>, policy: &Ejection) -> bool {
    let (mut out, mut all, mut down) = (0_u64, 0_u64, 0_u64);
    for cause in causes {
        match cause {
            Some(Cause::Unhealthy) => down += 1,
            cause => {
                all += 1;
                out += u64::from(cause.is_some());
            }
        }
    }
    let allowed = u64::from(policy.max_ejected.ppm()).saturating_mul(all);
    let is_more = out.saturating_mul(u64::from(Share::WHOLE)) > allowed;
    is_more || (out > 0 && out == all) || (all == 0 && down > 0)
}

/// Which of `endpoints` (requests, and those of them that failed, in the same time) succeed too seldom, beside all others
/// together.
pub fn out_of_line(endpoints: &[(u32, u32)], policy: &SuccessRate) -> Vec<usize> {
    let whole = u128::from(Share::WHOLE);
    let sum =
        |of: fn(&(u32, u32)) -> u32| endpoints.iter().map(|endpoint| u128::from(of(endpoint))).sum::<u128>();
    let all = (sum(|(requests, _)| *requests), sum(|(_, failures)| *failures));
    let is_out = |(index, &(requests, failures)): (usize, &(u32, u32))| {
        let (requests, failures) = (u128::from(requests), u128::from(failures));
        let others = (all.0 - requests, all.1.saturating_sub(failures));
        let least = u128::from(policy.min_requests.max(1));
        let counts = requests >= least && others.0 >= least;
        // failures / requests > failures / requests of the others + margin, without a division.
        let ours = failures * others.0 * whole;
        let theirs = others.1 * requests * whole + u128::from(policy.margin.ppm()) * requests * others.0;
        (counts && ours > theirs).then_some(index)
    };
    endpoints.iter().enumerate().filter_map(is_out).collect()
}

#[cfg(test)]
mod tests;
