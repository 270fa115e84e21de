//! What a change costs: configuration to snapshot, and a whole reload of a running proxy. Prints, judges nothing.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a benchmark stops at the first surprise, and works on files"
)]

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use tokio::runtime::Runtime;
use weir::app::App;
use weir::config;
use weir::state::build::build;
use weir::telemetry::Metrics;

/// A configuration with `routes` routes, each of a host and a prefix of its own.
fn text(routes: usize) -> String {
    let mut text =
        "workers: 1\nlisteners: [{ bind: 127.0.0.1:0 }]\nupstreams: { one: { endpoints: [127.0.0.1:9] } }\n\
                    splits: { s: { key: [header:x-user-id], variants: [{ name: one }] } }\nroutes:\n"
            .to_owned();
    for route in 0..routes {
        writeln!(text, "  - {{ hosts: [h{route}.example.com], paths: [/p{route}/*], split: s }}").unwrap();
    }
    text
}

fn snapshot(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let mut group = criterion.benchmark_group("snapshot");
    group.sample_size(10).measurement_time(Duration::from_secs(2));
    for routes in [1, 100, 10_000] {
        let text = text(routes);
        let accepted = config::load_text("weir.yaml", &text, &|_| None).unwrap();
        let metrics = Metrics::new();
        group.bench_function(BenchmarkId::new("load", routes), |bencher| {
            bencher.iter(|| config::load_text("weir.yaml", &text, &|_| None).unwrap());
        });
        group.bench_function(BenchmarkId::new("build", routes), |bencher| {
            bencher.iter(|| runtime.block_on(build(Arc::clone(&accepted.config), None, &metrics)).unwrap());
        });
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weir.yaml");
        std::fs::write(&path, &text).unwrap();
        let app = runtime.block_on(App::start(path)).unwrap();
        group.bench_function(BenchmarkId::new("reload", routes), |bencher| {
            bencher.iter(|| assert!(runtime.block_on(app.reload("bench")).unwrap().errors.is_empty()));
        });
        group.bench_function(BenchmarkId::new("look", routes), |bencher| {
            bencher.iter(|| app.current().generation());
        });
        assert!(runtime.block_on(app.shutdown(Duration::from_secs(1))));
    }
    group.finish();
}

criterion_group!(benches, snapshot);
criterion_main!(benches);
