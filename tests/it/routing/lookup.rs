//! The most specific route, by host, path, method, conditions and listener.

use std::collections::BTreeMap;

use crate::support::proxy::tcp;
use crate::support::{Ask, BOTH, Proxy, Via};

/// A proxy with two listeners and a route that answers with its own name for each of `routes`.
async fn routes(routes: &[(&str, &str)]) -> Proxy {
    let rows = routes.iter().map(|(name, matches)| {
        let comma = if matches.is_empty() { "" } else { ", " };
        format!("  - {{ name: {name}{comma}{matches}, respond: {{ body: {name} }} }}\n")
    });
    Proxy::start_whole(&format!(
        "workers: 2\nlisteners: [{{ name: web, bind: 127.0.0.1:0 }}, {{ name: side, bind: 127.0.0.2:0 }}]\nroutes:\n{}",
        rows.collect::<String>()
    ))
    .await
}

/// Sends `METHOD host/target` (and headers) over both protocols; the answer is the route's name, or what went wrong.
async fn check(proxy: &Proxy, rows: &[(&str, &[(&str, &str)], &str)]) {
    for via in BOTH {
        for (request, headers, expected) in rows {
            let (method, rest) = request.split_once(' ').unwrap();
            let (host, target) = rest.split_at(rest.find('/').unwrap());
            let listener = usize::from(headers.contains(&("x-listener", "side")));
            let address = tcp(&proxy.app.addresses()[listener]);
            let ask = Ask::new(method, target).with("host", host).with_all(headers);
            let answer = ask.send(via, address).await;
            let told = match answer.status {
                200 if method == "HEAD" => answer.header("content-length").to_owned(),
                200 => answer.body.clone(),
                405 => format!("{} {}", answer.outcome(), answer.header("allow")),
                _ => answer.outcome(),
            };
            assert_eq!(told, *expected, "{via:?} {request} {headers:?}");
        }
    }
}

const UNKNOWN: &str = "421 unknown_host";
const NO_ROUTE: &str = "404 no_route";

#[tokio::test]
async fn host_is_found_by_name_wildcard_and_port_whatever_its_case_and_root() {
    let proxy = routes(&[
        ("exact", "hosts: [shop.test]"),
        ("port", "hosts: ['shop.test:8080']"),
        ("wild", "hosts: ['*.shop.test']"),
        ("deep", "hosts: ['*.eu.shop.test', Other.TEST]"),
        ("address", "hosts: [127.0.0.1, '[::1]']"),
    ])
    .await;
    check(
        &proxy,
        &[
            ("GET shop.test/", &[], "exact"),
            ("GET SHOP.Test/", &[], "exact"),
            ("GET shop.test./", &[], "exact"),
            ("GET shop.test:80/", &[], "exact"),
            ("GET shop.test:/", &[], "exact"),
            ("GET shop.test:8080/", &[], "port"),
            ("GET shop.test.:8080/", &[], "port"),
            ("GET a.shop.test/", &[], "wild"),
            ("GET a.b.shop.test:8080/", &[], "wild"),
            ("GET eu.shop.test/", &[], "wild"),
            ("GET a.eu.shop.test/", &[], "deep"),
            ("GET other.test/", &[], "deep"),
            ("GET 127.0.0.1:99/", &[], "address"),
            ("GET [::1]/", &[], "address"),
            ("GET [0:0::1]:8080/", &[], "address"),
            ("GET xshop.test/", &[], UNKNOWN),
            ("GET .shop.test/", &[], UNKNOWN),
            ("GET shop.test.evil/", &[], UNKNOWN),
            ("GET test/", &[], UNKNOWN),
        ],
    )
    .await;
}

#[tokio::test]
async fn most_specific_host_is_final_and_then_the_most_specific_path() {
    let proxy = routes(&[
        ("everything", ""),
        ("anywhere", "paths: [/only/here]"),
        ("regex", "hosts: [shop.test], paths: ['~/api/v[0-9]+/.*']"),
        ("api", "hosts: [shop.test], paths: [/api/*]"),
        ("v1", "hosts: [shop.test], paths: [/api/v1/*]"),
        ("exact", "hosts: [shop.test], paths: [/api/v1, /Exact]"),
        ("encoded", "hosts: [shop.test], paths: [/caf%C3%A9]"),
    ])
    .await;
    check(
        &proxy,
        &[
            ("GET shop.test/api", &[], "api"),
            ("GET shop.test/api/", &[], "api"),
            ("GET shop.test/api/v1", &[], "exact"),
            ("GET shop.test/api/v1/", &[], "v1"),
            ("GET shop.test/api/v1/x?y=/z", &[], "v1"),
            ("GET shop.test/api/v10", &[], "api"),
            // A prefix is more specific than a regular expression.
            ("GET shop.test/api/v2/x", &[], "api"),
            ("GET shop.test/Exact", &[], "exact"),
            ("GET shop.test/exact", &[], NO_ROUTE),
            ("GET shop.test/apis", &[], NO_ROUTE),
            ("GET shop.test/API", &[], NO_ROUTE),
            ("GET shop.test//api/v1", &[], NO_ROUTE),
            ("GET shop.test/%61pi/v1", &[], "exact"),
            ("GET shop.test/caf%C3%A9", &[], "encoded"),
            ("GET shop.test/caf%c3%a9", &[], "encoded"),
            ("GET shop.test/api/v1/../v1", &[], "exact"),
            ("GET shop.test/only/here", &[], NO_ROUTE),
            ("GET other.test/only/here", &[], "anywhere"),
            ("GET other.test/", &[], "everything"),
        ],
    )
    .await;
    let proxy = routes(&[
        ("second", "paths: ['~/a/.*']"),
        ("third", "paths: ['~/.*/b']"),
        ("prefix", "paths: [/c/*]"),
    ])
    .await;
    check(
        &proxy,
        &[
            ("GET a/a/b", &[], "second"),
            ("GET a/x/b", &[], "third"),
            ("GET a/c/b", &[], "prefix"),
            ("GET a/x/b/", &[], NO_ROUTE),
        ],
    )
    .await;
}

#[tokio::test]
async fn method_that_a_known_path_does_not_take_is_told_which_it_takes() {
    let proxy = routes(&[
        ("read", "paths: [/a], methods: [GET]"),
        ("write", "paths: [/a], methods: [POST, PUT]"),
        ("head", "paths: [/h], methods: [HEAD]"),
        ("beta", "paths: [/b], methods: [DELETE], when: [{ value: header:x-beta, present: true }]"),
        ("custom", "paths: [/c], methods: [PURGE]"),
    ])
    .await;
    check(
        &proxy,
        &[
            ("GET a/a", &[], "read"),
            ("HEAD a/a", &[], "4"),
            ("POST a/a", &[], "write"),
            ("DELETE a/a", &[], "405 method_not_allowed GET, HEAD, POST, PUT"),
            ("OPTIONS a/a", &[], "405 method_not_allowed GET, HEAD, POST, PUT"),
            ("GET a/h", &[], "405 method_not_allowed HEAD"),
            ("PURGE a/c", &[], "custom"),
            ("GET a/c", &[], "405 method_not_allowed PURGE"),
            ("GET a/b", &[], NO_ROUTE),
            ("GET a/b", &[("x-beta", "1")], "405 method_not_allowed DELETE"),
            ("DELETE a/b", &[("x-beta", "1")], "beta"),
            ("GET a/none", &[], NO_ROUTE),
        ],
    )
    .await;
}

#[tokio::test]
async fn route_with_more_conditions_goes_first_and_then_the_file_order() {
    let proxy = routes(&[
        ("plain", ""),
        ("later", ""),
        ("one", "when: [{ value: header:x-a, present: true }]"),
        ("two", "when: [{ value: header:x-a, present: true }, { value: query:b, in: ['1'] }]"),
        ("side", "listeners: [side]"),
        ("put", "methods: [PUT], when: [{ value: cookie:c, matches: '^[0-9]+$' }]"),
        ("network", "paths: [/n], when: [{ value: client_ip, cidr: [127.0.0.1], not: true }]"),
    ])
    .await;
    check(
        &proxy,
        &[
            ("GET a/", &[], "plain"),
            ("GET a/", &[("x-a", "")], "one"),
            ("GET a/?b=1", &[("x-a", "")], "two"),
            ("GET a/?b=2", &[("x-a", "")], "one"),
            ("GET a/?b=1", &[], "plain"),
            ("GET a/", &[("x-listener", "side")], "side"),
            ("GET a/?b=1", &[("x-listener", "side"), ("x-a", "1")], "two"),
            ("PUT a/", &[("cookie", "c=12")], "put"),
            ("PUT a/", &[("cookie", "c=x12")], "plain"),
            ("GET a/", &[("cookie", "c=12")], "plain"),
            ("GET a/n", &[], "plain"),
        ],
    )
    .await;
    let answer = Ask::get("/n").from("127.0.0.7").send(Via::Http1, proxy.address).await;
    assert_eq!(answer.body, "network");
}

#[tokio::test]
async fn route_of_one_listener_is_not_there_for_the_other() {
    let proxy = routes(&[
        ("inner", "hosts: [inner.test], listeners: [side]"),
        ("web", "paths: [/web], listeners: [web]"),
        ("both", "paths: [/both], listeners: [web, side]"),
    ])
    .await;
    let side = ("x-listener", "side");
    check(
        &proxy,
        &[
            ("GET inner.test/", &[side], "inner"),
            ("GET inner.test/web", &[side], "inner"),
            ("GET inner.test/", &[], NO_ROUTE),
            ("GET inner.test/web", &[], "web"),
            ("GET a/web", &[], "web"),
            ("GET a/web", &[side], NO_ROUTE),
            ("GET a/both", &[side], "both"),
            ("GET a/both", &[], "both"),
        ],
    )
    .await;
    let proxy = routes(&[("inner", "listeners: [side]")]).await;
    check(&proxy, &[("GET a/", &[], UNKNOWN), ("GET a/", &[side], "inner")]).await;
}

#[tokio::test]
async fn answer_of_our_own_is_as_configured() {
    let rows: BTreeMap<&str, (&str, u16, &str, &str)> = BTreeMap::from([
        ("/default", ("{}", 200, "", "")),
        ("/body", ("{ body: hello }", 200, "text/plain; charset=utf-8", "hello")),
        (
            "/json",
            ("{ status: 503, body: '{}', content_type: application/json }", 503, "application/json", "{}"),
        ),
        ("/teapot", ("{ status: 418 }", 418, "", "")),
        ("/none", ("{ status: 204 }", 204, "", "")),
    ]);
    let routes = rows.iter().map(|(path, (respond, ..))| {
        format!(
            "  - {{ paths: [{path}], respond: {respond}, response_headers: {{ set: {{ x-own: '1' }} }} }}\n"
        )
    });
    let proxy = Proxy::start(&format!("routes:\n{}", routes.collect::<String>())).await;
    for (path, (_, status, kind, body)) in &rows {
        for via in BOTH {
            let answer = Ask::get(path).send(via, proxy.address).await;
            assert_eq!((answer.status, answer.header("content-type")), (*status, *kind), "{via:?} {path}");
            assert_eq!((answer.body.as_str(), answer.header("x-own")), (*body, "1"), "{via:?} {path}");
            assert!(!answer.headers.contains_key("x-weir-error"), "{via:?} {path}");
            let length = if *status == 204 { String::new() } else { body.len().to_string() };
            assert_eq!(answer.header("content-length"), length, "{via:?} {path}");
            assert!(answer.headers.contains_key("date"), "{via:?} {path}");
            let head = Ask::new("HEAD", path).send(via, proxy.address).await;
            assert_eq!((head.status, head.body.as_str()), (*status, ""), "{via:?} HEAD {path}");
            let posted = Ask::new("POST", path).body("unread").send(via, proxy.address).await;
            assert_eq!(posted.status, *status, "{via:?} POST {path}");
        }
    }
}
