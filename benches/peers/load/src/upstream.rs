//! Three upstreams on ports of their own, in one thread: `GET /N` is answered with N bytes, `GET /echo` with the
//! request's own head. They know requests without a body only.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::rc::Rc;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use crate::response::{UPSTREAMS, end};

/// The largest body that is made.
const LARGEST: usize = 16 * 1024 * 1024;

/// A connection to one of the upstreams.
struct Connection {
    stream: TcpStream,
    /// The index of the upstream.
    upstream: usize,
    head: Vec<u8>,
    /// What is being sent, and how much of it was.
    out: Option<(Rc<[u8]>, usize)>,
}

/// Serves until the process is ended; says its ports in one line of JSON first.
///
/// # Errors
/// A listener cannot be made, or waiting fails.
pub(crate) fn serve() -> io::Result<()> {
    let mut poll = Poll::new()?;
    let mut listeners = Vec::new();
    let mut ports = Vec::new();
    for (index, name) in UPSTREAMS.iter().enumerate() {
        let mut listener = TcpListener::bind(([127, 0, 0, 1], 0).into())?;
        poll.registry().register(&mut listener, Token(index), Interest::READABLE)?;
        ports.push(format!("\"{name}\": {}", listener.local_addr()?.port()));
        listeners.push(listener);
    }
    let mut out = io::stdout().lock();
    writeln!(out, "{{{}}}", ports.join(", "))?;
    out.flush()?;

    let mut events = Events::with_capacity(1024);
    let mut connections: HashMap<usize, Connection> = HashMap::new();
    let mut bodies = HashMap::new();
    let mut next = UPSTREAMS.len();
    let mut scratch = vec![0; 64 * 1024];
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for event in &events {
            let Token(index) = event.token();
            if let Some(listener) = listeners.get(index) {
                while let Ok((mut stream, _)) = listener.accept() {
                    stream.set_nodelay(true)?;
                    poll.registry().register(
                        &mut stream,
                        Token(next),
                        Interest::READABLE | Interest::WRITABLE,
                    )?;
                    let connection = Connection { stream, upstream: index, head: Vec::new(), out: None };
                    connections.insert(next, connection);
                    next += 1;
                }
            } else if let Some(connection) = connections.get_mut(&index)
                && connection.go_on(event.is_read_closed(), &mut scratch, &mut bodies).is_err()
            {
                connections.remove(&index);
            }
        }
    }
}

impl Connection {
    /// Writes what is left and answers what has come.
    ///
    /// # Errors
    /// The connection ended, or is not worth going on with.
    fn go_on(
        &mut self,
        hung_up: bool,
        scratch: &mut [u8],
        bodies: &mut HashMap<(usize, usize), Rc<[u8]>>,
    ) -> io::Result<()> {
        loop {
            if !self.write()? {
                return Ok(());
            }
            let count = match self.stream.read(scratch) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            let bytes = &scratch[..count];
            if self.head.is_empty() && bytes.ends_with(b"\r\n\r\n") {
                self.out = Some((answer(self.upstream, bytes, bodies)?, 0));
            } else {
                self.head.extend_from_slice(bytes);
                if end(&self.head).is_some() {
                    self.out = Some((answer(self.upstream, &self.head, bodies)?, 0));
                    self.head.clear();
                }
            }
            // A read that did not fill the buffer emptied the socket; what comes later is an event of its own.
            if self.write()? && count < scratch.len() && !hung_up {
                return Ok(());
            }
        }
    }

    /// Whether everything is written.
    fn write(&mut self) -> io::Result<bool> {
        while let Some((bytes, sent)) = &mut self.out {
            match self.stream.write(&bytes[*sent..]) {
                Ok(count) => *sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
            if *sent == bytes.len() {
                self.out = None;
            }
        }
        Ok(true)
    }
}

/// The response to the request `head`.
fn answer(
    upstream: usize,
    head: &[u8],
    bodies: &mut HashMap<(usize, usize), Rc<[u8]>>,
) -> io::Result<Rc<[u8]>> {
    let path = head.strip_prefix(b"GET /").and_then(|rest| rest.split(|&byte| byte == b' ').next());
    if path == Some(b"echo") {
        return Ok(response(upstream, head));
    }
    let size = path.and_then(|path| std::str::from_utf8(path).ok()?.parse().ok());
    let Some(size) = size.filter(|size| *size <= LARGEST) else {
        return Err(ErrorKind::InvalidInput.into());
    };
    Ok(bodies.entry((upstream, size)).or_insert_with(|| response(upstream, &vec![b'x'; size])).clone())
}

/// A response with the headers that a plain web server sends.
fn response(upstream: usize, body: &[u8]) -> Rc<[u8]> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\nContent-Type: application/octet-stream\r\n\
         Content-Length: {}\r\nLast-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\nX-Upstream: {}\r\n\r\n",
        body.len(),
        UPSTREAMS[upstream]
    );
    [head.as_bytes(), body].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::response::Head;

    #[test]
    fn answer_has_the_length_asked_for_and_names_its_upstream() {
        let bytes = answer(2, b"GET /300 HTTP/1.1\r\n\r\n", &mut HashMap::new()).unwrap();
        let head = Head::read(&bytes).unwrap();
        assert_eq!((head.status, head.length, head.upstream), (200, Some(300), Some(2)));
        assert_eq!(bytes.len() - head.bytes, 300);
    }

    #[test]
    fn request_that_is_not_known_ends_the_connection() {
        for head in
            ["POST /1 HTTP/1.1\r\n\r\n", "GET /99999999999 HTTP/1.1\r\n\r\n", "GET /a HTTP/1.1\r\n\r\n"]
        {
            assert!(answer(0, head.as_bytes(), &mut HashMap::new()).is_err(), "{head}");
        }
    }
}
