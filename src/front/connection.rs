//! A connection from its first byte to its last: a PROXY header, where one is required, then TLS, where it is, then what
//! was agreed on in its handshake; else HTTP/1 until it says that it speaks HTTP/2 (RFC 9113 §3.4).

use std::error::Error;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use super::tls::{H2, handshake};
use super::{Secure, admit, http1, http2, proxy_header};
use crate::acme;
use crate::net::{Buffer, Io, Link};
use crate::proxy::admission::Door;
use crate::proxy::handle::seconds_now;
use crate::proxy::{Downstream, Identity, Worker};
use crate::telemetry::Refused;

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

/// How long a client that has just made its TLS may take to ask for something, where the listener drains.
const FIRST: Duration = Duration::from_secs(1);

/// Serves a connection until it ends or drains; `secure` is the TLS that it must speak.
pub(super) async fn serve(
    worker: &Rc<Worker>,
    io: Io,
    secure: Option<Arc<Secure>>,
    mut downstream: Downstream,
    door: &Arc<Door>,
) {
    let accepted = Instant::now();
    // Before all else, even TLS: what comes behind the header is the client's.
    if downstream.listener.proxy_protocol
        && !Box::pin(proxy_header::settle(worker, io.socket(), &mut downstream, accepted)).await
    {
        return;
    }
    let _of_client = if downstream.listener.proxy_protocol {
        match admit::client(worker, door, &downstream) {
            Ok(of_client) => of_client,
            Err(admit::TooMany) if secure.is_none() => return admit::refuse(io.socket()),
            Err(admit::TooMany) => return,
        }
    } else {
        None
    };
    let io = match secure {
        None => io,
        // Rare beside requests, and large.
        Some(secure) => match Box::pin(secured(worker, io, secure, &mut downstream, accepted)).await {
            Some(io) => io,
            None => return,
        },
    };
    if io.tls().is_some_and(|tls| tls.speaks(H2)) {
        Box::pin(http2::serve(worker, Rewound { first: None, io }, downstream)).await;
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

/// The TLS of a connection, and what it says of the client; `None` where there is none, which is counted.
async fn secured(
    worker: &Worker,
    io: Io,
    secure: Arc<Secure>,
    downstream: &mut Downstream,
    accepted: Instant,
) -> Option<Io> {
    let Io::Plain(socket) = io else { return Some(io) };
    let deadline = accepted + downstream.listener.header_timeout;
    let tls = match timeout_at(deadline, handshake(socket, &secure, downstream)).await {
        Ok(Ok(tls)) => tls,
        Ok(Err(refusal)) => {
            refuse(worker, downstream, refusal.cause(), &refusal);
            return None;
        }
        Err(elapsed) => {
            refuse(worker, downstream, Some(Refused::Timeout), &elapsed);
            return None;
        }
    };
    if tls.speaks(acme::ALPN) {
        // An authority that made sure of a name: it has seen what it wanted (RFC 8737 §3).
        return None;
    }
    match tls.peer_certificate().map(|certificate| Identity::of(&certificate)) {
        Some(Ok(identity)) if identity.is_over(seconds_now()) => {
            // One that resumes was verified when it was here first.
            refuse(worker, downstream, Some(Refused::ClientCertificate), &Expired);
            return None;
        }
        Some(Ok(identity)) => downstream.identity = Some(Rc::new(identity)),
        Some(Err(error)) => {
            refuse(worker, downstream, Some(Refused::ClientCertificate), &error);
            return None;
        }
        None => {}
    }
    downstream.secure = true;
    let io = Io::Tls(Box::new(tls));
    if downstream.drained.is_wanted() {
        // Its first request is on its way, and would be lost.
        let until = deadline.min(Instant::now() + FIRST);
        // Whatever comes of it is seen by who reads.
        let _ = timeout_at(until, poll_fn(|cx| io.poll_readable(cx))).await;
    }
    Some(io)
}

/// Counts a connection that is refused, and says why where somebody wants to know: strangers must not fill logs.
fn refuse(worker: &Worker, downstream: &Downstream, cause: Option<Refused>, error: &(dyn Error + 'static)) {
    debug!(listener = %downstream.listener.name, peer = %downstream.peer.ip(), error, "no TLS");
    if let Some(cause) = cause {
        worker.metrics.refused(downstream.id, cause);
    }
}

/// Why a client that resumes a session is refused.
#[derive(Debug, thiserror::Error)]
#[error("the client's certificate has expired since it was here first")]
struct Expired;

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
