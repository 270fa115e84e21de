//! From counting on workers to the text of a scrape, read back by a small parser of the text format.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use super::families::{Family, Kind};
use super::*;
use crate::logic::balance;
use crate::logic::split::Reason;
use crate::types::{Generation, Position};
use crate::wire::grpc::Status;

/// Series by their name and sorted labels.
type Series = BTreeMap<(String, BTreeMap<String, String>), f64>;

/// A scrape, read strictly: anything that the text format does not allow is a panic.
struct Scrape {
    help: BTreeMap<String, String>,
    kinds: BTreeMap<String, String>,
    series: Series,
}

fn labels(mut text: &str) -> (BTreeMap<String, String>, &str) {
    let mut labels = BTreeMap::new();
    loop {
        let (name, rest) = text.split_once("=\"").unwrap_or_else(|| panic!("no label in {text:?}"));
        assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'), "{name:?}");
        let (mut value, mut characters) = (String::new(), rest.char_indices());
        let end = loop {
            match characters.next().unwrap_or_else(|| panic!("unclosed value in {rest:?}")) {
                (_, '\\') => match characters.next() {
                    Some((_, 'n')) => value.push('\n'),
                    Some((_, c @ ('\\' | '"'))) => value.push(c),
                    other => panic!("bad escape {other:?} in {rest:?}"),
                },
                (at, '"') => break at + 1,
                (_, c) => value.push(c),
            }
        };
        assert!(labels.insert(name.to_owned(), value).is_none(), "{name} is there twice");
        match rest.split_at(end).1 {
            rest if rest.starts_with(',') => text = &rest[1..],
            rest => return (labels, rest.strip_prefix('}').expect("the labels are closed")),
        }
    }
}

fn parse(text: &str) -> Scrape {
    assert!(text.ends_with('\n'), "the last line is not ended");
    let mut scrape = Scrape { help: BTreeMap::new(), kinds: BTreeMap::new(), series: Series::new() };
    let mut current = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            name.clone_into(&mut current);
            assert!(scrape.help.insert(current.clone(), help.to_owned()).is_none(), "{name} comes twice");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert_eq!(name, current, "TYPE follows its HELP");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            scrape.kinds.insert(name.to_owned(), kind.to_owned());
        } else {
            let end = line.find(['{', ' ']).unwrap();
            let (name, rest) = line.split_at(end);
            let (labels, rest) = rest.strip_prefix('{').map_or((BTreeMap::new(), rest), labels);
            let histogram = scrape.kinds[&current] == "histogram";
            let suffix = name.strip_prefix(&current).unwrap_or_else(|| panic!("{name} under {current}"));
            assert!(
                if histogram { suffix.starts_with('_') } else { suffix.is_empty() },
                "{name} under {current}"
            );
            let value: f64 = rest.trim_start().parse().unwrap_or_else(|_| panic!("no number: {line}"));
            assert!(scrape.series.insert((name.to_owned(), labels), value).is_none(), "twice: {line}");
        }
    }
    scrape
}

impl Scrape {
    fn of(metrics: &Metrics) -> Self {
        parse(&String::from_utf8(metrics.encode().unwrap()).unwrap())
    }

    /// The sum of the series of this name that have all these labels; `None` when there is none.
    fn sum(&self, name: &str, wanted: &[(&str, &str)]) -> Option<f64> {
        let of = |labels: &BTreeMap<String, String>| {
            wanted.iter().all(|(label, value)| labels.get(*label).is_some_and(|found| found == value))
        };
        let found: Vec<_> =
            self.series.iter().filter(|((n, labels), _)| n == name && of(labels)).map(|(_, v)| *v).collect();
        (!found.is_empty()).then(|| found.iter().sum())
    }
}

fn target(route: &str, split: &str, variant: &str, upstream: &str) -> Target {
    Target { route: route.into(), split: split.into(), variant: variant.into(), upstream: upstream.into() }
}

/// Counts something of everything.
fn count_everything(metrics: &Arc<Metrics>) -> Worker {
    let worker = metrics.worker();
    let canary = metrics.target(&target("shop", "checkout", "canary", "canary-eu"));
    worker.request_started(canary);
    worker.assigned(canary, Some(Position(7)));
    worker.missing_key(canary);
    worker.response_head(canary, Duration::from_millis(4));
    worker.upstream_failed(canary, Cause::Connect);
    worker.retried(canary, RetryReason::Connect, RetryOutcome::Success);
    worker.request_finished(canary, 200, Some(Reason::Weights), Duration::from_millis(5), 10, 20);
    worker.request_ended_with(canary, Some(Outcome::Success), Some(Status::Ok));
    worker.connection(metrics.upstream("canary-eu"), ConnectionEvent::Connected);
    worker.error("no_route", Blame::Client);
    let web = metrics.listener("web");
    worker.downstream(web, DownstreamEvent::Accepted);
    worker.malformed(web);
    worker.accept_failed(web);
    worker.refused(web, Refused::Flood);
    let limit = metrics.limit("shop");
    worker.rate_limited(limit);
    worker.unit_forgotten(limit);
    metrics.crowd("canary-eu").shed();
    metrics.reload_succeeded(Generation(3), "abc", UNIX_EPOCH + Duration::from_millis(1500));
    metrics.set_expiries(vec![Expiry {
        listener: "web".to_owned(),
        name: "shop.example.com".to_owned(),
        at: 1,
    }]);
    metrics.endpoint_checked("blue", "10.0.0.1:80", true);
    metrics.endpoint_checked("blue", "10.0.0.1:80", false);
    metrics.lines_dropped(2);
    metrics.ejected("canary-eu", "10.0.0.1:80", balance::Cause::Outlier);
    metrics.ask_endpoints(|| EndpointStates {
        healthy: [(("canary-eu".to_owned(), "10.0.0.1:80".to_owned()), 0.5)].into(),
        in_panic: [("canary-eu".to_owned(), true)].into(),
    });
    metrics.set_weights(vec![Weight {
        split: "checkout".into(),
        variant: "canary".into(),
        configured: 0.01,
        effective: 0.0,
    }]);
    worker
}

#[test]
fn everything_counted_then_the_scrape_has_exactly_the_listed_metrics() {
    let metrics = Metrics::new();
    let _worker = count_everything(&metrics);
    let scrape = Scrape::of(&metrics);
    let own = |name: &&String| !name.starts_with("process_");
    let found: BTreeSet<_> = scrape.kinds.keys().filter(own).map(String::as_str).collect();
    let listed: BTreeSet<_> = Family::ALL.iter().map(|family| family.description().name).collect();
    assert_eq!(found, listed);
    for family in Family::ALL {
        let description = family.description();
        let name = description.name;
        assert_eq!(scrape.help[name], description.help);
        let kind = match description.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        assert_eq!(scrape.kinds[name], kind, "{name}");
        for (series, labels) in scrape.series.keys() {
            let of = series == name || (description.kind == Kind::Histogram && series.starts_with(name));
            if of {
                let names: BTreeSet<_> =
                    labels.keys().map(String::as_str).filter(|name| *name != "le").collect();
                assert_eq!(names, description.labels.iter().copied().collect(), "labels of {series}");
            }
        }
    }
    #[cfg(target_os = "linux")]
    assert!(scrape.sum("process_resident_memory_bytes", &[]).unwrap() > 0.0);
}

/// A series' name, its labels, and its value.
type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], f64);

#[test]
fn event_then_its_series_has_the_number() {
    let metrics = Metrics::new();
    let _worker = count_everything(&metrics);
    let scrape = Scrape::of(&metrics);
    let arm = [("split", "checkout"), ("variant", "canary")];
    let upstream = ("upstream", "canary-eu");
    let by_upstream = [arm[0], arm[1], upstream];
    let request = [("route", "shop"), arm[0], arm[1], upstream, ("code", "200"), ("reason", "weights")];
    let route = [("route", "shop"), arm[0], arm[1]];
    let le = |bound| [route[0], route[1], route[2], ("le", bound)];
    let rows: &[Row] = &[
        ("weir_upstream_requests_total", &request, 1.0),
        ("weir_request_duration_seconds_count", &route, 1.0),
        ("weir_request_duration_seconds_sum", &route, 0.005),
        ("weir_request_duration_seconds_bucket", &le("0.003"), 0.0),
        ("weir_request_duration_seconds_bucket", &le("0.005"), 1.0),
        ("weir_request_duration_seconds_bucket", &le("+Inf"), 1.0),
        ("weir_upstream_request_duration_seconds_sum", &route, 0.004),
        ("weir_upstream_failures_total", &[upstream, ("cause", "connect")], 1.0),
        ("weir_upstream_failures_total", &[upstream, ("cause", "no_endpoint")], 0.0),
        ("weir_upstream_requests_active", &by_upstream, 1.0),
        ("weir_upstream_retries_total", &[upstream, ("reason", "connect"), ("outcome", "success")], 1.0),
        ("weir_upstream_retries_total", &[upstream, ("reason", "connect"), ("outcome", "failure")], 0.0),
        ("weir_upstream_request_bytes_total", &by_upstream, 10.0),
        ("weir_upstream_response_bytes_total", &by_upstream, 20.0),
        ("weir_upstream_connections_active", &[upstream], 1.0),
        ("weir_upstream_connections_idle", &[upstream], 0.0),
        ("weir_upstream_connects_total", &[upstream], 1.0),
        ("weir_split_weight_ratio", &arm, 0.01),
        ("weir_split_effective_weight_ratio", &arm, 0.0),
        ("weir_split_assigned_total", &arm, 1.0),
        ("weir_split_units", &arm, 1.0),
        ("weir_split_missing_key_total", &arm, 1.0),
        ("weir_config_generation", &[], 3.0),
        ("weir_config_reloads_total", &[("result", "success")], 1.0),
        ("weir_config_reloads_total", &[("result", "failure")], 0.0),
        ("weir_config_last_reload_success", &[], 1.0),
        ("weir_config_last_reload_timestamp_seconds", &[], 1.5),
        ("weir_config_info", &[("hash", "abc")], 1.0),
        ("weir_errors_total", &[("code", "no_route"), ("blame", "client")], 1.0),
        ("weir_downstream_connections_total", &[("listener", "web")], 1.0),
        ("weir_downstream_connections_active", &[("listener", "web")], 1.0),
        ("weir_downstream_malformed_total", &[("listener", "web")], 1.0),
        ("weir_downstream_accept_failures_total", &[("listener", "web")], 1.0),
        ("weir_downstream_refused_total", &[("listener", "web"), ("cause", "flood")], 1.0),
        ("weir_downstream_refused_total", &[("listener", "web"), ("cause", "limit")], 0.0),
        ("weir_access_log_dropped_total", &[], 2.0),
        ("weir_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1.0),
    ];
    for (name, labels, expected) in rows {
        assert_eq!(scrape.sum(name, labels), Some(*expected), "{name} {labels:?}");
    }
}

#[test]
fn connection_events_then_it_is_in_use_or_idle_and_never_both() {
    use ConnectionEvent::{Busy, Closed, Connected, Idle, IdleClosed};
    let rows: &[(&[ConnectionEvent], [f64; 3])] = &[
        (&[], [0.0, 0.0, 0.0]),
        (&[Connected], [1.0, 1.0, 0.0]),
        (&[Connected, Idle], [1.0, 0.0, 1.0]),
        (&[Connected, Idle, Busy], [1.0, 1.0, 0.0]),
        (&[Connected, Idle, IdleClosed], [1.0, 0.0, 0.0]),
        (&[Connected, Idle, Busy, Closed], [1.0, 0.0, 0.0]),
        (&[Connected, Connected, Idle, Closed], [2.0, 0.0, 1.0]),
        (&[Closed], [0.0, 0.0, 0.0]),
    ];
    for (events, [connects, active, idle]) in rows {
        let metrics = Metrics::new();
        let (worker, upstream) = (metrics.worker(), metrics.upstream("blue"));
        events.iter().for_each(|event| worker.connection(upstream, *event));
        let scrape = Scrape::of(&metrics);
        for (what, expected) in
            [("connects_total", connects), ("connections_active", active), ("connections_idle", idle)]
        {
            let found = scrape.sum(&format!("weir_upstream_{what}"), &[("upstream", "blue")]);
            assert_eq!(found, Some(*expected), "{what} after {events:?}");
        }
    }
}

#[test]
fn same_target_then_same_id_and_counters_survive() {
    let metrics = Metrics::new();
    let worker = metrics.worker();
    let first = metrics.target(&target("r", "s", "v", "u"));
    worker.request_finished(first, 200, None, Duration::ZERO, 0, 0);
    let other = metrics.target(&target("r", "s", "w", "u"));
    let again = metrics.target(&target("r", "s", "v", "u"));
    assert_eq!(first, again);
    assert_ne!(first, other);
    worker.request_finished(again, 200, None, Duration::ZERO, 0, 0);
    let scrape = Scrape::of(&metrics);
    assert_eq!(scrape.sum("weir_upstream_requests_total", &[("variant", "v"), ("reason", "")]), Some(2.0));
}

#[test]
fn targets_with_equal_labels_then_one_series_with_their_sum() {
    let metrics = Metrics::new();
    let workers = [metrics.worker(), metrics.worker()];
    for (route, upstream) in [("a", "old"), ("a", "new"), ("b", "new")] {
        let target = metrics.target(&target(route, "s", "v", upstream));
        for worker in &workers {
            worker.assigned(target, Some(Position(1)));
            worker.request_finished(target, 503, None, Duration::from_secs(1), 5, 7);
        }
    }
    let scrape = Scrape::of(&metrics);
    let arm = [("split", "s"), ("variant", "v")];
    assert_eq!(
        scrape.sum("weir_request_duration_seconds_count", &[("route", "a"), arm[0], arm[1]]),
        Some(4.0)
    );
    assert_eq!(
        scrape.sum("weir_upstream_request_bytes_total", &[arm[0], arm[1], ("upstream", "new")]),
        Some(20.0)
    );
    assert_eq!(scrape.sum("weir_split_assigned_total", &arm), Some(6.0));
    assert_eq!(scrape.sum("weir_split_units", &arm), Some(1.0));
    let expected = Assigned { split: "s".into(), variant: "v".into(), count: 6, units: 1 };
    assert_eq!(metrics.assigned(), [expected]);
    let totals = metrics.totals();
    assert_eq!((totals.requests, totals.errors, totals.arms.len()), (6, 0, 1));
    let arm = &totals.arms[0];
    assert_eq!((arm.requests, arm.server_errors, arm.latency.count()), (6, 6, 6));
    assert_eq!(arm.latency.quantile(1.0), Some(Duration::from_secs(1)));
}

#[test]
fn request_without_split_or_upstream_then_it_makes_no_series_of_either() {
    let metrics = Metrics::new();
    let worker = metrics.worker();
    let redirect = metrics.target(&target("old", "", "", ""));
    worker.request_started(redirect);
    worker.request_finished(redirect, 301, None, Duration::ZERO, 0, 0);
    worker.request_ended(redirect);
    let refused = metrics.target(&target("shop", "s", "", ""));
    worker.missing_key(refused);
    let scrape = Scrape::of(&metrics);
    assert_eq!(scrape.sum("weir_upstream_requests_total", &[("route", "old"), ("upstream", "")]), Some(1.0));
    assert_eq!(scrape.sum("weir_split_missing_key_total", &[("split", "s"), ("variant", "")]), Some(1.0));
    for name in ["upstream_requests_active", "upstream_connects_total", "split_assigned_total", "split_units"]
    {
        assert_eq!(scrape.sum(&format!("weir_{name}"), &[]), None, "{name}");
    }
    assert!(metrics.assigned().iter().all(|assigned| assigned.count == 0));
}

#[test]
fn hostile_names_then_they_come_back_from_the_text() {
    let metrics = Metrics::new();
    let worker = metrics.worker();
    let name = "a\"b\\c\nd{e=\"f\"} ça";
    worker.request_finished(metrics.target(&target(name, name, name, name)), 200, None, Duration::ZERO, 0, 0);
    let scrape = Scrape::of(&metrics);
    assert_eq!(scrape.sum("weir_upstream_requests_total", &[("route", name), ("upstream", name)]), Some(1.0));
}

#[test]
fn reload_refused_then_the_former_generation_stands() {
    let metrics = Metrics::new();
    assert_eq!(Scrape::of(&metrics).sum("weir_config_info", &[]), None);
    for (generation, hash) in [(1, "one"), (2, "two")] {
        metrics.reload_succeeded(Generation(generation), hash, UNIX_EPOCH);
    }
    metrics.reload_failed(UNIX_EPOCH + Duration::from_secs(9));
    let scrape = Scrape::of(&metrics);
    assert_eq!(scrape.sum("weir_config_generation", &[]), Some(2.0));
    assert_eq!(scrape.sum("weir_config_info", &[("hash", "one")]), None);
    assert_eq!(scrape.sum("weir_config_info", &[("hash", "two")]), Some(1.0));
    assert_eq!(scrape.sum("weir_config_reloads_total", &[("result", "failure")]), Some(1.0));
    assert_eq!(scrape.sum("weir_config_last_reload_success", &[]), Some(0.0));
    assert_eq!(scrape.sum("weir_config_last_reload_timestamp_seconds", &[]), Some(9.0));
}

#[test]
fn weights_replaced_then_only_the_new_ones_are_shown() {
    let metrics = Metrics::new();
    let weight = |variant: &str, share| Weight {
        split: "s".into(),
        variant: variant.into(),
        configured: share,
        effective: share,
    };
    metrics.set_weights(vec![weight("a", 0.5), weight("b", 0.5)]);
    metrics.set_weights(vec![weight("a", 1.0)]);
    let scrape = Scrape::of(&metrics);
    assert_eq!(scrape.sum("weir_split_weight_ratio", &[("variant", "a")]), Some(1.0));
    assert_eq!(scrape.sum("weir_split_weight_ratio", &[("variant", "b")]), None);
}

#[test]
fn worker_gone_then_its_counters_stay_and_its_gauges_are_zero() {
    let metrics = Metrics::new();
    drop(count_everything(&metrics));
    let scrape = Scrape::of(&metrics);
    assert_eq!(scrape.sum("weir_upstream_connects_total", &[]), Some(1.0));
    assert_eq!(scrape.sum("weir_downstream_connections_total", &[]), Some(1.0));
    for name in ["upstream_requests_active", "upstream_connections_active", "downstream_connections_active"] {
        assert_eq!(scrape.sum(&format!("weir_{name}"), &[]), Some(0.0), "{name}");
    }
}

#[test]
fn id_of_other_metrics_then_nothing_is_counted() {
    let (metrics, other) = (Metrics::new(), Metrics::new());
    let worker = metrics.worker();
    worker.request_finished(other.target(&target("r", "s", "v", "u")), 200, None, Duration::ZERO, 0, 0);
    worker.connection(other.upstream("u"), ConnectionEvent::Connected);
    worker.malformed(other.listener("l"));
    assert_eq!(metrics.totals(), Totals::default());
}

#[test]
fn scrapes_while_workers_count_then_numbers_only_rise_and_end_exact() {
    const WORKERS: u64 = 2;
    const REQUESTS: u64 = 20_000;
    let metrics = Metrics::new();
    let started = Arc::new(AtomicBool::new(false));
    let mut scrapes = 0;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..WORKERS)
            .map(|thread| {
                let (metrics, started) = (Arc::clone(&metrics), Arc::clone(&started));
                scope.spawn(move || {
                    let worker = metrics.worker();
                    started.store(true, Ordering::Release);
                    for n in 0..REQUESTS {
                        let name = (n % 5).to_string();
                        let target = metrics.target(&target("r", "s", &name, "u"));
                        let code = u16::try_from(200 + n % 7).unwrap();
                        worker.request_started(target);
                        worker.assigned(target, Some(Position(n << 20 | thread)));
                        worker.request_finished(target, code, None, Duration::from_micros(n), 1, 2);
                        worker.request_ended(target);
                    }
                })
            })
            .collect();
        let mut former = Series::new();
        loop {
            let done = threads.iter().all(std::thread::ScopedJoinHandle::is_finished);
            let scrape = Scrape::of(&metrics);
            scrapes += 1;
            for ((name, labels), before) in &former {
                let rises = name.ends_with("_total") || name.ends_with("_bucket") || name.ends_with("_count");
                let now = scrape.series.get(&(name.clone(), labels.clone()));
                assert!(!rises || now >= Some(before), "{name} {labels:?} fell from {before} to {now:?}");
            }
            for ((name, labels), count) in &scrape.series {
                if let Some(histogram) = name.strip_suffix("_count") {
                    let mut labels = labels.clone();
                    labels.insert("le".into(), "+Inf".into());
                    assert_eq!(
                        scrape.series.get(&(format!("{histogram}_bucket"), labels)),
                        Some(count),
                        "{name}"
                    );
                }
            }
            former = scrape.series;
            if done {
                break;
            }
        }
    });
    assert!(started.load(Ordering::Acquire) && scrapes > 0);
    let totals = metrics.totals();
    assert_eq!(totals.requests, WORKERS * REQUESTS);
    assert_eq!(totals.arms.iter().map(|arm| arm.latency.count()).sum::<u64>(), WORKERS * REQUESTS);
    assert_eq!(Scrape::of(&metrics).sum("weir_upstream_requests_active", &[]), Some(0.0));
}
