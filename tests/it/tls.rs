//! TLS of clients, with real peers: what is agreed on, which certificate is shown, who gets in, and that nobody else
//! notices who does not.

mod clients;
mod handshake;
mod hostile;
mod names;
mod peers;
mod redirect;
mod renewal;

use std::net::SocketAddr;
use std::path::Path;

use tempfile::TempDir;

use crate::support::proxy::tcp;
use crate::support::tls::{Authority, Leaf, Wanted};
use crate::support::{Proxy, Upstream};

/// A proxy with a plain listener and one with TLS, before an upstream that says its name.
pub struct Edge {
    /// The proxy.
    pub proxy: Proxy,
    /// Where TLS is spoken.
    pub address: SocketAddr,
    /// What it leads to.
    pub upstream: Upstream,
    /// Who issued the proxy's certificates.
    pub authority: Authority,
    /// Where the certificates are.
    pub folder: TempDir,
}

/// The name of the certificate that an edge has unless a test wants others.
pub const SHOP: &str = "shop.test";

impl Edge {
    /// One with a certificate for [`SHOP`], and `tls` as further keys of its section.
    pub async fn open(tls: &str) -> Self {
        Self::with(tls, "", |authority, folder| {
            let leaf = authority.issue(&Wanted::of(&[SHOP, "127.0.0.1"]));
            vec![leaf.write(folder, "shop")]
        })
        .await
    }

    /// One with the certificates that `make` writes, further keys of `tls` and of the listener.
    pub async fn with(
        tls: &str,
        listener: &str,
        make: impl FnOnce(&Authority, &Path) -> Vec<String>,
    ) -> Self {
        let authority = Authority::new("servers");
        let folder = tempfile::tempdir().unwrap();
        let certificates = make(&authority, folder.path()).join(", ");
        let upstream = Upstream::named("one").await;
        let text = format!(
            "workers: 2\nlisteners:\n  - {{ name: plain, bind: 127.0.0.1:0 }}\n  - name: edge\n    bind: \
             127.0.0.1:0\n{listener}    tls:\n      certificates: [{certificates}]\n{tls}upstreams: {{ one: {{ \
             endpoints: ['{}'] }} }}\nroutes: [{{ upstream: one }}]\n",
            upstream.address
        );
        let text = text.replace("FOLDER", &folder.path().display().to_string());
        let proxy = Proxy::start_whole(&text).await;
        let address = tcp(&proxy.app.addresses()[1]);
        Self { proxy, address, upstream, authority, folder }
    }

    /// How many connections were refused for `cause`.
    pub async fn refused(&self, cause: &str) -> f64 {
        let labels = ["listener=\"edge\"", &format!("cause=\"{cause}\"")];
        self.proxy.metric("weir_downstream_refused_total", &labels).await
    }

    /// Writes the certificate `leaf` over that of `name`, each file by rename.
    pub fn renew(&self, leaf: &Leaf, name: &str) {
        let folder = self.folder.path();
        for (end, content) in [("pem", leaf.cert_pem()), ("key", leaf.key_pem())] {
            std::fs::write(folder.join("next"), content).unwrap();
            std::fs::rename(folder.join("next"), folder.join(format!("{name}.{end}"))).unwrap();
        }
    }
}
