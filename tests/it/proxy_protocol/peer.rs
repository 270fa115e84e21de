//! HAProxy before the proxy, and behind it.

use std::net::SocketAddr;

use tokio::net::TcpStream;

use crate::support::haproxy::Haproxy;
use crate::support::proxy::tcp;
use crate::support::raw::{Client, status};
use crate::support::{Ask, BOTH, Proxy, Upstream, until};

/// The ways in which HAProxy announces a client.
const WAYS: [&str; 3] =
    ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id,authority"];

#[tokio::test]
async fn haproxy_in_front_names_the_client_in_every_version() {
    let upstream = Upstream::named("one").await;
    let proxy = Proxy::start_whole(&format!(
        "workers: 1\nlisteners: [{{ bind: 127.0.0.1:0, proxy_protocol: required, trust: [127.0.0.1] }}, {{ bind: '[::1]:0', \
         proxy_protocol: required, trust: ['::1'] }}]\nupstreams: {{ one: {{ endpoints: ['{}'] }} }}\nroutes: [{{ upstream: \
         one }}]\n",
        upstream.address
    ))
    .await;
    for listener in proxy.app.addresses().iter().map(tcp) {
        for way in WAYS {
            for (bind, client) in [("127.0.0.1:0", "127.0.0.7"), ("[::1]:0", "::1")] {
                let haproxy = Haproxy::start(
                    bind,
                    &format!(
                        "listen tcp\n    mode tcp\n    bind LISTEN\n    unique-id-format %rt\n    server weir {listener} \
                         {way}\n"
                    ),
                );
                for via in BOTH {
                    let row = format!("{via:?} from {client} by {way} to {listener}");
                    let ask = Ask::get("/").from(client).with("x-forwarded-for", "192.0.2.1");
                    let answer = ask.send(via, haproxy.address).await;
                    assert_eq!((answer.status, answer.upstream()), (200, "one"), "{row}");
                    let told = upstream.last().header("x-forwarded-for").to_owned();
                    // The announced address ::1 is one that the second listener trusts.
                    let is_trusted = client == "::1" && listener.is_ipv6();
                    let expected =
                        if is_trusted { format!("192.0.2.1, {client}") } else { client.to_owned() };
                    assert_eq!(told, expected, "{row}");
                }
            }
        }
    }
    assert_eq!(proxy.metric("weir_downstream_refused_total", &[]).await, 0.0);
}

#[tokio::test]
async fn health_checks_of_haproxy_are_taken_for_its_own() {
    let upstream = Upstream::named("one").await;
    let proxy = Proxy::start_whole(&format!(
        "workers: 1\nlisteners: [{{ bind: 127.0.0.1:0, proxy_protocol: required }}]\nupstreams: {{ one: {{ endpoints: ['{}'] \
         }} }}\nroutes: [{{ upstream: one }}]\n",
        upstream.address
    ))
    .await;
    let address = proxy.address;
    let _haproxy = Haproxy::start(
        "127.0.0.1:0",
        &format!(
            "listen tcp\n    mode tcp\n    bind LISTEN\n    option httpchk GET /check\n    server one {address} send-proxy \
             check inter 20ms\n    server two {address} send-proxy-v2 check inter 20ms\n"
        ),
    );
    until("both were checked", || async { (upstream.count() >= 6).then_some(()) }).await;
    assert_eq!(upstream.last().target, "/check");
    assert_eq!(upstream.last().header("x-forwarded-for"), "127.0.0.1");
    assert_eq!(proxy.metric("weir_downstream_refused_total", &[]).await, 0.0);
}

#[tokio::test]
async fn haproxy_behind_is_told_the_client() {
    for (protocol, speaks) in [("http1", ""), ("http2", "proto h2")] {
        for bind in ["127.0.0.1:0", "[::1]:0"] {
            let haproxy = Haproxy::start(
                bind,
                &format!(
                    "frontend web\n    mode http\n    bind LISTEN accept-proxy {speaks}\n    http-request return status 200 \
                     content-type text/plain lf-string \"%ci|%cp|%fi|%fp\"\n"
                ),
            );
            let proxy = Proxy::start_whole(&format!(
                "workers: 1\nlisteners: [{{ bind: 127.0.0.1:0 }}, {{ bind: '[::1]:0' }}]\nupstreams: {{ one: {{ endpoints: \
                 ['{}'], protocol: {protocol}, proxy_protocol: v2 }} }}\nroutes: [{{ upstream: one }}]\n",
                haproxy.address
            ))
            .await;
            for listener in proxy.app.addresses().iter().map(tcp) {
                for via in BOTH {
                    let stream = TcpStream::connect(listener).await.unwrap();
                    let client = stream.local_addr().unwrap();
                    let answer = Ask::get("/").send_on(via, stream).await;
                    assert_eq!(
                        answer.body,
                        told(client, listener),
                        "{protocol} {via:?} {listener} to {bind}"
                    );
                }
                // Two clients in turn on kept connections: each is told as itself.
                let mut clients = [Client::connect(listener).await, Client::connect(listener).await];
                for _ in 0..3 {
                    for client in &mut clients {
                        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
                        let answer = client.read_response().await;
                        assert_eq!(status(&answer), 200, "{answer}");
                        let expected = told(client.0.local_addr().unwrap(), listener);
                        assert!(answer.ends_with(&expected), "{protocol}: {answer} for {expected}");
                    }
                }
            }
        }
    }
}

/// What HAProxy says of a client.
fn told(client: SocketAddr, listener: SocketAddr) -> String {
    format!("{}|{}|{}|{}", client.ip(), client.port(), listener.ip(), listener.port())
}
