//! The generic cell rate algorithm: a unit's whole state is the time at which it owes nothing any more.
//!
//! Each admitted request adds one *increment* (the time that the rate gives a request) to that time, or to now where it
//! lies in the past; a request is admitted while the debt stays within `burst` increments. In any time `t` a unit gets at
//! most `burst + rate × t` requests, without windows at whose edges twice as many would pass.
//!
//! Source: ITU-T I.371, annex A (virtual scheduling).

use std::time::Duration;

/// The bits of a due time; times are compared on a circle of so many ticks.
pub(super) const TIME_BITS: u32 = 40;

/// What a second gives, and what a unit can owe, are up to two to this many ticks: a small part of the circle.
const DEBT_BITS: u32 = 24;

/// How far ahead a due time may lie, in ticks: what a unit can owe, and four seconds in any case, by which the clocks of
/// two threads may differ.
const AHEAD: u64 = 8 << DEBT_BITS;

/// So many requests in a time, exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    thousandths: u64,
    per: Duration,
}

impl Rate {
    /// The most requests in a second: a million.
    pub const MOST: u64 = 1_000_000;

    /// `thousandths` / 1000 requests in `per`; `None` where that is nothing, or over [`Rate::MOST`] a second.
    pub fn new(thousandths: u64, per: Duration) -> Option<Self> {
        let most = u128::from(Self::MOST) * per.as_nanos() / 1_000_000;
        let fits = thousandths > 0 && !per.is_zero() && per <= Duration::from_hours(24);
        (fits && u128::from(thousandths) <= most).then_some(Self { thousandths, per })
    }

    /// The requests of one second, rounded up: 1 or more.
    pub fn per_second(self) -> u64 {
        self.within(Duration::from_secs(1))
    }

    /// The time in which `requests` come at this rate, rounded up to whole seconds.
    pub fn seconds_for(self, requests: u64) -> u64 {
        let seconds = (u128::from(requests) * self.per.as_nanos() * 1000)
            .div_ceil(u128::from(self.thousandths) * 1_000_000_000);
        u64::try_from(seconds).unwrap_or(u64::MAX)
    }

    /// The requests and the time that they are given, as the configuration writes them: `2.5` and one second.
    pub fn parts(self) -> (String, Duration) {
        let (whole, rest) = (self.thousandths / 1000, self.thousandths % 1000);
        let fraction = format!(".{rest:03}");
        let fraction = fraction.trim_end_matches('0').trim_end_matches('.');
        (format!("{whole}{fraction}"), self.per)
    }

    fn within(self, time: Duration) -> u64 {
        let requests =
            (u128::from(self.thousandths) * time.as_nanos()).div_ceil(self.per.as_nanos().max(1) * 1000);
        u64::try_from(requests).unwrap_or(u64::MAX)
    }
}

/// A rate and a burst as numbers of ticks. An increment is `2^n` ticks, so that no rate is rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gcra {
    /// Ticks are nanoseconds × `multiplier` / `divisor`.
    multiplier: u64,
    divisor: u64,
    /// The ticks of one request.
    increment: u64,
    /// The largest debt, in ticks.
    window: u64,
}

/// What a unit's due time comes to at some moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The request is admitted, and this is the due time from now on.
    Due(u64),
    /// It is not, and would be in so many ticks.
    Wait(u64),
}

/// A moment in ticks, on the circle, rounded down.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment(u64);

impl Gcra {
    /// The largest burst.
    pub const MOST_BURST: u64 = 1_000_000;

    /// `rate`, with `burst` requests at once, from 1 to [`Gcra::MOST_BURST`] (what is outside counts as the nearest).
    pub fn new(rate: Rate, burst: u64) -> Self {
        let burst = burst.clamp(1, Self::MOST_BURST);
        let fine = DEBT_BITS - (u64::BITS - burst.max(rate.per_second()).leading_zeros());
        let multiplier = rate.thousandths << fine;
        let divisor = u64::try_from(rate.per.as_nanos() * 1000).unwrap_or(u64::MAX);
        let common = gcd(multiplier, divisor).max(1);
        Self {
            multiplier: multiplier / common,
            divisor: divisor / common,
            increment: 1 << fine,
            window: burst << fine,
        }
    }

    /// `now` in ticks. A tick is at most 2⁻²³ of the time in which the burst is given again, or of a second where that is
    /// longer: so much too early a request may pass.
    pub(super) fn moment(self, now: Duration) -> Moment {
        let ticks = now.as_nanos() * u128::from(self.multiplier) / u128::from(self.divisor);
        #[expect(clippy::cast_possible_truncation, reason = "on the circle only the low bits count")]
        let ticks = ticks as u64;
        Moment(ticks & CIRCLE)
    }

    /// What is owed at `now` of what is due at `due`, in ticks; 0 where that has passed.
    ///
    /// A due time that nobody has looked at for a whole turn of the circle may seem to lie ahead: it counts as no more
    /// than one can owe.
    pub(super) fn debt(self, due: u64, now: Moment) -> u64 {
        let ahead = due.wrapping_sub(now.0) & CIRCLE;
        if ahead <= AHEAD { ahead.min(self.window) } else { 0 }
    }

    /// What a request at `now` comes to for a unit that owes `debt`.
    pub(super) fn step(self, debt: u64, now: Moment) -> Step {
        let owed = debt + self.increment;
        if owed > self.window {
            return Step::Wait(owed - self.window);
        }
        Step::Due((now.0 + owed) & CIRCLE)
    }

    /// The due time without one request that was counted in `due`.
    pub(super) fn without_one(self, due: u64) -> u64 {
        due.wrapping_sub(self.increment) & CIRCLE
    }

    /// The time that `ticks` take, rounded up.
    pub(super) fn duration(self, ticks: u64) -> Duration {
        let nanoseconds =
            (u128::from(ticks) * u128::from(self.divisor)).div_ceil(u128::from(self.multiplier.max(1)));
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }
}

const CIRCLE: u64 = (1 << TIME_BITS) - 1;

fn gcd(one: u64, other: u64) -> u64 {
    if other == 0 { one } else { gcd(other, one % other) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn gcra(thousandths: u64, per: u64, burst: u64) -> Gcra {
        Gcra::new(Rate::new(thousandths, Duration::from_secs(per)).unwrap(), burst)
    }

    #[test]
    fn rate_is_more_than_nothing_and_at_most_a_million_a_second() {
        for (thousandths, per, is_one) in [
            (1, 1, true),
            (0, 1, false),
            (1_000_000_000, 1, true),
            (1_000_000_001, 1, false),
            (60_000_000_000, 60, true),
            (60_000_000_001, 60, false),
            (1, 0, false),
            (1, 3600, true),
        ] {
            let rate = Rate::new(thousandths, Duration::from_secs(per));
            assert_eq!(rate.is_some(), is_one, "{thousandths}/1000 in {per} s");
        }
    }

    #[test]
    fn seconds_and_requests_of_a_rate_are_rounded_up() {
        for (thousandths, per, requests, seconds, a_second) in [
            (100_000, 1, 200, 2, 100),
            (100_000, 1, 201, 3, 100),
            (500, 1, 1, 2, 1),
            (10_000, 60, 10, 60, 1),
            (1, 3600, 1, 3_600_000, 1),
            (2_500, 1, 1, 1, 3),
        ] {
            let rate = Rate::new(thousandths, Duration::from_secs(per)).unwrap();
            assert_eq!(rate.seconds_for(requests), seconds, "{rate:?}");
            assert_eq!(rate.per_second(), a_second, "{rate:?}");
        }
    }

    #[test]
    fn rate_is_told_as_it_is_written() {
        for (thousandths, expected) in [(100_000, "100"), (500, "0.5"), (2_050, "2.05"), (1, "0.001")] {
            let second = Duration::from_secs(1);
            assert_eq!(Rate::new(thousandths, second).unwrap().parts(), (expected.to_owned(), second));
        }
    }

    #[test]
    fn unit_gets_its_burst_at_once_and_then_one_request_an_increment() {
        let one = gcra(2_000, 1, 3);
        let mut due = 0;
        let mut ask = |milliseconds| {
            let now = one.moment(Duration::from_millis(milliseconds));
            match one.step(one.debt(due, now), now) {
                Step::Due(next) => {
                    due = next;
                    None
                }
                Step::Wait(ticks) => Some(one.duration(ticks)),
            }
        };
        let ms = |number| Some(Duration::from_millis(number));
        for (at, expected) in [
            (1000, None),
            (1000, None),
            (1000, None),
            (1000, ms(500)),
            (1250, ms(250)),
            (1500, None),
            (1500, ms(500)),
            (2500, None),
            (2500, None),
            (2500, ms(500)),
            (90_000, None),
            (90_000, None),
            (90_000, None),
            (90_000, ms(500)),
        ] {
            assert_eq!(ask(at), expected, "at {at} ms");
        }
    }

    /// Exact, and slow: time in units of which everything is a whole number.
    struct Oracle {
        multiplier: u128,
        increment: u128,
        burst: u128,
        due: u128,
    }

    impl Oracle {
        /// What is left of the burst after a request at `now`, less than nothing where it may not be.
        fn left(&self, now: Duration) -> i128 {
            let now = now.as_nanos() * self.multiplier;
            let after = self.due.max(now) + self.increment - now;
            i128::try_from(self.burst * self.increment).unwrap() - i128::try_from(after).unwrap()
        }

        fn admit(&mut self, now: Duration) {
            self.due = self.due.max(now.as_nanos() * self.multiplier) + self.increment;
        }
    }

    proptest! {
        #[test]
        fn request_passes_when_an_exact_oracle_lets_it_within_a_tick(
            thousandths in prop_oneof![1u64..100_000, 1u64..=1_000_000_000],
            per in prop_oneof![Just(1u64), Just(60), Just(3600)],
            burst in prop_oneof![1u64..20, 1u64..=Gcra::MOST_BURST],
            start in 0u64..1 << 55,
            steps in proptest::collection::vec((0u64..2000, 0u32..1000), 1..200),
        ) {
            let one = gcra(thousandths, per, burst);
            let (multiplier, per) = (u128::from(thousandths), u128::from(per) * 1_000_000_000_000);
            let mut oracle = Oracle { multiplier, increment: per, burst: u128::from(burst), due: 0 };
            // A tick in the oracle's units, rounded up.
            let tick = i128::try_from(per.div_ceil(u128::from(one.increment))).unwrap();
            let mut due: u64 = 0;
            let mut known = false;
            let mut now = Duration::from_nanos(start);
            for (parts, nanoseconds) in steps {
                // Steps of up to two increments.
                let increment = per / multiplier;
                let step = increment * u128::from(parts) / 1000 + u128::from(nanoseconds);
                now += Duration::from_nanos(u64::try_from(step).unwrap());
                let moment = one.moment(now);
                let debt = if known { one.debt(due, moment) } else { 0 };
                match one.step(debt, moment) {
                    Step::Due(next) => {
                        prop_assert!(oracle.left(now) > -tick, "too early by {}", -oracle.left(now));
                        oracle.admit(now);
                        (due, known) = (next, true);
                    }
                    Step::Wait(ticks) => {
                        prop_assert!(oracle.left(now) < tick, "refused with {} left", oracle.left(now));
                        let later = one.moment(now + one.duration(ticks));
                        prop_assert!(matches!(one.step(one.debt(due, later), later), Step::Due(_)));
                    }
                }
            }
        }

        #[test]
        fn burst_passes_at_one_moment_whatever_it_is(
            thousandths in 1u64..1_000_000,
            per in prop_oneof![Just(1u64), Just(60), Just(3600)],
            burst in 1u64..100,
            now in 0u64..1 << 60,
        ) {
            let one = gcra(thousandths, per, burst);
            let now = one.moment(Duration::from_nanos(now));
            let mut debt = 0;
            for _ in 0..burst {
                let Step::Due(due) = one.step(debt, now) else { panic!("refused") };
                debt = one.debt(due, now);
            }
            prop_assert!(matches!(one.step(debt, now), Step::Wait(_)));
        }

        #[test]
        fn clock_that_is_seconds_behind_gives_nothing_more(
            per_second in 1u64..=Rate::MOST,
            burst in 1u64..=Gcra::MOST_BURST,
            behind in 0u64..3_900_000_000,
        ) {
            let one = gcra(per_second * 1000, 1, burst);
            let earlier = Duration::from_secs(1 << 30);
            let ahead = earlier + Duration::from_nanos(behind);
            let due = (one.moment(ahead).0 + one.window) & CIRCLE;
            let now = one.moment(earlier);
            prop_assert!(matches!(one.step(one.debt(due, now), now), Step::Wait(_)));
        }

        #[test]
        fn due_time_of_long_ago_costs_one_increment_at_most(burst in 1u64..1000, ago in 0u64..1 << 44) {
            let one = gcra(1000, 1, burst);
            let now = one.moment(Duration::from_secs(1 << 34));
            let due = now.0.wrapping_sub(ago) & CIRCLE;
            if let Step::Wait(ticks) = one.step(one.debt(due, now), now) {
                prop_assert!(ticks <= one.increment, "{ticks}");
            }
        }
    }
}
