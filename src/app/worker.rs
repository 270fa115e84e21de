//! A worker: a thread with one current-thread runtime, its own sockets and its own upstream connections.

use std::rc::Rc;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tokio::runtime::LocalOptions;
use tokio::sync::mpsc;

use crate::acme::Shelf;
use crate::front::{Acceptor, Command};
use crate::net::clock;
use crate::proxy::{Admission, Worker};
use crate::state::Current;
use crate::telemetry::Metrics;

/// Starts a worker, which does what `commands` say until they end.
///
/// # Errors
/// A sentence with the cause.
pub(super) fn start(
    number: usize,
    current: Arc<Current>,
    shelf: Arc<Shelf>,
    admission: Arc<Admission>,
    metrics: Arc<Metrics>,
    commands: mpsc::UnboundedReceiver<Command>,
) -> Result<JoinHandle<()>, String> {
    let cannot_start = |error: std::io::Error| format!("a worker cannot start: {error}");
    // A runtime that runs what stays on its thread is made there.
    let (made, is_made) = std::sync::mpsc::sync_channel(1);
    let thread = thread::Builder::new()
        .name(format!("weir-worker-{number}"))
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .on_thread_unpark(clock::woken)
                .build_local(LocalOptions::default());
            let runtime = match runtime {
                Ok(runtime) => runtime,
                Err(error) => {
                    // Whoever starts a worker waits for this.
                    let _ = made.send(Err(error));
                    return;
                }
            };
            let _ = made.send(Ok(()));
            runtime.block_on(async {
                let worker = Rc::new(Worker::new(current, shelf, admission, Rc::new(metrics.worker())));
                Acceptor::new(worker).run(commands).await;
            });
        })
        .map_err(cannot_start)?;
    let made = is_made.recv().unwrap_or_else(|_| Err(std::io::ErrorKind::Other.into()));
    made.map_err(cannot_start)?;
    Ok(thread)
}
