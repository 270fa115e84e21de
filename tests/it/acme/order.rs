//! From nothing to a certificate that serves, is kept and renewed.

use std::os::unix::fs::PermissionsExt;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{SHOP, Site, client, kept};
use crate::support::pebble::{Leads, Pebble, Way};
use crate::support::proxy::tcp;
use crate::support::tls::{Authority, Wanted};
use crate::support::{Proxy, Upstream, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificate_is_got_by_either_challenge_and_serves_the_next_handshake() {
    for challenge in ["tls-alpn-01", "http-01"] {
        let (way, state) = (Way::new().await, tempfile::tempdir().unwrap());
        let keys = format!(
            "domains: [{SHOP}, www.example.com], email: ops@example.com, challenge: {challenge}, {}",
            way.keys()
        );
        let site = Site::open(&state, &keys).await;
        let pebble = site.pebble(&way, "").await;
        site.has_got(1.0).await;
        let roots = pebble.roots(&way).await;
        for name in [SHOP, "www.example.com"] {
            let answer = client(&roots).get(site.edge, name, "/").await;
            assert!(answer.ends_with("one"), "{challenge}: {answer}");
        }
        // One account and one certificate are kept, for the owner alone.
        for folder in ["accounts", "certificates"] {
            let mode = std::fs::metadata(kept(&state, folder)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{folder}");
        }
        let proofs = std::fs::read_dir(state.path().join("state/acme/proofs")).unwrap().count();
        assert_eq!(proofs, 0, "nothing is left of the proof");
        let told = site.certificate().await;
        assert_eq!((&told["source"], &told["listener"]), (&"acme".into(), &"edge".into()), "{told}");
        assert_eq!(told["names"].as_array().unwrap().len(), 2, "{told}");
        assert_eq!(
            (&told["acme"]["challenge"], &told["acme"]["failures"]),
            (&challenge.into(), &0.into()),
            "{told}"
        );
        assert!(
            told["days_left"].as_i64().unwrap() > 30 && told["acme"]["next_attempt"].is_string(),
            "{told}"
        );
        let metrics = reqwest::get(site.proxy.admin("/metrics")).await.unwrap().text().await.unwrap();
        let expiry =
            "weir_tls_certificate_expiry_timestamp_seconds{listener=\"edge\",name=\"shop.example.com\"} ";
        let at =
            metrics.lines().find_map(|line| line.strip_prefix(expiry)).unwrap_or_else(|| panic!("{metrics}"));
        assert!(at.parse::<f64>().unwrap() > 1.7e9, "{at}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificate_that_is_kept_serves_after_a_restart_and_nobody_is_asked() {
    let (way, state) = (Way::new().await, tempfile::tempdir().unwrap());
    let keys = format!("domains: [{SHOP}], {}", way.keys());
    let site = Site::open(&state, &keys).await;
    let pebble = site.pebble(&way, "").await;
    site.has_got(1.0).await;
    let roots = pebble.roots(&way).await;
    let first = site.shown(&roots).await;
    drop(site);
    let asked = way.asked();

    let site = Site::open(&state, &keys).await;
    assert_eq!(site.shown(&roots).await, first, "it serves from the first handshake on");
    until("it knows when to ask next", || async {
        site.certificate().await["acme"]["next_attempt"].is_string().then_some(())
    })
    .await;
    assert_eq!((way.asked(), site.renewals("success").await), (asked, 0.0));

    // An authority that has forgotten the account gets another one.
    drop((site, pebble));
    std::fs::remove_file(kept(&state, "certificates")).unwrap();
    let account = std::fs::read(kept(&state, "accounts")).unwrap();
    way.set(Leads::NotYet);
    let site = Site::open(&state, &keys).await;
    let pebble = site.pebble(&way, "").await;
    site.has_got(1.0).await;
    assert_ne!(site.shown(&pebble.roots(&way).await).await, first);
    assert_ne!(std::fs::read(kept(&state, "accounts")).unwrap(), account);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificate_is_renewed_in_time_and_connections_stay() {
    let (way, state) = (Way::new().await, tempfile::tempdir().unwrap());
    let site = Site::open(&state, &format!("domains: [{SHOP}], {}", way.keys())).await;
    let pebble = site.pebble(&way, ", \"certificateValidityPeriod\": 16").await;
    site.has_got(1.0).await;
    let roots = pebble.roots(&way).await;
    let first = site.shown(&roots).await;
    let mut open = client(&roots).connect(site.edge, SHOP).await;
    // One that has been used may wait; a new one must say something soon.
    open.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"one") {
        assert_ne!(open.read_buf(&mut answer).await.unwrap(), 0);
    }
    site.has_got(2.0).await;
    assert_ne!(site.shown(&roots).await, first);
    open.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    open.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("one"), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificate_by_acme_comes_by_reload_and_stands_beside_those_of_files() {
    let (way, state) = (Way::new().await, tempfile::tempdir().unwrap());
    let authority = Authority::new("files");
    let pair = authority.issue(&Wanted::of(&["old.example.com"])).write(way.folder.path(), "old");
    let upstream = Upstream::named("one").await;
    let text = |acme: &str, address: &str| {
        format!(
            "workers: 2\nstate_dir: '{}'\nlisteners:\n  - {{ name: plain, bind: 127.0.0.1:0 }}\n  - {{ name: edge, bind: \
             '{address}', tls: {{ certificates: [{pair}]{acme} }} }}\nupstreams: {{ one: {{ endpoints: ['{}'] }} \
             }}\nroutes: [{{ upstream: one }}]\n",
            state.path().join("state").display(),
            upstream.address
        )
    };
    let proxy = Proxy::start_whole(&text("", "127.0.0.1:0")).await;
    let edge = tcp(&proxy.app.addresses()[1]);
    let files = client(&authority.roots());
    assert!(files.get(edge, "old.example.com", "/").await.ends_with("one"));
    assert!(!state.path().join("state").exists(), "nothing is kept that nobody needs");

    let acme = format!(", acme: {{ terms_agreed: true, domains: [{SHOP}], {} }}", way.keys());
    proxy.replace(&text(&acme, "127.0.0.1:0")).await;
    assert_eq!(tcp(&proxy.app.addresses()[1]), edge);
    let pebble = Pebble::start(&way, proxy.address.port(), edge.port(), "").await;
    let roots = pebble.roots(&way).await;
    // Never here before: who was resumes, and is shown nothing.
    let by_acme = || client(&roots);
    until("it serves", || async { by_acme().try_connect(edge, SHOP).await.is_ok().then_some(()) }).await;
    assert!(files.get(edge, "old.example.com", "/").await.ends_with("one"));
    // Who asks for what nobody has gets the first, which is not the one by ACME.
    let refused = by_acme().try_connect(edge, "other.example.com").await.unwrap_err().to_string();
    assert!(refused.contains("UnknownIssuer"), "{refused}");

    // A reload that has nothing to do with it asks nobody and keeps what is there.
    let asked = way.asked();
    proxy
        .replace(&text(&acme, "127.0.0.1:0").replace("workers: 2", "workers: 2\nshutdown_timeout: 5s"))
        .await;
    assert!(by_acme().get(edge, SHOP, "/").await.ends_with("one"));
    proxy.replace(&text("", "127.0.0.1:0")).await;
    assert!(by_acme().try_connect(edge, SHOP).await.is_err(), "it is not wanted any more");
    proxy.replace(&text(&acme, "127.0.0.1:0")).await;
    assert!(by_acme().get(edge, SHOP, "/").await.ends_with("one"), "it was kept");
    assert_eq!(way.asked(), asked);
}
