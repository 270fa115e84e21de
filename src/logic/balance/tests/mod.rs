//! How the policies spread requests: as distributions ([`shares`]), in a small world with slow, stalled and failing
//! endpoints ([`world`], [`simulation`]), and what a change of the endpoints moves ([`movement`]).

#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts of requests as parts of a whole"
)]

mod movement;
mod properties;
mod shares;
mod simulation;
mod world;

use super::pick::WHOLE;
use super::{Candidate, Policy};

const POLICIES: [Policy; 4] = [Policy::LeastRequest, Policy::PeakEwma, Policy::RoundRobin, Policy::Hash];

/// An idle endpoint of this weight.
fn idle(index: usize, weight: u32) -> Candidate {
    Candidate { index, weight: weight * WHOLE, in_flight: 0, seconds: 0.01, credit: 0 }
}

fn all_idle(weights: &[u32]) -> Vec<Candidate> {
    weights.iter().enumerate().map(|(index, weight)| idle(index, *weight)).collect()
}
