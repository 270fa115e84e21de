//! What a worker keeps of its endpoints.

use http::{Method, Uri, Version};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::LocalSet;

use super::*;
use crate::config::model;
use crate::logic::balance::Policy;
use crate::telemetry::Metrics;
use crate::types::{EndpointAddress, UpstreamName};
use crate::upstream::{Address, Inbound, Needs};
use crate::wire::{Fields, RequestHead};

const WISH: Wish = Wish { needs: Needs::Somebody, is_spare: false, hash: None };

#[tokio::test]
async fn endpoint_that_no_longer_resolves_then_its_idle_connection_closes() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let second = Duration::from_secs(1);
    let settings = model::Upstream {
        name: UpstreamName::new("one").unwrap(),
        endpoints: vec![model::Endpoint {
            address: EndpointAddress::parse(&address.to_string()).unwrap(),
            weight: 1,
            zone: None,
        }],
        zone: None,
        hash_key: Vec::new(),
        protocol: Protocol::Http1,
        proxy_protocol: false,
        tls: None,
        balance: Policy::RoundRobin,
        ejection: crate::logic::balance::Ejection::default(),
        slow_start: None,
        limits: None,
        health: None,
        connect_timeout: second,
        response_timeout: 10 * second,
        idle_timeout: 600 * second,
        dns_refresh: 600 * second,
    };
    let metrics = Metrics::new();
    let shared = Arc::new(Upstream::new(Arc::new(settings), &metrics, None).unwrap());
    let tasks = LocalSet::new();
    tasks
        .run_until(async {
            let local = Local::new(Arc::clone(&shared), Rc::new(metrics.worker()));
            let endpoint = local.pick(&[], 0, WISH).unwrap();
            let fields = Fields::from_iter([("host", "a")]);
            let uri = Uri::from_static("/");
            let head = RequestHead::new(Method::GET, &uri, Version::HTTP_11, fields);
            let outgoing = Outgoing { head: &head, target: "/", host: None, upgrade: None };
            let body = Upload::new(Inbound::Empty, None, second);
            let accepting = async {
                let (mut peer, _) = listener.accept().await.unwrap();
                assert!(peer.read(&mut [0; 1024]).await.unwrap() > 0);
                peer.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
                peer
            };
            let caller = Caller::default();
            let sending = endpoint.send(&outgoing, body, &caller);
            let (sent, mut peer) = tokio::join!(sending, accepting);
            sent.unwrap().lease.give_back();
            let mut other = shared.endpoints()[0].clone();
            other.address = Address::Tcp("127.0.0.1:1".parse().unwrap());
            assert!(shared.update(vec![other]));
            drop((local.pick(&[], 0, WISH), endpoint));
            let closed = tokio::time::timeout(10 * second, peer.read(&mut [0; 1])).await;
            assert_eq!(closed.expect("it closes").unwrap(), 0);
        })
        .await;
}
