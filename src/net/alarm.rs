//! One timer for all the deadlines of a task: armed seldom, though the deadline moves with every request.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep, sleep_until};

/// A task's timer. It belongs to one task: its waker is kept.
///
/// A deadline that moves on leaves the timer as it is armed; when it fires too early, it is armed anew. So a deadline a
/// request costs nothing but a comparison.
#[derive(Debug, Default)]
pub struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// Waits until `deadline`.
    pub fn poll_until(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let timer = match &mut self.0 {
            Some(timer) if timer.deadline() <= deadline && !timer.is_elapsed() => return Poll::Pending,
            Some(timer) => {
                if timer.deadline() != deadline {
                    timer.as_mut().reset(deadline);
                }
                timer
            }
            none => none.insert(Box::pin(sleep_until(deadline))),
        };
        timer.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn deadline_may_move_either_way_and_fires_when_it_is_due() {
        let mut alarm = Alarm::default();
        let second = Duration::from_secs(1);
        let start = Instant::now();
        // Later, earlier, later again.
        for offset in [60, 30, 31, 90] {
            let polled = poll_fn(|cx| Poll::Ready(alarm.poll_until(cx, start + offset * second))).await;
            assert_eq!(polled, Poll::Pending);
        }
        poll_fn(|cx| alarm.poll_until(cx, start + 40 * second)).await;
        assert_eq!(start.elapsed(), 40 * second);
        poll_fn(|cx| alarm.poll_until(cx, start + 40 * second)).await;
        poll_fn(|cx| alarm.poll_until(cx, start + 41 * second)).await;
        assert_eq!(start.elapsed(), 41 * second);
        poll_fn(|cx| alarm.poll_until(cx, start)).await;
        assert_eq!(start.elapsed(), 41 * second, "a deadline of the past is due");
    }
}
