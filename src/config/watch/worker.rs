//! The thread of the watcher: gathers events, compares contents, tells changes.
//!
//! It looks at the contents when events have settled and, whatever the events say, at every poll. Only a difference of
//! contents is told. All its file access may block; nobody waits for it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant, SystemTime};

use super::events::{Blind, Events, Mark};
use super::settle::Settle;
use super::survey::{Content, Contents, Plan, Survey, digest};
use super::{Change, Found, Options, Outbox};

/// How often a survey is repeated because the paths lead elsewhere each time.
const SURVEY_LIMIT: usize = 4;

/// How long the worker polls before it tries events again.
const EVENTS_RETRY: Duration = Duration::from_mins(1);

/// What is said to the worker.
#[derive(Debug)]
pub(super) enum Message {
    /// Something happened.
    Mark(Mark),
    /// Watch these from now on; they were read at this time.
    Watch(Vec<PathBuf>, SystemTime),
    /// End.
    Stop,
}

/// The state of the thread.
#[derive(Debug)]
pub(super) struct Worker {
    options: Options,
    inbox: Sender<Message>,
    messages: Receiver<Message>,
    outbox: Arc<Outbox>,

    paths: Vec<PathBuf>,
    plan: Plan,
    events: Events,
    /// What events cannot see now, and when to try again.
    blind: Option<(Blind, Instant)>,
    /// The watches may be on what is no longer there, even if the plan looks the same.
    stale: bool,

    /// What was told last.
    told: Contents,
    /// A write was seen while the last change was out: its load may have read what nobody looked at.
    written_while_out: bool,

    settle: Settle,
    /// Contents of a directory that was not watched before were looked at, and will be once more.
    second_look: bool,
    /// Since when a file is absent that was there.
    absent_since: Option<Instant>,
    /// When to look again although nothing happened.
    look_at: Option<Instant>,
    /// Contents that a poll found, by their digest, and since when they stand.
    suspect: Option<(u64, Instant)>,
    poll_at: Instant,
}

/// A look at everything.
struct Look {
    survey: Survey,
    contents: Contents,
    new_holder: bool,
}

#[expect(clippy::disallowed_methods, reason = "this is the driver that reads the clock")]
impl Worker {
    /// Returns a worker that watches nothing yet.
    pub(super) fn new(
        options: Options,
        inbox: Sender<Message>,
        messages: Receiver<Message>,
        outbox: Arc<Outbox>,
    ) -> Self {
        Self {
            settle: Settle::new(options.gather, options.quiet),
            poll_at: Instant::now() + options.poll,
            options,
            inbox,
            messages,
            outbox,
            paths: Vec::new(),
            plan: Plan::default(),
            events: Events::none(),
            blind: None,
            stale: false,
            told: Contents::new(),
            written_while_out: false,
            second_look: false,
            absent_since: None,
            look_at: None,
            suspect: None,
        }
    }

    /// Works until it is told to stop.
    pub(super) fn run(mut self) {
        loop {
            let wait = self.wake_at().saturating_duration_since(Instant::now());
            let mut next = match self.messages.recv_timeout(wait) {
                Ok(message) => Some(message),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            while let Some(message) = next {
                match message {
                    Message::Mark(mark) => self.mark(mark, Instant::now()),
                    Message::Watch(paths, read_at) => self.watch(paths, read_at),
                    Message::Stop => return,
                }
                next = self.messages.try_recv().ok();
            }
            self.step(Instant::now());
        }
    }

    /// Watches other paths, which the caller read at `read_at`.
    pub(super) fn watch(&mut self, paths: Vec<PathBuf>, read_at: SystemTime) {
        self.paths = paths;
        let look = self.look();
        let mut told = Contents::new();
        for (path, &content) in &look.contents {
            let content = match self.told.get(path) {
                Some(&known) => known,
                None if look.survey.changed_since(path, read_at) => Content::Unknown,
                None => content,
            };
            told.insert(path.clone(), content);
        }
        self.told = told;
        if self.told != look.contents {
            self.settle.completed(Instant::now());
        }
    }

    fn wake_at(&self) -> Instant {
        let suspect = self.suspect.map(|(_, since)| since + self.options.quiet);
        [self.look_due(), suspect].into_iter().flatten().fold(self.poll_at, Instant::min)
    }

    fn look_due(&self) -> Option<Instant> {
        self.settle.due().or(self.look_at)
    }

    fn mark(&mut self, mark: Mark, now: Instant) {
        self.written_while_out |= !matches!(mark, Mark::Touched | Mark::Closed(_)) && self.outbox.is_out(now);
        match mark {
            Mark::Touched => self.settle.completed(now),
            Mark::Closed(path) => self.settle.closed(&path, now),
            Mark::Written(path) => self.settle.written(path, now),
            Mark::Replaced(path) => {
                self.stale = true;
                self.settle.replaced(&path, now);
            }
            Mark::Created(path) => {
                self.stale = true;
                if is_being_written(&path) {
                    self.settle.written(path, now);
                } else {
                    self.settle.replaced(&path, now);
                }
            }
            Mark::Lost => {
                self.stale = true;
                self.poll_at = now;
            }
        }
    }

    fn step(&mut self, now: Instant) {
        if self.look_due().is_some_and(|due| due <= now) {
            self.settled(now);
        }
        let suspect_is_due = self.suspect.is_some_and(|(_, since)| since + self.options.quiet <= now);
        if self.poll_at <= now || suspect_is_due {
            self.poll_at = now + self.options.poll;
            self.poll(now);
        }
    }

    /// Looks at the contents after events, and tells a change.
    fn settled(&mut self, now: Instant) {
        self.settle.clear();
        self.look_at = None;
        self.suspect = None;
        let look = self.look();
        if look.new_holder && !self.second_look {
            // A writer may be at work in a directory whose events nobody heard: gather once more, with open ears.
            self.second_look = true;
            self.settle.completed(now);
            return;
        }
        self.second_look = false;
        let files = differences(&self.told, &look.contents);
        if files.iter().any(|path| is_gone(path, &self.told, &look.contents)) {
            let until = *self.absent_since.get_or_insert(now) + self.options.quiet;
            if now < until {
                self.look_at = Some(until);
                return;
            }
        }
        self.absent_since = None;
        if !files.is_empty() || self.written_while_out {
            self.tell(files, look.contents, Found::Event);
        }
    }

    /// Looks at the contents without an event, and tells a change that stands.
    fn poll(&mut self, now: Instant) {
        if self.look_due().is_some() {
            self.suspect = None;
            return;
        }
        self.stale |= self.blind.as_ref().is_some_and(|(_, retry_at)| *retry_at <= now);
        let look = self.look();
        let files = differences(&self.told, &look.contents);
        if files.is_empty() {
            self.suspect = None;
            return;
        }
        self.stale = true;
        let digest = digest(&look.contents);
        match self.suspect {
            Some((suspect, since)) if suspect == digest => {
                if since + self.options.quiet <= now {
                    self.suspect = None;
                    self.tell(files, look.contents, Found::Poll);
                }
            }
            _ => self.suspect = Some((digest, now)),
        }
    }

    fn tell(&mut self, files: Vec<PathBuf>, contents: Contents, found: Found) {
        self.written_while_out = false;
        self.outbox.put(Change { files, found, digest: digest(&contents) });
        self.told = contents;
    }

    /// Watches what the paths lead to now, then reads it: what changes after the reading is heard.
    fn look(&mut self) -> Look {
        let mut new_holder = false;
        let mut survey = Survey::take(&self.paths);
        for _ in 0..SURVEY_LIMIT {
            if survey.plan == self.plan && !self.stale {
                let contents = survey.read();
                return Look { survey, contents, new_holder };
            }
            self.stale = false;
            new_holder |= self.options.events && survey.plan.has_new_holder(&self.plan);
            self.plan = survey.plan;
            self.listen();
            survey = Survey::take(&self.paths);
        }
        self.stale = true;
        self.settle.completed(Instant::now());
        let contents = survey.read();
        Look { survey, contents, new_holder }
    }

    /// Replaces the watches by those of the plan, and says so when they do not see all of it.
    fn listen(&mut self) {
        if !self.options.events {
            return;
        }
        let before = self.blind.take();
        if before.is_some() {
            // Two sets of watches at a time may be more than there may be.
            self.events = Events::none();
        }
        let (events, blind) = Events::new(&self.plan, self.inbox.clone());
        self.events = events;
        let Some(blind) = blind else {
            if before.is_some() {
                tracing::info!("events tell changes of the configuration again");
            }
            return;
        };
        let retry = if before.is_some() { EVENTS_RETRY } else { self.options.poll };
        if before.is_none_or(|(before, _)| before != blind) {
            let (path, error) = (blind.path.as_ref().map(tracing::field::debug), &blind.reason);
            let poll_seconds = self.options.poll.as_secs_f64();
            tracing::warn!(path, error, poll_seconds, "changes of the configuration are found by polling");
        }
        self.blind = Some((blind, Instant::now() + retry));
    }
}

/// Whether an entry that was just made is a file that its maker still has to fill: not a link, which is whole at once.
fn is_being_written(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.nlink() == 1)
}

/// Returns the paths whose contents differ.
fn differences(before: &Contents, now: &Contents) -> Vec<PathBuf> {
    let gone = before.keys().filter(|path| !now.contains_key(*path));
    let other = now.iter().filter(|(path, content)| before.get(*path) != Some(content)).map(|(path, _)| path);
    let mut paths: Vec<_> = gone.chain(other).cloned().collect();
    paths.sort_unstable();
    paths
}

fn is_gone(path: &Path, before: &Contents, now: &Contents) -> bool {
    let absent = |contents: &Contents| matches!(contents.get(path), None | Some(Content::Absent));
    absent(now) && !absent(before)
}
