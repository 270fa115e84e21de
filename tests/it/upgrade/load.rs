//! Upgrades under load: no request fails.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustix::process::Signal;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::before;
use crate::support::lineage::Lineage;
use crate::support::raw::{Client, exchange, status};
use crate::support::{Upstream, until};

/// How many clients of each kind there are.
const CLIENTS: usize = 3;

/// What a client rests between two requests, so that the machine has time for the upgrades.
const REST: Duration = Duration::from_millis(2);

/// Clients of each kind that ask until they are told to stop; each counts its answers and panics when one does not come.
struct Load {
    stop: Arc<AtomicBool>,
    counts: [Arc<AtomicUsize>; 3],
    clients: JoinSet<()>,
}

impl Load {
    fn start(address: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let counts: [Arc<AtomicUsize>; 3] = std::array::from_fn(|_| Arc::default());
        let mut clients = JoinSet::new();
        for client in 0..CLIENTS * 3 {
            let (kind, stop, count) = (client % 3, Arc::clone(&stop), Arc::clone(&counts[client % 3]));
            clients.spawn(async move {
                match kind {
                    0 => by_new_connections(address, &stop, &count).await,
                    1 => by_kept_connections(address, &stop, &count).await,
                    _ => by_http2(address, &stop, &count).await,
                }
            });
        }
        Self { stop, counts, clients }
    }

    /// How many answers each kind of client has got.
    fn counts(&self) -> [usize; 3] {
        [0, 1, 2].map(|kind| self.counts[kind].load(Ordering::Relaxed))
    }

    /// Waits until each kind has had another thirty answers.
    async fn goes_on(&self) {
        let before = self.counts();
        until("the load goes on", || async {
            self.counts().iter().zip(before).all(|(now, before)| *now >= before + 30).then_some(())
        })
        .await;
    }

    async fn stop(self) -> [usize; 3] {
        self.stop.store(true, Ordering::Relaxed);
        // A client that panicked is told here.
        self.clients.join_all().await;
        self.counts.map(|count| count.load(Ordering::Relaxed))
    }
}

async fn by_new_connections(address: SocketAddr, stop: &AtomicBool, count: &AtomicUsize) {
    while !stop.load(Ordering::Relaxed) {
        let answer = exchange(address, "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
        assert_eq!(status(&answer), 200, "{answer}");
        count.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(REST).await;
    }
}

async fn by_kept_connections(address: SocketAddr, stop: &AtomicBool, count: &AtomicUsize) {
    let mut client = Client::connect(address).await;
    while !stop.load(Ordering::Relaxed) {
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let answer = client.read_response().await;
        assert_eq!(status(&answer), 200, "{answer}");
        count.fetch_add(1, Ordering::Relaxed);
        if answer.contains("connection: close") {
            client = Client::connect(address).await;
        }
        tokio::time::sleep(REST).await;
    }
}

async fn by_http2(address: SocketAddr, stop: &AtomicBool, count: &AtomicUsize) {
    'connection: loop {
        let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
        let (mut sender, driver) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
        let driver = tokio::spawn(driver);
        while !stop.load(Ordering::Relaxed) {
            let request = Request::get(format!("http://{address}/")).body(Empty::<Bytes>::new()).unwrap();
            match sender.send_request(request).await {
                Ok(answer) => {
                    assert_eq!(answer.status(), 200);
                    answer.into_body().collect().await.unwrap();
                }
                Err(error) => {
                    assert!(is_not_taken(&error), "{error:?}");
                    continue 'connection;
                }
            }
            count.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(REST).await;
        }
        driver.abort();
        return;
    }
}

/// Whether the connection was told to go before the request was on its way: it belongs on another one (RFC 9113 §6.8). That
/// it was not taken all the same is counted at the upstream.
fn is_not_taken(error: &hyper::Error) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<h2::Error>());
    let is_told = |cause: &h2::Error| {
        cause.is_go_away() && cause.is_remote() && cause.reason() == Some(h2::Reason::NO_ERROR)
    };
    error.is_canceled() || error.is_closed() || cause.is_some_and(is_told)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_upgrades_in_a_row_fail_no_request() {
    let upstream = Upstream::named("one").await;
    let text = |workers| before(upstream.address, workers, "");
    let lineage = Lineage::start(&text(4)).await;
    let address = lineage.address().await;
    let load = Load::start(address);
    for round in 0..20 {
        load.goes_on().await;
        lineage.configure(&text([4, 1, 3, 2][round % 4]));
        if round % 5 == 0 {
            lineage.install_weir();
        }
        let former = lineage.upgrade().await;
        assert_eq!(lineage.code(former).await, 0, "round {round}");
    }
    load.goes_on().await;
    let counts = load.stop().await;
    println!("answers to new connections, kept ones, HTTP/2: {counts:?}");
    assert_eq!(upstream.count(), counts.iter().sum::<usize>(), "as many were taken as were answered");
    lineage.signal(Signal::TERM);
    assert_eq!(lineage.code(lineage.pid()).await, 0);
}
