//! TLS on a socket, once its handshake is done. Like a plain socket it never waits: what comes is read in large pieces
//! and opened at once, what goes is sealed and written as far as the socket takes it.
//!
//! The handshake is made by whoever accepts or connects; which certificate is whose is not known here.

use std::cell::{Cell, RefCell};
use std::io::{self, BufRead, IoSlice, Read, Write};
use std::task::{Context, Poll};

use rustls::pki_types::CertificateDer;
use rustls::{Connection, ProtocolVersion};

use super::Socket;
use super::buffer::{self, Pressure};

/// How much ciphertext is read at once: four full records and a little.
const READ: usize = 66 * 1024;

thread_local! {
    /// Where ciphertext is read to: one for a worker, for nothing of it outlives the call but what one reader had no
    /// room for.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// TLS on a socket.
#[derive(Debug)]
pub struct Tls {
    socket: Socket,
    session: RefCell<Connection>,
    /// Ciphertext that was read and that its reader had no room for.
    carried: RefCell<Vec<u8>>,
    /// Whether the peer is owed the word that this is the end.
    owes_close: Cell<bool>,
    /// How many bytes the socket took.
    sent: Cell<u64>,
}

/// A socket as rustls writes to it.
#[derive(Debug)]
pub struct Writer<'a>(pub &'a Socket);

impl Write for Writer<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.write_all_of(pieces)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Tls {
    /// The session `session` on `socket`; its handshake is done.
    pub fn new(socket: Socket, session: Connection) -> Self {
        Self {
            socket,
            session: RefCell::new(session),
            carried: RefCell::default(),
            owes_close: Cell::new(true),
            sent: Cell::new(0),
        }
    }

    /// Whether `protocol` was agreed on in the handshake (ALPN).
    pub fn speaks(&self, protocol: &[u8]) -> bool {
        self.session.borrow().alpn_protocol() == Some(protocol)
    }

    /// The certificate of the peer in DER, verified, if it has shown one.
    pub fn peer_certificate(&self) -> Option<CertificateDer<'static>> {
        self.session.borrow().peer_certificates()?.first().cloned()
    }

    /// The version of TLS, as in `TLSv1.3`.
    pub fn version(&self) -> &'static str {
        match self.session.borrow().protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
            Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "",
        }
    }

    /// How many bytes the socket took: what is sealed is not yet sent.
    pub(super) fn sent(&self) -> u64 {
        self.sent.get()
    }

    /// The socket below.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Waits until there may be something to read, or the end.
    pub(super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.carried.borrow().is_empty() || !is_read_empty(&mut self.session.borrow_mut()) {
            return Poll::Ready(Ok(()));
        }
        self.socket.poll_readable(cx)
    }

    /// Reads what is there; 0 is the end that the peer has told.
    pub(super) fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        let session = &mut *self.session.borrow_mut();
        let mut filled = 0;
        if self.take(session, into, &mut filled)? || filled > 0 {
            return Ok(filled);
        }
        let carried = self.carried.take();
        if !carried.is_empty() {
            self.open(session, &carried, into, &mut filled)?;
        }
        if filled > 0 {
            return Ok(filled);
        }
        let is_over = SCRATCH.with_borrow_mut(|scratch| {
            scratch.resize(READ, 0);
            // No more than there is room for, though the framing makes it a little less.
            let room = into.len().clamp(4096, READ);
            let read = self.socket.read(scratch.get_mut(..room).unwrap_or_default());
            let read = read.map_err(|error| failure(session, error))?;
            self.open(session, scratch.get(..read).unwrap_or_default(), into, &mut filled)
        })?;
        // A peer may send records without end that have nothing in them: whoever reads asks again, and others have their
        // turn in between.
        if filled == 0 && !is_over { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(filled) }
    }

    /// Opens `sealed` into the rest of `into`; whether the end has come. Nothing at all is the socket's end.
    fn open(
        &self,
        session: &mut Connection,
        mut sealed: &[u8],
        into: &mut [u8],
        filled: &mut usize,
    ) -> io::Result<bool> {
        loop {
            let is_end = sealed.is_empty();
            session.read_tls(&mut sealed)?;
            let opened = session.process_new_packets();
            if session.wants_write() {
                // An alert, or the answer to a change of keys: as far as it goes now.
                let _ = self.send(session);
            }
            opened.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            if self.take(session, into, filled)? || is_end {
                return Ok(true);
            }
            if sealed.is_empty() {
                return Ok(false);
            }
            if *filled == into.len() {
                self.carried.borrow_mut().extend_from_slice(sealed);
                return Ok(false);
            }
        }
    }

    /// Takes what is opened; whether that is all until the end.
    fn take(&self, session: &mut Connection, into: &mut [u8], filled: &mut usize) -> io::Result<bool> {
        while let Some(room) = into.get_mut(*filled..).filter(|room| !room.is_empty()) {
            match session.reader().read(room) {
                Ok(0) => return Ok(true),
                Ok(read) => *filled += read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                // What came before the socket's end is given first.
                Err(_) if *filled > 0 => return Ok(true),
                Err(error) => {
                    self.owes_close.set(false);
                    return Err(error);
                }
            }
        }
        Ok(false)
    }

    /// Takes what can be taken now.
    pub(super) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        // What is sealed waits where the socket takes no more.
        let bytes = bytes.get(..buffer::pressure().bound(bytes.len())).unwrap_or(bytes);
        self.seal(|session| session.writer().write(bytes))
    }

    /// Takes of both what can be taken now.
    pub(super) fn write_both(&self, first: &[u8], second: &[u8]) -> io::Result<usize> {
        self.write_all_of(&[IoSlice::new(first), IoSlice::new(second)])
    }

    /// Takes of all these what can be taken now.
    pub(super) fn write_all_of(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        if buffer::pressure() != Pressure::None {
            let first = pieces.iter().find(|piece| !piece.is_empty());
            return self.write(first.map_or(&[], |piece| piece));
        }
        self.seal(|session| session.writer().write_vectored(pieces))
    }

    fn seal(&self, write: impl FnOnce(&mut Connection) -> io::Result<usize>) -> io::Result<usize> {
        let session = &mut *self.session.borrow_mut();
        // What was sealed before goes first: so much waits at most.
        self.send_or_tell(session)?;
        let taken = write(session)?;
        match self.send_or_tell(session) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(taken),
        }
    }

    fn last_word(&self, session: &mut Connection) -> Option<io::Error> {
        if !self.carried.borrow().is_empty() || !is_read_empty(session) {
            // What came before is to be read first.
            return None;
        }
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.resize(READ, 0);
            let read = self.socket.read_unannounced(scratch).ok().filter(|read| *read > 0)?;
            self.open(session, scratch.get(..read)?, &mut [], &mut 0).err()
        })
    }

    /// Writes what is sealed.
    pub(super) fn flush(&self) -> io::Result<()> {
        self.send_or_tell(&mut self.session.borrow_mut())
    }

    /// Writes what is sealed. Where the peer takes no more, the error is what it said last: a peer that refuses a
    /// handshake says why and closes, and what is written to it meanwhile would hide that.
    fn send_or_tell(&self, session: &mut Connection) -> io::Result<()> {
        self.send(session).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => error,
            _ => self.last_word(session).unwrap_or(error),
        })
    }

    fn send(&self, session: &mut Connection) -> io::Result<()> {
        while session.wants_write() {
            let sent = session.write_tls(&mut Writer(&self.socket))?;
            self.sent.set(self.sent.get() + sent as u64);
        }
        Ok(())
    }

    /// Tells the peer that this is the end, so that it does not take it for one that somebody else made.
    pub(super) fn close(&self) {
        if self.owes_close.replace(false) {
            let session = &mut *self.session.borrow_mut();
            session.send_close_notify();
            // Best effort: a peer that takes nothing is not told.
            let _ = self.send(session);
        }
    }

    /// The peer is not to take the end for an orderly one.
    pub(super) fn forget_close(&self) {
        self.owes_close.set(false);
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        self.close();
    }
}

/// Whether nothing that is opened waits to be read.
fn is_read_empty(session: &mut Connection) -> bool {
    session.reader().fill_buf().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

/// What ended `session` if something has, else `error`, which the socket gives.
fn failure(session: &mut Connection, error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock => error,
        _ => match session.process_new_packets() {
            Ok(_) => error,
            Err(ended) => io::Error::new(io::ErrorKind::InvalidData, ended),
        },
    }
}
