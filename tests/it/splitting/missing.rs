//! Requests without a key, by each policy.

use std::collections::{HashMap, HashSet};

use super::{Library, assert_share, one_split, variants_yaml};
use crate::support::load::{Plain, answered_by};
use crate::support::upstream::nobody;
use crate::support::{Arms, Ask, BOTH, Proxy, Reply, Via};

const THIRDS: [(&str, &str); 3] = [("blue", ""), ("green", "30%"), ("canary", "30%")];

#[tokio::test]
async fn policy_decides_where_a_request_without_a_key_goes() {
    let arms = Arms::start(&["blue", "green", "canary"]).await;
    let rows = [("", "200"), ("missing: baseline, ", "200"), ("missing: reject, ", "400 missing_key")];
    for (missing, outcome) in rows {
        let split = format!("key: [header:x-user-id, cookie:sid], {missing}{}", variants_yaml(&THIRDS));
        let proxy = one_split(&arms.yaml(), &split).await;
        for via in BOTH {
            for headers in
                [&[][..], &[("x-user-id", "")], &[("x-user-id", " \t")], &[("cookie", "sid=; a=1")]]
            {
                let headers: Vec<_> = headers.iter().filter(|_| via == Via::Http1).copied().collect();
                let answer = Ask::get("/").with_all(&headers).send(via, proxy.address).await;
                let row = format!("{missing}{via:?} {headers:?}");
                assert_eq!(answer.outcome(), outcome, "{row}");
                assert_eq!(answer.header("set-cookie"), "", "{row}");
                if outcome == "200" {
                    assert_eq!(answer.upstream(), "blue", "{row}");
                }
            }
            let answer = Ask::get("/").with("x-user-id", "u-1").send(via, proxy.address).await;
            assert_eq!(answer.upstream(), Library::new("checkout", &THIRDS).variant("u-1"));
        }
        let refused = outcome != "200";
        let labels = |variant: &str| ["split=\"checkout\"".to_owned(), format!("variant=\"{variant}\"")];
        let counted = labels(if refused { "" } else { "blue" });
        let counted: Vec<&str> = counted.iter().map(String::as_str).collect();
        assert_eq!(proxy.metric("weir_split_missing_key_total", &counted).await, 8.0, "{missing}");
        let assigned = proxy.metric("weir_split_assigned_total", &["split=\"checkout\""]).await;
        assert_eq!(assigned, if refused { 2.0 } else { 10.0 }, "{missing}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_policy_draws_every_request_by_itself() {
    let arms = [Plain::named("blue").await, Plain::named("green").await, Plain::named("canary").await];
    // A fourth variant has a position of its own, which must be drawn too.
    let variants = [("blue", ""), ("green", "20%"), ("canary", "20%"), ("late", "30%")];
    let late = Plain::named("late").await;
    let yaml = Plain::yaml(&[&arms[0], &arms[1], &arms[2], &late]);
    let split = format!("missing: random, {}", variants_yaml(&variants));
    let proxy = one_split(&yaml, &split).await;
    let tries = 4_000;
    let requests = vec!["GET / HTTP/1.1\r\nhost: shop.test\r\n\r\n".to_owned(); tries];
    let answers = answered_by(proxy.address, 4, requests).await;
    for (name, share) in [("blue", 0.3), ("green", 0.2), ("canary", 0.2), ("late", 0.3)] {
        assert_share(super::count(&answers, name), tries, share, name);
    }
    // Independent draws: one request tells nothing of the next on its connection.
    let pairs = answers.windows(2).filter(|pair| pair[0] == pair[1]).count();
    assert_share(pairs, tries - 1, 0.3 * 0.3 + 0.2 * 0.2 + 0.2 * 0.2 + 0.3 * 0.3, "two alike in a row");
    let missing = proxy.metric("weir_upstream_requests_total", &["reason=\"missing\"", "code=\"200\""]).await;
    assert_eq!(missing, 4_000.0);
}

/// The attributes of the one `Set-Cookie` of `answer`, its name and value first.
fn minted(answer: &Reply) -> (String, String, HashSet<String>) {
    let cookies = answer.all("set-cookie");
    let ours: Vec<_> = cookies.iter().filter(|cookie| !cookie.starts_with("theirs=")).collect();
    assert_eq!(ours.len(), 1, "{cookies:?}");
    let mut parts = ours[0].split("; ");
    let (name, value) = parts.next().unwrap().split_once('=').unwrap();
    (name.to_owned(), value.to_owned(), parts.map(str::to_owned).collect())
}

fn set(attributes: &[&str]) -> HashSet<String> {
    attributes.iter().map(|one| (*one).to_owned()).collect()
}

#[tokio::test]
async fn minted_cookie_is_the_key_from_the_first_request_on() {
    let arms = Arms::start(&["blue", "green", "canary"]).await;
    let split = format!("key: [header:x-user-id], missing: cookie, {}", variants_yaml(&THIRDS));
    let proxy = one_split(&arms.yaml(), &split).await;
    let library = Library::new("checkout", &THIRDS);
    let mut seen = HashMap::new();
    for round in 0..40 {
        for via in BOTH {
            let first = Ask::get("/").with("cookie", "a=1").send(via, proxy.address).await;
            let (name, value, attributes) = minted(&first);
            assert_eq!(name, "weir-unit");
            assert_eq!(attributes, set(&["Path=/", "Max-Age=31536000", "HttpOnly", "SameSite=Lax"]));
            assert!(value.len() == 32 && value.bytes().all(|byte| byte.is_ascii_hexdigit()), "{value}");
            assert_eq!(first.upstream(), library.variant(&value), "{value}");
            let back = format!("a=1; weir-unit={value}; b=2");
            let second = Ask::get("/").with("cookie", &back).send(via, proxy.address).await;
            assert_eq!(second.upstream(), first.upstream(), "{value}");
            assert_eq!(second.header("set-cookie"), "", "set again");
            assert!(seen.insert(value, round).is_none(), "minted twice");
        }
    }
    // An empty one is none; a key that is there needs none.
    minted(&Ask::get("/").with("cookie", "weir-unit=").send(Via::Http1, proxy.address).await);
    let known = Ask::get("/").with("x-user-id", "u-7").send(Via::Http1, proxy.address).await;
    assert_eq!((known.upstream(), known.header("set-cookie")), (library.variant("u-7"), ""));
    // What a client makes up is a key like any other.
    let own = Ask::get("/").with("cookie", "weir-unit=mine").send(Via::Http1, proxy.address).await;
    assert_eq!((own.upstream(), own.header("set-cookie")), (library.variant("mine"), ""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn minted_keys_fall_into_the_shares() {
    let arms = [Plain::named("blue").await, Plain::named("green").await, Plain::named("canary").await];
    let yaml = Plain::yaml(&arms.iter().collect::<Vec<_>>());
    let proxy = one_split(&yaml, &format!("missing: cookie, {}", variants_yaml(&THIRDS))).await;
    let tries = 3_000;
    let requests = vec!["GET / HTTP/1.1\r\nhost: shop.test\r\n\r\n".to_owned(); tries];
    let answers = answered_by(proxy.address, 4, requests).await;
    for (name, share) in [("blue", 0.4), ("green", 0.3), ("canary", 0.3)] {
        assert_share(super::count(&answers, name), tries, share, name);
    }
}

#[tokio::test]
async fn name_and_lifetime_of_the_cookie_are_as_configured_and_other_cookies_stay() {
    let upstream = crate::support::Upstream::answering(|_| async {
        let mut response = http::Response::new(crate::support::upstream::full("ok"));
        response.headers_mut().insert("set-cookie", http::HeaderValue::from_static("theirs=1; Path=/x"));
        response.headers_mut().insert("cache-control", http::HeaderValue::from_static("public, max-age=60"));
        response
    })
    .await;
    let proxy = Proxy::start(&format!(
        "upstreams: {{ one: {{ endpoints: ['{}'] }} }}\nsplits: {{ s: {{ missing: cookie, cookie: {{ name: sid, \
         max_age: 1h }}, variants: [{{ name: one }}] }} }}\nroutes: [{{ split: s }}]\n",
        upstream.address
    ))
    .await;
    for via in BOTH {
        let answer = Ask::get("/").send(via, proxy.address).await;
        let (name, _, attributes) = minted(&answer);
        assert_eq!(name, "sid");
        assert_eq!(attributes, set(&["Path=/", "Max-Age=3600", "HttpOnly", "SameSite=Lax"]));
        assert!(answer.all("set-cookie").contains(&"theirs=1; Path=/x"));
        // Were it kept by a shared cache, everybody behind it would become one unit.
        assert_eq!(answer.header("cache-control"), "private, max-age=60");
        let again = Ask::get("/").with("cookie", "sid=x").send(via, proxy.address).await;
        assert_eq!(again.all("set-cookie"), ["theirs=1; Path=/x"]);
        assert_eq!(again.header("cache-control"), "public, max-age=60");
    }
}

#[tokio::test]
async fn unit_keeps_its_minted_key_though_the_first_request_fails() {
    let proxy = Proxy::start(&format!(
        "upstreams: {{ one: {{ endpoints: ['{}'] }} }}\nsplits: {{ s: {{ missing: cookie, variants: [{{ name: one }}] \
         }} }}\nroutes: [{{ split: s }}]\n",
        nobody()
    ))
    .await;
    for via in BOTH {
        let answer = Ask::get("/").send(via, proxy.address).await;
        assert_eq!(answer.outcome(), "503 connect_refused");
        minted(&answer);
    }
}
