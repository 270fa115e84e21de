//! A request under way and its response: what holds the endpoint and the connection for it, and what it comes to where
//! there is no response. Sending it is for [`super::local`] and the protocols.

use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Instant;

use super::admission::Permit;
use super::client::Pools;
use super::connect::ConnectError;
use super::local::Endpoint;
use super::{Inbound, InboundError, Sink, Upload, http1, http2};
use crate::net::{Fill, Io, Source, in_time};
use crate::wire::ResponseHead;

/// A response and the hold on the connection that it came by.
#[derive(Debug)]
pub struct Exchange {
    /// The response's head.
    pub head: ResponseHead,
    /// Its body, which streams.
    pub body: Inbound,
    /// Give it back when the body has ended well, drop it otherwise.
    pub lease: Lease,
    /// Where bytes go, where the exchange is no longer HTTP: the head is that of a 101.
    pub sink: Option<Sink>,
}

/// The hold on an endpoint (counted as a request in flight) and on a connection, or a stream of one.
#[derive(Debug)]
pub struct Lease {
    pub(super) endpoint: Rc<Endpoint>,
    pub(super) pools: Rc<Pools>,
    pub(super) connection: Option<http1::Connection>,
    /// The request's body, where it is still on its way.
    pub(super) uploading: Option<Box<http1::Uploading>>,
    pub(super) stream: Option<http2::Hold>,
    /// Its place among the requests of the upstream, where they are limited.
    permit: Option<Permit>,
}

/// A request that got no response.
#[derive(Debug, thiserror::Error)]
#[error("the request got no response")]
pub struct SendError {
    /// Why.
    #[source]
    pub kind: SendErrorKind,
    /// The body, untouched, when no byte of the request was sent.
    pub unsent: Option<Upload>,
}

/// Why a request got no response.
#[derive(Debug, thiserror::Error)]
pub enum SendErrorKind {
    /// No connection was made.
    #[error("no connection")]
    Connect(#[from] ConnectError),
    /// The endpoint closed a connection that it had kept open, just when the request was sent: nobody knows whether it
    /// was read.
    #[error("the endpoint closed its idle connection before it answered")]
    Stale(#[source] Box<dyn std::error::Error>),
    /// The connection broke, or the endpoint reset the request.
    #[error("the connection broke before the response")]
    Reset(#[source] Box<dyn std::error::Error>),
    /// The endpoint has refused to look at the request.
    #[error("the endpoint takes no more requests on the connection")]
    Refused(#[source] Box<dyn std::error::Error>),
    /// What came is not HTTP.
    #[error("the response is not valid HTTP")]
    Protocol(#[source] Box<dyn std::error::Error>),
    /// The response did not begin in time.
    #[error("the response did not begin in time")]
    Timeout,
    /// The endpoint's protocol has no words for the host.
    #[error("the host is none that the endpoint's protocol has")]
    Host,
    /// The endpoint's HTTP/2 takes no tunnel.
    #[error("the endpoint takes no WebSocket over HTTP/2")]
    NoTunnel,
    /// The endpoint has chosen the other protocol, on this connection where there is one. Nobody outside sees it: the
    /// request is sent the other way.
    #[error("the endpoint chose the other protocol")]
    Otherwise(Option<Box<Io>>),
}

/// How much of a response that nobody wants is read so that its connection can be used again, and for how long.
const UNWANTED: usize = 64 * 1024;
const UNWANTED_FOR: Duration = Duration::from_secs(1);

impl Exchange {
    /// Lets go of a response that nobody wants. Its connection is kept where little of it is left.
    pub fn discard(self) {
        let Self { mut body, lease, .. } = self;
        if body.is_empty() {
            return lease.give_back();
        }
        if lease.connection.is_none() || body.length().is_none_or(|length| length > UNWANTED as u64) {
            return;
        }
        super::drive(async move {
            let reading = poll_fn(|cx| {
                while let Fill::Data = ready!(body.poll_fill(cx))? {
                    let length = body.with_data(<[u8]>::len);
                    body.consume(length);
                }
                Poll::Ready(Ok::<_, InboundError>(()))
            });
            if let Ok(Ok(())) = tokio::time::timeout(UNWANTED_FOR, reading).await {
                lease.give_back();
            }
        });
    }
}

impl Lease {
    pub(super) fn new(endpoint: Rc<Endpoint>, pools: Rc<Pools>) -> Self {
        endpoint.in_flight.set(endpoint.in_flight.get() + 1);
        Self { endpoint, pools, connection: None, uploading: None, stream: None, permit: None }
    }

    /// Keeps `permit` until the exchange is over.
    pub fn hold(&mut self, permit: Permit) {
        self.permit = Some(permit);
    }

    /// Gives the connection back for the next request: both bodies have ended well. Where something of the request's is
    /// not written yet, the connection is closed: the next request would be read as its rest.
    pub fn give_back(mut self) {
        if let Some(connection) = self.connection.take()
            && self.uploading.is_none()
            && !self.endpoint.retired.get()
        {
            self.pools.http1.put(connection);
        }
    }

    /// Sends on what has come of the request's body while the response comes already.
    pub fn poll_upload(&mut self, cx: &mut Context<'_>) {
        if let Some(uploading) = &mut self.uploading
            && let Poll::Ready(is_whole) = uploading.poll(cx)
        {
            self.uploading = None;
            if let Some(connection) = self.connection.as_ref().filter(|_| !is_whole) {
                connection.cut();
            }
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.endpoint.in_flight.set(self.endpoint.in_flight.get().saturating_sub(1));
        if self.endpoint.retired.get() {
            // Its stream first, so that the connection is idle.
            drop(self.stream.take());
            self.endpoint.retire();
        }
    }
}

/// Waits for `response` no longer than `limit` after the last progress of the request's body.
pub(super) async fn within<F: Future>(
    response: F,
    upload: Option<&super::UploadState>,
    limit: Duration,
) -> Result<F::Output, SendErrorKind> {
    let started = Instant::now();
    let mut response = std::pin::pin!(response);
    let mut deadline = started + limit;
    loop {
        match in_time(deadline, response.as_mut()).await {
            Some(output) => return Ok(output),
            None => match upload.and_then(super::UploadState::last_progress) {
                Some(progress) if progress + limit > deadline => deadline = progress + limit,
                _ => return Err(SendErrorKind::Timeout),
            },
        }
    }
}
