//! What an upstream sees of a request, and a client of its response, where a route changes them.

use http::HeaderValue;

use crate::support::upstream::full;
use crate::support::{Arms, Ask, BOTH, Proxy, Upstream, Via};

/// The target that the upstream saw: over HTTP/2 without scheme and authority.
fn target(seen: &crate::support::upstream::Seen) -> String {
    let uri: http::Uri = seen.target.parse().unwrap_or_else(|error| panic!("{error}: {}", seen.target));
    if uri.authority().is_some() { uri.path_and_query().unwrap().to_string() } else { seen.target.clone() }
}

#[tokio::test]
async fn prefix_is_rewritten_at_its_edge_and_nothing_else_is_touched() {
    let rows = [
        ("paths: [/api/*], rewrite: { prefix: /v2 }", "/api", "/v2"),
        ("paths: [/api/*], rewrite: { prefix: /v2 }", "/api/", "/v2/"),
        ("paths: [/api/*], rewrite: { prefix: /v2 }", "/api/x/y?a=1&b", "/v2/x/y?a=1&b"),
        ("paths: [/api/*], rewrite: { prefix: /v2/ }", "/api/x", "/v2/x"),
        ("paths: [/api/*], rewrite: { prefix: /v2/ }", "/api", "/v2/"),
        ("paths: [/api/*], rewrite: { prefix: / }", "/api", "/"),
        ("paths: [/api/*], rewrite: { prefix: / }", "/api?x=/", "/?x=/"),
        ("paths: [/api/*], rewrite: { prefix: / }", "/api/x", "/x"),
        ("paths: [/api/*], rewrite: { prefix: / }", "/api//evil.test/x", "/evil.test/x"),
        (
            "paths: [/api/*], rewrite: { prefix: /v2 }",
            "/api/a%2Fb/%E4/a.%2F.b/..c;d=1",
            "/v2/a%2Fb/%E4/a.%2F.b/..c;d=1",
        ),
        ("paths: [/api/*], rewrite: { prefix: /v2 }", "/api/api/x", "/v2/api/x"),
        ("paths: [/exact], rewrite: { prefix: /new }", "/exact?q", "/new?q"),
        ("rewrite: { prefix: /base }", "/x", "/base/x"),
        ("rewrite: { prefix: /base }", "/", "/base/"),
        ("paths: [/api/*, /old], rewrite: { prefix: /n }", "/old", "/n"),
        ("", "//x//y/?", "//x//y/?"),
        ("", "/a%2Fb/%zz/|^", "/a%2Fb/%zz/|^"),
        ("", "/?a=b%20c+d&&=", "/?a=b%20c+d&&="),
    ];
    let upstream = Upstream::named("one").await;
    for protocol in ["http1", "http2"] {
        for (route, sent, expected) in rows {
            let comma = if route.is_empty() { "" } else { ", " };
            let proxy = Proxy::start(&format!(
                "upstreams: {{ one: {{ endpoints: ['{}'], protocol: {protocol} }} }}\nroutes: [{{ {route}{comma}upstream: one \
                 }}]\n",
                upstream.address
            ))
            .await;
            for via in BOTH {
                let answer = Ask::get(sent).send(via, proxy.address).await;
                assert_eq!(answer.status, 200, "{protocol} {via:?} {route} {sent}");
                let seen = upstream.last();
                assert_eq!(seen.method, "GET", "{protocol} {via:?} {route} {sent}");
                assert_eq!(target(&seen), expected, "{protocol} {via:?} {route} {sent}");
            }
        }
    }
}

#[tokio::test]
async fn host_is_kept_or_replaced_as_the_route_says() {
    let upstream = Upstream::named("one").await;
    let endpoint = upstream.address.to_string();
    let rows = [
        ("", "Shop.Test:8080", "Shop.Test:8080"),
        ("rewrite: { host: '{endpoint}' }, ", "shop.test", endpoint.as_str()),
        ("rewrite: { host: inner.test }, ", "shop.test", "inner.test"),
        ("rewrite: { host: 'inner.test:81', prefix: / }, ", "shop.test", "inner.test:81"),
    ];
    for protocol in ["http1", "http2"] {
        for (route, host, expected) in rows {
            let proxy = Proxy::start(&format!(
                "upstreams: {{ one: {{ endpoints: ['{endpoint}'], protocol: {protocol} }} }}\nroutes: [{{ {route}upstream: one \
                 }}]\n"
            ))
            .await;
            for via in BOTH {
                Ask::get("/").with("host", host).send(via, proxy.address).await;
                let seen = upstream.last();
                let told = match protocol {
                    "http2" => seen.target.split('/').nth(2).unwrap().to_owned(),
                    _ => seen.header("host").to_owned(),
                };
                assert_eq!(told, expected, "{protocol} {via:?} {route}");
                assert_eq!(
                    seen.header("x-forwarded-host"),
                    host.to_lowercase(),
                    "{protocol} {via:?} {route}"
                );
            }
        }
    }
}

#[tokio::test]
async fn headers_are_removed_then_set_then_added_on_both_ways() {
    let upstream = Upstream::answering(|_| async {
        let mut response = http::Response::new(full("ok"));
        for (name, value) in
            [("x-gone", "1"), ("x-set", "old"), ("x-set", "older"), ("x-add", "one"), ("server", "theirs")]
        {
            response.headers_mut().append(name, HeaderValue::from_static(value));
        }
        response
    })
    .await;
    let changes =
        "{ remove: [X-Gone, x-both], set: { x-set: new, x-both: again }, add: { x-add: two, x-fresh: one } }";
    let proxy = Proxy::start(&format!(
        "upstreams: {{ one: {{ endpoints: ['{}'] }} }}\nroutes: [{{ upstream: one, request_headers: {changes}, \
         response_headers: {changes} }}]\n",
        upstream.address
    ))
    .await;
    let rows = [
        ("x-gone", &[][..]),
        ("x-both", &["again"]),
        ("x-set", &["new"]),
        ("x-add", &["one", "two"]),
        ("x-fresh", &["one"]),
    ];
    for via in BOTH {
        let sent = [("x-gone", "1"), ("x-gone", "2"), ("x-both", "1"), ("x-set", "old"), ("x-add", "one")];
        let answer = Ask::get("/").with_all(&sent).send(via, proxy.address).await;
        let seen = upstream.last();
        for (name, expected) in rows {
            assert_eq!(answer.all(name), expected, "{via:?} response {name}");
            let told: Vec<_> = seen.headers.get_all(name).iter().collect();
            assert_eq!(told, expected, "{via:?} request {name}");
        }
        assert_eq!(answer.header("server"), "theirs", "{via:?}");
    }
}

#[tokio::test]
async fn what_we_say_of_a_request_may_be_changed_by_its_route() {
    let arms = Arms::start(&["blue"]).await;
    let proxy = Proxy::start(&format!(
        "{}routes: [{{ upstream: blue, request_headers: {{ remove: [forwarded, x-request-id], set: {{ x-forwarded-for: \
         hidden }} }} }}]\n",
        arms.yaml()
    ))
    .await;
    Ask::get("/").with("forwarded", "for=a").send(Via::Http1, proxy.address).await;
    let seen = arms.last("blue");
    assert_eq!((seen.header("forwarded"), seen.header("x-request-id")), ("", ""));
    assert_eq!(seen.header("x-forwarded-for"), "hidden");
}
