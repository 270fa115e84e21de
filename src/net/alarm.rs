//! One timer for all the deadlines of a task: armed seldom, though the deadline moves with every request.

use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use tokio::task::coop::unconstrained;
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
        // A task that has had its turn must not be put off here: the timer would be without a waker, and never be asked
        // again.
        pin!(unconstrained(timer.as_mut())).poll(cx)
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

    #[tokio::test(start_paused = true)]
    async fn alarm_that_is_set_by_a_task_that_has_had_its_turn_fires() {
        let mut alarm = Alarm::default();
        let start = Instant::now();
        for offset in [10, 20] {
            let deadline = start + Duration::from_secs(offset);
            let mut is_spent = false;
            let ringing = poll_fn(|cx| {
                while !is_spent {
                    is_spent = pin!(tokio::task::coop::consume_budget()).poll(cx).is_pending();
                }
                alarm.poll_until(cx, deadline)
            });
            tokio::time::timeout(Duration::from_secs(100), ringing).await.expect("it fires");
            assert_eq!(Instant::now(), deadline);
        }
    }
}
