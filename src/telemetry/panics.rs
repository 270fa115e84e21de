//! Panics: each is a bug of ours that ended one task, a connection as a rule. They are counted and told in one line; what
//! was said in the panic is not, for it may hold what a client or a file said.

use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicU64, Ordering};

/// All of this process: a panic knows of nothing smaller.
static COUNT: AtomicU64 = AtomicU64::new(0);

/// Has every panic of this process counted, and logged by its thread and its place alone. For the process's beginning.
pub fn install() {
    std::panic::set_hook(Box::new(note));
}

/// How many there were.
pub(super) fn count() -> u64 {
    COUNT.load(Ordering::Relaxed)
}

/// Counts and logs one.
pub(crate) fn note(info: &PanicHookInfo<'_>) {
    COUNT.fetch_add(1, Ordering::Relaxed);
    let thread = std::thread::current();
    let place = info.location().map(ToString::to_string);
    tracing::error!(
        thread = thread.name().unwrap_or("unnamed"),
        place = place.as_deref().unwrap_or("unknown"),
        "a task panicked and ended; this is a bug, please report the place"
    );
}
