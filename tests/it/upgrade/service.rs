//! What the service manager is told, on a socket as it has one.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use rustix::process::Signal;

use super::before;
use crate::support::PATIENCE;
use crate::support::lineage::Lineage;
use crate::support::load::Plain;

/// The next message that has `wanted`, and those before it.
fn until_told(manager: &UnixDatagram, wanted: &str) -> Vec<String> {
    let mut told = Vec::new();
    let mut bytes = [0; 4096];
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    loop {
        let length =
            manager.recv(&mut bytes).unwrap_or_else(|error| panic!("{wanted}: {error} after {told:?}"));
        told.push(String::from_utf8(bytes[..length].to_vec()).unwrap());
        if told.last().unwrap().lines().any(|line| line == wanted) {
            return told;
        }
    }
}

#[tokio::test]
async fn service_manager_is_told_each_step_and_follows_the_new_process() {
    let upstream = Plain::named("one").await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify.sock");
    let manager = UnixDatagram::bind(&path).unwrap();
    let good = before(upstream.address, 1, "");
    let lineage = Lineage::start_with(&good, |command, _| {
        command.env("NOTIFY_SOCKET", &path);
    })
    .await;
    let status = "STATUS=serving generation 1";
    assert_eq!(until_told(&manager, "READY=1"), [format!("READY=1\n{status}\n")]);
    lineage.signal(Signal::HUP);
    let told = until_told(&manager, "RELOADING=1");
    assert!(told[0].contains("\nMONOTONIC_USEC="), "{told:?}");
    assert_eq!(until_told(&manager, "READY=1"), ["READY=1\nSTATUS=serving generation 2\n"]);
    lineage.configure(&good.replace("routes", "ruotes"));
    until_told(&manager, "RELOADING=1");
    let told = until_told(&manager, "READY=1");
    assert!(told[0].contains("generation 2; the last change was refused"), "{told:?}");
    lineage.install_script("exit 3");
    lineage.signal(Signal::USR2);
    lineage.says("upgrade failed").await;
    let told = until_told(&manager, "STATUS=serving; the last upgrade failed, see the log");
    assert!(told.iter().all(|text| text.starts_with("STATUS=")), "{told:?}");
    lineage.install_weir();
    lineage.configure(&good);
    until_told(&manager, "READY=1");
    let former = lineage.upgrade().await;
    // The former one introduces the new one before that one says anything.
    let told = until_told(&manager, &format!("MAINPID={}", lineage.pid()));
    assert!(!told.iter().any(|text| text.contains("READY")), "{told:?}");
    assert_eq!(until_told(&manager, "READY=1"), [format!("READY=1\n{status}\n")]);
    assert_eq!(lineage.code(former).await, 0);
    // What it does is not what the service does any more.
    manager.set_nonblocking(true).unwrap();
    assert!(manager.recv(&mut [0; 4096]).is_err(), "the former process says nothing when it ends");
    manager.set_nonblocking(false).unwrap();
    lineage.signal(Signal::TERM);
    until_told(&manager, "STOPPING=1");
    assert_eq!(lineage.code(lineage.pid()).await, 0);
    manager.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    assert!(manager.recv(&mut [0; 4096]).is_err(), "nothing more");
}
