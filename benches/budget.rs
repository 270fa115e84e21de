//! What one request costs, stage by stage, by the functions that the proxy calls: `cargo bench --bench budget`. Prints,
//! judges nothing. How the figures are to be read: `docs/performance/budget.md`.
//!
//! - Each stage gets what the one before it made. That is prepared outside the measurement, for [`AT_ONCE`] requests, so
//!   that what a stage works on is in the caches. What a stage makes is let go of in the stage where the proxy does so.
//! - `read` and `send` are one system call each over loopback TCP, through `net::Link` and `net::Transfer`. What the peer
//!   does is not in them, nor is the wait for readiness; what the kernel does on the peer's behalf inside the call is.
//! - The proxy's phases are private, so a stage here calls the public functions that its phase calls, in their order. The
//!   first line and the blank line of a head on its way out are put around it as `upstream::http1` and `front::http1` do.
//! - `pick` is `upstream::Local::pick`, by which the proxy calls `logic::balance::pick`, with the random bits for it.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a benchmark stops at the first surprise, and measures time"
)]

use std::cell::Cell;
use std::future::poll_fn;
use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BatchSize, BenchmarkGroup, Criterion, criterion_group, criterion_main};
use http::{Method, Version};
use tokio::runtime::{Builder, Runtime};
use weir::config;
use weir::logic::route::Lookup;
use weir::logic::split::{Draw, assign};
use weir::net::{Coding, Drain, Io, Link, Transfer, clock};
use weir::proxy::authority::Authority;
use weir::proxy::cohort::Cohort;
use weir::proxy::headers::{self, Forwarding};
use weir::proxy::host::Host;
use weir::proxy::identify::{Trust, addressee, identify, is_about_server};
use weir::proxy::peer::Peer;
use weir::proxy::record::{Noted, Record};
use weir::proxy::view::View;
use weir::proxy::worker::{Downstream, Serving, Worker};
use weir::proxy::{paths, respond, underscores};
use weir::state::build::build;
use weir::state::{Current, Plan, RouteEntry};
use weir::telemetry::{ConnectionEvent, Metrics};
use weir::upstream::local::Endpoint;
use weir::upstream::{Needs, Upload, Wish};
use weir::wire::{Known, Length, RequestHead, ResponseHead};

/// The allocator of the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CONFIGURATION: &str = "\
workers: 1
listeners: [{ bind: 127.0.0.1:0 }]
upstreams:
  blue: { endpoints: [127.0.0.1:7, 127.0.0.1:8, 127.0.0.1:9] }
  green: { endpoints: [127.0.0.2:7, 127.0.0.2:8, 127.0.0.2:9] }
  canary: { endpoints: [127.0.0.3:7, 127.0.0.3:8, 127.0.0.3:9] }
splits:
  checkout:
    key: [header:x-user-id]
    variants: [{ name: blue }, { name: green, weight: 9% }, { name: canary, weight: 1% }]
routes: [{ split: checkout }]
";

const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\n\
    Server: upstream/1.2\r\n\
    Date: Tue, 14 Jul 2026 09:26:53 GMT\r\n\
    Content-Type: application/octet-stream\r\n\
    Content-Length: 128\r\n\
    Last-Modified: Mon, 13 Jul 2026 17:03:11 GMT\r\n\
    ETag: \"5d8c72a5edda8d6a\"\r\n\
    Connection: keep-alive\r\n\
    Accept-Ranges: bytes\r\n\r\n";

/// The users who take turns.
const USERS: usize = 1024;

/// So many requests are prepared and measured at once; so many connections take turns.
const AT_ONCE: u16 = 32;
const BATCH: BatchSize = BatchSize::NumIterations(AT_ONCE as u64);

/// A worker without sockets, and the requests that come to it.
struct Proxy {
    worker: Worker,
    serving: Rc<Serving>,
    downstream: Downstream,
    requests: Vec<Vec<u8>>,
    turn: Cell<usize>,
}

/// A request on its way.
struct Passing {
    record: Box<Record>,
    random: u128,
    /// Whom it is for, and whom it is from: once it is identified.
    known: Option<(Authority, IpAddr)>,
    endpoint: Option<Rc<Endpoint>>,
}

/// The stages between the request's head that came and the one that goes on, in their order.
const STEPS: [Step; 5] = [
    ("identify", Proxy::identify),
    ("route", Proxy::route),
    ("assign", Proxy::assign),
    ("forward", Proxy::forward),
    ("pick", Proxy::pick),
];

type Step = (&'static str, fn(&Proxy, &mut Passing));

impl Proxy {
    fn new(access_log: &str) -> Self {
        let text = format!("{CONFIGURATION}{access_log}");
        let config = config::load_text("weir.yaml", &text, &|_| None).unwrap().config;
        let metrics = Metrics::new();
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let snapshot = runtime.block_on(build(config, None, &metrics)).unwrap();
        let listener = Arc::clone(&snapshot.config.listeners[0]);
        let id = metrics.listener(listener.name.as_str());
        let peer = Peer::new(Ipv4Addr::LOCALHOST.into());
        let worker = Worker::new(
            Arc::new(Current::new(snapshot)),
            Arc::default(),
            Arc::new(weir::proxy::Admission::new(None)),
            Rc::new(metrics.worker()),
        );
        let serving = worker.serving();
        for upstream in &serving.upstreams {
            worker.metrics.connection(upstream.shared().id, ConnectionEvent::Connected);
            worker.metrics.connection(upstream.shared().id, ConnectionEvent::Idle);
        }
        let request = |user| {
            format!(
                "GET /128 HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: load/1.0\r\nAccept: */*\r\n\
                 x-user-id: user-{user:04}\r\n\r\n"
            )
        };
        Self {
            worker,
            serving,
            downstream: Downstream {
                listener,
                id,
                peer,
                client: None,
                is_anonymous: false,
                secure: false,
                identity: None,
                drained: Drain::new().1,
                alt_svc: None,
            },
            requests: (0..USERS).map(|user| request(user).into_bytes()).collect(),
            turn: Cell::new(0),
        }
    }

    fn entry(&self) -> &RouteEntry {
        &self.serving.snapshot.routes[0]
    }

    /// The next request as it is read.
    fn bytes(&self) -> &[u8] {
        let turn = (self.turn.get() + 1) % USERS;
        self.turn.set(turn);
        &self.requests[turn]
    }

    fn parse(bytes: &[u8]) -> RequestHead {
        RequestHead::parse(bytes).unwrap().unwrap().0
    }

    /// What `handle` begins with.
    fn begin(&self, head: RequestHead) -> Passing {
        let (metrics, serving) = (Rc::clone(&self.worker.metrics), self.worker.serving());
        let record = Box::new(Record::new(metrics, serving, head));
        Passing { record, random: self.worker.random_wide(), known: None, endpoint: None }
    }

    /// What is settled before a route is looked up.
    fn identify(&self, passing: &mut Passing) {
        let head = &mut passing.record.head;
        black_box(Length::of_request(head)).unwrap();
        let snapshot = &self.serving.snapshot;
        let settings = &snapshot.config.listeners[snapshot.listener(&self.downstream.listener).unwrap()];
        let peer = self.downstream.peer.ip();
        let trust = Trust::of(settings.trust.as_ref(), peer);
        let authority = addressee(head, settings.strict_host, trust.forwarding);
        underscores::settle(&mut head.fields, settings.underscores).unwrap();
        paths::settle(head, settings.paths).unwrap();
        let client_ip = identify(&mut head.fields, &snapshot.routing_headers, trust, peer, None);
        black_box(headers::is_secure(&head.fields, trust.forwarding, self.downstream.secure));
        headers::request_id(&mut head.fields, trust.identity, passing.random);
        assert!(!is_about_server(head, &authority).unwrap());
        passing.known = Some((authority.unwrap(), client_ip));
    }

    fn route(&self, passing: &mut Passing) {
        let (authority, client_ip) = passing.known.as_ref().unwrap();
        let view = View::new(&passing.record.head, authority, *client_ip, None);
        let Lookup::Found { route, .. } = self.serving.snapshot.table.lookup(&view, 0) else {
            unreachable!("the route takes everything")
        };
        passing.record.route = Some(route);
    }

    fn assign(&self, passing: &mut Passing) {
        let Plan::Split { split, .. } = &self.entry().plan else { unreachable!("the route has a split") };
        let (authority, client_ip) = passing.known.as_ref().unwrap();
        let view = View::new(&passing.record.head, authority, *client_ip, None);
        let assignment = assign(&split.split, &view, Draw { random: passing.random, now: 0 }).unwrap();
        passing.record.variant = Some(assignment.variant);
        passing.record.reason = Some(assignment.reason);
        passing.record.assignment = Some(assignment);
    }

    /// The head as the upstream is to get it.
    fn forward(&self, passing: &mut Passing) {
        let entry = self.entry();
        let Plan::Split { split, .. } = &entry.plan else { unreachable!("the route has a split") };
        let (authority, _) = passing.known.as_ref().unwrap();
        let head = &mut passing.record.head;
        assert!(respond::rewritten(head, entry.route.rewrite_prefix.as_deref(), None).unwrap().is_none());
        assert!(Host::of(head, authority, &entry.route.host).unwrap() == Host::Kept);
        let by = Forwarding {
            peer: &self.downstream.peer,
            trusted: false,
            secure: self.downstream.secure,
            host: authority.as_str(),
            version: head.version,
        };
        headers::strip_overrides(&mut head.fields, &self.serving.snapshot.routing_headers);
        headers::forward(&mut head.fields, &by);
        entry.route.request_headers.apply(&mut head.fields);
        assert!(!headers::expects_to_be_asked(head));
        let value = &split.variant_values[passing.record.variant.unwrap()];
        head.fields.set(&split.variant_header, value.as_bytes());
    }

    fn pick(&self, passing: &mut Passing) {
        let Plan::Split { arms, .. } = &self.entry().plan else { unreachable!("the route has a split") };
        let local = &self.serving.upstreams[arms[passing.record.variant.unwrap()].upstream];
        let wish = Wish { needs: Needs::Somebody, is_spare: true, hash: None };
        passing.endpoint = local.pick(&[], self.worker.random(), wish);
    }

    fn write_request(passing: &Passing) -> Vec<u8> {
        let head = &passing.record.head;
        let mut out = Vec::with_capacity(1024);
        head.write(head.path_and_query(), &mut out);
        out.extend_from_slice(b"\r\n");
        out
    }

    /// The response's head, and what it says of the connection.
    fn parse_response(bytes: &[u8]) -> ResponseHead {
        let (mut head, _) = ResponseHead::parse(bytes).unwrap().unwrap();
        assert_eq!(Length::of_response(&head, &Method::GET).unwrap(), Length::Exact(128));
        assert!(!head.fields.has_token(Known::Connection, "close"));
        head.fields.remove(Known::TransferEncoding);
        head
    }

    /// The head as the client is to get it.
    fn answer(&self, mut head: ResponseHead, record: &Record) -> Vec<u8> {
        let entry = self.entry();
        let Plan::Split { split, varies, .. } = &entry.plan else { unreachable!("the route has a split") };
        let (variant, assignment) = (record.variant.unwrap(), record.assignment.as_ref().unwrap());
        headers::strip_hop_by_hop(&mut head.fields);
        headers::via(&mut head.fields, head.version);
        Cohort { split, varies, variant, assignment, secure: false }.tell(&mut head.fields);
        entry.route.response_headers.apply(&mut head.fields);
        head.version = Version::HTTP_11;
        assert!(head.fields.contains(Known::Date));
        let mut out = Vec::with_capacity(1024);
        head.write(&mut out);
        out.extend_from_slice(b"\r\n");
        out
    }

    /// All that is counted of a request, and its line where the access log is on.
    fn account(&self, passing: Passing) {
        let Plan::Split { arms, .. } = &self.entry().plan else { unreachable!("the route has a split") };
        let Passing { mut record, known, endpoint, .. } = passing;
        let metrics = &self.worker.metrics;
        let arm = &arms[record.variant.unwrap()];
        let upstream = self.serving.upstreams[arm.upstream].shared().id;
        if self.serving.snapshot.access_log.is_some() {
            let (authority, client_ip) = known.unwrap();
            record.note(Noted {
                host: authority.as_str().into(),
                request_id: record.head.fields.get(Known::XRequestId).unwrap_or_default().into(),
                client_ip,
                asked: None,
                listener: Arc::clone(&self.downstream.listener),
            });
        }
        let assignment = record.assignment.as_ref().unwrap();
        metrics.assigned(arm.target, assignment.key.as_ref().and(assignment.position));
        record.enter(arm.target);
        record.attempts = 1;
        record.endpoint = endpoint;
        metrics.connection(upstream, ConnectionEvent::Busy);
        let duration = clock::now().saturating_duration_since(record.started());
        metrics.response_head(arm.target, duration);
        record.upstream_duration = Some(duration);
        record.release();
        metrics.connection(upstream, ConnectionEvent::Idle);
        record.response_bytes = 128;
        record.close(None);
    }

    /// A request that has been through the first `count` of [`STEPS`].
    fn after(&self, count: usize) -> Passing {
        let mut passing = self.begin(Self::parse(self.bytes()));
        for (_, step) in &STEPS[..count] {
            step(self, &mut passing);
        }
        passing
    }
}

fn stages(group: &mut BenchmarkGroup<'_, WallTime>) {
    let proxy = Proxy::new("");
    clock::woken();
    group.bench_function("clock", |bench| bench.iter(clock::now));
    group.bench_function("clock_read", |bench| {
        bench.iter(|| {
            clock::woken();
            clock::now()
        });
    });
    group.bench_function("parse_request", |bench| bench.iter_batched(|| proxy.bytes(), Proxy::parse, BATCH));
    group.bench_function("begin", |bench| {
        bench.iter_batched(|| Proxy::parse(proxy.bytes()), |head| proxy.begin(head), BATCH);
    });
    for (done, (name, step)) in STEPS.into_iter().enumerate() {
        group.bench_function(name, |bench| {
            bench.iter_batched_ref(|| proxy.after(done), |passing| step(&proxy, passing), BATCH);
        });
    }
    group.bench_function("write_request", |bench| {
        bench.iter_batched_ref(|| proxy.after(STEPS.len()), |passing| Proxy::write_request(passing), BATCH);
    });
    group.bench_function("parse_response", |bench| {
        bench.iter_batched(|| RESPONSE, Proxy::parse_response, BATCH);
    });
    let passing = proxy.after(STEPS.len());
    group.bench_function("answer", |bench| {
        let head = || Proxy::parse_response(RESPONSE);
        bench.iter_batched(head, |head| proxy.answer(head, &passing.record), BATCH);
    });
    group.bench_function("account", |bench| {
        bench.iter_batched(|| proxy.after(STEPS.len()), |passing| proxy.account(passing), BATCH);
    });
    let logging = Proxy::new("access_log: { path: /dev/null }\n");
    group.bench_function("account_with_log", |bench| {
        bench.iter_batched(|| logging.after(STEPS.len()), |passing| logging.account(passing), BATCH);
    });
    group.bench_function("all_without_sockets", |bench| {
        bench.iter(|| {
            let mut passing = proxy.begin(Proxy::parse(black_box(proxy.bytes())));
            for (_, step) in STEPS {
                step(&proxy, &mut passing);
            }
            drop(black_box(Proxy::write_request(&passing)));
            let head = Proxy::parse_response(black_box(RESPONSE));
            drop(black_box(proxy.answer(head, &passing.record)));
            proxy.account(passing);
        });
    });
}

/// A connection over loopback: our side of it, and the peer's.
struct Pair {
    link: Link,
    peer: TcpStream,
}

impl Pair {
    fn new(listener: &TcpListener) -> Self {
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (ours, _) = listener.accept().unwrap();
        peer.set_nodelay(true).unwrap();
        ours.set_nodelay(true).unwrap();
        ours.set_nonblocking(true).unwrap();
        let ours = tokio::net::TcpStream::from_std(ours).unwrap();
        Self { link: Link::new(Io::from(ours)), peer }
    }
}

/// How long reading `request` and sending `head` take in all, in `count` exchanges. It goes to and fro, as a proxy's
/// connections do: where bytes come one way only, each read sends an acknowledgement of its own.
async fn exchange(pairs: &mut [Pair], request: &[u8], head: &[u8], mut count: u64) -> [Duration; 2] {
    let [mut reading, mut sending] = [Duration::ZERO; 2];
    let mut taken = vec![0; head.len()];
    while count > 0 {
        let turn = pairs.len().min(usize::try_from(count).unwrap_or(usize::MAX));
        let pairs = &mut pairs[..turn];
        for pair in &mut *pairs {
            pair.peer.write_all(request).unwrap();
        }
        for pair in &*pairs {
            poll_fn(|cx| pair.link.io().poll_readable(cx)).await.unwrap();
            poll_fn(|cx| pair.link.io().poll_writable(cx)).await.unwrap();
        }
        reading += poll_fn(|cx| {
            let start = Instant::now();
            for pair in &*pairs {
                let read = pair.link.poll_read(cx);
                assert!(matches!(read, Poll::Ready(Ok(read)) if read == request.len()), "{read:?}");
                // The buffer is given back when the head in it has been read.
                pair.link.parse(|bytes| Ok(Some(((), bytes.len())))).unwrap();
            }
            Poll::Ready(start.elapsed())
        })
        .await;
        let mut heads: Vec<_> = pairs.iter().map(|_| head.to_vec()).collect();
        sending += poll_fn(|cx| {
            let start = Instant::now();
            for (pair, head) in pairs.iter().zip(heads.drain(..)) {
                let mut transfer = Transfer::<Upload>::new(head, Coding::Plain, None);
                let sent = transfer.poll(cx, pair.link.io());
                assert!(matches!(sent, Poll::Ready(Ok(()))), "{sent:?}");
            }
            Poll::Ready(start.elapsed())
        })
        .await;
        for pair in &mut *pairs {
            pair.peer.read_exact(&mut taken).unwrap();
        }
        count -= turn as u64;
    }
    [reading, sending]
}

fn sockets(group: &mut BenchmarkGroup<'_, WallTime>) {
    let proxy = Proxy::new("");
    let (request, head) = (proxy.bytes(), Proxy::write_request(&proxy.after(STEPS.len())));
    let runtime: Runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut pairs: Vec<_> = runtime.block_on(async { (0..AT_ONCE).map(|_| Pair::new(&listener)).collect() });
    for (index, name) in ["read", "send"].into_iter().enumerate() {
        group.bench_function(name, |bench| {
            bench.iter_custom(|count| runtime.block_on(exchange(&mut pairs, request, &head, count))[index]);
        });
    }
}

fn budget(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("budget");
    group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(2));
    sockets(&mut group);
    stages(&mut group);
    group.finish();
}

criterion_group!(benches, budget);
criterion_main!(benches);
