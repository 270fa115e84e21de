//! The connections of a load: a request out, its response in, both checked. When to send is `run`'s business.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::mem;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::{Events, Poll, Token};
use rustls::HandshakeKind;

use crate::http1::Exchange;
use crate::http2::Exchanges;
use crate::job::{self, Job, USERS};
use crate::request::{Fields, Template};
use crate::stream::{Left, Stream};
use crate::tally::{End, Failure, Tally};
use crate::tls;

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

/// What is said on a connection.
enum Protocol {
    Http1(Exchange),
    Http2(Box<Exchanges>),
}

struct Connection {
    stream: Stream,
    protocol: Protocol,
    /// The request under way at each place.
    tickets: Vec<Option<Ticket>>,
    /// Whether its one request was answered, and only the other side's end is missing.
    closing: bool,
}

/// What all connections have in common.
struct Shared {
    target: SocketAddr,
    tls: Option<tls::Settings>,
    protocol: job::Protocol,
    /// Requests under way at once on a connection.
    places: usize,
    /// Whether each request has a connection of its own.
    close: bool,
    length: usize,
}

/// Connections to the proxy, each with at most as many requests under way as it has places.
pub(crate) struct Client {
    pub(crate) poll: Poll,
    pub(crate) tally: Tally,
    /// Places that can take a request; the last one used is the next.
    pub(crate) idle: Vec<usize>,
    /// Requests whose connection closed under them, to be sent again once.
    pub(crate) again: VecDeque<Ticket>,
    connections: Vec<Connection>,
    /// Connections with requests that are to go out together.
    unsent: Vec<usize>,
    events: Events,
    scratch: Vec<u8>,
    /// The requests that came to an end in a step, by place.
    ended: Vec<(usize, End)>,
    template: Template,
    fields: Fields,
    shared: Shared,
    /// Whether a reason was told; one is enough.
    told: bool,
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
            idle: Vec::with_capacity(job.connections * job.streams),
            again: VecDeque::new(),
            connections: Vec::with_capacity(job.connections),
            unsent: Vec::new(),
            events: Events::with_capacity(1024),
            scratch: vec![0; 256 * 1024],
            ended: Vec::new(),
            template: Template::new(job),
            fields: Fields::new(job),
            shared: Shared {
                target: job.target,
                tls: tls::Settings::new(job)?,
                protocol: job.protocol,
                places: job.streams,
                close: job.close,
                length: job.bytes,
            },
            told: false,
        };
        for _ in 0..connections {
            client.open()?;
        }
        Ok(client)
    }

    /// Opens one more connection, ready for requests.
    ///
    /// # Errors
    /// The connection cannot be made.
    pub(crate) fn open(&mut self) -> io::Result<()> {
        let (index, places) = (self.connections.len(), self.shared.places);
        let stream = self.shared.connected(&self.poll, index)?;
        let protocol = self.shared.protocol();
        self.connections.push(Connection { stream, protocol, tickets: vec![None; places], closing: false });
        self.idle.extend(index * places..(index + 1) * places);
        Ok(())
    }

    /// How many connections were opened.
    pub(crate) fn opened(&self) -> usize {
        self.connections.len()
    }

    /// How many connections the other side has left open; none may have a request under way.
    pub(crate) fn held(&self) -> usize {
        self.connections.iter().filter(|connection| connection.stream.silent()).count()
    }

    /// Sends `ticket` at `place`, which is idle; over HTTP/2 with others, at the next `wait`.
    pub(crate) fn send(&mut self, place: usize, ticket: Ticket) {
        let (index, place) = (place / self.shared.places, place % self.shared.places);
        let connection = &mut self.connections[index];
        connection.tickets[place] = Some(ticket);
        let (user, out) = (ticket.number % USERS, connection.stream.plain());
        match &mut connection.protocol {
            Protocol::Http1(exchange) => {
                exchange.begin();
                self.template.write(user, out);
                if connection.stream.flush().is_err() {
                    self.renew(index, true);
                }
            }
            Protocol::Http2(exchanges) => {
                exchanges.begin(place, user, &self.fields, out);
                if self.unsent.last() != Some(&index) {
                    self.unsent.push(index);
                }
            }
        }
    }

    /// Waits for events, at most for `timeout`, and goes on with what they concern; whether one was of no connection.
    ///
    /// # Errors
    /// Waiting itself fails.
    pub(crate) fn wait(&mut self, timeout: Duration) -> io::Result<bool> {
        while let Some(index) = self.unsent.pop() {
            if self.connections[index].stream.flush().is_err() {
                self.renew(index, true);
            }
        }
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        let mut other = false;
        let events = mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            let Token(index) = event.token();
            if index < self.connections.len() {
                self.go_on(index, event);
            } else {
                other = true;
            }
        }
        self.events = events;
        Ok(other)
    }

    /// Goes on with a connection, and counts what it came to.
    fn go_on(&mut self, index: usize, event: &Event) {
        let connection = &mut self.connections[index];
        let open = connection.step(event, &mut self.scratch, &mut self.ended);
        if let Some(kind) = connection.stream.handshake() {
            self.tally.handshakes += 1;
            self.tally.resumed += usize::from(kind == HandshakeKind::Resumed);
        }
        let (mut failed, mut finished) = (false, false);
        for (place, end) in self.ended.drain(..) {
            let ticket = connection.tickets[place].take();
            match (end, ticket) {
                (End::Answered { upstream }, Some(ticket)) => {
                    self.tally.answered(ticket.number % USERS, upstream, ticket.due.elapsed());
                    finished = self.shared.close;
                }
                (End::Failed(failure), _) => {
                    failed = true;
                    self.tally.failed(failure);
                }
                // Nothing is answered that was not asked.
                (End::Answered { .. }, None) => {}
            }
            if ticket.is_some() && !finished {
                self.idle.push(index * self.shared.places + place);
            }
        }
        connection.closing |= finished;
        let lost = match &open {
            // The proxy ends it too, now or when it has heard of it.
            Ok(true) if finished => connection.stream.finish().is_err(),
            Ok(true) => connection.over() && !connection.closing,
            Ok(false) | Err(_) => true,
        };
        let why = open.err().map(|error| error.to_string());
        if let Some(why) = why.or_else(|| connection.why().map(str::to_owned)).filter(|_| !self.told) {
            self.told = true;
            eprintln!("peers-load: {why}");
        }
        if lost {
            self.renew(index, !failed);
        }
    }

    /// Replaces a connection that cannot be used again; with `count`, one that ended between requests is counted.
    fn renew(&mut self, index: usize, count: bool) {
        let connection = &mut self.connections[index];
        let mut between = true;
        for (place, ticket) in connection.tickets.iter_mut().enumerate() {
            let Some(ticket) = ticket.take() else { continue };
            between = false;
            let untouched = match &connection.protocol {
                Protocol::Http1(exchange) => exchange.untouched(),
                Protocol::Http2(exchanges) => exchanges.untouched(place),
            };
            self.tally.closed_under += usize::from(untouched);
            if untouched && !ticket.again {
                self.again.push_back(Ticket { again: true, ..ticket });
            } else {
                self.tally.failed(Failure::Broken);
            }
            self.idle.push(index * self.shared.places + place);
        }
        self.tally.closed_between += usize::from(between && count);
        if mem::take(&mut connection.closing) {
            self.idle.push(index * self.shared.places);
        }
        connection.protocol = self.shared.protocol();
        match self.shared.connected(&self.poll, index) {
            Ok(stream) => connection.stream = stream,
            // The next request on it finds it closed, and tries once more.
            Err(_) => self.tally.refused += 1,
        }
    }

    /// Counts what is still under way as late.
    pub(crate) fn give_up(&mut self) {
        for ticket in self.connections.iter().flat_map(|connection| &connection.tickets) {
            if ticket.is_some() {
                self.tally.failed(Failure::Late);
            }
        }
    }
}

impl Shared {
    fn connected(&self, poll: &Poll, index: usize) -> io::Result<Stream> {
        let tcp = std::net::TcpStream::connect(self.target)?;
        Stream::new(tcp, self.tls.as_ref(), poll.registry(), Token(index))
    }

    fn protocol(&self) -> Protocol {
        match self.protocol {
            job::Protocol::Http1 => Protocol::Http1(Exchange::new(self.length)),
            job::Protocol::Http2 => Protocol::Http2(Box::new(Exchanges::new(self.places, self.length))),
        }
    }
}

impl Connection {
    /// Writes what is left, and reads what has come; whether the connection is still open.
    ///
    /// # Errors
    /// The connection is broken by what came.
    fn step(&mut self, event: &Event, scratch: &mut [u8], ended: &mut Vec<(usize, End)>) -> io::Result<bool> {
        if self.stream.flush().is_err() {
            return Ok(false);
        }
        if !event.is_readable() {
            return Ok(true);
        }
        loop {
            let protocol = &mut self.protocol;
            let left = self.stream.receive(scratch, |bytes| match protocol {
                Protocol::Http1(exchange) => exchange.take(bytes, ended),
                Protocol::Http2(exchanges) => exchanges.take(bytes, ended),
            })?;
            if let Protocol::Http2(exchanges) = &mut self.protocol {
                self.stream.plain().append(exchanges.replies());
            }
            if left == Left::End || self.stream.flush().is_err() {
                return Ok(false);
            }
            // An end that was announced is read too.
            if left == Left::Nothing || left == Left::Little && !event.is_read_closed() {
                return Ok(true);
            }
        }
    }

    /// Whether it cannot be used again.
    fn over(&self) -> bool {
        match &self.protocol {
            Protocol::Http1(exchange) => exchange.over(),
            Protocol::Http2(exchanges) => exchanges.over().is_some(),
        }
    }

    /// Why it cannot be used again, where that is worth telling.
    fn why(&self) -> Option<&'static str> {
        match &self.protocol {
            Protocol::Http1(_) => None,
            Protocol::Http2(exchanges) => exchanges.over(),
        }
    }
}
