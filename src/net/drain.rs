//! The orderly end: whoever accepts or serves holds a [`Drained`]; when [`Drain`] says so, it takes no new work,
//! finishes what is in flight, and goes.

use tokio::sync::watch;
use tokio::time::Instant;

/// Tells its holders when to end.
#[derive(Debug)]
pub struct Drain(watch::Sender<Option<Window>>);

/// Told when to end.
#[derive(Debug, Clone)]
pub struct Drained(watch::Receiver<Option<Window>>);

/// The time in which the end is to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// When it was first wanted.
    pub since: Instant,
    /// When nothing is to be left.
    pub by: Instant,
}

impl Drain {
    /// A drain and the first of its holders.
    pub fn new() -> (Self, Drained) {
        let (sender, receiver) = watch::channel(None);
        (Self(sender), Drained(receiver))
    }

    /// Tells every holder to end, what lives on by `by`.
    pub fn start(&self, by: Instant) {
        self.0.send_replace(Some(Window { since: Instant::now(), by }));
    }

    /// Whether every holder is gone.
    pub fn is_finished(&self) -> bool {
        self.0.is_closed()
    }

    /// Waits until every holder is gone.
    pub async fn finished(&self) {
        self.0.closed().await;
    }
}

impl Drained {
    /// Whether the end is wanted.
    pub fn is_wanted(&self) -> bool {
        // Nothing is ever sent but the wish to end, and an error says that the drain is gone.
        self.0.has_changed().unwrap_or(true)
    }

    /// Waits until the end is wanted: `start`, or the [`Drain`] itself is gone.
    pub async fn wanted(&mut self) {
        // An error says that the drain is gone, which means the same.
        let _ = self.0.wait_for(Option::is_some).await;
    }

    /// The time in which the end is to come, where it is wanted and somebody has said by when.
    pub fn window(&self) -> Option<Window> {
        *self.0.borrow()
    }
}
