//! The proxy itself stands still for a while, as a machine does that is moved, or has too much to do.

use std::time::Duration;

use super::load::{Door, Load};
use super::sandbox::{metric, pages};
use super::tell;
use crate::support::Upstream;
use crate::support::process::Process;
use crate::support::upstream::full;

/// How long it stands still: longer than any endpoint has time for.
const PAUSE: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proxy_that_stands_still_then_answers_that_came_meanwhile_are_in_time() {
    for protocol in ["http1", "http2"] {
        let upstream = Upstream::answering(|_| async {
            // So that there is always something in flight.
            tokio::time::sleep(Duration::from_millis(100)).await;
            http::Response::new(full("one"))
        })
        .await;
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_weir"));
        command.env("WEIR_LOG", "info");
        let process = Process::start_by(command, |folder| {
            format!(
                "workers: 2\nlisteners: [{{ bind: 127.0.0.1:0, timeouts: {{ header: 1s, idle: 1s }} }}]\n{}upstreams: {{ one: {{ \
                 endpoints: ['{}'], protocol: {protocol}, timeouts: {{ connect: 1s, response: 1s }} }} }}\nroutes: [{{ \
                 upstream: one }}]\n",
                pages(folder),
                upstream.address
            )
        });
        let load = Load::begin(&Door::Tcp(process.address), 100);
        load.goes_on(100).await;
        for _ in 0..3 {
            process.signal("STOP");
            tokio::time::sleep(PAUSE).await;
            process.signal("CONT");
            load.goes_on(50).await;
        }
        let report = load.stop().await;
        tell(&format!("the proxy stands still for 2 s, three times, {protocol}"), &report, None);
        assert_eq!(report.lost(), 0, "{protocol}: {:?}", report.outcomes());
        assert_eq!(metric(&process, "weir_upstream_failures_total", &[]).await, 0.0, "{protocol}");
        assert_eq!(metric(&process, "weir_errors_total", &[]).await, 0.0, "{protocol}");
    }
}
