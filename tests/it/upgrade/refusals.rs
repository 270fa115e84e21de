//! Upgrades that come to nothing: the former process goes on, and says why.

use std::net::SocketAddr;
use std::path::Path;

use rustix::process::Signal;

use super::before;
use crate::support::ask::Ask;
use crate::support::lineage::{Lineage, number};
use crate::support::load::Plain;
use crate::support::{Via, until};

async fn is_gone(pid: i32) {
    until("the new process is gone", || async {
        (!Path::new(&format!("/proc/{pid}")).exists()).then_some(())
    })
    .await;
}

/// Passes when an upgrade to a script, with a configuration, leaves the former process serving with `expected` in its log,
/// for each of the rows; the lineage then.
async fn check(good: &str, limit: &str, rows: &[(&str, &str, &str)]) -> (Lineage, SocketAddr) {
    let lineage = Lineage::start_with(good, |command, _| {
        command.args(["--upgrade-timeout", limit]);
    })
    .await;
    let address = lineage.address().await;
    for (script, text, expected) in rows {
        lineage.configure(text);
        lineage.install_script(script);
        lineage.signal(Signal::USR2);
        let pid = number(&lineage.says("upgrade begun").await, "pid=");
        // The reason may have several lines.
        let told = lineage.says("upgrade failed").await;
        if !told.contains(expected) {
            lineage.says(expected).await;
        }
        is_gone(pid).await;
        assert_eq!(Ask::get("/").send(Via::Http1, address).await.status, 200, "{script}");
    }
    (lineage, address)
}

#[tokio::test]
async fn new_process_that_fails_leaves_the_former_one_serving_and_tells_why() {
    let upstream = Plain::named("one").await;
    let good = before(upstream.address, 2, "");
    let bad = good.replace("upstream: one", "upstream: two");
    let weir = env!("CARGO_BIN_EXE_weir");
    let rows = [
        ("exit 3", &*good, "ended before it was ready (exit status: 3)"),
        ("kill -9 $$", &good, "ended before it was ready (signal: 9"),
        (&format!("exec {weir} \"$@\""), &bad, "unknown-upstream"),
        (&format!("WEIR_HANDOVER=2 exec {weir} \"$@\""), &good, "hands over in version 2"),
        (&format!("exec {weir} \"$@\" </dev/null"), &good, "ended before it was ready (exit status: 1)"),
        (&format!("exec {weir} run --config nowhere.yaml"), &good, "nowhere.yaml"),
    ];
    let (lineage, address) = check(&good, "1m", &rows).await;
    std::fs::remove_file(lineage.folder.path().join("weir")).unwrap();
    lineage.signal(Signal::USR2);
    let told = lineage.says("upgrade failed").await;
    assert!(told.contains("cannot be started: No such file"), "{told}");
    // The good one takes over from the same process.
    lineage.configure(&good);
    lineage.install_weir();
    let former = lineage.upgrade().await;
    assert_eq!(lineage.code(former).await, 0);
    assert_eq!(Ask::get("/").send(Via::Http1, address).await.status, 200);
}

#[tokio::test]
async fn new_process_that_says_nothing_is_killed() {
    let upstream = Plain::named("one").await;
    let good = before(upstream.address, 2, "");
    let expected = "was not ready within 300ms";
    check(
        &good,
        "300ms",
        &[("exec sleep 1000", &good, expected), ("exec 0</dev/null; exec sleep 1000", &good, expected)],
    )
    .await;
}

#[tokio::test]
async fn while_one_is_under_way_another_is_refused_and_changes_wait() {
    let upstream = Plain::named("one").await;
    let good = before(upstream.address, 1, "");
    let lineage = Lineage::start(&good).await;
    let address = lineage.address().await;
    lineage.says("serving").await;
    // It does not begin before it is let.
    let gate = lineage.folder.path().join("gate");
    assert!(std::process::Command::new("mkfifo").arg(&gate).status().unwrap().success());
    lineage.install_script(&format!("read word < {}; exit 5", gate.display()));
    lineage.signal(Signal::USR2);
    lineage.says("upgrade begun").await;
    lineage.signal(Signal::USR2);
    lineage.says("upgrade refused").await;
    lineage.configure(&format!("{good}\n"));
    lineage.signal(Signal::HUP);
    lineage.says("configuration files changed").await;
    assert_eq!(Ask::get("/").send(Via::Http1, address).await.status, 200);
    let open = tokio::task::spawn_blocking(move || std::fs::write(gate, "go\n"));
    lineage.says("upgrade failed").await;
    lineage.says("configuration applied").await;
    open.await.unwrap().unwrap();
}

#[tokio::test]
async fn upgrade_behind_a_reading_that_hangs_is_given_up() {
    let upstream = Plain::named("one").await;
    let lineage = Lineage::start_with(&before(upstream.address, 1, ""), |command, _| {
        command.args(["--upgrade-timeout", "300ms"]);
    })
    .await;
    let address = lineage.address().await;
    lineage.says("serving").await;
    // A pipe that has a writer who says nothing: reading it takes for ever.
    let pipe = lineage.folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let path = lineage.folder.path().join("weir.yaml");
    std::fs::rename(&pipe, &path).unwrap();
    lineage.signal(Signal::HUP);
    // Opening it for writing waits for the reader.
    let opening = tokio::task::spawn_blocking(|| std::fs::File::options().write(true).open(path).unwrap());
    let writer = opening.await.unwrap();
    lineage.signal(Signal::USR2);
    let told = lineage.says("upgrade failed").await;
    assert!(told.contains("a change of the configuration was still under way"), "{told}");
    assert_eq!(Ask::get("/").send(Via::Http1, address).await.status, 200);
    lineage.signal(Signal::TERM);
    assert_eq!(lineage.code(lineage.pid()).await, 0);
    drop(writer);
}

#[tokio::test]
async fn end_of_the_process_ends_the_upgrade_too() {
    let upstream = Plain::named("one").await;
    let lineage = Lineage::start(&before(upstream.address, 1, "")).await;
    lineage.says("serving").await;
    lineage.install_script("exec sleep 1000");
    lineage.signal(Signal::USR2);
    let pid = number(&lineage.says("upgrade begun").await, "pid=");
    lineage.signal(Signal::TERM);
    let told = lineage.says("upgrade failed").await;
    assert!(told.contains("this process is ending"), "{told}");
    assert_eq!(lineage.code(lineage.pid()).await, 0);
    // Whose child it was is gone: it is ours to wait for.
    lineage.code(u32::try_from(pid).unwrap()).await;
    is_gone(pid).await;
}
