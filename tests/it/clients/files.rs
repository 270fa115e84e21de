//! A process that has no file left for a client lives on: it does not spin, lets go of what nobody uses, and serves again
//! as soon as there are files.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{GET, served};
use crate::support::process::Process;
use crate::support::raw::{Client, status};
use crate::support::{Upstream, until};

/// Fewer than the clients of these tests need.
const FILES: usize = 128;

/// A process of so few files, and more connections allowed than that.
fn start(upstream: SocketAddr) -> Process {
    let text = format!(
        "workers: 1\nlimits: {{ connections: 10000 }}\n\
         listeners: [{{ bind: 127.0.0.1:0, timeouts: {{ header: 1m }} }}]\n\
         upstreams: {{ one: {{ endpoints: ['{upstream}'] }} }}\nroutes: [{{ upstream: one }}]\n"
    );
    Process::start_with_files(&text, FILES)
}

#[tokio::test]
async fn clients_that_take_every_file_make_nothing_spin_and_when_they_go_others_are_served() {
    let upstream = Upstream::named("one").await;
    let mut process = start(upstream.address);
    let mut held = Vec::new();
    for _ in 0..FILES + 50 {
        held.push(Client::connect(process.address).await);
    }
    process.says("a client cannot be accepted").await;
    let (before, began) = (process.ticks(), Instant::now());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (ticks, elapsed) = (process.ticks() - before, began.elapsed());
    println!("without files: {ticks} hundredths of a second of processor in {elapsed:?}");
    assert!(ticks < 20, "it spins: {ticks} hundredths of a second in {elapsed:?}");
    drop(held);
    let began = Instant::now();
    drop(served(process.address).await);
    println!("served {:?} after the files came back", began.elapsed());
    process.signal("TERM");
    let log = process.rest_of_log().await;
    assert!(!log.contains("cannot be accepted"), "said once: {log}");
}

#[tokio::test]
async fn clients_that_wait_make_room_for_those_that_ask() {
    let upstream = Upstream::named("one").await;
    let process = start(upstream.address);
    let mut held = Vec::new();
    for _ in 0..3 * FILES {
        held.push(served(process.address).await);
    }
    // The last ones are there still, the first ones were told to go.
    let last = held.last_mut().unwrap();
    last.send(GET).await;
    assert_eq!(status(&last.read_response().await), 200);
    assert!(held[0].is_closed_within(Duration::from_secs(5)).await);
}

#[tokio::test]
async fn clients_alone_never_take_the_files_that_serving_them_needs() {
    let upstream = Upstream::named("one").await;
    let text = format!(
        "workers: 1\nlisteners: [{{ bind: 127.0.0.1:0, timeouts: {{ header: 1m }} }}]\n\
         upstreams: {{ one: {{ endpoints: ['{}'] }} }}\nroutes: [{{ upstream: one }}]\n",
        upstream.address
    );
    let process = Process::start_with_files(&text, FILES);
    let mut first = served(process.address).await;
    let mut held = Vec::new();
    for _ in 0..2 * FILES {
        held.push(Client::connect(process.address).await);
    }
    let last = held.last_mut().unwrap();
    assert_eq!(status(&last.read_to_end().await), 503, "over the limit that follows from the files");
    first.send(GET).await;
    assert_eq!(status(&first.read_response().await), 200);
    held.clear();
    until("there is room again", || async {
        let mut client = Client::connect(process.address).await;
        client.send(GET).await;
        (status(&client.read_response().await) == 200).then_some(())
    })
    .await;
}
