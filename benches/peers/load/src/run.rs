//! When requests are sent: each after the last (closed), at fixed times (open), or one a connection (idle).

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Interest, Token};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use crate::client::{Client, Ticket};
use crate::job::Job;

/// How long nothing may happen before a load gives up.
const PATIENCE: Duration = Duration::from_secs(10);

/// Requests under way at once while idle connections are opened: few, so that the upstreams' side stays small.
const OPENING: usize = 32;

/// The token of the timer: no connection has it.
const TIMER: Token = Token(usize::MAX - 1);

/// Keeps every connection busy until `count` requests came to an end.
///
/// # Errors
/// A connection cannot be made at the start, or waiting fails.
pub(crate) fn closed(job: &Job) -> io::Result<()> {
    let mut client = Client::new(job, job.connections)?;
    let started = Instant::now();
    let mut next = 0;
    let mut progress = (0, started);
    while client.tally.ended() < job.count {
        while let Some(index) = client.idle.pop() {
            let fresh =
                (next < job.count).then(|| Ticket { number: next, due: Instant::now(), again: false });
            let Some(ticket) = client.again.pop_front().or(fresh) else {
                client.idle.push(index);
                break;
            };
            next += usize::from(!ticket.again);
            client.send(index, ticket);
        }
        client.wait(Duration::from_secs(1))?;
        if client.tally.ended() > progress.0 {
            progress = (client.tally.ended(), Instant::now());
        } else if progress.1.elapsed() > PATIENCE {
            client.give_up();
            break;
        }
    }
    say(&client.tally.json(started.elapsed()))
}

/// Sends `count` requests at their times, `rate` in a second, whether or not earlier ones came back. Latency counts from
/// the time a request was due, so that a proxy that stands still delays all that it kept from being sent.
///
/// # Errors
/// A connection cannot be made at the start, or waiting fails.
pub(crate) fn open(job: &Job) -> io::Result<()> {
    let mut client = Client::new(job, job.connections)?;
    let period = Duration::from_secs(1) / job.rate;
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
    let spec = Timespec { tv_sec: 0, tv_nsec: i64::from(period.subsec_nanos().max(1)) };
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &Itimerspec { it_interval: spec, it_value: spec })?;
    client.poll.registry().register(&mut SourceFd(&timer.as_raw_fd()), TIMER, Interest::READABLE)?;

    let started = Instant::now();
    let due =
        |number: usize| started + Duration::from_nanos(number as u64 * 1_000_000_000 / u64::from(job.rate));
    let end = due(job.count) + PATIENCE;
    let mut waiting = VecDeque::new();
    let mut next = 0;
    while client.tally.ended() < job.count && Instant::now() < end {
        if client.wait(Duration::from_millis(100))? {
            // Reading the timer sets it for its next time.
            let _ = rustix::io::read(&timer, &mut [0; 8]);
        }
        let now = Instant::now();
        while next < job.count && due(next) <= now {
            waiting.push_back(Ticket { number: next, due: due(next), again: false });
            next += 1;
        }
        while let Some(index) = client.idle.pop() {
            let Some(ticket) = client.again.pop_front().or_else(|| waiting.pop_front()) else {
                client.idle.push(index);
                break;
            };
            client.send(index, ticket);
        }
    }
    client.give_up();
    say(&client.tally.json(started.elapsed()))
}

/// Makes one request on each of `connections` connections, says so, and holds them until standard input ends; then says
/// how many were still open.
///
/// # Errors
/// A connection cannot be made, or waiting fails.
pub(crate) fn idle(job: &Job) -> io::Result<()> {
    let mut client = Client::new(job, 0)?;
    let started = Instant::now();
    while client.tally.ended() < job.connections && started.elapsed() < 3 * PATIENCE {
        while client.opened() < job.connections && client.opened() - client.tally.ended() < OPENING {
            let number = client.opened();
            client.open()?;
            client.send(number, Ticket { number, due: Instant::now(), again: false });
        }
        client.wait(Duration::from_secs(1))?;
    }
    say(&client.tally.json(started.elapsed()))?;
    io::stdin().read_to_end(&mut Vec::new())?;
    say(&format!("{{\"held\": {}}}", client.held()))
}

fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}
