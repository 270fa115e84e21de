//! Buffers to read into. A worker has a few large ones, the last used first, so that they stay in the cache; nobody who
//! waits holds one of them.

use std::cell::RefCell;

/// The size of a buffer of the pool: large, for a body costs a system call for each filling.
pub const SIZE: usize = 256 * 1024;

/// How many buffers a worker keeps that nobody uses.
const KEPT: usize = 16;

/// The least size of a buffer of one's own.
const OWN: usize = 1024;

thread_local! {
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
            self.bytes.resize((self.bytes.len() * 2).max(OWN), 0);
        }
    }

    /// Says that `count` bytes were read into the room.
    pub fn filled(&mut self, count: usize) {
        self.end = (self.end + count).min(self.bytes.len());
    }

    /// Gives a buffer of the pool back and keeps the bytes in one of their own, of their size: for who waits.
    pub fn shrink(&mut self) {
        if self.bytes.len() >= SIZE && self.len() < SIZE / 2 {
            let mut own = vec![0; self.len().next_power_of_two().max(OWN)];
            let length = self.len();
            own[..length].copy_from_slice(self.data());
            put(std::mem::replace(&mut self.bytes, own));
            (self.start, self.end) = (0, length);
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
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
