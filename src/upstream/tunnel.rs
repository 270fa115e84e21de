//! What a connection or a stream becomes that is no longer HTTP: what was asked for, and the end that bytes go to. The
//! other end is an [`Inbound`](super::Inbound) that lasts until it is closed.
//!
//! Inside, an upgrade is as HTTP/1.1 has it: a request with `Upgrade`, a response of 101 (RFC 9110 §7.8). What HTTP/2 says
//! instead (RFC 8441) is said by who speaks it.

use std::future::poll_fn;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use h2::SendStream;

use super::streaming::send_body;
use crate::net::{Coding, Link, Source, Transfer};
use crate::wire::{Fields, Known};

/// How long a peer may be silent on TCP before it is asked whether it is still there.
const KEEP_ALIVE: Duration = Duration::from_mins(1);

/// What a request asks its connection to become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upgrade {
    protocols: Box<[u8]>,
}

/// The end of a tunnel that bytes go to.
#[derive(Debug)]
pub enum Sink {
    /// A connection.
    Http1(Rc<Link>),
    /// A stream.
    Http2(SendStream<Bytes>),
}

/// Protocols that are ours to speak and not to pass on: another HTTP inside would go past every rule (a request hidden
/// in `h2c` is one that nobody looked at).
fn is_ours(protocol: &[u8]) -> bool {
    let name = protocol.split(|byte| *byte == b'/').next().unwrap_or_default();
    [&b"h2c"[..], b"h2", b"h3", b"http", b"tls"].iter().any(|ours| name.eq_ignore_ascii_case(ours))
}

fn tokens(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
}

impl Upgrade {
    /// What `fields` of an HTTP/1.1 request ask for; `None` where it is nothing, or nothing that can be passed on.
    pub fn asked(fields: &Fields) -> Option<Self> {
        if !fields.contains(Known::Upgrade) || !fields.has_token(Known::Connection, "upgrade") {
            return None;
        }
        let wanted: Vec<&[u8]> =
            fields.all(Known::Upgrade).flat_map(tokens).filter(|protocol| !is_ours(protocol)).collect();
        (!wanted.is_empty()).then(|| Self { protocols: wanted.join(&b", "[..]).into() })
    }

    /// WebSocket, as HTTP/2 asks for it.
    pub fn websocket() -> Self {
        Self { protocols: b"websocket"[..].into() }
    }

    /// The protocols, as `Upgrade` has them.
    pub fn protocols(&self) -> &[u8] {
        &self.protocols
    }

    /// Whether it is WebSocket and nothing else.
    pub fn is_websocket(&self) -> bool {
        self.protocols.eq_ignore_ascii_case(b"websocket")
    }

    /// The protocol that `fields` of a 101 have chosen; `None` where it is none of those asked for.
    pub fn chosen<'f>(&self, fields: &'f Fields) -> Option<&'f [u8]> {
        let chosen = fields.get(Known::Upgrade)?;
        let is_asked = |one: &[u8]| tokens(&self.protocols).any(|asked| asked.eq_ignore_ascii_case(one));
        let mut all = fields.all(Known::Upgrade).flat_map(tokens);
        (fields.has_token(Known::Connection, "upgrade") && all.all(is_asked)).then_some(chosen)
    }
}

impl Sink {
    /// The connection, where it is one of its own.
    pub fn link(&self) -> Option<Rc<Link>> {
        match self {
            Self::Http1(link) => Some(Rc::clone(link)),
            Self::Http2(_) => None,
        }
    }

    /// Passes on all that comes from `source`, and its end; true when that was all of it. Where `source` breaks off, the
    /// peer sees no orderly end.
    pub async fn pass<S: Source>(self, mut source: S) -> bool {
        match self {
            Self::Http1(link) => {
                link.io().socket().keep_alive(KEEP_ALIVE);
                let mut transfer = Transfer::new(Vec::new(), Coding::Plain, Some(source));
                let is_whole = poll_fn(|cx| transfer.poll(cx, link.io())).await.is_ok();
                if is_whole {
                    poll_fn(|cx| link.io().poll_end(cx)).await;
                } else {
                    link.io().reset_on_close();
                }
                is_whole
            }
            Self::Http2(stream) => send_body(&mut source, stream, None).await.is_ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upgrade_is_asked_for_by_both_fields_and_never_to_another_http() {
        for (connection, upgrade, expected) in [
            ("upgrade", "websocket", Some("websocket")),
            ("keep-alive, Upgrade", "WebSocket", Some("WebSocket")),
            ("upgrade", "SPDY/3.1,  tcp", Some("SPDY/3.1, tcp")),
            ("upgrade", "h2c", None),
            ("upgrade, http2-settings", "H2C, websocket", Some("websocket")),
            ("upgrade", "HTTP/2.0, TLS/1.0, h2", None),
            ("upgrade", "", None),
            ("keep-alive", "websocket", None),
            ("upgraded", "websocket", None),
        ] {
            let fields = Fields::from_iter([("connection", connection), ("upgrade", upgrade)]);
            let asked = Upgrade::asked(&fields);
            assert_eq!(
                asked.as_ref().map(Upgrade::protocols),
                expected.map(str::as_bytes),
                "{connection} {upgrade}"
            );
        }
        assert_eq!(Upgrade::asked(&Fields::from_iter([("connection", "upgrade")])), None);
    }

    #[test]
    fn only_what_was_asked_for_can_be_chosen() {
        let asked = Upgrade { protocols: b"websocket, tcp"[..].into() };
        for (connection, upgrade, is_chosen) in [
            ("Upgrade", "WebSocket", true),
            ("upgrade", "tcp", true),
            ("upgrade", "h2c", false),
            ("upgrade", "tcp, h2c", false),
            ("close", "tcp", false),
        ] {
            let fields = Fields::from_iter([("connection", connection), ("upgrade", upgrade)]);
            assert_eq!(asked.chosen(&fields).is_some(), is_chosen, "{connection} {upgrade}");
        }
        assert!(asked.chosen(&Fields::from_iter([("connection", "upgrade")])).is_none());
    }
}
