//! QUIC as the `h3` crate wants it, over `quinn`. It does what `h3-quinn` does, and three things more that a server among
//! strangers needs: a frame that is too long, or that its stream ends in, closes the connection before `h3` sees it
//! ([`StreamFrames`]); a stream that nobody has ended is reset, where quinn would end it well, so that a part is never
//! taken for the whole; and a stream may be stopped while it is read.

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use h3::error::Code;
use h3::quic::{self, ConnectionErrorIncoming, StreamErrorIncoming, StreamId, WriteBuf};
use quinn::{ConnectionError, ReadError, VarInt, WriteError};

use crate::wire::StreamFrames;

/// How many packets' worth of a stream is read at once.
const PIECES: usize = 16;

/// How long a frame may be that says something of the connection.
const CONTROL_FRAME: u64 = 16 * 1024;

type Boxed<T> = Pin<Box<dyn Future<Output = T>>>;

/// A connection of QUIC.
pub struct Connection {
    quinn: quinn::Connection,
    two_way: Option<Boxed<Result<(quinn::SendStream, quinn::RecvStream), ConnectionError>>>,
    one_way: Option<Boxed<Result<quinn::RecvStream, ConnectionError>>>,
    opener: Opener,
    breach: Breach,
    limit: u64,
}

/// Opens streams in one direction, which is all that a server opens.
pub struct Opener {
    connection: quinn::Connection,
    opening: Option<Boxed<Result<quinn::SendStream, ConnectionError>>>,
}

/// Tells whether the peer was found to have broken the protocol.
#[derive(Debug, Clone, Default)]
pub struct Breach(Rc<Cell<bool>>);

/// What becomes of the sending side of a stream that is dropped before it was ended: it is reset with a code, or ended
/// well where something was sent on it.
#[derive(Debug, Clone)]
pub struct Unended(Rc<Cell<(Code, bool)>>);

/// A stream in both directions: a request's.
pub struct Stream {
    send: SendStream,
    recv: RecvStream,
}

/// The side of a stream that we send on.
pub struct SendStream {
    stream: quinn::SendStream,
    writing: Option<WriteBuf<Bytes>>,
    has_sent: bool,
    is_ended: bool,
    unended: Unended,
}

/// The side of a stream that we read.
pub struct RecvStream {
    stream: quinn::RecvStream,
    connection: quinn::Connection,
    frames: StreamFrames,
    breach: Breach,
}

impl Connection {
    /// The connection as `h3` wants it. A frame of a request's stream other than DATA may have `limit` bytes.
    pub fn new(connection: quinn::Connection, limit: u64) -> Self {
        let opener = Opener { connection: connection.clone(), opening: None };
        Self { quinn: connection, two_way: None, one_way: None, opener, breach: Breach::default(), limit }
    }

    /// Tells whether the peer was found to have broken the protocol here.
    pub fn breach(&self) -> Breach {
        self.breach.clone()
    }
}

impl Breach {
    /// Whether it has.
    pub fn is_found(&self) -> bool {
        self.0.get()
    }
}

impl Unended {
    /// What was sent is all; where nothing was, it is reset with `code`.
    pub fn is_whole_or(&self, code: Code) {
        self.0.set((code, true));
    }

    /// It is reset with `code`.
    pub fn is_reset(&self, code: Code) {
        self.0.set((code, false));
    }
}

impl Stream {
    /// Its number.
    pub fn number(&self) -> u64 {
        VarInt::from(self.send.stream.id()).into_inner()
    }

    /// What becomes of it if it is dropped before it was ended: by default it is reset.
    pub fn unended(&self) -> Unended {
        self.send.unended.clone()
    }

    /// Waits until the peer has all that was sent, wants no more of it, or is gone; true where it has all.
    pub fn settled(&self) -> impl Future<Output = bool> + use<> {
        let stopped = self.send.stream.stopped();
        async move { matches!(stopped.await, Ok(None)) }
    }

    /// Refuses the request that it is, before anything of it was looked at.
    pub fn reject(mut self) {
        quic::SendStream::reset(&mut self.send, Code::H3_REQUEST_REJECTED.value());
        quic::RecvStream::stop_sending(&mut self.recv, Code::H3_REQUEST_REJECTED.value());
    }
}

impl quic::Connection<Bytes> for Connection {
    type RecvStream = RecvStream;
    type OpenStreams = Opener;

    fn poll_accept_recv(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<RecvStream, ConnectionErrorIncoming>> {
        let accepting = self.one_way.get_or_insert_with(|| {
            let connection = self.quinn.clone();
            Box::pin(async move { connection.accept_uni().await })
        });
        let accepted = ready!(accepting.as_mut().poll(cx));
        self.one_way = None;
        let stream = accepted.map_err(of_connection)?;
        let frames = StreamFrames::of_one_way(CONTROL_FRAME);
        let (connection, breach) = (self.quinn.clone(), self.breach.clone());
        Poll::Ready(Ok(RecvStream { stream, connection, frames, breach }))
    }

    fn poll_accept_bidi(&mut self, cx: &mut Context<'_>) -> Poll<Result<Stream, ConnectionErrorIncoming>> {
        let accepting = self.two_way.get_or_insert_with(|| {
            let connection = self.quinn.clone();
            Box::pin(async move { connection.accept_bi().await })
        });
        let accepted = ready!(accepting.as_mut().poll(cx));
        self.two_way = None;
        let (send, recv) = accepted.map_err(of_connection)?;
        let frames = StreamFrames::of_request(self.limit);
        let (connection, breach) = (self.quinn.clone(), self.breach.clone());
        let recv = RecvStream { stream: recv, connection, frames, breach };
        Poll::Ready(Ok(Stream { send: SendStream::new(send), recv }))
    }

    fn opener(&self) -> Opener {
        Opener { connection: self.quinn.clone(), opening: None }
    }
}

impl quic::OpenStreams<Bytes> for Connection {
    type BidiStream = Stream;
    type SendStream = SendStream;

    fn poll_open_bidi(&mut self, cx: &mut Context<'_>) -> Poll<Result<Stream, StreamErrorIncoming>> {
        self.opener.poll_open_bidi(cx)
    }

    fn poll_open_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<SendStream, StreamErrorIncoming>> {
        self.opener.poll_open_send(cx)
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        self.opener.close(code, reason);
    }
}

impl quic::OpenStreams<Bytes> for Opener {
    type BidiStream = Stream;
    type SendStream = SendStream;

    fn poll_open_bidi(&mut self, _: &mut Context<'_>) -> Poll<Result<Stream, StreamErrorIncoming>> {
        Poll::Ready(Err(StreamErrorIncoming::Unknown("a server opens no requests".into())))
    }

    fn poll_open_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<SendStream, StreamErrorIncoming>> {
        let opening = self.opening.get_or_insert_with(|| {
            let connection = self.connection.clone();
            Box::pin(async move { connection.open_uni().await })
        });
        let opened = ready!(opening.as_mut().poll(cx));
        self.opening = None;
        Poll::Ready(opened.map(SendStream::new).map_err(of_stream))
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        self.connection.close(number(code.value()), reason);
    }
}

impl RecvStream {
    /// Closes the connection for what the peer did here.
    fn broken(&self, code: Code, reason: &[u8]) -> StreamErrorIncoming {
        self.breach.0.set(true);
        self.connection.close(number(code.value()), reason);
        StreamErrorIncoming::StreamTerminated { error_code: code.value() }
    }
}

impl quic::RecvStream for RecvStream {
    type Buf = Bytes;

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        let mut pieces = [const { Bytes::new() }; PIECES];
        let polled = pin!(self.stream.read_chunks(&mut pieces)).poll(cx);
        let count = match ready!(polled).map_err(of_read)? {
            Some(count) => count,
            None if self.frames.is_between() => return Poll::Ready(Ok(None)),
            None => return Poll::Ready(Err(self.broken(Code::H3_FRAME_ERROR, b"a stream ended in a frame"))),
        };
        let data = match pieces.get(..count).unwrap_or_default() {
            [one] => one.clone(),
            many => {
                let mut joined = BytesMut::with_capacity(many.iter().map(Bytes::len).sum());
                for piece in many {
                    joined.extend_from_slice(piece);
                }
                joined.freeze()
            }
        };
        match self.frames.pass(&data) {
            Ok(()) => Poll::Ready(Ok(Some(data))),
            Err(_) => Poll::Ready(Err(self.broken(Code::H3_EXCESSIVE_LOAD, b"a frame is too long"))),
        }
    }

    fn stop_sending(&mut self, code: u64) {
        // It may have ended.
        let _ = self.stream.stop(number(code));
    }

    fn recv_id(&self) -> StreamId {
        id(self.stream.id())
    }
}

impl Drop for RecvStream {
    fn drop(&mut self) {
        // What was not read is not wanted, and that is no error (RFC 9114 §4.1).
        let _ = self.stream.stop(number(Code::H3_NO_ERROR.value()));
    }
}

impl SendStream {
    fn new(stream: quinn::SendStream) -> Self {
        let unended = Unended(Rc::new(Cell::new((Code::H3_INTERNAL_ERROR, false))));
        Self { stream, writing: None, has_sent: false, is_ended: false, unended }
    }
}

impl quic::SendStream<Bytes> for SendStream {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        if let Some(data) = &mut self.writing {
            while data.has_remaining() {
                let written = ready!(Pin::new(&mut self.stream).poll_write(cx, data.chunk()));
                data.advance(written.map_err(of_write)?);
            }
            self.writing = None;
            self.has_sent = true;
        }
        Poll::Ready(Ok(()))
    }

    fn send_data<T: Into<WriteBuf<Bytes>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        if self.writing.is_some() {
            // Somebody gave up in the middle of a frame: nothing can follow it.
            return Err(StreamErrorIncoming::Unknown("a frame was not finished".into()));
        }
        self.writing = Some(data.into());
        Ok(())
    }

    fn poll_finish(&mut self, _: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        if self.writing.is_some() {
            return Poll::Ready(Err(StreamErrorIncoming::Unknown("a frame was not finished".into())));
        }
        self.is_ended = true;
        Poll::Ready(self.stream.finish().map_err(|error| StreamErrorIncoming::Unknown(Box::new(error))))
    }

    fn reset(&mut self, code: u64) {
        self.is_ended = true;
        // It may have ended, or been stopped.
        let _ = self.stream.reset(number(code));
    }

    fn send_id(&self) -> StreamId {
        id(self.stream.id())
    }
}

impl Drop for SendStream {
    fn drop(&mut self) {
        let (code, is_whole) = self.unended.0.get();
        // Quinn ends it well when it drops it.
        let ends_well = is_whole && self.has_sent && self.writing.is_none();
        if !self.is_ended && !ends_well {
            quic::SendStream::reset(self, code.value());
        }
    }
}

impl quic::SendStream<Bytes> for Stream {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.send.poll_ready(cx)
    }

    fn send_data<T: Into<WriteBuf<Bytes>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        self.send.send_data(data)
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.send.poll_finish(cx)
    }

    fn reset(&mut self, code: u64) {
        self.send.reset(code);
    }

    fn send_id(&self) -> StreamId {
        self.send.send_id()
    }
}

impl quic::RecvStream for Stream {
    type Buf = Bytes;

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        self.recv.poll_data(cx)
    }

    fn stop_sending(&mut self, code: u64) {
        self.recv.stop_sending(code);
    }

    fn recv_id(&self) -> StreamId {
        self.recv.recv_id()
    }
}

impl quic::BidiStream<Bytes> for Stream {
    type SendStream = SendStream;
    type RecvStream = RecvStream;

    fn split(self) -> (SendStream, RecvStream) {
        (self.send, self.recv)
    }
}

impl fmt::Debug for RecvStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecvStream").field("id", &self.stream.id()).finish_non_exhaustive()
    }
}

impl fmt::Debug for SendStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendStream").field("id", &self.stream.id()).finish_non_exhaustive()
    }
}

/// `code` as QUIC has it; all codes fit.
pub fn number(code: u64) -> VarInt {
    VarInt::from_u64(code).unwrap_or(VarInt::MAX)
}

fn id(id: quinn::StreamId) -> StreamId {
    // The same numbers, within the same bounds.
    let number = h3::proto::varint::VarInt::from_u64(VarInt::from(id).into_inner());
    number.unwrap_or(h3::proto::varint::VarInt::from_u32(0)).into()
}

fn of_connection(error: ConnectionError) -> ConnectionErrorIncoming {
    match error {
        ConnectionError::ApplicationClosed(close) => {
            ConnectionErrorIncoming::ApplicationClose { error_code: close.error_code.into_inner() }
        }
        ConnectionError::TimedOut => ConnectionErrorIncoming::Timeout,
        error => ConnectionErrorIncoming::Undefined(Arc::new(error)),
    }
}

fn of_stream(error: ConnectionError) -> StreamErrorIncoming {
    StreamErrorIncoming::ConnectionErrorIncoming { connection_error: of_connection(error) }
}

fn of_read(error: ReadError) -> StreamErrorIncoming {
    match error {
        ReadError::Reset(code) => StreamErrorIncoming::StreamTerminated { error_code: code.into_inner() },
        ReadError::ConnectionLost(error) => of_stream(error),
        error => StreamErrorIncoming::Unknown(Box::new(error)),
    }
}

fn of_write(error: WriteError) -> StreamErrorIncoming {
    match error {
        WriteError::Stopped(code) => StreamErrorIncoming::StreamTerminated { error_code: code.into_inner() },
        WriteError::ConnectionLost(error) => of_stream(error),
        error => StreamErrorIncoming::Unknown(Box::new(error)),
    }
}
