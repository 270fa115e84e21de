//! The kernel's events, reduced to what they mean for the files that are watched.
//!
//! A set of watches is never repaired: when what must be watched differs, a new one is made and the old one dropped.
//! So no watch is left on a directory that was moved away, and none is missing on the one that took its place.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::mpsc::Sender;
use std::{fmt, io, mem};

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{ErrorKind, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use super::survey::{Interest, Plan, Role};
use super::worker::Message;

/// What an event says about a real path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mark {
    /// Rights or times may differ.
    Touched,
    /// The entry was made.
    Created(PathBuf),
    /// Another file is under this name, or none.
    Replaced(PathBuf),
    /// The file was written to and is still open.
    Written(PathBuf),
    /// A writer closed the file.
    Closed(PathBuf),
    /// Events were lost.
    Lost,
}

/// A set of watches; ends with its thread when dropped.
pub(super) struct Events(Option<RecommendedWatcher>);

/// Why events are missing for some of a plan, or all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Blind {
    /// Where; `None`: everywhere.
    pub(super) path: Option<PathBuf>,
    /// Why.
    pub(super) reason: String,
}

impl Events {
    /// Watches all places of `plan`, sends what matters to `inbox`, and returns what it could not watch, if anything.
    pub(super) fn new(plan: &Plan, inbox: Sender<Message>) -> (Self, Option<Blind>) {
        let interest = plan.interest.clone();
        let handler = move |event: notify::Result<Event>| {
            for mark in marks(event, &interest) {
                // The worker may be gone already; then nobody cares.
                let _ = inbox.send(Message::Mark(mark));
            }
        };
        let mut watcher = match RecommendedWatcher::new(handler, notify::Config::default()) {
            Ok(watcher) => watcher,
            Err(error) => return (Self(None), Some(Blind { path: None, reason: error.to_string() })),
        };
        // `notify` panics where its thread could not be started or has died, in its destructor too.
        match catch_unwind(AssertUnwindSafe(|| watch_all(&mut watcher, plan))) {
            Ok(blind) => (Self(Some(watcher)), blind),
            Err(panic) => {
                mem::forget(watcher);
                (Self(None), Some(Blind { path: None, reason: panic_text(panic.as_ref()) }))
            }
        }
    }

    /// Returns no watches at all.
    pub(super) fn none() -> Self {
        Self(None)
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Events").field(&self.0.is_some()).finish()
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        // See `new`: a dead thread must not take ours along.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(self.0.take())));
    }
}

fn watch_all(watcher: &mut RecommendedWatcher, plan: &Plan) -> Option<Blind> {
    let mut blind = None;
    for (path, place) in &plan.places {
        let Err(error) = watcher.watch(path, RecursiveMode::NonRecursive) else { continue };
        let matters = match &error.kind {
            // It went away since the survey: the next survey will tell.
            ErrorKind::PathNotFound => false,
            // A directory may be passed without being read, and a file that cannot be read is seen by its directory.
            ErrorKind::Io(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                place.role == Role::Holder
            }
            ErrorKind::MaxFilesWatch => true,
            _ => place.role != Role::Way,
        };
        if matters && blind.is_none() {
            let reason = match error.kind {
                ErrorKind::Io(error) => error.to_string(),
                kind => notify::Error::new(kind).to_string(),
            };
            blind = Some(Blind { path: Some(path.clone()), reason });
        }
    }
    blind
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("panic").to_owned()
}

/// Returns what the event says about paths of interest.
fn marks(event: notify::Result<Event>, interest: &Interest) -> Vec<Mark> {
    let Ok(event) = event else { return vec![Mark::Lost] };
    if event.need_rescan() {
        return vec![Mark::Lost];
    }
    let mark: fn(PathBuf) -> Mark = match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => Mark::Closed,
        EventKind::Access(_) => return Vec::new(),
        EventKind::Create(_) => Mark::Created,
        EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)) => Mark::Replaced,
        EventKind::Modify(ModifyKind::Metadata(_)) => |_| Mark::Touched,
        EventKind::Modify(_) => Mark::Written,
        EventKind::Any | EventKind::Other => |_| Mark::Lost,
    };
    event.paths.into_iter().filter(|path| interest.covers(path)).map(mark).collect()
}
