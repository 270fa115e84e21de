//! What is kept of a request body that may have to be sent again. What all requests of a worker keep together is bounded:
//! where it is more, bodies are sent once.

use std::cell::Cell;

use crate::wire::Fields;

/// The most that a worker keeps.
const MOST: usize = 64 * 1024 * 1024;

thread_local! {
    static KEPT: Cell<usize> = const { Cell::new(0) };
}

/// The beginning of a request body.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// All that was sent of it, while `limit` is not 0.
    pub(super) bytes: Vec<u8>,
    /// The most that is kept; 0 is nothing.
    pub(super) limit: usize,
    /// Its end, once that was sent.
    pub(super) end: Option<End>,
}

/// The end of a request body.
#[derive(Debug, Clone)]
pub(super) struct End {
    /// Its trailers, if it has some.
    pub(super) trailers: Option<Fields>,
}

impl Kept {
    /// One that keeps up to `limit` bytes.
    #[cfg(test)]
    fn up_to(limit: usize) -> Self {
        let mut kept = Self::default();
        kept.limit = limit;
        kept
    }

    /// Keeps `data`, which comes next; where that is too much, nothing is kept from now on.
    pub(super) fn keep(&mut self, data: &[u8]) {
        if self.limit == 0 {
            return;
        }
        if self.bytes.len() + data.len() > self.limit || !reserve(data.len()) {
            self.limit = 0;
            self.forget();
            return;
        }
        self.bytes.extend_from_slice(data);
    }

    fn forget(&mut self) {
        release(self.bytes.len());
        self.bytes = Vec::new();
        self.end = None;
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.forget();
    }
}

fn reserve(count: usize) -> bool {
    // A thread that ends keeps nothing any more.
    let reserved = KEPT.try_with(|kept| {
        let all = kept.get() + count;
        if all <= MOST {
            kept.set(all);
        }
        all <= MOST
    });
    reserved.unwrap_or(false)
}

fn release(count: usize) {
    let _ = KEPT.try_with(|kept| kept.set(kept.get().saturating_sub(count)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_keep_is_bounded_and_what_is_forgotten_makes_room() {
        let piece = vec![7; MOST / 4];
        let mut all: Vec<Kept> = (0..5).map(|_| Kept::up_to(usize::MAX)).collect();
        for kept in &mut all {
            kept.keep(&piece);
        }
        let whole = |all: &[Kept]| all.iter().filter(|kept| kept.limit > 0).count();
        assert_eq!(whole(&all), 4);
        all.remove(0);
        let mut next = Kept::up_to(usize::MAX);
        next.keep(&piece);
        assert_eq!((next.limit, next.bytes.len()), (usize::MAX, MOST / 4));
        drop((all, next));
        assert_eq!(KEPT.get(), 0);
    }

    #[test]
    fn body_over_its_limit_is_not_kept_at_all() {
        let mut kept = Kept::up_to(10);
        kept.keep(&[1; 10]);
        assert_eq!((kept.limit, kept.bytes.len()), (10, 10));
        kept.keep(&[1]);
        assert_eq!((kept.limit, kept.bytes.len()), (0, 0));
        kept.keep(&[1]);
        assert_eq!(kept.bytes.len(), 0);
    }
}
