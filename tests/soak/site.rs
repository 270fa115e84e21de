//! The processes, and the configuration that they run on.

use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustix::process::Signal;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::process::Process;

/// How long the proxy may take to end when everybody has gone.
const END: Duration = Duration::from_secs(15);

/// The proxy and its endpoints.
pub struct Site {
    /// The proxy.
    pub weir: Process,
    /// Where it speaks in the clear.
    pub plain: SocketAddr,
    /// Where it speaks TLS.
    pub secure: SocketAddr,
    /// Those that live as long as the site.
    pub steady: [Endpoint; 3],
    /// Those that come and go: one of two, and one that is alone.
    pub flapping: [Endpoint; 2],
    roots: RootCertStore,
    folder: TempDir,
}

/// An endpoint.
pub struct Endpoint {
    address: SocketAddr,
    process: Option<Process>,
}

impl Endpoint {
    async fn start() -> Self {
        // An address that nobody else uses: its port is still free when the process is started again.
        let ip = Ipv4Addr::new(127, fastrand::u8(1..255), fastrand::u8(..), fastrand::u8(1..255));
        let mut endpoint = Self { address: (ip, 0).into(), process: None };
        endpoint.run().await;
        endpoint
    }

    /// Starts the process where it does not run.
    pub async fn run(&mut self) {
        if self.process.is_none() {
            let program = std::env::current_exe().unwrap().display().to_string();
            let arguments = ["endpoint", &self.address.to_string()];
            let listening = |line: &str| line.strip_prefix("listening ")?.parse().ok();
            let (process, address) = Process::start(&program, &arguments, listening).await;
            self.address = address;
            self.process = Some(process);
        }
    }

    /// Kills the process; it may run again.
    pub async fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill().await;
        }
    }

    /// Sends the process a signal.
    pub fn signal(&self, signal: Signal) {
        if let Some(process) = &self.process {
            process.signal(signal);
        }
    }
}

impl Site {
    /// Starts all of it.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["shop.test".to_owned()]).unwrap();
        std::fs::write(folder.path().join("shop.pem"), cert.pem()).unwrap();
        std::fs::write(folder.path().join("shop.key"), signing_key.serialize_pem()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(cert.der().to_vec())).unwrap();
        let steady = [Endpoint::start().await, Endpoint::start().await, Endpoint::start().await];
        let flapping = [Endpoint::start().await, Endpoint::start().await];
        let path = folder.path().join("weir.yaml");
        std::fs::write(&path, configuration(&folder, &steady, &flapping, 0)).unwrap();
        let program = std::env::var("WEIR").unwrap_or_else(|_| env!("CARGO_BIN_EXE_weir").to_owned());
        let mut listening = Vec::new();
        let both = |line: &str| {
            let (_, rest) = line.split_once("listening")?.1.split_once("address=")?;
            listening.extend(rest.split_whitespace().next()?.parse::<SocketAddr>());
            <[SocketAddr; 2]>::try_from(listening.as_slice()).ok()
        };
        let arguments = ["run", "--config", path.to_str().unwrap()];
        let (weir, [plain, secure]) = Process::start(&program, &arguments, both).await;
        Self { weir, plain, secure, steady, flapping, roots, folder }
    }

    /// Writes the configuration number `round`, as a tool does it.
    pub fn configure(&self, round: usize) {
        let next = self.folder.path().join("next");
        std::fs::write(&next, configuration(&self.folder, &self.steady, &self.flapping, round)).unwrap();
        std::fs::rename(&next, self.folder.path().join("weir.yaml")).unwrap();
    }

    /// Begins a new access log, as a tool does it.
    pub fn rotate(&self) {
        let log = self.folder.path().join("access.log");
        std::fs::rename(&log, log.with_extension("old")).unwrap();
        self.weir.signal(Signal::HUP);
    }

    /// What speaks TLS to the proxy, by this protocol alone.
    pub fn client(&self, protocol: &str) -> Arc<ClientConfig> {
        let mut config =
            ClientConfig::builder().with_root_certificates(self.roots.clone()).with_no_client_auth();
        config.alpn_protocols = vec![protocol.into()];
        Arc::new(config)
    }

    /// The metrics as text; nothing where they do not come.
    pub async fn metrics(&self) -> Option<String> {
        let asking = async {
            let mut stream = UnixStream::connect(self.admin()).await.ok()?;
            let request = b"GET /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
            stream.write_all(request).await.ok()?;
            let mut text = String::new();
            stream.read_to_string(&mut text).await.ok()?;
            Some(text)
        };
        timeout(Duration::from_secs(10), asking).await.ok()?
    }

    fn admin(&self) -> PathBuf {
        self.folder.path().join("admin.sock")
    }

    /// Ends the proxy in good order; what was not.
    pub async fn end(mut self) -> Vec<String> {
        let mut wrong = Vec::new();
        if self.weir.has_ended() {
            wrong.push("the proxy has ended by itself".to_owned());
        } else {
            self.weir.signal(Signal::TERM);
            match timeout(END, self.weir.code()).await {
                Ok(Some(0)) => {}
                Ok(code) => wrong.push(format!("the proxy ended with {code:?}")),
                Err(_) => wrong.push(format!("the proxy did not end within {END:?}")),
            }
        }
        for (kind, count) in self.weir.trouble.lock().unwrap().iter() {
            println!("soak: the log says {count} times: {kind}");
            if !kind.starts_with("WARN") {
                wrong.push(format!("the log says {count} times: {kind}"));
            }
        }
        wrong
    }
}

/// The configuration number `round`: weights differ from round to round, an endpoint is there in every second one, a route
/// in every third. Number 0 is that of the beginning and of the end.
fn configuration(folder: &TempDir, steady: &[Endpoint], flapping: &[Endpoint], round: usize) -> String {
    let at = folder.path().display();
    let [one, two, spare] = [&steady[0].address, &steady[1].address, &steady[2].address];
    let [of_two, alone] = [&flapping[0].address, &flapping[1].address];
    let also = if round % 2 == 1 { format!(", '{spare}'") } else { String::new() };
    let weight = 20 + round % 30;
    let timeouts = "timeouts: { response: 10s, idle: 2s }";
    let mut text = String::new();
    write!(
        text,
        "workers: 2
listeners:
  - {{ bind: 127.0.0.1:0, trust: [127.0.0.1] }}
  - {{ bind: 127.0.0.1:0, trust: [127.0.0.1], http3: {}, tls: {{ certificates: [{{ cert: shop.pem, key: shop.key }}] }} }}
admin: {{ bind: 'unix:{at}/admin.sock' }}
access_log: {{ path: access.log }}
upstreams:
  steady: {{ endpoints: ['{one}'{also}], {timeouts} }}
  calls: {{ endpoints: ['{one}', '{two}'], protocol: http2, {timeouts} }}
  blue: {{ endpoints: ['{of_two}', '{two}'{also}], {timeouts} }}
  canary: {{ endpoints: ['{alone}'], {timeouts} }}
splits:
  shop:
    key: [header:x-user]
    variants: [{{ name: blue }}, {{ name: canary, weight: {weight}%, on_unavailable: baseline }}]
routes:
  - {{ paths: [/steady/*], upstream: steady }}
  - {{ paths: [/calls/*], upstream: calls }}
  - {{ paths: [/shop/*], split: shop }}
",
        cfg!(feature = "http3")
    )
    .unwrap();
    if round % 3 == 2 {
        text += "  - { paths: [/now-and-then], respond: { body: now } }\n";
    }
    text
}
