//! A connection from its first byte to its last: behind a PROXY header, where one is required, HTTP/1 until it says that
//! it speaks HTTP/2 (RFC 9113 §3.4).

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::{http1, http2, proxy_header};
use crate::net::{Buffer, Io, Link};
use crate::proxy::{Downstream, Worker};

/// What an HTTP/2 client sends first.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How HTTP/1 on a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// The connection is over.
    Over,
    /// It speaks HTTP/2; what was read of it is still there.
    Http2,
}

/// Serves a connection until it ends or drains.
pub(super) async fn serve(worker: &Rc<Worker>, io: Io, mut downstream: Downstream) {
    let accepted = Instant::now();
    // Before all else, even TLS: what comes behind the header is the client's.
    if downstream.listener.proxy_protocol
        && !Box::pin(proxy_header::settle(worker, io.socket(), &mut downstream, accepted)).await
    {
        return;
    }
    let link = Rc::new(Link::new(io));
    let ended = http1::serve(worker, &link, &downstream, accepted).await;
    if ended == Ended::Http2
        && let Ok(link) = Rc::try_unwrap(link)
    {
        let (io, first) = link.into_parts();
        Box::pin(http2::serve(worker, Rewound { first, io }, downstream)).await;
    }
}

/// A connection whose first bytes have been read already.
#[derive(Debug)]
pub(super) struct Rewound {
    first: Option<Buffer>,
    io: Io,
}

impl AsyncRead for Rewound {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let Some(first) = &mut this.first else { return Pin::new(&mut this.io).poll_read(cx, buf) };
        let length = first.len().min(buf.remaining());
        buf.put_slice(&first.data()[..length]);
        first.consume(length);
        if first.is_empty() {
            this.first = None;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Rewound {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}
