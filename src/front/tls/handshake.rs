//! The handshake: from the first byte of a connection to its TLS, or to a refusal. It holds no more than what one hello
//! may be (64 KiB), and ends with its caller's patience.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustls::server::{Accepted, Acceptor, ServerConnection};
use rustls::{Connection, Error};

use super::Secure;
use crate::net::{Socket, Tls, Writer};
use crate::proxy::Downstream;
use crate::telemetry::Refused;

/// How much is read at once: a hello and what a client sends with the end of its handshake.
const READ: usize = 4096;

/// The alert `unrecognized_name`, fatal, in a record of its own (RFC 8446 §6): before the keys it goes in the clear.
const UNRECOGNIZED_NAME: &[u8] = &[21, 3, 3, 0, 2, 2, 112];

/// What is said to a client that speaks HTTP where TLS is spoken.
const SPEAK_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\n\
    content-length: 36\r\nconnection: close\r\n\r\nThis port speaks TLS: ask by https.\n";

/// Why a connection has no TLS.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The client closed, the connection broke, or the listener drains.
    #[error("the connection ended before the handshake")]
    Gone(#[source] io::Error),
    /// It speaks HTTP, not TLS.
    #[error("the client speaks plain HTTP")]
    Plain,
    /// It asks for a name that no certificate has.
    #[error("no certificate has the name that the client asks for")]
    UnknownName,
    /// It does not speak TLS as is wanted here.
    #[error("the handshake failed")]
    Tls(#[source] Error),
}

impl Refusal {
    /// What it counts as; `None` for who has gone by himself.
    pub fn cause(&self) -> Option<Refused> {
        match self {
            Self::Gone(_) => None,
            Self::UnknownName => Some(Refused::ServerName),
            Self::Tls(Error::InvalidCertificate(_) | Error::NoCertificatesPresented) => {
                Some(Refused::ClientCertificate)
            }
            Self::Plain | Self::Tls(_) => Some(Refused::Tls),
        }
    }
}

/// How long, and for how many bytes, a client that is refused may go on sending: a socket closed with bytes unread is
/// reset, and the reset would overtake what it was told.
const LINGER: (Duration, usize) = (Duration::from_secs(1), 64 * 1024);

/// The TLS of a new connection. One that has said nothing when its listener drains is let go.
///
/// # Errors
/// [`Refusal`]; the client has been told why, as far as it takes it.
pub async fn handshake(socket: Socket, secure: &Secure, downstream: &Downstream) -> Result<Tls, Refusal> {
    let mut waiting = downstream.drained.clone();
    let begun = tokio::select! {
        biased;
        begun = poll_fn(|cx| socket.poll_readable(cx)) => begun,
        () = waiting.wanted() => Err(io::ErrorKind::ConnectionAborted.into()),
    };
    begun.map_err(Refusal::Gone)?;
    let session = match session(&socket, secure, downstream).await {
        Ok(session) => session,
        Err(gone @ Refusal::Gone(_)) => return Err(gone),
        Err(refusal) => {
            linger(&socket).await;
            return Err(refusal);
        }
    };
    Ok(Tls::new(socket, Connection::Server(session)))
}

async fn session(
    socket: &Socket,
    secure: &Secure,
    downstream: &Downstream,
) -> Result<ServerConnection, Refusal> {
    let mut buffer = [0; READ];
    let (accepted, ahead) = hello(socket, &mut buffer).await?;
    let local = downstream.client.as_ref().map(|client| client.addresses().destination().ip());
    let Some(config) = secure.choose(&accepted.client_hello(), local) else {
        say(socket, UNRECOGNIZED_NAME);
        return Err(Refusal::UnknownName);
    };
    let mut session = match accepted.into_connection(Arc::clone(config)) {
        Ok(session) => session,
        Err((error, mut alert)) => {
            // Best effort: who is gone needs no reason.
            let _ = alert.write_all(&mut Writer(socket));
            return Err(Refusal::Tls(error));
        }
    };
    feed(socket, &mut session, &ahead)?;
    poll_fn(|cx| poll_finish(cx, socket, &mut session, &mut buffer)).await?;
    Ok(session)
}

/// Reads a client's hello; and what came behind it.
async fn hello(socket: &Socket, buffer: &mut [u8]) -> Result<(Accepted, Vec<u8>), Refusal> {
    let mut acceptor = Acceptor::default();
    let mut is_first = true;
    loop {
        let read = poll_fn(|cx| poll_read(cx, socket, buffer)).await.map_err(Refusal::Gone)?;
        let mut sealed = buffer.get(..read).unwrap_or_default();
        // No record begins with a letter, and every method does.
        if std::mem::take(&mut is_first) && sealed.first().is_some_and(u8::is_ascii_alphabetic) {
            say(socket, SPEAK_TLS);
            return Err(Refusal::Plain);
        }
        while !sealed.is_empty() {
            acceptor.read_tls(&mut sealed).map_err(too_large)?;
            match acceptor.accept() {
                Ok(None) => {}
                Ok(Some(accepted)) => return Ok((accepted, sealed.to_vec())),
                Err((error, mut alert)) => {
                    // Best effort, as above.
                    let _ = alert.write_all(&mut Writer(socket));
                    return Err(Refusal::Tls(error));
                }
            }
        }
    }
}

/// Ready when the handshake is over.
fn poll_finish(
    cx: &mut Context<'_>,
    socket: &Socket,
    session: &mut ServerConnection,
    buffer: &mut [u8],
) -> Poll<Result<(), Refusal>> {
    loop {
        while session.wants_write() {
            match session.write_tls(&mut Writer(socket)) {
                Ok(_) => {}
                // What is left, tickets, goes out with what follows.
                Err(_) if !session.is_handshaking() => break,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(socket.poll_writable(cx)).map_err(Refusal::Gone)?;
                }
                Err(error) => return Poll::Ready(Err(Refusal::Gone(error))),
            }
        }
        if !session.is_handshaking() {
            return Poll::Ready(Ok(()));
        }
        let read = ready!(poll_read(cx, socket, buffer)).map_err(Refusal::Gone)?;
        feed(socket, session, buffer.get(..read).unwrap_or_default())?;
    }
}

/// Hands what was read to the session.
fn feed(socket: &Socket, session: &mut ServerConnection, mut sealed: &[u8]) -> Result<(), Refusal> {
    while !sealed.is_empty() {
        session.read_tls(&mut sealed).map_err(too_large)?;
        if let Err(error) = session.process_new_packets() {
            while session.write_tls(&mut Writer(socket)).is_ok_and(|written| written > 0) {}
            return Err(Refusal::Tls(error));
        }
    }
    Ok(())
}

/// Reads what is there, at least a byte.
fn poll_read(cx: &mut Context<'_>, socket: &Socket, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
    loop {
        ready!(socket.poll_readable(cx))?;
        match socket.read(buffer) {
            Ok(0) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            read => return Poll::Ready(read),
        }
    }
}

/// Reads away what a refused client still sends, so that it reads what it was told.
async fn linger(socket: &Socket) {
    socket.end();
    let (limit, mut left) = LINGER;
    let mut scratch = [0; READ];
    let reading = poll_fn(|cx| {
        while let Ok(read) = ready!(poll_read(cx, socket, &mut scratch)) {
            match left.checked_sub(read) {
                Some(rest) => left = rest,
                None => break,
            }
        }
        Poll::Ready(())
    });
    // Whichever comes first.
    let _ = tokio::time::timeout(limit, reading).await;
}

fn say(socket: &Socket, words: &[u8]) {
    // A new connection takes so much at once, and who does not needs no reason.
    let _ = socket.write(words);
}

/// More than rustls keeps of one message, or of what was sent before the handshake is over.
#[expect(clippy::needless_pass_by_value, reason = "as `map_err` hands it")]
fn too_large(error: io::Error) -> Refusal {
    Refusal::Tls(Error::General(error.to_string()))
}
