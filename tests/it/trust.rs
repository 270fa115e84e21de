//! Whose word counts: identity and forwarding headers of trusted peers, of strangers, and where no `trust:` is written.

use std::net::SocketAddr;

use weir::logic::split::{Split, assign_key};
use weir::types::{Share, SplitName, UnitKey, VariantName};

use crate::support::proxy::tcp;
use crate::support::raw::Client;
use crate::support::{Arms, Ask, BOTH, Proxy, Via};

/// Where a request comes in, from the tests' own address 127.0.0.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// By a listener that trusts it.
    Trusted,
    /// By a listener that trusts others.
    Stranger,
    /// By a listener without `trust:`.
    Open,
}
use Place::{Open, Stranger, Trusted};

const PLACES: [Place; 3] = [Trusted, Stranger, Open];

const LISTENERS: &str = "workers: 2\nlisteners:\n  - { bind: 127.0.0.1:0, trust: [127.0.0.1/32, 10.0.0.0/8, \
                         '2001:db8:1::/48'] }\n  - { bind: 127.0.0.2:0, trust: [10.0.0.0/8] }\n  - { bind: 127.0.0.3:0 }\n";

struct House {
    arms: Arms,
    proxy: Proxy,
}

impl House {
    async fn new(rest: &str) -> Self {
        let arms = Arms::start(&["blue", "green", "canary", "beta"]).await;
        let proxy = Proxy::start_whole(&format!("{LISTENERS}{}{rest}", arms.yaml())).await;
        Self { arms, proxy }
    }

    fn address(&self, place: Place) -> SocketAddr {
        tcp(&self.proxy.app.addresses()[place as usize])
    }
}

const SPLIT: &str = "splits:\n  s:\n    key: [header:x-tenant-id]\n    variants: [{ name: blue }, { name: green, weight: \
                     50% }, { name: canary }]\n    rules: [{ when: [{ value: header:x-tier, in: [gold] }], variant: \
                     canary }]\nroutes:\n  - { when: [{ value: header:x-beta, present: true }], upstream: beta }\n  - { \
                     split: s }\n";

/// What is sent, who answers where it counts, and what reaches the upstream of it then.
type Row<'a> = (&'a [(&'a str, &'a str)], &'a str, &'a [&'a str]);

#[tokio::test]
async fn identity_counts_from_whom_it_may_and_its_aliases_from_nobody() {
    let house = House::new(SPLIT).await;
    let half = [(VariantName::new("green").unwrap(), Share::parse("50%").unwrap())];
    let library = Split::new(SplitName::new("s").unwrap(), VariantName::new("blue").unwrap(), &half).unwrap();
    let mut tenants = (0..100).map(|number| format!("t-{number}"));
    let green = tenants.find(|one| assign_key(&library, UnitKey::new(one.as_bytes()).unwrap()).variant == 1);
    let green = green.unwrap();
    let tenant = green.as_str();
    let rows: &[Row<'_>] = &[
        (&[("x-tenant-id", tenant)], "green", &["x-tenant-id"]),
        (&[("X-Tenant-Id", tenant)], "green", &["x-tenant-id"]),
        (&[("x-tenant-id", tenant), ("x-tier", "gold")], "canary", &["x-tenant-id", "x-tier"]),
        (&[("x-beta", "")], "beta", &["x-beta"]),
        (&[("x_tenant_id", tenant)], "blue", &[]),
        (
            &[("x.tenant.id", tenant), ("x-tenant_id", tenant), ("x_beta", "1"), ("x.tier", "gold")],
            "blue",
            &[],
        ),
        (&[("x-tenant-id", tenant), ("x_tenant_id", "t-other")], "green", &["x-tenant-id"]),
        (&[("x-tenantid", tenant), ("tenant-id", tenant)], "blue", &["x-tenantid", "tenant-id"]),
    ];
    for place in PLACES {
        for (sent, counted, passed) in rows {
            for via in BOTH {
                let ask = Ask::get("/").with_all(sent).with("x_other", "1").with("cookie", "x-tenant-id=t-1");
                let answer = ask.send(via, house.address(place)).await;
                let row = format!("{place:?} {via:?} {sent:?}");
                let arm = if place == Stranger { "blue" } else { counted };
                assert_eq!(answer.upstream(), arm, "{row}");
                let seen = house.arms.last(arm);
                let ours = ["x-tenant-id", "x-tier", "x-beta"];
                let mut names: Vec<_> = seen
                    .headers
                    .keys()
                    .map(http::HeaderName::as_str)
                    .filter(|name| ["tenant", "tier", "beta"].iter().any(|part| name.contains(part)))
                    .collect();
                names.sort_unstable();
                let mut expected = passed.to_vec();
                expected.retain(|name| place != Stranger || !ours.contains(name));
                expected.sort_unstable();
                assert_eq!(names, expected, "{row}");
                assert_eq!(
                    (seen.header("x_other"), seen.header("cookie")),
                    ("1", "x-tenant-id=t-1"),
                    "{row}"
                );
            }
        }
    }
}

#[tokio::test]
async fn header_that_connection_names_is_gone_before_it_counts() {
    let house = House::new(SPLIT).await;
    let rows = [("x-tier", "blue"), ("X-Tier, close", "blue"), ("close", "canary"), ("x-tie", "canary")];
    for place in [Trusted, Open] {
        for (connection, expected) in rows {
            let ask = Ask::get("/").with("connection", connection).with("x-tier", "gold");
            let answer = ask.send(Via::Http1, house.address(place)).await;
            assert_eq!(answer.upstream(), expected, "{place:?} {connection}");
            let passed = house.arms.last(expected).headers.contains_key("x-tier");
            assert_eq!(passed, expected == "canary", "{place:?} {connection}");
        }
    }
}

#[tokio::test]
async fn forwarding_headers_of_a_trusted_peer_are_continued_and_of_others_replaced() {
    let house = House::new("routes: [{ upstream: blue }]\n").await;
    let sent = [
        ("host", "Shop.test:8080"),
        ("x-forwarded-for", "192.0.2.7"),
        ("x-forwarded-for", "10.0.0.3"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "outer.test"),
        ("forwarded", "for=192.0.2.7;proto=https"),
        ("via", "1.1 edge"),
        ("x-request-id", "the-edge's-own"),
    ];
    let aliases = [("x_forwarded_for", "6.6.6.6"), ("x.forwarded.proto", "https"), ("x_request_id", "fake")];
    let own = "for=127.0.0.1;host=\"shop.test:8080\";proto=http";
    for place in PLACES {
        for via in BOTH {
            Ask::get("/").with_all(&sent).with_all(&aliases).send(via, house.address(place)).await;
            let seen = house.arms.last("blue");
            let trusted = place == Trusted;
            let rows = [
                ("x-forwarded-for", "192.0.2.7, 10.0.0.3, 127.0.0.1", "127.0.0.1"),
                ("x-forwarded-proto", "https", "http"),
                ("x-forwarded-host", "outer.test", "shop.test:8080"),
                ("forwarded", &format!("for=192.0.2.7;proto=https, {own}"), own),
            ];
            for (name, continued, replaced) in rows {
                let fields: Vec<_> = seen.headers.get_all(name).iter().collect();
                assert_eq!(fields, [if trusted { continued } else { replaced }], "{place:?} {via:?} {name}");
            }
            assert_eq!(seen.header("host"), "Shop.test:8080", "{place:?} {via:?}");
            let hop = if via == Via::Http2 { "1.1 edge, 2 weir" } else { "1.1 edge, 1.1 weir" };
            assert_eq!(seen.header("via"), hop, "{place:?} {via:?}");
            let id = seen.header("x-request-id");
            assert_eq!(id == "the-edge's-own", place != Stranger, "{place:?} {via:?} {id}");
            for (alias, _) in aliases {
                assert!(!seen.headers.contains_key(alias), "{place:?} {via:?} {alias}");
            }
        }
    }
}

#[tokio::test]
async fn request_id_is_made_where_there_is_none_that_may_stay() {
    let house = House::new("routes: [{ upstream: blue }]\n").await;
    let mut made = std::collections::HashSet::new();
    let long = "x".repeat(129);
    for sent in [&[][..], &[""], &["two words"], &[&long], &["tab\tin"], &["ünï"]] {
        for via in BOTH {
            let ask = sent.iter().fold(Ask::get("/"), |ask, id| ask.with("x-request-id", id));
            ask.send(via, house.address(Trusted)).await;
            let seen = house.arms.last("blue");
            assert_eq!(seen.headers.get_all("x-request-id").iter().count(), 1, "{via:?} {sent:?}");
            let id = seen.header("x-request-id").to_owned();
            assert!(
                id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()),
                "{via:?} {sent:?}: {id}"
            );
            assert!(made.insert(id), "made twice");
        }
    }
}

#[tokio::test]
async fn address_of_the_client_comes_from_a_trusted_chain_only() {
    let house = House::new(
        "splits:\n  s:\n    key: [header:x-none]\n    variants: [{ name: blue }, { name: green }, { name: canary }, { name: \
         beta }]\n    rules:\n      - { when: [{ value: client_ip, cidr: [192.0.2.0/24] }], variant: canary }\n      - { \
         when: [{ value: client_ip, cidr: [127.0.0.1] }], variant: green }\n      - { when: [{ value: client_ip, cidr: \
         ['2001:db8::/32'] }], variant: beta }\nroutes: [{ split: s }]\n",
    )
    .await;
    // The arm where the chain is trusted; elsewhere the peer is the client.
    let rows: &[(&[(&str, &str)], &str)] = &[
        (&[], "green"),
        (&[("x-forwarded-for", "192.0.2.7")], "canary"),
        (&[("x-forwarded-for", "192.0.2.7:4711")], "canary"),
        (&[("x-forwarded-for", "::ffff:192.0.2.7")], "canary"),
        (&[("x-forwarded-for", "2001:db8::7")], "beta"),
        (&[("x-forwarded-for", "[2001:db8::7]:4711")], "beta"),
        // From the right: what a trusted hop says of its peer counts, what a stranger says of his does not.
        (&[("x-forwarded-for", "192.0.2.7, 10.0.0.3, 2001:db8:1::1")], "canary"),
        (&[("x-forwarded-for", "192.0.2.7, 203.0.113.1")], "blue"),
        (&[("x-forwarded-for", "203.0.113.1, 192.0.2.7")], "canary"),
        (&[("x-forwarded-for", "203.0.113.1"), ("x-forwarded-for", "192.0.2.7,10.0.0.3")], "canary"),
        (&[("x-forwarded-for", "10.0.0.4, 10.0.0.3")], "blue"),
        // What cannot be read ends what can be believed.
        (&[("x-forwarded-for", "unknown")], "green"),
        (&[("x-forwarded-for", "192.0.2.7, 192.0.2")], "green"),
        // An empty element is none (RFC 9110 §5.6.1.2).
        (&[("x-forwarded-for", "192.0.2.7,")], "canary"),
        (&[("x-forwarded-for", "")], "green"),
        (&[("forwarded", "for=192.0.2.7")], "canary"),
        (&[("forwarded", "for=203.0.113.1, By=x;For=\"[2001:db8::7]:80\";proto=https")], "beta"),
        (&[("forwarded", "for=192.0.2.7, for=_hidden")], "green"),
        (&[("forwarded", "by=192.0.2.7")], "green"),
        (&[("x-forwarded-for", "203.0.113.1"), ("forwarded", "for=192.0.2.7")], "blue"),
        (&[("x-real-ip", "192.0.2.7"), ("x_forwarded_for", "192.0.2.7")], "green"),
    ];
    for place in PLACES {
        for (number, (sent, trusted)) in rows.iter().enumerate() {
            let answer = Ask::get("/").with_all(sent).send(BOTH[number % 2], house.address(place)).await;
            let expected = if place == Trusted { trusted } else { "green" };
            assert_eq!(answer.upstream(), expected, "{place:?} {sent:?}");
        }
    }
    // Another peer of this machine is not the one that is trusted.
    let answer = Ask::get("/").from("127.0.0.9").with("x-forwarded-for", "192.0.2.7");
    assert_eq!(answer.send(Via::Http1, house.address(Trusted)).await.upstream(), "blue");
}

#[tokio::test]
async fn trusted_peer_that_ends_tls_makes_cookie_and_redirect_secure() {
    let house = House::new(
        "splits: { s: { missing: cookie, variants: [{ name: blue }] } }\nroutes:\n  - { paths: [/old], redirect: { path: \
         /new } }\n  - { split: s }\n",
    )
    .await;
    for (header, value) in [("x-forwarded-proto", "https"), ("forwarded", "for=192.0.2.7;proto=https")] {
        for place in PLACES {
            for (sent, secure) in [(Some(value), place == Trusted), (None, false)] {
                let ask = |path: &str| sent.iter().fold(Ask::get(path), |ask, value| ask.with(header, value));
                let answer = ask("/").send(Via::Http1, house.address(place)).await;
                let row = format!("{place:?} {header} {sent:?}");
                assert_eq!(answer.header("set-cookie").ends_with("; Secure"), secure, "{row}: {answer:?}");
                let answer = ask("/old?a=1").send(Via::Http2, house.address(place)).await;
                let scheme = if secure { "https" } else { "http" };
                assert_eq!(answer.header("location"), format!("{scheme}://shop.test/new?a=1"), "{row}");
            }
        }
    }
}

#[tokio::test]
async fn bare_override_counts_for_the_client_that_a_trusted_peer_names() {
    let house = House::new(
        "splits: { s: { key: [header:x-id], override: { header: x-force, bare_from: [192.0.2.7] }, variants: [{ name: blue }, \
         { name: canary }] } }\nroutes: [{ split: s }]\n",
    )
    .await;
    for (place, client, expected) in [
        (Trusted, "192.0.2.7", "canary"),
        (Trusted, "192.0.2.8", "blue"),
        (Trusted, "192.0.2.7, 192.0.2.8", "blue"),
        (Stranger, "192.0.2.7", "blue"),
        (Open, "192.0.2.7", "blue"),
    ] {
        let ask = Ask::get("/").with("x-forwarded-for", client).with("x-force", "canary");
        assert_eq!(
            ask.send(Via::Http1, house.address(place)).await.upstream(),
            expected,
            "{place:?} {client}"
        );
    }
}

#[tokio::test]
async fn kept_connection_has_the_trust_of_its_own_listener_after_each_change() {
    let arms = Arms::start(&["blue", "canary"]).await;
    let text = |first: &str, second: &str| {
        format!(
            "workers: 1\nlisteners: [{{ {first} }}, {{ {second} }}]\n{}splits: {{ s: {{ key: [header:x-id], rules: [{{ when: \
             [{{ value: header:x-tier, in: [gold] }}], variant: canary }}], variants: [{{ name: blue }}, {{ name: canary }}] \
             }} }}\nroutes: [{{ split: s }}]\n",
            arms.yaml()
        )
    };
    let (inner, outer) = ("bind: 127.0.0.1:0, trust: [127.0.0.1]", "bind: 127.0.0.2:0, trust: [10.0.0.1]");
    let proxy = Proxy::start_whole(&text(inner, outer)).await;
    let addresses: Vec<_> = proxy.app.addresses().iter().map(tcp).collect();
    let mut inside = Client::connect(addresses[0]).await;
    let mut outside = Client::connect(addresses[1]).await;
    // What the file says next, and who answers inside and outside.
    let steps = [
        (text(inner, outer), "canary", "blue"),
        // Without names of their own they are called by their places, which they change here.
        (text(outer, inner), "canary", "blue"),
        (text(&format!("name: a, {inner}"), &format!("name: b, {outer}")), "canary", "blue"),
        (text("bind: 127.0.0.1:0, trust: [10.0.0.1]", outer), "blue", "blue"),
        (text("bind: 127.0.0.1:0", "bind: 127.0.0.2:0"), "canary", "canary"),
    ];
    for (number, (text, in_there, out_there)) in steps.into_iter().enumerate() {
        if number > 0 {
            proxy.replace(&text).await;
        }
        for (client, expected) in [(&mut inside, in_there), (&mut outside, out_there)] {
            client.send("GET / HTTP/1.1\r\nhost: a\r\nx-tier: gold\r\n\r\n").await;
            let answer = client.read_response().await;
            assert!(answer.contains(&format!("x-upstream: {expected}\r\n")), "step {number}: {answer}");
        }
    }
}
