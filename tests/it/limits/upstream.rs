//! Limits of upstreams: who waits, who is turned away, who goes to the baseline, and that no place is lost.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::support::raw::{Client, Scripted, exchange, read_head, status};
use crate::support::{Proxy, Upstream, until};

/// An endpoint that answers a request for each permit of `gate`, whenever there is one.
async fn gated(gate: &Arc<Semaphore>) -> Scripted {
    use tokio::io::AsyncWriteExt;
    let gate = Arc::clone(gate);
    Scripted::accepting(move |mut stream| {
        let gate = Arc::clone(&gate);
        async move {
            while read_head(&mut stream).await.is_some() {
                gate.acquire().await.unwrap().forget();
                let answer = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\ngated";
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    })
    .await
}

fn config(endpoint: impl std::fmt::Display, limits: &str) -> String {
    format!(
        "{}upstreams: {{ one: {{ endpoints: ['{endpoint}'], limits: {{ {limits} }} }} }}\nroutes: [{{ upstream: one }}]\n",
        crate::support::proxy::HEAD,
    )
}

fn ask(proxy: &Proxy, clients: &mut JoinSet<String>) {
    let address = proxy.address;
    clients.spawn(async move {
        exchange(address, "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await
    });
}

async fn pending(proxy: &Proxy, wanted: f64) {
    until("they wait", || async {
        (proxy.metric("weir_upstream_requests_pending", &["one"]).await == wanted).then_some(())
    })
    .await;
}

#[tokio::test]
async fn request_over_the_limit_waits_and_beyond_is_turned_away_at_once() {
    let gate = Arc::new(Semaphore::new(0));
    let endpoint = gated(&gate).await;
    let proxy =
        Proxy::start_whole(&config(endpoint.address, "requests: 2, pending: 3, pending_timeout: 1m")).await;
    let mut clients = JoinSet::new();
    for _ in 0..5 {
        ask(&proxy, &mut clients);
    }
    pending(&proxy, 3.0).await;
    assert_eq!(endpoint.count(), 2, "no more connections than requests");
    ask(&proxy, &mut clients);
    let refused = clients.join_next().await.unwrap().unwrap().to_ascii_lowercase();
    assert_eq!(status(&refused), 503, "{refused}");
    assert!(refused.contains("x-weir-error: upstream_overloaded"), "{refused}");
    assert!(refused.contains("retry-after: 1\r\n"), "{refused}");
    gate.add_permits(5);
    while let Some(answer) = clients.join_next().await {
        assert_eq!(status(&answer.unwrap()), 200);
    }
    pending(&proxy, 0.0).await;
    for (name, labels, expected) in [
        ("weir_upstream_requests_shed_total", "one", 1.0),
        ("weir_upstream_requests_limit", "one", 2.0),
        ("weir_errors_total", "blame=\"us\"", 1.0),
        ("weir_upstream_failures_total", "one", 0.0),
        ("weir_upstream_outcomes_total", "failure", 0.0),
    ] {
        assert_eq!(proxy.metric(name, &[labels]).await, expected, "{name}");
    }
    // The places are all there again.
    gate.add_permits(100);
    for _ in 0..10 {
        ask(&proxy, &mut clients);
        assert_eq!(status(&clients.join_next().await.unwrap().unwrap()), 200);
    }
}

#[tokio::test]
async fn who_waits_for_too_long_is_turned_away_and_who_leaves_makes_room() {
    let gate = Arc::new(Semaphore::new(0));
    let endpoint = gated(&gate).await;
    let proxy =
        Proxy::start_whole(&config(endpoint.address, "requests: 1, pending: 1, pending_timeout: 300ms"))
            .await;
    let mut clients = JoinSet::new();
    let mut first = Client::connect(proxy.address).await;
    first.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    until("it is there", || async { (endpoint.count() == 1).then_some(()) }).await;
    ask(&proxy, &mut clients);
    let refused = clients.join_next().await.unwrap().unwrap();
    assert_eq!(status(&refused), 503, "{refused}");
    pending(&proxy, 0.0).await;
    // The one inside goes without its answer: its place is free.
    drop(first);
    gate.add_permits(100);
    until("its place is free", || async {
        let answer = exchange(proxy.address, "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
        (status(&answer) == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn canary_at_its_limit_hands_over_to_the_baseline_unless_it_must_not() {
    for (on_unavailable, expected) in [("baseline", (200, "well")), ("error", (503, "upstream_overloaded"))] {
        let gate = Arc::new(Semaphore::new(0));
        let (endpoint, well) = (gated(&gate).await, Upstream::named("well").await);
        let proxy = Proxy::start(&format!(
            "upstreams:\n  well: {{ endpoints: ['{}'] }}\n  canary: {{ endpoints: ['{}'], limits: {{ requests: 1, pending: 0 }} \
             }}\nsplits: {{ s: {{ key: [header:x-id], variants: [{{ name: well }}, {{ name: canary, weight: 100%, \
             on_unavailable: {on_unavailable} }}] }} }}\nroutes: [{{ split: s }}]\n",
            well.address, endpoint.address
        ))
        .await;
        let request = "GET / HTTP/1.1\r\nhost: a\r\nx-id: 1\r\nconnection: close\r\n\r\n";
        let mut first = Client::connect(proxy.address).await;
        first.send(request).await;
        until("it is there", || async { (endpoint.count() == 1).then_some(()) }).await;
        let second = exchange(proxy.address, request).await;
        assert_eq!(status(&second), expected.0, "{second}");
        assert!(second.contains(expected.1), "{second}");
        gate.add_permits(1);
        assert!(first.read_to_end().await.ends_with("gated"));
        let fallbacks = proxy.metric("weir_upstream_requests_total", &["reason=\"fallback\""]).await;
        assert_eq!(fallbacks, if on_unavailable == "baseline" { 1.0 } else { 0.0 });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limit_that_adapts_keeps_an_upstream_quick() {
    // Four at a time, 5 ms each; forty clients ask without a pause.
    let places = Arc::new(Semaphore::new(4));
    let endpoint = {
        use tokio::io::AsyncWriteExt;
        let places = Arc::clone(&places);
        Scripted::accepting(move |mut stream| {
            let places = Arc::clone(&places);
            async move {
                while read_head(&mut stream).await.is_some() {
                    let place = places.acquire().await.unwrap();
                    // The work that the test is about.
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    drop(place);
                    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                    if stream.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            }
        })
        .await
    };
    let proxy =
        Proxy::start_whole(&config(endpoint.address, "adaptive: true, requests: 200, pending: 0")).await;
    let (served, shed) = (Arc::new(std::sync::atomic::AtomicUsize::new(0)), Arc::default());
    let _: &Arc<std::sync::atomic::AtomicUsize> = &shed;
    let mut clients = JoinSet::new();
    for _ in 0..40 {
        let (address, served, shed) = (proxy.address, Arc::clone(&served), Arc::clone(&shed));
        clients.spawn(async move {
            let mut client = Client::connect(address).await;
            loop {
                client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
                let count = if status(&client.read_response().await) == 200 { &served } else { &shed };
                count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
    }
    // It began with 20, and finds that the best is far below.
    until("the limit falls", || async {
        let limit = proxy.metric("weir_upstream_requests_limit", &["one"]).await;
        (limit > 0.0 && limit <= 10.0).then_some(())
    })
    .await;
    assert!(served.load(std::sync::atomic::Ordering::Relaxed) > 0);
    assert!(proxy.metric("weir_upstream_requests_shed_total", &["one"]).await > 0.0);
}
