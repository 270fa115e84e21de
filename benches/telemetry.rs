//! What counting and logging cost a request: `cargo bench --bench telemetry`.

use std::hint::black_box;
use std::time::{Duration, UNIX_EPOCH};

use criterion::{Criterion, criterion_group, criterion_main};
use weir::logic::split::Reason;
use weir::telemetry::{AccessLog, Metrics, Record, Sink, Target, TargetId, Worker};
use weir::types::Position;

/// Targets and numbers of many requests, in a fixed but irregular order.
struct Requests {
    targets: Vec<TargetId>,
    state: u64,
}

impl Requests {
    fn new(metrics: &Metrics, targets: usize) -> Self {
        let variants = ["blue", "green", "canary"];
        let target = |n: usize| Target {
            route: format!("route-{}", n / 3).into(),
            split: "checkout".into(),
            variant: variants[n % 3].into(),
            upstream: variants[n % 3].into(),
        };
        Self { targets: (0..targets).map(|n| metrics.target(&target(n))).collect(), state: 1 }
    }

    fn next(&mut self) -> (TargetId, u64) {
        self.state =
            self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // The high bits: the low ones of such a generator have short periods.
        let index = usize::try_from(self.state >> 33).unwrap_or(0) % self.targets.len();
        (self.targets[index], self.state)
    }
}

fn count(worker: &Worker, target: TargetId, bits: u64) {
    worker.request_started(target);
    worker.assigned(target, Some(Position(bits)));
    worker.response_head(target, Duration::from_micros(bits >> 50));
    let code = if bits.is_multiple_of(50) { 503 } else { 200 };
    worker.request_finished(
        target,
        code,
        Some(Reason::Weights),
        Duration::from_micros(bits >> 48),
        100,
        5000,
    );
    worker.request_ended(target);
}

fn metrics(c: &mut Criterion) {
    for targets in [3, 300] {
        c.bench_function(&format!("metrics/request/{targets} targets"), |bench| {
            let metrics = Metrics::new();
            let (worker, mut requests) = (metrics.worker(), Requests::new(&metrics, targets));
            bench.iter(|| {
                let (target, bits) = requests.next();
                count(black_box(&worker), target, bits);
            });
        });
    }
    c.bench_function("metrics/encode/300 targets, 8 workers", |bench| {
        let metrics = Metrics::new();
        let workers: Vec<_> = (0..8).map(|_| metrics.worker()).collect();
        let mut requests = Requests::new(&metrics, 300);
        for n in 0..100_000 {
            let (target, bits) = requests.next();
            count(&workers[n % workers.len()], target, bits);
        }
        bench.iter(|| metrics.encode().map(|text| text.len()));
    });
}

#[expect(clippy::expect_used, reason = "without the log there is nothing to measure")]
fn access_log(c: &mut Criterion) {
    c.bench_function("access_log/record/one worker", |bench| {
        let sink = Sink::File("/dev/null".into());
        let log = AccessLog::open(sink, false, Metrics::new()).expect("/dev/null opens");
        let mut id = 0_u64;
        bench.iter(|| {
            id += 1;
            log.record(&Record {
                time: UNIX_EPOCH + Duration::from_millis(1_700_000_000_000 + id),
                request_id: b"0198c2f4a7b37d1e9c5f",
                client_ip: [192, 0, 2, 7].into(),
                listener: "web",
                protocol: "HTTP/1.1",
                method: b"GET",
                host: b"shop.example.com",
                path: b"/api/cart/items/17",
                status: 200,
                grpc_status: None,
                route: "shop",
                split: "checkout",
                variant: "canary",
                reason: Some(Reason::Weights),
                rule: "",
                position: Some(Position(id << 40)),
                unit: None,
                upstream: "canary",
                endpoint: "10.0.2.1:8080",
                attempts: 1,
                retried: &[],
                duration: Duration::from_micros(12_345 + id % 1000),
                upstream_duration: Some(Duration::from_micros(11_000 + id % 1000)),
                request_bytes: 0,
                response_bytes: 5120,
                error: None,
                blame: None,
            });
        });
    });
}

criterion_group!(benches, metrics, access_log);
criterion_main!(benches);
