//! `/metrics`: every number moves as requests are made, and none is lost by a reload.

use std::collections::{HashMap, HashSet};

use super::{admin, shop};
use crate::support::{Arms, Ask, BOTH, PATIENCE, Proxy, Upstream, Via, until};

/// Holds `text` against the text format 0.0.4 and gives its series: name with labels → value.
fn parse(text: &str) -> HashMap<String, f64> {
    let (mut series, mut families, mut family) = (HashMap::new(), HashSet::new(), None);
    assert!(text.ends_with('\n'), "the last line ends");
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect(line);
            assert!(!help.is_empty() && families.insert(name.to_owned()), "{line}");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect(line);
            assert!(["counter", "gauge", "histogram"].contains(&kind) && families.contains(name), "{line}");
            family = Some((name.to_owned(), kind.to_owned()));
        } else {
            let (of, value) = line.rsplit_once(' ').expect(line);
            let name = of.split('{').next().unwrap();
            let (family, kind) = family.as_ref().expect("a type before its samples");
            let suffixes: &[&str] = if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
            let is_of = suffixes.iter().any(|suffix| name.strip_suffix(suffix) == Some(family.as_str()));
            assert!(is_of, "{line} stands under {family}");
            assert!(series.insert(of.to_owned(), value.parse().expect(line)).is_none(), "twice: {of}");
        }
    }
    series
}

/// The sum of the series of `name` that have every one of `labels`.
fn sum(series: &HashMap<String, f64>, name: &str, labels: &[(&str, &str)]) -> f64 {
    let has = |of: &str, (label, value): &(&str, &str)| {
        let wanted = format!("{label}=\"{value}\"");
        of.split(['{', ',', '}']).any(|pair| pair == wanted)
    };
    let of_name = series.iter().filter(|(of, _)| of.split('{').next() == Some(name));
    of_name.filter(|(of, _)| labels.iter().all(|label| has(of, label))).map(|(_, value)| value).sum::<f64>()
        + 0.0
}

async fn scrape(proxy: &Proxy) -> HashMap<String, f64> {
    let reply = admin(proxy, "/metrics").await;
    assert_eq!(
        (reply.status, reply.header("content-type")),
        (200, "text/plain; version=0.0.4; charset=utf-8")
    );
    parse(&reply.body)
}

/// Path, headers, what comes of it, and which series count one more.
type Row = (&'static str, &'static [(&'static str, &'static str)], &'static str, &'static [Count]);
type Count = (&'static str, &'static [(&'static str, &'static str)]);

const REQUESTS: &str = "weir_upstream_requests_total";

const ROWS: &[Row] = &[
    (
        "/",
        &[("x-id", "u-1")],
        "200",
        &[
            (
                REQUESTS,
                &[
                    ("route", "shop"),
                    ("split", "checkout"),
                    ("variant", "blue"),
                    ("upstream", "blue"),
                    ("code", "200"),
                    ("reason", "weights"),
                ],
            ),
            ("weir_split_assigned_total", &[("split", "checkout"), ("variant", "blue")]),
            (
                "weir_request_duration_seconds_count",
                &[("route", "shop"), ("split", "checkout"), ("variant", "blue")],
            ),
            (
                "weir_upstream_request_duration_seconds_count",
                &[("route", "shop"), ("split", "checkout"), ("variant", "blue")],
            ),
        ],
    ),
    (
        "/",
        &[("x-id", "u-1"), ("x-tier", "gold")],
        "200",
        &[
            (REQUESTS, &[("variant", "canary"), ("upstream", "canary"), ("code", "200"), ("reason", "rule")]),
            ("weir_split_assigned_total", &[("split", "checkout"), ("variant", "canary")]),
        ],
    ),
    (
        "/",
        &[("x-id", "u-1"), ("x-force", "canary")],
        "200",
        &[(REQUESTS, &[("variant", "canary"), ("code", "200"), ("reason", "override")])],
    ),
    (
        "/",
        &[("x-id", "u-1"), ("x-force", "gone")],
        "200",
        &[
            (REQUESTS, &[("variant", "blue"), ("upstream", "blue"), ("code", "200"), ("reason", "fallback")]),
            ("weir_split_assigned_total", &[("split", "checkout"), ("variant", "gone")]),
            ("weir_upstream_failures_total", &[("upstream", "gone"), ("cause", "connect")]),
        ],
    ),
    (
        "/",
        &[],
        "200",
        &[
            (REQUESTS, &[("split", "checkout"), ("variant", "blue"), ("code", "200"), ("reason", "missing")]),
            ("weir_split_missing_key_total", &[("split", "checkout"), ("variant", "blue")]),
        ],
    ),
    (
        "/strict",
        &[],
        "400 missing_key",
        &[
            ("weir_split_missing_key_total", &[("split", "strict"), ("variant", "")]),
            ("weir_errors_total", &[("code", "missing_key"), ("blame", "client")]),
            (
                "weir_request_duration_seconds_count",
                &[("route", "strict"), ("split", "strict"), ("variant", "")],
            ),
        ],
    ),
    (
        "/strict",
        &[("x-id", "a"), ("x-id", "b")],
        "400 ambiguous_key",
        &[("weir_errors_total", &[("code", "ambiguous_key"), ("blame", "client")])],
    ),
    (
        "/plain",
        &[],
        "200",
        &[
            (
                REQUESTS,
                &[
                    ("route", "plain"),
                    ("split", ""),
                    ("variant", ""),
                    ("upstream", "blue"),
                    ("code", "200"),
                    ("reason", ""),
                ],
            ),
            ("weir_request_duration_seconds_count", &[("route", "plain")]),
        ],
    ),
    ("/old", &[], "302", &[("weir_request_duration_seconds_count", &[("route", "old"), ("split", "")])]),
    (
        "/dead",
        &[],
        "503 connect_refused",
        &[
            (REQUESTS, &[("route", "dead"), ("upstream", "gone"), ("code", "503")]),
            ("weir_errors_total", &[("code", "connect_refused"), ("blame", "upstream")]),
        ],
    ),
    (
        "/",
        &[("host", "none.test")],
        "421 unknown_host",
        &[("weir_errors_total", &[("code", "unknown_host"), ("blame", "client")])],
    ),
];

#[tokio::test]
async fn each_kind_of_request_counts_where_it_belongs_and_a_reload_keeps_the_counts() {
    let arms = Arms::start(&["blue", "canary"]).await;
    let proxy = Proxy::start_whole(&shop(&arms, "0%")).await;
    let start = scrape(&proxy).await;
    assert_eq!(sum(&start, "weir_config_generation", &[]), 1.0);
    for (upstream, cause) in [("blue", "timeout"), ("gone", "connect"), ("canary", "no_endpoint")] {
        let of = format!("weir_upstream_failures_total{{cause=\"{cause}\",upstream=\"{upstream}\"}}");
        let turned = format!("weir_upstream_failures_total{{upstream=\"{upstream}\",cause=\"{cause}\"}}");
        assert!(start.contains_key(&of) || start.contains_key(&turned), "{of} is there from the start");
    }
    for via in BOTH {
        for (path, headers, outcome, counts) in ROWS {
            let before = scrape(&proxy).await;
            let reply = Ask::get(path).with_all(headers).send(via, proxy.address).await;
            assert_eq!(reply.outcome(), *outcome, "{via:?} {path} {headers:?}");
            // A request is counted when its last byte has gone, which the client may see first.
            until("it is counted", || async {
                let after = scrape(&proxy).await;
                let is_one_more =
                    |(name, labels): &Count| sum(&after, name, labels) == sum(&before, name, labels) + 1.0;
                let active = sum(&after, "weir_upstream_requests_active", &[]);
                (counts.iter().all(is_one_more) && active == 0.0).then_some(())
            })
            .await;
            let after = scrape(&proxy).await;
            let errors = sum(&after, "weir_errors_total", &[]) - sum(&before, "weir_errors_total", &[]);
            assert_eq!(errors, if outcome.contains(' ') { 1.0 } else { 0.0 }, "{via:?} {path} {headers:?}");
        }
    }
    let before = scrape(&proxy).await;
    proxy.replace(&shop(&arms, "25%")).await;
    let after = until("the reload is counted", || async {
        let after = scrape(&proxy).await;
        (sum(&after, "weir_config_reloads_total", &[("result", "success")]) == 2.0).then_some(after)
    })
    .await;
    let counters = before.iter().filter(|(of, _)| of.contains("_total") && !of.starts_with("weir_config"));
    for (of, value) in counters.filter(|(of, _)| of.starts_with("weir_") && !of.contains("downstream")) {
        assert_eq!(after.get(of), Some(value), "{of}");
    }
    assert_eq!(sum(&after, "weir_config_generation", &[]), 2.0);
    let canary = [("split", "checkout"), ("variant", "canary")];
    for name in ["weir_split_weight_ratio", "weir_split_effective_weight_ratio"] {
        assert_eq!((sum(&before, name, &canary), sum(&after, name, &canary)), (0.0, 0.25), "{name}");
    }
    Ask::get("/plain").send(Via::Http1, proxy.address).await;
    until("counting goes on", || async {
        let now = sum(&scrape(&proxy).await, REQUESTS, &[("route", "plain")]);
        (now == sum(&before, REQUESTS, &[("route", "plain")]) + 1.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn every_documented_metric_is_there_once_there_was_something_to_count() {
    let arms = Arms::start(&["blue", "canary"]).await;
    // A certificate ends, so there must be one.
    let pair = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/tls/shop");
    let edge = format!(
        "listeners: [{{ bind: 127.0.0.1:0 }}, {{ bind: 127.0.0.1:0, tls: {{ certificates: [{{ cert: '{pair}.pem', key: \
         '{pair}.key' }}] }} }}]"
    );
    let limited = "name: plain, rate_limit: { per_second: 1000 }";
    // Checks are counted where there are some, though none has come yet.
    let text = shop(&arms, "50%")
        .replace("name: plain", limited)
        .replace("gone: {", "gone: { limits: { requests: 9 }, health: { tcp: true, interval: 24h },")
        .replace("listeners: [{ bind: 127.0.0.1:0 }]", &edge);
    let proxy = Proxy::start_whole(&text).await;
    for number in 0..20 {
        Ask::get("/").with("x-id", format!("u-{number}")).send(Via::Http1, proxy.address).await;
    }
    Ask::get("/dead").send(Via::Http1, proxy.address).await;
    let grpc = Ask::new("POST", "/").with("content-type", "application/grpc").with("x-id", "u-0");
    grpc.send(Via::Http2, proxy.address).await;
    let series = until("all are counted", || async {
        let series = scrape(&proxy).await;
        (sum(&series, REQUESTS, &[]) == 22.0).then_some(series)
    })
    .await;
    let documented = include_str!("../../../docs/metrics.md").lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `weir_")?.split('|');
        let name = format!("weir_{}", cells.next()?.trim().trim_end_matches('`'));
        let is_histogram = cells.next()?.trim() == "histogram";
        let labels = cells.next()?.replace('`', "");
        let labels = labels.split(',').map(|label| label.trim().to_owned()).filter(|label| !label.is_empty());
        Some((name, is_histogram, labels.collect::<HashSet<_>>()))
    });
    let mut count = 0;
    for (name, is_histogram, labels) in documented {
        count += 1;
        let name = if is_histogram { format!("{name}_count") } else { name };
        let of = series.keys().find(|of| of.split('{').next() == Some(&name));
        let of = of.unwrap_or_else(|| panic!("{name} is documented and not there"));
        let found = of.split_once('{').map_or("", |(_, labels)| labels.trim_end_matches('}'));
        let found = found.split("\",").filter_map(|pair| Some(pair.split_once('=')?.0.to_owned()));
        assert_eq!(found.collect::<HashSet<_>>(), labels, "{of}");
    }
    assert!(count > 20, "{count} rows in the documentation");
    assert_eq!(sum(&series, "weir_split_units", &[("split", "checkout")]), 20.0);
    assert!(series.keys().any(|of| of.starts_with("process_")), "metrics of the process");
}

#[tokio::test]
async fn nothing_that_a_client_sends_becomes_a_label() {
    let arms = Arms::start(&["blue", "canary"]).await;
    let proxy = Proxy::start_whole(&shop(&arms, "50%")).await;
    let before = scrape(&proxy).await;
    let marks = ["zebra-key", "zebra-path", "zebra-host", "ZEBRA", "zebra-agent"];
    for via in BOTH {
        let ask =
            Ask::new("ZEBRA", "/zebra-path").with("x-id", "zebra-key").with("user-agent", "zebra-agent");
        ask.send(via, proxy.address).await;
        ask.with("host", "zebra-host").send(via, proxy.address).await;
    }
    until("they are counted", || async {
        let after = scrape(&proxy).await;
        (sum(&after, REQUESTS, &[]) > sum(&before, REQUESTS, &[])).then_some(())
    })
    .await;
    for of in scrape(&proxy).await.keys() {
        assert!(!marks.iter().any(|mark| of.to_lowercase().contains(&mark.to_lowercase())), "{of}");
    }
}

#[tokio::test]
async fn request_under_way_is_active_and_its_bytes_are_counted_at_its_end() {
    let (open, gate) = tokio::sync::watch::channel(false);
    let upstream = Upstream::answering(move |request| {
        let mut gate = gate.clone();
        async move {
            let _ = http_body_util::BodyExt::collect(request.into_body()).await;
            let _ = gate.wait_for(|open| *open).await;
            http::Response::new(crate::support::upstream::full("x".repeat(5000)))
        }
    })
    .await;
    let proxy = Proxy::start(&format!(
        "upstreams: {{ one: {{ endpoints: ['{}'] }} }}\nroutes: [{{ upstream: one }}]\n",
        upstream.address
    ))
    .await;
    let address = proxy.address;
    let asking =
        tokio::spawn(
            async move { Ask::new("POST", "/").body(vec![1; 3000]).send(Via::Http1, address).await },
        );
    let one = [("upstream", "one")];
    until("it is active", || async {
        let series = scrape(&proxy).await;
        let active = ["weir_upstream_requests_active", "weir_upstream_connections_active"];
        active.iter().all(|name| sum(&series, name, &one) == 1.0).then_some(())
    })
    .await;
    assert_eq!(sum(&scrape(&proxy).await, REQUESTS, &[]), 0.0);
    open.send_replace(true);
    let reply = tokio::time::timeout(PATIENCE, asking).await.unwrap().unwrap();
    assert_eq!(reply.body.len(), 5000);
    until("it is over", || async {
        let series = scrape(&proxy).await;
        let is = |name: &str, expected: f64| sum(&series, name, &one) == expected;
        (is("weir_upstream_requests_active", 0.0)
            && is("weir_upstream_connections_active", 0.0)
            && is("weir_upstream_connections_idle", 1.0)
            && is("weir_upstream_connects_total", 1.0)
            && is("weir_upstream_request_bytes_total", 3000.0)
            && is("weir_upstream_response_bytes_total", 5000.0))
        .then_some(())
    })
    .await;
}
