//! A proxy on Pingora with the job of `make bench-peers`, and nothing else.
//!
//! `peers-pingora PORT LOG NAME=PORT=PERCENT…`: the port to listen on, the access log or `-`, and the upstreams, the first
//! of which takes what the others leave.

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufWriter, Write};
use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use pingora::http::RequestHeader;
use pingora::prelude::*;
use pingora::server::configuration::ServerConf;

/// As weir has it: with the C library's, a body of 64 KiB costs this proxy twice the time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The header whose hash decides.
const USER: &str = "x-user-id";

/// Where lines of the access log wait; a thread writes them out every second.
type Log = Arc<Mutex<BufWriter<File>>>;

struct Variant {
    name: String,
    port: u16,
    /// Out of a hundred.
    percent: u64,
}

struct Split {
    variants: Vec<Variant>,
    log: Option<Log>,
}

/// What is known of a request under way.
struct Passing {
    variant: usize,
    since: Instant,
}

impl Split {
    fn variant(&self, user: &[u8]) -> usize {
        let mut hasher = DefaultHasher::new();
        user.hash(&mut hasher);
        let mut rest = hasher.finish() % 100;
        for (index, variant) in self.variants.iter().enumerate().skip(1) {
            if rest < variant.percent {
                return index;
            }
            rest -= variant.percent;
        }
        0
    }
}

#[async_trait]
impl ProxyHttp for Split {
    type CTX = Passing;

    fn new_ctx(&self) -> Passing {
        Passing { variant: 0, since: Instant::now() }
    }

    async fn upstream_peer(&self, session: &mut Session, passing: &mut Passing) -> Result<Box<HttpPeer>> {
        let user = session.req_header().headers.get(USER).map_or(&[][..], |value| value.as_bytes());
        passing.variant = self.variant(user);
        let port = self.variants[passing.variant].port;
        Ok(Box::new(HttpPeer::new((Ipv4Addr::LOCALHOST, port), false, String::new())))
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        passing: &mut Passing,
    ) -> Result<()> {
        if let Some(client) = session.client_addr().and_then(|address| address.as_inet()) {
            request.append_header("x-forwarded-for", client.ip().to_string())?;
        }
        request.insert_header("x-forwarded-proto", "http")?;
        if let Some(host) = request.headers.get("host").cloned() {
            request.insert_header("x-forwarded-host", host)?;
        }
        request.insert_header("x-request-id", format!("{:032x}", fastrand::u128(..)))?;
        request.insert_header("x-weir-variant", self.variants[passing.variant].name.as_str())?;
        Ok(())
    }

    async fn logging(&self, session: &mut Session, error: Option<&pingora::Error>, passing: &mut Passing) {
        let Some(log) = &self.log else { return };
        let head = session.req_header();
        let status = session.response_written().map_or(0, |response| response.status.as_u16());
        let client = session.client_addr().map(ToString::to_string).unwrap_or_default();
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        // A log that cannot be written shows in the number of its lines, which are counted.
        let _ = writeln!(
            log,
            "{client} \"{} {}\" {status} {} {} {}us {}",
            head.method,
            head.uri,
            session.body_bytes_sent(),
            self.variants[passing.variant].name,
            passing.since.elapsed().as_micros(),
            error.map(ToString::to_string).unwrap_or_default(),
        );
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match split(&arguments) {
        Some((port, split)) => serve(port, split),
        None => {
            eprintln!("peers-pingora PORT LOG NAME=PORT=PERCENT…; LOG is a new file, or - for none");
            ExitCode::FAILURE
        }
    }
}

fn split(arguments: &[String]) -> Option<(u16, Split)> {
    let [port, log, variants @ ..] = arguments else { return None };
    let variant = |text: &String| {
        let mut parts = text.split('=');
        let (name, port, percent) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Variant { name: name.to_owned(), port: port.parse().ok()?, percent: percent.parse().ok()? })
    };
    let variants = variants.iter().map(variant).collect::<Option<Vec<_>>>().filter(|all| !all.is_empty())?;
    let log = if log == "-" { None } else { Some(flushed(File::create(log).ok()?)) };
    Some((port.parse().ok()?, Split { variants, log }))
}

/// A log that is written out every second.
fn flushed(file: File) -> Log {
    let log = Arc::new(Mutex::new(BufWriter::with_capacity(64 * 1024, file)));
    let other = Arc::clone(&log);
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(Duration::from_secs(1));
            let _ = other.lock().unwrap_or_else(PoisonError::into_inner).flush();
        }
    });
    log
}

fn serve(port: u16, split: Split) -> ExitCode {
    let conf = ServerConf { threads: 1, upstream_keepalive_pool_size: 256, ..ServerConf::default() };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let mut service = http_proxy_service(&server.configuration, split);
    service.add_tcp(&format!("127.0.0.1:{port}"));
    server.add_service(service);
    server.run_forever()
}
