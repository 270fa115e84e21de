//! Tells the control task that files of the configuration changed, whichever way they were written.
//!
//! It must not load, parse or judge what it sees: [`Watcher::changed`] says that contents differ from those last told,
//! and no more. All its work is done on a thread of its own, so that a hanging network file system holds up nobody.
//!
//! Next: `worker` (the thread), `settle` (when a burst is over), `survey` (what is watched, what it contains),
//! `events` (the kernel's events).

mod events;
mod settle;
mod survey;
mod worker;

use std::path::PathBuf;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use std::{env, io, thread};

use tokio::sync::Notify;

use worker::{Message, Worker};

/// How the watcher takes its time.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long a burst of events must be over before it is told; a burst that does not end is told after three times
    /// this. 50 ms by default.
    pub gather: Duration,
    /// How long an open writer must be silent, and a file absent, before that counts as its state. 1 s by default.
    pub quiet: Duration,
    /// How often contents are compared without any event; a difference is told once it stood for `quiet`. 3 s by
    /// default, so that a change is told within 4 s where the kernel gives no events.
    pub poll: Duration,
    /// Whether the kernel's events are used; `true` by default. Without, all is found by polling.
    pub events: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            gather: Duration::from_millis(50),
            quiet: Duration::from_secs(1),
            poll: Duration::from_secs(3),
            events: true,
        }
    }
}

/// A settled change of what is watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The files whose content differs from what was told last, absolute, in the order of their names. Empty: they
    /// changed and changed back while the last change was being loaded, so that the load may have read either.
    pub files: Vec<PathBuf>,
    /// What found it.
    pub found: Found,
    /// A digest of all names and contents that are watched, as they were when the change was found.
    pub digest: u64,
}

/// What found a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Events of the kernel.
    Event,
    /// The comparison of contents: there were no events, or they were lost.
    Poll,
}

/// Why there is no watcher.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// Relative paths have no meaning.
    #[error("cannot tell the current directory")]
    CurrentDirectory(#[source] io::Error),
    /// The thread could not be started.
    #[error("cannot start the thread that watches the configuration")]
    Thread(#[source] io::Error),
}

/// Watches files and folders until it is dropped.
#[derive(Debug)]
pub struct Watcher {
    base: PathBuf,
    paths: Vec<PathBuf>,
    inbox: Sender<Message>,
    outbox: Arc<Outbox>,
}

impl Watcher {
    /// Starts to watch these files and folders; of a folder, its `*.yaml` files without a leading dot.
    ///
    /// Any of them may be absent. `read_at` is when the caller began to read them: what changed since is told.
    /// Blocks for as long as it takes to read them once.
    ///
    /// # Errors
    /// When there is no current directory, or no further thread. That the kernel gives no events is no error: the
    /// watcher warns and polls.
    pub fn start(paths: Vec<PathBuf>, read_at: SystemTime, options: Options) -> Result<Self, WatchError> {
        let base = env::current_dir().map_err(WatchError::CurrentDirectory)?;
        let paths = absolute(&base, paths);
        let (inbox, messages) = mpsc::channel();
        let outbox = Arc::new(Outbox::default());
        let mut worker = Worker::new(options, inbox.clone(), messages, Arc::clone(&outbox));
        // Here and not on the thread: a change after the return must not pass for the state at the start.
        worker.watch(paths.clone(), read_at);
        thread::Builder::new()
            .name("weir-watch".to_owned())
            .spawn(move || worker.run())
            .map_err(WatchError::Thread)?;
        Ok(Self { base, paths, inbox, outbox })
    }

    /// Replaces what is watched and returns whether it differs; costs next to nothing when it does not.
    ///
    /// To be called after each load that knew its files. `read_at` is when that load began: a file that is new here
    /// and changed since is told, for the load may have read its old content.
    pub fn set_paths(&mut self, paths: Vec<PathBuf>, read_at: SystemTime) -> bool {
        let paths = absolute(&self.base, paths);
        if paths == self.paths {
            return false;
        }
        self.paths.clone_from(&paths);
        // The thread ends only with this handle.
        let _ = self.inbox.send(Message::Watch(paths, read_at));
        true
    }

    /// Waits for the next settled change. Never ends while nothing changes; safe to cancel.
    ///
    /// Contents equal to those last told are not told again. Load *before* the next call: the call says that the load
    /// of the change returned last is over, and what was written during that load is told anew even if it was
    /// undone meanwhile. Changes that wait for a slow caller become one.
    pub async fn changed(&mut self) -> Change {
        self.outbox.loaded(now());
        loop {
            if let Some(change) = self.outbox.take() {
                return change;
            }
            self.outbox.ready.notified().await;
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // Not joined: a dead network file system may hold the thread.
        let _ = self.inbox.send(Message::Stop);
    }
}

/// Returns the paths as absolute ones, in order, each once.
fn absolute(base: &std::path::Path, paths: Vec<PathBuf>) -> Vec<PathBuf> {
    let mut paths: Vec<_> = paths.into_iter().map(|path| base.join(path)).collect();
    paths.sort_unstable();
    paths.dedup();
    paths
}

/// Where the thread leaves a change for the control task.
#[derive(Debug, Default)]
struct Outbox {
    slot: Mutex<Slot>,
    ready: Notify,
}

/// How late an event may be heard of on a busy machine. One that seems to belong to a load and does not costs a load of
/// what is known already.
const LAG: Duration = Duration::from_millis(200);

#[expect(clippy::disallowed_methods, reason = "events are told by the clock")]
fn now() -> Instant {
    Instant::now()
}

#[derive(Debug, Default)]
struct Slot {
    change: Option<Change>,
    loading: bool,
    /// When the last load ended.
    loaded_at: Option<Instant>,
}

impl Outbox {
    /// Leaves `change`, together with one that was not fetched yet.
    fn put(&self, mut change: Change) {
        let mut slot = self.slot();
        if let Some(earlier) = slot.change.take() {
            change.files.extend(earlier.files);
            change.files.sort_unstable();
            change.files.dedup();
        }
        slot.change = Some(change);
        drop(slot);
        self.ready.notify_one();
    }

    /// Whether a change was put whose load is not known to be over, or was not when what is heard of now was done.
    fn is_out(&self, now: Instant) -> bool {
        let slot = self.slot();
        slot.loading || slot.change.is_some() || slot.loaded_at.is_some_and(|at| now < at + LAG)
    }

    fn take(&self) -> Option<Change> {
        let mut slot = self.slot();
        let change = slot.change.take();
        slot.loading |= change.is_some();
        change
    }

    fn loaded(&self, now: Instant) {
        let mut slot = self.slot();
        if std::mem::take(&mut slot.loading) {
            slot.loaded_at = Some(now);
        }
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(name: &str, digest: u64) -> Change {
        Change { files: vec![name.into()], found: Found::Event, digest }
    }

    #[test]
    fn changes_not_fetched_become_one() {
        let outbox = Outbox::default();
        outbox.put(change("b", 1));
        outbox.put(change("a", 2));
        outbox.put(change("b", 3));
        let files = vec![PathBuf::from("a"), PathBuf::from("b")];
        assert_eq!(outbox.take(), Some(Change { files, found: Found::Event, digest: 3 }));
        assert_eq!(outbox.take(), None);
    }

    #[test]
    fn a_change_is_out_until_its_load_is_over() {
        let outbox = Outbox::default();
        let now = now();
        assert!(!outbox.is_out(now));
        outbox.put(change("a", 1));
        outbox.loaded(now);
        assert!(outbox.is_out(now), "not fetched");
        outbox.take();
        assert!(outbox.is_out(now), "being loaded");
        outbox.loaded(now);
        assert!(outbox.is_out(now), "an event of before may be heard of late");
        assert!(!outbox.is_out(now + LAG));
    }

    #[test]
    fn dropped_watcher_then_its_thread_ends() {
        let folder = tempfile::tempdir().unwrap();
        let watcher =
            Watcher::start(vec![folder.path().into()], SystemTime::UNIX_EPOCH, Options::default()).unwrap();
        let thread = Arc::downgrade(&watcher.outbox);
        drop(watcher);
        // Bounded by 5 s.
        let ended = (0..5000).any(|_| {
            thread::sleep(Duration::from_millis(1));
            thread.strong_count() == 0
        });
        assert!(ended, "the thread still holds its outbox");
    }
}
