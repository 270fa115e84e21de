//! What the HTTP/1 parser lets pass and must not: a head that gives two lengths for its body (`content-length` and
//! `transfer-encoding`, RFC 9112 §6.1), and lines that end in a bare LF (§2.2). Somebody before or behind us may read
//! either in another way, and take a part of one request for the next.
//!
//! The guard reads along with the parser and follows where each body ends. It judges heads alone; what it cannot follow
//! ends the connection, so that parser and guard never disagree on where the next head begins.

/// How much of a line that comes in parts is kept: more than any that matters needs.
const KEPT: usize = 128;

/// Reads along with the parser of one connection.
#[derive(Debug, Default)]
pub(super) struct Guard {
    place: Place,
    /// The beginning of a line whose end has not come, and how long it is so far.
    line: Vec<u8>,
    length: usize,
    head: Head,
}

/// What is known of the present head.
#[derive(Debug, Default)]
struct Head {
    has_begun: bool,
    content_length: Option<u64>,
    is_chunked: bool,
}

/// Where in the stream of requests the next byte is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Place {
    #[default]
    Head,
    /// In a body, or in a chunk's data with the line end behind it: so much is left.
    Body(u64),
    Data(u64),
    /// At a chunk's size.
    Size,
    Trailers,
}

/// What is wrong with the bytes given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Violation {
    /// The head that goes on at this byte is not to be served.
    Head(usize),
    /// The body cannot be followed.
    Body,
}

impl Guard {
    /// Reads on.
    ///
    /// # Errors
    /// [`Violation`]; nothing more is to be read then.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Result<(), Violation> {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            match self.place {
                Place::Body(left) => {
                    let skipped = skip(left, rest);
                    at += skipped;
                    self.place =
                        if left == skipped as u64 { Place::Head } else { Place::Body(left - skipped as u64) };
                }
                Place::Data(left) => {
                    let skipped = skip(left, rest);
                    at += skipped;
                    self.place =
                        if left == skipped as u64 { Place::Size } else { Place::Data(left - skipped as u64) };
                }
                Place::Head | Place::Size | Place::Trailers => {
                    let Some(end) = memchr::memchr(b'\n', rest) else {
                        self.keep(rest);
                        return Ok(());
                    };
                    self.end_line(&rest[..end]).map_err(|()| self.violation(at))?;
                    at += end + 1;
                }
            }
        }
        Ok(())
    }

    fn violation(&self, at: usize) -> Violation {
        if self.place == Place::Head { Violation::Head(at) } else { Violation::Body }
    }

    /// Keeps the beginning of a line for its end.
    fn keep(&mut self, part: &[u8]) {
        let room = KEPT - self.line.len();
        self.line.extend_from_slice(&part[..part.len().min(room)]);
        self.length += part.len();
        if self.length > KEPT
            && let Some(last) = part.last()
        {
            // Whether the line ends in CR is to be known, however long it is.
            self.line[KEPT - 1] = *last;
        }
    }

    /// A line ends here; `rest` is what came of it now, without its LF.
    fn end_line(&mut self, rest: &[u8]) -> Result<(), ()> {
        if self.length == 0 {
            return self.judge(rest, false);
        }
        self.keep(rest);
        let line = std::mem::take(&mut self.line);
        let is_cut = std::mem::take(&mut self.length) > KEPT;
        let judged = self.judge(&line, is_cut);
        self.line = line;
        self.line.clear();
        judged
    }

    fn judge(&mut self, line: &[u8], is_cut: bool) -> Result<(), ()> {
        let line = line.strip_suffix(b"\r").ok_or(())?;
        match self.place {
            Place::Head if line.is_empty() => {
                if self.head.has_begun {
                    let Head { content_length, is_chunked, .. } = std::mem::take(&mut self.head);
                    self.place = match content_length {
                        _ if is_chunked => Place::Size,
                        Some(length) if length > 0 => Place::Body(length),
                        _ => Place::Head,
                    };
                }
                Ok(())
            }
            Place::Head if !self.head.has_begun => {
                self.head.has_begun = true;
                Ok(())
            }
            Place::Head => self.head.field(line, is_cut),
            Place::Size => {
                let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
                let size = std::str::from_utf8(&line[..digits]).map_err(drop)?;
                let size = u64::from_str_radix(size, 16).map_err(drop)?;
                self.place =
                    if size == 0 { Place::Trailers } else { Place::Data(size.checked_add(2).ok_or(())?) };
                Ok(())
            }
            Place::Trailers => {
                if line.is_empty() {
                    self.place = Place::Head;
                }
                Ok(())
            }
            Place::Body(_) | Place::Data(_) => Err(()),
        }
    }
}

impl Head {
    /// Looks at a header field.
    fn field(&mut self, line: &[u8], is_cut: bool) -> Result<(), ()> {
        // Two of three lines are told by their first byte.
        if !matches!(line[0] | 0x20, b'c' | b't') {
            return Ok(());
        }
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { return Ok(()) };
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        if name.eq_ignore_ascii_case(b"content-length") {
            let value = value.trim_ascii();
            // Digits alone, and the same ones if it is said again; `parse` would take a sign.
            let is_number = !is_cut && value.iter().all(u8::is_ascii_digit);
            let length = std::str::from_utf8(value).ok().filter(|_| is_number).ok_or(())?;
            let length = length.parse().map_err(drop)?;
            if self.content_length.replace(length).is_some_and(|former| former != length) {
                return Err(());
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.is_chunked = true;
        }
        if self.is_chunked && self.content_length.is_some() { Err(()) } else { Ok(()) }
    }
}

/// How much of `rest` belongs to the `left` bytes.
fn skip(left: u64, rest: &[u8]) -> usize {
    usize::try_from(left).unwrap_or(usize::MAX).min(rest.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    const LENGTH: &str = "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\na\nb\nc";
    const CHUNKED: &str =
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n5;a=b\r\na\nb\nc\r\n0\r\nx-a: b\r\n\r\n";
    const BOTH: &str = "POST / HTTP/1.1\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n";
    const REVERSED: &str = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-length: 5\r\n\r\n";

    /// Reads `text` in parts of `part` bytes; gives the place of the violation from the beginning.
    fn read(text: &str, part: usize) -> Result<(), Option<usize>> {
        let mut guard = Guard::default();
        for (index, bytes) in text.as_bytes().chunks(part).enumerate() {
            guard.read(bytes).map_err(|violation| match violation {
                Violation::Head(at) => Some(index * part + at),
                Violation::Body => None,
            })?;
        }
        Ok(())
    }

    #[test]
    fn request_with_one_length_passes_however_it_is_cut_and_whatever_follows() {
        for first in [GET, LENGTH, CHUNKED, "\r\n\r\nGET / HTTP/1.1\r\n\r\n"] {
            for second in [GET, LENGTH, CHUNKED] {
                let both = format!("{first}{second}");
                for part in [1, 2, 3, 7, 64, 4096] {
                    assert_eq!(read(&both, part), Ok(()), "{part} {both:?}");
                }
            }
        }
    }

    #[test]
    fn head_with_two_lengths_or_bare_line_feeds_is_found_behind_any_other_request() {
        let long = format!("GET / HTTP/1.1\r\nx-a: {}\n\r\n", "b".repeat(300));
        let padded = format!("GET / HTTP/1.1\r\ncontent-length: {}5\r\n\r\n", " ".repeat(300));
        let rows = [
            BOTH,
            REVERSED,
            "GET / HTTP/1.1\nhost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\n\n",
            "\nGET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\ncontent-length: +5\r\n\r\n",
            "GET / HTTP/1.1\r\ncontent-length: \r\n\r\n",
            "GET / HTTP/1.1\r\ncontent-length: 5, 5\r\n\r\n",
            "GET / HTTP/1.1\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
            "GET / HTTP/1.1\r\ncontent-length: 99999999999999999999\r\n\r\n",
            &long,
        ];
        for bad in rows {
            for first in ["", GET, LENGTH, CHUNKED] {
                let both = format!("{first}{bad}");
                for part in [1, 2, 3, 7, 64, 4096] {
                    let found = read(&both, part).expect_err(&both).expect("in a head");
                    assert!(found >= first.len(), "{part} {both:?}: {found}");
                }
            }
        }
        assert!(read(&padded, 1).is_err() && read(&padded, 4096).is_ok(), "what is cut is not guessed");
    }

    #[test]
    fn body_that_cannot_be_followed_is_found() {
        let head = "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n";
        for bad in [
            "x\r\n",
            "\r\n",
            "5\nhello",
            "-5\r\n",
            "ffffffffffffffff\r\n",
            "10000000000000000\r\n",
            "0\r\n\n",
        ] {
            for part in [1, 3, 4096] {
                assert_eq!(read(&format!("{head}{bad}"), part), Err(None), "{bad:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn verdict_does_not_depend_on_how_the_bytes_are_cut(
            pieces in proptest::collection::vec(
                prop::sample::select(vec![
                    GET, LENGTH, CHUNKED, BOTH, "\r\n", "\n", "0\r\n", "5\r\n", "hello", "content-length: 5\r\n",
                    "transfer-encoding: chunked\r\n", "GET / HTTP/1.1\r\n", "\r", "x: y\r\n",
                ]),
                0..12,
            ),
            part in 1_usize..50,
        ) {
            let text = pieces.concat();
            prop_assert_eq!(read(&text, part).is_ok(), read(&text, 1 << 20).is_ok());
        }
    }
}
