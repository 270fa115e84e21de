//! The thread that writes the lines: it alone touches the file, and it alone waits when the file does not take them.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, select, tick};

use super::output::{Output, Pending, lines};
use super::{Shared, Sink};

/// How long a line waits in its worker's buffer at most, while the file takes lines.
const TICK: Duration = Duration::from_millis(100);
/// How long after a failed write the next one is tried.
const RETRY: Duration = Duration::from_millis(10);
/// How often a write is tried again without any progress before its lines are given up: for one second.
const RETRIES: u32 = 100;

/// What the log asks of its thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    /// Open the file anew.
    Reopen,
    /// Write what there is and end.
    Close,
}

impl Sink {
    /// Opens the sink. This may wait: a named pipe has to have a reader.
    pub(super) fn open(&self) -> io::Result<File> {
        match self {
            // A second descriptor and not `std::io::stdout()`, which keeps its errors to itself when it is closed.
            Self::Stdout => Ok(io::stdout().as_fd().try_clone_to_owned()?.into()),
            // The lines tell who asked for what: not for everybody on the machine.
            Self::File(path) => OpenOptions::new().append(true).create(true).mode(0o640).open(path),
        }
    }
}

/// The state of the writing thread.
#[derive(Debug)]
pub(super) struct Writer {
    sink: Sink,
    output: Output<File>,
    shared: Arc<Shared>,
    chunks: Receiver<Vec<u8>>,
    commands: Receiver<Command>,
    /// Since the last lines had to be given up: how many, for the message that ends it.
    failing: Option<u64>,
    closing: bool,
}

impl Writer {
    /// A writer to `file`, which is `sink` opened.
    pub(super) fn new(sink: Sink, file: File, shared: Arc<Shared>, commands: Receiver<Command>) -> Self {
        let chunks = shared.full.1.clone();
        Self { sink, output: Output::new(file), shared, chunks, commands, failing: None, closing: false }
    }

    /// Writes until it is told to end.
    pub(super) fn run(mut self) {
        let ticks = tick(TICK);
        while !self.closing {
            select! {
                recv(self.chunks) -> chunk => if let Ok(chunk) = chunk {
                    self.write(chunk);
                },
                recv(ticks) -> _ => self.collect(),
                recv(self.commands) -> command => match command {
                    Ok(Command::Reopen) => {
                        self.drain();
                        self.reopen(None);
                    }
                    Ok(Command::Close) | Err(_) => self.closing = true,
                },
            }
        }
        self.drain();
        tracing::debug!("access log closed");
    }

    /// Writes all that was recorded before the call.
    fn drain(&mut self) {
        self.write_full(self.chunks.len());
        self.collect();
        // A buffer may have become full, and have been replaced, before it was collected.
        self.write_full(self.chunks.len());
    }

    /// Writes this many full buffers, and not all there are: workers may fill them faster than they are written.
    fn write_full(&mut self, number: usize) {
        for _ in 0..number {
            if let Ok(chunk) = self.chunks.try_recv() {
                self.write(chunk);
            }
        }
    }

    /// Writes what stands in the workers' buffers.
    fn collect(&mut self) {
        let shared = Arc::clone(&self.shared);
        for shard in &shared.shards {
            let mut buffer = shard.lock();
            if !buffer.is_empty() {
                let lines = std::mem::replace(&mut *buffer, shared.empty_buffer());
                let before = self.chunks.len();
                drop(buffer);
                // What the same worker filled before comes first.
                self.write_full(before);
                self.write(lines);
            }
        }
    }

    fn write(&mut self, chunk: Vec<u8>) {
        let mut pending = Pending::new(chunk);
        let (mut tries, mut written) = (0, 0);
        while let Err(error) = self.output.write(&mut pending) {
            // Once lines were given up, the file gets one try for each chunk until it takes them again.
            if self.failing.is_some() || tries == RETRIES {
                self.give_up(pending, &error);
                return;
            }
            tries = if pending.written() == written { tries + 1 } else { 1 };
            written = pending.written();
            match self.commands.recv_timeout(RETRY) {
                Ok(Command::Reopen) => self.reopen(Some(&mut pending)),
                Ok(Command::Close) => self.closing = true,
                Err(_) => {}
            }
        }
        self.shared.recycle(pending.into_buffer());
        if let Some(dropped) = self.failing.take() {
            tracing::info!(dropped, "access log is written again");
        }
    }

    fn give_up(&mut self, pending: Pending, error: &io::Error) {
        let lost = self.output.give_up(pending);
        self.shared.metrics.lines_dropped(lost);
        if self.failing.is_none() {
            tracing::warn!(sink = %self.sink, %error, "access log cannot be written, lines are dropped");
        }
        *self.failing.get_or_insert(0) += lost;
    }

    fn reopen(&mut self, pending: Option<&mut Pending>) {
        if self.sink == Sink::Stdout {
            return;
        }
        match self.sink.open() {
            Ok(file) => self.shared.metrics.lines_dropped(self.output.replace(file, pending)),
            Err(error) => {
                tracing::warn!(sink = %self.sink, %error, "access log cannot be opened anew, the old file is kept");
            }
        }
    }
}

impl Shared {
    /// Counts as dropped what waits to be written, when nobody will write it.
    pub(super) fn discard(&self) {
        let queued: u64 = self.full.1.try_iter().map(|chunk| lines(&chunk)).sum();
        let buffered: u64 = self.shards.iter().map(|shard| lines(&std::mem::take(&mut *shard.lock()))).sum();
        self.metrics.lines_dropped(queued + buffered);
    }
}
