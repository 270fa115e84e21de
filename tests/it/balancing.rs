//! How requests are spread over the endpoints of an upstream, over real sockets and by several workers.

use std::collections::HashMap;
use std::time::Duration;

use crate::support::load::{answered_by, get_by};
use crate::support::proxy::HEAD;
use crate::support::{Proxy, Upstream};

/// An upstream that answers after `delay`, with its name in `x-upstream` and without a body.
async fn after(name: &'static str, delay: Duration) -> Upstream {
    Upstream::answering(move |_| async move {
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let mut response = http::Response::new(crate::support::upstream::full(""));
        response.headers_mut().insert("x-upstream", http::HeaderValue::from_static(name));
        response
    })
    .await
}

async fn named<const N: usize>(names: [&'static str; N]) -> Vec<Upstream> {
    let mut all = Vec::new();
    for name in names {
        all.push(after(name, Duration::ZERO).await);
    }
    all
}

/// A configuration of one upstream with these keys.
fn config(keys: &str) -> String {
    format!("{HEAD}zone: a\nupstreams: {{ one: {{ {keys} }} }}\nroutes: [{{ upstream: one }}]\n")
}

fn requests(count: usize) -> Vec<String> {
    (0..count).map(|unit| get_by("/", "x-user-id", &format!("user-{unit}"))).collect()
}

fn counted(answers: &[String]) -> HashMap<&str, usize> {
    let mut counts = HashMap::new();
    for answer in answers {
        *counts.entry(answer.as_str()).or_insert(0) += 1;
    }
    counts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weights_share_the_requests_of_all_workers() {
    let upstreams = named(["heavy", "light"]).await;
    // How far from 300 of 400 each may be: two workers, each within a turn of its own; random draws.
    for (policy, slack) in [("round_robin", 3), ("least_request", 60), ("peak_ewma", 80)] {
        let endpoints = format!(
            "endpoints: [{{ address: '{}', weight: 3 }}, '{}'], balance: {policy}",
            upstreams[0].address, upstreams[1].address
        );
        let proxy = Proxy::start_whole(&config(&endpoints)).await;
        let answers = answered_by(proxy.address, 8, requests(400)).await;
        let heavy = counted(&answers)["heavy"];
        assert!(heavy.abs_diff(300) <= slack, "{policy}: {heavy} of 400");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hash_finds_the_same_endpoint_on_every_worker_and_after_a_reload_that_adds_one() {
    let upstreams = named(["a", "b", "c", "d"]).await;
    let keys = |count: usize| {
        let endpoints: Vec<_> = upstreams[..count].iter().map(|one| format!("'{}'", one.address)).collect();
        config(&format!(
            "endpoints: [{}], balance: {{ hash: {{ key: [header:x-user-id] }} }}",
            endpoints.join(", ")
        ))
    };
    let proxy = Proxy::start_whole(&keys(3)).await;
    let first = answered_by(proxy.address, 8, requests(600)).await;
    assert_eq!(answered_by(proxy.address, 3, requests(600)).await, first, "over other connections");
    for (name, count) in counted(&first) {
        assert!((140..260).contains(&count), "{name}: {count} of 600");
    }
    proxy.replace(&keys(4)).await;
    let second = answered_by(proxy.address, 8, requests(600)).await;
    let moved: Vec<_> = first.iter().zip(&second).filter(|(before, after)| before != after).collect();
    let elsewhere = moved.iter().filter(|(_, after)| *after != "d").count();
    assert!((90..210).contains(&moved.len()), "a quarter moves, not {}", moved.len());
    assert!(elsewhere <= 6, "{elsewhere} move between those that stay");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hash_is_by_the_unit_of_the_split_or_by_the_client_where_no_key_is_written() {
    let upstreams = named(["a", "b", "c"]).await;
    let endpoints: Vec<_> = upstreams.iter().map(|one| format!("'{}'", one.address)).collect();
    let upstream = format!("one: {{ endpoints: [{}], balance: hash }}", endpoints.join(", "));
    let split = "splits: { s: { key: [header:x-user-id], variants: [{ name: one }] } }";
    let text = format!(
        "{HEAD}upstreams: {{ {upstream} }}\n{split}\nroutes: [{{ paths: [/], split: s }}, {{ paths: [/client], \
         upstream: one }}]\n"
    );
    let proxy = Proxy::start_whole(&text).await;
    let by_unit = answered_by(proxy.address, 4, requests(60)).await;
    assert_eq!(counted(&by_unit).len(), 3, "units are spread");
    assert_eq!(answered_by(proxy.address, 5, requests(60)).await, by_unit);
    let client = |unit: usize| get_by("/client", "x-user-id", &format!("user-{unit}"));
    let by_client = answered_by(proxy.address, 4, (0..20).map(client).collect()).await;
    assert_eq!(counted(&by_client).len(), 1, "there is one client: {by_client:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_endpoint_gets_few_requests() {
    let slow = after("slow", Duration::from_millis(100)).await;
    let fast = after("fast", Duration::ZERO).await;
    // In turn it would get 800. Where little is in flight, `least_request` gives it one at a time.
    for (policy, most) in [("least_request", 400), ("peak_ewma", 160)] {
        let endpoints = format!("endpoints: ['{}', '{}'], balance: {policy}", slow.address, fast.address);
        let proxy = Proxy::start_whole(&config(&endpoints)).await;
        let answers = answered_by(proxy.address, 8, requests(1600)).await;
        let taken = counted(&answers).get("slow").copied().unwrap_or_default();
        println!("{policy}: the slow one got {taken} of 1600");
        assert!(taken < most, "{policy}: {taken} of 1600");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn own_zone_takes_all_and_the_other_zone_all_once_it_is_gone() {
    for policy in ["least_request", "round_robin", "peak_ewma"] {
        let mut upstreams = named(["near", "far"]).await;
        let endpoints = format!(
            "endpoints: [{{ address: '{}', zone: a }}, {{ address: '{}', zone: b }}], balance: {policy}",
            upstreams[0].address, upstreams[1].address
        );
        let proxy = Proxy::start_whole(&config(&endpoints)).await;
        let answers = answered_by(proxy.address, 8, requests(100)).await;
        assert_eq!(counted(&answers), HashMap::from([("near", 100)]), "{policy}");
        drop(upstreams.remove(0));
        // The connections to it are closed, and it takes no new one.
        let answers = answered_by(proxy.address, 8, requests(100)).await;
        assert_eq!(counted(&answers), HashMap::from([("far", 100)]), "{policy}");
    }
}
