//! A proxy under test.

use std::net::SocketAddr;
use std::path::PathBuf;

use tempfile::TempDir;
use weir::app::App;
use weir::types::{BindAddress, Generation};

use super::until;

/// A proxy in this process, serving a configuration in a folder of its own.
pub struct Proxy {
    /// The application.
    pub app: App,
    /// The folder that holds the configuration.
    pub folder: TempDir,
    /// The configuration.
    pub path: PathBuf,
    /// Where the first listener listens.
    pub address: SocketAddr,
}

/// The head of most configurations: one listener on a port of the kernel's choice, the admin pages too.
pub const HEAD: &str = "workers: 2\nlisteners: [{ bind: 127.0.0.1:0 }]\nadmin: { bind: 127.0.0.1:0 }\n";

impl Proxy {
    /// Serves [`HEAD`] followed by `rest`.
    pub async fn start(rest: &str) -> Self {
        Self::start_whole(&format!("{HEAD}{rest}")).await
    }

    /// Serves `text`.
    pub async fn start_whole(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weir.yaml");
        std::fs::write(&path, text).unwrap();
        let app = App::start(path.clone()).await.unwrap_or_else(|error| panic!("{error:?}\n{text}"));
        let address = tcp(&app.addresses()[0]);
        Self { app, folder, path, address }
    }

    /// The URL of `path` on the first listener.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The URL of `path` on the admin address.
    pub fn admin(&self, path: &str) -> String {
        format!("http://{}{path}", tcp(&self.app.admin_address().unwrap()))
    }

    /// The generation that serves.
    pub fn generation(&self) -> Generation {
        self.app.current().generation()
    }

    /// Replaces the configuration by rename and waits until it serves.
    pub async fn replace(&self, text: &str) {
        let before = self.generation();
        let next = self.folder.path().join("next");
        std::fs::write(&next, text).unwrap();
        std::fs::rename(&next, &self.path).unwrap();
        until("the new configuration serves", || async { (self.generation() > before).then_some(()) }).await;
    }

    /// The metrics as text.
    pub async fn metrics(&self) -> String {
        String::from_utf8(self.app.metrics().encode().unwrap()).unwrap()
    }

    /// The value of the series `name{labels}` whose labels contain every one of `labels` (as `key="value"`); 0 where
    /// there is none.
    pub async fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        value(&self.metrics().await, name, labels)
    }
}

/// The value of the series `name{labels}` in `metrics` as text, as [`Proxy::metric`] has it.
pub fn value(metrics: &str, name: &str, labels: &[&str]) -> f64 {
    let rows = metrics.lines().filter(|line| {
        let rest = line.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
            && labels.iter().all(|label| line.contains(label))
    });
    rows.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// The TCP address in `address`.
pub fn tcp(address: &BindAddress) -> SocketAddr {
    match address {
        BindAddress::Tcp(address) => *address,
        BindAddress::Unix(path) => panic!("{} is no TCP address", path.display()),
    }
}
