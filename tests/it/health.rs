//! Health checks: what endpoints are asked, what their answers come to, and who gets traffic then.

mod answers;
mod grpc;
mod peers;
mod traffic;
mod waiting;

use serde_json::Value;

use crate::support::proxy::HEAD;
use crate::support::{Ask, Proxy, Via, until};

/// A proxy before one upstream, `one`, with these endpoints, this `health` and these further keys.
async fn before(endpoints: &[String], health: &str, more: &str) -> Proxy {
    Proxy::start_whole(&file(endpoints, health, more)).await
}

/// The configuration of [`before`].
fn file(endpoints: &[String], health: &str, more: &str) -> String {
    let endpoints: Vec<_> = endpoints.iter().map(|endpoint| format!("'{endpoint}'")).collect();
    let (endpoints, more) = (endpoints.join(", "), further(more));
    format!(
        "{HEAD}upstreams:\n  one: {{ endpoints: [{endpoints}], health: {health}{more} }}\nroutes: [{{ upstream: one }}]\n"
    )
}

fn further(keys: &str) -> String {
    if keys.is_empty() { String::new() } else { format!(", {keys}") }
}

/// What the admin address answers for `path`.
async fn page(proxy: &Proxy, path: &str) -> String {
    let address = crate::support::proxy::tcp(&proxy.app.admin_address().unwrap());
    let reply = Ask::get(path).with("host", address.to_string()).send(Via::Http1, address).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.body
}

/// What `/status` says of the checks of each endpoint of `one`: their verdict and why.
async fn states(proxy: &Proxy) -> Vec<(String, String)> {
    let page: Value = serde_json::from_str(&page(proxy, "/status").await).unwrap();
    let endpoints = page["upstreams"][0]["endpoints"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let of = |address: &Value| (text(&address["check"]["verdict"]), text(&address["check"]["reason"]));
    endpoints.iter().flat_map(|endpoint| endpoint["addresses"].as_array().unwrap()).map(of).collect()
}

/// Waits until the first endpoint of `one` is in `state`; why.
async fn comes_to_be(proxy: &Proxy, state: &str) -> String {
    until(state, || async { states(proxy).await.into_iter().find(|(found, _)| found == state) }).await.1
}

/// What the first check of an endpoint comes to: `healthy`, or why it is not.
async fn verdict(endpoint: &str, health: &str, more: &str) -> String {
    let proxy = before(&[endpoint.to_owned()], health, more).await;
    let decided = || async { states(&proxy).await.into_iter().find(|(state, _)| state != "unknown") };
    let (state, reason) = until("a verdict", decided).await;
    if state == "healthy" { state } else { reason }
}

/// The value of a series in what a scrape gives.
async fn scraped(proxy: &Proxy, series: &str) -> Option<f64> {
    let text = page(proxy, "/metrics").await;
    let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ').map(str::to_owned));
    value.map(|value| value.parse().unwrap())
}
