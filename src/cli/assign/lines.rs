//! Lines of bytes, whatever they are. A line ends in LF or CR LF, which is no part of it; nothing else is taken away.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::mem;

/// How much is read at once, in bytes.
const BUFFER: usize = 64 << 10;

/// The longest line that is kept, in bytes: far over any unit, and a bound on what a line can cost.
pub(super) const LONGEST: usize = 1 << 20;

/// The lines of `input`.
#[derive(Debug)]
pub(super) struct Lines<R> {
    input: BufReader<R>,
    /// How much of the buffer the last line took, its end included.
    taken: usize,
    /// A line that lies in more than one buffer.
    gathered: Vec<u8>,
}

/// One line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// Its bytes.
    Whole(&'a [u8]),
    /// It was over [`LONGEST`].
    TooLong,
}

impl<R: Read> Lines<R> {
    /// The lines of `input`.
    pub(super) fn new(input: R) -> Self {
        Self { input: BufReader::with_capacity(BUFFER, input), taken: 0, gathered: Vec::new() }
    }

    /// The next line, `None` after the last. Before it waits for input, it flushes `out`, so that whoever gives one line
    /// and waits for the answer gets it.
    ///
    /// # Errors
    /// What reading or flushing came to.
    pub(super) fn next(&mut self, out: &mut impl Write) -> io::Result<Option<Line<'_>>> {
        self.input.consume(mem::take(&mut self.taken));
        self.gathered.clear();
        let mut too_long = false;
        loop {
            if self.input.buffer().is_empty() {
                out.flush()?;
                self.fill()?;
            }
            let buffer = self.input.buffer();
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let part = &buffer[..end.unwrap_or(buffer.len())];
            match end {
                Some(end) if self.gathered.is_empty() && !too_long => {
                    self.taken = end + 1;
                    return Ok(Some(Line::Whole(without_return(&self.input.buffer()[..end]))));
                }
                None if part.is_empty() && self.gathered.is_empty() && !too_long => return Ok(None),
                _ => {}
            }
            let ended = end.is_some() || part.is_empty();
            too_long |= self.gathered.len() + part.len() > LONGEST;
            if !too_long {
                self.gathered.extend_from_slice(part);
            }
            let consumed = part.len() + usize::from(end.is_some());
            self.input.consume(consumed);
            if ended {
                let line = if too_long { Line::TooLong } else { Line::Whole(without_return(&self.gathered)) };
                return Ok(Some(line));
            }
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        loop {
            match self.input.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                filled => return filled.map(|_| ()),
            }
        }
    }
}

fn without_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Gives at most `step` bytes at once.
    struct Dripping<'a>(&'a [u8], usize);

    impl Read for Dripping<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let (now, later) = self.0.split_at(self.0.len().min(self.1).min(buffer.len()));
            buffer[..now.len()].copy_from_slice(now);
            self.0 = later;
            Ok(now.len())
        }
    }

    fn lines(text: &[u8], step: usize) -> Vec<Option<Vec<u8>>> {
        let mut lines = Lines::new(Dripping(text, step));
        let mut read = Vec::new();
        while let Some(line) = lines.next(&mut io::sink()).unwrap() {
            read.push(match line {
                Line::Whole(line) => Some(line.to_owned()),
                Line::TooLong => None,
            });
        }
        read
    }

    #[test]
    fn line_is_what_stands_before_its_end() {
        let rows: [(&[u8], &[&[u8]]); 9] = [
            (b"", &[]),
            (b"\n", &[b""]),
            (b"a", &[b"a"]),
            (b"a\n", &[b"a"]),
            (b"a\r\nb\r\n", &[b"a", b"b"]),
            (b"a\r\r\n\rb", &[b"a\r", b"\rb"]),
            (b"a\n\nb\n", &[b"a", b"", b"b"]),
            (b" a \t\n", &[b" a \t"]),
            (b"\xff\x00\n", &[b"\xff\x00"]),
        ];
        for (text, expected) in rows {
            for step in [1, 2, BUFFER] {
                let expected: Vec<_> = expected.iter().map(|line| Some(line.to_vec())).collect();
                assert_eq!(lines(text, step), expected, "{text:?} by {step}");
            }
        }
    }

    #[test]
    fn line_of_any_length_is_whole_or_refused_and_the_next_is_read() {
        for (length, whole) in [(BUFFER, true), (BUFFER + 1, true), (LONGEST, true), (LONGEST + 1, false)] {
            let line = vec![b'k'; length];
            let text = [&line, b"\nnext\n".as_slice()].concat();
            let expected = [whole.then(|| line.clone()), Some(b"next".to_vec())];
            assert_eq!(lines(&text, usize::MAX), expected, "{length}");
            assert_eq!(lines(&line, usize::MAX), [whole.then_some(line)], "{length} without an end");
        }
    }

    proptest! {
        #[test]
        fn lines_are_the_parts_between_line_feeds(text in "[a\n\r]{0,40}", step in 1usize..9) {
            let expected: Vec<_> = text.lines().map(|line| Some(line.as_bytes().to_owned())).collect();
            // `str::lines` keeps a carriage return at the very end of a text without a line feed.
            prop_assume!(!text.ends_with('\r'));
            prop_assert_eq!(lines(text.as_bytes(), step), expected);
        }
    }
}
