//! Whether a request that failed is sent again: never where doing it twice may not be doing it once (RFC 9110 §9.2.2),
//! never more often than the budget has, and not at once where that would be more of what hurts. Where it is sent, and
//! that its body can be sent again, is for the caller.

use std::time::Duration;

use http::{Method, StatusCode};

use crate::types::{ByteSize, Share};

/// What became of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happened {
    /// No connection was made, or the endpoint said that it has not looked at the request.
    Untouched,
    /// The connection broke, or the stream was reset, before there was a response.
    Broken,
    /// There was no response in time.
    Silent,
    /// What came is no response.
    Garbled,
    /// There was a response.
    Answered(StatusCode),
}

/// Which responses are a reason to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Statuses {
    /// This one.
    One(StatusCode),
    /// 502, 503 and 504.
    GatewayErrors,
    /// All from 500 on.
    ServerErrors,
}

impl Statuses {
    fn has(self, status: StatusCode) -> bool {
        match self {
            Self::One(one) => one == status,
            Self::GatewayErrors => matches!(status.as_u16(), 502..=504),
            Self::ServerErrors => status.is_server_error(),
        }
    }
}

/// When a request is sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retries {
    /// Attempts in all; 1 or more.
    pub attempts: usize,
    /// Whether after [`Happened::Untouched`].
    pub on_connect: bool,
    /// Whether after [`Happened::Broken`].
    pub on_reset: bool,
    /// Whether after [`Happened::Silent`].
    pub on_timeout: bool,
    /// After which responses.
    pub on_statuses: Vec<Statuses>,
    /// Methods that may be repeated, though HTTP does not say so of them.
    pub methods: Vec<Method>,
    /// How long one attempt may take until its response begins.
    pub per_try: Option<Duration>,
    /// The largest request body that is kept to be sent again.
    pub max_body: ByteSize,
    /// How many there may be beside the requests.
    pub budget: BudgetPolicy,
    /// How long the first pause is at most.
    pub backoff: Duration,
    /// … and the longest.
    pub max_backoff: Duration,
    /// After how long without a response a second attempt is made beside the first.
    pub hedge: Option<Duration>,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            attempts: 2,
            on_connect: true,
            on_reset: true,
            on_timeout: false,
            on_statuses: Vec::new(),
            methods: Vec::new(),
            per_try: None,
            max_body: ByteSize(64 * 1024),
            budget: BudgetPolicy::default(),
            backoff: Duration::from_millis(25),
            max_backoff: Duration::from_millis(250),
            hedge: None,
        }
    }
}

impl Retries {
    /// Whether doing `method` twice is doing it once, as HTTP or the configuration says.
    pub fn is_repeatable(&self, method: &Method) -> bool {
        method.is_idempotent() || self.methods.contains(method)
    }

    /// Whether a request of this method is tried again after this.
    pub fn allows(&self, happened: Happened, method: &Method) -> bool {
        let is_listed = match happened {
            Happened::Untouched => return self.on_connect,
            Happened::Broken => self.on_reset,
            Happened::Silent => self.on_timeout,
            // It would say it again.
            Happened::Garbled => false,
            Happened::Answered(status) => self.on_statuses.iter().any(|statuses| statuses.has(status)),
        };
        is_listed && self.is_repeatable(method)
    }

    /// Whether the body of a request of this method may be needed a second time, though some of it was sent.
    pub fn may_replay(&self, method: &Method) -> bool {
        let after_sending = self.on_reset || self.on_timeout || !self.on_statuses.is_empty();
        self.attempts > 1 && (self.on_connect || (after_sending && self.is_repeatable(method)))
    }

    /// How long to wait before the `count`-th pause of a request, from 1: "full jitter", so that those who failed together
    /// do not come back together. `random` are random bits.
    pub fn pause(&self, count: u32, random: u64) -> Duration {
        let longest = self.backoff.saturating_mul(1 << count.saturating_sub(1).min(16)).min(self.max_backoff);
        let nanos = u64::try_from(longest.as_nanos()).unwrap_or(u64::MAX);
        let part = (u128::from(random) * (u128::from(nanos) + 1)) >> 64;
        Duration::from_nanos(u64::try_from(part).unwrap_or(nanos))
    }
}

/// How many further attempts there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BudgetPolicy {
    /// The part of the requests of the last seconds.
    pub share: Share,
    /// … and so many a second beside it.
    pub min_per_second: u32,
}

impl Default for BudgetPolicy {
    fn default() -> Self {
        Self { share: Share::from_ppm(200_000).unwrap_or(Share::ALL), min_per_second: 10 }
    }
}

/// How far back requests count for the budget, in seconds.
const WINDOW: usize = 10;

/// What is left of the budget for further attempts: a part of the requests of the last ten seconds, and some a second
/// beside it, less the attempts of those seconds.
#[derive(Debug, Clone, Default)]
pub struct Budget {
    /// For each of the last seconds: which one it is, what its requests brought in, what was spent, in parts per million
    /// of an attempt.
    seconds: [(u64, u64, u64); WINDOW],
}

impl Budget {
    fn second(&mut self, now: u64) -> &mut (u64, u64, u64) {
        let place = usize::try_from(now % WINDOW as u64).unwrap_or_default();
        let second = &mut self.seconds[place];
        if second.0 != now {
            *second = (now, 0, 0);
        }
        second
    }

    /// Notes a request at the second `now`.
    pub fn earn(&mut self, policy: &BudgetPolicy, now: u64) {
        self.second(now).1 += u64::from(policy.share.ppm());
    }

    /// Takes one further attempt at the second `now`, if there is one.
    pub fn spend(&mut self, policy: &BudgetPolicy, now: u64) -> bool {
        const ONE: u64 = 1_000_000;
        let since = now.saturating_sub(WINDOW as u64 - 1);
        let counts = |(second, ..): &&(u64, u64, u64)| (since..=now).contains(second);
        let (earned, spent) = self
            .seconds
            .iter()
            .filter(counts)
            .fold((0, 0), |(earned, spent), second| (earned + second.1, spent + second.2));
        let reserve = u64::from(policy.min_per_second) * WINDOW as u64 * ONE;
        let is_left = spent + ONE <= earned + reserve;
        if is_left {
            self.second(now).2 += ONE;
        }
        is_left
    }
}

#[cfg(test)]
mod tests;
