//! How many requests an upstream takes at a time, found out by how long they take.
//!
//! A server works on so many requests at once; what comes beyond waits inside of it, and each request takes longer by
//! that. So the median time of the last requests is compared with the *best* one known: while they are about the same,
//! and all places are in use, there may be more places; when requests take longer, there are fewer. With
//! `g = 1.25 × best / median`, each window of requests makes `limit × g + √limit / 2` of `limit`.
//!
//! The best time is not the best for ever (a new release may be slower): it is measured anew from time to time, with
//! fewer places, as if the longer times were a crowd, until what waits inside the server is gone.
//!
//! Source: the gradient limit of Netflix's concurrency-limits, and the adaptive concurrency of Envoy.

use std::time::Duration;

/// How much longer than best a request may take before there are fewer places.
const TOLERANCE: f64 = 1.25;

/// What one window may change at most.
const STEP: (f64, f64) = (0.5, 1.5);

/// The places at the beginning.
const FIRST: f64 = 20.0;

/// A window has so many requests, and takes so long, at least.
const SAMPLES: usize = 50;
const WINDOW: Duration = Duration::from_millis(100);

/// How many times of a window are kept, from which the median is taken.
const KEPT: usize = 256;

/// How often the best time is measured anew.
const MEASURED_EACH: Duration = Duration::from_secs(30);

/// How soon it is measured once more where a better one was found.
const MEASURED_AGAIN: Duration = Duration::from_secs(1);

/// How long a measurement waits for enough requests, before it is given up.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many places there are, at least and at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// At least: 1 or more.
    pub least: u32,
    /// At most.
    pub most: u32,
}

/// One request that is over.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// When it was sent, after some moment that is always the same.
    pub sent: Duration,
    /// How long it took until the response began; for one that was given up, until then.
    pub took: Duration,
    /// How many requests were under way when it was sent, itself included.
    pub in_flight: u32,
}

/// How many requests an upstream takes at a time.
#[derive(Debug)]
pub struct Adaptive {
    bounds: Bounds,
    limit: f64,
    /// The median time of requests that do not wait for each other; none before the first window.
    best: Option<Duration>,
    /// The median of the last window.
    median: Duration,
    window: Window,
    next_measurement: Duration,
    /// Whether the best time is measured anew.
    measuring: Option<Measuring>,
}

/// The best time is measured anew.
#[derive(Debug, Clone, Copy)]
struct Measuring {
    since: Duration,
    /// The part of the places that are there meanwhile.
    part: f64,
}

/// Requests that are looked at together.
#[derive(Debug, Default)]
struct Window {
    since: Option<Duration>,
    times: Vec<Duration>,
    count: usize,
    most_in_flight: u32,
}

impl Window {
    fn add(&mut self, sample: &Sample, now: Duration) {
        self.since.get_or_insert(now);
        // The later ones in place of the first: an even choice without chance.
        match self.times.get_mut(self.count % KEPT) {
            Some(place) => *place = sample.took,
            None => self.times.push(sample.took),
        }
        self.count += 1;
        self.most_in_flight = self.most_in_flight.max(sample.in_flight);
    }

    fn is_over(&self, now: Duration) -> bool {
        self.count >= SAMPLES && self.since.is_some_and(|since| now.saturating_sub(since) >= WINDOW)
    }

    fn median(&mut self) -> Duration {
        let middle = self.times.len() / 2;
        if middle == 0 {
            return Duration::ZERO;
        }
        *self.times.select_nth_unstable(middle).1
    }
}

impl Adaptive {
    /// A limit of which nothing is known yet, `now` after some moment that is always the same.
    pub fn new(bounds: Bounds, now: Duration) -> Self {
        let least = bounds.least.max(1);
        let bounds = Bounds { least, most: bounds.most.max(least) };
        Self {
            bounds,
            limit: FIRST.clamp(f64::from(bounds.least), f64::from(bounds.most)),
            best: None,
            median: Duration::ZERO,
            window: Window::default(),
            // The first window may have been crowded.
            next_measurement: now,
            measuring: None,
        }
    }

    /// How many requests may be under way.
    pub fn limit(&self) -> u32 {
        let limit = self.limit * self.measuring.map_or(1.0, |measuring| measuring.part);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is within the bounds"
        )]
        let limit = limit as u32;
        limit.clamp(self.bounds.least, self.bounds.most)
    }

    /// Looks at a request that is over `now`.
    pub fn look(&mut self, sample: &Sample, now: Duration) {
        if let Some(Measuring { since, .. }) = self.measuring {
            if now.saturating_sub(since) > PATIENCE {
                self.measured(now, None);
            } else if sample.sent < since + self.median {
                // It may have waited for what was there before.
                return;
            }
        }
        self.window.add(sample, now);
        if !self.window.is_over(now) {
            return;
        }
        let mut window = std::mem::take(&mut self.window);
        let median = window.median().max(Duration::from_nanos(1));
        if self.measuring.is_some() {
            self.measured(now, Some(median));
            return;
        }
        self.median = median;
        let best = *self.best.insert(self.best.map_or(median, |best| best.min(median)));
        // Places that nobody took prove nothing, and nobody waits.
        let is_used = f64::from(window.most_in_flight) * 2.0 >= self.limit;
        self.turn(best, median, is_used);
        if now >= self.next_measurement {
            let part = 0.5 * best.as_secs_f64() / median.as_secs_f64();
            let part = if is_used { part.clamp(0.25, 0.5) } else { 1.0 };
            self.measuring = Some(Measuring { since: now, part });
        }
        self.check_invariants();
    }

    /// Makes the limit fit a window whose requests took `median`.
    fn turn(&mut self, best: Duration, median: Duration, is_used: bool) {
        let gradient = (TOLERANCE * best.as_secs_f64() / median.as_secs_f64()).clamp(STEP.0, STEP.1);
        let wanted = self.limit * gradient + self.limit.sqrt() / 2.0;
        if wanted < self.limit || is_used {
            self.limit = wanted.clamp(f64::from(self.bounds.least), f64::from(self.bounds.most));
        }
    }

    /// Ends a measurement, which has found `best` if there were enough requests.
    fn measured(&mut self, now: Duration, best: Option<Duration>) {
        // Where it is much better than all before, there was a crowd, and may be one still.
        let is_much_better = best.zip(self.best).is_some_and(|(best, former)| best < former.mul_f64(0.9));
        self.next_measurement = now + if is_much_better { MEASURED_AGAIN } else { MEASURED_EACH };
        self.best = best.or(self.best);
        self.measuring = None;
        self.window = Window::default();
    }

    fn check_invariants(&self) {
        debug_assert!(
            self.limit >= f64::from(self.bounds.least) && self.limit <= f64::from(self.bounds.most)
        );
        debug_assert!(self.window.times.len() <= KEPT);
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;
    use std::collections::{BinaryHeap, VecDeque};

    use super::*;

    /// A server that works on `places` requests at a time, each for `service`, and lets the others wait; before it the
    /// limit, and before that clients that come at random.
    struct World {
        random: fastrand::Rng,
        limit: Adaptive,
        now: Duration,
        places: usize,
        service: Duration,
        /// Requests a second.
        arrivals: f64,
        in_flight: u32,
        waiting: VecDeque<(Duration, u32)>,
        working: BinaryHeap<Reverse<(Duration, Duration, u32)>>,
        served: u64,
        shed: u64,
        took: Duration,
    }

    impl World {
        fn new(places: usize, service: Duration, arrivals: f64) -> Self {
            let bounds = Bounds { least: 3, most: 1000 };
            Self {
                random: fastrand::Rng::with_seed(5),
                limit: Adaptive::new(bounds, Duration::ZERO),
                now: Duration::ZERO,
                places,
                service,
                arrivals,
                in_flight: 0,
                waiting: VecDeque::new(),
                working: BinaryHeap::new(),
                served: 0,
                shed: 0,
                took: Duration::ZERO,
            }
        }

        /// What the server can do, in requests a second.
        fn capacity(&self) -> f64 {
            f64::from(u32::try_from(self.places).unwrap()) / self.service.as_secs_f64()
        }

        fn begin(&mut self, sent: Duration, in_flight: u32) {
            // From half to one and a half of the service time.
            let takes = self.service.mul_f64(0.5 + self.random.f64());
            self.working.push(Reverse((self.now + takes, sent, in_flight)));
        }

        fn run(&mut self, time: Duration) {
            (self.served, self.shed, self.took) = (0, 0, Duration::ZERO);
            let end = self.now + time;
            let mut arrival = self.now;
            while self.now < end {
                let done = self.working.peek().map_or(Duration::MAX, |Reverse((done, ..))| *done);
                if done <= arrival {
                    self.now = done;
                    let Some(Reverse((_, sent, in_flight))) = self.working.pop() else { continue };
                    let took = self.now.saturating_sub(sent);
                    self.in_flight -= 1;
                    self.served += 1;
                    self.took += took;
                    self.limit.look(&Sample { sent, took, in_flight }, self.now);
                    if self.working.len() < self.places
                        && let Some((sent, in_flight)) = self.waiting.pop_front()
                    {
                        self.begin(sent, in_flight);
                    }
                } else {
                    self.now = arrival;
                    arrival += Duration::from_secs_f64(-(1.0 - self.random.f64()).ln() / self.arrivals);
                    if self.in_flight >= self.limit.limit() {
                        self.shed += 1;
                        continue;
                    }
                    self.in_flight += 1;
                    if self.working.len() < self.places {
                        self.begin(self.now, self.in_flight);
                    } else {
                        self.waiting.push_back((self.now, self.in_flight));
                    }
                }
            }
        }

        /// Runs for `time` and says whether the server was busy and the requests quick.
        fn assert_at_the_knee(&mut self, time: Duration, what: &str) {
            self.run(time);
            #[expect(clippy::cast_precision_loss, reason = "they are few")]
            let (served, shed) = (self.served as f64, self.shed as f64);
            let throughput = served / time.as_secs_f64();
            let mean = self.took.div_f64(served);
            let told = format!(
                "{what}: limit {}, {throughput:.0} of {:.0} a second, {mean:?}, {shed} shed",
                self.limit.limit(),
                self.capacity()
            );
            assert!(throughput > 0.93 * self.capacity(), "{told}");
            assert!(mean < self.service * 2, "{told}");
            let limit = self.limit.limit() as usize;
            assert!(limit >= self.places * 8 / 10 && limit <= self.places * 2, "{told}");
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn limit_finds_the_knee_whatever_the_server() {
        for (places, milliseconds) in [(6, 5), (10, 5), (50, 20), (200, 10), (400, 100)] {
            let mut world = World::new(places, Duration::from_millis(milliseconds), 0.0);
            world.arrivals = 2.0 * world.capacity();
            world.run(20 * SECOND);
            world.assert_at_the_knee(60 * SECOND, &format!("{places} places of {milliseconds} ms"));
        }
    }

    #[test]
    fn limit_follows_a_server_that_loses_places_and_gets_them_again() {
        let mut world = World::new(100, Duration::from_millis(20), 0.0);
        world.arrivals = 3.0 * world.capacity();
        world.run(20 * SECOND);
        world.assert_at_the_knee(10 * SECOND, "at first");
        world.places = 25;
        world.run(5 * SECOND);
        world.assert_at_the_knee(60 * SECOND, "with a quarter");
        world.places = 100;
        world.run(5 * SECOND);
        world.assert_at_the_knee(60 * SECOND, "recovered");
    }

    #[test]
    fn slower_server_is_not_taken_for_a_crowded_one_for_ever() {
        let mut world = World::new(100, Duration::from_millis(20), 0.0);
        world.arrivals = 4.0 * world.capacity();
        world.run(20 * SECOND);
        world.service = Duration::from_millis(60);
        world.arrivals = 4.0 * world.capacity();
        world.run(3 * SECOND);
        assert!(world.limit.limit() < 60, "at first it looks crowded: {}", world.limit.limit());
        world.run(60 * SECOND);
        world.assert_at_the_knee(60 * SECOND, "after a measurement");
    }

    #[test]
    fn light_load_is_shed_by_hardly_any_measurement() {
        let mut world = World::new(100, Duration::from_millis(20), 0.0);
        world.arrivals = 0.1 * world.capacity();
        world.run(300 * SECOND);
        assert!(world.shed * 10_000 < world.served, "{} of {}", world.shed, world.served);
    }

    #[test]
    fn limit_stays_within_its_bounds() {
        let bounds = Bounds { least: 4, most: 30 };
        let mut limit = Adaptive::new(bounds, Duration::ZERO);
        let mut now = Duration::ZERO;
        let mut feed = |limit: &mut Adaptive, milliseconds: u64| {
            for _ in 0..2000 {
                now += Duration::from_millis(5);
                let took = Duration::from_millis(milliseconds);
                limit.look(&Sample { sent: now.saturating_sub(took), took, in_flight: 100 }, now);
                assert!((4..=30).contains(&limit.limit()));
            }
            limit.limit()
        };
        assert_eq!(feed(&mut limit, 1), 30);
        assert_eq!(feed(&mut limit, 100), 4);
    }
}
