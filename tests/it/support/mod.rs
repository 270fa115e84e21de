//! What the integration tests share: a proxy in this process or as a process of its own, upstreams that answer as
//! told, and clients that say exactly what a test wants said.

pub mod ask;
pub mod certs;
pub mod client;
pub mod grpc;
pub mod haproxy;
#[cfg(feature = "http3")]
pub mod http3;
pub mod lineage;
pub mod load;
pub mod pebble;
pub mod process;
pub mod proxy;
pub mod raw;
pub mod secure;
pub mod stage;
pub mod tls;
pub mod upstream;
pub mod websocket;

use std::future::Future;
use std::time::{Duration, Instant};

pub use ask::{Arms, Ask, BOTH, Reply, Via};
pub use proxy::Proxy;
pub use stage::Stage;
pub use upstream::Upstream;

/// How long a condition may take to come true on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `condition` gives a value; panics with `what` when it does not within [`PATIENCE`].
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut condition: impl FnMut() -> F) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(started.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The bytes that a line of a corpus stands for: what `escape_ascii` writes.
pub fn unescaped(line: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = line.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match (byte, byte == b'\\') {
            (_, true) => match rest.next().unwrap() {
                b'r' => b'\r',
                b'n' => b'\n',
                b't' => b'\t',
                b'x' => {
                    let digits = [rest.next().unwrap(), rest.next().unwrap()];
                    u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
                }
                other => other,
            },
            (byte, false) => byte,
        });
    }
    bytes
}
