//! A body on its way out over a stream of HTTP/2, to an endpoint or to a client: never more than the peer's windows allow,
//! and nothing is taken from where it comes before there is room for it.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::net::{Backlog, Fill, Patience, Source};

/// How much is asked for, and sent, at a time.
const PART: usize = 256 * 1024;

/// A body of so few bytes that nothing follows is not counted in the backlog.
const SMALL: usize = 4 * 1024;

/// Why a body was not sent whole.
#[derive(Debug)]
pub enum BodyError<E> {
    /// The body itself broke off; the stream was reset.
    Body(E),
    /// The peer does not want it.
    Stream(h2::Error),
}

/// What a peer that takes little is held to.
#[derive(Debug)]
pub struct Hold {
    /// How long it may make us wait.
    pub patience: Patience,
    /// What waits on its connection.
    pub backlog: Backlog,
}

/// Sends `body` on `stream`, never more than the peer's windows allow, with its trailers. The stream is reset when the
/// body breaks off, and when the peer takes less of it than `hold` has patience for.
///
/// # Errors
/// [`BodyError`], after the stream was ended one way or the other.
pub async fn send_body<S: Source>(
    body: &mut S,
    mut stream: SendStream<Bytes>,
    mut hold: Option<Hold>,
) -> Result<(), BodyError<S::Error>> {
    let (mut next, mut is_first) = (None, true);
    loop {
        let fill = match next.take() {
            Some(fill) => fill,
            None => poll_fn(|cx| {
                if let Some(error) = reset(&mut stream, cx) {
                    return Poll::Ready(Err(error));
                }
                body.poll_fill(cx).map(Ok)
            })
            .await
            .map_err(BodyError::Stream)?,
        };
        match fill {
            Ok(Fill::Data) => {
                let room = room(&mut stream, body, hold.as_mut()).await.map_err(BodyError::Stream)?;
                let data = body.take_up_to(room);
                // Whether that was all, so that its frame can say so.
                next = match poll_fn(|cx| Poll::Ready(body.poll_fill(cx))).await {
                    Poll::Ready(fill) => Some(fill),
                    Poll::Pending => None,
                };
                let end = matches!(next, Some(Ok(Fill::End(None))));
                let is_small = std::mem::take(&mut is_first) && end && data.len() <= SMALL;
                if !data.is_empty() || end {
                    let data = match &hold {
                        Some(hold) if !is_small => hold.backlog.hold(data),
                        _ => data,
                    };
                    stream.send_data(data, end).map_err(BodyError::Stream)?;
                }
                if end {
                    return Ok(());
                }
            }
            Ok(Fill::End(None)) => return stream.send_data(Bytes::new(), true).map_err(BodyError::Stream),
            Ok(Fill::End(Some(trailers))) => {
                return stream.send_trailers(trailers.to_map()).map_err(BodyError::Stream);
            }
            Err(error) => {
                stream.send_reset(Reason::CANCEL);
                return Err(BodyError::Body(error));
            }
        }
    }
}

/// Waits until some of the data of `body` may be sent; how much.
async fn room<S: Source>(
    stream: &mut SendStream<Bytes>,
    body: &mut S,
    mut hold: Option<&mut Hold>,
) -> Result<usize, h2::Error> {
    let wanted = body.with_data(<[u8]>::len).min(PART);
    if wanted == 0 {
        return Ok(0);
    }
    stream.reserve_capacity(wanted);
    let mut alarm: Option<Pin<Box<Sleep>>> = None;
    let room = poll_fn(|cx| {
        if let Some(error) = reset(stream, cx) {
            return Poll::Ready(Err(error));
        }
        if let Poll::Ready(room) = poll_room(stream, hold.as_deref(), wanted, cx) {
            return Poll::Ready(room);
        }
        body.wait();
        let Some(hold) = &mut hold else { return Poll::Pending };
        let Some(until) = hold.patience.wait(Instant::now) else { return Poll::Pending };
        ready!(alarm.get_or_insert_with(|| Box::pin(sleep_until(until))).as_mut().poll(cx));
        stream.send_reset(Reason::CANCEL);
        Poll::Ready(Err(h2::Error::from(Reason::CANCEL)))
    })
    .await?;
    if let Some(hold) = hold {
        hold.patience.moved(room as u64, Instant::now);
    }
    Ok(room)
}

fn poll_room(
    stream: &mut SendStream<Bytes>,
    hold: Option<&Hold>,
    wanted: usize,
    cx: &mut Context<'_>,
) -> Poll<Result<usize, h2::Error>> {
    let granted = match stream.capacity() {
        0 => match ready!(stream.poll_capacity(cx)) {
            Some(granted) => granted?,
            None => return Poll::Ready(Err(h2::Error::from(Reason::CANCEL))),
        },
        granted => granted,
    };
    let free = match hold {
        Some(hold) => ready!(hold.backlog.poll_room(cx)),
        None => usize::MAX,
    };
    Poll::Ready(Ok(granted.min(free).min(wanted)))
}

/// What ended `stream`, if anything has.
fn reset(stream: &mut SendStream<Bytes>, cx: &mut Context<'_>) -> Option<h2::Error> {
    match stream.poll_reset(cx) {
        Poll::Ready(reset) => Some(reset.map_or_else(|error| error, h2::Error::from)),
        Poll::Pending => None,
    }
}
