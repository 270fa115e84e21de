//! Certificates by ACME, from Pebble and by both challenges: got, served, kept, renewed; and what is served and told
//! while none can be got.

mod order;
mod proofs;
mod trouble;
mod upgrade;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::pebble::{Pebble, Way};
use crate::support::proxy::tcp;
use crate::support::tls::Client;
use crate::support::{Proxy, Upstream, until};

/// The name that is asked for.
pub const SHOP: &str = "shop.example.com";

/// A proxy with a plain listener and one whose certificate comes by ACME.
pub struct Site {
    /// The proxy.
    pub proxy: Proxy,
    /// The listener with TLS.
    pub edge: SocketAddr,
    _upstream: Upstream,
}

impl Site {
    /// One that keeps what it gets in `state`; `acme` are the keys of its section.
    pub async fn open(state: &TempDir, acme: &str) -> Self {
        let upstream = Upstream::named("one").await;
        let text = format!(
            "workers: 2\nstate_dir: '{}'\nadmin: {{ bind: 127.0.0.1:0 }}\nlisteners:\n  - {{ name: plain, bind: \
             127.0.0.1:0 }}\n  - {{ name: edge, bind: 127.0.0.1:0, tls: {{ acme: {{ terms_agreed: true, {acme} }} }} \
             }}\nupstreams: {{ one: {{ endpoints: ['{}'] }} }}\nroutes: [{{ upstream: one }}]\n",
            state.path().join("state").display(),
            upstream.address
        );
        let proxy = Proxy::start_whole(&text).await;
        let edge = tcp(&proxy.app.addresses()[1]);
        Self { proxy, edge, _upstream: upstream }
    }

    /// Pebble for this site.
    pub async fn pebble(&self, way: &Way, more: &str) -> Pebble {
        Pebble::start(way, self.proxy.address.port(), self.edge.port(), more).await
    }

    /// What `/status` says of the certificate.
    pub async fn certificate(&self) -> Value {
        let text = reqwest::get(self.proxy.admin("/status")).await.unwrap().text().await.unwrap();
        let status: Value = serde_json::from_str(&text).unwrap();
        let certificates = status["certificates"].as_array().unwrap();
        assert_eq!(certificates.len(), 1, "{text}");
        certificates[0].clone()
    }

    /// How many certificates were asked for, by result.
    pub async fn renewals(&self, result: &str) -> f64 {
        self.proxy.metric("weir_acme_renewals_total", &[&format!("result=\"{result}\"")]).await
    }

    /// Waits until as many certificates were asked for in vain.
    pub async fn has_failed(&self, times: f64) {
        until("it fails", || async { (self.renewals("failure").await >= times).then_some(()) }).await;
    }

    /// Waits until as many certificates were got.
    pub async fn has_got(&self, times: f64) {
        until("a certificate is got", || async {
            if self.renewals("success").await >= times {
                return Some(());
            }
            let certificate = self.certificate().await;
            assert!(certificate["acme"]["last_error"].is_null(), "{certificate}");
            None
        })
        .await;
    }

    /// The certificate that a client sees which believes `roots`.
    pub async fn shown(&self, roots: &RootCertStore) -> CertificateDer<'static> {
        let stream = client(roots).connect(self.edge, SHOP).await;
        stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
    }
}

/// A client that believes `roots`, and was never here before.
pub fn client(roots: &RootCertStore) -> Client {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Client { config: builder.with_root_certificates(roots.clone()).with_no_client_auth() }
}

/// The one file in `folder` of what is kept.
pub fn kept(state: &TempDir, folder: &str) -> PathBuf {
    let entries = std::fs::read_dir(state.path().join("state/acme").join(folder)).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    assert_eq!(paths.len(), 1, "{paths:?}");
    paths.remove(0)
}
