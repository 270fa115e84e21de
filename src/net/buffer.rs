//! Buffers to read into. A worker has a few large ones, the last used first, so that they stay in the cache; nobody who
//! waits holds one of them.
//!
//! What all of a worker's connections hold is counted. Under pressure, which slow readers in great number make, less is
//! read at a time, and what is not taken is kept in no more room than it needs.

use std::cell::{Cell, RefCell};

/// The size of a buffer of the pool: large, for a body costs a system call for each filling.
pub const SIZE: usize = 256 * 1024;

/// How many buffers a worker keeps that nobody uses.
const KEPT: usize = 16;

/// The least size of a buffer of one's own.
const OWN: usize = 1024;

/// What a worker may hold before there is pressure: 128 connections whose readers are behind, each with a large buffer.
const SOME: usize = 32 * 1024 * 1024;

/// What it may hold before that is high.
const HIGH: usize = 64 * 1024 * 1024;

/// How much this worker's connections hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pressure {
    /// Little: speed counts.
    None,
    /// Much: nobody holds more room than he needs.
    Some,
    /// Too much: nobody reads more than a little.
    High,
}

impl Pressure {
    /// What is read at a time, where `limit` would be.
    pub fn bound(self, limit: usize) -> usize {
        match self {
            Self::None => limit,
            Self::Some => limit.min(64 * 1024),
            Self::High => limit.min(16 * 1024),
        }
    }
}

/// How much this worker's connections hold.
pub fn pressure() -> Pressure {
    match HELD.try_with(Cell::get).unwrap_or_default() {
        ..SOME => Pressure::None,
        SOME..HIGH => Pressure::Some,
        HIGH.. => Pressure::High,
    }
}

/// Counts `bytes` that a connection holds from now on.
pub(super) fn lend(bytes: usize) {
    // A thread that ends counts no more.
    let _ = HELD.try_with(|held| held.set(held.get().wrapping_add(bytes)));
}

/// Counts `bytes` that a connection holds no longer.
pub(super) fn give_back(bytes: usize) {
    let _ = HELD.try_with(|held| held.set(held.get().saturating_sub(bytes)));
}

thread_local! {
    static HELD: Cell<usize> = const { Cell::new(0) };
    static POOL: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Bytes that were read and not yet used.
#[derive(Debug)]
pub struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Buffer {
    /// An empty one of the pool.
    pub fn take() -> Self {
        let pooled = POOL.try_with(|pool| pool.borrow_mut().pop()).ok().flatten();
        lend(SIZE);
        Self { bytes: pooled.unwrap_or_else(|| vec![0; SIZE]), start: 0, end: 0 }
    }

    /// The bytes that were read and not yet used.
    pub fn data(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    /// The same, to be changed in place.
    pub fn data_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.start..self.end).unwrap_or_default()
    }

    /// How many bytes they are.
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Takes the first `count` of them away.
    pub fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Room for at least one byte and at most `limit` behind the data.
    pub fn room(&mut self, limit: usize) -> &mut [u8] {
        if self.end == self.bytes.len() {
            self.make_room();
        }
        let end = self.bytes.len().min(self.end.saturating_add(limit.max(1)));
        self.bytes.get_mut(self.end..end).unwrap_or_default()
    }

    fn make_room(&mut self) {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        } else {
            let larger = (self.bytes.len() * 2).max(OWN);
            lend(larger - self.bytes.len());
            self.bytes.resize(larger, 0);
        }
    }

    /// Says that `count` bytes were read into the room.
    pub fn filled(&mut self, count: usize) {
        self.end = (self.end + count).min(self.bytes.len());
    }

    /// Gives a buffer of the pool back and keeps the bytes in one of their own, of their size: for who waits.
    pub fn shrink(&mut self) {
        if self.bytes.len() >= SIZE && self.len() < SIZE / 2 {
            self.keep(self.len().next_power_of_two().max(OWN));
        }
    }

    /// Keeps the bytes in no more room than they need: for who waits long, where there is pressure.
    pub fn fit(&mut self) {
        let room = self.len().next_multiple_of(OWN);
        if room < self.bytes.len() - self.bytes.len() / 4 {
            self.keep(room);
        }
    }

    fn keep(&mut self, room: usize) {
        let length = self.len();
        let mut own = vec![0; room];
        own[..length].copy_from_slice(self.data());
        give_back(self.bytes.len());
        lend(room);
        put(std::mem::replace(&mut self.bytes, own));
        (self.start, self.end) = (0, length);
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        give_back(self.bytes.len());
        put(std::mem::take(&mut self.bytes));
    }
}

/// Gives a buffer back, if it is one of the pool.
fn put(bytes: Vec<u8>) {
    if bytes.len() == SIZE {
        // A thread that ends has no pool.
        let _ = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            if pool.len() < KEPT {
                pool.push(bytes);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_stay_in_order_while_room_is_made_and_the_buffer_shrinks() {
        let mut buffer = Buffer::take();
        let mut expected = Vec::new();
        let mut next = 0_u8;
        for step in 0..2000_usize {
            let room = buffer.room(step % 700 + 1);
            assert!(!room.is_empty() && room.len() <= step % 700 + 1);
            let count = room.len();
            for byte in room {
                *byte = next;
                expected.push(next);
                next = next.wrapping_add(1);
            }
            buffer.filled(count);
            if step % 3 == 0 {
                buffer.shrink();
            }
            let used = (step * 7 % 650).min(buffer.len());
            buffer.consume(used);
            expected.drain(..used);
            assert_eq!(buffer.data(), expected);
        }
    }

    #[test]
    fn buffer_that_is_dropped_or_shrunk_is_used_again() {
        let mut first = Buffer::take();
        first.room(10)[..3].copy_from_slice(b"abc");
        first.filled(3);
        let address = first.bytes.as_ptr();
        first.shrink();
        assert_eq!((first.data(), first.bytes.len()), (&b"abc"[..], OWN));
        let second = Buffer::take();
        assert_eq!(second.bytes.as_ptr(), address);
        assert!(second.is_empty());
        drop(second);
        assert_eq!(Buffer::take().bytes.as_ptr(), address);
    }
}
