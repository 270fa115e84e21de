//! A connection's bytes: those of the socket, or what TLS makes of them.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use rustls::HandshakeKind;

use crate::tls::{Session, Settings};

/// What is left to read after a read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// Perhaps more.
    More,
    /// Nothing: what comes later is an event of its own, but for the end.
    Little,
    /// Nothing for now.
    Nothing,
    /// The other side ended the connection, or it broke.
    End,
}

/// A connection.
pub(crate) struct Stream {
    tcp: TcpStream,
    tls: Option<Box<Session>>,
    /// What is to be written, and how much of it was.
    out: Vec<u8>,
    sent: usize,
}

impl Stream {
    /// The connection `tcp`, with TLS where `settings` tell of it.
    ///
    /// # Errors
    /// TLS cannot be had, or `registry` takes no more.
    pub(crate) fn new(
        tcp: std::net::TcpStream,
        settings: Option<&Settings>,
        registry: &Registry,
        token: Token,
    ) -> io::Result<Self> {
        tcp.set_nodelay(true)?;
        tcp.set_nonblocking(true)?;
        let mut tcp = TcpStream::from_std(tcp);
        registry.register(&mut tcp, token, Interest::READABLE | Interest::WRITABLE)?;
        let tls = settings.map(Session::new).transpose()?.map(Box::new);
        Ok(Self { tcp, tls, out: Vec::new(), sent: 0 })
    }

    /// Where the bytes go that `flush` sends.
    pub(crate) fn plain(&mut self) -> &mut Vec<u8> {
        match &mut self.tls {
            Some(session) => &mut session.waiting,
            None => &mut self.out,
        }
    }

    /// Sends what there is, as far as the socket and the handshake take it.
    ///
    /// # Errors
    /// The connection is broken.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        if let Some(session) = &mut self.tls
            && !session.waiting.is_empty()
        {
            session.send(&mut self.out)?;
        }
        while self.sent < self.out.len() {
            match self.tcp.write(&self.out[self.sent..]) {
                Ok(written) => self.sent += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.out.clear();
        self.sent = 0;
        Ok(())
    }

    /// Reads once, and gives `take` what came.
    ///
    /// # Errors
    /// It is not TLS, though it should be.
    pub(crate) fn receive(&mut self, scratch: &mut [u8], mut take: impl FnMut(&[u8])) -> io::Result<Left> {
        let held = self.tls.as_mut().map_or(0, |session| session.unhold(scratch));
        let (count, left) = match self.tcp.read(&mut scratch[held..]) {
            Ok(0) => (0, Left::End),
            Ok(count) if held + count < scratch.len() => (count, Left::Little),
            Ok(count) => (count, Left::More),
            Err(error) if error.kind() == ErrorKind::WouldBlock => (0, Left::Nothing),
            Err(error) if error.kind() == ErrorKind::Interrupted => (0, Left::More),
            Err(_) => (0, Left::End),
        };
        let bytes = &mut scratch[..held + count];
        match &mut self.tls {
            Some(session) => {
                session.receive(bytes, &mut self.out, &mut take)?;
                if session.ended() {
                    return Ok(Left::End);
                }
            }
            None if bytes.is_empty() => {}
            None => take(bytes),
        }
        Ok(left)
    }

    /// What the TLS handshake was, once, when it is over.
    pub(crate) fn handshake(&mut self) -> Option<HandshakeKind> {
        self.tls.as_mut().and_then(|session| session.handshake())
    }

    /// Says that nothing more will be sent; the other side then ends the connection, if it has not.
    ///
    /// # Errors
    /// The connection is broken.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        if let Some(session) = &mut self.tls {
            session.close(&mut self.out)?;
        }
        self.flush()?;
        self.tcp.shutdown(Shutdown::Write)
    }

    /// Whether the other side has left the connection open and sent nothing.
    pub(crate) fn silent(&self) -> bool {
        matches!(self.tcp.peek(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock)
    }
}
