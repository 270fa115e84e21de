//! One after the other, each as often as its weight says, and never more in a row than needed: smooth weighted round
//! robin, as nginx has it.
//!
//! With each request every candidate is credited with its weight, and the one with the most credit takes the request and
//! pays for all. So an endpoint of weight 5 beside two of weight 1 goes `a a b a c a a`, and not `a a a a a b c`.
//! Who is left out is neither credited nor charged: who comes back has nothing to catch up with.

use super::choices::Bits;
use super::pick::Candidate;

/// The place of the next of `candidates`, or `None` where there is none; what is owed to each is counted on.
pub fn next(candidates: &mut [Candidate]) -> Option<usize> {
    let total: i64 = candidates.iter().map(|candidate| i64::from(candidate.weight)).sum();
    let mut richest: Option<(usize, i64)> = None;
    for (place, candidate) in candidates.iter_mut().enumerate() {
        candidate.credit = candidate.credit.saturating_add(i64::from(candidate.weight));
        let is_barred = candidate.weight == 0 && total > 0;
        if !is_barred && richest.is_none_or(|(_, most)| candidate.credit > most) {
            richest = Some((place, candidate.credit));
        }
    }
    let (place, _) = richest?;
    // Where nobody weighs anything, all pay and nobody starves.
    candidates[place].credit = candidates[place].credit.saturating_sub(total.max(1));
    Some(place)
}

/// The credit that an endpoint of `weight` begins with: less than one request is worth, and another for each worker, so
/// that they do not all begin at the same place.
pub fn begin(weight: u32, random: u64) -> i64 {
    let scaled = (u128::from(Bits(random).next()) * u128::from(weight)) >> 64;
    i64::try_from(scaled).unwrap_or(0)
}
