//! The PROXY header of a connection: read before anything else, and to its last byte only, so that what comes behind it
//! is as if the client itself had connected. Whoever has no right to send one, or sends none, is closed without a word.
//! How a header is written: [`crate::wire::proxy_protocol`].

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, sleep_until};
use tracing::debug;

use super::http1::GRACE;
use crate::config::model;
use crate::net::Socket;
use crate::proxy::peer::Peer;
use crate::proxy::{Downstream, Worker};
use crate::telemetry::Refused;
use crate::upstream::Client;
use crate::wire::proxy_protocol::{Addresses, Parsed, ProxyError, parse};

/// What is looked at, at first: the specification says that no header without further values is longer than 232 bytes.
const FIRST: usize = 256;

/// Why a connection is of no use.
#[derive(Debug, thiserror::Error)]
enum Unfit {
    /// Its peer is not in `trust`.
    #[error("the peer is none that `trust` names")]
    Untrusted,
    /// The header has not come in time.
    #[error("the header has not come within the time for a head")]
    Late,
    /// It is no header.
    #[error(transparent)]
    Malformed(#[from] ProxyError),
    /// It closed within the header.
    #[error("the connection closed within the header")]
    Closed,
    /// It closed before it said anything, as those do who only look whether somebody listens; or we end.
    #[error("nothing was said")]
    Silent,
}

/// Reads the header of a connection that was made at `accepted`; from then on the peer is whom the header names. Gives
/// whether the connection is to be served.
pub(super) async fn settle(
    worker: &Worker,
    socket: &Socket,
    downstream: &mut Downstream,
    accepted: Instant,
) -> bool {
    let error = match read(socket, downstream, accepted).await {
        Ok(Some(addresses)) => {
            downstream.peer = Peer::new(addresses.source().ip());
            downstream.client = Some(Rc::new(Client::new(addresses)));
            return true;
        }
        // The balancer speaks for itself, or for somebody whom it does not name: the bytes may be anybody's.
        Ok(None) => {
            downstream.is_anonymous = true;
            return true;
        }
        Err(error) => error,
    };
    let cause = match &error {
        Unfit::Untrusted => Refused::Untrusted,
        Unfit::Late => Refused::Timeout,
        Unfit::Malformed(_) | Unfit::Closed => Refused::ProxyHeader,
        Unfit::Silent => return false,
    };
    worker.metrics.refused(downstream.id, cause);
    debug!(
        listener = %downstream.listener.name,
        peer = downstream.peer.address(),
        error = &error as &dyn std::error::Error,
        "PROXY header refused"
    );
    false
}

async fn read(
    socket: &Socket,
    downstream: &Downstream,
    accepted: Instant,
) -> Result<Option<Addresses>, Unfit> {
    if !is_balancer(downstream) {
        return Err(Unfit::Untrusted);
    }
    let mut header = Incoming::default();
    let mut waiting = downstream.drained.clone();
    let mut end = pin!(waiting.wanted());
    let deadline = accepted + downstream.listener.header_timeout;
    let mut timer = pin!(sleep_until(deadline));
    let mut is_draining = false;
    poll_fn(|cx| {
        if let Poll::Ready(read) = header.poll(socket, cx) {
            return Poll::Ready(read);
        }
        if !is_draining && end.as_mut().poll(cx).is_ready() {
            is_draining = true;
            timer.as_mut().reset(deadline.min(Instant::now() + GRACE));
        }
        ready!(timer.as_mut().poll(cx));
        if is_draining && header.read == 0 {
            return Poll::Ready(Err(Unfit::Silent));
        }
        // Who has begun is heard out.
        timer.as_mut().reset(deadline);
        timer.as_mut().poll(cx).map(|()| Err(Unfit::Late))
    })
    .await
}

/// Whether the peer of the socket may say whose connection it is.
fn is_balancer(downstream: &Downstream) -> bool {
    let model::Listener { trust, .. } = &*downstream.listener;
    // Who may open a Unix socket is settled by its permissions.
    downstream.client.is_none() || trust.as_ref().is_none_or(|trust| trust.contains(downstream.peer.ip()))
}

/// A header as far as it has come.
#[derive(Debug, Default)]
struct Incoming {
    /// The header, and behind it room.
    bytes: Vec<u8>,
    /// How much of it was read.
    read: usize,
}

impl Incoming {
    /// Looks at what is there, and then reads what of it is the header's. Nothing that was looked at is left unread but
    /// what stands behind the header: so whatever comes later wakes.
    fn poll(&mut self, socket: &Socket, cx: &mut Context<'_>) -> Poll<Result<Option<Addresses>, Unfit>> {
        let mut needed = FIRST;
        loop {
            if socket.poll_readable(cx).map_err(|_| self.end())?.is_pending() {
                return Poll::Pending;
            }
            if self.bytes.len() < self.read + needed {
                self.bytes.resize(self.read + needed, 0);
            }
            let room = &mut self.bytes[self.read..];
            let seen = match socket.peek(room) {
                Ok(0) => return Poll::Ready(Err(self.end())),
                Ok(seen) => seen,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(_) => return Poll::Ready(Err(self.end())),
            };
            let parsed = parse(&self.bytes[..self.read + seen])?;
            let length = match parsed {
                Parsed::Incomplete(more) => {
                    needed = more.max(FIRST);
                    self.read + seen
                }
                Parsed::Whole(header) => header.length,
            };
            match socket.read(&mut self.bytes[self.read..length]) {
                Ok(read) => self.read += read,
                Err(_) => return Poll::Ready(Err(self.end())),
            }
            if let Parsed::Whole(header) = parsed
                && self.read == header.length
            {
                return Poll::Ready(Ok(header.addresses));
            }
        }
    }

    /// What the end of the connection comes to.
    fn end(&self) -> Unfit {
        if self.read == 0 { Unfit::Silent } else { Unfit::Closed }
    }
}
