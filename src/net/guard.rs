//! A connection of HTTP/2 with somebody at its side who sees which frames pass: counts them against what
//! [`super::flood`] grants, and knows when the peer was last heard. Not a byte is changed.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::flood::Flood;
use crate::wire::{FrameKind, Scanner};

/// What a guard has seen, for whoever serves the connection.
#[derive(Debug)]
pub struct Watch {
    flood: RefCell<Flood>,
    is_flooded: Cell<bool>,
    /// Whether a first frame has come, and whether it was the one that RFC 9113 §3.4 asks for.
    has_begun: Cell<bool>,
    is_strange: Cell<bool>,
    heard: Cell<Instant>,
    /// Heads and data that came.
    spoken: Cell<u64>,
}

impl Watch {
    fn new(flood: Flood) -> Rc<Self> {
        Rc::new(Self {
            flood: RefCell::new(flood),
            is_flooded: Cell::new(false),
            has_begun: Cell::new(false),
            is_strange: Cell::new(false),
            heard: Cell::new(Instant::now()),
            spoken: Cell::new(0),
        })
    }

    /// Whether the peer has sent more than it may: nothing of it is read any more, and the connection is to be closed.
    /// It becomes so only while the connection is polled.
    pub fn is_flooded(&self) -> bool {
        self.is_flooded.get()
    }

    /// When something last came.
    pub fn heard(&self) -> Instant {
        self.heard.get()
    }

    /// How many frames with heads and data have come.
    pub fn spoken(&self) -> u64 {
        self.spoken.get()
    }
}

/// A connection whose frames are counted.
#[derive(Debug)]
pub struct Guarded<T> {
    io: T,
    read: Scanner,
    written: Scanner,
    watch: Rc<Watch>,
}

impl<T> Guarded<T> {
    /// A client's connection, from its preface on.
    pub fn of_client(io: T) -> Self {
        let watch = Watch::new(Flood::of_client(Instant::now()));
        Self { io, read: Scanner::of_client(), written: Scanner::of_server(), watch }
    }

    /// An endpoint's connection, from our preface on.
    pub fn of_endpoint(io: T) -> Self {
        let watch = Watch::new(Flood::of_endpoint(Instant::now()));
        Self { io, read: Scanner::of_server(), written: Scanner::of_client(), watch }
    }

    /// What the guard sees.
    pub fn watch(&self) -> Rc<Watch> {
        Rc::clone(&self.watch)
    }

    /// Notes what was read; whether the peer may go on.
    fn came(&mut self, bytes: &[u8]) -> bool {
        let watch = &*self.watch;
        watch.heard.set(Instant::now());
        let mut flood = watch.flood.borrow_mut();
        self.read.scan(bytes, |head| {
            if !flood.came(head, Instant::now) {
                watch.is_flooded.set(true);
            }
            if !watch.has_begun.replace(true) && head.kind != FrameKind::Settings {
                watch.is_strange.set(true);
            }
            if matches!(head.kind, FrameKind::Headers | FrameKind::Data) {
                watch.spoken.set(watch.spoken.get().wrapping_add(1));
            }
        });
        !watch.is_flooded.get()
    }

    /// Notes the first `count` bytes of `parts`, which were written.
    fn went<'a>(&mut self, parts: impl IntoIterator<Item = &'a [u8]>, mut count: usize) {
        let watch = &*self.watch;
        let mut flood = watch.flood.borrow_mut();
        for part in parts {
            let taken = part.len().min(count);
            self.written.scan(part.get(..taken).unwrap_or_default(), |head| {
                if !flood.went(head, Instant::now) {
                    watch.is_flooded.set(true);
                }
            });
            count -= taken;
            if count == 0 {
                return;
            }
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Guarded<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.watch.is_flooded() {
            // Who serves the connection looks at the watch after each turn, and needs no waking.
            return Poll::Pending;
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
        let read = buf.filled().get(before..).unwrap_or_default();
        if !read.is_empty() && !this.came(read) {
            buf.set_filled(before);
            return Poll::Pending;
        }
        if this.watch.is_strange.get() {
            // The library would take it.
            let message = "the first frame is no SETTINGS";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, message)));
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guarded<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let count = ready!(Pin::new(&mut this.io).poll_write(cx, buf))?;
        this.went([buf], count);
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let count = ready!(Pin::new(&mut this.io).poll_write_vectored(cx, bufs))?;
        this.went(bufs.iter().map(|part| &**part), count);
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    /// After a flood this reads to the end what the peer still sends, and throws it away: a socket closed with bytes
    /// unread is reset, and the reset would overtake our GOAWAY. Who serves the connection bounds the time.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.io).poll_shutdown(cx))?;
        let mut scratch = [0; 8192];
        while this.watch.is_flooded() {
            let mut buf = ReadBuf::new(&mut scratch);
            // One that is gone is at its end too.
            if ready!(Pin::new(&mut this.io).poll_read(cx, &mut buf)).is_err() || buf.filled().is_empty() {
                break;
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    const PING: [u8; 17] = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];

    #[tokio::test]
    async fn bytes_pass_unchanged_until_there_are_too_many_frames_of_no_use() {
        let (mut peer, io) = duplex(1 << 16);
        let mut guarded = Guarded::of_client(io);
        let watch = guarded.watch();
        let mut said = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        said.extend(SETTINGS);
        said.extend(PING.repeat(499));
        peer.write_all(&said).await.unwrap();
        let mut read = vec![0; said.len()];
        guarded.read_exact(&mut read).await.unwrap();
        assert_eq!(read, said);
        assert!(!watch.is_flooded());
        peer.write_all(&PING.repeat(100)).await.unwrap();
        let mut buf = [0; 4096];
        let polled = poll_fn(|cx| Poll::Ready(pin!(guarded.read(&mut buf)).poll(cx).is_ready())).await;
        assert!(!polled && watch.is_flooded(), "what is over the budget is not handed on");
        // The end: what still comes is taken, so that what was said last can be read.
        guarded.write_all(b"the end").await.unwrap();
        peer.write_all(&PING.repeat(1000)).await.unwrap();
        let peer = async {
            let mut said = String::new();
            peer.read_to_string(&mut said).await.unwrap();
            assert_eq!(said, "the end");
            drop(peer);
        };
        let (ended, ()) = tokio::join!(guarded.shutdown(), peer);
        ended.unwrap();
    }

    #[tokio::test]
    async fn first_frame_that_is_no_settings_is_an_error_on_both_sides() {
        for (is_client, preface) in [(true, &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..]), (false, b"")] {
            let (mut peer, io) = duplex(1 << 16);
            let mut guarded = if is_client { Guarded::of_client(io) } else { Guarded::of_endpoint(io) };
            peer.write_all(&[preface, &PING, &SETTINGS].concat()).await.unwrap();
            let error = guarded.read(&mut [0; 100]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{is_client}");
        }
    }

    #[tokio::test]
    async fn frames_that_carry_something_are_known_from_those_that_do_not() {
        let (mut peer, io) = duplex(1 << 16);
        let mut guarded = Guarded::of_endpoint(io);
        let watch = guarded.watch();
        let data = [&[0, 0, 1, 0, 0, 0, 0, 0, 1][..], b"x"].concat();
        for (said, spoken) in [(&SETTINGS[..], 0), (&PING, 0), (&data, 1), (&PING, 1), (&data, 2)] {
            peer.write_all(said).await.unwrap();
            guarded.read_exact(&mut vec![0; said.len()]).await.unwrap();
            assert_eq!(watch.spoken(), spoken);
        }
    }
}
