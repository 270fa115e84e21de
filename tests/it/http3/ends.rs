//! Who gets in, and how listeners and their connections end.

use bytes::Bytes;
use h3::error::{Code, StreamError};
use http::{Request, Response};
use http_body::Frame;
use quinn::{ApplicationClose, ConnectionError, TransportConfig};
use tokio::time::timeout;

use super::{Edge, SHOP, Settings, certified, text};
use crate::support::client::piped;
use crate::support::http3::{Client, answer, endpoint, rest};
use crate::support::lineage::Lineage;
use crate::support::tls::{Authority, Wanted};
use crate::support::{PATIENCE, Upstream, until};

fn is_orderly(error: &ConnectionError) -> bool {
    let expected = Code::H3_NO_ERROR.value();
    matches!(error, ConnectionError::ApplicationClosed(ApplicationClose { error_code, .. })
        if error_code.into_inner() == expected)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drain_finishes_what_was_begun_and_takes_nothing_new() {
    let (upstream, open) = Upstream::gated().await;
    let Edge { proxy, address, authority, folder, rest: _ } =
        Edge::with(upstream.address, Settings { workers: 2, ..Settings::default() }).await;
    let mut client = Client::connect(&authority, address, SHOP).await;
    let idle = Client::connect(&authority, address, SHOP).await;
    let mut streams = Vec::new();
    for _ in 0..5 {
        let mut stream = client.begin(Request::get("/").body(()).unwrap()).await.unwrap();
        stream.finish().await.unwrap();
        streams.push(stream);
    }
    until("all are asked", || async { (upstream.count() == 5).then_some(()) }).await;
    let ending = tokio::spawn(proxy.app.shutdown(PATIENCE));
    // Who asks for nothing is told, and goes.
    assert!(is_orderly(&timeout(PATIENCE, idle.connection.closed()).await.expect("an end")));
    // GOAWAY has come: the client's library begins nothing more on its own connection.
    let refused = || async { client.requests.clone().send_request(request()).await.is_err().then_some(()) };
    until("the client has heard of the end", refused).await;
    let late = endpoint(&authority, None, TransportConfig::default());
    let connecting = late.connect(address, SHOP).unwrap();
    assert!(timeout(PATIENCE, connecting).await.expect("an answer").is_err(), "nobody new is let in");
    open.send_replace(true);
    for mut stream in streams {
        let answer = timeout(PATIENCE, answer(&mut stream)).await.expect("an answer").unwrap();
        assert_eq!((answer.status(), answer.text()), (200, "at last"));
    }
    assert!(is_orderly(&timeout(PATIENCE, client.connection.closed()).await.expect("an end")));
    assert!(timeout(PATIENCE, ending).await.expect("the end").unwrap(), "all was finished");
    drop(folder);
}

fn request() -> Request<()> {
    Request::get("https://shop.test/late").body(()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http3_comes_and_goes_by_reload_and_tcp_does_not_notice() {
    let upstream = Upstream::named("one").await;
    let edge = Edge::before(upstream.address).await;
    let tls = crate::support::tls::Client::new(&edge.authority, &crate::support::tls::VERSIONS);
    let tls = tls.alpn(&["http/1.1"]);
    let says = || async {
        let request = format!("GET / HTTP/1.1\r\nhost: {SHOP}\r\nconnection: close\r\n\r\n");
        tls.try_exchange(edge.address, SHOP, &request).await.unwrap().contains("alt-svc: h3=")
    };
    for _ in 0..2 {
        let mut client = edge.connect().await;
        assert_eq!(client.get("/").await.status(), 200);
        assert!(says().await);
        edge.proxy.replace(&edge.text(false)).await;
        assert!(is_orderly(&timeout(PATIENCE, client.connection.closed()).await.expect("an end")));
        assert!(!says().await, "what is not there is not told of");
        // The UDP port is free again when the last client has gone.
        let free = || async { std::net::UdpSocket::bind(edge.address).ok() };
        drop(until("the port is free", free).await);
        edge.proxy.replace(&edge.text(true)).await;
    }
    edge.assert_in_order().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_certificate_serves_the_next_handshake_and_connections_go_on() {
    let upstream = Upstream::named("one").await;
    let edge = Edge::before(upstream.address).await;
    let mut old = edge.connect().await;
    let before = old.connection.peer_identity().unwrap();
    let before = before.downcast::<Vec<rustls::pki_types::CertificateDer<'_>>>().unwrap();
    let leaf = edge.authority.issue(&Wanted::of(&[SHOP]));
    for (end, content) in [("pem", leaf.cert_pem()), ("key", leaf.key_pem())] {
        std::fs::write(edge.folder.path().join("next"), content).unwrap();
        std::fs::rename(edge.folder.path().join("next"), edge.folder.path().join(format!("shop.{end}")))
            .unwrap();
    }
    let renewed = || async {
        let client = edge.connect().await;
        let shown = client.connection.peer_identity().unwrap();
        let shown = shown.downcast::<Vec<rustls::pki_types::CertificateDer<'_>>>().unwrap();
        assert!(shown[0] == leaf.cert || shown[0] == before[0]);
        (shown[0] == leaf.cert).then_some(())
    };
    until("the new certificate is shown", renewed).await;
    assert_eq!(old.get("/").await.status(), 200, "the connection goes on");
    drop(old);
    edge.assert_in_order().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_show_their_certificates_and_the_upstream_is_told() {
    let upstream = Upstream::named("one").await;
    let tls = "client_ca: FOLDER/clients.pem";
    let edge = Edge::with(upstream.address, Settings { tls, ..Settings::default() }).await;
    let ada = edge.authority.issue(&Wanted { common_name: Some("ada"), ..Wanted::of(&["ada.test"]) });
    let stranger = Authority::new("servers").issue(&Wanted::of(&["ada.test"]));
    let late = edge.authority.issue(&Wanted { days: (-9, -2), ..Wanted::of(&["ada.test"]) });
    let mut refused = 0.0;
    for (what, leaf) in [("none", None), ("of another authority", Some(&stranger)), ("expired", Some(&late))]
    {
        let endpoint = endpoint(&edge.authority, leaf, TransportConfig::default());
        // The client's handshake is over before the proxy has seen what it shows.
        if let Ok(client) = Client::by(endpoint, edge.address, SHOP).await {
            let end = timeout(PATIENCE, client.connection.closed()).await.expect("an end");
            assert!(matches!(end, ConnectionError::ConnectionClosed(_)), "{what}: {end:?}");
        }
        refused += 1.0;
        let counted = || async { (edge.refused("client_certificate").await == refused).then_some(()) };
        until(what, counted).await;
    }
    assert_eq!(upstream.count(), 0);
    let endpoint = endpoint(&edge.authority, Some(&ada), TransportConfig::default());
    let mut client = Client::by(endpoint, edge.address, SHOP).await.unwrap();
    let forged = Request::get("/").header("x-forwarded-client-cert", "Hash=00").body(()).unwrap();
    assert_eq!(client.ask(forged, Bytes::new()).await.status(), 200);
    let told = format!("Hash={};Subject=\"CN=ada\";DNS=ada.test", ada.fingerprint());
    assert_eq!(upstream.last().header("x-forwarded-client-cert"), told);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn name_that_no_certificate_has_is_refused_where_it_is_to_be() {
    let upstream = Upstream::named("one").await;
    let tls = "unknown_name: refuse";
    let edge = Edge::with(upstream.address, Settings { tls, ..Settings::default() }).await;
    let client = endpoint(&edge.authority, None, TransportConfig::default());
    assert!(Client::by(client, edge.address, "other.test").await.is_err());
    until("it counts", || async { (edge.refused("server_name").await == 1.0).then_some(()) }).await;
    edge.assert_in_order().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connection_is_told_and_closed_and_a_busy_one_is_not() {
    let (upstream, open) = Upstream::gated().await;
    let listener = "timeouts: { idle: 300ms }";
    let edge = Edge::with(upstream.address, Settings { listener, ..Settings::default() }).await;
    let client = edge.connect().await;
    let mut busy = edge.connect().await;
    let mut stream = busy.begin(Request::post("/").body(()).unwrap()).await.unwrap();
    assert!(is_orderly(&timeout(PATIENCE, client.connection.closed()).await.expect("an end")));
    assert!(busy.connection.close_reason().is_none());
    stream.finish().await.unwrap();
    open.send_replace(true);
    let answer = timeout(PATIENCE, answer(&mut stream)).await.expect("an answer").unwrap();
    assert_eq!((answer.status(), answer.text()), (200, "at last"));
    assert!(is_orderly(&timeout(PATIENCE, busy.connection.closed()).await.expect("an end")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upgrade_lets_clients_finish_and_the_new_process_takes_the_port_then() {
    let (upstream, open) = Upstream::gated().await;
    let sections = format!(
        "upstreams: {{ one: {{ endpoints: ['{}'] }} }}\nroutes: [{{ upstream: one }}]\n",
        upstream.address
    );
    let (authority, _folder, rest) = certified("", "", &sections);
    let lineage = Lineage::start(&text(2, "127.0.0.1:0", true, &rest)).await;
    let address = lineage.address().await;
    let mut client = Client::connect(&authority, address, SHOP).await;
    let mut stream = client.begin(Request::get("/").body(()).unwrap()).await.unwrap();
    stream.finish().await.unwrap();
    until("the request is on its way", || async { (upstream.count() == 1).then_some(()) }).await;
    let former = lineage.upgrade().await;
    open.send_replace(true);
    let answer = timeout(PATIENCE, answer(&mut stream)).await.expect("an answer").unwrap();
    assert_eq!((answer.status(), answer.text()), (200, "at last"));
    assert!(is_orderly(&timeout(PATIENCE, client.connection.closed()).await.expect("an end")));
    assert_eq!(lineage.code(former).await, 0);
    let served = || async {
        let endpoint = endpoint(&authority, None, TransportConfig::default());
        let mut client = Client::by(endpoint, address, SHOP).await.ok()?;
        (client.get("/").await.status() == 200).then_some(())
    };
    until("the new process serves HTTP/3", served).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn response_that_never_ends_is_broken_off_when_it_has_to_go() {
    let upstream = Upstream::answering(|_| async {
        let (sender, body) = piped();
        tokio::spawn(async move {
            while sender.send(Frame::data(Bytes::from_static(b"more"))).await.is_ok() {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        });
        Response::new(body)
    })
    .await;
    let sections = format!(
        "shutdown_timeout: 1s\nupstreams: {{ one: {{ endpoints: ['{}'] }} }}\nroutes: [{{ upstream: one }}]\n",
        upstream.address
    );
    let edge = Edge::serving(1, "", "", &sections).await;
    let mut client = edge.connect().await;
    let mut stream = client.begin(Request::get("/").body(()).unwrap()).await.unwrap();
    stream.finish().await.unwrap();
    assert_eq!(timeout(PATIENCE, stream.recv_response()).await.expect("an answer").unwrap().status(), 200);
    edge.proxy.replace(&edge.text(false)).await;
    let error = timeout(PATIENCE, rest(&mut stream)).await.expect("an end").expect_err("a part is no whole");
    assert!(matches!(error, StreamError::RemoteTerminate { code: Code::H3_INTERNAL_ERROR }), "{error}");
    assert!(is_orderly(&timeout(PATIENCE, client.connection.closed()).await.expect("an end")));
}
