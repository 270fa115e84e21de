//! Checks against endpoints of the test's own, on the paused clock: what an answer has to be, and when checks begin.

use std::collections::VecDeque;
use std::future::{Future, pending, ready};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use http::uri::Scheme;
use http::{HeaderName, HeaderValue, Method};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::time::{Instant, timeout};

use super::rhythm::{Ask, Rhythm};
use super::target::Request;
use super::{Failure, bounded, http1, keep_checked};
use crate::config::health::{Health, HttpProbe, Probe};
use crate::config::model;
use crate::logic::balance::check::{Checks, Pace, Thresholds, Verdict};
use crate::logic::balance::{Cause, Ejection, Policy, State};
use crate::telemetry::Metrics;
use crate::types::{EndpointAddress, Share, UpstreamName};
use crate::upstream::{Address, Resolved, Upstream};

const SECOND: Duration = Duration::from_secs(1);

/// The check that `GET /healthz` expects 200 to 299 of, and `text` in the body.
fn probe(method: Method, text: Option<&str>) -> HttpProbe {
    HttpProbe {
        method,
        path: "/healthz?full=1".parse().unwrap(),
        status: vec![200..=299],
        body: text.map(|text| text.as_bytes().to_vec()),
    }
}

/// What the check says of an endpoint that answers with `pieces`, a pause before each, and then closes or not; and what
/// it was asked.
async fn asked(http: &HttpProbe, pieces: &[&[u8]], closes: bool) -> (String, String) {
    let (ours, mut theirs) = duplex(1 << 20);
    let headers = [(HeaderName::from_static("x-token"), HeaderValue::from_static("abc"))];
    let host = HeaderValue::from_static("cart:80");
    let serving = async {
        let mut read = Vec::new();
        while !read.ends_with(b"\r\n\r\n") {
            theirs.read_buf(&mut read).await.unwrap();
        }
        for piece in pieces {
            tokio::time::sleep(Duration::from_millis(1)).await;
            // Who asks may have heard enough.
            if theirs.write_all(piece).await.is_err() {
                break;
            }
        }
        if !closes {
            return (String::from_utf8(read).unwrap(), Some(theirs));
        }
        (String::from_utf8(read).unwrap(), None)
    };
    let asking = async {
        let mut io = bounded::Bounded::new(ours);
        let request = Request::new(http, &Scheme::HTTP, &host, &headers);
        match timeout(SECOND, http1::ask(&mut io, &request)).await {
            Ok(Ok(())) => "well".to_owned(),
            Ok(Err(failure)) => failure.to_string(),
            Err(_) => "timeout".to_owned(),
        }
    };
    let (verdict, (question, _open)) = tokio::join!(asking, serving);
    (verdict, question)
}

#[tokio::test(start_paused = true)]
async fn request_has_a_host_our_name_and_what_is_configured() {
    let (_, question) = asked(&probe(Method::GET, None), &[b"HTTP/1.1 204 \r\n\r\n"], false).await;
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        question,
        format!(
            "GET /healthz?full=1 HTTP/1.1\r\nhost: cart:80\r\nconnection: close\r\n\
             user-agent: weir-health-check/{version}\r\nx-token: abc\r\n\r\n"
        )
    );
}

/// The text that the body has, the pieces of the answer, whether the endpoint closes, and what the check says.
type Row<'a> = (Option<&'a str>, &'a [&'a [u8]], bool, &'a str);

#[tokio::test(start_paused = true)]
async fn answer_of_http1_is_read_to_its_end_and_judged() {
    let long = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{}", 1 << 30, "x".repeat(70_000));
    let head = format!("HTTP/1.1 200 OK\r\nx: {}\r\n", "y".repeat(70_000));
    let late = format!("HTTP/1.1 200 OK\r\n\r\n{}ready", "x".repeat(66_000));
    let hints = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(4000);
    let closed = "the connection was closed before the answer was whole";
    let (text, whole) = (Some("ready"), None);
    let rows: [Row; 28] = [
        (whole, &[b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"], false, "well"),
        (whole, &[b"HTTP/1.1 200 OK\r\n", b"content-length: 2\r\n\r", b"\n", b"o", b"k"], false, "well"),
        (whole, &[b"HTTP/1.0 200 OK\r\n\r\nok"], true, "well"),
        (whole, &[b"HTTP/1.1 204 No Content\r\n\r\n"], false, "well"),
        (
            whole,
            &[b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\n\r\n", b"HTTP/1.1 204 \r\n\r\n"],
            false,
            "well",
        ),
        (
            whole,
            &[b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n", b"0\r\n\r\n"],
            false,
            "well",
        ),
        (whole, &[long.as_bytes()], false, "well"),
        (whole, &[b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 9\r\n\r\n"], false, "status 503"),
        (whole, &[b"HTTP/1.1 302 Found\r\n\r\n"], false, "status 302"),
        (whole, &[b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n"], false, "status 101"),
        // It says that it is well and stops in the midst of saying so.
        (whole, &[b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok"], false, "timeout"),
        (whole, &[b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok"], true, closed),
        (whole, &[b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n"], true, closed),
        (
            whole,
            &[b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nx\r\n"],
            false,
            "the answer is not valid HTTP",
        ),
        (
            whole,
            &[b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n"],
            false,
            "the answer is not valid HTTP",
        ),
        (whole, &[], false, "timeout"),
        (whole, &[], true, closed),
        (whole, &[b"HTTP/1.1 200 OK\r\n"], true, closed),
        (whole, &[b"SSH-2.0-OpenSSH_9.6\r\n"], false, "the answer is not valid HTTP"),
        (whole, &[b"\x15\x03\x03\x00\x02\x02\x16"], false, "the answer is not valid HTTP"),
        (whole, &[head.as_bytes()], false, "the answer is too large"),
        (whole, &[hints.as_bytes()], false, "the answer is too large"),
        (text, &[b"HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\nI am ready.\n"], false, "well"),
        (
            text,
            &[b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nrea\r\n2\r\ndy\r\n0\r\n\r\n"],
            false,
            "well",
        ),
        (text, &[b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nwell"], false, "the body lacks the text"),
        (text, &[b"HTTP/1.1 204 \r\n\r\n"], false, "the body lacks the text"),
        (text, &[late.as_bytes()], true, "the body lacks the text"),
        (text, &[b"HTTP/1.1 500 \r\ncontent-length: 5\r\n\r\nready"], false, "status 500"),
    ];
    for (text, pieces, closes, expected) in rows {
        let (verdict, _) = asked(&probe(Method::GET, text), pieces, closes).await;
        let shown: Vec<_> =
            pieces.iter().map(|piece| piece[..piece.len().min(90)].escape_ascii().to_string()).collect();
        assert_eq!(verdict, expected, "{shown:?} {closes}");
    }
    let head = probe(Method::HEAD, None);
    let (verdict, question) = asked(&head, &[b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"], false).await;
    assert_eq!((verdict.as_str(), &question[..5]), ("well", "HEAD "));
}

/// An endpoint whose checks take `0` and come to what is written; when each began.
struct Scripted {
    results: Mutex<VecDeque<bool>>,
    takes: Duration,
    began: Arc<Mutex<Vec<Instant>>>,
}

impl Ask for Scripted {
    fn ask(&self) -> impl Future<Output = Result<(), Failure>> + Send {
        self.began.lock().unwrap().push(Instant::now());
        let passes = self.results.lock().unwrap().pop_front();
        let takes = self.takes;
        async move {
            tokio::time::sleep(takes).await;
            match passes {
                Some(true) => Ok(()),
                Some(false) => Err(Failure::Closed),
                None => pending().await,
            }
        }
    }
}

/// When checks with these results begin, in milliseconds from the start, and the verdicts after each.
async fn rhythm(results: &str, pace: Pace, at_once: bool, takes: Duration) -> (Vec<u128>, String) {
    let began = Arc::new(Mutex::new(Vec::new()));
    let passes = results.chars().map(|result| result == '+').collect();
    let target = Scripted { results: Mutex::new(passes), takes, began: Arc::clone(&began) };
    let (mut checks, mut verdicts) = (Checks::default(), String::new());
    let thresholds = Thresholds { healthy: 2, unhealthy: 3 };
    let start = Instant::now();
    let told = |result: Result<(), Failure>| {
        checks = checks.after(result.is_ok(), thresholds);
        verdicts.push(if checks.verdict() == Some(Verdict::Healthy) { 'h' } else { 'u' });
        checks.verdict()
    };
    let keeping = Rhythm { pace, at_once }.keep(target, told);
    assert!(timeout(Duration::from_hours(1), keeping).await.is_err(), "it ends only when it is told to");
    let began = began.lock().unwrap();
    (began.iter().map(|at| at.duration_since(start).as_millis()).collect(), verdicts)
}

#[tokio::test(start_paused = true)]
async fn checks_begin_an_interval_apart_by_the_verdict_however_long_they_take() {
    let pace = Pace { interval: 5 * SECOND, unhealthy_interval: SECOND, jitter: Share::NONE };
    for takes in [Duration::ZERO, Duration::from_millis(900)] {
        let (began, verdicts) = rhythm("+---++", pace, true, takes).await;
        assert_eq!(verdicts, "hhhuuh");
        // The last one does not end.
        assert_eq!(began, [0, 5000, 10_000, 15_000, 16_000, 17_000, 22_000], "{takes:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn checks_spread_by_the_jitter_from_the_first_one_on() {
    let pace =
        Pace { interval: 10 * SECOND, unhealthy_interval: SECOND, jitter: Share::parse("50%").unwrap() };
    let mut firsts = Vec::new();
    for _ in 0..50 {
        let (began, _) = rhythm("++++", pace, false, Duration::ZERO).await;
        // Timers go by whole milliseconds.
        assert!(began[0] <= 5001, "{began:?}");
        assert!(began.windows(2).all(|pair| (10_000..=15_001).contains(&(pair[1] - pair[0]))), "{began:?}");
        firsts.push(began[0]);
    }
    let (least, most) = (firsts.iter().min().unwrap(), firsts.iter().max().unwrap());
    assert!(most - least > 2500, "50 first checks spread: {firsts:?}");
    assert_eq!(rhythm("+", pace, true, Duration::ZERO).await.0[0], 0, "but where somebody waits for it");
}

#[tokio::test(start_paused = true)]
async fn checks_end_when_nobody_wants_to_hear_of_them() {
    struct Well;
    impl Ask for Well {
        fn ask(&self) -> impl Future<Output = Result<(), Failure>> + Send {
            ready(Ok(()))
        }
    }
    let pace = Pace { interval: SECOND, unhealthy_interval: SECOND, jitter: Share::NONE };
    let mut left = 3;
    let told = |_| {
        left -= 1;
        (left > 0).then_some(Verdict::Healthy)
    };
    let start = Instant::now();
    Rhythm { pace, at_once: true }.keep(Well, told).await;
    assert_eq!((left, start.elapsed()), (0, 2 * SECOND));
}

/// An upstream of these endpoints whose check is a connection, or an answer that never comes.
fn upstream(endpoints: &[SocketAddr], probe: Probe, wait: bool, metrics: &Arc<Metrics>) -> Arc<Upstream> {
    let often = Duration::from_millis(20);
    let settings = model::Upstream {
        name: UpstreamName::new("one").unwrap(),
        endpoints: endpoints
            .iter()
            .map(|address| model::Endpoint {
                address: EndpointAddress::parse(&address.to_string()).unwrap(),
                weight: 1,
                zone: None,
            })
            .collect(),
        protocol: model::Protocol::Http1,
        proxy_protocol: false,
        tls: None,
        balance: Policy::RoundRobin,
        hash_key: Vec::new(),
        zone: None,
        health: Some(Health {
            probe,
            host: None,
            headers: Vec::new(),
            port: None,
            tls: true,
            pace: Pace { interval: often, unhealthy_interval: often, jitter: Share::NONE },
            timeout: Duration::from_hours(1),
            thresholds: Thresholds { healthy: 1, unhealthy: 1 },
            wait,
        }),
        ejection: Ejection::default(),
        limits: None,
        slow_start: None,
        connect_timeout: SECOND,
        response_timeout: SECOND,
        idle_timeout: SECOND,
        dns_refresh: SECOND,
    };
    Arc::new(Upstream::new(Arc::new(settings), metrics, None).unwrap())
}

fn resolved(address: SocketAddr, of: &Upstream) -> Resolved {
    Resolved { address: Address::Tcp(address), configured: of.settings.endpoints[0].address.clone() }
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < 20 * SECOND, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the test drives the task itself")]
async fn endpoints_are_checked_from_their_first_day_to_their_last() {
    let [first, second] = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let [first, second] = [first, second].map(|listener| {
        listener.set_nonblocking(true).unwrap();
        tokio::net::TcpListener::from_std(listener).unwrap()
    });
    let places = [&first, &second].map(|listener| listener.local_addr().unwrap());
    let metrics = Metrics::new();
    let upstream = upstream(&places[..1], Probe::Tcp, false, &metrics);
    upstream.settle();
    let keeper = tokio::spawn(keep_checked(Arc::downgrade(&upstream), metrics));
    let verdicts = upstream.verdicts.as_ref().unwrap();
    let [old, new] = places.map(|place| resolved(place, &upstream));
    until("the first is checked", || verdicts.verdict(&old) == Some(Verdict::Healthy)).await;
    // Its name leads elsewhere now.
    upstream.update(vec![new.clone()]);
    until("the second is checked", || verdicts.verdict(&new) == Some(Verdict::Healthy)).await;
    assert_eq!(verdicts.verdict(&old), None, "what is gone is forgotten");
    // All that was asked of it has come to it by now.
    while timeout(Duration::from_millis(200), first.accept()).await.is_ok() {}
    until("it is checked again", || verdicts.of(&new).last > verdicts.of(&new).since).await;
    drop(second);
    until("that it is gone is seen", || verdicts.verdict(&new) == Some(Verdict::Unhealthy)).await;
    assert_eq!(upstream.vitals(&new).health().cause(), Some(Cause::Unhealthy));
    drop(upstream);
    timeout(20 * SECOND, keeper).await.expect("it ends with its upstream").unwrap();
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the test drives the task itself")]
async fn endpoint_that_a_name_brings_is_used_before_its_first_check_only_where_nobody_waits() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let places = [&silent, &other].map(|listener| listener.local_addr().unwrap());
    for wait in [false, true] {
        let metrics = Metrics::new();
        let http = probe(Method::GET, None);
        let upstream = upstream(&places[..1], Probe::Http(http), wait, &metrics);
        upstream.settle();
        let [old, new] = places.map(|place| resolved(place, &upstream));
        let is_used = |endpoint| upstream.vitals(endpoint).health().state() == State::Passing;
        assert_eq!(is_used(&old), !wait);
        let keeper = tokio::spawn(keep_checked(Arc::downgrade(&upstream), metrics));
        upstream.update(vec![old.clone(), new.clone()]);
        assert_eq!([is_used(&old), is_used(&new)], [!wait; 2]);
        // A verdict that was reached makes it one of them.
        let verdicts = upstream.verdicts.as_ref().unwrap();
        let thresholds = Thresholds { healthy: 2, unhealthy: 2 };
        verdicts.note(&upstream.settings.name, &new, &Ok(()), thresholds, SystemTime::UNIX_EPOCH);
        upstream.settle();
        assert_eq!([is_used(&old), is_used(&new)], [!wait, true]);
        // One that serves no more asks nobody, though it is held.
        upstream.retire();
        timeout(20 * SECOND, keeper).await.expect("it ends where it was told to").unwrap();
    }
}
