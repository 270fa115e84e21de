//! What a rate limit costs a request: `cargo bench --bench limit`. It prints, it asserts nothing about time.
//!
//! `limit/ask/*` is one question to the table: of a unit that is known, of one of many, of one that is refused; with
//! `/threads/N` other threads ask at the same time, for units of their own or all for one.

#![expect(clippy::disallowed_methods, reason = "a benchmark looks at the clock")]

use std::hash::{BuildHasher, RandomState};
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use weir::logic::limit::{Gcra, Rate, Table};

const SECOND: Duration = Duration::from_secs(1);

fn table(per_second: u64, burst: u64) -> Option<Table> {
    let rate = Rate::new(per_second * 1000, SECOND)?;
    Some(Table::new(Gcra::new(rate, burst), 65_536))
}

fn limit(criterion: &mut Criterion) {
    let (Some(wide), Some(narrow)) = (table(1_000_000, 1_000_000), table(1, 1)) else { return };
    let mut random = fastrand::Rng::with_seed(1);
    let hashes: Vec<u64> = (0..4096).map(|_| random.u64(..)).collect();
    let start = Instant::now();
    let mut group = criterion.benchmark_group("limit");
    group.bench_function("ask/one", |bencher| {
        bencher.iter(|| wide.ask(black_box(7), start.elapsed()));
    });
    group.bench_function("ask/4096", |bencher| {
        let mut turn = hashes.iter().cycle();
        bencher.iter(|| wide.ask(black_box(turn.next().copied().unwrap_or_default()), start.elapsed()));
    });
    group.bench_function("ask/refused", |bencher| {
        bencher.iter(|| narrow.ask(black_box(7), SECOND));
    });
    for (name, is_shared) in [("own", false), ("one", true)] {
        group.bench_function(format!("ask/{name}/threads/2"), |bencher| {
            let done = AtomicBool::new(false);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let other = if is_shared { 7 } else { 1 << 20 };
                    while !done.load(Ordering::Relaxed) {
                        black_box(wide.ask(other, start.elapsed()));
                    }
                });
                bencher.iter(|| wide.ask(black_box(7), start.elapsed()));
                done.store(true, Ordering::Relaxed);
            });
        });
    }
    group.bench_function("key/36", |bencher| {
        let keyed = RandomState::new();
        let key = [7_u8; 36];
        bencher.iter(|| keyed.hash_one(black_box(&key[..])));
    });
    group.bench_function("clock", |bencher| bencher.iter(|| start.elapsed()));
    group.finish();
}

criterion_group!(benches, limit);
criterion_main!(benches);
