//! Whom a header names is the client from then on.

use std::net::SocketAddr;

use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use weir::wire::proxy_protocol::header;

use super::{addresses, binary, line};
use crate::support::proxy::tcp;
use crate::support::raw::{Client, status};
use crate::support::{Arms, Ask, BOTH, Proxy, Via, until};

const ROUTES: &str = "routes:\n  - { when: [{ value: client_ip, cidr: [192.0.2.0/24, '2001:db8::/32'] }], upstream: named }\n  \
                      - { upstream: real }\n";

async fn house(listeners: &str) -> (Arms, Proxy) {
    let arms = Arms::start(&["named", "real"]).await;
    let text = format!("workers: 1\nlisteners: [{listeners}]\n{}{ROUTES}", arms.yaml());
    let proxy = Proxy::start_whole(&text).await;
    (arms, proxy)
}

/// How a header comes.
#[derive(Debug, Clone, Copy)]
enum Coming {
    Whole,
    Bytewise,
    /// In one packet with what follows.
    Together,
}

/// Two requests of one connection behind `header`; the second is sent when the first is answered.
async fn ask_twice(address: SocketAddr, header: &[u8], coming: Coming) {
    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n";
    let mut client = Client::connect(address).await;
    match coming {
        Coming::Together => client.send([header, REQUEST].concat()).await,
        Coming::Whole => {
            client.send(header).await;
            client.send(REQUEST).await;
        }
        Coming::Bytewise => {
            for byte in header {
                client.send([*byte]).await;
                // The next one is another packet, and the proxy has its turn.
                tokio::task::yield_now().await;
            }
            client.send(REQUEST).await;
        }
    }
    assert_eq!(status(&client.read_response().await), 200);
    client.send(REQUEST).await;
    assert_eq!(status(&client.read_response().await), 200);
}

#[tokio::test]
async fn announced_client_is_the_client_of_every_request_however_the_header_comes() {
    let (arms, proxy) = house("{ bind: 127.0.0.1:0, proxy_protocol: required }").await;
    let v4 = addresses("192.0.2.7:56324", "198.51.100.80:443");
    let v6 = addresses("[2001:db8::7]:56324", "[2001:db8::80]:443");
    let values = [0x04, 0, 200].into_iter().chain([0; 200]).chain([0xe0, 0x10, 0]).chain([1; 4096]);
    let with_values = binary(0x21, 0x11, &[&header(Some(&v4))[16..], &values.collect::<Vec<_>>()].concat());
    let own = "127.0.0.1";
    let rows = [
        (line("192.0.2.7"), "192.0.2.7"),
        (line("2001:db8::7"), "2001:db8::7"),
        (b"PROXY TCP6 ::ffff:192.0.2.7 ::1 1 2\r\n".to_vec(), "192.0.2.7"),
        (b"PROXY UNKNOWN\r\n".to_vec(), own),
        (b"PROXY UNKNOWN 192.0.2.7 192.0.2.8 1 2\r\n".to_vec(), own),
        (header(Some(&v4)), "192.0.2.7"),
        (header(Some(&v6)), "2001:db8::7"),
        (with_values, "192.0.2.7"),
        (header(None), own),
        (binary(0x20, 0x11, &header(Some(&v4))[16..]), own),
        (binary(0x21, 0x00, &[]), own),
        (binary(0x21, 0x31, &[b'/'; 216]), own),
    ];
    for (header, expected) in &rows {
        let arm = if *expected == own { "real" } else { "named" };
        let row = header.escape_ascii().to_string();
        let before = arms.get(arm).count();
        for coming in [Coming::Whole, Coming::Together, Coming::Bytewise] {
            // Thousands of packets say no more than the first hundred.
            if header.len() < 300 || !matches!(coming, Coming::Bytewise) {
                ask_twice(proxy.address, header, coming).await;
            }
        }
        assert!(arms.get(arm).count() >= before + 4, "{row}");
        let element = if expected.contains(':') {
            format!("for=\"[{expected}]\";host=\"shop.test\";proto=http")
        } else {
            format!("for={expected};host=\"shop.test\";proto=http")
        };
        let check = || {
            let seen = arms.last(arm);
            assert_eq!(seen.header("x-forwarded-for"), *expected, "{row}");
            assert_eq!(
                seen.header("forwarded").replace("host=shop.test", "host=\"shop.test\""),
                element,
                "{row}"
            );
        };
        check();
        let mut stream = Ask::get("/").connect(proxy.address).await;
        stream.write_all(header).await.unwrap();
        let answer = Ask::get("/").send_on(Via::Http2, stream).await;
        assert_eq!((answer.status, answer.upstream()), (200, arm), "{row}");
        check();
    }
    assert_eq!(proxy.metric("weir_downstream_refused_total", &[]).await, 0.0);
}

#[tokio::test]
async fn preface_in_one_packet_with_the_header_is_http2() {
    let (arms, proxy) = house("{ bind: 127.0.0.1:0, proxy_protocol: required }").await;
    let mut client = Client::connect(proxy.address).await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    // GET / of the host `a`, all of it in one frame.
    let request = [&b"\0\0\x06\x01\x05\0\0\0\x01"[..], b"\x82\x86\x84\x41\x01a"].concat();
    client.send([&line("192.0.2.7")[..], preface, &request].concat()).await;
    until("the request is served", || async { (arms.get("named").count() == 1).then_some(()) }).await;
    assert_eq!(arms.last("named").header("x-forwarded-for"), "192.0.2.7");
}

#[tokio::test]
async fn trust_speaks_of_the_socket_for_the_header_and_of_the_announced_client_for_the_rest() {
    let (arms, proxy) =
        house("{ bind: 127.0.0.1:0, proxy_protocol: required, trust: [127.0.0.2, 10.0.0.0/8] }").await;
    let ask = Ask::get("/")
        .from("127.0.0.2")
        .with_all(&[("x-forwarded-for", "192.0.2.9"), ("x-forwarded-proto", "https")]);
    // The announced client; the one that counts; what is told of it.
    let rows = [
        ("203.0.113.1", "real", "203.0.113.1", "http"),
        ("10.0.0.3", "named", "192.0.2.9, 10.0.0.3", "https"),
        ("127.0.0.2", "named", "192.0.2.9, 127.0.0.2", "https"),
    ];
    for (client, arm, chain, proto) in rows {
        for via in BOTH {
            let mut stream = ask.connect(proxy.address).await;
            stream.write_all(&line(client)).await.unwrap();
            let answer = ask.send_on(via, stream).await;
            assert_eq!(answer.upstream(), arm, "{client} {via:?}");
            let seen = arms.last(arm);
            assert_eq!(seen.header("x-forwarded-for"), chain, "{client} {via:?}");
            assert_eq!(seen.header("x-forwarded-proto"), proto, "{client} {via:?}");
        }
    }
    // Who may not send a header is closed, whatever he sends, and whomever he names.
    let sent = [line("10.0.0.3"), header(None), b"GET / HTTP/1.1\r\n".to_vec()];
    for (number, sent) in (1_u32..).zip(&sent) {
        let mut client = Client(Ask::get("/").from("127.0.0.9").connect(proxy.address).await);
        client.send(sent).await;
        assert_eq!(client.read_to_end().await, "");
        let refused = proxy.metric("weir_downstream_refused_total", &["cause=\"untrusted\""]).await;
        assert_eq!(refused, f64::from(number));
    }
    let reset = Ask::get("/").from("127.0.0.9").connect(proxy.address).await;
    assert!(Client(reset).is_closed_within(crate::support::PATIENCE).await, "nothing need be said");
}

#[tokio::test]
async fn identity_headers_of_an_announced_stranger_are_removed() {
    let arms = Arms::start(&["blue", "gold"]).await;
    let proxy = Proxy::start_whole(&format!(
        "workers: 1\nlisteners: [{{ bind: 127.0.0.1:0, proxy_protocol: required, trust: [127.0.0.1, 10.0.0.0/8] }}]\n{}\
         routes:\n  - {{ when: [{{ value: header:x-tier, in: [gold] }}], upstream: gold }}\n  - {{ upstream: blue }}\n",
        arms.yaml()
    ))
    .await;
    let rows = [
        (line("192.0.2.7"), "blue"),
        (line("10.9.9.9"), "gold"),
        // The balancer is trusted itself, and does not say whose words these are.
        (b"PROXY UNKNOWN\r\n".to_vec(), "blue"),
        (header(None), "blue"),
    ];
    for (sent, arm) in rows {
        let ask = Ask::get("/").with("x-tier", "gold").with("x-forwarded-for", "192.0.2.9");
        let mut stream = ask.connect(proxy.address).await;
        stream.write_all(&sent).await.unwrap();
        let sent = String::from_utf8_lossy(&sent);
        assert_eq!(ask.send_on(Via::Http1, stream).await.upstream(), arm, "{sent}");
        let seen = arms.last(arm);
        assert_eq!(seen.headers.contains_key("x-tier"), arm == "gold", "{sent}");
        assert_eq!(seen.header("x-forwarded-for").contains("192.0.2.9"), arm == "gold", "{sent}");
    }
}

#[tokio::test]
async fn unix_socket_takes_headers_whoever_is_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weir.sock");
    let listeners = format!(
        "{{ bind: 127.0.0.1:0 }}, {{ bind: 'unix:{}', proxy_protocol: required, trust: [10.0.0.0/8] }}",
        path.display()
    );
    let (arms, _proxy) = house(&listeners).await;
    for via in BOTH {
        for (header, arm, expected) in
            [(line("192.0.2.7"), "named", "192.0.2.7"), (header(None), "real", "127.0.0.1")]
        {
            let mut stream = UnixStream::connect(&path).await.unwrap();
            stream.write_all(&header).await.unwrap();
            let answer = Ask::get("/").send_on(via, stream).await;
            assert_eq!((answer.status, answer.upstream()), (200, arm), "{via:?}");
            assert_eq!(arms.last(arm).header("x-forwarded-for"), expected, "{via:?}");
        }
    }
}

#[tokio::test]
async fn header_is_expected_of_connections_made_after_the_change_that_says_so() {
    let arms = Arms::start(&["named", "real"]).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weir.sock");
    let text = |keys: &str| {
        format!(
            "workers: 1\nlisteners: [{{ bind: 127.0.0.1:0 }}, {{ bind: 'unix:{}'{keys} }}]\n{}{ROUTES}",
            path.display(),
            arms.yaml()
        )
    };
    let proxy = Proxy::start_whole(&text("")).await;
    assert_eq!(proxy.address, tcp(&proxy.app.addresses()[0]));
    let path = path.as_path();
    let answer = |header: Vec<u8>| async move {
        let mut stream = UnixStream::connect(path).await.unwrap();
        stream.write_all(&header).await.unwrap();
        Ask::get("/").send_on(Via::Http1, stream).await.outcome()
    };
    assert_eq!(answer(Vec::new()).await, "200");
    proxy.replace(&text(", proxy_protocol: required")).await;
    until("the header counts", || async { (answer(line("192.0.2.7")).await == "200").then_some(()) }).await;
    assert_eq!(arms.last("named").header("x-forwarded-for"), "192.0.2.7");
    proxy.replace(&text(", proxy_protocol: off")).await;
    until("no header is expected", || async { (answer(line("192.0.2.7")).await != "200").then_some(()) })
        .await;
    assert_eq!(answer(Vec::new()).await, "200");
}
