//! HTTP/3 of listeners: UDP sockets beside those of TCP. They are bound with the listener, or when a reload switches HTTP/3
//! on, and given to the workers. After an upgrade the port is the former process's for as long as that has clients of
//! HTTP/3; the listener goes without until then, and its clients come over TCP.

use std::net::UdpSocket;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::sync::mpsc;
use tracing::{debug, info};

use super::bound::{Bound, Front, lock, tell};
use super::spawn;
use crate::front::{Command, bind};
use crate::net::Drain;
use crate::telemetry::{ListenerId, Metrics};

/// How often a port is asked for that the former process still has.
const AGAIN: Duration = Duration::from_millis(250);

impl Front {
    /// Has every worker serve HTTP/3 on its own one of `sockets`; nothing where there are none.
    pub(super) fn serve_http3(
        &mut self,
        id: ListenerId,
        sockets: Vec<UdpSocket>,
        workers: &[mpsc::UnboundedSender<Command>],
    ) {
        if sockets.is_empty() {
            return;
        }
        info!(listener = %self.settings.name, address = %self.address, "HTTP/3 listening");
        let (drain, drained) = Drain::new();
        for (worker, socket) in workers.iter().zip(sockets) {
            let (listener, secure) = (Arc::clone(&self.settings), self.secure.clone());
            let (address, drained) = (self.address.clone(), drained.clone());
            tell(worker, Command::Quic { listener, secure, address, id, socket, drained });
        }
        self.quic = Some(drain);
    }

    /// Whether HTTP/3 is wanted here and has no sockets yet.
    pub(super) fn lacks_http3(&self) -> bool {
        self.settings.http3 && self.quic.is_none()
    }
}

/// Asks for the ports of listeners that lack theirs until each has it.
pub(super) fn wait_for_ports(bound: &Arc<Mutex<Bound>>, metrics: &Arc<Metrics>) {
    let (bound, metrics) = (Arc::downgrade(bound), Arc::downgrade(metrics));
    spawn(async move {
        loop {
            tokio::time::sleep(AGAIN).await;
            if !ask(&bound, &metrics) {
                return;
            }
        }
    });
}

/// Whether a port is still lacking that somebody wants.
fn ask(bound: &Weak<Mutex<Bound>>, metrics: &Weak<Metrics>) -> bool {
    let (Some(bound), Some(metrics)) = (bound.upgrade(), metrics.upgrade()) else { return false };
    let mut bound = lock(&bound);
    let Bound { workers, fronts, waits_for_ports, .. } = &mut *bound;
    for front in fronts.iter_mut().filter(|front| front.lacks_http3()) {
        match bind::bind_udp(&front.address, workers.len()) {
            Ok(sockets) => {
                let id = metrics.listener(front.settings.name.as_str());
                front.serve_http3(id, sockets, workers);
            }
            Err(error) => debug!(listener = %front.settings.name, %error, "HTTP/3 has to wait"),
        }
    }
    *waits_for_ports = fronts.iter().any(Front::lacks_http3);
    *waits_for_ports
}
