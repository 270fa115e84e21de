//! A proxy between peers that behave badly and one that behaves well, so that each test can end by asking whether the
//! proxy is still in order.

use std::fmt::Display;

use super::raw::{exchange, status};
use super::{Proxy, Upstream, until};

/// A proxy with one worker: `/well` goes to an upstream that behaves, everything else to the endpoints under test.
pub struct Stage {
    /// The proxy.
    pub proxy: Proxy,
    _well: Upstream,
}

/// What a test sets; all of it YAML in flow style.
#[derive(Debug, Clone, Copy)]
pub struct Settings<'a> {
    /// The protocol of the endpoints under test.
    pub protocol: &'a str,
    /// More keys of the upstream.
    pub upstream: &'a str,
    /// More keys of the route.
    pub route: &'a str,
    /// More keys of the listener.
    pub listener: &'a str,
}

impl Default for Settings<'_> {
    fn default() -> Self {
        Self { protocol: "http1", upstream: "", route: "", listener: "" }
    }
}

impl Stage {
    /// A proxy before one endpoint over HTTP/1.1.
    pub async fn before(endpoint: impl Display) -> Self {
        Self::with(&[endpoint], Settings::default()).await
    }

    /// A proxy before one endpoint over `protocol`.
    pub async fn speaking(protocol: &str, endpoint: impl Display) -> Self {
        Self::with(&[endpoint], Settings { protocol, ..Settings::default() }).await
    }

    /// A proxy before `endpoints`, with settings.
    pub async fn with<E: Display>(endpoints: &[E], settings: Settings<'_>) -> Self {
        let Settings { protocol, upstream, route, listener } = settings;
        let endpoints: Vec<_> = endpoints.iter().map(|endpoint| format!("'{endpoint}'")).collect();
        let endpoints = endpoints.join(", ");
        let text = format!(
            "upstreams:\n  one: {{ endpoints: [{endpoints}], protocol: {protocol}{} }}\n",
            further(upstream)
        );
        Self::serving(listener, &text, &format!("  - {{ upstream: one{} }}\n", further(route))).await
    }

    /// A proxy with these sections (`upstreams:` last) and these routes, and the one for `/well`.
    pub async fn serving(listener: &str, sections: &str, routes: &str) -> Self {
        let well = Upstream::named("well").await;
        let address = well.address;
        let listener = further(listener);
        let proxy = Proxy::start_whole(&format!(
            "workers: 1\nlisteners: [{{ bind: 127.0.0.1:0{listener} }}]\n{sections}  \
             well: {{ endpoints: ['{address}'] }}\nroutes:\n  \
             - {{ paths: [/well], upstream: well }}\n{routes}"
        ))
        .await;
        Self { proxy, _well: well }
    }

    /// Passes when a normal request is served, and nothing is left of the others: no request and no connection.
    pub async fn assert_in_order(&self) {
        let answer =
            exchange(self.proxy.address, "GET /well HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
        assert_eq!(status(&answer), 200, "{answer}");
        assert!(answer.ends_with("well"), "{answer}");
        for gauge in [
            "weir_upstream_requests_active",
            "weir_downstream_connections_active",
            "weir_upstream_connections_active",
        ] {
            until(gauge, || async { (self.proxy.metric(gauge, &[]).await == 0.0).then_some(()) }).await;
        }
    }
}

fn further(keys: &str) -> String {
    if keys.is_empty() { String::new() } else { format!(", {keys}") }
}
