//! nghttp2 as the client (`nghttp`, `h2load`) and as the endpoint (`nghttpd`), in the clear and over TLS. `make peers`
//! installs it.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::support::proxy::tcp;
use crate::support::tls::{Authority, Wanted};
use crate::support::upstream::nobody;
use crate::support::{Proxy, Upstream, until};

/// A process of nghttpd. It is killed when dropped.
struct Nghttpd {
    address: SocketAddr,
    child: Child,
}

impl Nghttpd {
    /// Serves the files of `folder`, echoes what is sent, and adds a trailer; over TLS where `keys` (the key and the
    /// certificate) are given.
    async fn start(folder: &Path, keys: &[&Path]) -> Self {
        let start = async || {
            let address = nobody();
            let mut command = Command::new("nghttpd");
            command
                .args(["--address=127.0.0.1", "--echo-upload", "--trailer=x-sum: 7", "--htdocs"])
                .arg(folder);
            if keys.is_empty() {
                command.arg("--no-tls");
            }
            command.arg(address.port().to_string()).args(keys).stdout(Stdio::null());
            let mut child =
                command.spawn().unwrap_or_else(|error| panic!("nghttpd does not run ({error}): {INSTALL}"));
            let is_ready = until("nghttpd listens, or ends because the port is taken", || {
                let has_ended = child.try_wait().unwrap().is_some();
                let listens = std::net::TcpStream::connect(address).is_ok();
                async move { (has_ended || listens).then_some(!has_ended) }
            })
            .await;
            is_ready.then_some(Self { address, child })
        };
        // Its port is chosen before it has it, so that somebody else may get it.
        until("nghttpd has a port", start).await
    }
}

impl Drop for Nghttpd {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const INSTALL: &str = "`make peers` installs it";

/// What `program` prints; its errors are shown where it fails.
fn run(program: &str, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{program} does not run ({error}): {INSTALL}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    output.stdout
}

/// A proxy, in the clear and over TLS, before endpoints that speak HTTP/1.1 (`/one`), HTTP/2 in the clear (`/plain`) and
/// what ALPN says (`/auto`).
struct Stage {
    proxy: Proxy,
    folder: TempDir,
    _one: Upstream,
    _endpoints: [Nghttpd; 2],
}

/// The paths that lead to nghttpd.
const ECHOES: [&str; 2] = ["/plain", "/auto"];

impl Stage {
    async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new("endpoints");
        let certificate = authority.issue(&Wanted::of(&["127.0.0.1"])).write(folder.path(), "leaf");
        std::fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
        std::fs::write(folder.path().join("small"), "small").unwrap();
        std::fs::write(folder.path().join("large"), large()).unwrap();
        let keys = [folder.path().join("leaf.key"), folder.path().join("leaf.pem")];
        let plain = Nghttpd::start(folder.path(), &[]).await;
        let auto = Nghttpd::start(folder.path(), &[&keys[0], &keys[1]]).await;
        let one = Upstream::named("one").await;
        let proxy = Proxy::start_whole(&format!(
            "workers: 2\nlisteners:\n  - {{ bind: 127.0.0.1:0 }}\n  - {{ bind: 127.0.0.1:0, tls: {{ certificates: \
             [{certificate}] }} }}\nupstreams:\n  one: {{ endpoints: ['{}'] }}\n  plain: {{ endpoints: ['{}'], protocol: \
             http2 }}\n  auto: {{ endpoints: ['https://{}'], protocol: auto, tls: {{ ca: '{}' }} }}\nroutes:\n  - {{ paths: \
             [/plain/*], upstream: plain, rewrite: {{ prefix: / }} }}\n  - {{ paths: [/auto/*], upstream: auto, rewrite: {{ \
             prefix: / }} }}\n  - {{ upstream: one }}\n",
            one.address,
            plain.address,
            auto.address,
            folder.path().join("ca.pem").display(),
        ))
        .await;
        Self { proxy, folder, _one: one, _endpoints: [plain, auto] }
    }

    /// Where the proxy listens, in the clear and over TLS.
    fn origins(&self) -> [String; 2] {
        let addresses = self.proxy.app.addresses();
        [format!("http://{}", tcp(&addresses[0])), format!("https://{}", tcp(&addresses[1]))]
    }
}

/// More than every window on the way.
fn large() -> Vec<u8> {
    (0_u32..1 << 20).flat_map(u32::to_be_bytes).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_streams_of_h2load_are_all_served() {
    let stage = Stage::open().await;
    for origin in stage.origins() {
        for path in ["/one", "/plain/small", "/auto/small"] {
            for arguments in [&["-m100"][..], &["-m1"], &["-m20", "-w10", "-W12"]] {
                let url = format!("{origin}{path}");
                let said = run("h2load", &[&["-n1000", "-c8"], arguments, &[&url]].concat());
                let said = String::from_utf8(said).unwrap();
                let served = "1000 done, 1000 succeeded, 0 failed, 0 errored, 0 timeout";
                assert!(
                    said.contains(served) && said.contains("codes: 1000 2xx"),
                    "{url} {arguments:?}: {said}"
                );
                assert!(said.contains("protocol: h2"), "{url}: {said}");
            }
        }
    }
    assert_eq!(stage.proxy.metric("weir_errors_total", &[]).await, 0.0);
    assert_eq!(stage.proxy.metric("weir_downstream_refused_total", &[]).await, 0.0);
    assert_eq!(stage.proxy.metric("weir_downstream_malformed_total", &[]).await, 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_files_and_trailers_pass_both_ways_between_nghttp_and_nghttpd() {
    let stage = Stage::open().await;
    let file = stage.folder.path().join("large");
    let file = file.to_str().unwrap();
    for origin in stage.origins() {
        for path in ECHOES {
            let url = format!("{origin}{path}/large");
            assert!(run("nghttp", &[&url]) == large(), "{url}: it comes as it is");
            let sent = run("nghttp", &["--data", file, "--trailer=x-end: 1", &url]);
            assert!(sent == large(), "{url}: it goes as it is");
            let said = String::from_utf8(run("nghttp", &["-nv", "--data", file, &url])).unwrap();
            for told in [":status: 200", "via: 2 weir", "x-sum: 7"] {
                assert!(said.contains(told), "{url}: {told}");
            }
            assert!(!said.contains("RST_STREAM"), "{url}");
        }
    }
    assert_eq!(stage.proxy.metric("weir_errors_total", &[]).await, 0.0);
}
