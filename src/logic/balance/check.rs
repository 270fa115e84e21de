//! What a row of checks says of an endpoint: the first one decides alone, as nothing else is known then; afterwards so
//! many in a row have to say the other thing. And when the next one is due. Who checks, and how, is not known here.

use std::time::Duration;

use crate::types::Share;

/// What the checks of an endpoint have come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It is well.
    Healthy,
    /// It is not.
    Unhealthy,
}

/// How many checks in a row change a verdict; each 1 or more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    /// That pass, of an endpoint that was not well.
    pub healthy: u32,
    /// That fail, of an endpoint that was well.
    pub unhealthy: u32,
}

/// How often an endpoint is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// From the beginning of a check to that of the next one.
    pub interval: Duration,
    /// The same while the endpoint is not well.
    pub unhealthy_interval: Duration,
    /// The part of an interval by which a pause is longer at most.
    pub jitter: Share,
}

/// The checks of one endpoint so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Checks {
    verdict: Option<Verdict>,
    /// How many checks in a row have contradicted the verdict.
    against: u32,
}

impl Checks {
    /// Checks that have come to `verdict` before.
    pub fn known(verdict: Option<Verdict>) -> Self {
        Self { verdict, against: 0 }
    }

    /// What they have come to; `None` before the first.
    pub fn verdict(&self) -> Option<Verdict> {
        self.verdict
    }

    /// These and one more, which `passed` or not.
    #[must_use]
    pub fn after(self, passed: bool, thresholds: Thresholds) -> Self {
        let said = if passed { Verdict::Healthy } else { Verdict::Unhealthy };
        let needed = if passed { thresholds.healthy } else { thresholds.unhealthy };
        let against = self.against.saturating_add(1);
        match self.verdict {
            Some(verdict) if verdict == said => Self::known(Some(verdict)),
            Some(verdict) if against < needed => Self { verdict: Some(verdict), against },
            Some(_) | None => Self::known(Some(said)),
        }
    }
}

impl Pace {
    /// How long after the beginning of a check the next one begins, by `chance` in `[0, 1)`.
    pub fn pause(&self, verdict: Option<Verdict>, chance: f64) -> Duration {
        let interval = match verdict {
            Some(Verdict::Unhealthy) => self.unhealthy_interval,
            Some(Verdict::Healthy) | None => self.interval,
        };
        interval + self.extra(interval, chance)
    }

    /// How long a first check waits, by `chance` in `[0, 1)`, so that many that become due at once spread.
    pub fn first(&self, chance: f64) -> Duration {
        self.extra(self.interval, chance)
    }

    fn extra(&self, interval: Duration, chance: f64) -> Duration {
        // A configuration knows no durations so long that this could fail.
        Duration::try_from_secs_f64(interval.as_secs_f64() * self.jitter.ratio() * chance).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The verdict after each of `checks`, where `+` passed and `-` failed: `h`, `u`.
    fn verdicts(checks: &str, healthy: u32, unhealthy: u32) -> String {
        let mut so_far = Checks::default();
        let thresholds = Thresholds { healthy, unhealthy };
        let mut verdict = |check: char| {
            so_far = so_far.after(check == '+', thresholds);
            match so_far.verdict() {
                Some(Verdict::Healthy) => 'h',
                Some(Verdict::Unhealthy) => 'u',
                None => '?',
            }
        };
        checks.chars().map(&mut verdict).collect()
    }

    #[test]
    fn first_check_decides_alone_and_then_a_row_of_them_does() {
        for (checks, healthy, unhealthy, expected) in [
            ("+", 2, 3, "h"),
            ("-", 2, 3, "u"),
            ("+---", 2, 3, "hhhu"),
            ("+--+--+---", 2, 3, "hhhhhhhhhu"),
            ("-++", 2, 3, "uuh"),
            ("-+-+-++", 2, 3, "uuuuuuh"),
            ("+-+-", 1, 1, "huhu"),
            ("-+---", 1, 3, "uhhhu"),
        ] {
            assert_eq!(verdicts(checks, healthy, unhealthy), expected, "{checks} {healthy} {unhealthy}");
        }
    }

    #[test]
    fn verdict_that_is_known_is_kept_until_a_row_contradicts_it() {
        let thresholds = Thresholds { healthy: 2, unhealthy: 2 };
        let known = Checks::known(Some(Verdict::Unhealthy)).after(true, thresholds);
        assert_eq!(known.verdict(), Some(Verdict::Unhealthy));
        assert_eq!(known.after(true, thresholds).verdict(), Some(Verdict::Healthy));
    }

    #[test]
    fn pause_is_the_interval_of_the_verdict_and_at_most_the_jitter_longer() {
        let (interval, unhealthy_interval) = (Duration::from_secs(10), Duration::from_secs(1));
        let pace = Pace { interval, unhealthy_interval, jitter: Share::parse("20%").unwrap() };
        for (verdict, chance, expected) in [
            (None, 0.0, 10_000),
            (Some(Verdict::Healthy), 0.5, 11_000),
            (Some(Verdict::Unhealthy), 0.0, 1_000),
            (Some(Verdict::Unhealthy), 0.5, 1_100),
        ] {
            assert_eq!(pace.pause(verdict, chance).as_millis(), expected, "{verdict:?} {chance}");
        }
        assert_eq!(pace.first(0.5), Duration::from_secs(1));
        assert_eq!(Pace { jitter: Share::NONE, ..pace }.first(0.9), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn verdict_changes_exactly_behind_a_whole_row(
            checks in proptest::collection::vec(any::<bool>(), 1..200),
            healthy in 1_u32..6,
            unhealthy in 1_u32..6,
        ) {
            let thresholds = Thresholds { healthy, unhealthy };
            let mut so_far = Checks::default();
            for (at, passed) in checks.iter().enumerate() {
                let before = so_far.verdict();
                so_far = so_far.after(*passed, thresholds);
                let row = checks[..=at].iter().rev().take_while(|one| *one == passed).count();
                let said = if *passed { Verdict::Healthy } else { Verdict::Unhealthy };
                let needed = if *passed { healthy } else { unhealthy };
                let expected = match before {
                    None => said,
                    Some(before) if before != said && row >= needed as usize => said,
                    Some(before) => before,
                };
                prop_assert_eq!(so_far.verdict(), Some(expected), "at {}", at);
            }
        }
    }
}
