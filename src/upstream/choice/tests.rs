//! What a worker chooses where endpoints weigh, are near, come back, fail or are ejected.

use std::collections::HashMap;

use super::super::{Local, upkeep};
use super::*;
use crate::config::model::Protocol;
use crate::logic::balance::{Ejection, SlowStart};
use crate::telemetry::Metrics;
use crate::types::{EndpointAddress, Share, UpstreamName, ZoneName};

const SECOND: Duration = Duration::from_secs(1);

/// Settings of `balance` for endpoints of these ports, weights and zones; the proxy is in the zone `a`.
fn settings(balance: Policy, endpoints: &[(u16, u32, &str)]) -> model::Upstream {
    let endpoint = |(port, weight, zone): &(u16, u32, &str)| model::Endpoint {
        address: EndpointAddress::parse(&format!("127.0.0.1:{port}")).unwrap(),
        weight: *weight,
        zone: ZoneName::new(zone).ok(),
    };
    let has_zones = endpoints.iter().any(|(_, _, zone)| *zone == "a");
    model::Upstream {
        name: UpstreamName::new("one").unwrap(),
        endpoints: endpoints.iter().map(endpoint).collect(),
        zone: has_zones.then(|| ZoneName::new("a").unwrap()),
        protocol: Protocol::Http1,
        proxy_protocol: false,
        tls: None,
        balance,
        hash_key: Vec::new(),
        ejection: Ejection::default(),
        slow_start: None,
        limits: None,
        health: None,
        connect_timeout: SECOND,
        response_timeout: SECOND,
        idle_timeout: SECOND,
        dns_refresh: SECOND,
    }
}

struct Bench {
    metrics: Arc<Metrics>,
    upstream: Arc<Upstream>,
    local: Local,
    random: fastrand::Rng,
}

impl Bench {
    fn new(settings: model::Upstream) -> Self {
        Self::after(settings, None)
    }

    fn after(settings: model::Upstream, former: Option<&Self>) -> Self {
        let metrics = former.map_or_else(Metrics::new, |former| Arc::clone(&former.metrics));
        let former = former.map(|former| &*former.upstream);
        let upstream = Arc::new(Upstream::new(Arc::new(settings), &metrics, former).unwrap());
        let local = Local::new(Arc::clone(&upstream), Rc::new(metrics.worker()));
        Self { metrics, upstream, local, random: fastrand::Rng::with_seed(5) }
    }

    fn pick(&mut self, tried: &[Rc<Endpoint>], hash: Option<u64>) -> Option<Rc<Endpoint>> {
        let wish = Wish { needs: Needs::Somebody, is_spare: false, hash };
        self.local.pick(tried, self.random.u64(..), wish)
    }

    /// The endpoint at `port`.
    fn at(&mut self, port: u16) -> Rc<Endpoint> {
        let name = format!("127.0.0.1:{port}");
        (0..10_000)
            .find_map(|hash| self.pick(&[], Some(hash)).filter(|endpoint| *endpoint.name == *name))
            .unwrap()
    }

    /// Has `endpoint` ejected.
    fn eject(endpoint: &Endpoint) {
        for _ in 0..Ejection::default().failures {
            endpoint.answered(None);
        }
    }

    /// The part of `count` requests that each port got, in percent.
    fn parts(&mut self, count: u32) -> HashMap<u16, f64> {
        let mut parts = HashMap::new();
        for _ in 0..count {
            let endpoint = self.pick(&[], None).unwrap();
            let port = endpoint.name.rsplit(':').next().unwrap().parse().unwrap();
            *parts.entry(port).or_insert(0.0) += 100.0 / f64::from(count);
        }
        parts
    }
}

fn check(parts: &HashMap<u16, f64>, expected: &[(u16, f64)], what: &str) {
    for (port, percent) in expected {
        let part = parts.get(port).copied().unwrap_or_default();
        assert!(
            (part - percent).abs() < 2.0,
            "{what}: {port} has {part:.1} % and not {percent} % of {parts:?}"
        );
    }
}

const BY_CHOICE: [Policy; 3] = [Policy::LeastRequest, Policy::PeakEwma, Policy::RoundRobin];

#[tokio::test(start_paused = true)]
async fn weights_of_the_file_are_kept() {
    for policy in BY_CHOICE {
        let mut bench = Bench::new(settings(policy, &[(1, 3, ""), (2, 1, ""), (3, 1, "")]));
        check(&bench.parts(10_000), &[(1, 60.0), (2, 20.0), (3, 20.0)], &format!("{policy:?}"));
    }
}

#[tokio::test(start_paused = true)]
async fn own_zone_takes_all_until_too_little_of_it_is_left_and_the_others_at_once_where_none_is() {
    for policy in BY_CHOICE {
        let mut bench = Bench::new(settings(policy, &[(1, 1, "a"), (2, 1, "a"), (3, 1, "b"), (4, 1, "")]));
        check(&bench.parts(2000), &[(1, 50.0), (2, 50.0)], "all are well");
        let (one, two) = (bench.at_near(1), bench.at_near(2));
        let other = bench.pick(&[Rc::clone(&one)], None).unwrap();
        assert_eq!(&*other.name, "127.0.0.1:2", "another of the zone first");
        let other = bench.pick(&[Rc::clone(&one), Rc::clone(&two)], None).unwrap();
        assert!(["127.0.0.1:3", "127.0.0.1:4"].contains(&&*other.name), "then another zone, at once");
        Bench::eject(&one);
        check(&bench.parts(10_000), &[(1, 0.0), (2, 70.0), (3, 15.0), (4, 15.0)], "half of the zone is out");
        Bench::eject(&two);
        check(&bench.parts(10_000), &[(1, 0.0), (2, 0.0), (3, 50.0), (4, 50.0)], "the zone is out");
    }
}

impl Bench {
    /// The endpoint at `port`, whatever is picked.
    fn at_near(&mut self, port: u16) -> Rc<Endpoint> {
        let name = format!("127.0.0.1:{port}");
        (0..10_000).find_map(|_| self.pick(&[], None).filter(|endpoint| *endpoint.name == *name)).unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn endpoint_that_joins_others_begins_slowly_and_nobody_does_at_the_start() {
    for policy in BY_CHOICE {
        let slow = SlowStart { window: 30 * SECOND, from: Share::parse("10%").unwrap() };
        let with = |endpoints: &[(u16, u32, &str)]| model::Upstream {
            slow_start: Some(slow),
            ..settings(policy, endpoints)
        };
        let mut before = Bench::new(with(&[(1, 1, "")]));
        assert!(before.upstream.ward().is_plain(), "nobody serves before");
        before.parts(10);
        let mut after = Bench::after(with(&[(1, 1, ""), (2, 1, "")]), Some(&before));
        assert!(!after.upstream.ward().is_plain());
        check(&after.parts(10_000), &[(2, 100.0 * 0.1 / 1.1)], "at once");
        tokio::time::advance(15 * SECOND).await;
        check(&after.parts(10_000), &[(2, 100.0 * 0.55 / 1.55)], "after half of the window");
        tokio::time::advance(16 * SECOND).await;
        check(&after.parts(10_000), &[(2, 50.0)], "after the window");
    }
}

#[tokio::test(start_paused = true)]
async fn endpoint_of_a_hash_stays_and_another_one_takes_it_while_it_is_out() {
    let mut bench = Bench::new(settings(Policy::Hash, &[(1, 1, ""), (2, 1, ""), (3, 1, "")]));
    let owners = |bench: &mut Bench| -> Vec<Rc<str>> {
        (0..1000)
            .map(|unit: u64| {
                let hash = crate::logic::balance::maglev::hash("one", &unit.to_le_bytes());
                Rc::from(&*bench.pick(&[], Some(hash)).unwrap().name)
            })
            .collect()
    };
    let all = owners(&mut bench);
    let one = bench.at(1);
    Bench::eject(&one);
    let without = owners(&mut bench);
    for (before, after) in all.iter().zip(&without) {
        assert_ne!(&**after, "127.0.0.1:1");
        assert!(before == after || &**before == "127.0.0.1:1", "only its own move");
    }
    // Another worker, and another order of the file.
    let mut other = Bench::new(settings(Policy::Hash, &[(3, 1, ""), (1, 1, ""), (2, 1, "")]));
    assert_eq!(owners(&mut other), all);
    assert!(other.pick(&[], None).is_some(), "without a hash anybody will do");
    let two = other.at(2);
    let hash = (0..10_000)
        .find(|hash| other.pick(&[], Some(*hash)).is_some_and(|one| Rc::ptr_eq(&one, &two)))
        .unwrap();
    let next = other.pick(&[Rc::clone(&two)], Some(hash)).unwrap();
    assert!(!Rc::ptr_eq(&next, &two) && Rc::ptr_eq(&next, &other.pick(&[two], Some(hash)).unwrap()));
}

#[tokio::test(start_paused = true)]
async fn failures_count_as_load_and_are_forgotten() {
    for policy in [Policy::LeastRequest, Policy::PeakEwma] {
        let never = Ejection { failures: 0, gateway_errors: 0, success_rate: None, ..Ejection::default() };
        let mut bench =
            Bench::new(model::Upstream { ejection: never, ..settings(policy, &[(1, 1, ""), (2, 1, "")]) });
        let one = bench.at_near(1);
        let two = bench.at_near(2);
        for endpoint in [&one, &two] {
            let sent = endpoint.standing.sent();
            tokio::time::advance(SECOND / 100).await;
            endpoint.standing.answered(sent);
        }
        one.answered(http::StatusCode::from_u16(503).ok());
        check(&bench.parts(1000), &[(1, 0.0), (2, 100.0)], &format!("{policy:?} right after a failure"));
        assert_eq!(bench.local.is_sore(), policy == Policy::LeastRequest);
        tokio::time::advance(60 * SECOND).await;
        two.standing.answered(two.standing.sent());
        bench.parts(100);
        assert!(!bench.local.is_sore(), "forgotten");
        if policy == Policy::LeastRequest {
            check(&bench.parts(10_000), &[(1, 50.0), (2, 50.0)], "later");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn upstream_that_serves_no_more_is_looked_after_no_more_though_a_request_holds_it() {
    let bench = Bench::new(settings(Policy::RoundRobin, &[(1, 1, ""), (2, 1, "")]));
    bench.upstream.settle();
    let mut looking = Box::pin(upkeep::watch_over(Arc::downgrade(&bench.upstream)));
    let long = Duration::from_mins(10);
    assert!(tokio::time::timeout(long, &mut looking).await.is_err(), "it serves");
    bench.upstream.retire();
    assert!(tokio::time::timeout(SECOND, looking).await.is_ok(), "the ward is another's");
}

#[tokio::test(start_paused = true)]
async fn endpoints_of_an_upstream_that_is_to_serve_are_known_from_then_on_and_not_if_it_never_does() {
    let slow_start = Some(SlowStart { window: SECOND, from: Share::NONE });
    let of =
        |ports: &[(u16, u32, &str)]| model::Upstream { slow_start, ..settings(Policy::RoundRobin, ports) };
    let bench = Bench::new(of(&[(1, 1, "")]));
    bench.upstream.settle();
    let next = Bench::after(of(&[(1, 1, ""), (2, 1, "")]), Some(&bench));
    assert!(!bench.upstream.ward().is_plain(), "the second begins slowly");
    drop(next);
    // Its configuration was refused.
    bench.upstream.settle();
    assert!(bench.upstream.ward().is_plain());

    let next = Bench::after(of(&[(1, 1, ""), (2, 1, "")]), Some(&bench));
    // The former one looks its names up meanwhile.
    let list = bench.upstream.endpoints();
    assert!(bench.upstream.update(Vec::new()) && bench.upstream.update(list.to_vec()));
    next.upstream.settle();
    let second = &next.upstream.endpoints()[1];
    assert!(next.upstream.vitals(second).health().warming_since().is_some());
}
