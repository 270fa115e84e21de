//! Connections that nobody has accepted yet when a process takes over, and sockets of the service manager.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;

use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use weir::app::App;
use weir::app::service::Service;
use weir::front::bind::bind;
use weir::front::handover::{Inherited, Kind, Place};
use weir::types::BindAddress;

use super::before;
use crate::support::PATIENCE;
use crate::support::lineage::Lineage;
use crate::support::load::Plain;
use crate::support::proxy::tcp;
use crate::support::raw::{Client, status};

/// How many connections wait in the queues.
const WAITING: usize = 40;

/// Clients that have sent their request and wait.
async fn waiting(address: SocketAddr) -> Vec<Client> {
    let mut clients = Vec::new();
    for _ in 0..WAITING {
        let mut client = Client::connect(address).await;
        client.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
        clients.push(client);
    }
    clients
}

async fn all_are_served(clients: Vec<Client>) {
    for mut client in clients {
        let answer = client.read_to_end().await;
        assert_eq!(status(&answer), 200, "{answer}");
    }
}

#[tokio::test]
async fn connections_in_the_queues_of_every_inherited_socket_are_served() {
    let upstream = Plain::named("one").await;
    for (sockets, workers) in [(4, 1), (4, 3), (4, 4), (4, 6), (1, 2)] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weir.yaml");
        std::fs::write(&path, before(upstream.address, workers, "")).unwrap();
        let configured = BindAddress::parse("127.0.0.1:0").unwrap();
        let (sockets, address) = bind(&configured, sockets).unwrap();
        let clients = waiting(tcp(&address)).await;
        let place = Place {
            kind: Some(Kind::Listener),
            name: "listener-1".to_owned(),
            bind: Some(configured),
            address: address.clone(),
            owns_file: true,
            sockets,
        };
        let inherited = Inherited::new(vec![place]);
        let app = App::start_with(path, inherited, Service::nobody()).await.unwrap();
        assert_eq!(app.addresses(), std::slice::from_ref(&address));
        all_are_served(clients).await;
        // And once more, whichever socket the kernel chooses.
        all_are_served(waiting(tcp(&address)).await).await;
        assert!(app.shutdown(PATIENCE).await);
    }
}

#[tokio::test]
async fn sockets_of_the_service_manager_are_used_by_address_and_by_name() {
    let upstream = Plain::named("one").await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weir.sock");
    let (by_address, by_name) =
        (TcpListener::bind("127.0.0.1:0").unwrap(), UnixListener::bind(&path).unwrap());
    let address = by_address.local_addr().unwrap();
    // In the queue before the process is there.
    let clients = waiting(address).await;
    let text = before(upstream.address, 3, "").replace(
        "[{ bind: 127.0.0.1:0",
        &format!("[{{ name: local, bind: 127.0.0.1:0 }}, {{ bind: '{address}'"),
    );
    let lineage = Lineage::activated(&text, [by_address.into(), by_name.into()], "weir.socket:local").await;
    all_are_served(clients).await;
    let ask = || async {
        let mut stream = UnixStream::connect(&path).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert_eq!(status(&answer), 200, "{answer}");
    };
    ask().await;
    // They go on to the next process, and the file is the service manager's.
    let former = lineage.upgrade().await;
    assert_eq!(lineage.code(former).await, 0);
    all_are_served(waiting(address).await).await;
    ask().await;
    lineage.signal(Signal::TERM);
    assert_eq!(lineage.code(lineage.pid()).await, 0);
    assert!(path.exists(), "it is not ours");
}

#[tokio::test]
async fn socket_of_the_service_manager_that_is_no_use_is_warned_of() {
    let upstream = Plain::named("one").await;
    let unwanted = TcpListener::bind("127.0.0.1:0").unwrap();
    let connected = std::net::TcpStream::connect(unwanted.local_addr().unwrap()).unwrap();
    let lineage = Lineage::activated(
        &before(upstream.address, 1, ""),
        [unwanted.into(), connected.into()],
        "extra:odd",
    )
    .await;
    let line = lineage.says("no socket to listen on").await;
    assert!(line.contains("odd"), "{line}");
    let line = lineage.says("is used by no listener").await;
    assert!(line.contains("extra"), "{line}");
    lineage.says("serving").await;
}
