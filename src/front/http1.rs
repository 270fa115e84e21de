//! HTTP/1.1 and 1.0 from clients, on our own framing. A connection that waits is small: what a request needs is made
//! when its first byte has come, and gone when its response is.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Method, StatusCode, Version};
use tokio::task::coop::consume_budget;
use tokio::time::Instant;

use super::complete::complete;
use super::connection::{Ended, PREFACE};
use super::tls::HTTP1;
use crate::net::{Alarm, Coding, Fill, Link, Transfer, TransferError, Waiting, clock};
use crate::proxy::{
    Downstream, Failure, Outbound, Request, Response, Staying, Tunnel, Worker, handle, respond,
};
use crate::upstream::{Caller, Inbound, Interim, Sink, Upgrade};
use crate::wire::framing::write_plainly;
use crate::wire::{HeadError, Known, Length, RequestHead};

/// How long a client may go on sending after our last response to it.
const LINGER: Duration = Duration::from_secs(2);

/// How long a client that has closed its side may wait for its response without taking a byte of it. It may be gone, and
/// it may have said all that it wanted to say.
const HALF_CLOSED: Duration = Duration::from_secs(1);

/// How long a connection that waits may still bring a request once it drains: the client does not know yet, and one that
/// is on its way must not meet a closed door.
pub(super) const GRACE: Duration = Duration::from_secs(2);

/// The longest target: what HTTP/2 could pass on.
const MAX_TARGET: usize = 65_534;

/// How much of a body that nobody wants is read so that the connection may go on.
const DRAINED: usize = 64 * 1024;

/// A client's connection.
struct Client<'a> {
    worker: &'a Worker,
    link: &'a Rc<Link>,
    downstream: &'a Downstream,
    caller: Caller,
    /// Since when its side is closed.
    closed_since: Cell<Option<Instant>>,
    gone: RefCell<Alarm>,
}

/// What comes after an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// The next request, or a wait for it.
    Request,
    /// The end; where the client may still be sending, it is waited for.
    Close { linger: bool },
    /// Another protocol.
    Http2,
}

/// Serves an HTTP/1 connection until it ends, waits too long, or drains; or until it turns out to speak HTTP/2.
pub(super) async fn serve(
    worker: &Worker,
    link: &Rc<Link>,
    downstream: &Downstream,
    accepted: Instant,
) -> Ended {
    let drained = &downstream.drained;
    let client = Client {
        worker,
        link,
        downstream,
        caller: Caller {
            interim: Some(Interim::default()),
            client: downstream.client.clone(),
            ..Caller::default()
        },
        closed_since: Cell::new(None),
        gone: RefCell::default(),
    };
    let mut waiting = drained.clone();
    let mut end = pin!(waiting.wanted());
    let (mut is_told, mut is_draining) = (false, false);
    // The first head's time began when the connection did.
    let mut deadline = accepted + downstream.listener.header_timeout;
    let mut is_first = true;
    let mut waiting = Waiting::default();
    loop {
        let has_come = link.ahead() > 0
            || poll_fn(|cx| {
                if let Poll::Ready(read) = link.poll_read(cx) {
                    return Poll::Ready(read.is_ok_and(|read| read > 0));
                }
                // Once it waits it is told; until then a look is enough.
                if !is_draining && (drained.is_wanted() || !is_told) && end.as_mut().poll(cx).is_ready() {
                    is_draining = true;
                    deadline = deadline.min(clock::now() + GRACE);
                }
                is_told = true;
                // A client that has had an answer may be told to go: it looks for that, as at any time.
                if !is_first && waiting.poll(cx, &worker.idlers, clock::now).is_ready() {
                    return Poll::Ready(false);
                }
                client.caller.alarm.borrow_mut().poll_until(cx, deadline).map(|()| false)
            })
            .await;
        if !has_come {
            return Ended::Over;
        }
        waiting.is_over();
        let now = clock::now();
        let begun = if is_first { accepted } else { now };
        // Whatever a request needs is in a box of its own, so that a connection that waits does without.
        match Box::pin(client.exchanges(begun, is_first)).await {
            Next::Request => {}
            Next::Close { linger } => {
                if linger {
                    Box::pin(client.linger()).await;
                }
                return Ended::Over;
            }
            Next::Http2 => return Ended::Http2,
        }
        is_first = false;
        let patience = downstream.listener.idle_timeout;
        deadline = clock::now() + if is_draining { patience.min(GRACE) } else { patience };
    }
}

impl Client<'_> {
    /// Serves requests for as long as they have come already.
    async fn exchanges(&self, begun: Instant, mut is_first: bool) -> Next {
        let mut begun = begun;
        loop {
            let next = match self.head(begun).await {
                Ok(Some(head)) => self.exchange(head).await,
                Ok(None) => return Next::Close { linger: false },
                Err(Failure::BadVersion) if is_first && self.speaks_http2() => return Next::Http2,
                Err(failure) => self.refuse(failure).await,
            };
            if next != Next::Request || self.link.ahead() == 0 {
                return next;
            }
            is_first = false;
            // Requests that are answered without waiting must not keep the worker from others.
            consume_budget().await;
            begun = clock::now();
        }
    }

    /// Whether what has come is the preface of HTTP/2, where nothing else was agreed on: that would be definitive
    /// (RFC 7301 §3.2).
    fn speaks_http2(&self) -> bool {
        if self.link.io().tls().is_some_and(|tls| tls.speaks(HTTP1)) {
            return false;
        }
        self.link.with_ahead(|bytes| {
            let common = bytes.len().min(PREFACE.len());
            bytes[..common] == PREFACE[..common]
        })
    }

    /// Reads a head; `None` when the client went away before it was whole.
    async fn head(&self, begun: Instant) -> Result<Option<RequestHead>, Failure> {
        let listener = &self.downstream.listener;
        let limit = usize::try_from(listener.max_header.0).unwrap_or(usize::MAX);
        let deadline = begun + listener.header_timeout;
        poll_fn(|cx| {
            loop {
                let parsed = self.link.parse(|bytes| RequestHead::parse(&bytes[..bytes.len().min(limit)]));
                let failure = match parsed {
                    Ok(Some(head)) if head.path_and_query().len() > MAX_TARGET => {
                        Some(Failure::TargetTooLong)
                    }
                    Ok(Some(head)) => return Poll::Ready(Ok(Some(head))),
                    Ok(None) if self.link.ahead() >= limit => {
                        // A line that has a target and no end.
                        let is_target = |bytes: &[u8]| bytes.contains(&b' ') && !bytes.contains(&b'\n');
                        let is_target = self.link.with_ahead(|bytes| is_target(&bytes[..limit]));
                        Some(if is_target { Failure::TargetTooLong } else { Failure::HeadTooLarge })
                    }
                    Ok(None) => None,
                    Err(HeadError::Malformed) => Some(Failure::MalformedHead),
                    Err(HeadError::Target) => Some(Failure::BadTarget),
                    Err(HeadError::Version) => Some(Failure::BadVersion),
                    Err(HeadError::TooManyFields) => Some(Failure::HeadTooLarge),
                };
                if let Some(failure) = failure {
                    return Poll::Ready(Err(failure));
                }
                self.link.rest();
                match self.link.poll_read(cx) {
                    Poll::Ready(Ok(1..)) => {}
                    Poll::Ready(_) => return Poll::Ready(Ok(None)),
                    Poll::Pending => {
                        let timer = self.caller.alarm.borrow_mut().poll_until(cx, deadline);
                        return timer.map(|()| Err(Failure::HeaderTimeout));
                    }
                }
            }
        })
        .await
    }

    /// Answers what is no request.
    async fn refuse(&self, failure: Failure) -> Next {
        let metrics = &self.worker.metrics;
        if failure != Failure::HeaderTimeout {
            metrics.malformed(self.downstream.id);
        }
        metrics.error(failure.code(), failure.blame());
        let mut response = respond::failure(failure);
        response.close = true;
        self.write(response, &Asked::REFUSED, &[]).await;
        Next::Close { linger: true }
    }

    /// Has a request answered, and writes the answer.
    async fn exchange(&self, mut head: RequestHead) -> Next {
        let asked = Asked::of(&head);
        let length = Length::of_request(&head);
        write_plainly(&mut head.fields);
        let body = Inbound::http1(self.link, length.unwrap_or(Length::Exact(0)));
        let upgrade = if asked.version == Version::HTTP_11 { Upgrade::asked(&head.fields) } else { None };
        let request = Request { head, body, upgrade };
        let mut early = Early::default();
        if let Some(interim) = &self.caller.interim {
            interim.clear();
        }
        self.closed_since.set(None);
        let response = {
            let mut handling = pin!(handle(self.worker, self.downstream, request, &self.caller));
            poll_fn(|cx| {
                let handled = handling.as_mut().poll(cx);
                self.pass_on(cx, asked.version, &mut early);
                match handled {
                    Poll::Ready(response) => Poll::Ready(Some(response)),
                    Poll::Pending => self.poll_gone(cx).map(|()| None),
                }
            })
            .await
        };
        // Who has gone is recorded by what was dropped.
        let Some(mut response) = response else { return Next::Close { linger: false } };
        response.close |= length.is_err();
        match response.tunnel.take() {
            Some(tunnel) => Box::pin(self.tunnel(response, *tunnel, early.rest())).await,
            None => self.write(response, &asked, early.rest()).await,
        }
    }

    /// Says that the connection is no longer HTTP, and passes on what comes.
    async fn tunnel(&self, response: Response, tunnel: Tunnel, early: &[u8]) -> Next {
        let Response { mut head, body, .. } = response;
        complete(&mut head, &body, false, self.downstream.alt_svc.as_deref());
        head.fields.append(Known::Connection, b"upgrade");
        let mut out = early.to_vec();
        head.write(&mut out);
        out.extend_from_slice(b"\r\n");
        // A client that does not take it is met by the tunnel too.
        let _ = self.send(Transfer::new(out, Coding::Plain, None)).await;
        let from_client = Inbound::http1(self.link, Length::UntilClose);
        let is_in_order = tunnel.run(from_client, Sink::Http1(Rc::clone(self.link))).await;
        if !is_in_order {
            // No end goes before the reset.
            self.link.io().reset_on_close();
        }
        Next::Close { linger: is_in_order }
    }

    /// Passes 1xx responses on, each when the one before is written. HTTP/1.0 knows none.
    fn pass_on(&self, cx: &mut Context<'_>, version: Version, early: &mut Early) {
        let (io, Some(interim)) = (self.link.io(), &self.caller.interim) else { return };
        loop {
            while !early.rest().is_empty() {
                match io.write(early.rest()) {
                    Ok(written) => early.at += written,
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                        if !matches!(io.poll_writable(cx), Poll::Ready(Ok(()))) {
                            return;
                        }
                    }
                    // It is met again by the response.
                    Err(_) => return,
                }
            }
            *early = Early::default();
            while let Err(error) = io.flush() {
                let is_held_up = error.kind() == std::io::ErrorKind::WouldBlock;
                if !is_held_up || !matches!(io.poll_writable(cx), Poll::Ready(Ok(()))) {
                    return;
                }
            }
            let Poll::Ready(mut head) = interim.poll_next(cx) else { return };
            if version == Version::HTTP_11 {
                crate::proxy::headers::strip_hop_by_hop(&mut head.fields);
                head.write(&mut early.bytes);
                early.bytes.extend_from_slice(b"\r\n");
            }
        }
    }

    /// Ready when the client has gone while its response is being made. What it sends meanwhile stays where it is.
    fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.closed_since.get().is_none() {
            // A body has its own reader, and a request that came early waits.
            if self.link.poll_between(cx).is_pending() || self.link.ahead() > 0 {
                return Poll::Pending;
            }
            match self.link.poll_read(cx) {
                Poll::Ready(Ok(0)) => self.closed_since.set(Some(Instant::now())),
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(_)) => {
                    self.link.rest();
                    return Poll::Pending;
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        match self.closed_since.get() {
            Some(since) => self.gone.borrow_mut().poll_until(cx, since + HALF_CLOSED),
            None => Poll::Pending,
        }
    }

    /// Writes a response behind what of `early` is not written yet.
    async fn write(&self, response: Response, asked: &Asked, early: &[u8]) -> Next {
        let Response { mut head, body, close, .. } = response;
        // A body that nobody reads any more: a short one is passed over, another one ends the connection.
        let is_left =
            matches!(body, Outbound::Full(_)) && !close && !poll_fn(|cx| Poll::Ready(self.drain(cx))).await;
        let is_bodiless =
            asked.is_head || head.status == StatusCode::NO_CONTENT || head.status == StatusCode::NOT_MODIFIED;
        let mut coding = Coding::Plain;
        let mut ends_by_close = false;
        complete(&mut head, &body, asked.is_head, self.downstream.alt_svc.as_deref());
        if let Outbound::Stream(_) = &body
            && !is_bodiless
            && !head.fields.contains(Known::ContentLength)
        {
            if asked.version == Version::HTTP_11 {
                coding = Coding::Chunked { trailers: asked.takes_trailers };
                head.fields.append(Known::TransferEncoding, b"chunked");
            } else {
                ends_by_close = true;
            }
        }
        let stays =
            asked.stays && !close && !is_left && !ends_by_close && !self.downstream.drained.is_wanted();
        match (stays, asked.version) {
            (true, Version::HTTP_10) => head.fields.append(Known::Connection, b"keep-alive"),
            (false, Version::HTTP_11) => head.fields.append(Known::Connection, b"close"),
            _ => {}
        }
        let mut out = Vec::with_capacity(early.len() + 1024);
        out.extend_from_slice(early);
        head.write(&mut out);
        out.extend_from_slice(b"\r\n");
        drop(head);
        let body = if is_bodiless { None } else { Some(body.staying(self.worker, self.downstream)) };
        let sent = self.send(Transfer::new(out, coding, body)).await;
        let may_send = || !self.link.is_between() || self.link.ahead() > 0;
        match sent {
            Ok(()) if stays && self.link.is_between() && self.closed_since.get().is_none() => Next::Request,
            Ok(()) => {
                if self.link.io().tls().is_some() {
                    // A client that is behind is told the end too: without it, it would have to take all for cut off.
                    self.end(self.downstream.listener.idle_timeout).await;
                }
                Next::Close { linger: close || may_send() }
            }
            Err(Broken::Off) if ends_by_close => {
                // The end of the connection would be the end of the body.
                self.link.io().reset_on_close();
                Next::Close { linger: false }
            }
            // The answers before it are whole, and a reset could overtake them.
            Err(Broken::Off) => Next::Close { linger: may_send() },
            Err(Broken::Slow) => {
                // Else the kernel would hold what was written for as long as the client likes.
                self.link.io().reset_on_close();
                Next::Close { linger: false }
            }
            Err(Broken::Client) => Next::Close { linger: false },
        }
    }

    async fn send(&self, mut transfer: Transfer<Staying<'_>>) -> Result<(), Broken> {
        let mut patience = self.downstream.reading();
        let (mut written, mut quiet_since) = (0, None);
        poll_fn(|cx| {
            match transfer.poll(cx, self.link.io()) {
                Poll::Ready(Ok(())) => return Poll::Ready(Ok(())),
                Poll::Ready(Err(TransferError::Source(_))) => return Poll::Ready(Err(Broken::Off)),
                Poll::Ready(Err(TransferError::Io(_))) => return Poll::Ready(Err(Broken::Client)),
                Poll::Pending => {}
            }
            if self.closed_since.get().is_none() && self.poll_gone(cx).is_ready() {
                return Poll::Ready(Err(Broken::Client));
            }
            let is_closed = self.closed_since.get().is_some();
            let io = self.link.io();
            let so_far = if io.tls().is_some() { io.sent() } else { transfer.written() };
            let moved = so_far - std::mem::replace(&mut written, so_far);
            if moved > 0 {
                quiet_since = None;
                patience.moved(moved, Instant::now);
            }
            let (deadline, broken) = if transfer.is_held_up() {
                // The client takes nothing: it has a time in which it must take something.
                (patience.wait(Instant::now), Broken::Slow)
            } else {
                patience.pause(Instant::now);
                // Or it may be gone.
                let since = is_closed.then(|| *quiet_since.get_or_insert_with(Instant::now));
                (since.map(|since| since + HALF_CLOSED), Broken::Client)
            };
            let Some(deadline) = deadline else { return Poll::Pending };
            self.gone.borrow_mut().poll_until(cx, deadline).map(|()| Err(broken))
        })
        .await
    }

    /// Passes over what has come of a body that nobody reads; whether that was all of it.
    fn drain(&self, cx: &mut Context<'_>) -> bool {
        let mut left = DRAINED;
        while !self.link.is_between() {
            match self.link.poll_fill(cx) {
                Poll::Ready(Ok(Fill::Data)) => {
                    let length = self.link.with_data(<[u8]>::len);
                    self.link.consume(length);
                    match left.checked_sub(length) {
                        Some(rest) => left = rest,
                        None => return false,
                    }
                }
                Poll::Ready(Ok(Fill::End(_))) => return true,
                Poll::Ready(Err(_)) | Poll::Pending => return false,
            }
        }
        true
    }

    /// Says that nothing more comes, as far as the client takes it within `limit`.
    async fn end(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        poll_fn(|cx| match self.link.io().poll_end(cx) {
            Poll::Ready(()) => Poll::Ready(()),
            Poll::Pending => self.gone.borrow_mut().poll_until(cx, deadline),
        })
        .await;
    }

    /// Reads what the client is still sending until it closes or has had its time: a socket closed with bytes unread is
    /// reset, and the reset would overtake our last response (RFC 9112 §9.6).
    async fn linger(&self) {
        self.end(LINGER).await;
        // What it was is of no interest, so it is not opened.
        let io = self.link.io().socket();
        let deadline = Instant::now() + LINGER;
        let mut scratch = [0; 8192];
        poll_fn(|cx| {
            loop {
                match io.poll_readable(cx) {
                    Poll::Ready(Ok(())) => match io.read(&mut scratch) {
                        Ok(1..) => {}
                        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                        Ok(_) | Err(_) => return Poll::Ready(()),
                    },
                    Poll::Ready(Err(_)) => return Poll::Ready(()),
                    Poll::Pending => return self.gone.borrow_mut().poll_until(cx, deadline),
                }
            }
        })
        .await;
    }
}

/// Why a response did not get out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Broken {
    /// Its body broke off.
    Off,
    /// The client takes too little.
    Slow,
    /// The client has gone.
    Client,
}

/// What of a request its response depends on.
#[derive(Debug, Clone, Copy)]
struct Asked {
    is_head: bool,
    version: Version,
    /// Whether the client keeps the connection open.
    stays: bool,
    takes_trailers: bool,
}

impl Asked {
    /// What is known of a request that is none.
    const REFUSED: Self =
        Self { is_head: false, version: Version::HTTP_11, stays: false, takes_trailers: false };

    fn of(head: &RequestHead) -> Self {
        let (version, fields) = (head.version, &head.fields);
        let says = |word| fields.has_token(Known::Connection, word);
        Self {
            is_head: head.method == Method::HEAD,
            version,
            // Who asked for a tunnel may talk to somebody else already.
            stays: head.method != Method::CONNECT
                && !says("close")
                && (version == Version::HTTP_11 || says("keep-alive")),
            takes_trailers: fields.has_token(Known::Te, "trailers"),
        }
    }
}

/// 1xx responses that are not written yet.
#[derive(Debug, Default)]
struct Early {
    bytes: Vec<u8>,
    at: usize,
}

impl Early {
    fn rest(&self) -> &[u8] {
        &self.bytes[self.at..]
    }
}
