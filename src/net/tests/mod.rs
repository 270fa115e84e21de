//! Messages over real sockets, however they are cut, and whoever is slow.

mod tls;

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::{Coding, Fill, Io, Link, LinkError, Source, Transfer};
use crate::wire::{Fields, Known, Length, RequestHead};

/// A link, and its peer.
fn pair() -> (Rc<Link>, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (Rc::new(Link::new(Io::from(ours))), theirs)
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), future).await.unwrap() })
}

async fn head(link: &Link) -> Option<RequestHead> {
    loop {
        if let Some(head) = link.parse(RequestHead::parse).unwrap() {
            return Some(head);
        }
        if poll_fn(|cx| link.poll_read(cx)).await.unwrap() == 0 {
            return None;
        }
    }
}

/// Reads a body, taking at most `step` bytes at a time.
async fn body(link: &Link, step: usize) -> Result<(Vec<u8>, Option<Fields>), LinkError> {
    let mut read = Vec::new();
    loop {
        match poll_fn(|cx| link.poll_fill(cx)).await? {
            Fill::End(trailers) => return Ok((read, trailers)),
            Fill::Data => {
                let used = link.with_data(|data| {
                    let used = data.len().min(step);
                    read.extend_from_slice(&data[..used]);
                    used
                });
                assert!(used > 0, "data that is none");
                link.consume(used);
            }
        }
    }
}

const REQUESTS: &str = "POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello\
    POST /b HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n1;x=y\r\nd\r\n0\r\nx-end: 1\r\n\r\n\
    GET /c HTTP/1.1\r\nhost: a\r\n\r\n\
    POST /d HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n\
    GET /e HTTP/1.0\r\n\r\n";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn requests_are_the_same_however_they_are_cut(
        cuts in proptest::collection::vec(1_usize..40, 1..30),
        step in 1_usize..10,
    ) {
        let read = block_on(async {
            let (link, mut peer) = pair();
            let writing = async {
                let (mut rest, mut cuts) = (REQUESTS.as_bytes(), cuts.iter().cycle());
                while !rest.is_empty() {
                    let (now, later) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                    peer.write_all(now).await.unwrap();
                    tokio::task::yield_now().await;
                    rest = later;
                }
                peer.shutdown().await.unwrap();
            };
            let reading = async {
                let mut read = Vec::new();
                while let Some(head) = head(&link).await {
                    link.begin(Length::of_request(&head).unwrap());
                    let (data, trailers) = body(&link, step).await.unwrap();
                    assert!(link.is_between());
                    let end = trailers.map(|fields| fields.get("x-end").unwrap().to_vec());
                    read.push((head.path().to_owned(), data, end));
                }
                read
            };
            tokio::join!(writing, reading).1
        });
        let expected = [
            ("/a", &b"hello"[..], None),
            ("/b", b"abcd", Some(b"1".to_vec())),
            ("/c", b"", None),
            ("/d", b"", None),
            ("/e", b"", None),
        ];
        prop_assert_eq!(read, expected.map(|(path, data, end)| (path.to_owned(), data.to_vec(), end)));
    }
}

/// A body in pieces that come one after the other, some of them late.
struct Pieces {
    left: Vec<Vec<u8>>,
    is_late: bool,
    trailers: Option<Fields>,
}

impl Source for Pieces {
    type Error = ();

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<Fill, ()>> {
        self.is_late = !self.is_late;
        if self.is_late {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Ok(if self.left.is_empty() { Fill::End(self.trailers.clone()) } else { Fill::Data }))
    }

    fn with_data<R>(&self, look: impl FnOnce(&[u8]) -> R) -> R {
        look(self.left.first().map_or(&[], Vec::as_slice))
    }

    fn consume(&mut self, count: usize) {
        if let Some(piece) = self.left.first_mut() {
            piece.drain(..count);
            if piece.is_empty() {
                self.left.remove(0);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn message_arrives_whole_whatever_its_pieces_and_however_slow_its_reader(
        sizes in proptest::collection::vec(prop_oneof![1_usize..20, 4000_usize..5000, 20_000_usize..400_000], 0..8),
        is_chunked in any::<bool>(),
        has_trailers in any::<bool>(),
        read_size in prop_oneof![1000_usize..5000, Just(1 << 20)],
    ) {
        let pieces: Vec<Vec<u8>> = (0_u8..).zip(&sizes).map(|(index, size)| vec![b'a' + index; *size]).collect();
        let whole = pieces.concat();
        let coding = if is_chunked { Coding::Chunked { trailers: true } } else { Coding::Plain };
        let trailers = has_trailers.then(|| [("x-end", "1")].into_iter().collect::<Fields>());
        let expected_trailers = trailers.clone().filter(|_| is_chunked);
        let head_text = match coding {
            Coding::Chunked { .. } => "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n".to_owned(),
            Coding::Plain => format!("POST / HTTP/1.1\r\ncontent-length: {}\r\n\r\n", whole.len()),
        };
        let (head, data, end) = block_on(async {
            let (link, peer) = pair();
            let (mut reader, mut writer) = peer.into_split();
            let (other, mut relayed) = pair();
            let source = Pieces { left: pieces, is_late: false, trailers };
            let mut transfer = Transfer::new(head_text.clone().into_bytes(), coding, Some(source));
            let sending = async {
                let sent = poll_fn(|cx| transfer.poll(cx, link.io())).await;
                assert!(sent.is_ok());
                poll_fn(|cx| link.io().poll_end(cx)).await;
            };
            // A slow reader between the two.
            let reading = async {
                let mut part = vec![0; read_size];
                loop {
                    let length = reader.read(&mut part).await.unwrap();
                    if length == 0 {
                        break;
                    }
                    relayed.write_all(&part[..length]).await.unwrap();
                    tokio::task::yield_now().await;
                }
                relayed.shutdown().await.unwrap();
                let _ = writer.shutdown().await;
            };
            let parsing = async {
                let head = head(&other).await.unwrap();
                other.begin(Length::of_request(&head).unwrap());
                let (data, end) = body(&other, usize::MAX).await.unwrap();
                (head, data, end)
            };
            tokio::join!(sending, reading, parsing).2
        });
        prop_assert_eq!(head.fields.contains(Known::TransferEncoding), is_chunked);
        prop_assert!(data == whole, "{} bytes of {}", data.len(), whole.len());
        prop_assert_eq!(end, expected_trailers);
    }
}

#[test]
fn body_that_breaks_off_or_is_malformed_is_an_error() {
    let rows: &[(Length, &[u8], bool)] = &[
        (Length::Exact(5), b"hell", false),
        (Length::Chunked, b"5\r\nhel", false),
        (Length::Chunked, b"5\r\nhello\r\n", false),
        (Length::Chunked, b"x", true),
        (Length::Chunked, b"1\r\naxx", true),
    ];
    for (length, sent, is_malformed) in rows {
        let read = block_on(async {
            let (link, mut peer) = pair();
            peer.write_all(sent).await.unwrap();
            drop(peer);
            link.begin(*length);
            body(&link, 100).await
        });
        let error = read.unwrap_err();
        assert_eq!(matches!(error, LinkError::Malformed(_)), *is_malformed, "{length:?} {sent:?}: {error}");
    }
    let closed = block_on(async {
        let (link, mut peer) = pair();
        peer.write_all(b"all of it").await.unwrap();
        drop(peer);
        link.begin(Length::UntilClose);
        body(&link, 3).await
    });
    assert_eq!(closed.unwrap().0, b"all of it");
}

#[test]
fn body_whose_end_was_read_is_under_way_until_it_is_used() {
    block_on(async {
        let (link, mut peer) = pair();
        peer.write_all(b"5\r\nhello\r\n0\r\nx-end: 1\r\n\r\nGET /").await.unwrap();
        link.begin(Length::Chunked);
        assert_eq!(poll_fn(|cx| link.poll_fill(cx)).await.unwrap(), Fill::Data);
        assert!(!link.is_between());
        link.consume(2);
        assert!(!link.is_between());
        link.consume(3);
        assert!(link.is_between());
        assert_eq!(link.with_ahead(<[u8]>::to_vec), b"GET /");
        // Nobody asked for the trailers: they are not the next body's.
        link.begin(Length::Exact(0));
        assert_eq!(poll_fn(|cx| link.poll_fill(cx)).await.unwrap(), Fill::End(None));
    });
}

#[test]
fn whoever_waits_for_the_end_of_a_body_that_another_task_reads_is_woken() {
    block_on(async {
        for sent in [&b"5\r\nhello\r\n0\r\n\r\n"[..], b"hello"] {
            let (link, mut peer) = pair();
            link.begin(if sent.len() == 5 { Length::Exact(5) } else { Length::Chunked });
            let local = tokio::task::LocalSet::new();
            let read = Rc::clone(&link);
            local.spawn_local(async move { body(&read, 3).await.unwrap().0 });
            let waiting = local.run_until(async {
                let mut polled = 0;
                poll_fn(|cx| {
                    polled += 1;
                    link.poll_between(cx)
                })
                .await;
                polled
            });
            let (polled, ()) = tokio::join!(waiting, async {
                tokio::task::yield_now().await;
                peer.write_all(sent).await.unwrap();
            });
            assert!(polled > 0 && link.is_between());
        }
    });
}
