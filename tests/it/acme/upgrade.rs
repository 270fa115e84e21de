//! A new process in the place of one that got a certificate.

use std::fs::{File, TryLockError};

use rustix::process::Signal;

use super::{SHOP, client};
use crate::support::lineage::Lineage;
use crate::support::pebble::{Pebble, Way};
use crate::support::until;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_process_serves_the_certificate_asks_nobody_and_is_the_one_that_asks_from_then_on() {
    let (way, state) = (Way::new().await, tempfile::tempdir().unwrap());
    let text = format!(
        "workers: 2\nstate_dir: '{}'\nlisteners:\n  - {{ name: edge, bind: 127.0.0.1:0, tls: {{ acme: {{ terms_agreed: \
         true, domains: [{SHOP}], {} }} }} }}\nshutdown_timeout: 5s\nroutes: [{{ respond: {{ body: here }} }}]\n",
        state.path().display(),
        way.keys()
    );
    let lineage = Lineage::start(&text).await;
    let edge = lineage.address().await;
    let pebble = Pebble::start(&way, edge.port(), edge.port(), "").await;
    let roots = pebble.roots(&way).await;
    let shown = async || {
        let stream = client(&roots).try_connect(edge, SHOP).await.ok()?;
        Some(stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned())
    };
    let first = until("a certificate is got", &shown).await;
    let lock = File::open(state.path().join("acme/lock")).unwrap();
    let is_held = || matches!(lock.try_lock(), Err(TryLockError::WouldBlock));
    assert!(is_held());
    let asked = way.asked();

    let former = lineage.upgrade().await;
    assert_eq!(lineage.code(former).await, 0);
    for _ in 0..10 {
        assert_eq!(shown().await.as_ref(), Some(&first));
    }
    until("the new process has the lock", async || {
        if is_held() {
            return Some(());
        }
        // Taken by this look: it is to be had again.
        lock.unlock().unwrap();
        None
    })
    .await;
    assert_eq!(way.asked(), asked);
    lineage.signal(Signal::TERM);
    assert_eq!(lineage.code(lineage.pid()).await, 0);
}
