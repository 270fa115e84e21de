//! What no client should say.

use std::collections::HashMap;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h3::error::Code;
use http::Request;
use quinn::{ApplicationClose, ConnectionError, ReadError, TransportConfig, VarInt};
use tokio::time::timeout;

use super::{Edge, SHOP, Settings};
use crate::support::http3::{endpoint, frame, head, literal, number, plain, pseudo};
use crate::support::{PATIENCE, Upstream, until};

/// The connection's end that the proxy made, as an error code of HTTP/3.
async fn closed(connection: &quinn::Connection) -> u64 {
    match timeout(PATIENCE, connection.closed()).await.expect("the connection ends") {
        ConnectionError::ApplicationClosed(ApplicationClose { error_code, .. }) => error_code.into_inner(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_break_the_protocol_end_the_connection_and_nobody_else_notices() {
    let upstream = Upstream::named("one").await;
    let edge = Edge::before(upstream.address).await;
    let mut neighbour = edge.connect().await;
    let get = head(&pseudo("GET"));
    let cut = |mut bytes: Vec<u8>, length: usize| {
        bytes.truncate(bytes.len() - length);
        bytes
    };
    let and = |rest: Vec<u8>| [get.clone(), rest].concat();
    let control = |rest: Vec<u8>| [vec![0], rest].concat();
    let rows: Vec<(&str, bool, Vec<u8>, Code)> = vec![
        ("data first", true, frame(0, b"x"), Code::H3_FRAME_UNEXPECTED),
        ("settings on a request", true, frame(4, b""), Code::H3_FRAME_UNEXPECTED),
        ("a frame of HTTP/2", true, frame(6, b""), Code::H3_FRAME_UNEXPECTED),
        ("a head that ends early", true, cut(get.clone(), 1), Code::H3_FRAME_ERROR),
        ("data that end early", true, and(cut(frame(0, b"body"), 2)), Code::H3_FRAME_ERROR),
        ("data that never come", true, and(vec![0, 100]), Code::H3_FRAME_ERROR),
        ("a head of a terabyte", true, [vec![1], number(1 << 40)].concat(), Code::H3_EXCESSIVE_LOAD),
        (
            "an unknown frame of a terabyte",
            true,
            [vec![0x21], number(1 << 40)].concat(),
            Code::H3_EXCESSIVE_LOAD,
        ),
        (
            "QPACK of a table that is not there",
            true,
            frame(1, &[2, 0, 0x80]),
            Code::QPACK_DECOMPRESSION_FAILED,
        ),
        ("no settings", false, control(frame(7, &[0])), Code::H3_MISSING_SETTINGS),
        (
            "settings twice",
            false,
            control([frame(4, b""), frame(4, b"")].concat()),
            Code::H3_FRAME_UNEXPECTED,
        ),
        (
            "data on the control stream",
            false,
            control([frame(4, b""), frame(0, b"x")].concat()),
            Code::H3_FRAME_UNEXPECTED,
        ),
        (
            "settings of a terabyte",
            false,
            control([vec![4], number(1 << 40)].concat()),
            Code::H3_EXCESSIVE_LOAD,
        ),
        ("a control stream that ends", false, control(frame(4, b"")), Code::H3_CLOSED_CRITICAL_STREAM),
    ];
    let malformed = || edge.proxy.metric("weir_downstream_malformed_total", &[]);
    let mut expected = 0.0;
    for (what, is_request, bytes, code) in rows {
        let (connection, _endpoint) = plain(&edge.authority, edge.address, SHOP).await;
        let mut send = if is_request {
            connection.open_bi().await.unwrap().0
        } else {
            connection.open_uni().await.unwrap()
        };
        send.write_all(&bytes).await.unwrap();
        let _ = send.finish();
        let end = closed(&connection).await;
        assert!(Code::from(end) == code, "{what}: {:?}", Code::from(end));
        expected += 1.0;
        let counted = || async { (malformed().await == expected).then_some(()) };
        until(what, counted).await;
        assert_eq!(neighbour.get("/").await.status(), 200, "{what}");
    }
    drop(neighbour);
    edge.assert_in_order().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_that_are_none_end_their_stream_alone() {
    let upstream = Upstream::named("one").await;
    let edge = Edge::before(upstream.address).await;
    let (connection, _endpoint) = plain(&edge.authority, edge.address, SHOP).await;
    let with = |field: (&'static str, &'static str)| {
        let mut fields = pseudo("GET");
        fields.push(field);
        fields
    };
    let without = |name: &str| {
        let mut fields = pseudo("GET");
        fields.retain(|field| field.0 != name);
        fields
    };
    for (what, fields) in [
        ("no method", without(":method")),
        ("no scheme", without(":scheme")),
        ("no path", without(":path")),
        ("no authority", without(":authority")),
        ("another host", with(("host", "other.test"))),
        ("upper case", with(("X-User", "ada"))),
        ("a field of a connection", with(("connection", "close"))),
        ("keep-alive", with(("keep-alive", "1"))),
        ("proxy-connection", with(("proxy-connection", "close"))),
        ("transfer-encoding", with(("transfer-encoding", "chunked"))),
        ("upgrade", with(("upgrade", "websocket"))),
        ("te", with(("te", "gzip"))),
        ("two lengths", [with(("content-length", "1")), vec![("content-length", "2")]].concat()),
        ("a length that is none", with(("content-length", "x"))),
        ("a value with a line break", with(("x-user", "ada\r\nx-admin: yes"))),
        ("a pseudo-header that is none", with((":user", "ada"))),
        ("a protocol that is not spoken", [pseudo("CONNECT"), vec![(":protocol", "websocket")]].concat()),
    ] {
        let (mut send, mut recv) = connection.open_bi().await.unwrap();
        send.write_all(&head(&fields)).await.unwrap();
        let _ = send.finish();
        let end = timeout(PATIENCE, recv.read_to_end(1 << 16)).await.expect("an end");
        let code = VarInt::from_u64(Code::H3_MESSAGE_ERROR.value()).unwrap();
        assert!(
            matches!(end, Err(quinn::ReadToEndError::Read(ReadError::Reset(got))) if got == code),
            "{what}: {end:?}"
        );
        assert!(connection.close_reason().is_none(), "{what}");
    }
    assert_eq!(upstream.count(), 0);
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    send.write_all(&head(&pseudo("GET"))).await.unwrap();
    send.finish().unwrap();
    let bytes = timeout(PATIENCE, recv.read_to_end(1 << 16)).await.expect("an end").expect("an answer");
    assert!(bytes.ends_with(b"one"), "the connection goes on");
    connection.close(0x100_u32.into(), b"");
    edge.assert_in_order().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn path_is_settled_as_in_every_protocol() {
    let upstream = Upstream::named("one").await;
    let edge = Edge::before(upstream.address).await;
    let (connection, _endpoint) = plain(&edge.authority, edge.address, SHOP).await;
    for (path, expected) in [
        ("/a/../b?c=/../d", Some("/b?c=/../d")),
        ("/a/%2e%2e/%61", Some("/a")),
        ("//a/.", Some("//a/")),
        ("/../..", Some("/")),
        ("/a/..%2fb", None),
        ("/a/..;/b", None),
        ("/a/%252e%252e/b", None),
        ("/a%00", None),
    ] {
        let fields = [&pseudo("GET")[..3], &[(":path", path)]].concat();
        let (mut send, mut recv) = connection.open_bi().await.unwrap();
        send.write_all(&head(&fields)).await.unwrap();
        send.finish().unwrap();
        let before = upstream.count();
        let answer = timeout(PATIENCE, recv.read_to_end(1 << 16)).await.expect("an end").expect("an answer");
        let seen = (upstream.count() > before).then(|| upstream.last().target);
        assert_eq!(seen.as_deref(), expected, "{path}");
        let is_refused = String::from_utf8_lossy(&answer).contains("(ambiguous_path)");
        assert_eq!(is_refused, expected.is_none(), "{path}");
    }
    drop(connection);
    edge.assert_in_order().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn head_over_the_limit_is_answered_so() {
    let upstream = Upstream::named("one").await;
    let edge =
        Edge::with(upstream.address, Settings { listener: "max_header: 8KiB", ..Settings::default() }).await;
    // The h3 client keeps to the limit that it is told; a raw one does not.
    let (connection, _endpoint) = plain(&edge.authority, edge.address, SHOP).await;
    let value = "x".repeat(12 * 1024);
    let mut fields = pseudo("GET");
    fields.push(("x-large", &value));
    let mut block = vec![0, 0];
    for (name, value) in &fields {
        block.extend(literal(name, value));
    }
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    send.write_all(&frame(1, &block)).await.unwrap();
    send.finish().unwrap();
    let bytes = timeout(PATIENCE, recv.read_to_end(1 << 16)).await.expect("an end").expect("an answer");
    // 431 in Huffman code.
    assert!(bytes.ends_with(&[0x83, 0x69, 0x90, 0xff]), "{bytes:?}");
    assert!(connection.close_reason().is_none());
    let mut client = edge.connect().await;
    let request = Request::get("/").header("x-small", "x".repeat(4 * 1024)).body(()).unwrap();
    assert_eq!(client.ask(request, Bytes::new()).await.status(), 200);
    assert_eq!(upstream.count(), 1);
    connection.close(0x100_u32.into(), b"");
    drop(client);
    edge.assert_in_order().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_are_given_up_again_and_again_end_the_connection() {
    let upstream = Upstream::answering(|request| async move {
        if request.uri().path() != "/well" {
            std::future::pending::<()>().await;
        }
        http::Response::new(crate::support::upstream::full("well"))
    })
    .await;
    let edge = Edge::before(upstream.address).await;
    let (connection, _endpoint) = plain(&edge.authority, edge.address, SHOP).await;
    let get = head(&pseudo("GET"));
    let flooding = async {
        loop {
            let Ok((mut send, mut recv)) = connection.open_bi().await else { return };
            if send.write_all(&get).await.is_err() {
                return;
            }
            let _ = send.finish();
            let _ = recv.stop(VarInt::from_u64(Code::H3_REQUEST_CANCELLED.value()).unwrap());
        }
    };
    timeout(PATIENCE, flooding).await.expect("the proxy has had enough");
    assert!(Code::from(closed(&connection).await) == Code::H3_EXCESSIVE_LOAD);
    until("it counts", || async { (edge.refused("flood").await == 1.0).then_some(()) }).await;
    edge.assert_in_order().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn datagrams_that_mean_nothing_do_nothing() {
    let upstream = Upstream::named("one").await;
    let edge = Edge::before(upstream.address).await;
    let mut neighbour = edge.connect().await;
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut random = fastrand::Rng::with_seed(3);
    for index in 0..2000 {
        let length = random.usize(0..1400);
        let mut bytes: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(length).collect();
        if let Some(first) = bytes.first_mut() {
            // Every kind of head, an Initial of version 1 among them.
            *first = if index % 2 == 0 { 0xc0 | *first & 0x0f } else { *first };
        }
        if index % 4 == 0 && bytes.len() > 5 {
            bytes[1..5].copy_from_slice(&[0, 0, 0, 1]);
        }
        socket.send_to(&bytes, edge.address).unwrap();
    }
    assert_eq!(neighbour.get("/").await.status(), 200);
    drop(neighbour);
    edge.assert_in_order().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn version_that_is_not_spoken_is_answered_with_those_that_are() {
    let upstream = Upstream::named("one").await;
    let edge = Edge::before(upstream.address).await;
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = vec![0xc0, 0xba, 0xbe, 0xba, 0xbe, 8, 1, 2, 3, 4, 5, 6, 7, 8, 4, 9, 9, 9, 9];
    bytes.resize(1200, 0);
    socket.send_to(&bytes, edge.address).unwrap();
    let mut answer = [0; 1500];
    let length = tokio::task::spawn_blocking(move || {
        let length = socket.recv(&mut answer).unwrap();
        answer[..length].to_vec()
    })
    .await
    .unwrap();
    assert_eq!(length[1..5], [0, 0, 0, 0], "version negotiation (RFC 8999 §6)");
    assert_eq!(
        length[5..19],
        [4, 9, 9, 9, 9, 8, 1, 2, 3, 4, 5, 6, 7, 8],
        "the connection IDs, the other way round"
    );
    assert!(length[19..].chunks(4).any(|version| version == [0, 0, 0, 1]), "{length:?}");
    edge.assert_in_order().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn head_that_does_not_come_is_not_waited_for_for_ever() {
    let upstream = Upstream::named("one").await;
    let listener = "timeouts: { header: 200ms }";
    let edge = Edge::with(upstream.address, Settings { listener, ..Settings::default() }).await;
    let (connection, _endpoint) = plain(&edge.authority, edge.address, SHOP).await;
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    send.write_all(&[1]).await.unwrap();
    let end = timeout(PATIENCE, recv.read_to_end(1 << 16)).await.expect("an end");
    assert!(matches!(end, Err(quinn::ReadToEndError::Read(ReadError::Reset(_)))), "{end:?}");
    connection.close(0x100_u32.into(), b"");
    edge.assert_in_order().await;
}

/// The first packets of so many clients, each of its own.
async fn first_packets(edge: &Edge, count: usize) -> Vec<Vec<u8>> {
    let nobody = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let clients = endpoint(&edge.authority, None, TransportConfig::default());
    let mut packets: HashMap<Vec<u8>, Vec<u8>> = HashMap::new();
    let mut connecting = Vec::new();
    let mut datagram = [0; 1500];
    while packets.len() < count {
        connecting.push(clients.connect(nobody.local_addr().unwrap(), SHOP).unwrap());
        let length = timeout(PATIENCE, nobody.recv(&mut datagram)).await.expect("a packet").unwrap();
        // One for each connection ID that a client has chosen for the proxy.
        let id = datagram[6..6 + usize::from(datagram[5])].to_vec();
        packets.entry(id).or_insert_with(|| datagram[..length].to_vec());
    }
    packets.into_values().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_handshakes_that_stand_still_cost_strangers_a_retry_and_honest_clients_nothing() {
    let upstream = Upstream::named("one").await;
    let listener = "timeouts: { header: 8s }";
    let edge = Edge::with(upstream.address, Settings { listener, ..Settings::default() }).await;
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let packets = first_packets(&edge, 80).await;
    let address = edge.address;
    let retried = tokio::task::spawn_blocking(move || {
        let (mut answer, started) = ([0; 1500], Instant::now());
        // One after the other, and again those that found no room on their way.
        for packet in packets.iter().cycle() {
            assert!(started.elapsed() < PATIENCE, "nobody is asked");
            socket.send_to(packet, address).unwrap();
            std::thread::sleep(Duration::from_millis(2));
            while let Ok((length, from)) = socket.recv_from(&mut answer) {
                // A long header of the type Retry (RFC 9000 §17.2.5).
                if from == address && length > 0 && answer[0] & 0xf0 == 0xf0 {
                    return true;
                }
            }
        }
        false
    });
    assert!(retried.await.unwrap(), "who is there is asked to show that it is");
    let mut client = edge.connect().await;
    assert_eq!(client.get("/").await.status(), 200);
    until("they are given up", || async { (edge.refused("timeout").await >= 64.0).then_some(()) }).await;
    drop(client);
    edge.assert_in_order().await;
}
