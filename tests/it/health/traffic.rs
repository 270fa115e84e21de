//! Who gets traffic: nobody whose check fails, as long as there is somebody else; and everybody again who is well.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};

use http::{Response, StatusCode};

use super::{before, comes_to_be, file, scraped, states};
use crate::support::proxy::HEAD;
use crate::support::upstream::full;
use crate::support::{Ask, Proxy, Upstream, Via, until};

/// An endpoint whose `/healthz` answers what a test says; everything else is answered with 200.
struct Patient {
    upstream: Upstream,
    health: Arc<AtomicU16>,
    requests: Arc<AtomicUsize>,
}

impl Patient {
    async fn start() -> Self {
        let (health, requests) = (Arc::new(AtomicU16::new(200)), Arc::<AtomicUsize>::default());
        let (says, count) = (Arc::clone(&health), Arc::clone(&requests));
        let upstream = Upstream::answering(move |request| {
            let is_check = request.uri().path() == "/healthz";
            if !is_check {
                count.fetch_add(1, Ordering::SeqCst);
            }
            let status = if is_check { says.load(Ordering::SeqCst) } else { 200 };
            async move {
                let mut response = Response::new(full("x"));
                *response.status_mut() = StatusCode::from_u16(status).unwrap();
                response
            }
        })
        .await;
        Self { upstream, health, requests }
    }

    fn says(&self, status: u16) {
        self.health.store(status, Ordering::SeqCst);
    }

    fn address(&self) -> String {
        self.upstream.address.to_string()
    }

    /// How many requests came that are no checks.
    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

/// Sends so many requests, all of which are answered with 200.
async fn ask(proxy: &Proxy, count: usize) {
    for _ in 0..count {
        assert_eq!(Ask::get("/").send(Via::Http1, proxy.address).await.status, 200);
    }
}

const OFTEN: &str = "{ path: /healthz, interval: 20ms, jitter: 0%, healthy: 2, unhealthy: 2 }";

#[tokio::test]
async fn endpoint_whose_check_fails_gets_nothing_until_it_passes_again() {
    let (well, ill) = (Patient::start().await, Patient::start().await);
    let proxy = before(&[well.address(), ill.address()], OFTEN, "").await;
    ask(&proxy, 50).await;
    assert!(well.requests() > 0 && ill.requests() > 0);
    for _ in 0..3 {
        ill.says(503);
        assert_eq!(comes_to_be(&proxy, "unhealthy").await, "status 503");
        let (before, others) = (ill.requests(), well.requests());
        ask(&proxy, 50).await;
        assert_eq!((ill.requests(), well.requests()), (before, others + 50));
        ill.says(200);
        until("it is back", || async {
            ask(&proxy, 5).await;
            (ill.requests() > before).then_some(())
        })
        .await;
    }
    let labels = ["cause=\"unhealthy\""];
    assert_eq!(proxy.metric("weir_endpoint_ejections_total", &labels).await, 3.0);
}

#[tokio::test]
async fn endpoints_that_all_fail_are_all_used() {
    let (one, other) = (Patient::start().await, Patient::start().await);
    let proxy = before(&[one.address(), other.address()], OFTEN, "").await;
    for patient in [&one, &other] {
        patient.says(500);
    }
    let all_fail = || async {
        states(&proxy)
            .await
            .iter()
            .all(|(state, reason)| state == "unhealthy" && reason == "status 500")
            .then_some(())
    };
    until("all fail", all_fail).await;
    let before = [one.requests(), other.requests()];
    ask(&proxy, 50).await;
    assert!(one.requests() > before[0] && other.requests() > before[1]);
    let gauge = format!("weir_endpoint_healthy{{upstream=\"one\",endpoint=\"{}\"}}", one.address());
    assert_eq!(scraped(&proxy, &gauge).await, Some(0.0));
}

#[tokio::test]
async fn check_that_fails_now_and_then_is_not_a_row() {
    let (well, count) = (Patient::start().await, AtomicUsize::new(0));
    let odd = Upstream::answering(move |_| {
        // Two of three fail, beginning with one that passes.
        let passes = count.fetch_add(1, Ordering::SeqCst).is_multiple_of(3);
        async move {
            let mut response = Response::new(full("x"));
            *response.status_mut() = if passes { StatusCode::OK } else { StatusCode::BAD_GATEWAY };
            response
        }
    })
    .await;
    let health = "{ path: /healthz, interval: 10ms, jitter: 0%, healthy: 1, unhealthy: 3 }";
    let proxy = before(&[well.address(), odd.address.to_string()], health, "").await;
    until("checks", || async { (odd.count() > 20).then_some(()) }).await;
    assert_eq!(proxy.metric("weir_endpoint_ejections_total", &["cause=\"unhealthy\""]).await, 0.0);
}

#[tokio::test]
async fn variant_whose_checks_fail_goes_to_the_baseline() {
    let (stable, canary) = (Patient::start().await, Patient::start().await);
    canary.says(503);
    let proxy = Proxy::start_whole(&format!(
        "{HEAD}upstreams:\n  canary: {{ endpoints: ['{}'], health: {OFTEN} }}\n  \
         stable: {{ endpoints: ['{}'] }}\nsplits:\n  main:\n    missing: random\n    variants:\n      \
         - {{ name: stable }}\n      - {{ name: canary, weight: 50%, on_unavailable: baseline }}\n\
         routes: [{{ split: main }}]\n",
        canary.address(),
        stable.address()
    ))
    .await;
    comes_to_be(&proxy, "unhealthy").await;
    let before = canary.requests();
    ask(&proxy, 60).await;
    assert_eq!(canary.requests(), before, "nobody goes where it is not well");
    canary.says(200);
    until("it is back", || async {
        ask(&proxy, 5).await;
        (canary.requests() > before).then_some(())
    })
    .await;
}

#[tokio::test]
async fn endpoint_is_used_again_where_nobody_asks_it_any_more() {
    let (well, ill) = (Patient::start().await, Patient::start().await);
    ill.says(503);
    let endpoints = [well.address(), ill.address()];
    let proxy = before(&endpoints, OFTEN, "").await;
    comes_to_be(&proxy, "unhealthy").await;
    proxy.replace(&file(&endpoints, OFTEN, "").replace(&format!(", health: {OFTEN}"), "")).await;
    let asked = ill.upstream.count() - ill.requests();
    ask(&proxy, 300).await;
    assert!(ill.requests() > 10, "{}", ill.requests());
    let checks = ill.upstream.count() - ill.requests();
    assert!(checks <= asked + 3, "some may have been under way: {asked} {checks}");
}

#[tokio::test]
async fn new_endpoint_is_asked_before_it_gets_traffic_where_that_is_waited_for() {
    let (old, new) = (Patient::start().await, Patient::start().await);
    let health = "{ path: /healthz, interval: 10s, wait: true }";
    let proxy = Arc::new(before(&[old.address()], health, "").await);
    let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (load, over) = (Arc::clone(&proxy), Arc::clone(&done));
    let load = tokio::spawn(async move {
        while !over.load(Ordering::SeqCst) {
            ask(&load, 1).await;
        }
    });
    proxy.replace(&file(&[old.address(), new.address()], health, "")).await;
    until("it gets traffic", || async { (new.requests() > 0).then_some(()) }).await;
    assert_eq!(new.upstream.seen.lock().unwrap()[0].target, "/healthz");
    // One that is not well never gets any, and holds nobody up for long.
    let ill = Patient::start().await;
    ill.says(503);
    proxy.replace(&file(&[old.address(), new.address(), ill.address()], health, "")).await;
    ask(&proxy, 100).await;
    assert_eq!(ill.requests(), 0);
    done.store(true, Ordering::SeqCst);
    load.await.unwrap();
}

#[tokio::test]
async fn reload_that_is_refused_leaves_the_verdicts_as_they_were() {
    let (one, other) = (Patient::start().await, Patient::start().await);
    let endpoints = [one.address(), other.address()];
    let health = "{ path: /healthz, interval: 10s }";
    let proxy = before(&endpoints, health, "").await;
    comes_to_be(&proxy, "healthy").await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let bad = file(&endpoints, "{ path: /, status: [404], wait: true }", "")
        .replace("listeners: [", &format!("listeners: [{{ bind: '{}' }}, ", taken.local_addr().unwrap()));
    std::fs::write(&proxy.path, bad).unwrap();
    let refused =
        || async { (proxy.metric("weir_config_reloads_total", &["failure"]).await > 0.0).then_some(()) };
    until("it is refused", refused).await;
    assert!(one.requests() > 0, "it was asked before");
    let before = [one.requests(), other.requests()];
    ask(&proxy, 50).await;
    assert!(one.requests() > before[0] && other.requests() > before[1]);
    assert_eq!(proxy.metric("weir_endpoint_ejections_total", &["cause=\"unhealthy\""]).await, 0.0);
}
