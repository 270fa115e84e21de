//! Limits of upstreams: who waits, who is turned away, who goes to the baseline, and that no place is lost.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::io::AsyncWriteExt;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::support::ask::{Ask, Via};
use crate::support::raw::{Client, Scripted, exchange, read_head, status};
use crate::support::stage::Settings;
use crate::support::{Proxy, Stage, Upstream, until};

/// An endpoint that answers a request for each permit of `gate`, whenever there is one.
async fn gated(gate: &Arc<Semaphore>) -> Scripted {
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
    let (served, shed) = (Arc::new(AtomicUsize::new(0)), Arc::default());
    let _: &Arc<AtomicUsize> = &shed;
    let mut clients = JoinSet::new();
    for _ in 0..40 {
        let (address, served, shed) = (proxy.address, Arc::clone(&served), Arc::clone(&shed));
        clients.spawn(async move {
            let mut client = Client::connect(address).await;
            loop {
                client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
                let count = if status(&client.read_response().await) == 200 { &served } else { &shed };
                count.fetch_add(1, Ordering::Relaxed);
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
    assert!(served.load(Ordering::Relaxed) > 0);
    assert!(proxy.metric("weir_upstream_requests_shed_total", &["one"]).await > 0.0);
}

/// An endpoint that counts its connections among those that are open `now`; `most` is how many there were at most.
async fn crowded(now: &Arc<AtomicUsize>, most: &Arc<AtomicUsize>) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (now, seen) = (Arc::clone(now), Arc::clone(most));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let now = Arc::clone(&now);
            seen.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::spawn(async move {
                while read_head(&mut stream).await.is_some() {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
                }
                now.fetch_sub(1, Ordering::SeqCst);
            });
        }
    });
    address
}

#[tokio::test]
async fn upstream_has_no_more_connections_than_it_may_and_every_request_gets_its_turn() {
    let (now, most) = (Arc::default(), Arc::default());
    let (one, two) = (crowded(&now, &most).await, crowded(&now, &most).await);
    let proxy = Proxy::start_whole(&format!(
        "workers: 4\nlisteners: [{{ bind: 127.0.0.1:0 }}]\nupstreams:\n  one: {{ endpoints: ['{one}', '{two}'], limits: \
         {{ connections: 3, pending_timeout: 20s }} }}\nroutes: [{{ upstream: one }}]\n"
    ))
    .await;
    let clients = (0..40).map(|_| async {
        for _ in 0..5 {
            let answer =
                exchange(proxy.address, "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
            assert_eq!(status(&answer), 200, "{answer}");
        }
    });
    join_all(clients).await;
    // The endpoints may hear of a connection's end when the next one is there already.
    let most = most.load(Ordering::SeqCst);
    assert!((2..=8).contains(&most), "{most} at a time, of 40");
    let open = proxy.metric("weir_upstream_connections_idle", &["upstream=\"one\""]).await;
    assert!(open <= 3.0, "{open}");
}

#[tokio::test]
async fn request_that_waits_too_long_for_a_connection_is_told_and_nobody_is_ejected() {
    let (hung, gate) = Upstream::gated().await;
    let upstream = "limits: { connections: 1, pending_timeout: 100ms }";
    let stage = Stage::with(&[hung.address], Settings { upstream, ..Settings::default() }).await;
    let address = stage.proxy.address;
    let first = tokio::spawn(async move { Ask::get("/").send(Via::Http1, address).await });
    until("it has come", || async { (hung.count() == 1).then_some(()) }).await;
    for _ in 0..5 {
        let reply = Ask::get("/").send(Via::Http1, address).await;
        assert_eq!((reply.status, reply.header("x-weir-error")), (503, "upstream_overloaded"));
        assert_eq!(reply.header("retry-after"), "1");
    }
    assert_eq!(stage.proxy.metric("weir_endpoint_healthy", &["upstream=\"one\""]).await, 1.0);
    gate.send(true).unwrap();
    assert_eq!(first.await.unwrap().status, 200);
    assert_eq!(Ask::get("/").send(Via::Http1, address).await.status, 200);
    assert_eq!(hung.connections.load(Ordering::SeqCst), 1);
    stage.assert_in_order().await;
}
