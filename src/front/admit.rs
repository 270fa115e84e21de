//! Who is not let in, and what he is told: refused before TLS, before a byte is read, and in one system call.

use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use rustix::net::{RecvFlags, SendFlags};

use crate::net::Socket;
use crate::proxy::admission::{Admitted, Door, OfClient};
use crate::proxy::{Downstream, Worker};
use crate::telemetry::Refused;

/// What a client of HTTP/1 in the clear is told. Through TLS nobody is told anything: a handshake is what costs most.
const REFUSAL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\n\
    content-type: text/plain; charset=utf-8\r\nretry-after: 1\r\nx-weir-error: overloaded\r\ncontent-length: 64\r\n\r\n\
    503 Service Unavailable: there are too many clients (overloaded)";

/// How much of a request is taken away, so that it does not turn the end of the connection into a reset.
const TAKEN: usize = 4096;

/// Lets a connection to `downstream` in, or counts that it is not.
pub(super) fn connection(worker: &Worker, door: &Door, downstream: &Downstream) -> Option<Admitted> {
    let limits = worker.serving().snapshot.config.limits;
    let admitted = worker.admission.connection(&limits, door, &downstream.listener.limits);
    if admitted.is_none() {
        worker.metrics.refused(downstream.id, Refused::Limit);
    }
    admitted
}

/// A client has as many connections as it may have.
#[derive(Debug)]
pub(super) struct TooMany;

/// Lets a connection of the client of `downstream` in, or counts that it is not; `None` where nobody counts. A client
/// without an address is none of those that are counted.
pub(super) fn client(
    worker: &Worker,
    door: &Arc<Door>,
    downstream: &Downstream,
) -> Result<Option<OfClient>, TooMany> {
    let (Some(most), Some(client)) = (downstream.listener.limits.per_client, &downstream.client) else {
        return Ok(None);
    };
    let address: IpAddr = client.addresses().source().ip();
    let Some(admitted) = door.client(address, most) else {
        worker.metrics.refused(downstream.id, Refused::ClientLimit);
        return Err(TooMany);
    };
    Ok(Some(admitted))
}

/// Says no on a connection in the clear, as far as the client takes it at once.
pub(super) fn refuse(socket: &Socket) {
    let say = |socket: BorrowedFd<'_>| {
        // Who does not hear it sees the end.
        let _ = rustix::net::send(socket, REFUSAL, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
        let _ = rustix::net::recv(socket, &mut [0; TAKEN], RecvFlags::DONTWAIT);
    };
    match socket {
        Socket::Tcp(stream) => say(stream.as_fd()),
        Socket::Unix(stream) => say(stream.as_fd()),
    }
}

#[cfg(test)]
mod tests {
    use super::REFUSAL;
    use crate::wire::ResponseHead;

    #[test]
    fn refusal_is_a_whole_response() {
        let text = std::str::from_utf8(REFUSAL).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}", body.len())), "{text}");
        let (parsed, used) = ResponseHead::parse(REFUSAL).unwrap().unwrap();
        assert_eq!((parsed.status.as_u16(), used), (503, head.len() + 4));
    }
}
