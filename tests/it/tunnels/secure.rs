//! Tunnels through TLS on both sides: bytes both ways at once, and sides that end by themselves.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::raw::{ASKING, SWITCH};
use crate::support::proxy::tcp;
use crate::support::secure::{Secure, Terms, server};
use crate::support::tls::{Authority, Client, VERSIONS, Wanted};
use crate::support::{PATIENCE, Proxy, certs};

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
