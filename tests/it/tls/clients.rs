//! Clients' certificates: who gets in, who is taken for whom, and what the upstream is told.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use rustls::HandshakeKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Edge, SHOP};
use crate::support::tls::{Authority, Client, Leaf, VERSIONS, Wanted};
use crate::support::{Proxy, Upstream, until};

const HEADER: &str = "x-forwarded-client-cert";

/// An edge that asks for certificates of an authority of clients'.
async fn open(auth: &str, listener: &str) -> (Edge, Authority) {
    let clients = Authority::new("clients");
    let tls = format!("      client_ca: FOLDER/clients.pem\n{auth}");
    let edge = Edge::with(&tls, listener, |authority, folder| {
        std::fs::write(folder.join("clients.pem"), clients.pem()).unwrap();
        vec![authority.issue(&Wanted::of(&[SHOP])).write(folder, "shop")]
    })
    .await;
    (edge, clients)
}

fn ada(clients: &Authority) -> Leaf {
    clients.issue(&Wanted {
        uris: &["spiffe://shop.test/ada"],
        common_name: Some("ada"),
        ..Wanted::of(&["ada.test"])
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn client_gets_in_with_the_right_certificate_and_without_one_where_it_is_optional() {
    for (auth, is_required) in [("", true), ("      client_auth: optional\n", false)] {
        let (edge, clients) = open(auth, "").await;
        let stranger = Authority::new("clients").issue(&Wanted::of(&["ada.test"]));
        let late = clients.issue(&Wanted { days: (-9, -2), ..Wanted::of(&["ada.test"]) });
        let early = clients.issue(&Wanted { days: (2, 9), ..Wanted::of(&["ada.test"]) });
        let right = ada(&clients);
        let mut refused = 0.0;
        for version in VERSIONS {
            for (what, leaf, gets_in) in [
                ("none", None, !is_required),
                ("right", Some(&right), true),
                ("of another authority", Some(&stranger), false),
                ("expired", Some(&late), false),
                ("not valid yet", Some(&early), false),
            ] {
                let client = Client::with(&edge.authority, &[version], leaf);
                let request = format!("GET / HTTP/1.1\r\nhost: {SHOP}\r\nconnection: close\r\n\r\n");
                let answer = client.try_exchange(edge.address, SHOP, &request).await;
                assert_eq!(answer.is_ok(), gets_in, "{auth}{what} {version:?}: {answer:?}");
                if !gets_in {
                    // The alert arrives, and not a reset that would overtake it.
                    let error = answer.unwrap_err().to_string();
                    assert!(error.contains("alert"), "{auth}{what} {version:?}: {error}");
                    refused += 1.0;
                }
            }
        }
        let counted = || async { (edge.refused("client_certificate").await == refused).then_some(()) };
        until("each refusal counts", counted).await;
        assert_eq!(edge.upstream.count(), if is_required { 2 } else { 4 }, "{auth}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upstream_is_told_the_certificate_and_nobody_can_say_it_himself() {
    let forged = format!(
        "GET / HTTP/1.1\r\nhost: {SHOP}\r\n{HEADER}: Hash=00;Subject=\"CN=root\"\r\nx_forwarded_client_cert: \
         Hash=01\r\nconnection: close\r\n\r\n"
    );
    let (edge, clients) = open("      client_auth: optional\n", "").await;
    let leaf = ada(&clients);
    let told =
        format!("Hash={};Subject=\"CN=ada\";DNS=ada.test;URI=spiffe://shop.test/ada", leaf.fingerprint());
    for (leaf, expected) in [(Some(&leaf), told.as_str()), (None, "")] {
        let client = Client::with(&edge.authority, &VERSIONS, leaf);
        client.try_exchange(edge.address, SHOP, &forged).await.unwrap();
        let seen = edge.upstream.last();
        assert_eq!(seen.header(HEADER), expected);
        assert_eq!(seen.headers.get_all(HEADER).iter().count(), usize::from(!expected.is_empty()));
        assert!(!seen.headers.contains_key("x_forwarded_client_cert"), "{seen:?}");
    }
    // Plain strangers neither.
    crate::support::raw::exchange(edge.proxy.address, &forged).await;
    assert_eq!(edge.upstream.last().header(HEADER), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trusted_peer_may_say_it_only_where_it_shows_none_itself() {
    let (edge, clients) = open("      client_auth: optional\n", "    trust: [127.0.0.1]\n").await;
    let leaf = ada(&clients);
    let said = format!("GET / HTTP/1.1\r\nhost: {SHOP}\r\n{HEADER}: Hash=00\r\nconnection: close\r\n\r\n");
    let client = Client::new(&edge.authority, &VERSIONS);
    client.try_exchange(edge.address, SHOP, &said).await.unwrap();
    assert_eq!(edge.upstream.last().header(HEADER), "Hash=00");
    let client = Client::with(&edge.authority, &VERSIONS, Some(&leaf));
    client.try_exchange(edge.address, SHOP, &said).await.unwrap();
    assert!(edge.upstream.last().header(HEADER).starts_with(&format!("Hash={};", leaf.fingerprint())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resumed_client_is_still_who_it_was_and_a_new_authority_forgets_it() {
    let (edge, clients) = open("", "").await;
    let leaf = ada(&clients);
    for version in VERSIONS {
        let client = Client::with(&edge.authority, &[version], Some(&leaf));
        let again = async || -> std::io::Result<Option<HandshakeKind>> {
            let mut stream = client.try_connect(edge.address, SHOP).await?;
            let request = format!("GET / HTTP/1.1\r\nhost: {SHOP}\r\nconnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await?;
            stream.read_to_end(&mut Vec::new()).await?;
            Ok(stream.get_ref().1.handshake_kind())
        };
        let hash = format!("Hash={};", leaf.fingerprint());
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
            assert_eq!(again().await.unwrap(), Some(kind), "{version:?}");
            assert!(edge.upstream.last().header(HEADER).starts_with(&hash), "{version:?}");
        }
        // Others are asked for now: a ticket of before is worth nothing.
        let before = edge.proxy.generation();
        let path = edge.folder.path().join("clients.pem");
        std::fs::write(&path, Authority::new("others").pem()).unwrap();
        until("it serves", || async { (edge.proxy.generation() > before).then_some(()) }).await;
        // The generation is told just before the listeners have it.
        until("the former is refused", || async { again().await.is_err().then_some(()) }).await;
        let before = edge.proxy.generation();
        std::fs::write(&path, clients.pem()).unwrap();
        until("it serves", || async { (edge.proxy.generation() > before).then_some(()) }).await;
        // … by each worker, whichever has the connection.
        until("the former is taken", || async {
            for _ in 0..8 {
                again().await.ok()?;
            }
            Some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ticket_of_a_listener_that_asks_for_nothing_does_not_get_in_where_a_certificate_is_required() {
    let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
    let folder = tempfile::tempdir().unwrap();
    let certificates = servers.issue(&Wanted::of(&[SHOP])).write(folder.path(), "shop");
    let ca = write(folder.path(), "clients.pem", &clients.pem());
    let mut text = String::from("workers: 1\nlisteners:\n");
    for more in ["", &format!(", client_ca: '{ca}', client_auth: optional"), &format!(", client_ca: '{ca}'")]
    {
        let _ =
            writeln!(text, "  - {{ bind: 127.0.0.1:0, tls: {{ certificates: [{certificates}]{more} }} }}");
    }
    text.push_str("routes: [{ respond: { body: in } }]\n");
    let proxy = Proxy::start_whole(&text).await;
    let ports: Vec<SocketAddr> = proxy.app.addresses().iter().map(crate::support::proxy::tcp).collect();
    for version in VERSIONS {
        for easy in &ports[..2] {
            let client = Client::new(&servers, &[version]);
            assert!(client.get(*easy, SHOP, "/").await.ends_with("in"));
            let request = "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
            let answer = client.try_exchange(ports[2], SHOP, request).await;
            assert!(answer.is_err(), "{version:?} {easy}: {answer:?}");
        }
    }
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificate_is_the_key_of_a_split_and_a_condition_and_keeps_caches_apart() {
    let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
    let folder = tempfile::tempdir().unwrap();
    let certificates = servers.issue(&Wanted::of(&[SHOP])).write(folder.path(), "shop");
    let ca = write(folder.path(), "clients.pem", &clients.pem());
    let (blue, green) = (Upstream::named("blue").await, Upstream::named("green").await);
    let leaf = ada(&clients);
    let text = format!(
        "workers: 1\nlisteners: [{{ bind: 127.0.0.1:0, tls: {{ certificates: [{certificates}], client_ca: '{ca}', \
         client_auth: optional }} }}]\nupstreams:\n  blue: {{ endpoints: ['{}'] }}\n  green: {{ endpoints: ['{}'] \
         }}\nsplits:\n  shop:\n    key: [tls:san]\n    expose: true\n    cache: vary\n    variants: [{{ name: blue }}, \
         {{ name: green, weight: 50% }}]\n    rules:\n      - {{ when: [{{ value: tls:fingerprint, in: [{}] }}], variant: \
         green }}\nroutes:\n  - {{ paths: [/ada], when: [{{ value: tls:san, in: [ada.test] }}], respond: {{ body: ada }} \
         }}\n  - {{ paths: [/cn], when: [{{ value: tls:cn, in: [ada] }}], respond: {{ body: cn }} }}\n  - {{ split: shop \
         }}\n",
        blue.address,
        green.address,
        leaf.fingerprint()
    );
    let proxy = Proxy::start_whole(&text).await;
    let known = Client::with(&servers, &VERSIONS, Some(&leaf));
    assert!(known.get(proxy.address, SHOP, "/ada").await.ends_with("\r\n\r\nada"));
    assert!(known.get(proxy.address, SHOP, "/cn").await.ends_with("\r\n\r\ncn"));
    let answer = known.get(proxy.address, SHOP, "/").await;
    assert!(answer.contains("\r\nx-weir-variant: green\r\n") && answer.contains("vary: *"), "{answer}");
    let nobody = Client::new(&servers, &VERSIONS);
    let answer = nobody.get(proxy.address, SHOP, "/ada").await;
    assert!(answer.contains("\r\nx-weir-variant: blue\r\n"), "{answer}");
    // What the proxy does is what the command says.
    for number in 0..8 {
        let uri = format!("spiffe://shop.test/{number}");
        let leaf = clients.issue(&Wanted { uris: &[&uri], ..Wanted::of(&["any.test"]) });
        let client = Client::with(&servers, &VERSIONS, Some(&leaf));
        let answer = client.get(proxy.address, SHOP, "/").await;
        let cert = write(folder.path(), "client.pem", &leaf.cert_pem());
        let told = std::process::Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(["explain", "--output", "json", "--client-cert", &cert, "--config"])
            .args([proxy.path.to_str().unwrap(), &format!("https://{SHOP}/")])
            .output()
            .unwrap();
        let told: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
        assert_eq!(
            told["split"]["key"]["text"].as_str().or_else(|| told["split"]["key"].as_str()),
            Some(&*uri),
            "{told}"
        );
        let variant =
            told["split"]["variant"].as_str().or_else(|| told["split"]["variant"]["name"].as_str()).unwrap();
        assert!(answer.contains(&format!("x-weir-variant: {variant}\r\n")), "{answer}\n{told}");
    }
}
