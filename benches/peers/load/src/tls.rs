//! The client's side of TLS: one version, one cipher and one group, so that every proxy does the same work.
//!
//! The certificate must be the one that the run made, byte for byte. Its signatures are not checked: that would cost the
//! load's core more than a handshake costs the proxy's. The harness checks them once, before it measures.

use std::io;
use std::mem;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientSessionMemoryCache, Resumption, UnbufferedClientConnection};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, WriteTraffic};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, HandshakeKind, SignatureScheme, version,
};

use crate::job::{Job, Protocol};

/// What a record adds to its bytes, at most: head, type and tag.
const OVERHEAD: usize = 64;
/// The most that a record holds.
const RECORD: usize = 16_384;

/// What the sessions of a load have in common.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    protocol: &'static [u8],
}

impl Settings {
    /// The settings of `job`, or `None` where it does without TLS.
    ///
    /// # Errors
    /// The certificate cannot be read, or the host is no name.
    pub(crate) fn new(job: &Job) -> io::Result<Option<Self>> {
        let Some(path) = &job.tls else { return Ok(None) };
        let certificate = CertificateDer::from_pem_file(path)
            .map_err(|error| io::Error::other(format!("{}: {error}", path.display())))?;
        // With more groups on offer some proxies would pick a hybrid with ML-KEM, which costs more, and others not.
        let provider = CryptoProvider {
            cipher_suites: vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256],
            kx_groups: vec![aws_lc_rs::kx_group::X25519],
            ..aws_lc_rs::default_provider()
        };
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&version::TLS13])
            .map_err(io::Error::other)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Pinned { certificate }))
            .with_no_client_auth();
        let protocol: &'static [u8] = match job.protocol {
            Protocol::Http1 => b"http/1.1",
            Protocol::Http2 => b"h2",
        };
        config.alpn_protocols = vec![protocol.to_vec()];
        config.resumption = if job.resume {
            Resumption::store(Arc::new(ClientSessionMemoryCache::new(1)))
        } else {
            Resumption::disabled()
        };
        let name = ServerName::try_from(job.host.clone()).map_err(io::Error::other)?;
        Ok(Some(Self { config: Arc::new(config), name, protocol }))
    }
}

/// The certificate that there must be.
#[derive(Debug)]
struct Pinned {
    certificate: CertificateDer<'static>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if *certificate == self.certificate {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::UnknownIssuer.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 was not offered".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

/// TLS on one connection.
pub(crate) struct Session {
    connection: UnbufferedClientConnection,
    /// Bytes that wait to be encrypted.
    pub(crate) waiting: Vec<u8>,
    /// A record that has not come whole.
    held: Vec<u8>,
    /// Whether the other side said that nothing more comes.
    ended: bool,
    /// Whether the handshake was told of.
    told: bool,
    /// What the other side must choose by ALPN.
    protocol: &'static [u8],
}

impl Session {
    /// A session whose handshake begins with the first bytes to be sent.
    ///
    /// # Errors
    /// It cannot be made.
    pub(crate) fn new(settings: &Settings) -> io::Result<Self> {
        let connection = UnbufferedClientConnection::new(Arc::clone(&settings.config), settings.name.clone())
            .map_err(io::Error::other)?;
        Ok(Self {
            connection,
            waiting: Vec::new(),
            held: Vec::new(),
            ended: false,
            told: false,
            protocol: settings.protocol,
        })
    }

    /// Whether the other side said that nothing more comes.
    pub(crate) fn ended(&self) -> bool {
        self.ended
    }

    /// Moves the start of an unfinished record to the front of `scratch`; how long it is.
    pub(crate) fn unhold(&mut self, scratch: &mut [u8]) -> usize {
        let length = self.held.len();
        scratch[..length].copy_from_slice(&self.held);
        self.held.clear();
        length
    }

    /// Gives `take` what `bytes` say, and adds to `out` what is to be sent.
    ///
    /// # Errors
    /// They are not TLS as it was asked for.
    pub(crate) fn receive(
        &mut self,
        bytes: &mut [u8],
        out: &mut Vec<u8>,
        take: &mut impl FnMut(&[u8]),
    ) -> io::Result<()> {
        let used = self.advance(bytes, out, take)?;
        self.held.extend_from_slice(&bytes[used..]);
        if !self.told
            && !self.connection.is_handshaking()
            && self.connection.alpn_protocol() != Some(self.protocol)
        {
            return Err(io::Error::other("the proxy does not take the protocol by ALPN"));
        }
        Ok(())
    }

    /// Adds to `out` what waits, as far as the handshake allows it.
    ///
    /// # Errors
    /// The session is broken.
    pub(crate) fn send(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        let mut held = mem::take(&mut self.held);
        let used = self.advance(&mut held, out, &mut |_| {})?;
        held.drain(..used);
        self.held = held;
        Ok(())
    }

    /// Adds to `out` that nothing more will be sent.
    ///
    /// # Errors
    /// The session is broken.
    pub(crate) fn close(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        let status = self.connection.process_tls_records(&mut []);
        if let ConnectionState::WriteTraffic(mut traffic) = status.state.map_err(io::Error::other)? {
            let before = out.len();
            out.resize(before + OVERHEAD, 0);
            let written = traffic.queue_close_notify(&mut out[before..]).map_err(io::Error::other)?;
            out.truncate(before + written);
        }
        Ok(())
    }

    /// What the handshake was, once, when it is over.
    pub(crate) fn handshake(&mut self) -> Option<HandshakeKind> {
        if self.told || self.connection.is_handshaking() {
            return None;
        }
        self.told = true;
        self.connection.handshake_kind()
    }

    /// Goes on as far as `bytes` lead; how many of them are done with.
    fn advance(
        &mut self,
        bytes: &mut [u8],
        out: &mut Vec<u8>,
        take: &mut impl FnMut(&[u8]),
    ) -> io::Result<usize> {
        let mut done = 0;
        loop {
            let status = self.connection.process_tls_records(&mut bytes[done..]);
            let mut discard = status.discard;
            let more = match status.state.map_err(io::Error::other)? {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(io::Error::other)?;
                        discard += record.discard;
                        take(record.payload);
                    }
                    true
                }
                ConnectionState::EncodeTlsData(mut data) => {
                    let before = out.len();
                    let written = match data.encode(&mut []) {
                        Err(EncodeError::InsufficientSize(wanted)) => {
                            out.resize(before + wanted.required_size, 0);
                            data.encode(&mut out[before..])
                        }
                        other => other,
                    };
                    out.truncate(before + written.map_err(io::Error::other)?);
                    true
                }
                ConnectionState::TransmitTlsData(mut data) => {
                    if let Some(mut traffic) = data.may_encrypt_app_data() {
                        encrypt(&mut traffic, &mut self.waiting, out).map_err(io::Error::other)?;
                    }
                    data.done();
                    true
                }
                ConnectionState::WriteTraffic(mut traffic) => {
                    encrypt(&mut traffic, &mut self.waiting, out).map_err(io::Error::other)?;
                    false
                }
                ConnectionState::BlockedHandshake => false,
                ConnectionState::PeerClosed | ConnectionState::Closed => {
                    self.ended = true;
                    false
                }
                _ => return Err(io::Error::other("a state of TLS that clients do not have")),
            };
            done += discard;
            if !more {
                return Ok(done);
            }
        }
    }
}

/// Adds what `waiting` holds to `out`, encrypted.
fn encrypt<T>(
    traffic: &mut WriteTraffic<'_, T>,
    waiting: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> Result<(), EncryptError> {
    if waiting.is_empty() {
        return Ok(());
    }
    let before = out.len();
    out.resize(before + waiting.len() + OVERHEAD * waiting.len().div_ceil(RECORD), 0);
    let written = traffic.encrypt(waiting, &mut out[before..])?;
    out.truncate(before + written);
    waiting.clear();
    Ok(())
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::PrivateKeyDer;
    use rustls::{ServerConfig, ServerConnection};
    use std::io::{Read, Write};

    use super::*;

    /// Of tests alone; a run makes its own.
    const CERTIFICATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/golden/server.pem");
    const KEY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/golden/server.key");

    fn server(protocol: &[u8]) -> Arc<ServerConfig> {
        let chain = vec![CertificateDer::from_pem_file(CERTIFICATE).unwrap()];
        let key = PrivateKeyDer::from_pem_file(KEY).unwrap();
        let mut config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
        config.alpn_protocols = vec![protocol.to_vec()];
        Arc::new(config)
    }

    fn settings(protocol: &str) -> Settings {
        let tls = format!("tls={CERTIFICATE}");
        let words = ["target=127.0.0.1:80", "resume=true", &tls, protocol].map(str::to_owned);
        Settings::new(&Job::read(&words).unwrap()).unwrap().unwrap()
    }

    /// Sends `question` through `session` to an echo, whose bytes come in pieces of `size`; what came back.
    fn echoed(
        session: &mut Session,
        server: &Arc<ServerConfig>,
        question: &[u8],
        size: usize,
    ) -> io::Result<Vec<u8>> {
        let mut other = ServerConnection::new(Arc::clone(server)).unwrap();
        let (mut out, mut answer) = (Vec::new(), Vec::new());
        let mut scratch = vec![0; 64 * 1024];
        session.waiting.extend_from_slice(question);
        session.send(&mut out)?;
        while answer.len() < question.len() {
            let mut rest = &out[..];
            while !rest.is_empty() {
                other.read_tls(&mut rest).unwrap();
                other.process_new_packets().map_err(io::Error::other)?;
                let mut plain = Vec::new();
                let _ = other.reader().read_to_end(&mut plain);
                other.writer().write_all(&plain).unwrap();
            }
            out.clear();
            let mut reply = Vec::new();
            while other.wants_write() {
                other.write_tls(&mut reply).unwrap();
            }
            assert!(!reply.is_empty(), "both wait");
            for piece in reply.chunks(size) {
                let held = session.unhold(&mut scratch);
                scratch[held..held + piece.len()].copy_from_slice(piece);
                session.receive(&mut scratch[..held + piece.len()], &mut out, &mut |bytes| {
                    answer.extend_from_slice(bytes);
                })?;
            }
        }
        Ok(answer)
    }

    #[test]
    fn bytes_come_back_in_any_pieces_and_sessions_are_resumed() {
        let (settings, server) = (settings("protocol=h1"), server(b"http/1.1"));
        let question: Vec<u8> = (0..=255).cycle().take(40_000).collect();
        for (size, kind) in
            [(1, HandshakeKind::Full), (7, HandshakeKind::Resumed), (20_000, HandshakeKind::Resumed)]
        {
            let mut session = Session::new(&settings).unwrap();
            assert_eq!(echoed(&mut session, &server, &question, size).unwrap(), question);
            assert_eq!((session.handshake(), session.handshake()), (Some(kind), None));
        }
    }

    #[test]
    fn session_closed_then_the_end_is_told() {
        let (settings, server) = (settings("protocol=h2"), server(b"h2"));
        let mut session = Session::new(&settings).unwrap();
        echoed(&mut session, &server, b"a", 100).unwrap();
        let mut out = Vec::new();
        session.close(&mut out).unwrap();
        assert!(!out.is_empty() && !session.ended());
    }

    #[test]
    fn proxy_without_the_protocol_is_refused() {
        for protocol in [&b"h2"[..], b""] {
            let mut server = server(protocol);
            if protocol.is_empty() {
                Arc::make_mut(&mut server).alpn_protocols.clear();
            }
            let mut session = Session::new(&settings("protocol=h1")).unwrap();
            assert!(echoed(&mut session, &server, b"a", 100).is_err(), "{protocol:?}");
        }
    }

    #[test]
    fn certificate_that_is_another_is_refused() {
        let certificate = CertificateDer::from_pem_file(CERTIFICATE).unwrap();
        let mut other = certificate.to_vec();
        *other.last_mut().unwrap() ^= 1;
        let name = ServerName::try_from("shop.example").unwrap();
        for (expected, good) in [(certificate.clone(), true), (other.into(), false)] {
            let pinned = Pinned { certificate: expected };
            let found = pinned.verify_server_cert(&certificate, &[], &name, &[], UnixTime::now());
            assert_eq!(found.is_ok(), good);
        }
    }
}
