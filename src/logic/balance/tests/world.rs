//! A small world: requests come at random moments, endpoints serve a few at a time and let the others wait. Nothing in it
//! is real but the policies.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use super::super::{Candidate, Latency, Policy, Setback, choose};

/// What an endpoint does with a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Manner {
    /// It answers after so many milliseconds on average.
    Serves(f64),
    /// It never answers.
    Stalls,
    /// It refuses at once.
    Fails,
}

#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) policy: Policy,
    /// Each endpoint's weight and manner.
    pub(super) endpoints: Vec<(u32, Manner)>,
    /// Requests at a time that an endpoint serves.
    pub(super) servers: usize,
    /// Requests a second.
    pub(super) rate: f64,
    pub(super) requests: usize,
    pub(super) seed: u64,
    /// Whether failures count as load.
    pub(super) remembers_failures: bool,
}

/// How it went.
#[derive(Debug)]
pub(super) struct Told {
    /// The requests that each endpoint got.
    pub(super) taken: Vec<usize>,
    /// The most that were in flight at each.
    pub(super) most: Vec<u32>,
    /// How long each answered request took, in milliseconds, in order.
    taken_ms: Vec<f64>,
    /// Requests that failed.
    pub(super) failed: usize,
}

impl Told {
    /// The latency that so many percent of the requests did not exceed, in milliseconds.
    pub(super) fn percentile(&self, percent: f64) -> f64 {
        let last = self.taken_ms.len() - 1;
        self.taken_ms[(last as f64 * percent / 100.0) as usize]
    }

    /// The part of all requests that the endpoint got.
    pub(super) fn part(&self, endpoint: usize) -> f64 {
        self.taken[endpoint] as f64 / self.taken.iter().sum::<usize>() as f64
    }
}

#[derive(PartialEq, Eq, PartialOrd, Ord, Clone, Copy)]
struct End {
    at: u64,
    began: u64,
    endpoint: usize,
    failed: bool,
}

impl World {
    pub(super) fn run(&self) -> Told {
        let mut random = fastrand::Rng::with_seed(self.seed);
        let mut candidates: Vec<Candidate> = self
            .endpoints
            .iter()
            .enumerate()
            .map(|(index, (weight, _))| super::idle(index, *weight))
            .collect();
        let count = candidates.len();
        let mut known = vec![Latency::default(); count];
        let mut setbacks = vec![Setback::default(); count];
        let mut in_flight = vec![0u32; count];
        let mut busy: Vec<BinaryHeap<Reverse<u64>>> = vec![BinaryHeap::new(); count];
        let mut told = Told { taken: vec![0; count], most: vec![0; count], taken_ms: Vec::new(), failed: 0 };
        let mut ends = BinaryHeap::new();
        let mut now = 0u64;
        for _ in 0..self.requests {
            now += exponential(&mut random, 1e9 / self.rate);
            while let Some(Reverse(End { at, began, endpoint, failed })) = ends.peek().copied() {
                if at > now {
                    break;
                }
                ends.pop();
                in_flight[endpoint] -= 1;
                let (taken, at) = (Duration::from_nanos(at - began), Duration::from_nanos(at));
                if failed {
                    told.failed += 1;
                    known[endpoint] = known[endpoint].failed(taken, at);
                    setbacks[endpoint] = setbacks[endpoint].failed(at);
                } else {
                    told.taken_ms.push(taken.as_secs_f64() * 1e3);
                    known[endpoint] = known[endpoint].answered(taken, at);
                }
            }
            let moment = Duration::from_nanos(now);
            for (place, candidate) in candidates.iter_mut().enumerate() {
                candidate.seconds = known[place].seconds(in_flight[place], moment);
                candidate.in_flight = in_flight[place];
                if self.remembers_failures {
                    candidate.in_flight += setbacks[place].load(moment);
                }
            }
            let endpoint = choose(self.policy, &mut candidates, random.u64(..)).unwrap();
            in_flight[endpoint] += 1;
            told.taken[endpoint] += 1;
            told.most[endpoint] = told.most[endpoint].max(in_flight[endpoint]);
            let end = match self.endpoints[endpoint].1 {
                Manner::Stalls => continue,
                Manner::Fails => End { at: now + 100_000, began: now, endpoint, failed: true },
                Manner::Serves(mean) => {
                    let busy = &mut busy[endpoint];
                    let starts = if busy.len() < self.servers { now } else { busy.pop().unwrap().0.max(now) };
                    let at = starts + exponential(&mut random, mean * 1e6);
                    busy.push(Reverse(at));
                    End { at, began: now, endpoint, failed: false }
                }
            };
            ends.push(Reverse(end));
        }
        told.taken_ms.sort_by(f64::total_cmp);
        told
    }
}

fn exponential(random: &mut fastrand::Rng, mean: f64) -> u64 {
    (-mean * (1.0 - random.f64()).ln()) as u64
}
