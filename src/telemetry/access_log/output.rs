//! Writing lines so that what is written is always whole lines, whatever fails in between.
//!
//! No clock and no thread: [`super::writer`] decides how often to try and when to give up.

use std::io::{self, Write};

/// Lines on their way out.
#[derive(Debug)]
pub(super) struct Pending {
    bytes: Vec<u8>,
    written: usize,
}

impl Pending {
    /// Lines of which nothing is written yet. `bytes` are empty or end with a line.
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, written: 0 }
    }

    /// How many bytes are written.
    pub(super) fn written(&self) -> usize {
        self.written
    }

    /// The buffer, for further use.
    pub(super) fn into_buffer(self) -> Vec<u8> {
        self.bytes
    }
}

/// Where the lines go, and the rest of a line whose beginning is there already.
#[derive(Debug)]
pub(super) struct Output<W> {
    sink: W,
    rest: Pending,
}

/// How many lines `bytes` end.
pub(super) fn lines(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').map(|_| 1).sum()
}

fn put(sink: &mut impl Write, pending: &mut Pending) -> io::Result<()> {
    while let Some(left) = pending.bytes.get(pending.written..).filter(|left| !left.is_empty()) {
        match sink.write(left) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => pending.written += written,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl<W: Write> Output<W> {
    /// An output to `sink`.
    pub(super) fn new(sink: W) -> Self {
        Self { sink, rest: Pending::new(Vec::new()) }
    }

    /// Writes what is left of `pending`; after an error it may be called again, and goes on where it stopped.
    pub(super) fn write(&mut self, pending: &mut Pending) -> io::Result<()> {
        put(&mut self.sink, &mut self.rest)?;
        put(&mut self.sink, pending)
    }

    /// Gives `pending` up and returns how many of its lines are lost. A line whose beginning is written already is
    /// kept, and its rest comes first in the next [`Output::write`].
    pub(super) fn give_up(&mut self, mut pending: Pending) -> u64 {
        let (before, after) = pending.bytes.split_at(pending.written.min(pending.bytes.len()));
        let whole = before.last().is_none_or(|byte| *byte == b'\n');
        let begun =
            if whole { 0 } else { after.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1) };
        let lost = lines(after.get(begun..).unwrap_or_default());
        if begun > 0 {
            pending.bytes.truncate(pending.written + begun);
            self.rest = pending;
        }
        lost
    }

    /// Goes on with another `sink`. A line of `pending` of which the old one has the beginning is written anew. Returns
    /// how many lines are lost: 1 where only the rest of a line was left.
    pub(super) fn replace(&mut self, sink: W, pending: Option<&mut Pending>) -> u64 {
        self.sink = sink;
        let rest = std::mem::replace(&mut self.rest, Pending::new(Vec::new()));
        if let Some(pending) = pending {
            let written = pending.bytes.get(..pending.written).unwrap_or_default();
            pending.written = written.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        }
        u64::from(rest.written < rest.bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Takes so many bytes with each call, and none with an error for each 0.
    #[derive(Debug, Default)]
    struct Moody {
        script: Vec<usize>,
        taken: Vec<u8>,
    }

    impl Write for Moody {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            match self.script.pop() {
                Some(0) => Err(io::ErrorKind::StorageFull.into()),
                Some(number) => {
                    let number = number.min(bytes.len());
                    self.taken.extend_from_slice(&bytes[..number]);
                    Ok(number)
                }
                None => {
                    self.taken.extend_from_slice(bytes);
                    Ok(bytes.len())
                }
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn numbered(next: &mut u64, number: u64) -> Vec<u8> {
        let mut chunk = Vec::new();
        for _ in 0..number {
            writeln!(chunk, "{}", *next * 1_000_003).unwrap();
            *next += 1;
        }
        chunk
    }

    /// The numbers of the lines, all of them whole.
    fn read(taken: &[u8]) -> Vec<u64> {
        let text = std::str::from_utf8(taken).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'), "{text:?}");
        text.lines()
            .map(|line| {
                let number: u64 = line.parse().unwrap();
                assert_eq!(number % 1_000_003, 0, "a line is torn: {line:?}");
                number / 1_000_003
            })
            .collect()
    }

    proptest! {
        #[test]
        fn sink_fails_at_any_byte_then_lines_stay_whole_and_in_order_and_losses_are_counted(
            script in proptest::collection::vec(0_usize..12, 0..60),
            chunks in proptest::collection::vec((1_u64..6, 0_usize..4), 1..20),
        ) {
            let mut output = Output::new(Moody { script, taken: Vec::new() });
            let (mut next, mut lost) = (0, 0);
            for (number, tries) in chunks {
                let mut pending = Pending::new(numbered(&mut next, number));
                if !(0..=tries).any(|_| output.write(&mut pending).is_ok()) {
                    lost += output.give_up(pending);
                }
            }
            output.sink.script.clear();
            output.write(&mut Pending::new(Vec::new())).unwrap();
            let found = read(&output.sink.taken);
            prop_assert!(found.is_sorted_by(|one, other| one < other), "{found:?}");
            prop_assert_eq!(u64::try_from(found.len()).unwrap() + lost, next);
        }

        #[test]
        fn sink_replaced_while_lines_are_pending_then_the_new_one_has_whole_lines(
            first in 0_usize..40, number in 1_u64..6, give_up: bool,
        ) {
            let mut script = vec![0, first];
            script.retain(|taken| *taken > 0 || first > 0);
            let mut output = Output::new(Moody { script, taken: Vec::new() });
            let mut next = 0;
            let mut pending = Pending::new(numbered(&mut next, number));
            let finished = output.write(&mut pending).is_ok();
            let old = lines(&output.sink.taken);
            let mut lost = 0;
            if finished || !give_up {
                lost += output.replace(Moody::default(), Some(&mut pending));
                output.write(&mut pending).unwrap();
            } else {
                lost += output.give_up(pending);
                lost += output.replace(Moody::default(), None);
            }
            output.write(&mut Pending::new(numbered(&mut next, 1))).unwrap();
            let found = read(&output.sink.taken);
            prop_assert_eq!(old + lost + u64::try_from(found.len()).unwrap(), next);
        }
    }
}
