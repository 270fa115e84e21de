//! What shows that a name is ours, to whom, and to nobody else. Another process asks here, and this one shows what that
//! one wrote: so it stands still while it is looked at.

use std::fs::File;

use reqwest::{Client as Http, Method};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{SHOP, Site, client};
use crate::support::pebble::Way;
use crate::support::tls::{Authority, Wanted};
use crate::support::until;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proofs_and_certificates_of_another_process_are_shown_to_those_who_ask_for_them() {
    let (way, state) = (Way::new().await, tempfile::tempdir().unwrap());
    let folder = state.path().join("state/acme");
    for part in ["accounts", "certificates", "proofs"] {
        std::fs::create_dir_all(folder.join(part)).unwrap();
    }
    let other = File::create(folder.join("lock")).unwrap();
    other.lock().unwrap();
    let site = Site::open(&state, &format!("domains: [{SHOP}], {}", way.keys())).await;
    let authority = Authority::new("anybody");
    let leaf = authority.issue(&Wanted::of(&[SHOP]));
    let pem = format!("{}{}", leaf.key_pem(), leaf.cert_pem());
    std::fs::write(folder.join(format!("proofs/certificate={SHOP}")), &pem).unwrap();
    std::fs::write(folder.join("proofs/page=a-token_1"), "a-token_1.thumb").unwrap();

    // The page: on the plain listener, by either name of a method that reads, and no other.
    let http = Http::new();
    let ask = async |method: Method, path: &str| {
        let answer = http.request(method, site.proxy.url(path)).header("host", SHOP).send().await.unwrap();
        answer.text().await.unwrap()
    };
    let page = "/.well-known/acme-challenge/a-token_1";
    until("the page is shown", || async {
        (ask(Method::GET, page).await == "a-token_1.thumb").then_some(())
    })
    .await;
    assert_eq!(ask(Method::HEAD, page).await, "");
    for (method, path) in [
        (Method::POST, page),
        (Method::GET, "/.well-known/acme-challenge/a-token_2"),
        (Method::GET, "/.well-known/acme-challenge/"),
        (Method::GET, "/x/.well-known/acme-challenge/a-token_1"),
    ] {
        assert_eq!(ask(method.clone(), path).await, "one", "{method} {path} is the routes'");
    }

    // The certificate: to who speaks `acme-tls/1` alone and asks for the name.
    let client = client(&authority.roots());
    let mut stream = client.clone().alpn(&["acme-tls/1"]).connect(site.edge, SHOP).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"acme-tls/1"[..]));
    assert_eq!(stream.get_ref().1.peer_certificates().unwrap()[0], leaf.cert);
    // What is sent is answered by nothing, and the connection is closed.
    let _ = stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert_eq!(answer, b"");
    for (protocols, name) in [
        (&["acme-tls/1", "http/1.1"][..], SHOP),
        (&["h2", "acme-tls/1"], SHOP),
        (&["acme-tls/1"], "www.example.com"),
        (&[], SHOP),
    ] {
        let refused = client.clone().alpn(protocols).try_connect(site.edge, name).await;
        assert!(refused.is_err(), "{protocols:?} for {name}: there is no certificate yet");
    }

    // What the other one gets is served here too.
    std::fs::remove_file(folder.join(format!("proofs/certificate={SHOP}"))).unwrap();
    let got = authority.issue(&Wanted::of(&[SHOP]));
    let id = site.proxy.app.current().load().config.listeners[1]
        .tls
        .as_ref()
        .unwrap()
        .acme
        .as_ref()
        .unwrap()
        .certificate_id();
    let pem = format!("{}{}", got.key_pem(), got.cert_pem());
    std::fs::write(folder.join(format!("certificates/{}.pem", id.as_str())), pem).unwrap();
    until("it serves", || async {
        let stream = client.try_connect(site.edge, SHOP).await.ok()?;
        (stream.get_ref().1.peer_certificates().unwrap()[0] == got.cert).then_some(())
    })
    .await;
    until("the proof is gone", || async {
        client.clone().alpn(&["acme-tls/1"]).try_connect(site.edge, SHOP).await.is_err().then_some(())
    })
    .await;
    assert_eq!(way.asked(), 0, "one process asks, and this is not it");
}
