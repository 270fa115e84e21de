//! HTTP/1.1 on one connection: a request at a time, and its response checked.

use crate::response::Head;
use crate::tally::{End, Failure};

#[derive(Debug, Clone, Copy)]
enum State {
    Idle,
    /// The response's head has not come whole.
    Head,
    /// So many bytes of the body are missing.
    Body {
        missing: usize,
        upstream: usize,
        closes: bool,
    },
}

/// A request and its response.
#[derive(Debug)]
pub(crate) struct Exchange {
    state: State,
    /// A head that did not come in one piece.
    head: Vec<u8>,
    /// The length that a body must have.
    length: usize,
    /// Whether the connection cannot be used again.
    over: bool,
}

impl Exchange {
    /// The exchange of a new connection, whose bodies must have `length` bytes.
    pub(crate) fn new(length: usize) -> Self {
        Self { state: State::Idle, head: Vec::new(), length, over: false }
    }

    /// Expects a response from now on.
    pub(crate) fn begin(&mut self) {
        self.state = State::Head;
        self.head.clear();
    }

    /// Whether a request is under way and not a byte of its response has come.
    pub(crate) fn untouched(&self) -> bool {
        self.head.is_empty() && matches!(self.state, State::Head)
    }

    /// Whether the connection cannot be used again.
    pub(crate) fn over(&self) -> bool {
        self.over
    }

    /// Goes on by the bytes that came.
    pub(crate) fn take(&mut self, bytes: &[u8], ended: &mut Vec<(usize, End)>) {
        if let Some(end) = self.step(bytes) {
            self.state = State::Idle;
            self.over |= matches!(end, End::Failed(_));
            ended.push((0, end));
        }
    }

    fn step(&mut self, mut bytes: &[u8]) -> Option<End> {
        if let State::Head = self.state {
            let before = self.head.len();
            let read = if before == 0 {
                Head::read(bytes)
            } else {
                self.head.extend_from_slice(bytes);
                Head::read(&self.head)
            };
            let Some(head) = read else {
                if before == 0 {
                    self.head.extend_from_slice(bytes);
                }
                return None;
            };
            let (200, Some(upstream)) = (head.status, head.upstream) else {
                return Some(End::Failed(Failure::Status));
            };
            if head.length != Some(self.length) {
                return Some(End::Failed(Failure::Length));
            }
            bytes = &bytes[head.bytes - before..];
            self.state = State::Body { missing: self.length, upstream, closes: head.closes };
        }
        match &mut self.state {
            State::Body { missing, .. } if bytes.len() < *missing => {
                *missing -= bytes.len();
                None
            }
            State::Body { missing, upstream, closes } if bytes.len() == *missing => {
                self.over |= *closes;
                Some(End::Answered { upstream: *upstream })
            }
            // More than was promised, or bytes that nobody asked for.
            _ => Some(End::Failed(Failure::Length)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX-Upstream: green\r\n\r\nabc";

    #[test]
    fn response_in_any_pieces_is_one_answer() {
        for cut in 0..=GOOD.len() {
            let (mut exchange, mut ended) = (Exchange::new(3), Vec::new());
            exchange.begin();
            for piece in [&GOOD[..cut], &GOOD[cut..]].into_iter().filter(|piece| !piece.is_empty()) {
                exchange.take(piece, &mut ended);
            }
            assert_eq!((ended, exchange.over()), (vec![(0, End::Answered { upstream: 1 })], false), "{cut}");
        }
    }

    #[test]
    fn what_was_not_asked_for_is_a_failure() {
        let check = |bytes: &[u8], failure| {
            let (mut exchange, mut ended) = (Exchange::new(3), Vec::new());
            exchange.begin();
            exchange.take(bytes, &mut ended);
            assert_eq!((ended, exchange.over()), (vec![(0, End::Failed(failure))], true));
        };
        check(&[GOOD, b"d"].concat(), Failure::Length);
        check(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nX-Upstream: blue\r\n\r\n", Failure::Length);
        check(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", Failure::Status);
        check(b"HTTP/1.1 502 No\r\nContent-Length: 3\r\nX-Upstream: blue\r\n\r\n", Failure::Status);
    }
}
