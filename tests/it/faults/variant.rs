//! A variant all of whose endpoints are dead.

use std::time::Instant;

use super::endpoint::Endpoint;
use super::load::{Door, Load};
use super::tell;
use crate::support::Proxy;
use crate::support::proxy::HEAD;

/// Half of the users are in canary, which has two endpoints.
fn text(blue: &Endpoint, canary: &[Endpoint; 2], more: &str, weight: u32) -> String {
    format!(
        "{HEAD}upstreams: {{ blue: {{ endpoints: ['{}'] }}, canary: {{ endpoints: ['{}', '{}'] }} }}\nsplits: {{ shop: {{ key: \
         [header:x-user], variants: [{{ name: blue }}, {{ name: canary, weight: {weight}%{more} }}] }} }}\nroutes: [{{ split: \
         shop }}]\n",
        blue.address, canary[0].address, canary[1].address
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn variant_that_is_dead_then_the_baseline_answers_and_hundred_reloads_change_nothing() {
    let blue = Endpoint::start("blue");
    let mut canary = [Endpoint::start("canary"), Endpoint::start("canary")];
    let more = ", on_unavailable: baseline";
    let proxy = Proxy::start_whole(&text(&blue, &canary, more, 50)).await;
    let load = Load::begin(&Door::Tcp(proxy.address), 500);
    load.comes_to("canary").await;
    let killing = Instant::now();
    canary.iter_mut().for_each(Endpoint::kill);
    let dead = Instant::now();
    load.goes_on(500).await;
    for round in 0..100 {
        proxy.replace(&text(&blue, &canary, more, 49 + round % 2 * 2)).await;
        load.goes_on(5).await;
    }
    let fallbacks = proxy.metric("weir_upstream_requests_total", &["reason=\"fallback\""]).await;
    canary.iter_mut().for_each(Endpoint::run);
    let back = load.comes_to("canary").await;
    load.goes_on(200).await;
    let report = load.stop().await;
    tell(
        "a variant is dead, with on_unavailable: baseline, and 100 reloads",
        &report,
        report.recovered(dead),
    );
    println!("fault: {fallbacks} by the baseline; the variant answers again {back:.2?} after it runs again");
    // What the variant had begun is nobody else's: it may have done it.
    let in_flight = report.0.iter().filter(|sample| sample.sent <= dead && sample.ended >= killing).count();
    assert!(report.lost() <= in_flight, "{in_flight}: {:?}", report.outcomes());
    let lost: Vec<_> = report.0.iter().filter(|sample| sample.sent > dead && !sample.is_well).collect();
    assert!(lost.is_empty(), "{lost:?}");
    assert!(fallbacks >= 300.0, "{fallbacks}");
    let labels = ["variant=\"blue\"", "code=\"200\"", "reason=\"fallback\""];
    assert!(proxy.metric("weir_upstream_requests_total", &labels).await >= fallbacks);
    assert_eq!(proxy.generation().0, 101);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn variant_that_is_dead_then_its_users_are_told_where_that_is_wanted() {
    let blue = Endpoint::start("blue");
    let mut canary = [Endpoint::start("canary"), Endpoint::start("canary")];
    let proxy = Proxy::start_whole(&text(&blue, &canary, ", on_unavailable: error", 50)).await;
    let load = Load::begin(&Door::Tcp(proxy.address), 400);
    load.comes_to("canary").await;
    canary.iter_mut().for_each(Endpoint::kill);
    load.goes_on(800).await;
    canary.iter_mut().for_each(Endpoint::run);
    let back = load.comes_to("canary").await;
    load.goes_on(200).await;
    let report = load.stop().await;
    tell("a variant is dead, with on_unavailable: error", &report, Some(back));
    let told = ["502 upstream_reset", "503 connect_refused", "503 no_endpoint"];
    let lost: usize = told.iter().map(|code| report.of(code)).sum();
    assert!(lost > 0 && lost == report.lost(), "{:?}", report.outcomes());
    assert_eq!(proxy.metric("weir_upstream_requests_total", &["reason=\"fallback\""]).await, 0.0);
    // The baseline's own users lose nothing: about as many as before.
    assert!(report.of("blue") >= lost / 2, "{:?}", report.outcomes());
}
