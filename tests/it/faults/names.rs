//! Names of endpoints that move, go, and come back.

use std::path::Path;
use std::time::Instant;

use super::endpoint::Endpoint;
use super::load::{Door, Load};
use super::sandbox::{metric, own_files, pages};
use super::tell;
use crate::support::process::Process;

/// A proxy before `shop.internal`, which is what `hosts` says.
fn start(hosts: &Path, port: u16) -> Option<Process> {
    // Nobody else is asked: what the machine itself calls its resolver would be.
    let resolver = hosts.with_file_name("resolv.conf");
    std::fs::write(&resolver, "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n").unwrap();
    let command = own_files(&format!(
        "mount --bind {} /etc/hosts\nmount --bind {} /etc/resolv.conf",
        hosts.display(),
        resolver.display()
    ))?;
    Some(Process::start_by(command, |folder| {
        format!(
            "workers: 2\nlisteners: [{{ bind: 127.0.0.1:0 }}]\n{}upstreams: {{ one: {{ endpoints: ['shop.internal:{port}'], \
             dns_refresh: 200ms }} }}\nroutes: [{{ upstream: one }}]\n",
            pages(folder)
        )
    }))
}

/// Writes what `shop.internal` is.
fn say(hosts: &Path, addresses: &[&Endpoint]) {
    let lines = addresses.iter().map(|endpoint| format!("{} shop.internal\n", endpoint.address.ip()));
    std::fs::write(hosts, format!("127.0.0.1 localhost\n{}", lines.collect::<String>())).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn name_that_moves_then_requests_follow_and_none_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let hosts = folder.path().join("hosts");
    let mut old = Endpoint::start("old");
    let new = Endpoint::start_at("new", old.address.port());
    say(&hosts, &[&old]);
    let Some(process) = start(&hosts, old.address.port()) else { return };
    let load = Load::begin(&Door::Tcp(process.address), 400);
    load.comes_to("old").await;
    // Both for a while, then the new one alone, and the old one ends.
    say(&hosts, &[&old, &new]);
    load.comes_to("new").await;
    say(&hosts, &[&new]);
    let moved = Instant::now();
    process.says("endpoints=1").await;
    load.goes_on(100).await;
    let gone = load.count();
    old.kill();
    load.goes_on(200).await;
    let report = load.stop().await;
    let last = report.0.iter().rev().find(|sample| sample.outcome == "old").unwrap();
    tell("DNS changed", &report, Some(last.ended.saturating_duration_since(moved)));
    assert_eq!(report.lost(), 0);
    assert!(report.0[gone..].iter().all(|sample| sample.outcome == "new"), "{:?}", report.outcomes());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn name_that_is_gone_then_former_addresses_serve_on() {
    let folder = tempfile::tempdir().unwrap();
    let hosts = folder.path().join("hosts");
    let old = Endpoint::start("old");
    let new = Endpoint::start_at("new", old.address.port());
    say(&hosts, &[&old]);
    let Some(process) = start(&hosts, old.address.port()) else { return };
    let load = Load::begin(&Door::Tcp(process.address), 400);
    load.comes_to("old").await;
    say(&hosts, &[]);
    process.says("former addresses are kept").await;
    load.goes_on(400).await;
    say(&hosts, &[&new]);
    let back = load.comes_to("new").await;
    let report = load.stop().await;
    tell("DNS gone, and back elsewhere", &report, Some(back));
    assert_eq!(report.lost(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn name_that_never_was_then_503_until_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let hosts = folder.path().join("hosts");
    let endpoint = Endpoint::start("there");
    say(&hosts, &[]);
    let Some(process) = start(&hosts, endpoint.address.port()) else { return };
    let load = Load::begin(&Door::Tcp(process.address), 100);
    load.comes_to("503 no_endpoint").await;
    say(&hosts, &[&endpoint]);
    let back = load.comes_to("there").await;
    load.goes_on(100).await;
    let report = load.stop().await;
    tell("DNS without the name at the start", &report, Some(back));
    assert_eq!(report.of("503 no_endpoint"), report.lost(), "{:?}", report.outcomes());
    let labels = ["upstream=\"one\"", "cause=\"no_endpoint\""];
    let counted = metric(&process, "weir_upstream_failures_total", &labels).await;
    assert_eq!(counted, f64::from(u32::try_from(report.lost()).unwrap()));
    let labels = ["code=\"no_endpoint\"", "blame=\"upstream\""];
    assert_eq!(metric(&process, "weir_errors_total", &labels).await, counted);
}
