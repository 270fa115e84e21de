//! TLS to upstreams: who is believed, which protocol is chosen, and what becomes of a request when TLS fails.

mod bodies;
mod peers;
mod protocols;
mod trust;

use std::path::PathBuf;

use tempfile::TempDir;

use crate::support::Stage;
use crate::support::certs::{Authority, Leaf};
use crate::support::raw::{exchange, status};
use crate::support::stage::Settings;

const GET: &str = "GET / HTTP/1.1\r\nhost: shop.test\r\nconnection: close\r\n\r\n";

/// An authority, and a folder with its certificate in `ca.pem`.
struct Ground {
    folder: TempDir,
    ca: Authority,
}

impl Ground {
    fn new() -> Self {
        let ground = Self { folder: tempfile::tempdir().unwrap(), ca: Authority::new("Test CA") };
        ground.write("ca.pem", &ground.ca.pem());
        ground
    }

    /// The path of a file with this content, put there whole.
    fn write(&self, name: &str, content: &str) -> PathBuf {
        let (path, next) = (self.folder.path().join(name), self.folder.path().join("next"));
        std::fs::write(&next, content).unwrap();
        std::fs::rename(&next, &path).unwrap();
        path
    }

    /// The `tls` section that believes the authority, with `more` keys.
    fn tls(&self, more: &str) -> String {
        let ca = self.folder.path().join("ca.pem");
        let more = if more.is_empty() { String::new() } else { format!(", {more}") };
        format!("tls: {{ ca: '{}'{more} }}", ca.display())
    }

    /// The key `certificate` with this leaf, in files of its own.
    fn certificate(&self, name: &str, leaf: &Leaf) -> String {
        let cert = self.write(&format!("{name}.pem"), &leaf.cert);
        let key = self.write(&format!("{name}.key"), &leaf.key);
        format!("certificate: {{ cert: '{}', key: '{}' }}", cert.display(), key.display())
    }

    /// A certificate for the address that upstreams of tests have.
    fn leaf(&self) -> Leaf {
        self.ca.issue(&["127.0.0.1"])
    }
}

/// A proxy before `endpoints` with these keys of the upstream.
async fn stage<E: std::fmt::Display>(endpoints: &[E], protocol: &str, upstream: &str) -> Stage {
    Stage::with(endpoints, Settings { protocol, upstream, ..Settings::default() }).await
}

/// What a plain request comes to: `200` and the body, or the status and the failure's code.
async fn outcome(stage: &Stage) -> String {
    let answer = exchange(stage.proxy.address, GET).await;
    let status = status(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let code = head.lines().find_map(|line| line.strip_prefix("x-weir-error: "));
    format!("{status} {}", code.unwrap_or(body))
}

async fn tls_failures(stage: &Stage) -> f64 {
    let labels = ["upstream=\"one\"", "cause=\"tls\""];
    stage.proxy.metric("weir_upstream_failures_total", &labels).await
}
