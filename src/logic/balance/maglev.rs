//! A table that gives each hash its endpoint, and gives nearly all hashes the same one when others come and go.
//!
//! Each endpoint has an order of its own in which it wants the places of the table, which follows from its name alone;
//! they take turns, as often as their weights say, until every place is taken. So the table is the same on every replica
//! and whatever the order of the file, each endpoint has its part of the places to within one or two, and one that comes
//! takes its places from all others alike. A few places beyond those change, too: see `tests/movement`.
//! One that is in the table and may not be used for now is walked past: only its own hashes move, and move back.
//!
//! Source: D. Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016, §3.4; the bytes
//! that are hashed are told in `docs/configuration.md`.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// How many places there are: a prime, so that every step from a place to the next meets all of them. 65 537 keeps the
/// parts of 650 endpoints equal to within 1 % or so, in 128 KiB.
pub const PLACES: usize = 65_537;

/// Nobody.
const VACANT: u16 = u16::MAX;

/// A table of endpoints by hash.
#[derive(Clone, PartialEq, Eq)]
pub struct Maglev {
    places: Box<[u16]>,
}

impl Maglev {
    /// The table of these endpoints: the name of each, and its weight (one of 0 counts as 1). The n-th is told as `n`.
    /// Beyond 65 535 endpoints there is no room.
    pub fn new<'a>(endpoints: impl IntoIterator<Item = (&'a str, u32)>) -> Self {
        let mut wishes: Vec<Wish<'a>> = (0..VACANT)
            .zip(endpoints)
            .map(|(number, (name, weight))| Wish::new(number, name, weight.max(1)))
            .collect();
        // Turns are taken by name, not by place in the file.
        wishes.sort_unstable_by_key(|wish| (wish.name, wish.number));
        let mut left = if wishes.is_empty() { 0 } else { PLACES };
        let mut places = vec![VACANT; left].into_boxed_slice();
        let heaviest = wishes.iter().map(|wish| wish.weight).max().unwrap_or(1);
        // All take a place in the first round, so that nobody is without.
        for wish in &mut wishes {
            wish.due = u64::from(heaviest - wish.weight);
        }
        while left > 0 {
            for wish in &mut wishes {
                // The heaviest takes a place in each round, the others as often as their weights say.
                wish.due += u64::from(wish.weight);
                if wish.due < u64::from(heaviest) {
                    continue;
                }
                wish.due -= u64::from(heaviest);
                let place = wish.next_of(&places);
                places[place] = wish.number;
                left -= 1;
                if left == 0 {
                    break;
                }
            }
        }
        Self { places }
    }

    /// The endpoint of `hash`: the first on its way that `is_usable`, or `None` where none is. The way begins at
    /// `hash mod 65537` and goes on by `1 + (hash div 2^32) mod 65536`: another for each hash, so that the hashes of one
    /// that may not be used are spread over all others.
    pub fn look_up(&self, hash: u64, is_usable: impl Fn(usize) -> bool) -> Option<usize> {
        if self.places.is_empty() {
            return None;
        }
        let step = 1 + within(hash >> 32, PLACES - 1);
        let mut place = within(hash, PLACES);
        for _ in 0..PLACES {
            let number = usize::from(self.places[place]);
            if is_usable(number) {
                return Some(number);
            }
            place = (place + step) % PLACES;
        }
        None
    }
}

impl std::fmt::Debug for Maglev {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Maglev").finish_non_exhaustive()
    }
}

/// The hash of a request's `key` at the upstream called `upstream`:
/// `XXH3_64("balance" ‖ 0x00 ‖ upstream ‖ 0x00 ‖ key)`, seed 0. Never that of a split: a variant's units are not all at
/// one endpoint.
pub fn hash(upstream: &str, key: &[u8]) -> u64 {
    let mut hasher = xxhash_rust::xxh3::Xxh3Default::new();
    for part in [b"balance\0", upstream.as_bytes(), b"\0", key] {
        hasher.update(part);
    }
    hasher.digest()
}

/// What is left of `hash` within `[0, bound)`.
fn within(hash: u64, bound: usize) -> usize {
    usize::try_from(hash % bound as u64).unwrap_or(0)
}

/// In which order an endpoint wants the places.
struct Wish<'a> {
    name: &'a str,
    number: u16,
    weight: u32,
    due: u64,
    next: usize,
    step: usize,
}

impl<'a> Wish<'a> {
    fn new(number: u16, name: &'a str, weight: u32) -> Self {
        let next = within(xxh3_64(name.as_bytes()), PLACES);
        let step = within(xxh3_64_with_seed(name.as_bytes(), 1), PLACES - 1) + 1;
        Self { name, number, weight, due: 0, next, step }
    }

    /// The next place that it wants and that is vacant; there is one.
    fn next_of(&mut self, places: &[u16]) -> usize {
        loop {
            let place = self.next;
            self.next = (place + self.step) % PLACES;
            if places[place] == VACANT {
                return place;
            }
        }
    }
}
