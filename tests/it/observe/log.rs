//! The access log: one line for each request, which says what became of it.

use serde_json::{Value, json};

use super::shop;
use crate::support::raw;
use crate::support::{Arms, Ask, BOTH, PATIENCE, Proxy, Upstream, Via, until};

/// The lines in the log of `proxy`, once there are `count` of them.
async fn lines(proxy: &Proxy, count: usize) -> Vec<Value> {
    let path = proxy.folder.path().join("access.log");
    until("the lines are written", || async {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        (text.lines().count() >= count).then(|| {
            let lines =
                text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")));
            lines.collect::<Vec<Value>>()
        })
    })
    .await
}

/// A proxy whose log is beside its configuration, once it is there.
async fn logged(arms: &Arms, unit_key: bool) -> Proxy {
    // A relative path begins at the folder of the file.
    Proxy::start_whole(&format!(
        "{}access_log: {{ path: access.log, unit_key: {unit_key} }}\n",
        shop(arms, "0%")
    ))
    .await
}

type Row = (&'static str, &'static str, &'static [(&'static str, &'static str)], Value);

#[tokio::test]
async fn each_request_has_one_line_that_says_what_became_of_it() {
    let arms = Arms::start(&["blue", "canary"]).await;
    // Method, target, headers, what the line must have; null is for what it must not have.
    let rows: [Row; 9] = [
        (
            "GET",
            "/a?secret=1",
            &[("x-id", "u-1"), ("x-request-id", "r-1")],
            json!({
                "request_id": "r-1", "client_ip": "127.0.0.1", "listener": "listener-1", "method": "GET", "host": "shop.test",
                "path": "/a", "status": 200, "route": "shop", "split": "checkout", "variant": "blue", "reason": "weights",
                "rule": null, "unit": null, "upstream": "blue", "attempts": 1, "request_bytes": 0, "response_bytes": 4,
                "error": null, "blame": null,
            }),
        ),
        (
            "POST",
            "/",
            &[("x-id", "u-1"), ("x-tier", "gold")],
            json!({
                "method": "POST", "variant": "canary", "reason": "rule", "rule": "rule-1", "position": null, "upstream": "canary",
                "request_bytes": 7, "response_bytes": 6,
            }),
        ),
        (
            "GET",
            "/",
            &[("x-force", "canary")],
            json!({ "variant": "canary", "reason": "override", "position": null }),
        ),
        (
            "GET",
            "/",
            &[("x-force", "gone")],
            json!({
                "variant": "blue", "reason": "fallback", "upstream": "blue", "attempts": 2, "status": 200, "error": null,
            }),
        ),
        (
            "GET",
            "/strict",
            &[],
            json!({
                "route": "strict", "split": "strict", "variant": null, "status": 400, "error": "missing_key", "blame": "client",
                "upstream": null, "attempts": 0,
            }),
        ),
        (
            "GET",
            "/plain",
            &[],
            json!({ "route": "plain", "split": null, "variant": null, "reason": null, "upstream": "blue" }),
        ),
        ("GET", "/old", &[], json!({ "route": "old", "status": 302, "upstream": null, "error": null })),
        (
            "GET",
            "/dead",
            &[],
            json!({
                "status": 503, "upstream": "gone", "error": "connect_refused", "blame": "upstream", "upstream_duration_ms": null,
            }),
        ),
        (
            "GET",
            "/",
            &[("host", "None.test:8")],
            json!({
                "host": "none.test:8", "route": null, "status": 421, "error": "unknown_host",
            }),
        ),
    ];
    let proxy = logged(&arms, false).await;
    let mut count = 0;
    for via in BOTH {
        for (method, target, headers, expected) in &rows {
            let ask = Ask::new(method, target).with_all(headers).body(if *method == "POST" {
                "1234567"
            } else {
                ""
            });
            let reply = ask.send(via, proxy.address).await;
            count += 1;
            let lines = lines(&proxy, count).await;
            assert_eq!(lines.len(), count, "one line each");
            let line = &lines[count - 1];
            for (name, value) in expected.as_object().unwrap() {
                assert_eq!(&line[name], value, "{via:?} {method} {target} {headers:?}: {line}");
            }
            let protocol = if via == Via::Http1 { "HTTP/1.1" } else { "HTTP/2" };
            assert_eq!(line["protocol"], protocol, "{line}");
            assert_eq!(line["response_bytes"], reply.body.len(), "{line}");
            assert!(line["duration_ms"].as_f64().is_some_and(|time| time > 0.0), "{line}");
            if let Some(time) = line["upstream_duration_ms"].as_f64() {
                assert!(time <= line["duration_ms"].as_f64().unwrap(), "{line}");
                let endpoint = arms.get(line["upstream"].as_str().unwrap()).address.to_string();
                assert_eq!(line["endpoint"], endpoint, "{line}");
            }
        }
    }
    let text = std::fs::read_to_string(proxy.folder.path().join("access.log")).unwrap();
    assert!(!text.contains("u-1") && !text.contains("secret"), "units and queries stay out of it");
}

#[tokio::test]
async fn unit_is_logged_where_that_is_turned_on_and_its_position_always() {
    let arms = Arms::start(&["blue", "canary"]).await;
    for unit_key in [false, true] {
        let proxy = logged(&arms, unit_key).await;
        Ask::get("/").with("x-id", "tenant-42").send(Via::Http1, proxy.address).await;
        let line = &lines(&proxy, 1).await[0];
        assert_eq!(line["unit"], if unit_key { json!("tenant-42") } else { Value::Null }, "{line}");
        let position = weir::logic::split::hash::position("checkout", b"tenant-42");
        assert_eq!(line["position"], position.to_string(), "{line}");
    }
}

#[tokio::test]
async fn request_that_is_refused_before_its_route_is_known_has_a_line_too() {
    let arms = Arms::start(&["blue", "canary"]).await;
    let proxy = logged(&arms, false).await;
    let rows = [
        ("TRACE / HTTP/1.1\r\nhost: a", "method_refused", json!("a")),
        ("GET / HTTP/1.1\r\nhost: a b", "bad_host", Value::Null),
        ("GET / HTTP/1.1\r\nhost: a\r\nhost: a", "bad_host", Value::Null),
        ("GET / HTTP/1.1\r\nx: y", "bad_host", Value::Null),
        ("GET * HTTP/1.1\r\nhost: a", "bad_target", json!("a")),
    ];
    for (number, (head, error, host)) in rows.iter().enumerate() {
        raw::exchange(proxy.address, format!("{head}\r\nconnection: close\r\n\r\n")).await;
        let lines = lines(&proxy, number + 1).await;
        let line = &lines[number];
        assert_eq!((&line["error"], &line["host"]), (&json!(error), host), "{head:?}: {line}");
        assert_eq!(line["request_id"].as_str().map(str::len), Some(32), "{line}");
    }
    raw::exchange(proxy.address, "OPTIONS * HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    let line = &lines(&proxy, rows.len() + 1).await[rows.len()];
    assert_eq!((&line["status"], &line["error"]), (&json!(204), &Value::Null), "{line}");
}

#[tokio::test]
async fn time_is_that_of_the_request_s_arrival() {
    let (upstream, open) = Upstream::gated().await;
    let proxy = Proxy::start(&format!(
        "access_log: {{ path: access.log }}\nupstreams: {{ one: {{ endpoints: ['{}'] }} }}\nroutes: [{{ upstream: one }}]\n",
        upstream.address
    ))
    .await;
    let address = proxy.address;
    let asking = tokio::spawn(async move { Ask::get("/").send(Via::Http1, address).await });
    until("it has arrived", || async { (upstream.count() == 1).then_some(()) }).await;
    let arrived = std::time::SystemTime::now();
    // The log tells milliseconds: some must pass before the request ends.
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    open.send_replace(true);
    tokio::time::timeout(PATIENCE, asking).await.unwrap().unwrap();
    let line = &lines(&proxy, 1).await[0];
    let time: jiff::Timestamp = line["time"].as_str().unwrap().parse().unwrap();
    assert!(std::time::SystemTime::from(time) <= arrived, "{line}");
}
