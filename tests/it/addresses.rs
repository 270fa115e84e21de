//! Addresses of every kind, on both sides and over both protocols: IPv4, IPv6, both at once, and Unix sockets.

use std::convert::Infallible;
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use http::{HeaderMap, HeaderValue, Request, Response, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use weir::types::BindAddress;

use crate::support::raw::{exchange, status};
use crate::support::upstream::{Body, full};
use crate::support::{Arms, Ask, BOTH, Proxy, Reply, Via};

/// Where an endpoint of a test is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Tcp(&'static str),
    Unix(PathBuf),
}

/// What a request said of itself, and by which version.
type Seen = Arc<Mutex<Vec<(Version, HeaderMap)>>>;

/// Endpoints that answer with the place they are at.
struct Endpoints {
    seen: Seen,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Endpoints {
    fn new() -> Self {
        Self { seen: Seen::default(), tasks: Vec::new() }
    }

    /// One more; gives what the configuration calls it.
    async fn start(&mut self, place: Place) -> String {
        let seen = Arc::clone(&self.seen);
        match place {
            Place::Tcp(address) => {
                let listener = TcpListener::bind(address).await.unwrap();
                let name = listener.local_addr().unwrap().to_string();
                self.tasks.push(tokio::spawn(async move {
                    while let Ok((stream, _)) = listener.accept().await {
                        tokio::spawn(answer(stream, Arc::clone(&seen)));
                    }
                }));
                name
            }
            Place::Unix(path) => {
                let listener = UnixListener::bind(&path).unwrap();
                self.tasks.push(tokio::spawn(async move {
                    while let Ok((stream, _)) = listener.accept().await {
                        tokio::spawn(answer(stream, Arc::clone(&seen)));
                    }
                }));
                format!("unix:{}", path.display())
            }
        }
    }

    fn last(&self) -> (Version, HeaderMap) {
        self.seen.lock().unwrap().last().unwrap().clone()
    }
}

impl Drop for Endpoints {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

async fn answer<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S, seen: Seen) {
    let service = service_fn(move |request: Request<Incoming>| {
        let authority = request.uri().authority().map(|authority| authority.as_str().to_owned());
        let (version, mut headers) = (request.version(), request.headers().clone());
        if let Some(authority) = authority {
            headers.insert("host", HeaderValue::from_str(&authority).unwrap());
        }
        seen.lock().unwrap().push((version, headers));
        async { Ok::<_, Infallible>(Response::<Body>::new(full("answered"))) }
    });
    // The proxy may close at any time.
    let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
}

/// Sends `ask` to where a listener is; the IPv4 address of this machine where `by_ipv4`.
async fn send(ask: &Ask, via: Via, address: &BindAddress, by_ipv4: bool) -> Reply {
    match address {
        BindAddress::Unix(path) => ask.send_on(via, UnixStream::connect(path).await.unwrap()).await,
        BindAddress::Tcp(bound) => {
            let ip = match (bound.ip().is_unspecified(), by_ipv4) {
                (true, true) => "127.0.0.1".parse().unwrap(),
                (true, false) => "::1".parse().unwrap(),
                (false, _) => bound.ip(),
            };
            let stream = TcpStream::connect(SocketAddr::new(ip, bound.port())).await.unwrap();
            ask.send_on(via, stream).await
        }
    }
}

#[tokio::test]
async fn request_goes_from_every_kind_of_listener_to_every_kind_of_endpoint() {
    let folder = tempfile::tempdir().unwrap();
    let mut endpoints = Endpoints::new();
    let places =
        [Place::Tcp("127.0.0.1:0"), Place::Tcp("[::1]:0"), Place::Unix(folder.path().join("endpoint.sock"))];
    let mut upstreams = String::new();
    let mut routes = String::new();
    for (number, place) in places.iter().enumerate() {
        let name = endpoints.start(place.clone()).await;
        for protocol in ["http1", "http2"] {
            writeln!(upstreams, "  u{number}-{protocol}: {{ endpoints: ['{name}'], protocol: {protocol} }}")
                .unwrap();
            writeln!(routes, "  - {{ paths: [/{number}/{protocol}], upstream: u{number}-{protocol} }}")
                .unwrap();
        }
    }
    let unix = folder.path().join("listener.sock");
    let proxy = Proxy::start_whole(&format!(
        "workers: 2\nlisteners: [{{ bind: 127.0.0.1:0 }}, {{ bind: '[::1]:0' }}, {{ bind: '[::]:0' }}, {{ bind: 'unix:{}' \
         }}]\nupstreams:\n{upstreams}routes:\n{routes}",
        unix.display()
    ))
    .await;
    let bound = proxy.app.addresses();
    // Where a request comes in, and the client as an upstream is told of it.
    let ways = [
        (&bound[0], false, "127.0.0.1", "for=127.0.0.1"),
        (&bound[1], false, "::1", "for=\"[::1]\""),
        (&bound[2], false, "::1", "for=\"[::1]\""),
        (&bound[2], true, "127.0.0.1", "for=127.0.0.1"),
        (&bound[3], false, "127.0.0.1", "for=127.0.0.1"),
    ];
    for (listener, by_ipv4, client, element) in ways {
        for (number, place) in places.iter().enumerate() {
            for (protocol, version) in [("http1", Version::HTTP_11), ("http2", Version::HTTP_2)] {
                for via in BOTH {
                    let ask = Ask::get(&format!("/{number}/{protocol}"));
                    let row = format!("{via:?} by {listener} to {place:?} over {protocol}");
                    let answer = send(&ask, via, listener, by_ipv4).await;
                    assert_eq!((answer.outcome(), answer.body.as_str()), ("200".into(), "answered"), "{row}");
                    let (spoken, headers) = endpoints.last();
                    assert_eq!(spoken, version, "{row}");
                    assert_eq!(headers["host"], "shop.test", "{row}");
                    assert_eq!(headers["x-forwarded-for"], client, "{row}");
                    let forwarded = headers["forwarded"].to_str().unwrap();
                    assert_eq!(forwarded.split(';').next(), Some(element), "{row}: {forwarded}");
                }
            }
        }
    }
    for gauge in ["weir_upstream_failures_total", "weir_downstream_refused_total"] {
        assert_eq!(proxy.metric(gauge, &[]).await, 0.0, "{gauge}");
    }
}

#[tokio::test]
async fn client_of_a_listener_for_both_families_is_matched_by_its_own() {
    let arms = Arms::start(&["four", "six", "other"]).await;
    let proxy = Proxy::start_whole(&format!(
        "workers: 1\nlisteners: [{{ bind: '[::]:0', trust: ['::1', 127.0.0.1] }}]\n{}routes:\n  - {{ when: [{{ value: \
         client_ip, cidr: [127.0.0.0/8, 192.0.2.0/24] }}], upstream: four }}\n  - {{ when: [{{ value: client_ip, cidr: \
         ['::1', '2001:db8::/32'] }}], upstream: six }}\n  - {{ upstream: other }}\n",
        arms.yaml()
    ))
    .await;
    let address = &proxy.app.addresses()[0];
    let rows = [
        (true, None, "four"),
        (false, None, "six"),
        (true, Some("2001:db8::7"), "six"),
        (true, Some("[2001:db8::7]:4711"), "six"),
        (false, Some("::ffff:192.0.2.7"), "four"),
        (false, Some("2001:db9::7"), "other"),
    ];
    for (by_ipv4, forwarded, arm) in rows {
        for via in BOTH {
            let ask = Ask::get("/");
            let ask = forwarded.iter().fold(ask, |ask, client| ask.with("x-forwarded-for", client));
            let answer = send(&ask, via, address, by_ipv4).await;
            assert_eq!(answer.upstream(), arm, "{via:?} {by_ipv4} {forwarded:?}");
        }
    }
}

#[tokio::test]
async fn ipv6_address_is_a_host_like_any_other() {
    let arms = Arms::start(&["named", "any"]).await;
    let proxy = Proxy::start(&format!(
        "{}routes:\n  - {{ hosts: ['[2001:db8::1]'], upstream: named }}\n  - {{ hosts: ['[::1]'], redirect: {{ path: /there \
         }} }}\n  - {{ upstream: any }}\n",
        arms.yaml()
    ))
    .await;
    // The host; who answers; the host that is told.
    let rows = [
        ("[2001:db8::1]", "named"),
        ("[2001:db8::1]:8080", "named"),
        ("[2001:DB8::1]", "named"),
        ("[2001:db8:0::1]", "named"),
        ("[2001:db8::2]", "any"),
    ];
    for (host, arm) in rows {
        for via in BOTH {
            let answer = Ask::get("/").with("host", host).send(via, proxy.address).await;
            assert_eq!((answer.outcome(), answer.upstream()), ("200".into(), arm), "{via:?} {host}");
            let seen = arms.last(arm);
            assert_eq!(
                seen.header("x-forwarded-host").to_ascii_lowercase(),
                host.to_ascii_lowercase(),
                "{via:?}"
            );
            let forwarded = seen.header("forwarded").to_ascii_lowercase();
            let named = format!("host=\"{}\"", host.to_ascii_lowercase());
            assert!(forwarded.contains(&named), "{via:?} {forwarded}");
        }
    }
    for via in BOTH {
        let answer = Ask::get("/").with("host", "[::1]:8080").send(via, proxy.address).await;
        assert_eq!(answer.header("location"), "http://[::1]:8080/there", "{via:?}");
    }
    // A port may be empty (RFC 3986 §3.2.3); zones and future versions are no addresses that a host can have here.
    let rows = [
        ("[::1]:", 302),
        ("::1", 400),
        ("[::1", 400),
        ("[::1]x", 400),
        ("[::1]8080", 400),
        ("[fe80::1%25eth0]", 400),
        ("[v1.x]", 400),
        ("[127.0.0.1]", 400),
    ];
    for (host, expected) in rows {
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        assert_eq!(status(&exchange(proxy.address, request).await), expected, "{host}");
    }
}
