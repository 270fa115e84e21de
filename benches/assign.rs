//! What an assignment costs: `cargo bench --bench assign`. It prints, it asserts nothing about time.
//! `assign/xxh3/*` is a whole assignment, `hash/xxh3/BYTES` the position of a key alone.
//!
//! Units are distinct and seeded, so that neither the branch predictor nor the cache knows the next one.

#![expect(clippy::expect_used, reason = "a benchmark that cannot be built may end")]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use weir::logic::condition::{ClientCertificate, Condition, RequestView, Source, Test};
use weir::logic::split::{Draw, Layout, Rule, Split, Then, assign, assign_traced, hash};
use weir::types::{RuleName, Share, SplitName, VariantName};

/// As many units as are gone through in turn.
const UNITS: usize = 4096;

const DRAW: Draw = Draw { random: 0, now: 0 };

/// A request as a proxy has it: some ten fields in a map.
struct Request(HeaderMap);

impl RequestView for Request {
    fn method(&self) -> &Method {
        &Method::GET
    }

    fn host(&self) -> &'static str {
        "shop.example.com"
    }

    fn port(&self) -> Option<u16> {
        None
    }

    fn path(&self) -> &'static str {
        "/api/cart"
    }

    fn query(&self) -> Option<&str> {
        None
    }

    fn header<'a>(&'a self, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
        self.0.get_all(name).into_iter().map(HeaderValue::as_bytes)
    }

    fn client_ip(&self) -> IpAddr {
        Ipv4Addr::LOCALHOST.into()
    }

    fn certificate(&self) -> Option<&ClientCertificate> {
        None
    }
}

/// Unit keys of 36 bytes, as UUIDs have them.
fn units() -> Vec<String> {
    let mut random = fastrand::Rng::with_seed(42);
    let mut unit = || {
        let id = format!("{:032x}", random.u128(..));
        format!("{}-{}-{}-{}-{}", &id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..])
    };
    (0..UNITS).map(|_| unit()).collect()
}

fn request(unit: &str) -> Request {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("accept", "text/html,application/json;q=0.9"),
        ("accept-encoding", "gzip, br"),
        ("accept-language", "en-GB"),
        ("cache-control", "no-cache"),
        ("cookie", "theme=dark; consent=yes"),
        ("referer", "https://shop.example.com/"),
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64)"),
        ("x-region", "eu-west-1"),
        ("x-request-id", "6f1f0bd6"),
        ("x-user-id", unit),
    ] {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    Request(headers)
}

/// A split by `x-user-id` with these shares of the variants beside the baseline.
fn split(ppm: &[u32]) -> Split {
    let name = |text: &str| VariantName::new(text).expect("it is a name");
    let share = |ppm: &u32| Share::from_ppm(*ppm).expect("it is a share");
    let others: Vec<_> =
        ppm.iter().enumerate().map(|(index, ppm)| (name(&format!("variant-{index}")), share(ppm))).collect();
    let split = SplitName::new("checkout").expect("it is a name");
    let mut split = Split::new(split, name("blue"), &others).expect("it is under 100%");
    split.key = vec![Source::Header(HeaderName::from_static("x-user-id"))];
    split
}

/// Three rules that look at headers; only the last matches.
fn with_rules(mut split: Split) -> Split {
    let when =
        |name, test| Condition { source: Source::Header(HeaderName::from_static(name)), test, not: false };
    let one_of = |value: &str| Test::In([value.as_bytes().into()].into());
    let shares = [Share::from_ppm(200_000).expect("it is a share"), Share::NONE];
    let layout = Layout::new(&shares).expect("it is under 100%");
    split.rules = [
        ("staff", vec![when("x-tenant-id", one_of("internal"))], Then::Pin(2)),
        ("free", vec![when("x-tier", one_of("free"))], Then::Pin(1)),
        ("europe", vec![when("x-region", Test::Prefix(b"eu-".as_slice().into()))], Then::Weights(layout)),
    ]
    .map(|(name, when, then)| Rule { name: RuleName::new(name).expect("it is a name"), when, then })
    .into();
    split
}

/// Measures `operation` on one input after the other.
fn each<T, O>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    inputs: &[T],
    operation: impl Fn(&T) -> O,
) {
    let mut turn = 0;
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            turn = (turn + 1) % inputs.len();
            operation(black_box(&inputs[turn]))
        });
    });
}

fn assigning(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("assign/xxh3");
    let requests: Vec<_> = units().iter().map(|unit| request(unit)).collect();
    let three = split(&[90_000, 10_000]);
    let five = split(&[90_000, 10_000, 50_000, 50_000]);
    let ruled = with_rules(split(&[90_000, 10_000]));
    for (name, split) in [("header", &three), ("header_5_variants", &five), ("header_3_rules", &ruled)] {
        each(&mut group, name, &requests, |request| assign(split, request, DRAW));
    }
    each(&mut group, "traced", &requests, |request| assign_traced(&three, request, DRAW));
    group.finish();
}

fn hashing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hash/xxh3");
    for bytes in [8, 36, 200, 300, 1024] {
        let keys: Vec<_> = units().iter().map(|unit| unit.repeat(30)[..bytes].to_owned()).collect();
        each(&mut group, &bytes.to_string(), &keys, |key| hash::position("checkout", key.as_bytes()));
    }
    group.finish();
}

criterion_group!(benches, assigning, hashing);
criterion_main!(benches);
