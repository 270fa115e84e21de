//! What clients can make the proxy hold: connections, requests, files and memory have bounds, and who stays below them
//! is served as ever.

mod files;
mod memory;
mod slow;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;
use tokio::sync::Notify;

use crate::support::client::{Connection, empty};
use crate::support::raw::{Client, Scripted, exchange, status};
use crate::support::stage::Settings;
use crate::support::{PATIENCE, Proxy, Stage, Upstream, until};

const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";

/// A client that has been served, and stays.
async fn served(address: SocketAddr) -> Client {
    let mut client = Client::connect(address).await;
    client.send(GET).await;
    assert_eq!(status(&client.read_response().await), 200);
    client
}

/// A connection from `source`.
async fn from(source: &str, address: SocketAddr) -> Client {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(source.parse().unwrap(), 0)).unwrap();
    Client(socket.connect(address).await.unwrap())
}

/// Passes when a new connection is told that there are too many.
async fn assert_refused(mut client: Client) {
    let answer = client.read_to_end().await;
    assert_eq!(status(&answer), 503, "{answer}");
    assert!(answer.contains("retry-after: 1") && answer.contains("x-weir-error: overloaded"), "{answer}");
}

async fn refused(proxy: &Proxy, cause: &str) -> f64 {
    proxy.metric("weir_downstream_refused_total", &[&format!("cause=\"{cause}\"")]).await
}

fn config(limits: &str, listener: &str, upstream: SocketAddr) -> String {
    format!(
        "workers: 2\nlimits: {{ {limits} }}\nlisteners: [{{ bind: 127.0.0.1:0{listener} }}]\n\
         upstreams: {{ one: {{ endpoints: ['{upstream}'] }} }}\nroutes: [{{ upstream: one }}]\n"
    )
}

#[tokio::test]
async fn connection_over_a_limit_is_refused_and_one_below_it_served_over_reloads_too() {
    let upstream = Upstream::named("one").await;
    let rows = [("connections: 3", "", "connections: 4"), ("", ", limits: { connections: 3 }", "")];
    for (in_all, of_listener, raised) in rows {
        let proxy = Proxy::start_whole(&config(in_all, of_listener, upstream.address)).await;
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(served(proxy.address).await);
        }
        for _ in 0..3 {
            assert_refused(Client::connect(proxy.address).await).await;
        }
        // Who has sent his request already is told as well.
        let mut eager = Client::connect(proxy.address).await;
        let _ = eager.0.write_all(GET.as_bytes()).await;
        assert_refused(eager).await;
        assert_eq!(refused(&proxy, "limit").await, 4.0);
        let active = proxy.metric("weir_downstream_connections_active", &[]).await;
        assert_eq!(active, 3.0, "who is refused is none of the open ones");
        // Those that are in are served.
        for client in &mut held {
            client.send(GET).await;
            assert_eq!(status(&client.read_response().await), 200);
        }
        let text = config(raised, &of_listener.replace('3', "4"), upstream.address);
        proxy.replace(&text).await;
        held.push(until("the new limit holds", || async { welcomed(&proxy).await }).await);
        assert_refused(Client::connect(proxy.address).await).await;
        // A lower one closes nobody.
        proxy.replace(&config("connections: 1", "", upstream.address)).await;
        for client in &mut held {
            client.send(GET).await;
            assert_eq!(status(&client.read_response().await), 200);
        }
        drop(held);
        until("there is room again", || async { welcomed(&proxy).await }).await;
    }
}

/// A client that is served, if one is let in.
async fn welcomed(proxy: &Proxy) -> Option<Client> {
    let mut client = Client::connect(proxy.address).await;
    // It may be closed already.
    let _ = client.0.write_all(GET.as_bytes()).await;
    let answer = client.read_response().await;
    (status(&answer) == 200).then_some(client)
}

#[tokio::test]
async fn connections_of_one_client_are_limited_and_those_of_others_are_not() {
    let upstream = Upstream::named("one").await;
    let text = config("", ", limits: { per_client: 2 }", upstream.address);
    let proxy = Proxy::start_whole(&text).await;
    let held = [served(proxy.address).await, served(proxy.address).await];
    assert_refused(Client::connect(proxy.address).await).await;
    for _ in 0..2 {
        let mut other = from("127.0.0.2", proxy.address).await;
        other.send(GET).await;
        assert_eq!(status(&other.read_response().await), 200);
    }
    assert_eq!((refused(&proxy, "client_limit").await, refused(&proxy, "limit").await), (1.0, 0.0));
    drop(held);
    until("there is room again", || async { welcomed(&proxy).await }).await;
}

#[tokio::test]
async fn client_behind_a_balancer_is_the_one_that_the_header_names() {
    let upstream = Upstream::named("one").await;
    let listener = ", proxy_protocol: required, limits: { per_client: 1 }";
    let proxy = Proxy::start_whole(&config("", listener, upstream.address)).await;
    let asking = |source: &'static str| {
        let address = proxy.address;
        async move {
            let mut client = Client::connect(address).await;
            client.send(format!("PROXY TCP4 {source} 10.9.9.9 1000 80\r\n{GET}")).await;
            let answer = client.read_response().await;
            (status(&answer), client)
        }
    };
    let (first, held) = asking("10.0.0.1").await;
    let (second, _) = asking("10.0.0.1").await;
    let (other, _) = asking("10.0.0.2").await;
    assert_eq!((first, second, other), (200, 503, 200));
    drop(held);
    until("there is room again", || async { (asking("10.0.0.1").await.0 == 200).then_some(()) }).await;
}

#[tokio::test]
async fn request_over_the_limit_is_shed_on_a_connection_that_goes_on() {
    let gate = Arc::new(Notify::new());
    let go = Arc::clone(&gate);
    let upstream = Scripted::start(move |mut stream, _| {
        let gate = Arc::clone(&gate);
        async move {
            gate.notified().await;
            // The proxy may have gone.
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").await;
        }
    })
    .await;
    let proxy = Proxy::start_whole(&config("requests: 2", "", upstream.address)).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut client = Client::connect(proxy.address).await;
        client.send(GET).await;
        held.push(client);
    }
    until("both are under way", || async { (upstream.count() == 2).then_some(()) }).await;
    let mut shed = Client::connect(proxy.address).await;
    for _ in 0..3 {
        shed.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello").await;
        let answer = shed.read_response().await;
        assert_eq!(status(&answer), 503, "{answer}");
        assert!(answer.contains("x-weir-error: overloaded\r\n") && answer.contains("retry-after: 1\r\n"));
        assert!(!answer.contains("connection: close"), "{answer}");
    }
    let mut http2 = Connection::new(proxy.address, true).await;
    let (response, ..) = http2.exchange(http::Request::get("/").body(empty()).unwrap()).await;
    assert_eq!(response.status(), 503);
    assert_eq!(proxy.metric("weir_errors_total", &["code=\"overloaded\"", "blame=\"us\""]).await, 4.0);
    assert_eq!(upstream.count(), 2, "nothing of it reaches an upstream");
    for _ in 0..2 {
        go.notify_one();
    }
    for client in &mut held {
        assert_eq!(status(&client.read_response().await), 200);
    }
    // There is room, also for the one that was told to come back.
    shed.send(GET).await;
    go.notify_one();
    let answer = tokio::time::timeout(PATIENCE, shed.read_response()).await.unwrap();
    assert_eq!(status(&answer), 200, "{answer}");
}

#[tokio::test]
async fn stranger_who_is_refused_leaves_nothing() {
    let upstream = Upstream::named("one").await;
    let settings = Settings { listener: "limits: { connections: 1 }", ..Settings::default() };
    let stage = Stage::with(&[upstream.address], settings).await;
    let held = served(stage.proxy.address).await;
    for _ in 0..50 {
        let answer = exchange(stage.proxy.address, "").await;
        assert_eq!(status(&answer), 503, "{answer}");
    }
    drop(held);
    until("there is room again", || async { welcomed(&stage.proxy).await }).await;
    until("it is closed", || async {
        (stage.proxy.metric("weir_downstream_connections_active", &[]).await == 0.0).then_some(())
    })
    .await;
    stage.assert_in_order().await;
}
