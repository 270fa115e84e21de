//! The upstreams of the demo: small HTTP/1.1 servers in this process, one on each address of this machine that the
//! configuration names. Each answers with the name of its upstream, and with its address in a header.
//!
//! An address where another program listens is left to it: its answers are not ours to judge.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;

use crate::config::Config;
use crate::front::{Socket, bind};
use crate::net::Io;
use crate::types::{BindAddress, EndpointAddress};

/// The response header that says at which address a request arrived.
pub(super) const ENDPOINT: HeaderName = HeaderName::from_static("x-demo-endpoint");

/// The upstreams that run. They end when this is dropped.
#[derive(Debug, Default)]
pub(super) struct Upstreams {
    bound: HashMap<BindAddress, Arc<Name>>,
    foreign: Vec<String>,
    tasks: JoinSet<()>,
}

/// What an upstream is called; an edit may rename it.
#[derive(Debug)]
struct Name(Mutex<String>);

/// How an endpoint is written in [`ENDPOINT`].
pub(super) fn label(endpoint: &EndpointAddress) -> String {
    local(endpoint).map_or_else(|| endpoint.to_string(), |address| address.to_string())
}

/// The address of an endpoint of this machine.
fn local(endpoint: &EndpointAddress) -> Option<BindAddress> {
    let address = match endpoint {
        EndpointAddress::Unix(path) => BindAddress::Unix(path.clone()),
        // The demonstration's own upstreams speak no TLS.
        EndpointAddress::Tcp { tls: true, .. } => return None,
        EndpointAddress::Tcp { host, port, .. } => {
            let host = if host == "localhost" { "127.0.0.1" } else { host };
            BindAddress::Tcp((host.parse::<std::net::IpAddr>().ok()?, *port).into())
        }
    };
    address.is_local().then_some(address)
}

impl Upstreams {
    /// Listens on every address of this machine that `config` names and that is free.
    pub(super) fn provide(&mut self, config: &Config) {
        self.foreign.clear();
        for upstream in config.upstreams.values() {
            for address in upstream.endpoints.iter().filter_map(|endpoint| local(&endpoint.address)) {
                let name = upstream.name.as_str();
                if let Some(known) = self.bound.get(&address) {
                    name.clone_into(&mut known.0.lock().unwrap_or_else(PoisonError::into_inner));
                } else if let Some(name) = self.listen(&address, name) {
                    self.bound.insert(address, name);
                } else {
                    self.foreign.push(format!(
                        "{address} (upstream {name}) is not the demo's: in use, or not to be had"
                    ));
                }
            }
        }
    }

    /// Addresses that the configuration names and that are not ours, each with a sentence.
    pub(super) fn foreign(&self) -> &[String] {
        &self.foreign
    }

    fn listen(&mut self, address: &BindAddress, name: &str) -> Option<Arc<Name>> {
        let (sockets, bound) = bind::bind(address, 1).ok()?;
        let answer = HeaderValue::try_from(bound.to_string()).ok()?;
        let listening = match sockets.into_iter().next()? {
            Socket::Tcp(socket) => Listening::Tcp(TcpListener::from_std(socket).ok()?),
            Socket::Unix(socket) => Listening::Unix(UnixListener::from_std(socket).ok()?),
        };
        let name = Arc::new(Name(Mutex::new(name.to_owned())));
        self.tasks.spawn(serve(listening, Arc::clone(&name), answer));
        Some(name)
    }
}

#[derive(Debug)]
enum Listening {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listening {
    async fn accept(&self) -> std::io::Result<Io> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Io::from(stream))
            }
            Self::Unix(listener) => listener.accept().await.map(|(stream, _)| Io::from(stream)),
        }
    }
}

async fn serve(listening: Listening, name: Arc<Name>, endpoint: HeaderValue) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listening.accept() => {
                // A peer that was gone before it was accepted is nothing to tell.
                let Ok(io) = accepted else { continue };
                let (name, endpoint) = (Arc::clone(&name), endpoint.clone());
                connections.spawn(async move {
                    let service = service_fn(move |_| {
                        let response = answer(&name, &endpoint);
                        async move { Ok::<_, Infallible>(response) }
                    });
                    // The proxy closes its connections when it likes.
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(io), service).await;
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

fn answer(name: &Name, endpoint: &HeaderValue) -> Response<Full<Bytes>> {
    let name = name.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let mut response = Response::new(Full::from(name + "\n"));
    response.headers_mut().insert(ENDPOINT, endpoint.clone());
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_this_machine_are_ours_and_localhost_is_one() {
        let rows = [
            ("127.0.0.1:8081", Some("127.0.0.1:8081")),
            ("localhost:8081", Some("127.0.0.1:8081")),
            ("[::1]:8081", Some("[::1]:8081")),
            ("unix:/run/a.sock", Some("unix:/run/a.sock")),
            ("10.0.0.1:8081", None),
            ("shop.example.com:80", None),
        ];
        for (text, expected) in rows {
            let endpoint = EndpointAddress::parse(text).unwrap();
            assert_eq!(local(&endpoint).map(|address| address.to_string()).as_deref(), expected, "{text}");
            assert_eq!(label(&endpoint), expected.unwrap_or(text), "{text}");
        }
    }
}
