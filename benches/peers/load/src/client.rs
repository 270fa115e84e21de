//! The connections of a load: a request out, its response in, both checked. When to send is `run`'s business.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::mem;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Registry, Token};

use crate::job::{Job, USERS};
use crate::request::Template;
use crate::response::Head;
use crate::tally::{Failure, Tally};

/// A request that is to be sent, or is under way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ticket {
    /// Its number; users take turns.
    pub(crate) number: usize,
    /// From when on its latency counts.
    pub(crate) due: Instant,
    /// Whether a connection closed under it before.
    pub(crate) again: bool,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Idle,
    /// The response's head has not come whole.
    Head,
    /// So many bytes of the body are missing.
    Body {
        missing: usize,
        upstream: usize,
        closes: bool,
    },
}

struct Connection {
    stream: TcpStream,
    state: State,
    ticket: Ticket,
    out: Vec<u8>,
    sent: usize,
    /// A head that did not come in one piece.
    head: Vec<u8>,
}

/// Connections to the proxy, each with at most one request under way.
pub(crate) struct Client {
    pub(crate) poll: Poll,
    pub(crate) tally: Tally,
    /// Connections that can take a request; the last one used is the next.
    pub(crate) idle: Vec<usize>,
    /// Requests whose connection closed under them, to be sent again once.
    pub(crate) again: VecDeque<Ticket>,
    connections: Vec<Connection>,
    events: Events,
    scratch: Vec<u8>,
    template: Template,
    target: SocketAddr,
    length: usize,
}

/// What a step came to.
enum Step {
    /// Nothing more can be done before the next event.
    Waiting,
    /// The response is whole.
    Answered {
        upstream: usize,
        closes: bool,
    },
    Failed(Failure),
    /// The other side ended the connection, or it broke.
    Closed,
}

impl Client {
    /// A client with `connections` open connections.
    ///
    /// # Errors
    /// The first connection that cannot be made.
    pub(crate) fn new(job: &Job, connections: usize) -> io::Result<Self> {
        let mut client = Self {
            poll: Poll::new()?,
            tally: Tally::new(job.count, job.moving),
            idle: Vec::with_capacity(job.connections),
            again: VecDeque::new(),
            connections: Vec::with_capacity(job.connections),
            events: Events::with_capacity(1024),
            scratch: vec![0; 256 * 1024],
            template: Template::new(job),
            target: job.target,
            length: job.bytes,
        };
        for _ in 0..connections {
            client.open()?;
        }
        Ok(client)
    }

    /// Opens one more connection, ready for a request.
    ///
    /// # Errors
    /// The connection cannot be made.
    pub(crate) fn open(&mut self) -> io::Result<()> {
        let index = self.connections.len();
        let stream = connected(self.target, self.poll.registry(), index)?;
        let ticket = Ticket { number: 0, due: Instant::now(), again: false };
        let (out, head) = (Vec::new(), Vec::new());
        self.connections.push(Connection { stream, state: State::Idle, ticket, out, sent: 0, head });
        self.idle.push(index);
        Ok(())
    }

    /// How many connections were opened.
    pub(crate) fn opened(&self) -> usize {
        self.connections.len()
    }

    /// How many connections the other side has left open; none may have a request under way.
    pub(crate) fn held(&mut self) -> usize {
        let open = |connection: &mut Connection| matches!(connection.stream.read(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock);
        self.connections.iter_mut().filter_map(|connection| open(connection).then_some(())).count()
    }

    /// Sends `ticket` on connection `index`, which is idle.
    pub(crate) fn send(&mut self, index: usize, ticket: Ticket) {
        let connection = &mut self.connections[index];
        connection.ticket = ticket;
        connection.state = State::Head;
        connection.sent = 0;
        connection.head.clear();
        self.template.write(ticket.number % USERS, &mut connection.out);
        if connection.write().is_err() {
            self.end(index, &Step::Closed);
        }
    }

    /// Waits for events, at most for `timeout`, and goes on with what they concern; whether one was of no connection.
    ///
    /// # Errors
    /// Waiting itself fails.
    pub(crate) fn wait(&mut self, timeout: Duration) -> io::Result<bool> {
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        let mut other = false;
        let events = mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            let Token(index) = event.token();
            if let Some(connection) = self.connections.get_mut(index) {
                let step = connection.step(event, &mut self.scratch, self.length);
                self.end(index, &step);
            } else {
                other = true;
            }
        }
        self.events = events;
        Ok(other)
    }

    /// Counts what `step` came to, and makes the connection ready for the next request.
    fn end(&mut self, index: usize, step: &Step) {
        let connection = &mut self.connections[index];
        let ticket = connection.ticket;
        let busy = !matches!(connection.state, State::Idle);
        let reopen = match *step {
            Step::Waiting => return,
            Step::Answered { upstream, closes } => {
                self.tally.answered(ticket.number % USERS, upstream, ticket.due.elapsed());
                self.tally.closed_between += usize::from(closes);
                closes
            }
            Step::Failed(failure) => {
                self.tally.failed(failure);
                true
            }
            Step::Closed if !busy => {
                self.tally.closed_between += 1;
                true
            }
            Step::Closed => {
                let untouched = connection.head.is_empty() && matches!(connection.state, State::Head);
                self.tally.closed_under += usize::from(untouched);
                if untouched && !ticket.again {
                    self.again.push_back(Ticket { again: true, ..ticket });
                } else {
                    self.tally.failed(Failure::Broken);
                }
                true
            }
        };
        connection.state = State::Idle;
        if reopen {
            match connected(self.target, self.poll.registry(), index) {
                Ok(stream) => connection.stream = stream,
                // The next request on it finds it closed, and tries once more.
                Err(_) => self.tally.refused += 1,
            }
        }
        if busy {
            self.idle.push(index);
        }
    }

    /// Counts what is still under way as late.
    pub(crate) fn give_up(&mut self) {
        for connection in &self.connections {
            if !matches!(connection.state, State::Idle) {
                self.tally.failed(Failure::Late);
            }
        }
    }
}

fn connected(target: SocketAddr, registry: &Registry, index: usize) -> io::Result<TcpStream> {
    let stream = std::net::TcpStream::connect(target)?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    let mut stream = TcpStream::from_std(stream);
    registry.register(&mut stream, Token(index), Interest::READABLE | Interest::WRITABLE)?;
    Ok(stream)
}

impl Connection {
    fn write(&mut self) -> io::Result<()> {
        while self.sent < self.out.len() {
            match self.stream.write(&self.out[self.sent..]) {
                Ok(written) => self.sent += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes what is left, and reads what has come.
    fn step(&mut self, event: &Event, scratch: &mut [u8], length: usize) -> Step {
        if self.write().is_err() {
            return Step::Closed;
        }
        if !event.is_readable() {
            return Step::Waiting;
        }
        loop {
            let count = match self.stream.read(scratch) {
                Ok(0) => return Step::Closed,
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Step::Waiting,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return Step::Closed,
            };
            match self.take(&scratch[..count], length) {
                // A read that did not fill the buffer emptied the socket; what comes later is an event of its own.
                Step::Waiting if count < scratch.len() && !event.is_read_closed() => return Step::Waiting,
                Step::Waiting => {}
                Step::Answered { upstream, closes } => {
                    return Step::Answered { upstream, closes: closes || event.is_read_closed() };
                }
                step => return step,
            }
        }
    }

    /// Goes on by the bytes that came.
    fn take(&mut self, mut bytes: &[u8], length: usize) -> Step {
        if let State::Head = self.state {
            let before = self.head.len();
            let read = if before == 0 {
                Head::read(bytes)
            } else {
                self.head.extend_from_slice(bytes);
                Head::read(&self.head)
            };
            let Some(head) = read else {
                if before == 0 {
                    self.head.extend_from_slice(bytes);
                }
                return Step::Waiting;
            };
            let (200, Some(upstream)) = (head.status, head.upstream) else {
                return Step::Failed(Failure::Status);
            };
            if head.length != Some(length) {
                return Step::Failed(Failure::Length);
            }
            bytes = &bytes[head.bytes - before..];
            self.state = State::Body { missing: length, upstream, closes: head.closes };
        }
        match &mut self.state {
            State::Body { missing, .. } if bytes.len() < *missing => {
                *missing -= bytes.len();
                Step::Waiting
            }
            State::Body { missing, upstream, closes } if bytes.len() == *missing => {
                Step::Answered { upstream: *upstream, closes: *closes }
            }
            // More than was promised, or bytes that nobody asked for.
            _ => Step::Failed(Failure::Length),
        }
    }
}
