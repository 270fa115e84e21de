//! A connection that HTTP/1 messages are read from: a socket, what was read ahead of it, and where in a body it is.

use std::cell::RefCell;
use std::io;
use std::task::{Context, Poll, Waker, ready};

use super::buffer::Pressure;
use super::{Buffer, Fill, Io, clock};
use crate::wire::{Chunked, Fields, HeadError, Length};

/// What a read of a body takes at first; more once so much has come at once.
const FIRST_READ: usize = 128 * 1024;

/// What a read takes in the end.
const LARGEST_READ: usize = super::buffer::SIZE;

/// Why what was to be read does not come.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The peer closed in the middle.
    #[error("the connection closed in the middle of a message")]
    Closed,
    /// The system says so.
    #[error("the connection broke")]
    Io(#[from] io::Error),
    /// It is not as RFC 9112 says.
    #[error("the message is not framed as HTTP says")]
    Malformed(#[from] HeadError),
}

/// A connection that HTTP/1 messages are read from. Shared by who reads a message's head and who reads its body.
#[derive(Debug)]
pub struct Link {
    io: Io,
    incoming: RefCell<Incoming>,
}

#[derive(Debug)]
struct Incoming {
    buffer: Option<Buffer>,
    /// So many bytes of the buffer are data of the body, and so many behind them are framing that has been read.
    ready: usize,
    gap: usize,
    decoder: Decoder,
    trailers: Option<Fields>,
    limit: usize,
    /// So many bytes were looked at in vain for a head.
    tried: usize,
    /// Who waits for the end of a body that another task reads.
    watcher: Option<Waker>,
}

/// What comes next.
#[derive(Debug)]
enum Decoder {
    /// A head, or nothing yet.
    Head,
    Exact(u64),
    Chunked(Chunked),
    UntilClose,
}

impl Link {
    /// A connection of which nothing was read yet.
    pub fn new(io: Io) -> Self {
        let incoming = Incoming {
            buffer: None,
            ready: 0,
            gap: 0,
            decoder: Decoder::Head,
            trailers: None,
            limit: FIRST_READ,
            tried: 0,
            watcher: None,
        };
        Self { io, incoming: RefCell::new(incoming) }
    }

    /// The socket.
    pub fn io(&self) -> &Io {
        &self.io
    }

    /// The socket, and what was read of it.
    pub fn into_parts(self) -> (Io, Option<Buffer>) {
        (self.io, self.incoming.into_inner().buffer)
    }

    /// Whether no body is under way: what comes next is a head. Data that was read and is not used is of a body still,
    /// though its end has been read too.
    pub fn is_between(&self) -> bool {
        let incoming = self.incoming.borrow();
        incoming.ready == 0 && matches!(incoming.decoder, Decoder::Head)
    }

    /// Waits until no body is under way, whoever reads it. It may be ready without a wake where the task that waits is
    /// the one that reads.
    pub fn poll_between(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_between() {
            return Poll::Ready(());
        }
        let watcher = &mut self.incoming.borrow_mut().watcher;
        if !watcher.as_ref().is_some_and(|watcher| watcher.will_wake(cx.waker())) {
            *watcher = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// How many bytes of the next message have been read already.
    pub fn ahead(&self) -> usize {
        self.incoming.borrow().buffer.as_ref().map_or(0, Buffer::len)
    }

    /// Reads what is there behind what was read before; 0 is the end.
    ///
    /// # Errors
    /// `WouldBlock` where nothing is there; else what the system says.
    pub fn read(&self) -> io::Result<usize> {
        self.incoming.borrow_mut().read(&self.io)
    }

    /// Waits until more has been read; 0 is the end.
    ///
    /// # Errors
    /// What the system says.
    pub fn poll_read(&self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.io.poll_readable(cx))?;
            match self.read() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read),
            }
        }
    }

    /// Lets `parse` look at what was read ahead, and takes away as many bytes as it has used. A head that comes in small
    /// pieces is looked at again only when it may be whole, or has doubled.
    ///
    /// # Errors
    /// Those of `parse`.
    pub fn parse<T>(
        &self,
        parse: impl FnOnce(&[u8]) -> Result<Option<(T, usize)>, HeadError>,
    ) -> Result<Option<T>, HeadError> {
        let mut incoming = self.incoming.borrow_mut();
        let tried = incoming.tried;
        let Some(buffer) = &mut incoming.buffer else { return Ok(None) };
        let data = buffer.data();
        if tried > 0
            && data.len() < 2 * tried
            && !may_end(data.get(tried.saturating_sub(3)..).unwrap_or_default())
        {
            return Ok(None);
        }
        let Some((parsed, used)) = parse(data)? else {
            incoming.tried = data.len();
            return Ok(None);
        };
        buffer.consume(used);
        incoming.tried = 0;
        incoming.rest();
        Ok(Some(parsed))
    }

    /// Lets `look` see what was read ahead.
    pub fn with_ahead<R>(&self, look: impl FnOnce(&[u8]) -> R) -> R {
        look(self.incoming.borrow().buffer.as_ref().map_or(&[], Buffer::data))
    }

    /// Holds no more memory than what was read needs: whoever is going to wait calls this.
    pub fn rest(&self) {
        self.incoming.borrow_mut().rest();
    }

    /// Says that what was read is not taken for now: under pressure it is kept in no more room than it needs.
    pub fn wait(&self) {
        if super::buffer::pressure() != Pressure::None
            && let Some(buffer) = &mut self.incoming.borrow_mut().buffer
        {
            buffer.fit();
        }
    }

    /// A body of this length comes next.
    pub fn begin(&self, length: Length) {
        let mut incoming = self.incoming.borrow_mut();
        incoming.limit = FIRST_READ;
        // Those of a body whose end nobody asked for.
        incoming.trailers = None;
        incoming.decoder = match length {
            Length::Exact(0) => Decoder::Head,
            Length::Exact(length) => Decoder::Exact(length),
            Length::Chunked => Decoder::Chunked(Chunked::default()),
            Length::UntilClose => Decoder::UntilClose,
        };
    }

    /// Waits until the body has data that is not used yet, or has ended.
    ///
    /// # Errors
    /// [`LinkError`]; the connection is of no more use then.
    pub fn poll_fill(&self, cx: &mut Context<'_>) -> Poll<Result<Fill, LinkError>> {
        loop {
            let mut incoming = self.incoming.borrow_mut();
            if let Some(fill) = incoming.decode()? {
                if let Fill::End(_) = fill
                    && let Some(watcher) =
                        incoming.watcher.take().filter(|watcher| !watcher.will_wake(cx.waker()))
                {
                    watcher.wake();
                }
                return Poll::Ready(Ok(fill));
            }
            incoming.rest();
            drop(incoming);
            if ready!(self.poll_read(cx))? == 0 {
                let mut incoming = self.incoming.borrow_mut();
                if !matches!(incoming.decoder, Decoder::UntilClose) {
                    return Poll::Ready(Err(LinkError::Closed));
                }
                incoming.decoder = Decoder::Head;
            }
        }
    }

    /// Lends the data of the body that is not used yet.
    pub fn with_data<R>(&self, look: impl FnOnce(&[u8]) -> R) -> R {
        let incoming = self.incoming.borrow();
        let data = incoming.buffer.as_ref().map_or(&[][..], Buffer::data);
        look(data.get(..incoming.ready).unwrap_or_default())
    }

    /// Says that the first `count` bytes of the data are used.
    pub fn consume(&self, count: usize) {
        let mut incoming = self.incoming.borrow_mut();
        let count = count.min(incoming.ready);
        incoming.ready -= count;
        let gap = if incoming.ready == 0 { std::mem::take(&mut incoming.gap) } else { 0 };
        if let Some(buffer) = &mut incoming.buffer {
            buffer.consume(count + gap);
        }
        if let Decoder::Exact(left) = &mut incoming.decoder {
            *left -= count as u64;
            if *left == 0 {
                incoming.decoder = Decoder::Head;
            }
        }
    }
}

/// Whether an empty line may be among `bytes`.
fn may_end(bytes: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', bytes)
        .any(|at| matches!(bytes.get(at + 1..), Some([b'\n', ..] | [b'\r', b'\n', ..])))
}

impl Incoming {
    fn read(&mut self, io: &Io) -> io::Result<usize> {
        let limit = super::buffer::pressure().bound(self.limit);
        let buffer = self.buffer.get_or_insert_with(Buffer::take);
        let room = buffer.room(limit);
        let asked = room.len();
        match io.read(room) {
            Ok(read) => {
                clock::pass();
                buffer.filled(read);
                if read == limit && limit == asked {
                    self.limit = (2 * limit).min(LARGEST_READ);
                }
                if read == 0 {
                    self.rest();
                }
                Ok(read)
            }
            Err(error) => {
                self.rest();
                Err(error)
            }
        }
    }

    fn rest(&mut self) {
        match &mut self.buffer {
            Some(buffer) if buffer.is_empty() => self.buffer = None,
            Some(buffer) => buffer.shrink(),
            None => {}
        }
    }

    /// What of the body is in the buffer; `None` where more must be read.
    fn decode(&mut self) -> Result<Option<Fill>, LinkError> {
        if self.ready > 0 {
            return Ok(Some(Fill::Data));
        }
        let available = self.buffer.as_ref().map_or(0, Buffer::len);
        match &mut self.decoder {
            Decoder::Head => return Ok(Some(Fill::End(self.trailers.take()))),
            Decoder::Exact(left) => {
                self.ready = usize::try_from(*left).unwrap_or(usize::MAX).min(available);
            }
            Decoder::UntilClose => self.ready = available,
            Decoder::Chunked(chunked) => {
                let Some(buffer) = &mut self.buffer else { return Ok(None) };
                let read = chunked.read(buffer.data_mut())?;
                if let Some(trailers) = read.end {
                    self.decoder = Decoder::Head;
                    self.trailers = Some(trailers).filter(|trailers| !trailers.is_empty());
                }
                if read.data == 0 {
                    buffer.consume(read.used);
                    if matches!(self.decoder, Decoder::Head) {
                        return Ok(Some(Fill::End(self.trailers.take())));
                    }
                } else {
                    (self.ready, self.gap) = (read.data, read.used - read.data);
                }
            }
        }
        Ok((self.ready > 0).then_some(Fill::Data))
    }
}
