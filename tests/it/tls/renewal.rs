//! Certificates are files that are followed: the next handshake has the new one, a broken one changes nothing.

use std::os::unix::fs::symlink;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Edge, SHOP};
use crate::support::tls::{Client, VERSIONS, Wanted};
use crate::support::until;

const RELOADS: &str = "weir_config_reloads_total";

/// The fingerprint of the certificate that is shown now.
async fn shown(edge: &Edge) -> Vec<u8> {
    // One that was here before resumes, and sees no certificate.
    let client = Client::new(&edge.authority, &VERSIONS);
    let stream = client.connect(edge.address, SHOP).await;
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

async fn shows(edge: &Edge, leaf: &crate::support::tls::Leaf) {
    until("the new certificate is shown", || async { (shown(edge).await == *leaf.cert).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renewed_certificate_serves_the_next_handshake_and_connections_stay() {
    let edge = Edge::open("").await;
    let client = Client::new(&edge.authority, &VERSIONS);
    let mut old = client.connect(edge.address, SHOP).await;
    // By rename, the certificate first: for a moment the two do not fit.
    let renewed = edge.authority.issue(&Wanted::of(&[SHOP]));
    edge.renew(&renewed, "shop");
    shows(&edge, &renewed).await;
    // In place.
    let renewed = edge.authority.issue(&Wanted::of(&[SHOP]));
    renewed.write(edge.folder.path(), "shop");
    shows(&edge, &renewed).await;
    old.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    old.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("one"), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_of_a_pair_or_a_broken_one_changes_nothing_and_the_rest_of_it_recovers() {
    let edge = Edge::open("").await;
    let folder = edge.folder.path();
    let first = shown(&edge).await;
    let good = edge.authority.issue(&Wanted::of(&[SHOP]));
    let put = |end: &str, content: &str| std::fs::write(folder.join(format!("shop.{end}")), content).unwrap();
    let mut failures = 0.0;
    for (end, broken) in
        [("pem", good.cert_pem()), ("pem", String::from("not PEM")), ("key", "x".repeat(2 << 20))]
    {
        put(end, &broken);
        failures += 1.0;
        let failed = || async {
            let count = edge.proxy.metric(RELOADS, &["result=\"failure\""]).await;
            (count >= failures).then_some(count)
        };
        failures = until("the reload fails", failed).await;
        assert_eq!(edge.proxy.metric("weir_config_last_reload_success", &[]).await, 0.0);
        assert_eq!(shown(&edge).await, first, "{end}");
        let status = edge.proxy.app.status();
        let said = format!("{status:?}");
        assert!(said.contains("shop.") || said.contains("weir.yaml"), "{said}");
    }
    put("pem", &good.cert_pem());
    put("key", &good.key_pem());
    shows(&edge, &good).await;
    assert_eq!(edge.proxy.metric("weir_config_last_reload_success", &[]).await, 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn folder_that_a_config_map_swaps_is_followed() {
    let edge = Edge::with("", "", |authority, folder| {
        for number in ["1", "2"] {
            let version = folder.join(number);
            std::fs::create_dir(&version).unwrap();
            let leaf = authority.issue(&Wanted::of(&[SHOP]));
            std::fs::write(version.join("tls.crt"), leaf.cert_pem()).unwrap();
            std::fs::write(version.join("tls.key"), leaf.key_pem()).unwrap();
        }
        symlink("1", folder.join("..data")).unwrap();
        for name in ["tls.crt", "tls.key"] {
            symlink(format!("..data/{name}"), folder.join(name)).unwrap();
        }
        let folder = folder.display();
        vec![format!("{{ cert: '{folder}/tls.crt', key: '{folder}/tls.key' }}")]
    })
    .await;
    let first = shown(&edge).await;
    let folder = edge.folder.path();
    symlink("2", folder.join("..data_tmp")).unwrap();
    std::fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    until("the other is shown", || async { (shown(&edge).await != first).then_some(()) }).await;
    assert_eq!(edge.proxy.metric(RELOADS, &["result=\"failure\""]).await, 0.0, "both files changed at once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn expired_certificate_is_served_so_that_the_other_names_are() {
    let edge = Edge::with("", "", |authority, folder| {
        let old = Wanted { days: (-9, -2), ..Wanted::of(&["old.test"]) };
        vec![
            authority.issue(&old).write(folder, "old"),
            authority.issue(&Wanted::of(&[SHOP])).write(folder, "shop"),
        ]
    })
    .await;
    let client = Client::new(&edge.authority, &VERSIONS);
    assert!(client.get(edge.address, SHOP, "/").await.ends_with("one"));
    let error = client.try_connect(edge.address, "old.test").await.unwrap_err();
    assert!(error.to_string().contains("expired"), "{error}");
}
