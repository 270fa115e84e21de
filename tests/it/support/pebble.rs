//! Pebble, the test server of those who wrote ACME, with a DNS in which every name leads here. `make peers` installs it.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tempfile::TempDir;
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::tls::{Authority, Client, VERSIONS, Wanted};
use super::until;

/// Where an authority is asked: a port that is there before the authority is, so that both can know each other, and that
/// can be as if it were not.
pub struct Way {
    /// The port.
    pub address: SocketAddr,
    /// Who issued the certificate of the directory.
    pub authority: Authority,
    /// The folder with the certificate of the directory, `pebble.pem`, its key and `ca.pem`.
    pub folder: TempDir,
    leads: watch::Sender<Leads>,
    asked: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

/// Where a way leads.
#[derive(Clone, Copy, PartialEq)]
pub enum Leads {
    /// Who comes waits.
    NotYet,
    /// Who comes is sent away.
    Nowhere,
    /// To an authority.
    To(SocketAddr),
}

impl Way {
    /// One that leads nowhere yet.
    pub async fn new() -> Self {
        let authority = Authority::new("directories");
        let folder = tempfile::tempdir().unwrap();
        authority.issue(&Wanted::of(&["localhost", "127.0.0.1"])).write(folder.path(), "pebble");
        std::fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (leads, way) = watch::channel(Leads::NotYet);
        let asked = Arc::<AtomicUsize>::default();
        let counter = Arc::clone(&asked);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut open = JoinSet::new();
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                counter.fetch_add(1, Ordering::Relaxed);
                let mut way = way.clone();
                open.spawn(async move {
                    let Ok(to) = way.wait_for(|leads| *leads != Leads::NotYet).await.map(|leads| *leads)
                    else {
                        return;
                    };
                    let Leads::To(address) = to else { return };
                    let Ok(mut server) = TcpStream::connect(address).await else { return };
                    // Either may end as it wants.
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        Self { address, authority, folder, leads, asked, _tasks: tasks }
    }

    /// The keys of `acme` that lead here.
    pub fn keys(&self) -> String {
        let ca = self.folder.path().join("ca.pem");
        format!(
            "directory: 'https://localhost:{}/dir', directory_ca: '{}'",
            self.address.port(),
            ca.display()
        )
    }

    /// From now on it leads there.
    pub fn set(&self, leads: Leads) {
        self.leads.send_replace(leads);
    }

    /// How often somebody came.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

/// A process of Pebble. It is killed when dropped.
pub struct Pebble {
    management: SocketAddr,
    child: Child,
    _dns: JoinSet<()>,
}

impl Pebble {
    /// Runs it for `way`, which leads to it from now on: it asks for pages at the port `http` and for certificates at
    /// `tls`. `more` are further keys of its configuration.
    pub async fn start(way: &Way, http: u16, tls: u16, more: &str) -> Self {
        let (dns, tasks) = dns().await;
        for _ in 0..20 {
            // It takes no socket and tells no port: one that is free now is free in a moment, most times.
            let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let (address, management) = (free(), free());
            if let Some(child) = run(way, address, management, (http, tls), dns, more).await {
                way.set(Leads::To(address));
                return Self { management, child, _dns: tasks };
            }
        }
        panic!("pebble finds no free port");
    }

    /// Whom clients believe that trust it.
    pub async fn roots(&self, way: &Way) -> RootCertStore {
        let answer =
            Client::new(&way.authority, &VERSIONS).get(self.management, "localhost", "/roots/0").await;
        let (_, pem) = answer.split_once("\r\n\r\n").unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
        roots
    }
}

async fn run(
    way: &Way,
    address: SocketAddr,
    management: SocketAddr,
    (http, tls): (u16, u16),
    dns: SocketAddr,
    more: &str,
) -> Option<Child> {
    let folder = way.folder.path();
    let path = |name: &str| -> PathBuf { folder.join(name) };
    let config = format!(
        r#"{{"pebble": {{"listenAddress": "{address}", "managementListenAddress": "{management}",
        "certificate": "{}", "privateKey": "{}", "httpPort": {http}, "tlsPort": {tls}, "ocspResponderURL": "",
        "externalAccountBindingRequired": false{more}}}}}"#,
        path("pebble.pem").display(),
        path("pebble.key").display(),
    );
    std::fs::write(path("pebble.json"), config).unwrap();
    let log = std::fs::File::create(path("pebble.log")).unwrap();
    let child = Command::new("pebble")
        .args(["-strict", "-dnsserver", &dns.to_string(), "-config"])
        .arg(path("pebble.json"))
        .envs([("PEBBLE_VA_NOSLEEP", "1"), ("PEBBLE_AUTHZREUSE", "0"), ("PEBBLE_WFE_NONCEREJECT", "1")])
        .stdin(Stdio::null())
        .stdout(Stdio::from(log.try_clone().unwrap()))
        .stderr(Stdio::from(log))
        .spawn()
        .unwrap_or_else(|error| panic!("pebble does not run ({error}): `make peers` installs it"));
    let child = Mutex::new(child);
    let listens = until("pebble listens or has ended", || async {
        if child.lock().unwrap().try_wait().unwrap().is_some() {
            return Some(false);
        }
        for address in [address, management] {
            TcpStream::connect(address).await.ok()?;
        }
        Some(true)
    })
    .await;
    listens.then(|| child.into_inner().unwrap())
}

impl Drop for Pebble {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A DNS server in which every name leads to 127.0.0.1, and has nothing else.
async fn dns() -> (SocketAddr, JoinSet<()>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut buffer = [0; 1500];
        loop {
            let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
            // Who asked may be gone.
            let _ = socket.send_to(&answer(&buffer[..length]), from).await;
        }
    });
    (address, tasks)
}

/// The answer to a DNS query with one question (RFC 1035 §4.1).
fn answer(query: &[u8]) -> Vec<u8> {
    let name = query[12..].iter().position(|length| *length == 0).unwrap();
    let question = &query[12..12 + name + 5];
    let is_a = question[name + 1..name + 3] == [0, 1];
    let mut answer = query[..2].to_vec();
    answer.extend([0x81, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0]);
    answer.extend(question);
    if is_a {
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        answer.extend(Ipv4Addr::LOCALHOST.octets());
    }
    answer
}
