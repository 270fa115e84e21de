//! TLS over real sockets with small buffers: no byte is lost, doubled or reordered, whoever is slow; and only an end that
//! was told is one.

use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::task::Poll;

use proptest::prelude::*;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::block_on;
use crate::net::{Coding, Fill, Io, Link, LinkError, Socket, Source, Tls, Transfer};
use crate::wire::Length;

/// The peer: rustls driven by hand, over a stream that tokio drives.
struct Peer {
    session: ClientConnection,
    stream: UnixStream,
}

/// Our side, and its peer, with a handshake behind them.
fn pair(version: &'static rustls::SupportedProtocolVersion) -> (Io, Peer) {
    let key = rcgen::KeyPair::generate().unwrap();
    let cert = rcgen::CertificateParams::new(vec!["a.test".to_owned()]).unwrap().self_signed(&key).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        .unwrap();
    let client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    let name = ServerName::try_from("a.test").unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
    let mut wire = Vec::new();
    while server.is_handshaking() || client.is_handshaking() || server.wants_write() {
        wire.clear();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            server.process_new_packets().unwrap();
        }
        wire.clear();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client.process_new_packets().unwrap();
        }
    }
    let (ours, theirs) = UnixStream::pair().unwrap();
    SockRef::from(&ours).set_send_buffer_size(4096).unwrap();
    SockRef::from(&theirs).set_send_buffer_size(4096).unwrap();
    let tls = Tls::new(Socket::Unix(ours), server.into());
    (Io::Tls(Box::new(tls)), Peer { session: client, stream: theirs })
}

impl Peer {
    /// What the session has to say, as bytes.
    fn sealed(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        while self.session.wants_write() {
            self.session.write_tls(&mut out).unwrap();
        }
        out
    }

    /// Reads until the end; gives what came, and whether the end was told.
    async fn read_to_end(&mut self, step: usize) -> (Vec<u8>, bool) {
        let (mut read, mut part) = (Vec::new(), vec![0; step]);
        loop {
            let count = self.stream.read(&mut part).await.unwrap_or(0);
            let mut rest = &part[..count];
            if count == 0 {
                self.session.read_tls(&mut rest).unwrap();
            }
            while !rest.is_empty() {
                self.session.read_tls(&mut rest).unwrap();
                self.session.process_new_packets().unwrap();
                let mut opened = [0; 16_384];
                loop {
                    match self.session.reader().read(&mut opened) {
                        Ok(0) => return (read, true),
                        Ok(count) => read.extend_from_slice(&opened[..count]),
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                        Err(error) => panic!("{error}"),
                    }
                }
            }
            if count == 0 {
                return (read, false);
            }
        }
    }
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from((at * 7 + at / 251) % 256).unwrap()).collect()
}

fn versions() -> impl Strategy<Value = &'static rustls::SupportedProtocolVersion> {
    prop_oneof![Just(&rustls::version::TLS12), Just(&rustls::version::TLS13)]
}

/// A body in pieces of this size.
struct Pieces {
    data: Vec<u8>,
    at: usize,
    step: usize,
}

impl Source for Pieces {
    type Error = ();

    fn poll_fill(&mut self, _: &mut std::task::Context<'_>) -> Poll<Result<Fill, ()>> {
        Poll::Ready(Ok(if self.at == self.data.len() { Fill::End(None) } else { Fill::Data }))
    }

    fn with_data<R>(&self, look: impl FnOnce(&[u8]) -> R) -> R {
        look(&self.data[self.at..(self.at + self.step).min(self.data.len())])
    }

    fn consume(&mut self, count: usize) {
        self.at += count;
    }

    fn take(&mut self) -> bytes::Bytes {
        bytes::Bytes::new()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn message_goes_out_whole_and_in_order_however_slowly_it_is_read(
        version in versions(), length in 0_usize..400_000, step in 1_usize..70_000, read in 1_usize..9_000,
    ) {
        let data = pattern(length);
        let (received, is_told) = block_on(async {
            let (io, mut peer) = pair(version);
            let pieces = Pieces { data: data.clone(), at: 0, step };
            let mut transfer = Transfer::new(b"head".to_vec(), Coding::Plain, Some(pieces));
            let sending = async {
                poll_fn(|cx| transfer.poll(cx, &io)).await.unwrap();
                // All of it is with the socket: nothing is left to be lost here.
                assert!(io.flush().is_ok());
                poll_fn(|cx| io.poll_end(cx)).await;
                drop(io);
            };
            tokio::join!(sending, peer.read_to_end(read)).1
        });
        prop_assert_eq!(&received[..4], b"head");
        prop_assert!(received[4..] == data, "{} of {length}", received.len() - 4);
        prop_assert!(is_told);
    }

    #[test]
    fn body_comes_in_whole_and_in_order_however_it_is_sealed_and_cut(
        version in versions(),
        length in 0_usize..200_000,
        records in proptest::collection::vec(1_usize..20_000, 1..8),
        cuts in proptest::collection::vec(1_usize..9_000, 1..8),
        step in 1_usize..9_000,
        refresh in any::<bool>(),
    ) {
        let data = pattern(length);
        let read = block_on(async {
            let (io, mut peer) = pair(version);
            let link = Link::new(io);
            link.begin(Length::UntilClose);
            let writing = async {
                let mut sealed = Vec::new();
                let (mut rest, mut sizes) = (data.as_slice(), records.iter().cycle());
                while !rest.is_empty() {
                    let (now, later) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
                    peer.session.writer().write_all(now).unwrap();
                    sealed.extend(peer.sealed());
                    if refresh && version.version == rustls::ProtocolVersion::TLSv1_3 && later.len() % 5 == 0 {
                        peer.session.refresh_traffic_keys().unwrap();
                    }
                    rest = later;
                }
                peer.session.send_close_notify();
                sealed.extend(peer.sealed());
                let (mut rest, mut sizes) = (sealed.as_slice(), cuts.iter().cycle());
                while !rest.is_empty() {
                    let (now, later) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
                    peer.stream.write_all(now).await.unwrap();
                    rest = later;
                }
                peer
            };
            let reading = super::body(&link, step);
            let (_peer, read) = tokio::join!(writing, reading);
            read.unwrap().0
        });
        prop_assert!(read == data, "{} of {length}", read.len());
    }

    #[test]
    fn both_directions_at_once_then_neither_waits_for_the_other(
        version in versions(), out in 0_usize..150_000, back in 0_usize..150_000, step in 1_usize..9_000,
    ) {
        block_on(async {
            let (io, peer) = pair(version);
            let (config, client) = (pattern(out), pattern(back));
            let Peer { mut session, stream } = peer;
            // The peer reads and writes as it can, in one task.
            let theirs = async {
                let (mut read, mut written, mut pending) = (Vec::new(), 0, Vec::<u8>::new());
                let mut part = vec![0; step];
                while read.len() < out || written < back || !pending.is_empty() {
                    if pending.is_empty() && written < back {
                        let now = (back - written).min(step);
                        session.writer().write_all(&client[written..written + now]).unwrap();
                        written += now;
                        while session.wants_write() {
                            session.write_tls(&mut pending).unwrap();
                        }
                    }
                    tokio::select! {
                        Ok(()) = stream.writable(), if !pending.is_empty() => {
                            if let Ok(count) = stream.try_write(&pending) {
                                pending.drain(..count);
                            }
                        }
                        Ok(()) = stream.readable() => {
                            let Ok(count) = stream.try_read(&mut part) else { continue };
                            assert!(count > 0);
                            let mut rest = &part[..count];
                            while !rest.is_empty() {
                                session.read_tls(&mut rest).unwrap();
                                session.process_new_packets().unwrap();
                                let mut opened = [0; 16_384];
                                while let Ok(count) = session.reader().read(&mut opened) {
                                    read.extend_from_slice(&opened[..count]);
                                }
                            }
                        }
                    }
                }
                read
            };
            let (mut reader, mut writer) = tokio::io::split(io);
            let writing = async {
                writer.write_all(&config).await.unwrap();
                writer.flush().await.unwrap();
            };
            let reading = async {
                let mut read = vec![0; back];
                reader.read_exact(&mut read).await.unwrap();
                read
            };
            let (received, (), read) = tokio::join!(theirs, writing, reading);
            assert!(received == config && read == client);
        });
    }
}

/// How a peer ends.
#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    Told,
    Cut,
    InARecord,
    Garbage,
}

#[test]
fn only_an_end_that_was_told_is_one() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        for end in [End::Told, End::Cut, End::InARecord, End::Garbage] {
            let read = block_on(async {
                let (io, mut peer) = pair(version);
                let link = Link::new(io);
                link.begin(Length::UntilClose);
                peer.session.writer().write_all(b"whole").unwrap();
                let mut sealed = peer.sealed();
                match end {
                    End::Told => {
                        peer.session.send_close_notify();
                        sealed.extend(peer.sealed());
                    }
                    End::Cut => {}
                    End::InARecord => {
                        peer.session.writer().write_all(b"half").unwrap();
                        let next = peer.sealed();
                        sealed.extend(&next[..next.len() / 2]);
                    }
                    End::Garbage => sealed.extend(b"GET / HTTP/1.1\r\n\r\n"),
                }
                peer.stream.write_all(&sealed).await.unwrap();
                peer.stream.shutdown().await.unwrap();
                super::body(&link, 100).await
            });
            match end {
                End::Told => assert_eq!(read.unwrap().0, b"whole", "{version:?}"),
                _ => assert!(matches!(read, Err(LinkError::Io(_))), "{version:?} {end:?}: {read:?}"),
            }
        }
    }
}

#[test]
fn blocked_flush_wakes_its_task_and_the_end_is_told_behind_it_unless_it_is_a_reset() {
    for (resets, version) in [(false, &rustls::version::TLS13), (true, &rustls::version::TLS12)] {
        let (received, taken, is_told) = block_on(async {
            let (io, mut peer) = pair(version);
            // More is sealed than the socket takes.
            let taken = io.write(&pattern(60_000)).unwrap();
            assert_eq!(io.flush().unwrap_err().kind(), io::ErrorKind::WouldBlock);
            assert_eq!(io.write(b"more").unwrap_err().kind(), io::ErrorKind::WouldBlock);
            let flushing = async {
                poll_fn(|cx| {
                    loop {
                        match io.flush() {
                            Ok(()) => return Poll::Ready(()),
                            Err(_) => std::task::ready!(io.poll_writable(cx)).unwrap(),
                        }
                    }
                })
                .await;
                assert!(io.sent() > 60_000);
                if resets {
                    io.reset_on_close();
                } else {
                    poll_fn(|cx| io.poll_end(cx)).await;
                }
                drop(io);
            };
            let ((), (received, is_told)) = tokio::join!(flushing, peer.read_to_end(777));
            (received, taken, is_told)
        });
        assert_eq!(received.len(), taken);
        assert!(received == pattern(60_000)[..taken]);
        assert_eq!(is_told, !resets);
    }
}

#[test]
fn records_of_one_byte_are_read_like_any() {
    block_on(async {
        let (io, mut peer) = pair(&rustls::version::TLS12);
        let mut sealed = Vec::new();
        for _ in 0..2000 {
            peer.session.writer().write_all(b"x").unwrap();
            sealed.extend(peer.sealed());
        }
        let writing = async {
            peer.stream.write_all(&sealed).await.unwrap();
            peer
        };
        let link = Link::new(io);
        link.begin(Length::Exact(2000));
        let (_peer, read) = tokio::join!(writing, super::body(&link, 1));
        assert_eq!(read.unwrap().0, vec![b'x'; 2000]);
    });
}
