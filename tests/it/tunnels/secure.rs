//! Tunnels through TLS on both sides: bytes both ways at once, and sides that end by themselves.

use futures_util::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::Message;

use super::raw::{ASKING, SWITCH};
use super::{hear, say};
use crate::support::proxy::tcp;
use crate::support::raw::{exchange, status};
use crate::support::secure::{Secure, Terms, server};
use crate::support::stage::Settings;
use crate::support::tls::{Authority, Client, VERSIONS, Wanted};
use crate::support::websocket::connect;
use crate::support::{PATIENCE, Proxy, Stage, certs};

/// More than all buffers on the way hold.
const SIZE: usize = 8 * 1024 * 1024;

fn pattern(salt: usize) -> Vec<u8> {
    (0..SIZE).map(|at| u8::try_from((at * 7 + at / 251 + salt) % 256).unwrap()).collect()
}

#[tokio::test]
async fn bytes_pass_both_ways_at_once_and_each_side_ends_by_itself() {
    let (ours, theirs) = (Authority::new("servers"), certs::Authority::new("endpoints"));
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("ca.pem"), theirs.pem()).unwrap();
    let certificate = ours.issue(&Wanted::of(&["shop.test"])).write(folder.path(), "shop");
    for version in VERSIONS {
        let leaf = theirs.issue(&["127.0.0.1"]);
        let terms = Terms { versions: &[version], ..Terms::default() };
        let endpoint = Secure::scripted(server(&leaf, terms), |mut stream| async move {
            assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
            stream.write_all(SWITCH.as_bytes()).await.unwrap();
            let (mut read, mut write) = tokio::io::split(stream);
            let writing = async {
                write.write_all(&pattern(1)).await.unwrap();
                write.flush().await.unwrap();
            };
            let mut heard = Vec::new();
            let (heard_all, ()) = tokio::join!(read.read_to_end(&mut heard), writing);
            heard_all.expect("the client's end is an orderly one");
            assert!(heard == pattern(0));
            // The client has ended, and still hears.
            write.write_all(b"bye").await.unwrap();
            write.shutdown().await.unwrap();
        })
        .await;
        let text = format!(
            "workers: 1\nlisteners:\n  - bind: 127.0.0.1:0\n    tls: {{ certificates: [{certificate}] }}\n\
             upstreams: {{ one: {{ endpoints: ['{}'], protocol: http1, tls: {{ ca: FOLDER/ca.pem }} }} }}\n\
             routes: [{{ upstream: one }}]\n",
            endpoint.endpoint()
        );
        let proxy = Proxy::start_whole(&text.replace("FOLDER", &folder.path().display().to_string())).await;
        let client = Client::new(&ours, &[version]).alpn(&["http/1.1"]);
        let mut stream = client.connect(tcp(&proxy.app.addresses()[0]), "shop.test").await;
        stream.write_all(ASKING.as_bytes()).await.unwrap();
        let (mut read, mut write) = tokio::io::split(stream);
        let writing = async {
            write.write_all(&pattern(0)).await.unwrap();
            write.shutdown().await.unwrap();
        };
        let mut heard = Vec::new();
        let both = async { tokio::join!(read.read_to_end(&mut heard), writing).0 };
        tokio::time::timeout(PATIENCE, both).await.expect("it ends").expect("in order");
        let at = heard.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        assert!(heard[at..] == [&pattern(1)[..], b"bye"].concat(), "{version:?}");
    }
}

#[tokio::test]
async fn endpoint_that_chooses_http2_and_takes_no_tunnel_there_is_asked_over_http1() {
    let theirs = certs::Authority::new("endpoints");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("ca.pem"), theirs.pem()).unwrap();
    let terms = Terms { alpn: &["h2", "http/1.1"], ..Terms::default() };
    let endpoint = Secure::scripted(server(&theirs.issue(&["127.0.0.1"]), terms), |stream| async move {
        if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                respond.send_response(http::Response::new(()), true).unwrap();
            }
        } else {
            let socket = tokio_tungstenite::accept_async(stream).await.unwrap();
            let (write, read) = socket.split();
            drop(read.forward(write).await);
        }
    })
    .await;
    for is_http2 in [false, true] {
        let upstream = format!("tls: {{ ca: '{}/ca.pem' }}", folder.path().display());
        let settings = Settings { protocol: "auto", upstream: &upstream, ..Settings::default() };
        let stage = Stage::with(&[endpoint.endpoint()], settings).await;
        for _ in 0..2 {
            let (mut socket, _) = connect(stage.proxy.address, is_http2, "/", &[]).await.unwrap();
            say(&mut socket, Message::text("hello")).await;
            assert_eq!(hear(&mut socket).await, Message::text("hello"));
        }
        let answer =
            exchange(stage.proxy.address, "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
        assert_eq!(status(&answer), 200);
        let spoken: Vec<_> = endpoint.shakes().iter().filter_map(|shake| shake.alpn.clone()).collect();
        assert_eq!(
            spoken[spoken.len() - 3..],
            ["h2", "http/1.1", "http/1.1"],
            "one connection of HTTP/2 for all"
        );
        stage.assert_in_order().await;
    }
}
