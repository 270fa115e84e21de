//! What came of the requests: how many were answered as they must be, what went wrong, and how long each took.

use std::fmt::Write as _;
use std::time::Duration;

use crate::job::USERS;
use crate::response::UPSTREAMS;

/// Why a request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The connection ended within a response, or again before one.
    Broken,
    /// The status was not 200, or the upstream did not name itself.
    Status,
    /// The length was not the one asked for.
    Length,
    /// The user's last response came from another upstream.
    Moved,
    /// There was no answer within the time.
    Late,
}

impl Failure {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Broken, "broken"),
        (Self::Status, "status"),
        (Self::Length, "length"),
        (Self::Moved, "moved"),
        (Self::Late, "late"),
    ];
}

/// What came of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The response of this upstream is whole, and as it must be.
    Answered {
        upstream: usize,
    },
    Failed(Failure),
}

/// The results of a load.
#[derive(Debug)]
pub(crate) struct Tally {
    /// Nanoseconds from when a request was due until its last byte came, of those answered well.
    latencies: Vec<u64>,
    failures: [usize; Failure::ALL.len()],
    by_upstream: [usize; UPSTREAMS.len()],
    /// The upstream of each user's last response.
    homes: Vec<Option<usize>>,
    moving: bool,
    /// Connections that ended while a request was under way and not a byte of its response had come.
    pub(crate) closed_under: usize,
    /// Connections that ended between two requests, announced by `Connection: close` or not.
    pub(crate) closed_between: usize,
    /// Connections that the proxy did not take when one had ended.
    pub(crate) refused: usize,
    /// TLS handshakes, and those among them that went on with an earlier session.
    pub(crate) handshakes: usize,
    pub(crate) resumed: usize,
}

impl Tally {
    /// An empty tally for `count` requests; with `moving`, users may change their upstream.
    pub(crate) fn new(count: usize, moving: bool) -> Self {
        Self {
            latencies: Vec::with_capacity(count),
            failures: [0; Failure::ALL.len()],
            by_upstream: [0; UPSTREAMS.len()],
            homes: vec![None; USERS],
            moving,
            closed_under: 0,
            closed_between: 0,
            refused: 0,
            handshakes: 0,
            resumed: 0,
        }
    }

    /// Counts the response of `upstream` to `user`.
    pub(crate) fn answered(&mut self, user: usize, upstream: usize, latency: Duration) {
        if !self.moving && self.homes[user].is_some_and(|home| home != upstream) {
            return self.failed(Failure::Moved);
        }
        self.homes[user] = Some(upstream);
        self.by_upstream[upstream] += 1;
        self.latencies.push(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Counts a request that failed.
    pub(crate) fn failed(&mut self, failure: Failure) {
        self.failures[failure as usize] += 1;
    }

    /// How many requests came to an end.
    pub(crate) fn ended(&self) -> usize {
        self.latencies.len() + self.failures.iter().sum::<usize>()
    }

    /// One line of JSON; latencies in microseconds, each the exact one of its rank.
    pub(crate) fn json(&mut self, elapsed: Duration) -> String {
        self.latencies.sort_unstable();
        let mut text = format!(
            "{{\"answered\": {}, \"seconds\": {:.6}, \"closed_under\": {}, \"closed_between\": {}, \"refused\": {}, \
             \"handshakes\": {}, \"resumed\": {}",
            self.latencies.len(),
            elapsed.as_secs_f64(),
            self.closed_under,
            self.closed_between,
            self.refused,
            self.handshakes,
            self.resumed
        );
        // Writing to a string cannot fail.
        for (failure, name) in Failure::ALL {
            let _ = write!(text, ", \"{name}\": {}", self.failures[failure as usize]);
        }
        for (name, count) in UPSTREAMS.iter().zip(self.by_upstream) {
            let _ = write!(text, ", \"{name}\": {count}");
        }
        for (name, thousandths) in [("p50", 500), ("p99", 990), ("p999", 999), ("max", 1000)] {
            let _ = match ranked(&self.latencies, thousandths) {
                Some(nanos) => {
                    write!(text, ", \"{name}_us\": {:.1}", Duration::from_nanos(nanos).as_secs_f64() * 1e6)
                }
                None => write!(text, ", \"{name}_us\": null"),
            };
        }
        text.push('}');
        text
    }
}

/// The smallest value that `thousandths` of all are not above; `sorted` ascends.
fn ranked(sorted: &[u64], thousandths: usize) -> Option<u64> {
    let rank = (sorted.len() * thousandths).div_ceil(1000).max(1);
    sorted.get(rank - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentile_is_the_value_of_its_rank() {
        let values: Vec<u64> = (1..=1000).collect();
        for (thousandths, value) in [(500, 500), (990, 990), (999, 999), (1000, 1000)] {
            assert_eq!(ranked(&values, thousandths), Some(value));
        }
        assert_eq!((ranked(&[7], 1), ranked(&[7], 999), ranked(&[], 500)), (Some(7), Some(7), None));
    }

    #[test]
    fn user_that_moves_is_a_failure_unless_weights_move() {
        for (moving, moved) in [(false, 1), (true, 0)] {
            let mut tally = Tally::new(3, moving);
            for upstream in [0, 0, 2] {
                tally.answered(5, upstream, Duration::from_micros(3));
            }
            assert_eq!((tally.failures[Failure::Moved as usize], tally.ended()), (moved, 3));
        }
    }

    #[test]
    fn line_of_json_tells_everything() {
        let mut tally = Tally::new(1, false);
        tally.answered(1, 2, Duration::from_micros(1500));
        tally.failed(Failure::Late);
        assert_eq!(
            tally.json(Duration::from_millis(250)),
            "{\"answered\": 1, \"seconds\": 0.250000, \"closed_under\": 0, \"closed_between\": 0, \"refused\": 0, \
             \"handshakes\": 0, \"resumed\": 0, \"broken\": 0, \"status\": 0, \"length\": 0, \"moved\": 0, \"late\": 1, \"blue\": 0, \"green\": 0, \
             \"canary\": 1, \"p50_us\": 1500.0, \"p99_us\": 1500.0, \"p999_us\": 1500.0, \"max_us\": 1500.0}"
        );
    }
}
