//! Files and disks that fail while requests go on.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use super::load::{Door, Load};
use super::sandbox::{metric, own_files, pages};
use super::tell;
use crate::support::process::Process;
use crate::support::proxy::HEAD;
use crate::support::{Proxy, Upstream, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn access_log_that_takes_nothing_then_every_request_is_served_and_every_lost_line_counted() {
    let upstream = Upstream::named("one").await;
    let proxy = Proxy::start(&format!(
        "access_log: {{ path: /dev/full }}\nupstreams: {{ one: {{ endpoints: ['{}'] }} }}\nroutes: [{{ upstream: one }}]\n",
        upstream.address
    ))
    .await;
    let load = Load::begin(&Door::Tcp(proxy.address), 400);
    load.goes_on(1000).await;
    let report = load.stop().await;
    tell("the disk of the access log is full", &report, None);
    assert_eq!(report.lost(), 0);
    let sent = f64::from(u32::try_from(report.count()).unwrap());
    until("every line is counted as lost", || async {
        (proxy.metric("weir_access_log_dropped_total", &[]).await == sent).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disk_of_the_access_log_that_has_room_again_then_lines_come_again() {
    let upstream = Upstream::named("one").await;
    let log = tempfile::tempdir().unwrap();
    let at = log.path().display();
    let script = format!(
        "mount -t tmpfs -o size=64k,mode=777 none {at}\n\
         head -c 65536 /dev/zero > {at}/filler 2>/dev/null || true"
    );
    let Some(command) = own_files(&script) else { return };
    let process = Process::start_by(command, |folder| {
        format!(
            "workers: 2\nlisteners: [{{ bind: 127.0.0.1:0 }}]\n{}access_log: {{ path: {at}/access.log }}\nupstreams: {{ one: {{ \
             endpoints: ['{}'] }} }}\nroutes: [{{ upstream: one }}]\n",
            pages(folder),
            upstream.address
        )
    });
    // The disk as the process sees it.
    let disk = Path::new("/proc").join(process.child.id().to_string()).join("root");
    let disk = disk.join(log.path().strip_prefix("/").unwrap());
    let load = Load::begin(&Door::Tcp(process.address), 200);
    process.says("lines are dropped").await;
    load.goes_on(200).await;
    std::fs::remove_file(disk.join("filler")).unwrap();
    let freed = Instant::now();
    process.says("written again").await;
    let back = freed.elapsed();
    load.goes_on(20).await;
    let report = load.stop().await;
    tell("the disk of the access log is full, then has room", &report, Some(back));
    assert_eq!(report.lost(), 0);
    until("every line is written or counted as lost", || async {
        let text = std::fs::read_to_string(disk.join("access.log")).unwrap();
        assert!(text.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()), "{text}");
        let written = f64::from(u32::try_from(text.lines().count()).unwrap());
        let dropped = metric(&process, "weir_access_log_dropped_total", &[]).await;
        assert!(dropped > 0.0);
        (written + dropped == f64::from(u32::try_from(report.count()).unwrap())).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn configuration_that_is_deleted_then_the_running_one_serves_until_there_is_another() {
    let (old, new) = (Upstream::named("old").await, Upstream::named("new").await);
    let text = |to: &Upstream| {
        format!(
            "{HEAD}upstreams: {{ one: {{ endpoints: ['{}'] }} }}\nroutes: [{{ upstream: one }}]\n",
            to.address
        )
    };
    let proxy = Proxy::start_whole(&text(&old)).await;
    let load = Load::begin(&Door::Tcp(proxy.address), 400);
    load.comes_to("old").await;
    std::fs::remove_file(&proxy.path).unwrap();
    until("it is told", || async {
        (proxy.metric("weir_config_last_reload_success", &[]).await == 0.0).then_some(())
    })
    .await;
    let told = proxy.app.status().last();
    assert!(told.errors.iter().any(|error| error.message.contains("weir.yaml")), "{told:?}");
    // A reload by hand finds nothing either.
    assert!(!proxy.app.reload("test").await.unwrap().errors.is_empty());
    load.goes_on(200).await;
    assert_eq!(proxy.generation().0, 1);
    std::fs::write(&proxy.path, text(&new)).unwrap();
    let back = load.comes_to("new").await;
    assert_eq!(proxy.metric("weir_config_last_reload_success", &[]).await, 1.0);
    let report = load.stop().await;
    tell("the configuration is deleted, and written again", &report, Some(back));
    assert_eq!(report.lost(), 0);
    assert_eq!(report.outcomes().len(), 2, "{:?}", report.outcomes());
}

#[test]
fn state_dir_that_cannot_be_written_then_the_start_says_so() {
    let disk = tempfile::tempdir().unwrap();
    let at = disk.path().display();
    let rows = ["ro", "size=4k,nr_inodes=1"];
    for options in rows {
        let Some(mut command) = own_files(&format!("mount -t tmpfs -o {options} none {at}")) else { return };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weir.yaml");
        let text = format!(
            "state_dir: {at}/state\nlisteners: [{{ bind: 127.0.0.1:0, tls: {{ acme: {{ domains: [a.test], terms_agreed: true, \
             directory: 'https://127.0.0.1:1/dir' }} }} }}]\nroutes: [{{ respond: {{}} }}]\n"
        );
        std::fs::write(&path, text).unwrap();
        let output = Command::output(command.args(["run", "--config"]).arg(&path)).unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{options}: {said}");
        assert!(said.contains("state_dir") && said.contains(&at.to_string()), "{options}: {said}");
    }
}
