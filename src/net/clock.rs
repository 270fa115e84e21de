//! The time, read once for all that one event brings: a worker looks at the clock when it wakes and when bytes have
//! come, not for each of the moments that a request is measured by.

use std::cell::Cell;

use tokio::time::Instant;

thread_local! {
    static CLOCK: Cell<Clock> = const { Cell::new(Clock { is_kept: false, now: None }) };
}

#[derive(Clone, Copy)]
struct Clock {
    /// Whether somebody says when this thread wakes.
    is_kept: bool,
    /// `None` where time has passed since it was read.
    now: Option<Instant>,
}

/// The time of the present event. On a thread that nobody keeps the clock of, the time.
pub fn now() -> Instant {
    let clock = CLOCK.get();
    clock.now.filter(|_| clock.is_kept).unwrap_or_else(|| {
        let now = Instant::now();
        CLOCK.set(Clock { now: Some(now), ..clock });
        now
    })
}

/// Says that time has passed: something has come.
pub(super) fn pass() {
    CLOCK.set(Clock { now: None, ..CLOCK.get() });
}

/// Says that this thread has just woken. Who calls this once calls it each time: from then on the clock is kept.
pub fn woken() {
    CLOCK.set(Clock { is_kept: true, now: None });
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn time_stands_within_an_event_and_only_where_the_clock_is_kept() {
        let second = Duration::from_secs(1);
        let start = now();
        tokio::time::advance(second).await;
        assert_eq!(now(), start + second, "nobody keeps it");
        woken();
        assert_eq!(now(), start + second);
        tokio::time::advance(second).await;
        assert_eq!(now(), start + second, "the same event");
        pass();
        assert_eq!(now(), start + 2 * second);
        tokio::time::advance(second).await;
        woken();
        assert_eq!(now(), start + 3 * second);
    }
}
