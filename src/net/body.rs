//! What streams, and whence: a body lends what has come, and its reader says how much of that it has used.

use std::task::{Context, Poll};

use bytes::Bytes;

use crate::wire::Fields;

/// What has come of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fill {
    /// Data that is not used yet.
    Data,
    /// Its end, with the trailers, if there are any.
    End(Option<Fields>),
}

/// A body that streams. Nothing is read of it before it is asked, so nothing is held but one filling.
pub trait Source {
    /// Why it may break off.
    type Error;

    /// Waits until there is data that is not used yet, or the end. After the end it is always at its end.
    ///
    /// # Errors
    /// Where it broke off; it is not to be asked again.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<Fill, Self::Error>>;

    /// Lends the data that is not used yet.
    fn with_data<R>(&self, look: impl FnOnce(&[u8]) -> R) -> R;

    /// Says that the first `count` bytes of the data are used.
    fn consume(&mut self, count: usize);

    /// Takes all the data that is not used yet.
    fn take(&mut self) -> Bytes {
        let data = self.with_data(Bytes::copy_from_slice);
        self.consume(data.len());
        data
    }

    /// Takes the data that is not used yet, at most `most` bytes of it.
    fn take_up_to(&mut self, most: usize) -> Bytes {
        if self.with_data(<[u8]>::len) <= most {
            return self.take();
        }
        let data = self.with_data(|data| Bytes::copy_from_slice(data.get(..most).unwrap_or(data)));
        self.consume(data.len());
        data
    }

    /// Says that its data is not taken for now, because somebody else is slow: it may hold less.
    fn wait(&mut self) {}
}

impl<S: Source> Source for &mut S {
    type Error = S::Error;

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<Fill, S::Error>> {
        (**self).poll_fill(cx)
    }

    fn with_data<R>(&self, look: impl FnOnce(&[u8]) -> R) -> R {
        (**self).with_data(look)
    }

    fn consume(&mut self, count: usize) {
        (**self).consume(count);
    }

    fn take(&mut self) -> Bytes {
        (**self).take()
    }

    fn wait(&mut self) {
        (**self).wait();
    }
}
