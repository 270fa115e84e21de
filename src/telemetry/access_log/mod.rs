//! The access log: one line of JSON for each finished request, written by a thread of its own.
//!
//! A worker formats the line into a buffer that no other worker uses, and goes on. It never waits: not for the file, not
//! for the thread, not for a lock. A line for which there is no room is dropped and counted.
//!
//! Reading order: [`record`] (what a line says), this file (the workers' side), `writer` (the thread), `output` (whole
//! lines whatever fails).

mod output;
pub mod record;
#[cfg(test)]
mod tests;
mod writer;

use std::cell::Cell;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, SendError, Sender, bounded, unbounded};

pub use record::Record;
use writer::{Command, Writer};

use super::Metrics;

/// The size at which a worker's buffer goes to the thread.
const CHUNK: usize = 64 * 1024;
/// How many full buffers may wait for the thread: 8 MiB, beyond which lines are dropped.
const QUEUE: usize = 128;
/// How many workers have a buffer of their own; more share them.
const SHARDS: usize = 64;
/// How long [`AccessLog::open`] waits for the file: a named pipe without a reader opens later, in the background.
const OPEN_WAIT: Duration = Duration::from_secs(1);
/// How long [`AccessLog::close`] waits for the last lines.
const CLOSE_WAIT: Duration = Duration::from_secs(2);

/// Where the lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sink {
    /// The standard output.
    Stdout,
    /// A file that is appended to, and created when it is not there.
    File(PathBuf),
}

impl fmt::Display for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout => f.write_str("stdout"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// Why there is no access log.
#[derive(Debug, thiserror::Error)]
pub enum AccessLogError {
    /// The sink cannot be opened.
    #[error("the access log {sink} cannot be opened")]
    Open {
        /// The sink.
        sink: Sink,
        /// Why.
        source: io::Error,
    },
    /// The thread that writes cannot be started.
    #[error("the thread that writes the access log cannot be started")]
    Thread(#[source] io::Error),
}

/// One worker's buffer. The alignment keeps those of two workers off each other's cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard(Mutex<Vec<u8>>);

impl Shard {
    /// The buffer, for the thread that writes: it waits at most for one line to be formatted.
    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The buffer, for a worker: `None` while the thread takes it, or another worker that shares it is in it.
    fn try_lock(&self) -> Option<MutexGuard<'_, Vec<u8>>> {
        match self.0.try_lock() {
            Ok(buffer) => Some(buffer),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

/// What the workers and the thread share.
#[derive(Debug)]
struct Shared {
    shards: [Shard; SHARDS],
    /// Full buffers on their way to the thread.
    full: (Sender<Vec<u8>>, Receiver<Vec<u8>>),
    /// Written buffers on their way back.
    spare: (Sender<Vec<u8>>, Receiver<Vec<u8>>),
    closed: AtomicBool,
    metrics: Arc<Metrics>,
}

impl Shared {
    fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            shards: std::array::from_fn(|_| Shard::default()),
            full: bounded(QUEUE),
            spare: bounded(QUEUE),
            closed: AtomicBool::new(false),
            metrics,
        }
    }

    fn empty_buffer(&self) -> Vec<u8> {
        self.spare.1.try_recv().unwrap_or_default()
    }

    fn recycle(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        if buffer.capacity() >= CHUNK {
            // No room for it means that there are enough of them.
            drop(self.spare.0.try_send(buffer));
        }
    }

    /// Appends the line, or hands it over by itself, or returns `None` when there is no room.
    fn record(&self, shard: usize, record: &Record<'_>) -> Option<()> {
        let buffer = self.shards.get(shard % SHARDS)?.try_lock();
        // Looked at inside the lock: the thread sees it set before it takes the buffer for the last time.
        if self.closed.load(Ordering::Relaxed) {
            return None;
        }
        let Some(mut buffer) = buffer else {
            let mut line = Vec::with_capacity(1024);
            record.append_to(&mut line).ok()?;
            return self.full.0.try_send(line).ok();
        };
        if buffer.len() >= CHUNK {
            if self.full.0.is_full() {
                return None;
            }
            let full = std::mem::replace(&mut *buffer, self.empty_buffer());
            if let Err(refused) = self.full.0.try_send(full) {
                // Another worker was faster.
                let empty = std::mem::replace(&mut *buffer, refused.into_inner());
                self.recycle(empty);
                return None;
            }
        }
        if buffer.capacity() == 0 {
            buffer.reserve_exact(CHUNK + CHUNK / 8);
        }
        record.append_to(&mut buffer).ok()
    }
}

/// The number of this thread among those that ever recorded.
fn shard_of_thread() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static MINE: Cell<Option<usize>> = const { Cell::new(None) };
    }
    MINE.get().unwrap_or_else(|| {
        let mine = NEXT.fetch_add(1, Ordering::Relaxed);
        MINE.set(Some(mine));
        mine
    })
}

/// An open access log, shared by all workers.
///
/// Dropping it waits for the last lines as [`AccessLog::close`] does. Whoever replaces a log while workers hold it calls
/// `close` first, so that no worker waits when it lets go.
#[derive(Debug)]
pub struct AccessLog {
    shared: Arc<Shared>,
    unit_key: bool,
    commands: Sender<Command>,
    /// Disconnected when the thread has ended.
    ended: Receiver<()>,
}

impl AccessLog {
    /// Opens `sink` and starts the thread that writes. `unit_key` says whether lines tell the raw unit key; lines that
    /// are dropped are counted in `metrics`.
    ///
    /// It waits for the file one second at most: a named pipe whose reader comes later is opened in the background.
    ///
    /// # Errors
    /// [`AccessLogError`] when the sink cannot be opened, or the thread not be started.
    pub fn open(sink: Sink, unit_key: bool, metrics: Arc<Metrics>) -> Result<Self, AccessLogError> {
        let shared = Arc::new(Shared::new(metrics));
        let (commands, received) = unbounded();
        let (opening, opened) = bounded(1);
        let (end, ended) = bounded::<()>(0);
        let thread = {
            let (sink, shared) = (sink.clone(), Arc::clone(&shared));
            move || {
                let _end = end;
                match sink.open() {
                    Ok(file) => {
                        if opening.send(Ok(())).is_err() {
                            tracing::info!(%sink, "access log is open");
                        }
                        Writer::new(sink, file, shared, received).run();
                    }
                    // Nobody waits for the answer any more when it took too long.
                    Err(error) => {
                        if let Err(SendError(Err(error))) = opening.send(Err(error)) {
                            tracing::warn!(%sink, %error, "access log cannot be opened, lines are dropped");
                        }
                    }
                }
            }
        };
        std::thread::Builder::new()
            .name("access-log".into())
            .spawn(thread)
            .map_err(AccessLogError::Thread)?;
        match opened.recv_timeout(OPEN_WAIT) {
            Ok(Ok(())) => {}
            Ok(Err(source)) => {
                shared.closed.store(true, Ordering::Relaxed);
                return Err(AccessLogError::Open { sink, source });
            }
            Err(_) => tracing::warn!(%sink, "access log is not open yet, lines wait for it"),
        }
        Ok(Self { shared, unit_key, commands, ended })
    }

    /// Writes the line of a finished request, soon and on another thread; drops and counts it when there is no room.
    /// Never waits.
    pub fn record(&self, record: &Record<'_>) {
        let unit = record.unit.filter(|_| self.unit_key);
        if self.shared.record(shard_of_thread(), &Record { unit, ..*record }).is_none() {
            self.shared.metrics.lines_dropped(1);
        }
    }

    /// Opens the file anew, after log rotation renamed it; lines recorded before go to the old one. A file that cannot
    /// be opened leaves the old one in use. Does not wait.
    pub fn reopen(&self) {
        self.command(Command::Reopen);
    }

    /// Whether lines tell the raw unit key.
    pub fn unit_key(&self) -> bool {
        self.unit_key
    }

    /// Writes the last lines and ends, within two seconds; what is not written by then is dropped and counted, as is
    /// what is recorded afterwards. A second call returns at once.
    pub fn close(&self) {
        if self.shared.closed.swap(true, Ordering::Relaxed) {
            return;
        }
        self.command(Command::Close);
        if self.ended.recv_timeout(CLOSE_WAIT) == Err(RecvTimeoutError::Timeout) {
            self.shared.discard();
            tracing::warn!("access log could not write its last lines in time");
        }
    }

    fn command(&self, command: Command) {
        if self.commands.send(command).is_err() {
            tracing::debug!("access log has ended already");
        }
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.close();
    }
}
