//! Endpoints that get no requests for a while: what sends them there, what brings them back, and what is said of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use http::{Response, StatusCode};

use super::with_status;
use crate::support::ask::{Ask, Via};
use crate::support::stage::Settings;
use crate::support::upstream::{full, nobody};
use crate::support::{Stage, Upstream, until};

const GATED: &str = "balance: round_robin, ejection: { time: 1s }";

async fn healthy(stage: &Stage, address: impl std::fmt::Display) -> f64 {
    let label = format!("endpoint=\"{address}\"");
    stage.proxy.metric("weir_endpoint_healthy", &["upstream=\"one\"", &label]).await
}

async fn ejections(stage: &Stage, cause: &str) -> f64 {
    let label = format!("cause=\"{cause}\"");
    stage.proxy.metric("weir_endpoint_ejections_total", &["upstream=\"one\"", &label]).await
}

async fn get(stage: &Stage) -> u16 {
    Ask::get("/").send(Via::Http1, stage.proxy.address).await.status
}

#[tokio::test]
async fn endpoint_that_is_gone_is_asked_no_more_and_comes_back_by_itself() {
    let well = Upstream::named("two").await;
    let away = nobody();
    let stage = Stage::with(&[away, well.address], Settings { upstream: GATED, ..Settings::default() }).await;
    for _ in 0..20 {
        assert_eq!(get(&stage).await, 200);
    }
    assert_eq!((healthy(&stage, away).await, healthy(&stage, well.address).await), (0.0, 1.0));
    assert_eq!(ejections(&stage, "unreachable").await, 1.0);
    let connects = ["upstream=\"one\"", "cause=\"connect\""];
    assert_eq!(
        stage.proxy.metric("weir_upstream_failures_total", &connects).await,
        3.0,
        "no more than it takes"
    );
    assert_eq!(
        stage.proxy.metric("weir_upstream_panic", &["upstream=\"one\""]).await,
        0.0,
        "half may be out"
    );
    // Without any request: a connection is what it lacked, and one request shows the rest.
    let back = Upstream::at(away).await;
    until("it is asked again", || async {
        assert_eq!(get(&stage).await, 200);
        (back.count() > 0).then_some(())
    })
    .await;
    until("it is healthy", || async { (healthy(&stage, away).await == 1.0).then_some(()) }).await;
    stage.assert_in_order().await;
}

#[tokio::test]
async fn endpoint_of_gateway_errors_rests_and_is_tried_by_one_request_at_a_time() {
    let code = Arc::new(AtomicU16::new(503));
    let shared = Arc::clone(&code);
    let bad = Upstream::answering(move |_| {
        let code = StatusCode::from_u16(shared.load(Ordering::Relaxed)).unwrap();
        async move {
            let mut response = Response::new(full(""));
            *response.status_mut() = code;
            response
        }
    })
    .await;
    let well = Upstream::named("two").await;
    let stage =
        Stage::with(&[bad.address, well.address], Settings { upstream: GATED, ..Settings::default() }).await;
    let mut failed = 0;
    for _ in 0..40 {
        failed += usize::from(get(&stage).await == 503);
    }
    assert_eq!((failed, bad.count()), (5, 5), "then it rests");
    assert_eq!(ejections(&stage, "outlier").await, 1.0);
    until("its time is over, and one request finds it no better", || async {
        (get(&stage).await == 503).then_some(())
    })
    .await;
    assert_eq!(bad.count(), 6);
    for _ in 0..10 {
        assert_eq!(get(&stage).await, 200, "it rests again, for longer");
    }
    code.store(200, Ordering::Relaxed);
    until("it is healthy", || async {
        get(&stage).await;
        (healthy(&stage, bad.address).await == 1.0).then_some(())
    })
    .await;
    assert_eq!(ejections(&stage, "outlier").await, 2.0);
    stage.assert_in_order().await;
}

#[tokio::test]
async fn other_server_errors_eject_only_where_that_is_asked_for() {
    for (upstream, count) in
        [("balance: round_robin", 20), ("balance: round_robin, ejection: { server_errors: 4 }", 4)]
    {
        let (bad, well) = (with_status(500).await, Upstream::named("two").await);
        let stage =
            Stage::with(&[bad.address, well.address], Settings { upstream, ..Settings::default() }).await;
        for _ in 0..40 {
            get(&stage).await;
        }
        assert_eq!(bad.count(), count, "{upstream}");
        stage.assert_in_order().await;
    }
}

#[tokio::test]
async fn endpoint_that_fails_more_often_than_the_others_is_out_of_line() {
    let (bad, well) = (with_status(500).await, Upstream::named("two").await);
    let upstream =
        "balance: round_robin, ejection: { time: 1m, success_rate: { interval: 1s, min_requests: 10 } }";
    let stage = Stage::with(&[bad.address, well.address], Settings { upstream, ..Settings::default() }).await;
    until("it is ejected", || async {
        for _ in 0..30 {
            get(&stage).await;
        }
        (healthy(&stage, bad.address).await == 0.0).then_some(())
    })
    .await;
    let count = bad.count();
    for _ in 0..20 {
        assert_eq!(get(&stage).await, 200);
    }
    assert_eq!(bad.count(), count);
    stage.assert_in_order().await;
}

#[tokio::test]
async fn more_endpoints_out_than_may_be_then_all_are_used_and_a_metric_says_so() {
    let bad = [with_status(503).await, with_status(503).await];
    let well = Upstream::named("two").await;
    let endpoints = [bad[0].address, bad[1].address, well.address];
    let upstream = "balance: round_robin, ejection: { time: 1m, gateway_errors: 2 }";
    let stage = Stage::with(&endpoints, Settings { upstream, ..Settings::default() }).await;
    for _ in 0..12 {
        get(&stage).await;
    }
    assert_eq!(stage.proxy.metric("weir_upstream_panic", &["upstream=\"one\""]).await, 1.0);
    let counts = || [bad[0].count(), bad[1].count(), well.count()];
    let before = counts();
    for _ in 0..30 {
        get(&stage).await;
    }
    let after = counts();
    for (before, after) in before.into_iter().zip(after) {
        assert_eq!(after - before, 10, "{before} {after}");
    }
    stage.assert_in_order().await;
}

#[tokio::test]
async fn health_of_an_endpoint_outlives_a_reload_that_changes_its_upstream() {
    let well = Upstream::named("two").await;
    let away = nobody();
    let text = |timeout: &str| {
        format!(
            "workers: 1\nlisteners: [{{ bind: 127.0.0.1:0 }}]\nupstreams:\n  one: {{ endpoints: ['{away}', '{}'], \
             balance: round_robin, timeouts: {{ response: {timeout} }}, ejection: {{ time: 1m }} }}\nroutes: \
             [{{ upstream: one }}]\n",
            well.address
        )
    };
    let proxy = crate::support::Proxy::start_whole(&text("30s")).await;
    let get = || async { Ask::get("/").send(Via::Http1, proxy.address).await.status };
    let failures = || async {
        proxy.metric("weir_upstream_failures_total", &["upstream=\"one\"", "cause=\"connect\""]).await
    };
    for _ in 0..10 {
        assert_eq!(get().await, 200);
    }
    assert_eq!(failures().await, 3.0);
    proxy.replace(&text("31s")).await;
    for _ in 0..10 {
        assert_eq!(get().await, 200);
    }
    assert_eq!(failures().await, 3.0, "it is known to be away");
}
