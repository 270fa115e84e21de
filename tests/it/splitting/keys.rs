//! The unit key, byte by byte: every source, their order, and what is refused.

use super::{Library, variants_yaml};
use crate::support::{Arms, Ask, BOTH, Proxy};

/// Half and half, so that a wrong key shows within a few units.
const HALVES: [(&str, &str); 2] = [("blue", ""), ("canary", "50%")];

/// Units a row is tried with; that all of them agree by chance has odds of 1 in 65536.
const TRIES: usize = 16;

/// What comes of a request.
enum Is {
    /// The variant of this key.
    Key(&'static str),
    /// Refused with this status and code.
    Refused(&'static str),
    /// There is no key: the policy is `reject` in all of these rows.
    Missing,
}
use Is::{Key, Missing, Refused};

/// A proxy with a split for each of `keys`, which the header `x-case` chooses.
async fn proxy(arms: &Arms, keys: &[&str]) -> Proxy {
    let variants = variants_yaml(&HALVES);
    let splits = keys.iter().enumerate().map(|(number, key)| {
        format!("  s{number}: {{ key: [{key}], missing: reject, hash: {{ xxh3: {{ salt: keys }} }}, {variants} }}\n")
    });
    let routes = (0..keys.len()).map(|number| {
        format!("  - {{ when: [{{ value: header:x-case, in: ['{number}'] }}], split: s{number} }}\n")
    });
    let (splits, routes): (String, String) = (splits.collect(), routes.collect());
    Proxy::start(&format!("{}splits:\n{splits}routes:\n{routes}", arms.yaml())).await
}

/// Sends every row for several units (`U` stands for the unit) over both protocols.
async fn check(rows: &[(&str, &str, &[(&str, &str)], Is)]) {
    let arms = Arms::start(&["blue", "canary"]).await;
    let keys: Vec<_> = rows.iter().map(|(key, ..)| *key).collect();
    let proxy = proxy(&arms, &keys).await;
    let library = Library::new("keys", &HALVES);
    for via in BOTH {
        for (number, (key, target, headers, expected)) in rows.iter().enumerate() {
            for unit in 0..if let Key(_) = expected { TRIES } else { 1 } {
                let unit = format!("u{unit}");
                let of = |text: &str| text.replace('U', &unit);
                let mut ask = Ask::get(&of(target)).with("x-case", number.to_string());
                for (name, value) in *headers {
                    ask = ask.with(name, of(value));
                }
                let answer = ask.send(via, proxy.address).await;
                let row = format!("{via:?} {key} {target} {headers:?} {unit}");
                match expected {
                    Key(key) => assert_eq!(answer.upstream(), library.variant(of(key)), "{row}: {answer:?}"),
                    Refused(outcome) => assert_eq!(answer.outcome(), *outcome, "{row}"),
                    Missing => assert_eq!(answer.outcome(), "400 missing_key", "{row}"),
                }
            }
        }
    }
}

#[tokio::test]
async fn header_is_the_key_as_sent_and_an_ambiguous_one_is_refused() {
    check(&[
        ("header:x-id", "/", &[("x-id", "U")], Key("U")),
        ("header:X-Id", "/", &[("X-ID", "U")], Key("U")),
        ("header:x-id", "/", &[("x-id", "a, U=%41;\"b\"")], Key("a, U=%41;\"b\"")),
        ("header:x-id", "/", &[("x-id", "Ünï-U")], Key("Ünï-U")),
        ("header:x-id", "/", &[("x-id", "U inside")], Key("U inside")),
        ("header:x-id", "/", &[("x-id", "U"), ("x-id", "U")], Key("U")),
        ("header:x-id", "/", &[("x-id", "U"), ("x-id", "v")], Refused("400 ambiguous_key")),
        ("header:x-id", "/", &[("x-id", "U"), ("x-id", "")], Refused("400 ambiguous_key")),
        (
            "header:x-id",
            "/",
            &[("x-id", "U"), ("x-other", "v"), ("x-id", "u0x")],
            Refused("400 ambiguous_key"),
        ),
        ("header:x-id", "/", &[("x-id", "")], Missing),
        ("header:x-id", "/", &[], Missing),
        ("header:x-id", "/?x-id=U", &[("cookie", "x-id=U"), ("x-ids", "U")], Missing),
    ])
    .await;
}

#[tokio::test]
async fn first_source_that_is_present_and_not_empty_is_the_key() {
    check(&[
        ("header:x-a, header:x-b", "/", &[("x-a", "U"), ("x-b", "v")], Key("U")),
        ("header:x-a, header:x-b", "/", &[("x-b", "v"), ("x-a", "U")], Key("U")),
        ("header:x-a, header:x-b", "/", &[("x-b", "U")], Key("U")),
        ("header:x-a, header:x-b", "/", &[("x-a", ""), ("x-b", "U")], Key("U")),
        ("header:x-a, header:x-b", "/", &[("x-a", "U"), ("x-b", "v"), ("x-b", "w")], Key("U")),
        ("header:x-a, header:x-b", "/", &[("x-b", "v"), ("x-b", "w")], Refused("400 ambiguous_key")),
        ("header:x-a, cookie:c, query:q, path:2", "/a/U?q=v", &[("cookie", "c=w")], Key("w")),
        ("header:x-a, cookie:c, query:q, path:2", "/a/x?q=U", &[("cookie", "c=; d=w")], Key("U")),
        ("header:x-a, cookie:c, query:q, path:2", "/a/U?q=&r=v", &[], Key("U")),
        ("header:x-a, cookie:c, query:q, path:2", "/a/?q", &[], Missing),
        ("cookie:c, header:x-a", "/", &[("x-a", "v"), ("cookie", "c=U")], Key("U")),
    ])
    .await;
}

#[tokio::test]
async fn cookie_is_the_key_as_sent_and_the_first_of_its_name_counts() {
    check(&[
        ("cookie:sid", "/", &[("cookie", "sid=U")], Key("U")),
        ("cookie:sid", "/", &[("cookie", "a=1; sid=U; b=2")], Key("U")),
        ("cookie:sid", "/", &[("cookie", "a=1;sid=U;b=2")], Key("U")),
        ("cookie:sid", "/", &[("cookie", "sid=U; sid=v")], Key("U")),
        // In HTTP/2 these are crumbs of one field, RFC 9113 §8.2.3.
        ("cookie:sid", "/", &[("cookie", "a=1"), ("cookie", "sid=U"), ("cookie", "sid=v")], Key("U")),
        ("cookie:sid", "/", &[("cookie", "sid=a=b=U")], Key("a=b=U")),
        ("cookie:sid", "/", &[("cookie", "sid=\"U\"")], Key("\"U\"")),
        ("cookie:sid", "/", &[("cookie", "sid=U%20+")], Key("U%20+")),
        ("cookie:sid", "/", &[("cookie", "xsid=U; sidx=U; Sid=U; sid")], Missing),
        ("cookie:sid", "/", &[("cookie", "sid=")], Missing),
        ("cookie:sid", "/?sid=U", &[("sid", "U")], Missing),
    ])
    .await;
}

#[tokio::test]
async fn query_and_path_are_decoded_once() {
    check(&[
        ("query:u", "/?u=U", &[], Key("U")),
        ("query:u", "/?a=1&u=U&u=v", &[], Key("U")),
        ("query:u", "/?u=a+U%20b", &[], Key("a U b")),
        ("query:u", "/?u=U%2B%26%3D%25", &[], Key("U+&=%")),
        ("query:u", "/?u=%2525U", &[], Key("%25U")),
        ("query:u", "/?u=%C3%BCU", &[], Key("üU")),
        ("query:u", "/?u=U%zz%4", &[], Key("U%zz%4")),
        ("query:u", "/?%75=U", &[], Key("U")),
        ("query:u", "/?u=a=U", &[], Key("a=U")),
        ("query:u", "/?U=u&xu=1&ux=1&u", &[], Missing),
        ("query:u", "/?", &[], Missing),
        ("query:u", "/u=U", &[], Missing),
        ("path:1", "/U/b/c", &[], Key("U")),
        ("path:2", "/a/U?x=/1/2", &[], Key("U")),
        ("path:2", "/a/U%20b+c%2Fd/e", &[], Key("U b+c/d")),
        ("path:3", "/a//U", &[], Key("U")),
        ("path:2", "/a//U", &[], Missing),
        ("path:2", "/U", &[], Missing),
        ("path:2", "/a/", &[], Missing),
    ])
    .await;
}

#[tokio::test]
async fn host_is_the_key_in_lower_case_without_port() {
    check(&[
        ("host", "/", &[("host", "U.test")], Key("U.test")),
        ("host", "/", &[("host", "Shop-U.TEST:8080")], Key("shop-U.test")),
        ("host", "/", &[("host", "[2001:DB8::1]:80"), ("x-unit", "U")], Key("[2001:db8::1]")),
    ])
    .await;
}

#[tokio::test]
async fn address_of_the_client_is_the_key_whole_or_as_its_network() {
    let arms = Arms::start(&["blue", "canary"]).await;
    let proxy = proxy(&arms, &["client_ip", "client_ip/24", "client_ip/30/64"]).await;
    let library = Library::new("keys", &HALVES);
    for last in 1..=TRIES {
        let network = last / 4 * 4;
        let keys = [format!("127.0.9.{last}"), "127.0.9.0/24".to_owned(), format!("127.0.9.{network}/30")];
        for (number, key) in keys.iter().enumerate() {
            let ask = Ask::get("/").with("x-case", number.to_string()).from(&format!("127.0.9.{last}"));
            // Forwarding headers of a stranger do not count.
            let answer = ask.with("x-forwarded-for", "192.0.2.1").send(BOTH[last % 2], proxy.address).await;
            assert_eq!(answer.upstream(), library.variant(key), "{key}");
        }
    }
}

#[tokio::test]
async fn key_of_a_kibibyte_is_taken_and_a_longer_one_refused() {
    let arms = Arms::start(&["blue", "canary"]).await;
    let proxy = proxy(&arms, &["header:x-id", "cookie:sid", "query:u"]).await;
    let library = Library::new("keys", &HALVES);
    let rows = [
        (1, &["200"][..]),
        (1023, &["200"]),
        (1024, &["200"]),
        (1025, &["400 key_too_long"]),
        (8000, &["400 key_too_long"]),
        // As large as the largest head: refused as a key or as a head.
        (64 * 1024, &["400 key_too_long", "431", "431 head_too_large"]),
    ];
    for via in BOTH {
        for (length, expected) in rows {
            let key = "k".repeat(length);
            let asks = [
                Ask::get("/").with("x-case", "0").with("x-id", &key),
                Ask::get("/").with("x-case", "1").with("cookie", format!("a=1; sid={key}")),
                Ask::get(&format!("/?u={key}")).with("x-case", "2"),
            ];
            let asks = asks.iter().take(if length > 60_000 { 1 } else { 3 });
            for ask in asks {
                let answer = ask.send(via, proxy.address).await;
                assert!(expected.contains(&&*answer.outcome()), "{via:?} {length}: {}", answer.outcome());
                if answer.status == 200 {
                    assert_eq!(answer.upstream(), library.variant(&key), "{via:?} {length}");
                }
            }
        }
        // The proxy is none the worse for it.
        let ask = Ask::get("/").with("x-case", "0").with("x-id", "one");
        assert_eq!(ask.send(via, proxy.address).await.upstream(), library.variant("one"));
    }
}
