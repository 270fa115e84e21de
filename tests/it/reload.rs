//! A change of the file, under load: nothing is lost, nothing that did not change is touched.

mod http2;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::raw::{Client, status};
use crate::support::{Proxy, Upstream, until};

/// Three upstreams and one split, canary at `canary`.
struct Shop {
    blue: Upstream,
    green: Upstream,
    canary: Upstream,
}

impl Shop {
    async fn open() -> Self {
        let (blue, green, canary) =
            tokio::join!(Upstream::named("blue"), Upstream::named("green"), Upstream::named("canary"));
        Self { blue, green, canary }
    }

    fn config(&self, canary: &str) -> String {
        format!(
            "{}upstreams:\n  blue: {{ endpoints: ['{}'] }}\n  green: {{ endpoints: ['{}'] }}\n  canary: {{ endpoints: \
             ['{}'] }}\nsplits:\n  checkout:\n    key: [header:x-user-id]\n    variants:\n      - {{ name: blue \
             }}\n      - {{ name: green, weight: 9% }}\n      - {{ name: canary, weight: {canary} }}\nroutes: [{{ split: \
             checkout }}]\n",
            crate::support::proxy::HEAD,
            self.blue.address,
            self.green.address,
            self.canary.address
        )
    }

    fn connections(&self) -> usize {
        [&self.blue, &self.green, &self.canary]
            .iter()
            .map(|one| one.connections.load(Ordering::Relaxed))
            .sum()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundred_reloads_under_load_lose_no_request_and_close_no_connection() {
    let shop = Shop::open().await;
    let proxy = Proxy::start_whole(&shop.config("1%")).await;
    let (done, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..8 {
        let (done, sent, address) = (Arc::clone(&done), Arc::clone(&sent), proxy.address);
        clients.spawn(async move {
            // One connection for the whole test: were it closed, reading would fail.
            let mut connection = Client::connect(address).await;
            let mut number = 0_usize;
            while !done.load(Ordering::Relaxed) {
                number += 1;
                let unit = format!("{client}-{number}");
                connection.send(format!("GET / HTTP/1.1\r\nhost: a\r\nx-user-id: {unit}\r\n\r\n")).await;
                let response = connection.read_response().await;
                assert_eq!(status(&response), 200, "{response}");
                sent.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let mut effects = Vec::new();
    for round in 0..100 {
        let before = sent.load(Ordering::Relaxed);
        let started = Instant::now();
        proxy.replace(&shop.config(&format!("{}%", 2 + round % 50))).await;
        effects.push(started.elapsed());
        // The load goes on between two reloads.
        until("requests go on", || async { (sent.load(Ordering::Relaxed) > before).then_some(()) }).await;
    }
    done.store(true, Ordering::Relaxed);
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    effects.sort_unstable();
    println!(
        "100 reloads, {} requests, 0 failed; from rename to effect: median {:?}, longest {:?}",
        sent.load(Ordering::Relaxed),
        effects[50],
        effects[99]
    );
    assert_eq!(proxy.generation().0, 101);
    assert!(proxy.metric("weir_config_reloads_total", &["success"]).await >= 100.0);
    assert!(shop.connections() <= 3 * 8 * 2, "{} connections to upstreams", shop.connections());
}

#[tokio::test]
async fn change_of_weights_keeps_connections_and_counters() {
    let shop = Shop::open().await;
    let proxy = Proxy::start_whole(&shop.config("1%")).await;
    let mut connection = Client::connect(proxy.address).await;
    let mut request = async || {
        connection.send("GET / HTTP/1.1\r\nhost: a\r\nx-user-id: 7\r\n\r\n").await;
        status(&connection.read_response().await)
    };
    assert_eq!(request().await, 200);
    let (upstream, counted) =
        (shop.connections(), proxy.metric("weir_upstream_requests_total", &["code=\"200\""]).await);
    for share in ["2%", "3%", "4%"] {
        proxy.replace(&shop.config(share)).await;
        assert_eq!(request().await, 200);
    }
    assert_eq!(shop.connections(), upstream, "no new connection to an upstream");
    let after = proxy.metric("weir_upstream_requests_total", &["code=\"200\""]).await;
    assert!((after - counted - 3.0).abs() < 0.5, "{counted} → {after}");
    let configured = proxy.metric("weir_split_weight_ratio", &["variant=\"canary\""]).await;
    assert!((configured - 0.04).abs() < 1e-9, "{configured}");
}

#[tokio::test]
async fn bad_file_changes_nothing_and_the_next_good_one_counts() {
    let shop = Shop::open().await;
    let proxy = Proxy::start_whole(&shop.config("1%")).await;
    let client = reqwest::Client::new();
    let good = shop.config("2%");
    let rows = [
        ("", "an empty file"),
        ("listeners: [", "broken YAML"),
        (&good.replace("2%", "95%"), "over 100%"),
        (&good.replace("routes: [{ split: checkout }]", "routes: []"), "no routes"),
        (&good.replace("split: checkout", "split: chekout"), "an unknown split"),
        (&good[..good.len() / 2], "half a file"),
    ];
    for (text, what) in rows {
        let text: &str = text;
        let before = proxy.metric("weir_config_reloads_total", &["failure"]).await;
        let next = proxy.folder.path().join("next");
        std::fs::write(&next, text).unwrap();
        std::fs::rename(&next, &proxy.path).unwrap();
        until(what, || async {
            (proxy.metric("weir_config_reloads_total", &["failure"]).await > before).then_some(())
        })
        .await;
        assert_eq!(proxy.generation().0, 1, "{what}");
        assert!(proxy.metric("weir_config_last_reload_success", &[]).await < 0.5, "{what}");
        assert!(!proxy.app.status().last().errors.is_empty(), "{what}");
        let answer = client.get(proxy.url("/")).header("x-user-id", "7").send().await.unwrap();
        assert_eq!(answer.status(), 200, "{what}");
    }
    proxy.replace(&good).await;
    assert_eq!(proxy.generation().0, 2);
    assert!(proxy.app.status().last().errors.is_empty());
    assert!(proxy.metric("weir_config_last_reload_success", &[]).await > 0.5);
}

#[tokio::test]
async fn listeners_come_and_go_by_reload_and_an_address_in_use_is_refused_whole() {
    let shop = Shop::open().await;
    let base = shop.config("1%");
    let proxy = Proxy::start_whole(&base).await;
    let client = reqwest::Client::new();
    let spare = crate::support::upstream::nobody();
    let two = base
        .replace("{ bind: 127.0.0.1:0 }]\n", &format!("{{ bind: 127.0.0.1:0 }}, {{ bind: '{spare}' }}]\n"));
    assert_ne!(two, base);
    proxy.replace(&two).await;
    let mut kept = Client::connect(spare).await;
    kept.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(status(&kept.read_response().await), 200);

    proxy.replace(&base).await;
    assert!(
        kept.is_closed_within(crate::support::PATIENCE).await,
        "an idle connection of a listener that goes"
    );
    until("nobody listens there", || async {
        tokio::net::TcpStream::connect(spare).await.is_err().then_some(())
    })
    .await;

    let squatter = std::net::TcpListener::bind(spare).unwrap();
    let refused = two.replace("weight: 1%", "weight: 30%");
    std::fs::write(&proxy.path, refused).unwrap();
    let status = proxy.app.reload("test").await.unwrap();
    assert_eq!(status.errors.len(), 1, "{status:?}");
    assert!(status.errors[0].message.contains(&spare.to_string()), "{status:?}");
    let configured = proxy.metric("weir_split_weight_ratio", &["variant=\"canary\""]).await;
    assert!((configured - 0.01).abs() < 1e-9, "no part of a refused change counts: {configured}");
    assert_eq!(client.get(proxy.url("/")).send().await.unwrap().status(), 200);
    drop(squatter);
}

#[tokio::test]
async fn reload_is_in_effect_soon_after_the_rename() {
    let shop = Shop::open().await;
    let proxy = Proxy::start_whole(&shop.config("1%")).await;
    let started = Instant::now();
    proxy.replace(&shop.config("5%")).await;
    let elapsed = started.elapsed();
    println!("from rename to effect: {elapsed:?}");
    assert!(elapsed < Duration::from_secs(5), "{elapsed:?}");
}

#[tokio::test]
async fn upstream_that_goes_by_reload_then_its_connections_close_when_they_are_idle() {
    for protocol in ["http1", "http2"] {
        let go = Arc::new(tokio::sync::Notify::new());
        let gate = Arc::clone(&go);
        let old = Upstream::answering(move |request| {
            let gate = Arc::clone(&gate);
            async move {
                if request.uri().path() == "/slow" {
                    gate.notified().await;
                }
                http::Response::new(crate::support::upstream::full("old"))
            }
        })
        .await;
        let new = Upstream::named("new").await;
        let rest = |name: &str, upstream: &Upstream| {
            format!(
                "{}upstreams: {{ {name}: {{ endpoints: ['{}'], protocol: {protocol} }} }}\nroutes: [{{ upstream: {name} \
                 }}]\n",
                crate::support::proxy::HEAD,
                upstream.address
            )
        };
        let proxy = Proxy::start_whole(&rest("old", &old)).await;
        let client = reqwest::Client::new();
        let slow = tokio::spawn(client.get(proxy.url("/slow")).send());
        until("the slow request is under way", || async { (old.count() == 1).then_some(()) }).await;
        assert_eq!(client.get(proxy.url("/")).send().await.unwrap().status(), 200);
        proxy.replace(&rest("new", &new)).await;
        assert_eq!(client.get(proxy.url("/")).send().await.unwrap().text().await.unwrap(), "new");
        go.notify_one();
        assert_eq!(slow.await.unwrap().unwrap().text().await.unwrap(), "old", "{protocol}");
        until("no connection to what is gone is open", || async {
            let labels = ["upstream=\"old\""];
            let idle = proxy.metric("weir_upstream_connections_idle", &labels).await;
            let active = proxy.metric("weir_upstream_connections_active", &labels).await;
            (idle + active < 0.5).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn listeners_whose_ports_the_kernel_chose_stay_apart_over_reloads() {
    let text = |body: &str, first: &str, second: &str| {
        format!(
            "workers: 2\nlisteners: [{{ bind: 127.0.0.1:0, name: {first} }}, {{ bind: 127.0.0.1:0, name: {second} \
             }}]\nroutes:\n  - {{ listeners: [a], respond: {{ body: 'a{body}' }} }}\n  - {{ listeners: [b], respond: \
             {{ body: 'b{body}' }} }}\n"
        )
    };
    let proxy = Proxy::start_whole(&text("1", "a", "b")).await;
    let addresses = proxy.app.addresses();
    assert_ne!(addresses[0], addresses[1]);
    let client = reqwest::Client::new();
    let rows = [("2", "a", "b"), ("3", "b", "a"), ("4", "a", "b")];
    for (body, first, second) in rows {
        proxy.replace(&text(body, first, second)).await;
        for (address, name) in addresses.iter().zip(["a", "b"]) {
            let url = format!("http://{}/", crate::support::proxy::tcp(address));
            let answer = client.get(url).send().await.unwrap().text().await.unwrap();
            assert_eq!(answer, format!("{name}{body}"), "{first} before {second}");
        }
    }
    assert_eq!(proxy.app.addresses(), addresses);
}
