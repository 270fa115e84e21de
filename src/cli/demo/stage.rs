//! The stage: upstreams and proxy, started from the file. The proxy is the real one, [`App`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use http::header::HeaderValue;

use super::file;
use super::load::Target;
use super::upstreams::Upstreams;
use crate::app::App;
use crate::config::{self, Rejected};
use crate::state::writer::StartError;
use crate::types::BindAddress;
use crate::upstream::Address;

/// How long requests in flight may take at the end.
const DRAIN: Duration = Duration::from_secs(5);

/// How old a new file grows before it is served: of a younger one the watcher could not tell whether it was written
/// before it was read, and would have it applied twice.
const AGE: Duration = Duration::from_millis(50);

/// Upstreams and proxy that run.
#[derive(Debug)]
pub(super) struct Stage {
    /// The proxy.
    pub(super) app: App,
    /// The upstreams.
    pub(super) upstreams: Upstreams,
}

/// Why there is no stage.
#[derive(Debug)]
pub(super) enum Failed {
    /// The file is refused.
    Refused(Box<Rejected>),
    /// Something else.
    Error(anyhow::Error),
}

impl From<anyhow::Error> for Failed {
    fn from(error: anyhow::Error) -> Self {
        Self::Error(error)
    }
}

impl Stage {
    /// Starts what the file at `path` says; writes that file first where there is none.
    ///
    /// # Errors
    /// [`Failed`]; nothing runs then.
    pub(super) async fn set(path: &Path) -> Result<Self, Failed> {
        let is_new = file::provide(path)?;
        if is_new {
            tokio::time::sleep(AGE).await;
        }
        match Self::start(path).await {
            // Somebody took a port between our look at it and now.
            Ok(stage) if is_new && !stage.upstreams.foreign().is_empty() => stage.end().await,
            Err(Failed::Error(_)) if is_new => {}
            Err(Failed::Error(error)) => {
                let file = path.display();
                let advice = format!("{file} is taken as it stands, move it away to get a new one");
                return Err(anyhow::anyhow!("{error:#} ({advice})").into());
            }
            done => return done,
        }
        file::renew(path)?;
        tokio::time::sleep(AGE).await;
        Self::start(path).await
    }

    async fn start(path: &Path) -> Result<Self, Failed> {
        let accepted =
            load(path.to_owned()).await?.map_err(|rejected| Failed::Refused(Box::new(rejected)))?;
        let mut upstreams = Upstreams::default();
        upstreams.provide(&accepted.config);
        match App::start(path.to_owned()).await {
            Ok(app) => Ok(Self { app, upstreams }),
            Err(StartError::Refused(rejected)) => Err(Failed::Refused(rejected)),
            Err(error) => Err(Failed::Error(error.into())),
        }
    }

    /// Where the load goes: the first listener, once it listens.
    pub(super) fn target(&self) -> Option<Target> {
        Some(match self.app.addresses().into_iter().next()? {
            BindAddress::Unix(path) => {
                Target { address: Address::Unix(path), host: HeaderValue::from_static("localhost") }
            }
            BindAddress::Tcp(mut address) => {
                let here = match address.ip() {
                    IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
                    IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
                    ip => ip,
                };
                address.set_ip(here);
                let host = HeaderValue::try_from(address.to_string()).ok()?;
                Target { address: Address::Tcp(address), host }
            }
        })
    }

    /// Finishes what is in flight and ends.
    pub(super) async fn end(self) {
        self.app.shutdown(DRAIN).await;
    }
}

async fn load(path: PathBuf) -> anyhow::Result<Result<config::Accepted, Rejected>> {
    tokio::task::spawn_blocking(move || config::load(&path))
        .await
        .context("the configuration could not be read")
}
