//! Endpoints that are there and say nothing, and those that are gone without a word: nobody closes the connection.

use std::fmt::Write;
use std::process::Command;
use std::time::{Duration, Instant};

use super::endpoint::Endpoint;
use super::load::{Door, Load};
use super::sandbox::{metric, own_network, pages};
use super::tell;
use crate::support::process::Process;
use crate::support::{Proxy, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoint_that_is_stopped_then_its_requests_have_their_time_and_others_none_to_wait() {
    let (one, two) = (Endpoint::start("one"), Endpoint::start("two"));
    let proxy = Proxy::start(&format!(
        "upstreams: {{ one: {{ endpoints: ['{}', '{}'], timeouts: {{ response: 500ms }} }} }}\nroutes: [{{ upstream: one }}]\n",
        one.address, two.address
    ))
    .await;
    let load = Load::begin(&Door::Tcp(proxy.address), 400);
    load.comes_to("one").await;
    load.comes_to("two").await;
    one.stop();
    let stopped = Instant::now();
    load.comes_to("504 response_timeout").await;
    load.goes_on(1500).await;
    one.go_on();
    let back = load.comes_to("one").await;
    load.goes_on(100).await;
    let report = load.stop().await;
    tell("an endpoint of two is stopped: it accepts and is silent", &report, report.recovered(stopped));
    println!("fault: used again {back:.2?} after it goes on");
    assert_eq!(report.of("504 response_timeout"), report.lost(), "{:?}", report.outcomes());
    // Those that wait for it when it is left alone are all that is lost: never more than there are clients.
    assert!(report.lost() <= 16, "{:?}", report.outcomes());
    let counted =
        proxy.metric("weir_errors_total", &["code=\"response_timeout\"", "blame=\"upstream\""]).await;
    assert_eq!(counted, f64::from(u32::try_from(report.lost()).unwrap()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoint_whose_packets_vanish_then_nothing_waits_for_ever() {
    // Both endpoints live in the proxy's own network, where packets to one of them can lead to a wire that nobody hears.
    let endpoints = tempfile::tempdir().unwrap();
    let mut script = String::from(
        "ip link set lo up\n\
         ip link add nowhere type veth peer name far\n\
         ip addr add 10.9.0.1/32 dev nowhere\n\
         ip link set far up\n\
         ip link set nowhere up\n\
         ip neigh add 10.1.0.1 lladdr 02:00:00:00:00:01 dev nowhere nud permanent\n",
    );
    let addresses = ["10.1.0.1", "10.2.0.1"];
    for (number, address) in addresses.iter().enumerate() {
        let path = endpoints.path().join(format!("{number}.yaml"));
        let text = format!(
            "workers: 1\nlisteners: [{{ bind: '{address}:8080' }}]\nroutes: [{{ respond: {{ body: '{number}' }} }}]\n"
        );
        std::fs::write(&path, text).unwrap();
        writeln!(script, "ip addr add {address}/32 dev lo").unwrap();
        // They end with the proxy.
        writeln!(script, "setpriv --pdeathsig KILL \"$0\" run --config {} 2>/dev/null &", path.display())
            .unwrap();
    }
    let Some(command) = own_network(&script) else { return };
    let process = Process::start_by(command, |folder| {
        format!(
            "workers: 2\nlisteners: [{{ bind: 'unix:{}' }}, {{ bind: 127.0.0.1:0 }}]\n{}upstreams: {{ one: {{ endpoints: \
             ['{}:8080', '{}:8080'], timeouts: {{ connect: 300ms, response: 500ms }} }} }}\nroutes: [{{ upstream: one }}]\n",
            folder.join("door.sock").display(),
            pages(folder),
            addresses[0],
            addresses[1]
        )
    });
    let route = |script: &str| {
        let done = Command::new("nsenter")
            .args(["--target", &process.child.id().to_string(), "--user", "--net", "sh", "-e", "-c", script])
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    let load = Load::begin(&Door::Unix(process.folder.path().join("door.sock")), 200);
    load.comes_to("0").await;
    load.comes_to("1").await;
    route("ip route del local 10.1.0.1 dev lo table local; ip route add 10.1.0.1 dev nowhere");
    let gone = Instant::now();
    load.goes_on(1500).await;
    let retired = Instant::now();
    load.goes_on(200).await;
    route("ip route del 10.1.0.1 dev nowhere; ip route add local 10.1.0.1 dev lo table local");
    let back = load.comes_to("0").await;
    load.goes_on(100).await;
    let report = load.stop().await;
    tell("an endpoint of two is gone without a FIN", &report, report.recovered(gone));
    println!("fault: used again {back:.2?} after it is there again");
    assert!(report.longest(retired) < Duration::from_secs(5), "{:?}", report.longest(retired));
    let told = ["504 response_timeout", "504 connect_timeout", "503 connect_refused"];
    let lost: usize = told.iter().map(|code| report.of(code)).sum();
    assert_eq!(lost, report.lost(), "{:?}", report.outcomes());
    assert!(report.lost() <= 16, "{:?}", report.outcomes());
    until("nothing is under way", || async {
        (metric(&process, "weir_upstream_requests_active", &[]).await == 0.0).then_some(())
    })
    .await;
}
