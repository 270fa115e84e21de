//! HTTP/3 with the client of the h3 crate over real UDP, and with QUIC alone where no client would say it.

mod bodies;
mod ends;
mod hostile;
mod plain;

use std::net::SocketAddr;

use tempfile::TempDir;

use crate::support::http3::Client;
use crate::support::proxy::tcp;
use crate::support::tls::{Authority, Wanted};
use crate::support::{Proxy, until};

/// The name in the certificate.
const SHOP: &str = "shop.test";

/// A proxy with a listener that serves HTTP/3 beside HTTP/1.1 and HTTP/2.
struct Edge {
    proxy: Proxy,
    /// Where TLS over TCP and QUIC over UDP are spoken.
    address: SocketAddr,
    authority: Authority,
    folder: TempDir,
    rest: String,
}

/// What a test sets; all of it YAML, in flow style.
#[derive(Debug, Clone, Copy)]
struct Settings<'a> {
    /// The protocol of the endpoint.
    protocol: &'a str,
    /// More keys of the listener.
    listener: &'a str,
    /// More keys of its TLS.
    tls: &'a str,
    /// How many workers there are.
    workers: usize,
}

impl Default for Settings<'_> {
    fn default() -> Self {
        Self { protocol: "http1", listener: "", tls: "", workers: 1 }
    }
}

impl Edge {
    /// One before an endpoint over HTTP/1.1.
    async fn before(endpoint: SocketAddr) -> Self {
        Self::with(endpoint, Settings::default()).await
    }

    /// One before an endpoint, with settings.
    async fn with(endpoint: SocketAddr, settings: Settings<'_>) -> Self {
        let Settings { protocol, listener, tls, workers } = settings;
        let sections = format!(
            "upstreams: {{ one: {{ endpoints: ['{endpoint}'], protocol: {protocol} }} }}\nroutes: [{{ upstream: one \
             }}]\n"
        );
        Self::serving(workers, listener, tls, &sections).await
    }

    /// One with these sections.
    async fn serving(workers: usize, listener: &str, tls: &str, sections: &str) -> Self {
        let (authority, folder, rest) = certified(listener, tls, sections);
        let proxy = Proxy::start_whole(&text(workers, "127.0.0.1:0", true, &rest)).await;
        let address = tcp(&proxy.app.addresses()[0]);
        Self { proxy, address, authority, folder, rest }
    }

    /// The configuration with HTTP/3 switched on or off.
    fn text(&self, http3: bool) -> String {
        text(1, "127.0.0.1:0", http3, &self.rest)
    }

    async fn connect(&self) -> Client {
        Client::connect(&self.authority, self.address, SHOP).await
    }

    async fn refused(&self, cause: &str) -> f64 {
        let labels = ["listener=\"edge\"", &format!("cause=\"{cause}\"")];
        self.proxy.metric("weir_downstream_refused_total", &labels).await
    }

    /// Passes when a new client is served, and nothing is left of the others: no request and no connection.
    async fn assert_in_order(&self) {
        self.assert_in_order_saying(200).await;
    }

    /// The same where the upstream answers with `status`.
    async fn assert_in_order_saying(&self, status: u16) {
        let mut client = self.connect().await;
        assert_eq!(client.get("/well").await.status(), status);
        client.connection.close(0x100_u32.into(), b"");
        for gauge in ["weir_upstream_requests_active", "weir_downstream_connections_active"] {
            let none = || async { (self.proxy.metric(gauge, &[]).await == 0.0).then_some(()) };
            until(gauge, none).await;
        }
    }
}

fn text(workers: usize, bind: &str, http3: bool, rest: &str) -> String {
    format!("workers: {workers}\nlisteners: [{{ name: edge, bind: '{bind}', http3: {http3}{rest}")
}

/// A certificate in a folder, who made it, and the rest of a configuration that has it.
fn certified(listener: &str, tls: &str, sections: &str) -> (Authority, TempDir, String) {
    let authority = Authority::new("servers");
    let folder = tempfile::tempdir().unwrap();
    let leaf = authority.issue(&Wanted::of(&[SHOP])).write(folder.path(), "shop");
    std::fs::write(folder.path().join("clients.pem"), authority.pem()).unwrap();
    let further = |keys: &str| if keys.is_empty() { String::new() } else { format!(", {keys}") };
    let (listener, tls) = (further(listener), further(tls));
    let rest = format!("{listener}, tls: {{ certificates: [{leaf}]{tls} }} }}]\n{sections}");
    let rest = rest.replace("FOLDER", &folder.path().display().to_string());
    (authority, folder, rest)
}
