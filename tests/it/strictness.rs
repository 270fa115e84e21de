//! How strictly a listener takes requests: a target and a `Host` that differ, a target that is for another connection,
//! and header names with `_`.

use std::net::SocketAddr;

use http::{HeaderMap, HeaderValue, Request};
use http_body_util::BodyExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::bodies::with_trailers;
use crate::support::client::Connection;
use crate::support::proxy::tcp;
use crate::support::raw::{Client, exchange, status};
use crate::support::upstream::full;
use crate::support::{Ask, BOTH, PATIENCE, Proxy, Upstream};

/// One worker, a listener with each of `listeners`' settings, and one upstream for `shop.test` and their addresses.
async fn serving(listeners: &[&str], upstream: &Upstream, protocol: &str) -> Proxy {
    let own = (1..=listeners.len()).map(|number| format!("127.0.0.{number}"));
    let own = own.collect::<Vec<_>>().join(", ");
    let rows = (1..).zip(listeners);
    let rows = rows.map(|(number, settings)| format!("  - {{ bind: 127.0.0.{number}:0, {settings} }}\n"));
    let (listeners, address) = (rows.collect::<String>(), upstream.address);
    Proxy::start_whole(&format!(
        "workers: 1\nlisteners:\n{listeners}upstreams: {{ one: {{ endpoints: ['{address}'], protocol: {protocol} }} }}\n\
         routes: [{{ hosts: [shop.test, '[::1]', {own}], upstream: one }}]\n"
    ))
    .await
}

fn addresses(proxy: &Proxy) -> Vec<SocketAddr> {
    proxy.app.addresses().iter().map(tcp).collect()
}

/// The status of a raw response, and the proxy's own code where it has one.
fn outcome(response: &str) -> String {
    let code = response.lines().find_map(|line| line.strip_prefix("x-weir-error: "));
    [&*status(response).to_string()].into_iter().chain(code).collect::<Vec<_>>().join(" ")
}

/// Asks for `target` over HTTP/1.1 with `hosts` as its `Host` fields.
async fn ask(address: SocketAddr, target: &str, hosts: &[&str]) -> String {
    let hosts = hosts.iter().map(|host| format!("Host: {host}\r\n")).collect::<Vec<_>>().concat();
    exchange(address, format!("GET {target} HTTP/1.1\r\n{hosts}connection: close\r\n\r\n")).await
}

/// Asks for `uri` over HTTP/2, whose pseudo-header fields are the parts of it.
async fn ask_http2(address: SocketAddr, uri: &str, host: Option<&str>) -> String {
    let asking = async {
        let stream = TcpStream::connect(address).await.unwrap();
        let (sender, connection) = h2::client::handshake(stream).await.unwrap();
        let driver = tokio::spawn(connection);
        let mut request = Request::get(uri);
        if let Some(host) = host {
            request = request.header("host", host);
        }
        let mut sender = sender.ready().await.unwrap();
        let (response, _) = sender.send_request(request.body(()).unwrap(), true).unwrap();
        let head = response.await.unwrap().into_parts().0;
        driver.abort();
        let code = head.headers.get("x-weir-error").map(|code| format!(" {}", code.to_str().unwrap()));
        head.status.as_u16().to_string() + &code.unwrap_or_default()
    };
    timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("no answer to {uri}"))
}

#[tokio::test]
async fn host_of_the_target_wins_and_is_the_only_one_that_the_upstream_is_told() {
    // The target, `Host`, and what the upstream is told: host and path.
    let rows = [
        ("http://shop.test/a?b", "other.test", "shop.test", "/a?b"),
        ("http://Shop.test:80/", "other.test:81", "Shop.test:80", "/"),
        ("HTTP://shop.test", "", "shop.test", "/"),
        ("http://shop.test?b", "shop.test", "shop.test", "/?b"),
        ("http://[::1]:8080/", "[::2]", "[::1]:8080", "/"),
        ("https://shop.test/a", "shop.test:443", "shop.test", "/a"),
        ("/a", "Shop.test:8080", "Shop.test:8080", "/a"),
    ];
    for protocol in ["http1", "http2"] {
        let upstream = Upstream::named("one").await;
        let proxy = serving(&["strict_host: false"], &upstream, protocol).await;
        for (target, host, told, path) in rows {
            let row = format!("{protocol} {target} {host}");
            let answer = ask(proxy.address, target, &[host]).await;
            assert_eq!(status(&answer), 200, "{row}: {answer}");
            let seen = upstream.last();
            let hosts: Vec<_> = seen.headers.get_all("host").iter().collect();
            if protocol == "http1" {
                assert_eq!((hosts, &*seen.target), (vec![&HeaderValue::from_static(told)], path), "{row}");
            } else {
                let uri: http::Uri = seen.target.parse().unwrap();
                assert_eq!(uri.authority().map(http::uri::Authority::as_str), Some(told), "{row}");
                assert_eq!(uri.path_and_query().map(http::uri::PathAndQuery::as_str), Some(path), "{row}");
                assert!(hosts.is_empty(), "{row}: {hosts:?}");
            }
            assert_eq!(seen.header("x-forwarded-host"), told.to_ascii_lowercase(), "{row}");
            assert_eq!(seen.header("x-forwarded-proto"), "http", "{row}: a target does not encrypt");
        }
        let count = upstream.count();
        for hosts in [&[][..], &["shop.test", "shop.test"], &["shop.test", "other.test"], &["a b"]] {
            let answer = ask(proxy.address, "http://shop.test/", hosts).await;
            assert_eq!(outcome(&answer), "400 bad_host", "{hosts:?}");
        }
        assert_eq!(upstream.count(), count);
    }
}

#[tokio::test]
async fn target_and_host_that_differ_are_refused_where_the_listener_is_strict() {
    let upstream = Upstream::named("one").await;
    let proxy = serving(&["strict_host: true", "trust: []"], &upstream, "http1").await;
    let [strict, lenient] = addresses(&proxy)[..] else { panic!("two listeners") };
    let rows = [
        ("http://shop.test/", "shop.test", true),
        ("http://SHOP.test/", "shop.TEST", true),
        ("http://shop.test/", "shop.test:80", true),
        ("http://shop.test:80/", "shop.test", true),
        ("http://shop.test./", "shop.test", true),
        ("http://[::1]/", "[0:0:0:0:0:0:0:1]", true),
        ("http://shop.test/", "other.test", false),
        ("http://shop.test/", "shop.test:8080", false),
        ("http://shop.test:8080/", "shop.test", false),
        ("http://shop.test/", "shop.test:443", false),
        ("http://shop.test/", "", false),
        ("http://[::1]/", "[::2]", false),
        ("http://shop.test/", "www.shop.test", false),
    ];
    let mut refused = 0;
    for (target, host, is_same) in rows {
        let row = format!("{target} {host:?}");
        let expected = if is_same { "200" } else { "400 bad_host" };
        assert_eq!(outcome(&ask(strict, target, &[host]).await), expected, "{row}");
        assert_eq!(outcome(&ask(lenient, target, &[host]).await), "200", "{row}");
        refused += usize::from(!is_same);
        // Over HTTP/2 they may differ nowhere (RFC 9113 §8.3.1).
        for address in [strict, lenient] {
            assert_eq!(ask_http2(address, target, Some(host)).await, expected, "{row}");
        }
    }
    assert_eq!(upstream.count(), rows.len() * 4 - refused * 3);
    // Where only one is named nothing differs.
    assert_eq!(outcome(&ask(strict, "/", &["shop.test"]).await), "200");
    assert_eq!(ask_http2(strict, "http://shop.test/", None).await, "200");
    let answer = exchange(strict, "GET http://shop.test/ HTTP/1.0\r\n\r\n").await;
    assert_eq!(outcome(&answer), "200", "{answer}");
    // Nor is a request about the server itself.
    let ping = "OPTIONS http://shop.test HTTP/1.1\r\nhost: other.test\r\nconnection: close\r\n\r\n";
    assert_eq!(outcome(&exchange(lenient, ping).await), "204");
    assert_eq!(outcome(&exchange(strict, ping).await), "400 bad_host");
    // Nothing is read behind what was to be taken in two ways.
    let two = "GET http://a/ HTTP/1.1\r\nhost: b\r\n\r\nGET / HTTP/1.1\r\nhost: shop.test\r\n\r\n";
    let answer = exchange(strict, two).await;
    assert_eq!((outcome(&answer).as_str(), answer.matches("HTTP/1.1 ").count()), ("400 bad_host", 1));
}

#[tokio::test]
async fn target_for_an_encrypted_connection_is_refused_on_a_plain_one_where_the_listener_is_strict() {
    let upstream = Upstream::named("one").await;
    let listeners = ["strict_host: true", "strict_host: true, trust: [127.0.0.1]", "strict_host: false"];
    let proxy = serving(&listeners, &upstream, "http1").await;
    // A trusted peer may have ended TLS itself (RFC 9110 §7.4).
    for (address, expected) in addresses(&proxy).into_iter().zip(["421 misdirected", "200", "200"]) {
        let before = upstream.count();
        for target in ["https://shop.test/", "HTTPS://shop.test:443"] {
            let answer = ask(address, target, &["shop.test"]).await;
            assert_eq!(outcome(&answer), expected, "{target} {address}");
            assert_eq!(ask_http2(address, "https://shop.test/", None).await, expected, "{target} {address}");
        }
        assert_eq!(upstream.count() - before, if expected == "200" { 4 } else { 0 });
        assert_eq!(outcome(&ask(address, "http://shop.test/", &["shop.test"]).await), "200");
    }
    // Two hosts are the graver matter.
    let answer = ask(proxy.address, "https://shop.test/", &["shop.test:80"]).await;
    assert_eq!(outcome(&answer), "400 bad_host");
    // The connection stays in order.
    let mut client = Client::connect(proxy.address).await;
    client.send("GET https://shop.test/ HTTP/1.1\r\nhost: shop.test\r\n\r\n").await;
    assert_eq!(outcome(&client.read_response().await), "421 misdirected");
    client.send("GET / HTTP/1.1\r\nhost: shop.test\r\n\r\n").await;
    assert_eq!(outcome(&client.read_response().await), "200");
}

const UNDERSCORES: [&str; 4] =
    ["underscores: keep", "underscores: remove", "underscores: refuse", "name: default"];

#[tokio::test]
async fn headers_with_an_underscore_are_kept_removed_or_refused_as_the_listener_says() {
    let upstream = Upstream::named("one").await;
    let proxy = serving(&UNDERSCORES, &upstream, "http1").await;
    let [keep, remove, refuse, default] = addresses(&proxy)[..] else { panic!("four listeners") };
    // What is sent, and what of it is left without underscores.
    let rows: [(&[&str], &[&str]); 5] = [
        (&["x-a", "cookie"], &["x-a", "cookie"]),
        (&["x_a", "x-a"], &["x-a"]),
        (&["X_A"], &[]),
        (&["content_length", "_", "x.b"], &["x.b"]),
        // It is removed in any case, and refused all the same.
        (&["x_forwarded_for"], &[]),
    ];
    let mut refused = 0.0;
    for (sent, left) in rows {
        for via in BOTH {
            let row = format!("{via:?} {sent:?}");
            let ask = sent.iter().fold(Ask::get("/"), |ask, name| ask.with(name, "1"));
            for (address, expected) in [(keep, sent), (default, sent), (remove, left)] {
                let reply = ask.send(via, address).await;
                assert_eq!(reply.outcome(), "200", "{row}");
                let seen = upstream.last();
                for name in sent {
                    let is_kept = expected.contains(name) && *name != "x_forwarded_for";
                    assert_eq!(seen.headers.contains_key(*name), is_kept, "{row} {address}: {name}");
                }
            }
            let before = upstream.count();
            let is_refused = sent.iter().any(|name| name.contains('_'));
            let expected = if is_refused { "400 underscore_header" } else { "200" };
            assert_eq!(ask.send(via, refuse).await.outcome(), expected, "{row}");
            assert_eq!(upstream.count() == before, is_refused, "{row}");
            refused += f64::from(u8::from(is_refused));
        }
    }
    let labels = ["code=\"underscore_header\"", "blame=\"client\""];
    assert_eq!(proxy.metric("weir_errors_total", &labels).await, refused);
    // A value may have what it likes, and a request about the server itself may not.
    assert_eq!(Ask::get("/a_b?c_d").with("x-a", "e_f").send(BOTH[0], refuse).await.outcome(), "200");
    let ping = "OPTIONS * HTTP/1.1\r\nhost: a\r\nx_a: 1\r\nconnection: close\r\n\r\n";
    assert_eq!(outcome(&exchange(refuse, ping).await), "400 underscore_header");
    // What `Connection` names does not come in by another way.
    let named = "GET / HTTP/1.1\r\nhost: shop.test\r\nx_a: 1\r\nconnection: x_a\r\n\r\n";
    let mut client = Client::connect(refuse).await;
    client.send(named).await;
    assert_eq!(outcome(&client.read_response().await), "400 underscore_header");
    client.send("GET / HTTP/1.1\r\nhost: shop.test\r\n\r\n").await;
    assert_eq!(outcome(&client.read_response().await), "200", "the connection stays in order");
}

#[tokio::test]
async fn trailers_with_an_underscore_are_removed_unless_they_are_kept() {
    for protocol in ["http1", "http2"] {
        let upstream = Upstream::answering(|request| async move {
            let collected = request.into_body().collect().await.unwrap();
            let trailers = collected.trailers().cloned().unwrap_or_default();
            let mut names: Vec<_> = trailers.keys().map(http::HeaderName::as_str).collect();
            names.sort_unstable();
            http::Response::new(full(names.join(" ")))
        })
        .await;
        let proxy = serving(&UNDERSCORES, &upstream, protocol).await;
        let kept = ["x-sum x_sum", "x-sum", "x-sum", "x-sum x_sum"];
        for (address, expected) in addresses(&proxy).into_iter().zip(kept) {
            for is_http2 in [false, true] {
                let mut trailers = HeaderMap::new();
                trailers.insert("x-sum", HeaderValue::from_static("1"));
                trailers.insert("x_sum", HeaderValue::from_static("2"));
                let body = with_trailers("data", trailers);
                let request = Request::post("/").header("te", "trailers").header("trailer", "x-sum, x_sum");
                let request = if is_http2 { request } else { request.header("host", "shop.test") };
                let mut client = Connection::new(address, is_http2).await;
                let (_, answer, _) = client.exchange(request.body(body).unwrap()).await;
                assert_eq!(answer, expected, "{protocol} {is_http2} {address}");
            }
        }
    }
}

#[tokio::test]
async fn change_of_strictness_counts_for_connections_that_are_open() {
    let upstream = Upstream::named("one").await;
    let text = |settings: &str| {
        format!(
            "workers: 1\nlisteners: [{{ bind: 127.0.0.1:0{settings} }}]\nupstreams: {{ one: {{ endpoints: ['{}'] }} }}\n\
             routes: [{{ upstream: one }}]\n",
            upstream.address
        )
    };
    let proxy = Proxy::start_whole(&text("")).await;
    let mut client = Client::connect(proxy.address).await;
    let steps = [
        ("", "200", "200"),
        (", underscores: refuse", "400 underscore_header", "200"),
        (", strict_host: true", "200", "400 bad_host"),
    ];
    for (number, (settings, underscore, host)) in steps.into_iter().enumerate() {
        if number > 0 {
            proxy.replace(&text(settings)).await;
        }
        client.send("GET / HTTP/1.1\r\nhost: a\r\nx_a: 1\r\n\r\n").await;
        assert_eq!(outcome(&client.read_response().await), underscore, "{settings}");
        client.send("GET http://a/ HTTP/1.1\r\nhost: b\r\n\r\n").await;
        assert_eq!(outcome(&client.read_response().await), host, "{settings}");
    }
}
