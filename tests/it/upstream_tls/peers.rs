//! Servers of others: what `openssl s_server` makes of us.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use super::{Ground, outcome, stage};
use crate::support::raw::exchange;

/// `openssl s_server -www` with these arguments. It is killed when dropped.
struct OpenSsl {
    child: Child,
    address: SocketAddr,
}

impl OpenSsl {
    fn start(ground: &Ground, arguments: &[&str]) -> Self {
        let leaf = ground.leaf();
        let (cert, key) = (ground.write("server.pem", &leaf.cert), ground.write("server.key", &leaf.key));
        let mut child = Command::new("openssl")
            .args(["s_server", "-www", "-accept", "127.0.0.1:0", "-cert"])
            .arg(cert)
            .arg("-key")
            .arg(key)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl is installed");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = loop {
            let line = lines.next().expect("it says where it listens").unwrap();
            if let Some(address) = line.strip_prefix("ACCEPT ") {
                break address.parse().unwrap();
            }
        };
        // It stops when nobody reads what it says.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address }
    }
}

impl Drop for OpenSsl {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn openssl_is_asked_as_configured() {
    let ground = Ground::new();
    let own = ground.certificate("own", &ground.ca.issue(&["proxy"]));
    let ca = ground.folder.path().join("ca.pem");
    let ca = ca.to_str().unwrap();
    let verify = ["-Verify", "1", "-verify_return_error", "-CAfile", ca];
    let rows: Vec<(&[&str], &str, &str, &str)> = vec![
        (&[], "http1", "", "TLSv1.3"),
        (&["-tls1_3"], "http1", "", "TLSv1.3"),
        (&["-tls1_2"], "http1", "", "TLSv1.2"),
        (&["-tls1_2"], "http1", "min_version: 1.3", "502 upstream_tls"),
        (&["-alpn", "http/1.1"], "http1", "", "TLSv1.3"),
        (&["-alpn", "http/1.1"], "auto", "", "TLSv1.3"),
        (&[], "auto", "", "TLSv1.3"),
        (&["-alpn", "http/1.1"], "http2", "", "502 upstream_tls"),
        (&[], "http2", "", "502 upstream_tls"),
        (&verify, "http1", &own, "TLSv1.3"),
        (&verify, "http1", "", "502 upstream_tls"),
    ];
    for (arguments, protocol, more, expected) in rows {
        let server = OpenSsl::start(&ground, arguments);
        let stage = stage(&[format!("https://{}", server.address)], protocol, &ground.tls(more)).await;
        let row = format!("{arguments:?} {protocol} {more}");
        for _ in 0..2 {
            let said = outcome(&stage).await;
            assert!(said.contains(expected), "{row}: {said}");
        }
        stage.assert_in_order().await;
    }
}

#[tokio::test]
async fn session_of_openssl_is_resumed() {
    let ground = Ground::new();
    for version in ["-tls1_2", "-tls1_3"] {
        let server = OpenSsl::start(&ground, &[version]);
        let stage = stage(&[format!("https://{}", server.address)], "http1", &ground.tls("")).await;
        let first = exchange(stage.proxy.address, super::GET).await;
        assert!(first.contains("\nNew, TLSv1"), "{version}: {first}");
        let second = exchange(stage.proxy.address, super::GET).await;
        assert!(second.contains("\nReused, TLSv1"), "{version}: {second}");
    }
}
