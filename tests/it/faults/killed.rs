//! Endpoints that are killed under load, and started again.

use std::time::{Duration, Instant};

use super::endpoint::Endpoint;
use super::load::{Door, Load, Report};
use super::tell;
use crate::support::{Proxy, until};

/// What came of it, and how it went on.
struct Killed {
    report: Report,
    /// Requests in flight at that endpoint when it was killed.
    in_flight: usize,
    at: Instant,
    /// From its new start until it answers again.
    back: Duration,
    failures: f64,
    retries: f64,
    passed_over: f64,
}

impl Killed {
    fn tell(&self, fault: &str) {
        tell(fault, &self.report, self.report.recovered(self.at));
        println!("fault: {} in flight; used again {:.2?} after it runs again", self.in_flight, self.back);
    }
}

/// Kills one of two endpoints while requests are in flight there, and starts it again.
async fn kill_one_of_two(protocol: &str, route: &str) -> Killed {
    let (mut one, two) = (Endpoint::start("one"), Endpoint::start("two"));
    let proxy = Proxy::start(&format!(
        "upstreams: {{ one: {{ endpoints: ['{}', '{}'], protocol: {protocol} }} }}\nroutes: [{{ upstream: one{route} }}]\n",
        one.address, two.address
    ))
    .await;
    let load = Load::begin(&Door::Tcp(proxy.address), 1000);
    load.comes_to("one").await;
    load.comes_to("two").await;
    load.goes_on(500).await;
    // It is stopped for a moment, so that there is something in flight.
    one.stop();
    let active = async || proxy.metric("weir_upstream_requests_active", &[]).await;
    until("requests are in flight", || async { (active().await >= 4.0).then_some(()) }).await;
    let killed = Instant::now();
    one.kill();
    load.goes_on(2000).await;
    one.run();
    let back = load.comes_to("one").await;
    load.goes_on(200).await;
    let report = load.stop().await;
    let under_way = |sample: &&super::load::Sample| sample.sent <= killed && sample.ended >= killed;
    let in_flight = report.0.iter().filter(under_way).count();
    let failures = proxy.metric("weir_upstream_failures_total", &[]).await;
    let retries = proxy.metric("weir_upstream_retries_total", &[]).await;
    let passed_over = proxy.metric("weir_upstream_retries_total", &["reason=\"connect\""]).await;
    Killed { report, in_flight, at: killed, back, failures, retries, passed_over }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoint_of_two_that_is_killed_then_no_get_is_lost_with_retries() {
    for protocol in ["http1", "http2"] {
        let run = kill_one_of_two(protocol, "").await;
        run.tell(&format!("an endpoint of two is killed, with retries, {protocol}"));
        assert_eq!(run.report.lost(), 0, "{protocol}: {:?}", run.report.outcomes());
        assert!(run.in_flight > 0, "{protocol}: nothing was in flight");
        assert!(run.retries >= 1.0 && run.failures >= run.retries, "{} {}", run.failures, run.retries);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoint_of_two_that_is_killed_then_only_what_is_in_flight_is_lost_without_retries() {
    for protocol in ["http1", "http2"] {
        let run = kill_one_of_two(protocol, ", retry: { attempts: 1 }").await;
        run.tell(&format!("an endpoint of two is killed, without retries, {protocol}"));
        let outcomes = run.report.outcomes();
        assert!(run.report.lost() <= run.in_flight, "{protocol}: {} in flight: {outcomes:?}", run.in_flight);
        let told = run.report.of("502 upstream_reset") + run.report.of("503 connect_refused");
        assert_eq!(told, run.report.lost(), "{protocol}: {outcomes:?}");
        // An endpoint that refuses the connection is passed over: it has not seen the request.
        assert_eq!(run.retries, run.passed_over, "{protocol}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_endpoint_that_is_killed_then_each_request_is_told_at_once_and_served_when_it_is_back() {
    let mut one = Endpoint::start("one");
    let proxy = Proxy::start(&format!(
        "upstreams: {{ one: {{ endpoints: ['{}'] }} }}\nroutes: [{{ upstream: one }}]\n",
        one.address
    ))
    .await;
    let load = Load::begin(&Door::Tcp(proxy.address), 400);
    load.comes_to("one").await;
    one.kill();
    let killed = Instant::now();
    load.comes_to("503 connect_refused").await;
    load.goes_on(400).await;
    let told = load.count();
    one.run();
    let back = load.comes_to("one").await;
    load.goes_on(200).await;
    let report = load.stop().await;
    tell("the only endpoint is killed, and started again", &report, Some(back));
    assert!(told >= 400);
    assert!(report.longest(killed) < Duration::from_secs(5), "{:?}", report.longest(killed));
    let known = ["502 upstream_reset", "503 connect_refused", "503 no_endpoint"];
    let lost: usize = known.iter().map(|code| report.of(code)).sum();
    assert_eq!(lost, report.lost(), "{:?}", report.outcomes());
}
