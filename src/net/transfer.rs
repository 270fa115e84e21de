//! A message on its way out: a head that is ready-made, and a body that streams behind it. In the common case all of it
//! goes in one write.

use std::io;
use std::task::{Context, Poll, ready};

use super::{Fill, Io, Source};
use crate::wire::chunked::{last_chunk, size_line};

/// A piece of a body that is copied behind what waits, so that one write takes both.
const COPIED: usize = 4 * 1024;

/// So much may wait before it is written.
const GATHERED: usize = 16 * 1024;

/// So much may be written before others have their turn.
const TURN: u64 = 1024 * 1024;

/// How the end of the body is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// By the head, or by the end of the connection.
    Plain,
    /// By the last chunk.
    Chunked {
        /// Whether trailers stand behind it, if there are any.
        trailers: bool,
    },
}

/// Why a message did not get out.
#[derive(Debug)]
pub enum TransferError<E> {
    /// The body broke off.
    Source(E),
    /// The peer takes no more.
    Io(io::Error),
}

/// A message on its way out.
#[derive(Debug)]
pub struct Transfer<S> {
    /// What was made and is not written yet, from `at` on.
    out: Vec<u8>,
    at: usize,
    coding: Coding,
    /// What is left of the chunk that was begun.
    open: usize,
    /// `None` once it has ended.
    source: Option<S>,
    written: u64,
    is_held_up: bool,
}

impl<S: Source> Transfer<S> {
    /// A message whose head is in `head`; `source` is its body, if it has one.
    pub fn new(head: Vec<u8>, coding: Coding, source: Option<S>) -> Self {
        Self { out: head, at: 0, coding, open: 0, source, written: 0, is_held_up: false }
    }

    /// How many bytes were written so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Whether it waits for the peer to take bytes, and not for the body.
    pub fn is_held_up(&self) -> bool {
        self.is_held_up
    }

    /// Writes until all of it is written.
    ///
    /// # Errors
    /// [`TransferError`]; what came before the body broke off has been written as far as the peer takes it at once.
    pub fn poll(&mut self, cx: &mut Context<'_>, io: &Io) -> Poll<Result<(), TransferError<S::Error>>> {
        self.is_held_up = false;
        let turn = self.written + TURN;
        loop {
            if self.written >= turn {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let has_data = match self.gather(cx) {
                Ok(has_data) => has_data,
                Err(error) => {
                    // Best effort: the peer learns from what follows that it was not the whole.
                    let _ = io.write(&self.out[self.at..]);
                    return Poll::Ready(Err(TransferError::Source(error)));
                }
            };
            let waiting = &self.out[self.at..];
            let taken = match &self.source {
                Some(source) if has_data => source.with_data(|data| {
                    let here = if self.is_chunked() { self.open } else { data.len() };
                    io.write_both(waiting, &data[..here.min(data.len())])
                }),
                _ if !waiting.is_empty() => io.write(waiting),
                // What was taken goes out before anybody waits.
                source => match io.flush() {
                    Ok(()) if source.is_none() => return Poll::Ready(Ok(())),
                    Ok(()) => return Poll::Pending,
                    Err(error) => Err(error),
                },
            };
            match taken {
                Ok(taken) => self.taken(taken),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.is_held_up = true;
                    if let Some(source) = &mut self.source {
                        source.wait();
                    }
                    if let Err(error) = ready!(io.poll_writable(cx)) {
                        return Poll::Ready(Err(TransferError::Io(error)));
                    }
                    self.is_held_up = false;
                }
                Err(error) => return Poll::Ready(Err(TransferError::Io(error))),
            }
        }
    }

    fn is_chunked(&self) -> bool {
        self.coding != Coding::Plain
    }

    /// Looks what the body has, and copies what is small; whether there is more, too large to be copied.
    fn gather(&mut self, cx: &mut Context<'_>) -> Result<bool, S::Error> {
        let is_chunked = self.is_chunked();
        while let Some(source) = &mut self.source
            && self.out.len() - self.at < GATHERED
        {
            match source.poll_fill(cx) {
                Poll::Pending => return Ok(false),
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Ready(Ok(Fill::End(trailers))) => {
                    if let Coding::Chunked { trailers: takes_trailers } = self.coding {
                        last_chunk(trailers.as_ref().filter(|_| takes_trailers), &mut self.out);
                    }
                    self.source = None;
                }
                Poll::Ready(Ok(Fill::Data)) => {
                    let out = &mut self.out;
                    if self.at >= GATHERED {
                        // A reader that is always a little behind never lets it be empty.
                        out.drain(..std::mem::take(&mut self.at));
                    }
                    let length = source.with_data(<[u8]>::len);
                    if is_chunked && self.open == 0 {
                        size_line(length, out);
                        self.open = length;
                    }
                    if length > COPIED {
                        return Ok(true);
                    }
                    source.with_data(|data| out.extend_from_slice(data));
                    self.used(length);
                }
            }
        }
        Ok(false)
    }

    /// So many bytes of what waits and of the data behind it were written.
    fn taken(&mut self, taken: usize) {
        self.written += taken as u64;
        let waiting = self.out.len() - self.at;
        if taken < waiting {
            self.at += taken;
            return;
        }
        self.out.clear();
        self.at = 0;
        if taken > waiting {
            self.used(taken - waiting);
        }
    }

    fn used(&mut self, count: usize) {
        if let Some(source) = &mut self.source {
            source.consume(count);
        }
        if self.is_chunked() {
            self.open -= count.min(self.open);
            if self.open == 0 {
                self.out.extend_from_slice(b"\r\n");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use bytes::Bytes;
    use tokio::io::AsyncReadExt;
    use tokio::net::UnixStream;

    use super::*;

    /// So many pieces of this size, always there.
    struct Pieces(usize);

    const PIECE: usize = 1000;

    impl Source for Pieces {
        type Error = ();

        fn poll_fill(&mut self, _: &mut Context<'_>) -> Poll<Result<Fill, ()>> {
            Poll::Ready(Ok(if self.0 == 0 { Fill::End(None) } else { Fill::Data }))
        }

        fn with_data<R>(&self, look: impl FnOnce(&[u8]) -> R) -> R {
            look(&[7; PIECE])
        }

        fn consume(&mut self, count: usize) {
            assert_eq!(count, PIECE);
            self.0 -= 1;
        }

        fn take(&mut self) -> Bytes {
            Bytes::new()
        }
    }

    #[tokio::test]
    async fn reader_that_is_always_a_little_behind_makes_nothing_grow() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        // It takes less at a time than what waits.
        socket2::SockRef::from(&ours).set_send_buffer_size(4096).unwrap();
        let io = Io::from(ours);
        let mut transfer = Transfer::new(Vec::new(), Coding::Plain, Some(Pieces(4000)));
        let reading = async {
            let (mut read, mut part) = (0, [0; 700]);
            while read < 4000 * PIECE {
                read += theirs.read(&mut part).await.unwrap();
            }
        };
        let sending = poll_fn(|cx| {
            let polled = transfer.poll(cx, &io);
            assert!(transfer.out.len() <= 2 * GATHERED + COPIED, "{}", transfer.out.len());
            polled
        });
        let both = async { tokio::join!(sending, reading).0 };
        let ended = tokio::time::timeout(std::time::Duration::from_secs(20), both).await.unwrap();
        assert!(ended.is_ok());
    }
}
