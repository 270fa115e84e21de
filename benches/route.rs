//! What a look-up of the route costs, by the number of routes and by what tells them apart.
//!
//! `cargo bench --bench route`. It prints and asserts nothing.
#![expect(clippy::unwrap_used, reason = "the texts are fixed, and a benchmark has nobody to report to")]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use http::{HeaderName, Method};
use weir::logic::condition::{ClientCertificate, RequestView};
use weir::logic::route::{HostPattern, Lookup, PathPattern, RouteMatch, Table};

/// Different requests a benchmark goes round, so that not one look-up alone is in the caches.
const REQUESTS: usize = 1024;

struct Request {
    host: String,
    path: String,
}

impl RequestView for Request {
    fn method(&self) -> &Method {
        &Method::GET
    }
    fn host(&self) -> &str {
        &self.host
    }
    fn port(&self) -> Option<u16> {
        None
    }
    fn path(&self) -> &str {
        &self.path
    }
    fn query(&self) -> Option<&str> {
        None
    }
    fn header<'a>(&'a self, _name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
        std::iter::empty()
    }
    fn client_ip(&self) -> IpAddr {
        Ipv4Addr::LOCALHOST.into()
    }

    fn certificate(&self) -> Option<&ClientCertificate> {
        None
    }
}

fn route(host: Option<&str>, path: Option<&str>) -> RouteMatch {
    let hosts = host.into_iter().map(|text| HostPattern::parse(text).unwrap()).collect();
    let paths = path.into_iter().map(|text| PathPattern::parse(text).unwrap()).collect();
    RouteMatch { hosts, paths, ..RouteMatch::default() }
}

/// What tells the routes apart: how to make the route with a number, and a request for it.
struct Shape {
    name: &'static str,
    counts: &'static [usize],
    route: fn(usize) -> RouteMatch,
    request: fn(usize) -> Request,
}

const SHAPES: [Shape; 5] = [
    Shape {
        name: "host",
        counts: &[1, 100, 10_000],
        route: |n| route(Some(&format!("tenant-{n}.shop.example.com")), None),
        request: |n| Request {
            host: format!("tenant-{n}.shop.example.com"),
            path: "/api/v1/cart/items".into(),
        },
    },
    Shape {
        name: "wildcard",
        counts: &[1, 100, 10_000],
        route: |n| route(Some(&format!("*.tenant-{n}.example.com")), None),
        request: |n| Request {
            host: format!("eu.shop.tenant-{n}.example.com"),
            path: "/api/v1/cart/items".into(),
        },
    },
    Shape {
        name: "exact",
        counts: &[1, 100, 10_000],
        route: |n| route(None, Some(&format!("/api/v1/service-{n}/items"))),
        request: |n| Request { host: "shop.example.com".into(), path: format!("/api/v1/service-{n}/items") },
    },
    Shape {
        name: "prefix",
        counts: &[1, 100, 10_000],
        route: |n| route(None, Some(&format!("/api/v1/service-{n}/*"))),
        request: |n| Request {
            host: "shop.example.com".into(),
            path: format!("/api/v1/service-{n}/items/1234"),
        },
    },
    Shape {
        name: "regex",
        counts: &[1, 10, 100],
        route: |n| route(None, Some(&format!("~/api/v[0-9]+/service-{n}/.*"))),
        request: |n| Request {
            host: "shop.example.com".into(),
            path: format!("/api/v1/service-{n}/items/1234"),
        },
    },
];

fn find(table: &Table, request: &Request) -> Option<usize> {
    match table.lookup(black_box(request), 0) {
        Lookup::Found { route, .. } => Some(route),
        _ => None,
    }
}

fn lookup(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("route");
    for shape in SHAPES {
        for &count in shape.counts {
            let table = Table::new((0..count).map(shape.route).collect());
            let mut random = fastrand::Rng::with_seed(7);
            let requests: Vec<_> = (0..REQUESTS).map(|_| (shape.request)(random.usize(..count))).collect();
            group.bench_function(BenchmarkId::new(shape.name, count), |bencher| {
                let mut turn = 0;
                bencher.iter(|| {
                    turn = (turn + 1) % REQUESTS;
                    find(&table, &requests[turn])
                });
            });
        }
    }
    // One route without any condition: the least that every request pays.
    let table = Table::new(vec![RouteMatch::default()]);
    let request = Request { host: "shop.example.com".into(), path: "/api/v1/cart/items".into() };
    group.bench_function(BenchmarkId::new("any", 1), |bencher| bencher.iter(|| find(&table, &request)));
    group.finish();
}

criterion_group!(benches, lookup);
criterion_main!(benches);
