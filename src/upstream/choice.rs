//! The choice among a worker's endpoints, and what is remembered for it. The policies are pure, in `logic/balance`: here
//! they are told what there is.
//!
//! While all endpoints are alike, and none is ejected, begins slowly or has failed just now, nothing of them is looked at
//! but the load of two.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::local::Endpoint;
use super::{Address, Resolved, Upstream};
use crate::config::model;
use crate::logic::balance::pick::WHOLE;
use crate::logic::balance::{
    Candidate, Cause, Event, Latency, Maglev, Policy, Setback, State, alike, choose, health, setback, turns,
    zone,
};
use crate::net::clock;

/// What a request needs of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Somebody must have it: where too many endpoints are ejected, all are used.
    Somebody,
    /// Another upstream has it where no endpoint takes it: those that cannot be reached, or whose health check says that
    /// they are not well, are never used.
    Usable,
}

/// What is known of a request that is to get an endpoint.
#[derive(Debug, Clone, Copy)]
pub struct Wish {
    /// What it needs.
    pub needs: Needs,
    /// Whether it can be sent again elsewhere, so that it may be used to see whether an endpoint is back.
    pub is_spare: bool,
    /// Its hash, where the upstream balances by it.
    pub hash: Option<u64>,
}

/// The endpoints of a list by hash; shared by all workers.
#[derive(Debug)]
pub(super) struct ByHash {
    /// The list.
    pub(super) endpoints: Arc<Vec<Resolved>>,
    table: Maglev,
}

impl ByHash {
    /// The table of `endpoints`, where `settings` need one. What counts of an endpoint is its address.
    pub(super) fn of(settings: &model::Upstream, endpoints: &Arc<Vec<Resolved>>) -> Option<Arc<Self>> {
        if settings.balance != Policy::Hash {
            return None;
        }
        let names: Vec<_> = endpoints.iter().map(|endpoint| name(&endpoint.address)).collect();
        let weights =
            endpoints.iter().map(|endpoint| placed(settings, endpoint).map_or(1, |placed| placed.weight));
        let table = Maglev::new(names.iter().map(String::as_str).zip(weights));
        Some(Arc::new(Self { endpoints: Arc::clone(endpoints), table }))
    }
}

/// The address as text, the same on every replica.
fn name(address: &Address) -> String {
    match address {
        Address::Tcp(address) => address.to_string(),
        Address::Unix(path) => format!("unix:{}", path.display()),
    }
}

/// What the configuration says of `endpoint`.
fn placed<'s>(settings: &'s model::Upstream, endpoint: &Resolved) -> Option<&'s model::Endpoint> {
    settings.endpoints.iter().find(|placed| placed.address == endpoint.configured)
}

/// What a worker remembers of an upstream, to choose among its endpoints.
#[derive(Debug)]
pub(super) struct Memory {
    epoch: Instant,
    /// Until when a failure counts for somebody.
    is_sore: Cell<Option<Duration>>,
}

impl Memory {
    pub(super) fn new() -> Rc<Self> {
        Rc::new(Self { epoch: Instant::now(), is_sore: Cell::new(None) })
    }

    fn now(&self) -> Duration {
        clock::now().saturating_duration_since(self.epoch)
    }

    /// Whether a failure counts for somebody; forgets it once it does not.
    fn is_sore(&self) -> bool {
        let Some(until) = self.is_sore.get() else { return false };
        let is_sore = self.now() < until;
        if !is_sore {
            self.is_sore.set(None);
        }
        is_sore
    }
}

/// What the choice needs to know of an endpoint.
#[derive(Debug)]
pub(super) struct Standing {
    memory: Rc<Memory>,
    policy: Policy,
    weight: u32,
    /// Whether it is in the proxy's own zone.
    is_near: bool,
    credit: Cell<i64>,
    latency: Cell<Latency>,
    setback: Cell<Setback>,
}

impl Standing {
    pub(super) fn new(settings: &model::Upstream, endpoint: &Resolved, memory: &Rc<Memory>) -> Self {
        let placed = placed(settings, endpoint);
        let weight = placed.map_or(1, |placed| placed.weight).saturating_mul(WHOLE);
        let is_in = |zone| placed.is_some_and(|placed| placed.zone.as_ref() == Some(zone));
        Self {
            memory: Rc::clone(memory),
            policy: settings.balance,
            weight,
            is_near: settings.zone.as_ref().is_some_and(is_in),
            credit: Cell::new(turns::begin(weight, fastrand::u64(..))),
            latency: Cell::default(),
            setback: Cell::default(),
        }
    }

    /// When a request is sent, where it matters how long it takes.
    pub(super) fn sent(&self) -> Option<Instant> {
        (self.policy == Policy::PeakEwma).then(clock::now)
    }

    /// Notes that the response of what was `sent` has begun.
    pub(super) fn answered(&self, sent: Option<Instant>) {
        if let Some(sent) = sent {
            let taken = clock::now().saturating_duration_since(sent);
            self.latency.set(self.latency.get().answered(taken, self.memory.now()));
        }
    }

    /// Notes that a request has failed: it may have been quick about it.
    pub(super) fn failed(&self) {
        match self.policy {
            Policy::PeakEwma => {
                self.latency.set(self.latency.get().failed(Duration::ZERO, self.memory.now()));
            }
            Policy::LeastRequest => {
                let now = self.memory.now();
                self.setback.set(self.setback.get().failed(now));
                self.memory.is_sore.set(Some(now + setback::FORGOTTEN));
            }
            Policy::RoundRobin | Policy::Hash => {}
        }
    }

    fn cost(&self, in_flight: u32, now: Duration) -> f64 {
        self.latency.get().seconds(in_flight, now) * (f64::from(in_flight) + 1.0)
    }
}

/// How a worker chooses among the endpoints of an upstream.
#[derive(Debug)]
pub(super) struct Chooser {
    pub(super) memory: Rc<Memory>,
    /// Whether the endpoints are the same but for their load.
    are_alike: Cell<bool>,
    by_hash: RefCell<Option<Arc<ByHash>>>,
    turn: Cell<usize>,
    /// Kept for its memory alone.
    candidates: RefCell<Vec<Candidate>>,
}

impl Chooser {
    pub(super) fn new() -> Self {
        Self {
            memory: Memory::new(),
            are_alike: Cell::new(false),
            by_hash: RefCell::default(),
            // Workers do not all begin with the same one.
            turn: Cell::new(fastrand::usize(..)),
            candidates: RefCell::default(),
        }
    }

    /// Takes note of another list of endpoints; `by_hash` is of the same list.
    pub(super) fn renew(
        &self,
        settings: &model::Upstream,
        endpoints: &[Rc<Endpoint>],
        by_hash: Option<Arc<ByHash>>,
    ) {
        let weight = endpoints.first().map(|endpoint| endpoint.standing.weight);
        let are_even = endpoints.iter().all(|endpoint| Some(endpoint.standing.weight) == weight);
        self.are_alike.set(are_even && settings.zone.is_none() && by_hash.is_none());
        self.by_hash.replace(by_hash);
    }

    /// The endpoint for a request that has tried `tried` already, or `None` when none is left.
    pub(super) fn choose(
        &self,
        upstream: &Upstream,
        endpoints: &[Rc<Endpoint>],
        tried: &[Rc<Endpoint>],
        random: u64,
        wish: Wish,
    ) -> Option<Rc<Endpoint>> {
        let policy = upstream.settings.balance;
        let is_plain = upstream.ward().is_plain();
        let chosen = if tried.is_empty() && is_plain && self.are_alike.get() && !self.memory.is_sore() {
            let turn = self.turn.get();
            self.turn.set(turn.wrapping_add(1));
            let count = endpoints.len();
            if policy == Policy::PeakEwma {
                let now = self.memory.now();
                let cost = |index: usize| {
                    endpoints.get(index).map_or(f64::MAX, |one| one.standing.cost(one.in_flight(), now))
                };
                alike(policy, count, &[], cost, turn, random)
            } else {
                let load = |index: usize| endpoints.get(index).map_or(u32::MAX, |one| one.in_flight());
                alike(policy, count, &[], load, turn, random)
            }
        } else {
            if !is_plain && let Some(probed) = probed(endpoints, tried, wish) {
                return Some(Rc::clone(probed));
            }
            let is_whole = is_plain && tried.is_empty();
            let out =
                if is_whole { Vec::new() } else { excluded(endpoints, tried, wish, &upstream.settings) };
            if out.len() == endpoints.len() {
                return None;
            }
            self.of_hash(wish, &out).or_else(|| self.among(upstream, endpoints, &out, random))
        };
        chosen.map(|index| Rc::clone(&endpoints[index]))
    }

    /// The endpoint of the request's hash, if it has one; `out` are not to be used, in order.
    fn of_hash(&self, wish: Wish, out: &[usize]) -> Option<usize> {
        let by_hash = self.by_hash.borrow();
        by_hash.as_ref()?.table.look_up(wish.hash?, |number| out.binary_search(&number).is_err())
    }

    /// One of those that are not `out`, by weight and zone.
    fn among(
        &self,
        upstream: &Upstream,
        endpoints: &[Rc<Endpoint>],
        out: &[usize],
        random: u64,
    ) -> Option<usize> {
        let settings = &*upstream.settings;
        let now = self.memory.now();
        let mut candidates = self.candidates.borrow_mut();
        candidates.clear();
        let (mut near, mut far) = (zone::Level::default(), zone::Level::default());
        for (index, endpoint) in endpoints.iter().enumerate() {
            let standing = &endpoint.standing;
            let health = endpoint.health();
            if settings.zone.is_some() {
                let level = if standing.is_near { &mut near } else { &mut far };
                *level = level.with(standing.weight, health.state() == State::Passing);
            }
            if out.binary_search(&index).is_ok() {
                continue;
            }
            let warming = settings.slow_start.zip(health.warming_since());
            let weight = warming.map_or(standing.weight, |(slow, since)| {
                slow.weight(standing.weight, endpoint.tick().since(since))
            });
            candidates.push(Candidate {
                index,
                weight,
                in_flight: endpoint.in_flight().saturating_add(standing.setback.get().load(now)),
                seconds: standing.latency.get().seconds(endpoint.in_flight(), now),
                credit: standing.credit.get(),
            });
        }
        if settings.zone.is_some() {
            let is_near = |candidate: &Candidate| endpoints[candidate.index].standing.is_near;
            let count = candidates.iter().filter(|candidate| is_near(candidate)).count();
            // Where one level has nobody who may be used, the other takes it.
            if count > 0 && count < candidates.len() {
                let stays = zone::stays(near, far, random);
                candidates.retain(|candidate| is_near(candidate) == stays);
            }
        }
        let chosen = choose(settings.balance, &mut candidates, random);
        if settings.balance == Policy::RoundRobin {
            for candidate in candidates.iter() {
                endpoints[candidate.index].standing.credit.set(candidate.credit);
            }
        }
        chosen.map(|place| candidates[place].index)
    }
}

/// An endpoint that a request with this `wish` is sent to, to see whether it is back.
fn probed<'a>(endpoints: &'a [Rc<Endpoint>], tried: &[Rc<Endpoint>], wish: Wish) -> Option<&'a Rc<Endpoint>> {
    endpoints.iter().find(|endpoint| {
        let health = endpoint.health();
        health.state() != State::Passing
            && health.is_probe_due(endpoint.tick(), wish.is_spare)
            && !tried.iter().any(|tried| Rc::ptr_eq(tried, endpoint))
            && endpoint.tell(Event::Probe)
    })
}

/// The places of the `endpoints` that a request with this `wish` is not sent to.
///
/// Those whose health check says that they are not well are used where it says so of all. Of the others, all are used
/// where more are ejected than may be; but nobody whom another upstream stands in for waits for those that are not
/// reached.
pub(super) fn excluded(
    endpoints: &[Rc<Endpoint>],
    tried: &[Rc<Endpoint>],
    wish: Wish,
    settings: &model::Upstream,
) -> Vec<usize> {
    let is_tried = |endpoint: &Rc<Endpoint>| tried.iter().any(|tried| Rc::ptr_eq(tried, endpoint));
    let causes: Vec<_> = endpoints.iter().map(|endpoint| endpoint.health().cause()).collect();
    let is_panic = health::is_panic(causes.iter().copied(), &settings.ejection);
    let are_all_down = causes.iter().all(|cause| *cause == Some(Cause::Unhealthy));
    let is_excluded = |(endpoint, cause): (&Rc<Endpoint>, &Option<Cause>)| {
        is_tried(endpoint)
            || match (wish.needs, cause) {
                (_, None) => false,
                (Needs::Usable, Some(Cause::Unhealthy | Cause::Unreachable)) => true,
                (Needs::Somebody, Some(Cause::Unhealthy)) => !are_all_down,
                (Needs::Usable | Needs::Somebody, Some(_)) => !is_panic,
            }
    };
    let excluded = endpoints.iter().zip(&causes).map(is_excluded).enumerate();
    excluded.filter(|(_, is_excluded)| *is_excluded).map(|(index, _)| index).collect()
}

#[cfg(test)]
impl super::Local {
    fn is_sore(&self) -> bool {
        self.chooser().memory.is_sore()
    }
}

#[cfg(test)]
mod tests;
