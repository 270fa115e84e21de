//! Endpoints are told whose connection it is, and a connection is of one client only.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use weir::wire::proxy_protocol::{Addresses, Header, Parsed, parse};

use super::{addresses, line};
use crate::support::proxy::tcp;
use crate::support::raw::{Client, Scripted, status};
use crate::support::upstream::{Body, full};
use crate::support::{Ask, BOTH, Proxy, until};

/// A request that came on the connection of this number, behind this header.
#[derive(Debug, Clone)]
struct Told {
    connection: usize,
    addresses: Option<Addresses>,
    headers: HeaderMap,
}

/// An endpoint that reads a PROXY header on each connection.
struct Endpoint {
    scripted: Scripted,
    told: Arc<Mutex<Vec<Told>>>,
    open: Arc<Mutex<usize>>,
}

impl Endpoint {
    async fn start() -> Self {
        let told: Arc<Mutex<Vec<Told>>> = Arc::default();
        let (open, number): (Arc<Mutex<usize>>, Arc<Mutex<usize>>) = (Arc::default(), Arc::default());
        let (log, count) = (Arc::clone(&told), Arc::clone(&open));
        let scripted = Scripted::accepting(move |mut stream| {
            let (log, count, number) = (Arc::clone(&log), Arc::clone(&count), Arc::clone(&number));
            async move {
                let connection = {
                    let mut number = number.lock().unwrap();
                    *number += 1;
                    *number
                };
                *count.lock().unwrap() += 1;
                let addresses = read_header(&mut stream).await.addresses;
                let service = service_fn(move |request: Request<Incoming>| {
                    let headers = request.headers().clone();
                    log.lock().unwrap().push(Told { connection, addresses, headers });
                    async { Ok::<_, std::convert::Infallible>(Response::<Body>::new(full("told"))) }
                });
                // The proxy may close at any time.
                let _ = auto::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
                *count.lock().unwrap() -= 1;
            }
        })
        .await;
        Self { scripted, told, open }
    }

    fn last(&self) -> Told {
        self.told.lock().unwrap().last().unwrap().clone()
    }

    async fn is_left_by_all(&self) {
        until("every connection has closed", || async { (*self.open.lock().unwrap() == 0).then_some(()) })
            .await;
    }
}

/// Reads a header and not a byte more.
async fn read_header(stream: &mut TcpStream) -> Header {
    let mut bytes = Vec::new();
    loop {
        match parse(&bytes).unwrap() {
            Parsed::Whole(header) => return header,
            Parsed::Incomplete(needed) => {
                let at = bytes.len();
                bytes.resize(at + needed, 0);
                stream.read_exact(&mut bytes[at..]).await.unwrap();
            }
        }
    }
}

/// The protocols that endpoints are spoken to by.
const PROTOCOLS: [&str; 2] = ["http1", "http2"];

async fn house(protocol: &str, listeners: &str, endpoint: &Endpoint) -> Proxy {
    Proxy::start_whole(&format!(
        "workers: 1\nlisteners: [{listeners}]\nupstreams: {{ one: {{ endpoints: ['{}'], protocol: {protocol}, \
         proxy_protocol: v2, timeouts: {{ idle: 30s }} }} }}\nroutes: [{{ upstream: one }}]\n",
        endpoint.scripted.address
    ))
    .await
}

#[tokio::test]
async fn endpoint_is_told_the_client_and_where_it_connected_to() {
    for protocol in PROTOCOLS {
        let endpoint = Endpoint::start().await;
        let listeners = "{ bind: 127.0.0.1:0 }, { bind: '[::1]:0' }, { bind: '[::]:0' }";
        let proxy = house(protocol, listeners, &endpoint).await;
        let bound: Vec<SocketAddr> = proxy.app.addresses().iter().map(tcp).collect();
        let rows = [
            (bound[0], bound[0]),
            (bound[1], bound[1]),
            // By IPv4 to where IPv6 is listened on: it is IPv4 that was spoken.
            (SocketAddr::new([127, 0, 0, 1].into(), bound[2].port()), bound[2]),
            (SocketAddr::new("::1".parse().unwrap(), bound[2].port()), bound[2]),
        ];
        for (address, listener) in rows {
            for via in BOTH {
                let stream = TcpStream::connect(address).await.unwrap();
                let expected = Addresses::new(stream.local_addr().unwrap(), address);
                assert_eq!(Ask::get("/").send_on(via, stream).await.status, 200);
                let told = endpoint.last();
                assert_eq!(told.addresses, Some(expected), "{protocol} {via:?} {address} by {listener}");
                let ip = expected.source().ip().to_string();
                assert_eq!(told.headers["x-forwarded-for"], ip.as_str(), "{protocol} {via:?} {address}");
            }
        }
    }
}

#[tokio::test]
async fn announced_client_is_announced_on() {
    for protocol in PROTOCOLS {
        let endpoint = Endpoint::start().await;
        let proxy = house(protocol, "{ bind: 127.0.0.1:0, proxy_protocol: required }", &endpoint).await;
        let v4 = Some(addresses("192.0.2.7:56324", "198.51.100.80:443"));
        let v6 = Some(addresses("[2001:db8::7]:56324", "[2001:db8::80]:443"));
        for (header, expected) in
            [(line("192.0.2.7"), v4), (line("2001:db8::7"), v6), (b"PROXY UNKNOWN\r\n".to_vec(), None)]
        {
            for via in BOTH {
                let mut stream = TcpStream::connect(proxy.address).await.unwrap();
                let own = Addresses::new(stream.local_addr().unwrap(), proxy.address);
                stream.write_all(&header).await.unwrap();
                assert_eq!(Ask::get("/").send_on(via, stream).await.status, 200);
                assert_eq!(endpoint.last().addresses, Some(expected.unwrap_or(own)), "{protocol} {via:?}");
            }
        }
    }
}

#[tokio::test]
async fn connection_is_used_for_one_client_only_and_goes_with_it() {
    const REQUEST: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    for protocol in PROTOCOLS {
        let endpoint = Endpoint::start().await;
        let proxy = house(protocol, "{ bind: 127.0.0.1:0 }", &endpoint).await;
        let mut clients = Vec::new();
        for _ in 0..3 {
            clients.push(Client::connect(proxy.address).await);
        }
        for _ in 0..4 {
            for client in &mut clients {
                client.send(REQUEST).await;
                assert_eq!(status(&client.read_response().await), 200, "{protocol}");
                let expected = Addresses::new(client.0.local_addr().unwrap(), proxy.address);
                assert_eq!(endpoint.last().addresses, Some(expected), "{protocol}");
            }
        }
        let told = endpoint.told.lock().unwrap().clone();
        for (number, told) in told.iter().enumerate() {
            assert_eq!(told.connection, told_first(number, &endpoint), "{protocol}: one connection a client");
        }
        assert_eq!(endpoint.scripted.count(), 3, "{protocol}");
        drop(clients.pop());
        until("its own has closed", || async { (*endpoint.open.lock().unwrap() == 2).then_some(()) }).await;
        clients[0].send(REQUEST).await;
        assert_eq!(status(&clients[0].read_response().await), 200, "{protocol}");
        assert_eq!(endpoint.scripted.count(), 3, "{protocol}: the others' are kept");
        drop(clients);
        endpoint.is_left_by_all().await;
        for gauge in ["weir_upstream_connections_active", "weir_upstream_connections_idle"] {
            until(gauge, || async { (proxy.metric(gauge, &[]).await == 0.0).then_some(()) }).await;
        }
    }
}

/// The connection of the client that sent request `number`: the one of its first request.
fn told_first(number: usize, endpoint: &Endpoint) -> usize {
    endpoint.told.lock().unwrap()[number % 3].connection
}

#[tokio::test]
async fn client_that_goes_at_once_leaves_no_connection_behind() {
    for protocol in PROTOCOLS {
        let endpoint = Endpoint::start().await;
        let proxy = house(protocol, "{ bind: 127.0.0.1:0 }", &endpoint).await;
        for via in BOTH {
            for _ in 0..20 {
                assert_eq!(Ask::get("/").send(via, proxy.address).await.status, 200);
            }
        }
        assert_eq!(endpoint.scripted.count(), 40, "{protocol}");
        endpoint.is_left_by_all().await;
    }
}

#[tokio::test]
async fn streams_of_one_client_share_a_connection() {
    let endpoint = Endpoint::start().await;
    let proxy = house("http2", "{ bind: 127.0.0.1:0 }", &endpoint).await;
    let stream = TokioIo::new(TcpStream::connect(proxy.address).await.unwrap());
    let (send, driver) =
        hyper::client::conn::http2::handshake::<_, _, Body>(TokioExecutor::new(), stream).await.unwrap();
    let driver = tokio::spawn(driver);
    let asks = (0..30).map(|_| {
        let mut send = send.clone();
        async move {
            let request = Request::get("http://shop.test/").body(full("")).unwrap();
            send.send_request(request).await.unwrap().status().as_u16()
        }
    });
    assert_eq!(futures_util::future::join_all(asks).await, [200; 30]);
    assert_eq!(endpoint.scripted.count(), 1);
    drop(send);
    driver.abort();
    endpoint.is_left_by_all().await;
}

#[tokio::test]
async fn client_without_an_address_is_nobody_and_shares() {
    for protocol in PROTOCOLS {
        let endpoint = Endpoint::start().await;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weir.sock");
        let listeners = format!("{{ bind: 127.0.0.1:0 }}, {{ bind: 'unix:{}' }}", path.display());
        let _proxy = house(protocol, &listeners, &endpoint).await;
        for _ in 0..3 {
            for via in BOTH {
                let stream = UnixStream::connect(&path).await.unwrap();
                assert_eq!(Ask::get("/").send_on(via, stream).await.status, 200);
                assert_eq!(endpoint.last().addresses, None, "{protocol} {via:?}");
            }
        }
        assert_eq!(endpoint.scripted.count(), 1, "{protocol}");
    }
}

#[tokio::test]
async fn connections_of_a_client_close_when_their_upstream_goes() {
    let (first, second) = (Endpoint::start().await, Endpoint::start().await);
    let proxy = house("http1", "{ bind: 127.0.0.1:0 }", &first).await;
    let text = std::fs::read_to_string(&proxy.path).unwrap();
    let mut client = Client::connect(proxy.address).await;
    for endpoint in [&first, &second] {
        if endpoint.scripted.address != first.scripted.address {
            let (old, new) = (first.scripted.address.to_string(), second.scripted.address.to_string());
            proxy.replace(&text.replace(&old, &new)).await;
            first.is_left_by_all().await;
        }
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(status(&client.read_response().await), 200);
        let expected = Addresses::new(client.0.local_addr().unwrap(), proxy.address);
        assert_eq!(endpoint.last().addresses, Some(expected));
    }
    assert_eq!((first.scripted.count(), second.scripted.count()), (1, 1));
}

#[tokio::test]
async fn connection_of_a_client_that_says_nothing_for_long_is_closed_and_made_again() {
    for protocol in PROTOCOLS {
        let endpoint = Endpoint::start().await;
        let proxy = house(protocol, "{ bind: 127.0.0.1:0 }", &endpoint).await;
        proxy.replace(&std::fs::read_to_string(&proxy.path).unwrap().replace("30s", "50ms")).await;
        let mut client = Client::connect(proxy.address).await;
        for round in 1..=2 {
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
            assert_eq!(status(&client.read_response().await), 200, "{protocol}");
            let expected = Addresses::new(client.0.local_addr().unwrap(), proxy.address);
            assert_eq!(endpoint.last().addresses, Some(expected), "{protocol}");
            assert_eq!(endpoint.scripted.count(), round, "{protocol}");
            endpoint.is_left_by_all().await;
        }
    }
}
