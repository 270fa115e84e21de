//! The due times of many units in bounded memory, asked by all threads at once, without a lock.
//!
//! Units are spread by their hash over sets of eight words, one cache line each. A word holds 24 more bits of the hash
//! and the due time, so that a unit's whole state changes in one exchange. A unit whose due time has passed is like one
//! that never came: its word is anybody's. Where all eight are of units that owe something, the one that owes least is
//! forgotten: it may have its burst once more, and nobody is refused for want of room.
//!
//! Two threads may bring one new unit to two words of its set at the same time. So whoever has counted a request looks
//! at the set again, and where the unit has another word there, takes its request back and begins anew. All operations
//! are of one order (`SeqCst`): of two that count in two words, one at least sees the other's.
//!
//! The hash comes from outside and has to be keyed by a secret: who could choose units of one set could make it forget.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use super::gcra::{Gcra, Moment, Step, TIME_BITS};

/// The words of a set.
const WAYS: usize = 8;

/// How often a request may be taken back: enough for as many threads to bring one new unit.
const MOST_RETURNS: u32 = 64;

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is served.
    Admitted {
        /// Whether another unit was forgotten for it, before its time.
        forgot: bool,
    },
    /// It is not, and would be after so long.
    Refused(Duration),
}

/// The due times of units.
#[derive(Debug)]
pub struct Table {
    gcra: Gcra,
    sets: Box<[Set]>,
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Set([AtomicU64; WAYS]);

/// A unit's name and due time in one word; 0 is nobody's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Word(u64);

impl Word {
    const NOBODY: Self = Self(0);

    fn new(name: u64, due: u64) -> Self {
        Self(name << TIME_BITS | due)
    }

    fn name(self) -> u64 {
        self.0 >> TIME_BITS
    }

    fn due(self) -> u64 {
        self.0 & ((1 << TIME_BITS) - 1)
    }
}

/// Where a unit is counted.
struct Place {
    index: usize,
    seen: Word,
    /// What the unit owes.
    debt: u64,
    /// Whether another unit goes for it that owes something.
    forgets: bool,
}

impl Table {
    /// A table for `units` units that owe something at one time, rounded up to a power of two and to 8 at least; 8 bytes
    /// each.
    pub fn new(gcra: Gcra, units: usize) -> Self {
        let sets = units.div_ceil(WAYS).max(1).next_power_of_two();
        Self { gcra, sets: std::iter::repeat_with(Set::default).take(sets).collect() }
    }

    /// What becomes of a request of the unit with this `hash`, `now` after some moment that is always the same.
    pub fn ask(&self, hash: u64, now: Duration) -> Verdict {
        // A power of two, so the low bits choose the set; the high ones are the name.
        #[expect(clippy::cast_possible_truncation, reason = "the low bits are what is wanted")]
        let Some(set) = self.sets.get(hash as usize & (self.sets.len() - 1)) else {
            return Verdict::Admitted { forgot: false };
        };
        let name = (hash >> TIME_BITS).max(1);
        let now = self.gcra.moment(now);
        let mut returns = 0;
        loop {
            let place = self.place(set, name, now);
            let due = match self.gcra.step(place.debt, now) {
                Step::Due(due) => due,
                Step::Wait(ticks) => return Verdict::Refused(self.gcra.duration(ticks)),
            };
            let Some(word) = set.0.get(place.index) else {
                return Verdict::Admitted { forgot: false };
            };
            let counted = Word::new(name, due);
            if word.compare_exchange(place.seen.0, counted.0, SeqCst, SeqCst).is_err() {
                // Somebody else was served: all together have gone on.
                continue;
            }
            if returns == MOST_RETURNS || !self.has_other(set, name, place.index, now) {
                return Verdict::Admitted { forgot: place.forgets };
            }
            self.take_back(word, name, now);
            returns += 1;
            spin_loop();
        }
    }

    /// Where the unit `name` is, or is to be.
    fn place(&self, set: &Set, name: u64, now: Moment) -> Place {
        let mut own: Option<Place> = None;
        let mut least: Option<Place> = None;
        for (index, word) in set.0.iter().enumerate() {
            let seen = Word(word.load(SeqCst));
            let debt = if seen == Word::NOBODY { 0 } else { self.gcra.debt(seen.due(), now) };
            if seen.name() == name {
                if own.as_ref().is_none_or(|known| known.debt < debt) {
                    own = Some(Place { index, seen, debt, forgets: false });
                }
            } else if least.as_ref().is_none_or(|known| debt < known.debt) {
                least = Some(Place { index, seen, debt, forgets: debt > 0 });
            }
        }
        let free = least.map(|place| Place { debt: 0, ..place });
        own.or(free).unwrap_or(Place { index: 0, seen: Word::NOBODY, debt: 0, forgets: false })
    }

    /// Whether the unit `name` owes something by another word than that at `index`.
    fn has_other(&self, set: &Set, name: u64, index: usize, now: Moment) -> bool {
        set.0.iter().enumerate().any(|(other, word)| {
            let word = Word(word.load(SeqCst));
            other != index && word.name() == name && self.gcra.debt(word.due(), now) > 0
        })
    }

    /// Takes one request of the unit `name` back, if `word` is still its.
    fn take_back(&self, word: &AtomicU64, name: u64, now: Moment) {
        let less = |word: u64| {
            let due = self.gcra.without_one(Word(word).due());
            let owes = self.gcra.debt(due, now) > 0;
            let less = if owes { Word::new(name, due) } else { Word::NOBODY };
            (Word(word).name() == name).then_some(less.0)
        };
        // Where it is not, nothing is to be taken back.
        let _ = word.fetch_update(SeqCst, SeqCst, less);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::atomic::Ordering::Relaxed;
    use std::thread;

    use proptest::prelude::*;

    use super::super::Rate;
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn table(per_second: u64, burst: u64, units: usize) -> Table {
        Table::new(Gcra::new(Rate::new(per_second * 1000, SECOND).unwrap(), burst), units)
    }

    /// The hash of a unit in `set`.
    fn unit(number: u64, set: u64) -> u64 {
        (number << TIME_BITS) | set
    }

    fn admits(table: &Table, hash: u64, now: Duration) -> bool {
        matches!(table.ask(hash, now), Verdict::Admitted { .. })
    }

    #[test]
    fn each_unit_has_its_own_burst() {
        let table = table(1, 2, 64);
        for hash in [unit(1, 0), unit(2, 0), unit(1, 1), unit(2, 7), unit(0, 3)] {
            let verdicts = [(); 3].map(|()| table.ask(hash, SECOND));
            let served = Verdict::Admitted { forgot: false };
            assert_eq!(verdicts, [served, served, Verdict::Refused(SECOND)], "{hash:x}");
        }
    }

    #[test]
    fn full_set_forgets_the_unit_that_owes_least_and_refuses_nobody() {
        let table = table(1, 10, 8);
        let fresh = |number| unit(number, 0);
        for number in 1..=8 {
            for _ in 0..number {
                assert_eq!(table.ask(fresh(number), SECOND), Verdict::Admitted { forgot: false });
            }
        }
        assert_eq!(table.ask(fresh(9), SECOND), Verdict::Admitted { forgot: true }, "in place of the first");
        for _ in 0..2 {
            assert_eq!(table.ask(fresh(8), SECOND), Verdict::Admitted { forgot: false });
        }
        assert!(!admits(&table, fresh(8), SECOND), "who owes much is remembered");
        // A second later the one that owes one request owes nothing.
        assert_eq!(table.ask(fresh(1), 2 * SECOND), Verdict::Admitted { forgot: false });
    }

    #[test]
    fn memory_is_eight_bytes_a_unit_in_whole_cache_lines() {
        for (units, expected) in [(1, 64), (8, 64), (9, 128), (65_536, 512 << 10)] {
            let table = table(1, 1, units);
            assert_eq!(table.sets.len() * size_of::<Set>(), expected, "{units}");
            assert_eq!(align_of::<Set>(), 64);
        }
    }

    proptest! {
        /// Units come and go in few words; none is forgotten, so each has exactly what it would have alone.
        #[test]
        fn unit_gets_what_it_would_get_alone(
            per_second in 1u64..2000,
            burst in 1u64..8,
            steps in proptest::collection::vec((0u64..12, 0u64..3_000_000_000), 1..300),
        ) {
            let shared = table(per_second, burst, 8);
            let mut alone: HashMap<u64, Table> = HashMap::new();
            let mut now = SECOND;
            for (number, nanoseconds) in steps {
                now += Duration::from_nanos(nanoseconds / per_second);
                let hash = unit(number + 1, 0);
                let own = alone.entry(number).or_insert_with(|| table(per_second, burst, 1));
                let (found, expected) = (shared.ask(hash, now), own.ask(hash, now));
                if found == (Verdict::Admitted { forgot: true }) {
                    break;
                }
                prop_assert_eq!(found, expected);
            }
        }
    }

    /// Threads ask for `units` units of one set while time goes on; tells what each unit got, and how long it took.
    fn compete(table: &Table, threads: u64, asks: u64, units: u64, step: u64) -> (Vec<u64>, Duration) {
        let clock = AtomicU64::new(0);
        let got: Vec<AtomicU64> = (0..units).map(|_| AtomicU64::new(0)).collect();
        thread::scope(|scope| {
            for thread in 0..threads {
                let (clock, got) = (&clock, &got);
                scope.spawn(move || {
                    let mut random = fastrand::Rng::with_seed(thread);
                    for _ in 0..asks {
                        let now = SECOND + Duration::from_nanos(clock.fetch_add(step, Relaxed));
                        let number = random.u64(..units);
                        match table.ask(unit(number + 1, 0), now) {
                            Verdict::Admitted { forgot: false } => {
                                got[usize::try_from(number).unwrap()].fetch_add(1, Relaxed);
                            }
                            Verdict::Admitted { forgot: true } => panic!("there is room for all"),
                            Verdict::Refused(_) => {}
                        }
                    }
                });
            }
        });
        let took = Duration::from_nanos(clock.into_inner());
        (got.into_iter().map(AtomicU64::into_inner).collect(), took)
    }

    #[test]
    fn threads_together_get_the_burst_and_the_rate_and_no_request_more() {
        for (per_second, burst, threads, units, step) in
            [(1000, 50, 4, 1, 1000), (100, 1, 8, 1, 10_000), (1000, 5, 4, 8, 3000), (1, 20, 8, 3, 1)]
        {
            let table = table(per_second, burst, 8);
            let (got, took) = compete(&table, threads, 20_000, units, step);
            let most = u128::from(burst) + u128::from(per_second) * took.as_nanos() / 1_000_000_000;
            for got in got {
                assert!(u128::from(got) <= most, "{got} of {most}");
                // They ask far more often than they may.
                assert!(u128::from(got) + 1 >= most, "{got} of {most}");
            }
        }
    }

    #[test]
    fn units_that_threads_bring_at_the_same_time_are_counted_once() {
        // Always new ones, so that words are raced for; and to a thread whose clock is behind, others are free.
        let threads = 4;
        let table = table(1000, 1, 8);
        let barrier = std::sync::Barrier::new(threads);
        let got = AtomicU64::new(0);
        let rounds = 5000;
        thread::scope(|scope| {
            for thread in 0..threads {
                let (table, barrier, got) = (&table, &barrier, &got);
                scope.spawn(move || {
                    let mut steps = fastrand::Rng::with_seed(1);
                    let mut late = fastrand::Rng::with_seed(thread as u64);
                    let mut now = SECOND;
                    for round in 0..rounds {
                        now += Duration::from_micros(steps.u64(50..300));
                        barrier.wait();
                        if admits(table, unit(round + 1, 0), now + Duration::from_micros(late.u64(..100))) {
                            got.fetch_add(1, Relaxed);
                        }
                    }
                });
            }
        });
        assert_eq!(got.into_inner(), rounds);
    }
}
