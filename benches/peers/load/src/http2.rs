//! HTTP/2 on one connection: as many requests at a time as it has places for, each response checked.
//!
//! Only what a load needs: requests have no body, windows are as large as they can be, and a server that ends the
//! connection or breaks the protocol ends all requests on it.

use std::mem;

use crate::hpack::Decoder;
use crate::request::Fields;
use crate::response::Head;
use crate::tally::{End, Failure};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

/// Of SETTINGS and PING.
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITISED: u8 = 32;

const FRAME_HEAD: usize = 9;
/// The largest frame that the server may send: it was told nothing else.
const LARGEST: usize = 16_384;
/// The window of the connection is filled up again when so much was received; it began with more than twice that.
const REFILL: u32 = 1 << 29;

/// The connection's first bytes: the preface, no push, windows of a gibibyte for streams, and 2 GiB less a byte for all.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\
    \0\0\x0c\x04\0\0\0\0\0\
    \0\x02\0\0\0\0\0\x04\x40\0\0\0\
    \0\0\x04\x08\0\0\0\0\0\x7f\xff\0\0";

#[derive(Debug, Clone, Copy)]
enum State {
    Idle,
    /// No byte of the response has come.
    Head,
    /// So many bytes of the body are missing.
    Body {
        missing: usize,
        upstream: usize,
    },
}

/// A place for one request at a time, each on a stream of its own.
#[derive(Debug, Clone, Copy)]
struct Place {
    stream: u32,
    state: State,
}

/// A field block that has not come whole.
#[derive(Debug)]
struct Block {
    stream: u32,
    /// Whether the stream ends with it.
    ends: bool,
    bytes: Vec<u8>,
}

/// The requests and responses of a connection.
#[derive(Debug)]
pub(crate) struct Exchanges {
    places: Vec<Place>,
    /// The next stream.
    next: u32,
    decoder: Decoder,
    /// A frame that has not come whole.
    held: Vec<u8>,
    block: Option<Block>,
    /// What the connection's window has shrunk by.
    received: u32,
    /// Frames that are due to the server.
    replies: Vec<u8>,
    length: usize,
    /// Why the connection cannot be used again.
    over: Option<&'static str>,
}

impl Exchanges {
    /// The exchanges of a new connection with `places`, whose bodies must have `length` bytes.
    pub(crate) fn new(places: usize, length: usize) -> Self {
        Self {
            places: vec![Place { stream: 0, state: State::Idle }; places],
            next: 1,
            decoder: Decoder::new(),
            held: Vec::new(),
            block: None,
            received: 0,
            replies: Vec::new(),
            length,
            over: None,
        }
    }

    /// Writes the request of `user` on `place`, behind what `out` has.
    pub(crate) fn begin(&mut self, place: usize, user: usize, fields: &Fields, out: &mut Vec<u8>) {
        let first = self.next == 1;
        if first {
            out.extend_from_slice(PREFACE);
        }
        self.places[place] = Place { stream: self.next, state: State::Head };
        frame(fields.len(first), HEADERS, END_STREAM | END_HEADERS, self.next, out);
        fields.write(first, user, out);
        self.next += 2;
    }

    /// Whether a request is under way at `place` and not a byte of its response has come.
    pub(crate) fn untouched(&self, place: usize) -> bool {
        matches!(self.places[place].state, State::Head)
    }

    /// Why the connection cannot be used again.
    pub(crate) fn over(&self) -> Option<&'static str> {
        self.over
    }

    /// The frames that are due to the server.
    pub(crate) fn replies(&mut self) -> &mut Vec<u8> {
        &mut self.replies
    }

    /// Goes on by the bytes that came.
    pub(crate) fn take(&mut self, bytes: &[u8], ended: &mut Vec<(usize, End)>) {
        if self.held.is_empty() {
            let used = self.frames(bytes, ended);
            self.held.extend_from_slice(&bytes[used..]);
        } else {
            let mut held = mem::take(&mut self.held);
            held.extend_from_slice(bytes);
            let used = self.frames(&held, ended);
            held.drain(..used);
            self.held = held;
        }
    }

    /// Goes on by the whole frames that `bytes` begin with; how long they are.
    fn frames(&mut self, bytes: &[u8], ended: &mut Vec<(usize, End)>) -> usize {
        let mut used = 0;
        while self.over.is_none()
            && let Some((head, rest)) = bytes[used..].split_first_chunk::<FRAME_HEAD>()
        {
            let [a, b, c, kind, flags, stream @ ..] = *head;
            let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
            if length > LARGEST {
                self.over = Some("a frame is larger than allowed");
            } else if let Some(payload) = rest.get(..length) {
                used += FRAME_HEAD + length;
                let stream = u32::from_be_bytes(stream) & 0x7fff_ffff;
                self.over = self.frame(kind, flags, stream, payload, ended).err().or(self.over);
            } else {
                break;
            }
        }
        used
    }

    /// Goes on by one frame.
    ///
    /// # Errors
    /// Why the connection ends with it.
    fn frame(
        &mut self,
        kind: u8,
        flags: u8,
        stream: u32,
        payload: &[u8],
        ended: &mut Vec<(usize, End)>,
    ) -> Result<(), &'static str> {
        if self.block.is_some() && kind != CONTINUATION {
            return Err("a field block was broken off");
        }
        match kind {
            DATA => {
                self.refill(payload.len());
                let data = unpadded(flags, payload).ok_or("the padding is longer than its frame")?;
                self.data(stream, data.len(), flags & END_STREAM != 0, ended);
            }
            HEADERS => {
                let mut block = unpadded(flags, payload).ok_or("the padding is longer than its frame")?;
                if flags & PRIORITISED != 0 {
                    block = block.get(5..).ok_or("a priority is cut off")?;
                }
                let ends = flags & END_STREAM != 0;
                if flags & END_HEADERS != 0 {
                    self.fields(stream, ends, block, ended)?;
                } else {
                    self.block = Some(Block { stream, ends, bytes: block.to_vec() });
                }
            }
            CONTINUATION => {
                let mut block = self.block.take().filter(|block| block.stream == stream);
                let block = block.as_mut().ok_or("a continuation of nothing")?;
                block.bytes.extend_from_slice(payload);
                if flags & END_HEADERS != 0 {
                    self.fields(stream, block.ends, &block.bytes, ended)?;
                } else {
                    let bytes = mem::take(&mut block.bytes);
                    self.block = Some(Block { stream, ends: block.ends, bytes });
                }
            }
            RST_STREAM => {
                if let Some(place) = self.place(stream) {
                    self.end(place, End::Failed(Failure::Broken), ended);
                }
            }
            SETTINGS if flags & ACK == 0 => {
                self.heed(payload)?;
                frame(0, SETTINGS, ACK, 0, &mut self.replies);
            }
            PING if flags & ACK == 0 => {
                frame(payload.len(), PING, ACK, 0, &mut self.replies);
                self.replies.extend_from_slice(payload);
            }
            GOAWAY => return Err("the server ends the connection"),
            PUSH_PROMISE => return Err("a push was not allowed"),
            // Nothing is sent that a window would hold up; kinds that are not known are ignored.
            _ => {}
        }
        Ok(())
    }

    /// Whether the server's settings allow what this client does.
    fn heed(&self, payload: &[u8]) -> Result<(), &'static str> {
        for setting in payload.chunks_exact(6) {
            let value = u32::from_be_bytes([setting[2], setting[3], setting[4], setting[5]]);
            let value = usize::try_from(value).unwrap_or(usize::MAX);
            match u16::from_be_bytes([setting[0], setting[1]]) {
                1 if value < crate::hpack::ROOM => return Err("the server's table of fields is too small"),
                3 if value < self.places.len() => return Err("the server allows too few streams"),
                _ => {}
            }
        }
        Ok(())
    }

    fn place(&self, stream: u32) -> Option<usize> {
        self.places.iter().position(|place| place.stream == stream && !matches!(place.state, State::Idle))
    }

    fn end(&mut self, place: usize, end: End, ended: &mut Vec<(usize, End)>) {
        self.places[place].state = State::Idle;
        ended.push((place, end));
    }

    /// Counts `length` received bytes and fills the connection's window up again.
    fn refill(&mut self, length: usize) {
        self.received += u32::try_from(length).unwrap_or(0);
        if self.received >= REFILL {
            frame(4, WINDOW_UPDATE, 0, 0, &mut self.replies);
            self.replies.extend_from_slice(&self.received.to_be_bytes());
            self.received = 0;
        }
    }

    fn fields(
        &mut self,
        stream: u32,
        ends: bool,
        block: &[u8],
        ended: &mut Vec<(usize, End)>,
    ) -> Result<(), &'static str> {
        let mut head = Head::default();
        let read = self.decoder.read(block, |name, value| head.field(name, value));
        read.ok_or("a field block cannot be read")?;
        let Some(place) = self.place(stream) else { return Ok(()) };
        // What follows a body are trailers.
        if let State::Head = self.places[place].state {
            let (200, Some(upstream)) = (head.status, head.upstream) else {
                self.end(place, End::Failed(Failure::Status), ended);
                return Ok(());
            };
            if head.length != Some(self.length) {
                self.end(place, End::Failed(Failure::Length), ended);
                return Ok(());
            }
            self.places[place].state = State::Body { missing: self.length, upstream };
        }
        self.data(stream, 0, ends, ended);
        Ok(())
    }

    fn data(&mut self, stream: u32, length: usize, ends: bool, ended: &mut Vec<(usize, End)>) {
        let Some(place) = self.place(stream) else { return };
        match &mut self.places[place].state {
            State::Body { missing, upstream } if length <= *missing => {
                *missing -= length;
                let whole = (*missing == 0).then_some(End::Answered { upstream: *upstream });
                if ends {
                    self.end(place, whole.unwrap_or(End::Failed(Failure::Length)), ended);
                }
            }
            _ => self.end(place, End::Failed(Failure::Length), ended),
        }
    }
}

/// Writes the head of a frame.
fn frame(length: usize, kind: u8, flags: u8, stream: u32, out: &mut Vec<u8>) {
    let [.., a, b, c] = length.to_be_bytes();
    out.extend_from_slice(&[a, b, c, kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
}

/// What a frame holds beside its padding.
fn unpadded(flags: u8, payload: &[u8]) -> Option<&[u8]> {
    if flags & PADDED == 0 {
        return Some(payload);
    }
    let (&padding, rest) = payload.split_first()?;
    rest.get(..rest.len().checked_sub(usize::from(padding))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hpack::write_string;
    use crate::job::Job;

    fn framed(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        frame(payload.len(), kind, flags, stream, &mut out);
        out.extend_from_slice(payload);
        out
    }

    fn block(status: u8, length: &str, upstream: &str) -> Vec<u8> {
        let mut out = vec![0x80 | status];
        for (name, value) in [("content-length", length), ("x-upstream", upstream)] {
            out.push(0);
            write_string(name.as_bytes(), &mut out);
            write_string(value.as_bytes(), &mut out);
        }
        out
    }

    /// A connection with two requests under way, on the streams 1 and 3.
    fn busy() -> Exchanges {
        let settings = ["target=127.0.0.1:80", "protocol=h2"].map(str::to_owned);
        let fields = Fields::new(&Job::read(&settings).unwrap());
        let mut exchanges = Exchanges::new(2, 3);
        let mut out = Vec::new();
        for place in 0..2 {
            exchanges.begin(place, place, &fields, &mut out);
        }
        assert!(out.starts_with(PREFACE));
        exchanges
    }

    fn after(bytes: &[u8]) -> (Vec<(usize, End)>, Option<&'static str>) {
        let (mut exchanges, mut ended) = (busy(), Vec::new());
        exchanges.take(bytes, &mut ended);
        (ended, exchanges.over())
    }

    #[test]
    fn responses_in_any_pieces_are_answers() {
        let good = block(8, "3", "green");
        let bytes = [
            framed(SETTINGS, 0, 0, &[]),
            framed(HEADERS, 0, 3, &good[..4]),
            framed(CONTINUATION, END_HEADERS, 3, &good[4..]),
            framed(HEADERS, END_HEADERS | PRIORITISED, 1, &[&[0, 0, 0, 0, 1], &good[..]].concat()),
            framed(DATA, PADDED, 3, &[2, b'a', 0, 0]),
            framed(DATA, END_STREAM, 1, b"abc"),
            framed(PING, 0, 0, &[7; 8]),
            framed(DATA, 0, 3, b"bc"),
            framed(HEADERS, END_HEADERS | END_STREAM, 3, &[]),
        ]
        .concat();
        let due = [framed(SETTINGS, ACK, 0, &[]), framed(PING, ACK, 0, &[7; 8])].concat();
        for cut in 0..=bytes.len() {
            let (mut exchanges, mut ended) = (busy(), Vec::new());
            exchanges.take(&bytes[..cut], &mut ended);
            exchanges.take(&bytes[cut..], &mut ended);
            let answered = End::Answered { upstream: 1 };
            assert_eq!((ended, exchanges.over()), (vec![(0, answered), (1, answered)], None), "{cut}");
            assert_eq!(exchanges.replies(), &due);
        }
    }

    #[test]
    fn response_that_is_not_as_it_must_be_is_a_failure_of_its_stream() {
        let head = |block: &[u8]| framed(HEADERS, END_HEADERS, 1, block);
        let good = head(&block(8, "3", "blue"));
        let check = |bytes: &[u8], failure| assert_eq!(after(bytes), (vec![(0, End::Failed(failure))], None));
        check(&head(&block(13, "3", "blue")), Failure::Status);
        check(&head(&block(8, "3", "red")), Failure::Status);
        check(&head(&block(8, "4", "blue")), Failure::Length);
        check(&[good.clone(), framed(DATA, END_STREAM, 1, b"ab")].concat(), Failure::Length);
        check(&[good.clone(), framed(DATA, 0, 1, b"abcd")].concat(), Failure::Length);
        check(&framed(DATA, 0, 1, b"abc"), Failure::Length);
        check(&framed(RST_STREAM, 0, 1, &[0; 4]), Failure::Broken);
    }

    #[test]
    fn what_breaks_the_protocol_ends_the_connection() {
        for bytes in [
            framed(HEADERS, END_HEADERS, 1, &[0x80]),
            framed(CONTINUATION, END_HEADERS, 1, &[]),
            [framed(HEADERS, 0, 1, &[]), framed(DATA, 0, 1, b"a")].concat(),
            framed(DATA, PADDED, 1, &[9, 0]),
            framed(SETTINGS, 0, 0, &[0, 1, 0, 0, 0, 0]),
            framed(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 1]),
            framed(GOAWAY, 0, 0, &[0; 8]),
            framed(PUSH_PROMISE, END_HEADERS, 1, &[0; 4]),
            vec![0, 0x40, 1, DATA, 0, 0, 0, 0, 1],
        ] {
            let (ended, over) = after(&bytes);
            assert!(ended.is_empty() && over.is_some(), "{bytes:?}");
        }
    }
}
