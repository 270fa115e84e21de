//! Rate limits of units: who gets 429, what it says, what is counted, and what outlives a reload.

use bytes::Bytes;
use tonic::{Code, Request};

use crate::support::grpc::Caller;
use crate::support::raw::{Client, exchange, status};
use crate::support::{Proxy, Upstream};

/// A rate so low that nothing is given again while a test runs.
const SLOW: &str = "per_hour: 1";

fn config(upstream: &Upstream, limit: &str) -> String {
    format!(
        "{}upstreams: {{ one: {{ endpoints: ['{}'] }} }}\nroutes: [{{ name: web, upstream: one, rate_limit: {{ {limit} }} \
         }}]\n",
        crate::support::proxy::HEAD,
        upstream.address
    )
}

/// The answer to a request with these header lines, on a connection of its own: of whichever worker.
async fn ask(proxy: &Proxy, fields: &str) -> String {
    exchange(proxy.address, format!("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{fields}\r\n")).await
}

async fn statuses(proxy: &Proxy, rows: &[&str]) -> Vec<u16> {
    let mut statuses = Vec::new();
    for fields in rows {
        statuses.push(status(&ask(proxy, fields).await));
    }
    statuses
}

#[tokio::test]
async fn unit_over_its_limit_gets_429_with_when_to_come_again() {
    let upstream = Upstream::named("one").await;
    let limit = "key: header:x-tenant-id, per_minute: 1, burst: 2";
    let proxy = Proxy::start_whole(&config(&upstream, limit)).await;
    let (a, b) = ("x-tenant-id: a\r\n", "x-tenant-id: b\r\n");
    assert_eq!(statuses(&proxy, &[a, a, a, b, b, b, a]).await, [200, 200, 429, 200, 200, 429, 429]);
    let told = ask(&proxy, a).await.to_ascii_lowercase();
    for line in ["ratelimit-policy: \"default\";q=2;w=120\r\n", "x-weir-error: rate_limited\r\n"] {
        assert!(told.contains(line), "{line}: {told}");
    }
    let seconds = |name: &str, behind: &str| {
        let line = told.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split(behind).last().unwrap().trim().parse::<u64>().unwrap()
    };
    let (retry, reset) = (seconds("retry-after:", ":"), seconds("ratelimit: \"default\";r=0;", "t="));
    assert!((50..=60).contains(&retry) && retry == reset, "{told}");
    assert_eq!(proxy.metric("weir_rate_limited_total", &["route=\"web\""]).await, 4.0);
    assert_eq!(proxy.metric("weir_errors_total", &["rate_limited", "client"]).await, 4.0);
    assert_eq!(
        proxy.metric("weir_upstream_requests_total", &["code=\"200\""]).await,
        4.0,
        "the others went on"
    );
    assert_eq!(proxy.metric("weir_upstream_requests_total", &["code=\"429\""]).await, 0.0);
}

#[tokio::test]
async fn keyless_requests_are_one_unit_and_so_is_a_route_without_a_key() {
    let upstream = Upstream::named("one").await;
    let (a, none) = ("x-tenant-id: a\r\n", "");
    for (limit, rows, expected) in [
        (
            "key: [header:x-tenant-id]",
            vec![none, a, none, "x-tenant-id:  \r\n", a],
            [200, 200, 429, 429, 429],
        ),
        ("key: [header:x-tenant-id, host]", vec![a, none, none, a, none], [200, 200, 429, 429, 429]),
        ("key: client_ip", vec![a, none, a, none, a], [200, 429, 429, 429, 429]),
        ("", vec![a, none, a, none, a], [200, 429, 429, 429, 429]),
    ] {
        let comma = if limit.is_empty() { "" } else { ", " };
        let proxy = Proxy::start_whole(&config(&upstream, &format!("{limit}{comma}{SLOW}"))).await;
        assert_eq!(statuses(&proxy, &rows).await, expected, "{limit}");
    }
}

#[tokio::test]
async fn unit_of_two_names_is_refused_and_a_strangers_name_does_not_count() {
    let upstream = Upstream::named("one").await;
    let text = config(&upstream, &format!("key: header:x-tenant-id, burst: 2, {SLOW}"));
    let proxy = Proxy::start_whole(&text).await;
    let twice = ask(&proxy, "x-tenant-id: a\r\nx-tenant-id: b\r\n").await;
    assert_eq!(status(&twice), 400, "{twice}");
    assert!(twice.contains("ambiguous_key"), "{twice}");
    let trusting = text.replace("127.0.0.1:0 }]\nadmin", "127.0.0.1:0, trust: [192.0.2.1] }]\nadmin");
    assert_ne!(trusting, text);
    let proxy = Proxy::start_whole(&trusting).await;
    let rows = ["x-tenant-id: a\r\n", "x-tenant-id: b\r\n", "x-tenant-id: c\r\n", "x_tenant_id: d\r\n"];
    assert_eq!(statuses(&proxy, &rows).await, [200, 200, 429, 429]);
}

#[tokio::test]
async fn refused_request_is_not_passed_on_and_its_connection_lives_on() {
    let upstream = Upstream::named("one").await;
    let proxy = Proxy::start_whole(&config(&upstream, &format!("key: header:x-tenant-id, {SLOW}"))).await;
    let mut client = Client::connect(proxy.address).await;
    for (tenant, expected) in [("a", 200), ("a", 429), ("b", 200), ("b", 429), ("c", 200)] {
        let head =
            format!("POST / HTTP/1.1\r\nhost: a\r\nx-tenant-id: {tenant}\r\ncontent-length: 4\r\n\r\nbody");
        client.send(head).await;
        assert_eq!(status(&client.read_response().await), expected, "{tenant}");
    }
    assert_eq!(proxy.metric("weir_upstream_requests_total", &[]).await, 3.0);
}

#[tokio::test]
async fn reload_forgets_nobody_unless_the_limit_changes() {
    let upstream = Upstream::named("one").await;
    let text = config(&upstream, &format!("key: header:x-tenant-id, {SLOW}"));
    let proxy = Proxy::start_whole(&text).await;
    let a = ["x-tenant-id: a\r\n"];
    assert_eq!(statuses(&proxy, &[a, a].concat()).await, [200, 429]);
    let other = text.replace("upstream: one,", "upstream: one, timeout: 7s,");
    assert_ne!(other, text);
    proxy.replace(&other).await;
    assert_eq!(statuses(&proxy, &a).await, [429], "another timeout is the same limit");
    proxy.replace(&other.replace("name: web", "name: shop")).await;
    assert_eq!(statuses(&proxy, &[a, a].concat()).await, [200, 429], "another route has another limit");
    proxy.replace(&other.replace("per_hour: 1", "per_hour: 2")).await;
    assert_eq!(statuses(&proxy, &[a, a].concat()).await, [200, 429], "another limit begins anew");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_together_let_through_what_one_would() {
    let upstream = Upstream::named("one").await;
    let text = config(&upstream, &format!("key: header:x-tenant-id, burst: 100, {SLOW}"));
    let proxy = Proxy::start_whole(&text.replace("workers: 2", "workers: 4")).await;
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let address = proxy.address;
        clients.spawn(async move {
            let mut client = Client::connect(address).await;
            let mut served = 0;
            for _ in 0..20 {
                client.send("GET / HTTP/1.1\r\nhost: a\r\nx-tenant-id: a\r\n\r\n").await;
                served += u32::from(status(&client.read_response().await) == 200);
            }
            served
        });
    }
    let mut served = 0;
    while let Some(of_one) = clients.join_next().await {
        served += of_one.unwrap();
    }
    assert_eq!(served, 100, "of 320");
    assert_eq!(proxy.metric("weir_rate_limited_total", &["route=\"web\""]).await, 220.0);
}

#[tokio::test]
async fn grpc_client_over_its_limit_is_told_resource_exhausted() {
    let server = crate::support::grpc::Served::named("one");
    let proxy = Proxy::start(&format!(
        "upstreams: {{ one: {{ protocol: http2, endpoints: ['{}'] }} }}\nroutes: [{{ upstream: one, rate_limit: {{ {SLOW} }} \
         }}]\n",
        server.address
    ))
    .await;
    let mut caller = Caller::connect(proxy.address).await;
    assert_eq!(caller.unary("Echo", Request::new(Bytes::from("a"))).await.unwrap().get_ref(), "a");
    let refused = caller.unary("Echo", Request::new(Bytes::from("a"))).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    assert!(refused.message().contains("rate_limited"), "{refused:?}");
}
