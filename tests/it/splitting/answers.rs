//! What upstreams, clients and caches are told of a variant.

use http::{HeaderName, HeaderValue, Response};

use super::{Library, one_split, units, variants_yaml};
use crate::support::upstream::full;
use crate::support::{Arms, Ask, BOTH, Proxy, Upstream, Via};

#[tokio::test]
async fn names_that_differ_in_their_last_byte_are_told_apart() {
    let arms = Arms::start(&["a", "b", "c"]).await;
    let names = ["checkout-v1.10", "checkout-v1.11", "checkout-v1.1"];
    let variants: Vec<_> = names.iter().zip(["", "34%", "33%"]).map(|(name, share)| (*name, share)).collect();
    let list = "variants: [{ name: checkout-v1.10, upstream: a }, { name: checkout-v1.11, upstream: b, weight: 34% }, \
                { name: checkout-v1.1, upstream: c, weight: 33% }]";
    let proxy = one_split(&arms.yaml(), &format!("key: [header:x-user-id], expose: true, {list}")).await;
    let library = Library::new("checkout", &variants);
    for (number, unit) in units(60).iter().enumerate() {
        let answer = Ask::get("/").with("x-user-id", unit).send(BOTH[number % 2], proxy.address).await;
        let expected = library.variant(unit);
        let arm = ["a", "b", "c"][names.iter().position(|name| *name == expected).unwrap()];
        assert_eq!((answer.upstream(), answer.header("x-weir-variant")), (arm, expected), "{unit}");
        assert_eq!(arms.last(arm).header("x-weir-variant"), expected, "{unit}");
    }
    assert!(arms.0.iter().all(|(_, arm)| arm.count() > 5), "every variant was asked");
}

#[tokio::test]
async fn upstream_is_told_the_variant_and_never_what_a_client_says_of_it() {
    let spoofs: &[&[(&str, &str)]] = &[
        &[],
        &[("x-weir-variant", "canary")],
        &[("X-Weir-Variant", "canary"), ("x-weir-variant", "blue")],
        &[("x_weir_variant", "canary")],
        &[("x.weir.variant", "canary"), ("x-weir_variant", "canary")],
        &[("x-cohort", "canary"), ("x_cohort", "canary"), ("X.Cohort", "canary")],
    ];
    for (header, more) in [("x-weir-variant", ""), ("x-cohort", ", variant_header: X-Cohort")] {
        let arms = Arms::start(&["blue", "canary", "plain"]).await;
        let variants = variants_yaml(&[("blue", ""), ("canary", "0%")]);
        let proxy = Proxy::start(&format!(
            "{}splits: {{ checkout: {{ key: [header:x-user-id]{more}, {variants} }} }}\nroutes:\n  - {{ paths: [/plain], \
             upstream: plain }}\n  - {{ split: checkout, request_headers: {{ set: {{ {header}: faked }} }} }}\n",
            arms.yaml()
        ))
        .await;
        for via in BOTH {
            for spoof in spoofs {
                let answer = Ask::get("/").with_all(spoof).send(via, proxy.address).await;
                assert_eq!(answer.upstream(), "blue");
                for (path, arm, expected) in
                    [("/", "blue", &[(header, "blue")][..]), ("/plain", "plain", &[])]
                {
                    Ask::get(path).with_all(spoof).send(via, proxy.address).await;
                    let seen = arms.last(arm);
                    let told: Vec<_> = seen
                        .headers
                        .iter()
                        .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
                        .filter(|(name, _)| name.contains("variant") || name.contains("cohort"))
                        // Where it is not ours, it is a header like any other.
                        .filter(|(name, _)| more.is_empty() <= !name.contains("cohort"))
                        .collect();
                    assert_eq!(told, expected, "{via:?} {header} {path} {spoof:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn client_is_told_the_variant_only_where_it_is_exposed() {
    let upstream = Upstream::answering(|_| async {
        let mut response = Response::new(full("ok"));
        // Not the upstream's to say either.
        for name in ["x-weir-variant", "x-cohort"] {
            response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static("theirs"));
        }
        response
    })
    .await;
    let rows = [
        ("", "x-weir-variant", &[][..]),
        ("expose: false, ", "x-weir-variant", &[]),
        ("expose: true, ", "x-weir-variant", &["one"]),
        ("expose: true, variant_header: x-cohort, ", "x-cohort", &["one"]),
        ("variant_header: x-cohort, ", "x-cohort", &[]),
    ];
    for (settings, header, expected) in rows {
        let yaml = format!("upstreams: {{ one: {{ endpoints: ['{}'] }} }}\n", upstream.address);
        let split = format!("{settings}key: [header:x-user-id], variants: [{{ name: one }}]");
        let proxy = one_split(&yaml, &split).await;
        for via in BOTH {
            let answer = Ask::get("/").send(via, proxy.address).await;
            assert_eq!(answer.all(header), expected, "{via:?} {settings}");
        }
    }
}

/// What the upstream says in `Cache-Control` and `Vary` (fields), what `cache:` says, and what the client gets.
type Row =
    (&'static [(&'static str, &'static str)], &'static str, &'static [&'static str], &'static [&'static str]);

#[tokio::test]
async fn caches_are_told_what_keeps_cohorts_apart_beside_what_the_upstream_says() {
    let rows: &[Row] = &[
        (&[("cache-control", "max-age=60"), ("vary", "accept")], "", &["max-age=60"], &["accept"]),
        (&[], "private", &["private"], &[]),
        (&[("cache-control", "public, max-age=60")], "private", &["private, max-age=60"], &[]),
        (&[("cache-control", "Private, max-age=60")], "private", &["private, max-age=60"], &[]),
        (&[("cache-control", "no-store")], "private", &["no-store"], &[]),
        (
            &[("cache-control", "max-age=1, S-MaxAge=9"), ("cache-control", "public")],
            "private",
            &["private, max-age=1"],
            &[],
        ),
        (
            &[("cache-control", "no-cache=\"set-cookie, public\", private=\"x-a, x-b\", max-age=5")],
            "private",
            &["private, no-cache=\"set-cookie, public\", max-age=5"],
            &[],
        ),
        (&[("vary", "accept")], "private", &["private"], &["accept"]),
        (&[], "vary", &[], &["cookie, x-force, x-tier, x-user-id"]),
        (
            &[("cache-control", "max-age=60")],
            "vary",
            &["max-age=60"],
            &["cookie, x-force, x-tier, x-user-id"],
        ),
        (
            &[("vary", "Accept-Encoding")],
            "vary",
            &[],
            &["Accept-Encoding, cookie, x-force, x-tier, x-user-id"],
        ),
        (&[("vary", "X-User-Id, Cookie")], "vary", &[], &["X-User-Id, Cookie, x-force, x-tier"]),
        (
            &[("vary", "accept"), ("vary", "x-tier")],
            "vary",
            &[],
            &["accept, x-tier, cookie, x-force, x-user-id"],
        ),
        (&[("vary", "*")], "vary", &[], &["*"]),
        (&[("vary", "accept, *")], "vary", &[], &["*"]),
    ];
    let upstream = Upstream::answering(|request| {
        let said = rows_of(request.headers());
        async move {
            let mut response = Response::new(full("ok"));
            for (name, value) in said {
                response.headers_mut().append(name, value);
            }
            response
        }
    })
    .await;
    let start = async |cache: &str| {
        let cache = if cache.is_empty() { String::new() } else { format!("cache: {cache}, ") };
        let yaml = format!("upstreams: {{ one: {{ endpoints: ['{}'] }} }}\n", upstream.address);
        let split = "key: [header:x-user-id, cookie:sid, query:u], rules: [{ when: [{ value: header:x-tier, present: \
                     true }], variant: one }], override: { header: x-force, bare_from: [10.0.0.1] }, variants: [{ name: \
                     one }]";
        one_split(&yaml, &format!("{cache}{split}")).await
    };
    let proxies = [("", start("").await), ("private", start("private").await), ("vary", start("vary").await)];
    for (said, cache, control, vary) in rows {
        let proxy = &proxies.iter().find(|(name, _)| name == cache).unwrap().1;
        for via in BOTH {
            let ask = said.iter().fold(Ask::get("/").with("x-user-id", "u-1"), |ask, (name, value)| {
                ask.with(&format!("say-{name}"), value)
            });
            let answer = ask.send(via, proxy.address).await;
            assert_eq!(answer.all("cache-control"), *control, "{via:?} {cache} {said:?}");
            assert_eq!(answer.all("vary"), *vary, "{via:?} {cache} {said:?}");
        }
    }
}

/// What a request's headers `say-…` ask to be said.
fn rows_of(headers: &http::HeaderMap) -> Vec<(HeaderName, HeaderValue)> {
    let said = headers.iter().filter_map(|(name, value)| Some((name.as_str().strip_prefix("say-")?, value)));
    said.map(|(name, value)| (HeaderName::from_bytes(name.as_bytes()).unwrap(), value.clone())).collect()
}

#[tokio::test]
async fn variant_that_no_header_tells_apart_is_not_for_shared_caches() {
    let arms = Arms::start(&["one"]).await;
    let rows = [
        ("key: [client_ip]", &["*"][..]),
        ("key: [header:x-a, client_ip/24]", &["*"]),
        (
            "key: [header:x-a], rules: [{ when: [{ value: client_ip, cidr: [10.0.0.0/8] }], variant: one }]",
            &["*"],
        ),
        ("missing: random", &["*"]),
        ("key: [header:x-a], missing: random", &["*"]),
        ("key: [host, 'path:1', 'query:q']", &[]),
        ("missing: cookie", &["cookie"]),
    ];
    for (settings, expected) in rows {
        let proxy =
            one_split(&arms.yaml(), &format!("{settings}, cache: vary, variants: [{{ name: one }}]")).await;
        let answer = Ask::get("/").send(Via::Http1, proxy.address).await;
        assert_eq!(answer.all("vary"), expected, "{settings}");
    }
}
