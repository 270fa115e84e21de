//! `/healthz`, `/readyz`, `/status`: what they tell, and to whom.

use tokio::net::TcpStream;

use super::{shop, status};
use crate::support::proxy::tcp;
use crate::support::raw::{self, Client};
use crate::support::{Arms, Ask, PATIENCE, Proxy, Upstream, Via, until};

#[tokio::test]
async fn admin_pages_answer_to_their_own_address_only() {
    let proxy = Proxy::start("routes: [{ respond: {} }]\n").await;
    let address = tcp(&proxy.app.admin_address().unwrap());
    let own = address.to_string();
    // Method, path, Host, status, and what the answer has in it.
    let rows = [
        ("GET", "/healthz", own.as_str(), 200, "ok"),
        ("GET", "/readyz", "localhost", 200, "ready"),
        ("GET", "/readyz", "LocalHost:1", 200, "ready"),
        ("GET", "/healthz", "[::1]:9900", 200, "ok"),
        ("GET", "/metrics", "127.0.0.1", 200, "weir_config_generation 1"),
        ("GET", "/status?pretty", &own, 200, "\"generation\": 1"),
        ("HEAD", "/status", &own, 200, ""),
        // A web page that made its own name point here (DNS rebinding).
        ("GET", "/status", "evil.test", 403, "Host"),
        ("GET", "/metrics", "evil.test:9900", 403, "Host"),
        ("GET", "/healthz", "localhost.evil.test", 403, "Host"),
        ("GET", "/healthz", "127.0.0.1.evil.test", 403, "Host"),
        ("GET", "/healthz", "", 403, "Host"),
        ("GET", "/", &own, 404, "/metrics"),
        ("GET", "/status/", &own, 404, "/metrics"),
        ("GET", "/config", &own, 404, "/metrics"),
        ("POST", "/status", &own, 405, "only GET"),
        ("DELETE", "/metrics", &own, 405, "only GET"),
        ("PUT", "/nothing", &own, 404, ""),
    ];
    for (method, path, host, expected, part) in rows {
        let text = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        let answer = raw::exchange(address, text).await;
        assert_eq!(raw::status(&answer), expected, "{method} {path} {host}: {answer}");
        assert!(answer.contains(part), "{method} {path} {host}: {answer}");
        let lower = answer.to_lowercase();
        assert_eq!(lower.contains("\r\nallow: get, head\r\n"), expected == 405, "{answer}");
        assert!(!lower.contains("access-control-"), "no other origin may read it: {answer}");
        assert!(lower.contains("\r\ncache-control: no-store\r\n"), "{answer}");
    }
    let answer = raw::exchange(address, "GET /healthz HTTP/1.1\r\nconnection: close\r\n\r\n").await;
    assert!([400, 403].contains(&raw::status(&answer)), "no Host at all: {answer}");
}

#[tokio::test]
async fn telemetry_address_has_what_scrapers_and_probes_need_and_no_more() {
    let proxy = Proxy::start_whole(
        "listeners: [{ bind: 127.0.0.1:0 }]\ntelemetry: { bind: 127.0.0.2:0 }\nroutes: [{ respond: {} }]\n",
    )
    .await;
    assert_eq!(proxy.app.admin_address(), None, "no admin pages where none are asked for");
    let address = tcp(&proxy.app.telemetry_address().unwrap());
    for (path, expected) in
        [("/metrics", 200), ("/healthz", 200), ("/readyz", 200), ("/status", 404), ("/", 404)]
    {
        // Scrapers come by names.
        let reply = Ask::get(path).with("host", "weir.monitoring.svc:9901").send(Via::Http1, address).await;
        assert_eq!(reply.status, expected, "{path}");
    }
    for path in ["/metrics", "/status", "/healthz"] {
        let reply = Ask::get(path).send(Via::Http1, proxy.address).await;
        assert_eq!(reply.body, "", "{path} on a listener is a path like any other");
    }
}

#[tokio::test]
async fn admin_pages_are_for_this_machine_unless_told_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weir.yaml");
    std::fs::write(&path, "listeners: [{ bind: 127.0.0.1:0 }]\nadmin: {}\nroutes: [{ respond: {} }]\n")
        .unwrap();
    let accepted = weir::config::load(&path).unwrap();
    let bind = &accepted.config.admin.as_ref().unwrap().bind;
    assert!(bind.is_local(), "{bind}");
    assert_eq!(bind.to_string(), "127.0.0.1:9900");
}

#[tokio::test]
async fn status_tells_what_serves_and_how_each_split_divides() {
    let arms = Arms::start(&["blue", "canary"]).await;
    let proxy = Proxy::start_whole(&shop(&arms, "25%")).await;
    let told = status(&proxy).await;
    assert_eq!((&told["generation"], &told["ready"]), (&1.into(), &true.into()));
    assert_eq!(told["file"], proxy.path.display().to_string());
    assert_eq!(told["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(told["last_reload"]["success"], true);
    let at: String = told["last_reload"]["at"].as_str().unwrap().to_owned();
    assert!(at.len() == 24 && at.ends_with('Z'), "{at}");
    let hash = told["hash"].as_str().unwrap();
    assert!(proxy.metrics().await.contains(&format!("weir_config_info{{hash=\"{hash}\"}} 1\n")));
    let split = |told: &serde_json::Value| told["splits"][0].clone();
    assert_eq!(split(&told)["name"], "checkout");
    let names: Vec<_> =
        split(&told)["variants"].as_array().unwrap().iter().map(|one| one["name"].clone()).collect();
    assert_eq!(names, ["blue", "canary", "gone"]);
    assert!(split(&told)["variants"][0]["observed"].is_null(), "nothing yet: {told}");
    let mut canary = 0;
    for number in 0..40 {
        // Each unit twice.
        let ask = Ask::get("/").with("x-id", format!("u-{}", number % 20));
        canary += usize::from(ask.send(Via::Http1, proxy.address).await.upstream() == "canary");
    }
    let variants = split(&status(&proxy).await)["variants"].clone();
    let rows = [(0, "blue", 0.75, 40 - canary), (1, "canary", 0.25, canary), (2, "gone", 0.0, 0)];
    for (index, name, configured, assigned) in rows {
        let one = &variants[index];
        assert_eq!((&one["name"], &one["upstream"]), (&name.into(), &name.into()));
        assert_eq!((&one["configured"], &one["assigned"]), (&configured.into(), &assigned.into()), "{one}");
        assert_eq!(one["units"], assigned / 2, "{one}");
        #[expect(clippy::cast_precision_loss, reason = "at most 40")]
        let share = assigned as f64 / 40.0;
        assert_eq!(one["observed"], share, "{one}");
    }
}

#[tokio::test]
async fn endpoint_that_takes_no_connections_shows_until_it_does() {
    let address = crate::support::upstream::nobody();
    let proxy = Proxy::start(&format!(
        "upstreams: {{ one: {{ endpoints: ['{address}'] }} }}\nroutes: [{{ upstream: one }}]\n"
    ))
    .await;
    let endpoint = async || status(&proxy).await["upstreams"][0]["endpoints"][0].clone();
    let behind = serde_json::json!([{ "address": address.to_string(), "state": "passing" }]);
    let whole = serde_json::json!({ "address": address.to_string(), "reachable": true, "addresses": behind });
    assert_eq!(endpoint().await, whole, "before the first connect");
    assert_eq!(Ask::get("/").send(Via::Http1, proxy.address).await.status, 503);
    assert_eq!(endpoint().await["reachable"], false);
    let _there = Upstream::at(address).await;
    // Each worker has a view of its own; any that connects tells.
    until("it is reachable again", || async {
        Ask::get("/").send(Via::Http1, proxy.address).await;
        (endpoint().await["reachable"] == true).then_some(())
    })
    .await;
}

#[tokio::test]
async fn bad_edit_shows_where_it_is_wrong_while_the_former_one_serves() {
    let arms = Arms::start(&["blue", "canary"]).await;
    let good = shop(&arms, "25%");
    let proxy = Proxy::start_whole(&good).await;
    let before = status(&proxy).await;
    let bad = good.replace("weight: 25%", "weight: 125%");
    let line = bad.lines().position(|line| line.contains("125%")).unwrap() + 1;
    std::fs::write(&proxy.path, &bad).unwrap();
    let told = until("the error shows", || async {
        let told = status(&proxy).await;
        (told["last_reload"]["success"] == false).then_some(told)
    })
    .await;
    let error = &told["last_reload"]["errors"][0];
    assert_eq!(error["line"], line, "{error}");
    let column = bad.lines().nth(line - 1).unwrap().find("125%").unwrap() + 1;
    assert_eq!(error["column"], column, "{error}");
    assert_eq!(error["file"], proxy.path.display().to_string(), "{error}");
    assert!(error["code"].as_str().is_some_and(|code| !code.is_empty()), "{error}");
    assert!(error["message"].as_str().unwrap().contains("100%"), "{error}");
    for key in ["generation", "hash", "ready", "splits"] {
        assert_eq!(told[key], before[key], "{key}");
    }
    assert_eq!(reqwest::get(proxy.admin("/readyz")).await.unwrap().status(), 200);
    assert_eq!(Ask::get("/").with("x-id", "u").send(Via::Http1, proxy.address).await.status, 200);
    assert_eq!(proxy.metric("weir_config_last_reload_success", &[]).await, 0.0);
    assert_eq!(proxy.metric("weir_config_reloads_total", &["result=\"failure\""]).await, 1.0);
    proxy.replace(&good.replace("weight: 25%", "weight: 26%")).await;
    let told = until("the repair shows", || async {
        let told = status(&proxy).await;
        (told["last_reload"]["success"] == true).then_some(told)
    })
    .await;
    assert_eq!((&told["generation"], &told["last_reload"]["errors"]), (&2.into(), &serde_json::json!([])));
    assert_ne!(told["hash"], before["hash"]);
    assert_eq!(proxy.metric("weir_config_last_reload_success", &[]).await, 1.0);
}

#[tokio::test]
async fn proxy_that_drains_is_alive_and_not_ready() {
    let (upstream, open) = Upstream::gated().await;
    let proxy = Proxy::start(&format!(
        "upstreams: {{ one: {{ endpoints: ['{}'] }} }}\nroutes: [{{ upstream: one }}]\n",
        upstream.address
    ))
    .await;
    let address = tcp(&proxy.app.admin_address().unwrap());
    let mut client = Client::connect(proxy.address).await;
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    until("it is under way", || async { (upstream.count() == 1).then_some(()) }).await;
    let Proxy { app, folder: _folder, .. } = proxy;
    let ending = tokio::spawn(app.shutdown(PATIENCE));
    let probe = async |path: &str| Ask::get(path).with("host", "127.0.0.1").send(Via::Http1, address).await;
    until("it is not ready", || async {
        let reply = probe("/readyz").await;
        (reply.status == 503 && reply.body == "draining\n").then_some(())
    })
    .await;
    assert_eq!(probe("/healthz").await.status, 200);
    open.send_replace(true);
    assert!(client.read_response().await.contains("at last"));
    assert!(ending.await.unwrap(), "all was finished");
    until("nobody listens", || async { TcpStream::connect(address).await.is_err().then_some(()) }).await;
}
