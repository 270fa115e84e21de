//! What operators, scrapers and probes see from outside.

mod log;
mod metrics;
mod pages;

use crate::support::{Arms, Ask, Proxy, Reply, Via};

/// GET of `path` on the admin address.
async fn admin(proxy: &Proxy, path: &str) -> Reply {
    let address = crate::support::proxy::tcp(&proxy.app.admin_address().unwrap());
    Ask::get(path).with("host", address.to_string()).send(Via::Http1, address).await
}

/// `/status`.
async fn status(proxy: &Proxy) -> serde_json::Value {
    let reply = admin(proxy, "/status").await;
    assert_eq!((reply.status, reply.header("content-type")), (200, "application/json"), "{reply:?}");
    serde_json::from_str(&reply.body).unwrap_or_else(|error| panic!("{error}: {}", reply.body))
}

/// A split with a canary at `canary`, and a bit of everything that can be counted.
fn shop(arms: &Arms, canary: &str) -> String {
    let routes = [
        "name: plain, paths: [/plain], upstream: blue",
        "name: old, paths: [/old], redirect: { path: / }",
        "name: dead, paths: [/dead], upstream: gone",
        "name: strict, paths: [/strict], split: strict",
        "name: shop, split: checkout",
    ];
    let routes = routes.map(|route| format!("  - {{ hosts: [shop.test], {route} }}\n")).concat();
    format!(
        "{}{}  gone: {{ endpoints: ['{}'], ejection: {{ failures: 0 }} }}\nsplits:\n  checkout:\n    key: [header:x-id]\n    rules: [{{ when: [{{ value: \
         header:x-tier, in: [gold] }}], variant: canary }}]\n    override: {{ header: x-force, bare_from: [127.0.0.1] }}\n    \
         variants: [{{ name: blue }}, {{ name: canary, weight: {canary} }}, {{ name: gone }}]\n  strict: {{ key: \
         [header:x-id], missing: reject, variants: [{{ name: blue }}] }}\nroutes:\n{routes}",
        crate::support::proxy::HEAD,
        arms.yaml(),
        crate::support::upstream::nobody()
    )
}
