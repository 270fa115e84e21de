//! Redirects: what is not named stays as the request has it, the query always, and nobody is led astray.

use crate::support::raw::exchange;
use crate::support::{Ask, BOTH, Proxy};

/// Path pattern, redirect, request target, `Location`.
const ROWS: [(&str, &str, &str, &str); 21] = [
    ("/a", "path: /b", "/a", "http://shop.test:8080/b"),
    ("/a", "path: /b", "/a?x=1&y=%20", "http://shop.test:8080/b?x=1&y=%20"),
    ("/a", "path: /b", "/a?", "http://shop.test:8080/b?"),
    ("/a", "host: new.test", "/a?x", "http://new.test/a?x"),
    ("/a", "host: 'new.test:81'", "/a", "http://new.test:81/a"),
    // Another scheme has another port.
    ("/a", "scheme: https", "/a?x", "https://shop.test/a?x"),
    ("/a", "scheme: https, host: 'new.test:444'", "/a", "https://new.test:444/a"),
    ("/a", "scheme: http, path: /", "/a", "http://shop.test/"),
    ("/a/*", "prefix: /b", "/a", "http://shop.test:8080/b"),
    ("/a/*", "prefix: /b", "/a/", "http://shop.test:8080/b/"),
    ("/a/*", "prefix: /b", "/a/x/y?z", "http://shop.test:8080/b/x/y?z"),
    ("/a/*", "prefix: /b/", "/a/x", "http://shop.test:8080/b/x"),
    ("/a/*", "prefix: /", "/a", "http://shop.test:8080/"),
    ("/a/*", "prefix: /", "/a/x%2Fy/../z", "http://shop.test:8080/z"),
    ("/a/*", "prefix: /", "/a//evil.test/x", "http://shop.test:8080/evil.test/x"),
    ("/a/*", "prefix: /, host: new.test", "/a//evil.test", "http://new.test/evil.test"),
    ("/a", "prefix: /b/c", "/a?x", "http://shop.test:8080/b/c?x"),
    ("/*", "prefix: /b", "/x", "http://shop.test:8080/b/x"),
    ("/*", "prefix: /b", "/", "http://shop.test:8080/b/"),
    ("/*", "host: new.test", "//evil.test/x", "http://new.test//evil.test/x"),
    ("~/a/.*", "scheme: https", "/a/x", "https://shop.test/a/x"),
];

#[tokio::test]
async fn location_is_the_request_with_what_is_named_replaced() {
    for (path, redirect, target, expected) in ROWS {
        let proxy =
            Proxy::start(&format!("routes: [{{ paths: ['{path}'], redirect: {{ {redirect} }} }}]\n")).await;
        for via in BOTH {
            let answer = Ask::get(target).with("host", "Shop.test:8080").send(via, proxy.address).await;
            assert_eq!((answer.status, answer.body.as_str()), (302, ""), "{via:?} {path} {redirect}");
            assert_eq!(answer.header("location"), expected, "{via:?} {path} {redirect} {target}");
        }
    }
}

#[tokio::test]
async fn route_without_paths_and_every_status_redirect_too() {
    for status in [301, 302, 303, 307, 308] {
        let proxy = Proxy::start(&format!(
            "routes: [{{ redirect: {{ status: {status}, prefix: /new }}, response_headers: {{ set: {{ cache-control: no-store }} \
             }} }}]\n"
        ))
        .await;
        for (via, method) in BOTH.into_iter().flat_map(|via| [(via, "GET"), (via, "HEAD"), (via, "POST")]) {
            let answer = Ask::new(method, "/x?y").body("body").send(via, proxy.address).await;
            assert_eq!(answer.status, status, "{via:?} {method}");
            assert_eq!(answer.header("location"), "http://shop.test/new/x?y", "{via:?} {method}");
            assert_eq!(answer.header("cache-control"), "no-store");
        }
    }
}

#[tokio::test]
async fn client_that_names_no_host_is_led_to_no_other_one() {
    let proxy = Proxy::start(
        "routes: [{ paths: [/s/*], redirect: { scheme: https } }, { redirect: { prefix: /, status: 301 } }]\n",
    )
    .await;
    let scheme = Proxy::start("routes: [{ redirect: { scheme: https } }]\n").await;
    let rows = [
        (&proxy, "/x?y", "/x?y"),
        (&proxy, "//evil.test/x", "/evil.test/x"),
        (&proxy, "/s/x", "/s/x"),
        (&scheme, "//evil.test/x?y", "/evil.test/x?y"),
        (&scheme, "/\\evil.test", "/evil.test"),
    ];
    for (proxy, target, expected) in rows {
        let answer = exchange(proxy.address, format!("GET {target} HTTP/1.0\r\n\r\n")).await;
        if answer.starts_with("HTTP/1.0 400") || answer.starts_with("HTTP/1.1 400") {
            // Refusing the target leads nobody anywhere either.
            assert_eq!(target, "/\\evil.test", "{answer}");
            continue;
        }
        let location = answer.lines().find_map(|line| line.strip_prefix("location: "));
        assert_eq!(location, Some(expected), "{target}: {answer}");
    }
}
