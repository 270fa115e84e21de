//! Whose certificates are believed, and who is told what to do when one is not.

use rcgen::CertificateParams;
use rustls::version::{TLS12, TLS13};

use super::{Ground, outcome, stage, tls_failures};
use crate::support::certs::{Authority, Leaf, expired, self_signed};
use crate::support::process::Process;
use crate::support::proxy::HEAD;
use crate::support::raw::{exchange, status};
use crate::support::secure::{Secure, Terms, server};
use crate::support::{Upstream, until};

const REFUSED: &str = "502 upstream_tls";

fn intermediate(ca: &Authority) -> Leaf {
    let between = ca.delegate("Between");
    let leaf = between.issue(&["127.0.0.1"]);
    Leaf { cert: leaf.cert + &between.pem(), ..leaf }
}

#[tokio::test]
async fn certificate_is_believed_by_authority_name_and_time() {
    let ground = Ground::new();
    let ca = &ground.ca;
    let trusted = ground.tls("");
    let named = ground.tls("server_name: Cart.Shop.Internal");
    let other = Authority::new("Other CA");
    let skip = "tls: { insecure_skip_verify: true }".to_owned();
    let rows: Vec<(&str, Leaf, &str, &str)> = vec![
        ("its authority", ca.issue(&["127.0.0.1"]), &trusted, "200 tls"),
        ("through another authority", intermediate(ca), &trusted, "200 tls"),
        ("another authority", other.issue(&["127.0.0.1"]), &trusted, REFUSED),
        ("another of the same name", Authority::new("Test CA").issue(&["127.0.0.1"]), &trusted, REFUSED),
        ("expired", ca.issue_with(&["127.0.0.1"], expired), &trusted, REFUSED),
        ("another address", ca.issue(&["127.0.0.2"]), &trusted, REFUSED),
        ("a name that spells the address", ca.issue(&["localhost"]), &trusted, REFUSED),
        ("the name asked for", ca.issue(&["cart.shop.internal"]), &named, "200 tls"),
        ("a wildcard of it", ca.issue(&["*.shop.internal"]), &named, "200 tls"),
        ("another name", ca.issue(&["127.0.0.1", "cart.other"]), &named, REFUSED),
        ("believed unseen", other.issue_with(&["cart.other"], expired), &skip, "200 tls"),
    ];
    for (row, leaf, tls, expected) in rows {
        let upstream = Secure::named("tls", server(&leaf, Terms::default())).await;
        for protocol in ["http1", "http2", "auto"] {
            let stage = stage(&[upstream.endpoint()], protocol, tls).await;
            assert_eq!(outcome(&stage).await, expected, "{row}, {protocol}");
            let failed = f64::from(u8::from(expected == REFUSED));
            assert_eq!(tls_failures(&stage).await, failed, "{row}, {protocol}");
            stage.assert_in_order().await;
        }
        let name = upstream.shakes().last().map(|shake| shake.name.clone());
        if expected == REFUSED {
            assert!(upstream.seen.lock().unwrap().is_empty(), "{row}: a request was sent");
        } else {
            let asked = tls.contains("server_name").then(|| "cart.shop.internal".to_owned());
            assert_eq!(name, Some(asked), "{row}");
        }
    }
}

#[tokio::test]
async fn certificate_that_its_owner_signed_is_believed_where_it_is_named() {
    let ground = Ground::new();
    let made = |change: fn(&mut CertificateParams)| self_signed(&["127.0.0.1"], change);
    let rows = [
        ("named", made(|_| {}), true, "200 tls"),
        ("not named", made(|_| {}), false, REFUSED),
        ("expired", made(expired), true, REFUSED),
        ("for another host", self_signed(&["cart.internal"], |_| {}), true, REFUSED),
        ("no authority's", made(|params| params.is_ca = rcgen::IsCa::NoCa), true, "200 tls"),
    ];
    for (row, leaf, is_named, expected) in rows {
        let named = if is_named { leaf.cert.clone() } else { made(|_| {}).cert };
        let path = ground.write("named.pem", &named);
        let upstream = Secure::named("tls", server(&leaf, Terms::default())).await;
        let tls = format!("tls: {{ ca: '{}' }}", path.display());
        let stage = stage(&[upstream.endpoint()], "http1", &tls).await;
        assert_eq!(outcome(&stage).await, expected, "{row}");
        stage.assert_in_order().await;
    }
}

#[tokio::test]
async fn certificate_of_ours_is_shown_where_it_is_asked_for() {
    let ground = Ground::new();
    let clients = Authority::new("Clients");
    let own = ground.certificate("own", &clients.issue(&["proxy"]));
    let foreign = ground.certificate("foreign", &Authority::new("Strangers").issue(&["proxy"]));
    let late = ground.certificate("late", &clients.issue_with(&["proxy"], expired));
    let rows = [(&*own, "200 tls"), ("", REFUSED), (&foreign, REFUSED), (&late, REFUSED)];
    for versions in [[&TLS12], [&TLS13]] {
        let asking = Terms { clients: Some(&clients), versions: &versions, ..Terms::default() };
        for protocol in ["http1", "http2", "auto"] {
            let upstream = Secure::named("tls", server(&ground.leaf(), asking)).await;
            for (own, expected) in rows {
                let row = format!("{protocol}, {:?}, {own}", versions[0]);
                let stage = stage(&[upstream.endpoint()], protocol, &ground.tls(own)).await;
                assert_eq!(outcome(&stage).await, expected, "{row}");
                stage.assert_in_order().await;
            }
            let shakes = upstream.shakes();
            assert!(!shakes.is_empty() && shakes.iter().all(|shake| shake.has_certificate), "{shakes:?}");
        }
    }
}

#[tokio::test]
async fn version_is_one_that_both_speak() {
    let ground = Ground::new();
    let rows = [
        ([&TLS12], "", "200 tls"),
        ([&TLS13], "", "200 tls"),
        ([&TLS13], "min_version: 1.3", "200 tls"),
        ([&TLS12], "min_version: 1.3", REFUSED),
        ([&TLS12], "min_version: '1.2'", "200 tls"),
    ];
    for (versions, least, expected) in rows {
        let terms = Terms { versions: &versions, ..Terms::default() };
        let upstream = Secure::named("tls", server(&ground.leaf(), terms)).await;
        let stage = stage(&[upstream.endpoint()], "http1", &ground.tls(least)).await;
        assert_eq!(outcome(&stage).await, expected, "{versions:?} {least}");
        if expected.starts_with("200") {
            assert_eq!(upstream.shakes()[0].version, versions[0].version);
        }
        stage.assert_in_order().await;
    }
}

#[tokio::test]
async fn authorities_that_change_on_disk_count_for_new_connections() {
    let ground = Ground::new();
    let next = Authority::new("Next CA");
    let upstream = Secure::named("tls", server(&next.issue(&["127.0.0.1"]), Terms::default())).await;
    let stage = stage(&[upstream.endpoint()], "http1", &ground.tls("")).await;
    assert_eq!(outcome(&stage).await, REFUSED);
    // A broken file changes nothing.
    let before = stage.proxy.generation();
    ground.write("ca.pem", "-----BEGIN CERTIFICATE-----\nbroken");
    until("the file is refused", || async {
        (stage.proxy.metric("weir_config_last_reload_success", &[]).await == 0.0).then_some(())
    })
    .await;
    assert_eq!((outcome(&stage).await.as_str(), stage.proxy.generation()), (REFUSED, before));
    ground.write("ca.pem", &(ground.ca.pem() + &next.pem()));
    until("the new authority counts", || async { (outcome(&stage).await == "200 tls").then_some(()) }).await;
    assert!(stage.proxy.generation() > before);
    // Nothing of what was believed before is kept: not the connection, not the session.
    ground.write("ca.pem", &ground.ca.pem());
    until("it does not count any more", || async { (outcome(&stage).await == REFUSED).then_some(()) }).await;
    stage.assert_in_order().await;
}

#[tokio::test]
async fn request_under_way_ends_though_its_authority_is_replaced() {
    let ground = Ground::new();
    let (open, gate) = tokio::sync::watch::channel(false);
    let upstream = Secure::answering(server(&ground.leaf(), Terms::default()), move |_| {
        let mut gate = gate.clone();
        async move {
            // A sender that is gone opens too.
            let _ = gate.wait_for(|open| *open).await;
            http::Response::new(crate::support::upstream::full("at last"))
        }
    })
    .await;
    let stage = stage(&[upstream.endpoint()], "auto", &ground.tls("")).await;
    let asking = async {
        until("it is under way", || async { (upstream.seen.lock().unwrap().len() == 1).then_some(()) }).await;
        let before = stage.proxy.generation();
        ground.write("ca.pem", &Authority::new("Next CA").pem());
        until("the file counts", || async { (stage.proxy.generation() > before).then_some(()) }).await;
        open.send(true).unwrap();
    };
    assert_eq!(tokio::join!(outcome(&stage), asking).0, "200 at last");
    assert_eq!(outcome(&stage).await, REFUSED);
    stage.assert_in_order().await;
}

fn before(endpoint: &str, tls: &str) -> String {
    format!(
        "{HEAD}upstreams: {{ cart: {{ endpoints: ['{endpoint}'], {tls} }} }}\nroutes: [{{ upstream: cart }}]\n"
    )
}

#[tokio::test]
async fn authorities_of_the_system_are_believed_unless_others_are_named() {
    let ground = Ground::new();
    let upstream = Secure::named("tls", server(&ground.leaf(), Terms::default())).await;
    let system = ground.folder.path().join("ca.pem").display().to_string();
    let nothing = ground.write("nothing.pem", "").display().to_string();
    let text = before(&upstream.endpoint(), "protocol: http1");
    let proxy = Process::start_in(&text, &[("SSL_CERT_FILE", &system), ("SSL_CERT_DIR", "/nonexistent")]);
    assert_eq!(status(&exchange(proxy.address, super::GET).await), 200);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weir.yaml");
    std::fs::write(&path, text).unwrap();
    let ended = std::process::Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["run", "--config"])
        .arg(&path)
        .envs([("SSL_CERT_FILE", nothing.as_str()), ("SSL_CERT_DIR", "/nonexistent")])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{said}");
    for part in ["upstream `cart`", "ca-certificates", "`tls.ca`"] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[tokio::test]
async fn log_says_what_is_wrong_and_what_to_do() {
    let ground = Ground::new();
    let with = |leaf: &Leaf, terms| Secure::named("tls", server(leaf, terms));
    let other = with(&Authority::new("Other CA").issue(&["127.0.0.1"]), Terms::default()).await;
    let named = with(&ground.ca.issue(&["cart.internal"]), Terms::default()).await;
    let late = with(&ground.ca.issue_with(&["127.0.0.1"], expired), Terms::default()).await;
    let asking = with(&ground.leaf(), Terms { clients: Some(&ground.ca), ..Terms::default() }).await;
    let old = with(&ground.leaf(), Terms { versions: &[&TLS12], alpn: &[], ..Terms::default() }).await;
    let plain = Upstream::named("plain").await;
    let plain = format!("https://{}", plain.address);
    let trusting = ground.tls("");
    let rows = [
        (other.endpoint(), trusting.clone(), ["UnknownIssuer", "`tls.ca`"]),
        (named.endpoint(), trusting.clone(), ["cart.internal", "`tls.server_name`"]),
        (late.endpoint(), trusting.clone(), ["expired", "new certificate"]),
        (asking.endpoint(), trusting.clone(), ["CertificateRequired", "`tls.certificate`"]),
        (
            asking.endpoint(),
            format!("{trusting}, protocol: auto"),
            ["CertificateRequired", "`tls.certificate`"],
        ),
        (old.endpoint(), ground.tls("min_version: 1.3"), ["rotocol", "`tls.min_version`"]),
        (old.endpoint(), format!("{trusting}, protocol: http2"), ["HTTP/2", "`protocol: auto`"]),
        (plain, trusting.clone(), ["speaks no TLS", "`http://`"]),
        (old.endpoint(), "tls: { insecure_skip_verify: true }".to_owned(), ["insecure-upstream", "`cart`"]),
    ];
    for (endpoint, tls, parts) in rows {
        let proxy = Process::start(&before(&endpoint, &tls));
        if parts[0] == "insecure-upstream" {
            proxy.signal("HUP");
            let line = proxy.says(parts[0]).await;
            assert!(line.contains("WARN") && line.contains(parts[1]), "{line}");
            continue;
        }
        for _ in 0..3 {
            assert_eq!(status(&exchange(proxy.address, super::GET).await), 502);
        }
        let line = proxy.says("endpoint takes no connections").await;
        for part in parts.iter().chain(&["WARN", "upstream=\"cart\"", "https://127.0.0.1"]) {
            assert!(line.contains(part), "{part}: {line}");
        }
    }
}
