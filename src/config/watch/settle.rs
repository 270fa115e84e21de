//! When a burst of events is over. Pure: the time is an argument.
//!
//! What is complete when it appears (a rename, a swapped link, a closed file) counts after the gathering; a file that
//! is open for writing counts when its writer closes it or has been silent, for a YAML file cut at almost any byte is a
//! valid, smaller file.
#![deny(clippy::disallowed_methods)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long open writers that never fall silent can hold back a change.
const HOLD: Duration = Duration::from_secs(30);

/// How many times the gathering a burst that does not end is gathered.
const BURST: u32 = 3;

/// The events since contents were looked at.
#[derive(Debug)]
pub(super) struct Settle {
    gather: Duration,
    quiet: Duration,
    complete: Option<Span>,
    writing: HashMap<PathBuf, Span>,
}

#[derive(Debug, Clone, Copy)]
struct Span {
    first: Instant,
    last: Instant,
}

impl Settle {
    /// Returns a calm state that gathers bursts for `gather` and waits for writers that are silent for `quiet`.
    pub(super) fn new(gather: Duration, quiet: Duration) -> Self {
        Self { gather, quiet, complete: None, writing: HashMap::new() }
    }

    /// Notes that something was put in its place, or taken away, as a whole.
    pub(super) fn completed(&mut self, now: Instant) {
        self.complete.get_or_insert(Span { first: now, last: now }).last = now;
    }

    /// Notes that `path` is another file now, or none: whoever wrote to the old one does not matter.
    pub(super) fn replaced(&mut self, path: &Path, now: Instant) {
        self.writing.remove(path);
        self.completed(now);
    }

    /// Notes that `path` was written to, and may be further.
    pub(super) fn written(&mut self, path: PathBuf, now: Instant) {
        self.writing.entry(path).or_insert(Span { first: now, last: now }).last = now;
    }

    /// Notes that a writer closed `path`.
    pub(super) fn closed(&mut self, path: &Path, now: Instant) {
        self.replaced(path, now);
    }

    /// Returns when to look at the contents; `None` while nothing happened.
    pub(super) fn due(&self) -> Option<Instant> {
        let gathered =
            self.complete.map(|span| (span.last + self.gather).min(span.first + self.gather * BURST));
        let written = self.writing.values().map(|span| (span.last + self.quiet).min(span.first + HOLD)).max();
        gathered.max(written)
    }

    /// Forgets all: the contents are being looked at.
    pub(super) fn clear(&mut self) {
        self.complete = None;
        self.writing.clear();
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any instant serves as the zero of a test")]
mod tests {
    use super::*;

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Completed,
        Replaced(&'static str),
        Written(&'static str),
        Closed(&'static str),
    }
    type Steps<'a> = &'a [(u64, Step)];
    use Step::{Closed, Completed, Replaced, Written};

    #[test]
    fn steps_at_times_then_due_at_a_time() {
        let many: Vec<_> = (0..20).map(|n| (n * 20, Completed)).collect();
        let endless: Vec<_> = (0..100).map(|n| (n * 500, Written("a"))).collect();
        #[rustfmt::skip]
        let rows: [(&str, Steps, Option<u64>); 11] = [
            ("nothing", &[], None),
            ("one event", &[(0, Completed)], Some(50)),
            ("a burst ends", &[(0, Completed), (40, Completed), (70, Completed)], Some(120)),
            ("a burst does not end", &many, Some(150)),
            ("an open writer", &[(0, Written("a")), (300, Written("a"))], Some(1300)),
            ("a writer that closes", &[(0, Written("a")), (900, Written("a")), (1800, Closed("a"))], Some(1850)),
            ("one of two writers closes", &[(0, Written("a")), (10, Written("b")), (20, Closed("a"))], Some(1010)),
            ("a rename beside an open writer", &[(0, Written("a")), (10, Replaced("b"))], Some(1000)),
            ("a rename over a file being written", &[(0, Written("a")), (10, Replaced("a"))], Some(60)),
            ("a write to what was closed", &[(0, Closed("a")), (10, Written("a"))], Some(1010)),
            ("a writer without end", &endless, Some(30_000)),
        ];
        for (name, steps, expected) in rows {
            let zero = Instant::now();
            let at = |ms| zero + Duration::from_millis(ms);
            let mut settle = Settle::new(Duration::from_millis(50), Duration::from_secs(1));
            for &(ms, step) in steps {
                match step {
                    Completed => settle.completed(at(ms)),
                    Replaced(path) => settle.replaced(Path::new(path), at(ms)),
                    Written(path) => settle.written(path.into(), at(ms)),
                    Closed(path) => settle.closed(Path::new(path), at(ms)),
                }
            }
            assert_eq!(settle.due(), expected.map(at), "{name}");
            settle.clear();
            assert_eq!(settle.due(), None, "{name}, cleared");
        }
    }
}
