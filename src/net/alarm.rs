//! One timer for all the deadlines of a task: armed seldom, though the deadline moves with every request.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use tokio::task::coop::unconstrained;
use tokio::task::yield_now;
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};

/// A task's timer. It belongs to one task: its waker is kept.
///
/// A deadline that moves on leaves the timer as it is armed; when it fires too early, it is armed anew. So a deadline a
/// request costs nothing but a comparison.
///
/// When a deadline is over, what has come is looked at once more before it counts. A process that stood still, as in a
/// container that is paused, is told of its timers before it is told of what came meanwhile: without the second look it
/// would blame others for having waited itself.
#[derive(Debug, Default)]
pub struct Alarm {
    timer: Option<Pin<Box<Sleep>>>,
    /// The deadline that was over at the last look.
    over: Option<Instant>,
}

impl Alarm {
    /// Waits until `deadline`.
    pub fn poll_until(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let timer = match &mut self.timer {
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
        ready!(pin!(unconstrained(timer.as_mut())).poll(cx));
        if self.over.replace(deadline) == Some(deadline) {
            return Poll::Ready(());
        }
        // The waker is called when the sockets were asked what there is.
        pin!(yield_now()).poll(cx)
    }
}

/// What `future` comes to by `deadline`, or `None`; with a second look, as [`Alarm`] takes one.
pub async fn in_time<F: Future>(deadline: Instant, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    if let Ok(output) = timeout_at(deadline, future.as_mut()).await {
        return Some(output);
    }
    yield_now().await;
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};

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

    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "the peer is a task of its own")]
    async fn what_has_come_while_the_thread_stood_still_is_seen_before_the_deadline() {
        let (mut near, mut far) = tokio::io::duplex(8);
        let mut alarm = Alarm::default();
        let deadline = Instant::now() + Duration::from_millis(20);
        // Woken at the same time as the timer, but behind it.
        let speaking = tokio::spawn(async move {
            sleep_until(deadline + Duration::from_millis(5)).await;
            far.write_all(b"x").await.unwrap();
        });
        yield_now().await;
        std::thread::sleep(Duration::from_millis(100));
        let mut byte = [0];
        let has_come = poll_fn(|cx| {
            let mut buffer = ReadBuf::new(&mut byte);
            if pin!(&mut near).poll_read(cx, &mut buffer).is_ready() {
                return Poll::Ready(true);
            }
            alarm.poll_until(cx, deadline).map(|()| false)
        });
        assert!(has_come.await);
        speaking.await.unwrap();
        let (mut near, mut far) = tokio::io::duplex(8);
        let deadline = Instant::now() + Duration::from_millis(20);
        let speaking = tokio::spawn(async move {
            sleep_until(deadline + Duration::from_millis(5)).await;
            far.write_all(b"x").await.unwrap();
        });
        let standing_still = async {
            yield_now().await;
            std::thread::sleep(Duration::from_millis(100));
            near.read_u8().await.unwrap()
        };
        assert_eq!(in_time(deadline, standing_still).await, Some(b'x'));
        speaking.await.unwrap();
        assert_eq!(in_time(Instant::now(), std::future::pending::<()>()).await, None);
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
