//! A tester's override: what counts, from whom, and that no upstream sees it.

use std::time::{SystemTime, UNIX_EPOCH};

use tempfile::TempDir;
use weir::logic::split::token::{Claim, Key, sign};

use super::variants_yaml;
use crate::support::{Arms, Ask, BOTH, Proxy, Via};

const CURRENT: &str = "the current key of the tests, no secret";
const FORMER: &str = "the former key of the tests, no secret";
const SHOP: [(&str, &str); 3] = [("blue", ""), ("green", "0%"), ("canary", "0%")];

struct Forced {
    arms: Arms,
    proxy: Proxy,
    _keys: TempDir,
}

/// Everybody is in blue by weights; `place` and `more` are the override's.
async fn forced(place: &str, more: &str) -> Forced {
    let arms = Arms::start(&["blue", "green", "canary", "plain"]).await;
    let keys = tempfile::tempdir().unwrap();
    let path = keys.path().join("override.key");
    std::fs::write(&path, format!("{CURRENT}\n{FORMER}\n")).unwrap();
    let proxy = Proxy::start(&format!(
        "{}splits: {{ checkout: {{ key: [header:x-user-id], {}, override: {{ {place}, key_file: '{}'{more} }} }} \
         }}\nroutes: [{{ paths: [/plain], upstream: plain }}, {{ split: checkout }}]\n",
        arms.yaml(),
        variants_yaml(&SHOP),
        path.display()
    ))
    .await;
    Forced { arms, proxy, _keys: keys }
}

fn token(key: &str, split: &str, variant: &str, unit: &str, seconds: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let expires = now.saturating_add_signed(seconds);
    let claim = Claim { split: split.into(), variant: variant.into(), unit: unit.into(), expires };
    sign(&Key::new(key.as_bytes()).unwrap(), &claim)
}

fn rows() -> Vec<(&'static str, String, &'static str)> {
    let good = token(CURRENT, "checkout", "canary", "*", 600);
    let (body, _) = good.rsplit_once('.').unwrap();
    let other = token("another key of the tests, no secret", "checkout", "canary", "*", 600);
    let (_, foreign) = other.rsplit_once('.').unwrap();
    vec![
        ("for everybody", good.clone(), "canary"),
        ("for green", token(CURRENT, "checkout", "green", "*", 600), "green"),
        ("for this unit", token(CURRENT, "checkout", "canary", "u-1", 600), "canary"),
        ("of the former key", token(FORMER, "checkout", "canary", "*", 600), "canary"),
        ("for another unit", token(CURRENT, "checkout", "canary", "u-2", 600), "blue"),
        ("for another split", token(CURRENT, "search", "canary", "*", 600), "blue"),
        ("for no variant", token(CURRENT, "checkout", "purple", "*", 600), "blue"),
        ("expired", token(CURRENT, "checkout", "canary", "*", -1), "blue"),
        ("of an unknown key", other.clone(), "blue"),
        ("with another's signature", format!("{body}.{foreign}"), "blue"),
        ("without signature", format!("{body}."), "blue"),
        ("of another version", good.replacen("weir1", "weir2", 1), "blue"),
        ("a bare name", "canary".to_owned(), "blue"),
        ("nonsense", "weir1.x.y".to_owned(), "blue"),
        ("empty", String::new(), "blue"),
    ]
}

#[tokio::test]
async fn token_in_a_header_counts_when_it_is_signed_in_time_and_for_this_unit_and_split() {
    let Forced { arms, proxy, _keys } = forced("header: x-force", "").await;
    for (what, token, expected) in rows() {
        for via in BOTH {
            let ask = Ask::get("/").with("x-user-id", "u-1").with("x-force", &token);
            let answer = ask.send(via, proxy.address).await;
            assert_eq!((answer.status, answer.upstream()), (200, expected), "{via:?} {what}");
            assert!(!arms.last(expected).headers.contains_key("x-force"), "{what} reached the upstream");
        }
    }
    // Two that differ are nobody's.
    let good = token(CURRENT, "checkout", "canary", "*", 600);
    let ask = Ask::get("/").with("x-force", &good).with("x-force", "canary");
    assert_eq!(ask.send(Via::Http1, proxy.address).await.upstream(), "blue");
    // Not where it is not looked for, and not for a request without the unit that it names.
    let ask = Ask::get(&format!("/?x-force={good}")).with("cookie", format!("x-force={good}"));
    assert_eq!(ask.send(Via::Http1, proxy.address).await.upstream(), "blue");
    let ask = Ask::get("/").with("x-force", token(CURRENT, "checkout", "canary", "u-1", 600));
    assert_eq!(ask.send(Via::Http1, proxy.address).await.upstream(), "blue");
    assert!(proxy.metric("weir_upstream_requests_total", &["reason=\"override\""]).await >= 8.0);
}

#[tokio::test]
async fn token_in_a_cookie_counts_alike_and_the_other_cookies_reach_the_upstream() {
    let Forced { arms, proxy, _keys } = forced("cookie: force", "").await;
    for (what, token, expected) in rows() {
        for via in BOTH {
            let fields = [format!("a=1; force={token}; b=\"2\""), format!("force={token}"), "c=3".to_owned()];
            let ask = fields
                .iter()
                .fold(Ask::get("/").with("x-user-id", "u-1"), |ask, field| ask.with("cookie", field));
            let answer = ask.send(via, proxy.address).await;
            assert_eq!(answer.upstream(), expected, "{via:?} {what}");
            let seen = arms.last(expected);
            let cookies: Vec<_> = seen.headers.get_all("cookie").iter().collect();
            assert_eq!(cookies, ["a=1; b=\"2\"; c=3"], "{via:?} {what}");
        }
    }
    let ask =
        Ask::get("/").with("cookie", format!("force={}", token(CURRENT, "checkout", "canary", "*", 600)));
    assert_eq!(ask.send(Via::Http1, proxy.address).await.upstream(), "canary");
    assert!(!arms.last("canary").headers.contains_key("cookie"), "an empty field is no field");
}

#[tokio::test]
async fn token_never_reaches_an_upstream_of_another_route_either() {
    for (place, name) in [("header: x-force", "x-force"), ("cookie: force", "cookie")] {
        let Forced { arms, proxy, _keys } = forced(place, "").await;
        let token = token(CURRENT, "checkout", "canary", "*", 600);
        for via in BOTH {
            let ask = Ask::get("/plain").with("x-force", &token).with("cookie", format!("force={token}"));
            assert_eq!(ask.send(via, proxy.address).await.upstream(), "plain");
            assert_eq!(arms.last("plain").header(name), "", "{via:?} {place}");
        }
    }
}

#[tokio::test]
async fn bare_name_counts_from_the_networks_named_and_from_nowhere_else() {
    let Forced { arms: _arms, proxy, _keys } =
        forced("header: x-force", ", bare_from: [127.0.0.2, 10.0.0.0/8]").await;
    let rows = [
        ("127.0.0.2", "canary", "", "canary"),
        ("127.0.0.2", "green", "", "green"),
        ("127.0.0.2", "Canary", "", "blue"),
        ("127.0.0.2", "purple", "", "blue"),
        ("127.0.0.1", "canary", "", "blue"),
        ("127.0.0.3", "canary", "", "blue"),
        // A stranger's word on where he comes from does not count.
        ("127.0.0.1", "canary", "10.0.0.1", "blue"),
    ];
    for (from, sent, forwarded, expected) in rows {
        for via in BOTH {
            let mut ask = Ask::get("/").from(from).with("x-force", sent);
            if !forwarded.is_empty() {
                ask = ask.with("x-forwarded-for", forwarded);
            }
            let answer = ask.send(via, proxy.address).await;
            assert_eq!(answer.upstream(), expected, "{via:?} {from} {sent} {forwarded}");
        }
    }
    let ask = Ask::get("/").with("x-force", token(CURRENT, "checkout", "canary", "*", 600));
    assert_eq!(
        ask.send(Via::Http1, proxy.address).await.upstream(),
        "canary",
        "a token counts from anywhere"
    );
}
