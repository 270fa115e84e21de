//! The way from plain HTTP to https, and the header that lets browsers remember it.

use super::{Edge, SHOP};
use crate::support::Ask;
use crate::support::ask::BOTH;
use crate::support::tls::{Client, VERSIONS};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_request_is_sent_to_https_and_a_secure_one_is_served() {
    let edge = Edge::open("").await;
    let text = std::fs::read_to_string(&edge.proxy.path).unwrap();
    edge.proxy
        .replace(&text.replace(
            "routes: [{ upstream: one }]",
            "routes:\n  - { listeners: [plain], redirect: https }\n  - { listeners: [edge], upstream: one, \
             response_headers: { set: { strict-transport-security: max-age=31536000 } } }",
        ))
        .await;
    for via in BOTH {
        for (host, location) in [
            (SHOP, "https://shop.test/a?b=c"),
            ("shop.test:8080", "https://shop.test/a?b=c"),
            ("[2001:db8::1]:80", "https://[2001:db8::1]/a?b=c"),
        ] {
            let reply = Ask::new("POST", "/a?b=c").with("host", host).send(via, edge.proxy.address).await;
            assert_eq!(reply.status, 308, "{via:?} {host}");
            assert_eq!(reply.headers["location"], location, "{via:?} {host}");
            assert!(!reply.headers.contains_key("strict-transport-security"), "{via:?}");
        }
    }
    let answer = Client::new(&edge.authority, &VERSIONS).get(edge.address, SHOP, "/a").await;
    assert!(answer.contains("strict-transport-security: max-age=31536000\r\n"), "{answer}");
    assert!(answer.ends_with("one"), "{answer}");
}
