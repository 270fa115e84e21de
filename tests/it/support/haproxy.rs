//! HAProxy as a peer. `make peers` installs it.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// A process of HAProxy. It is killed when dropped.
pub struct Haproxy {
    /// Where it listens.
    pub address: SocketAddr,
    child: Child,
    _folder: TempDir,
}

impl Haproxy {
    /// Runs it on `address` with these sections, in which `LISTEN` stands for the address of a `bind`. Who connects before
    /// it is ready waits.
    pub fn start(address: &str, sections: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("haproxy.cfg");
        let defaults = "global\n    nbthread 1\ndefaults\n    timeout connect 10s\n    timeout client 60s\n    \
                        timeout server 60s\n";
        // The socket is its standard input: so the port is the kernel's choice, and nobody can take it meanwhile.
        std::fs::write(&path, format!("{defaults}{}", sections.replace("LISTEN", "fd@0"))).unwrap();
        let listener = TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let child = Command::new(program())
            .args(["-db", "-f"])
            .arg(&path)
            .stdin(Stdio::from(OwnedFd::from(listener)))
            .spawn()
            .unwrap_or_else(|error| panic!("haproxy does not run ({error}): `make peers` installs it"));
        Self { address, child, _folder: folder }
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// It is installed where not everybody looks.
fn program() -> &'static str {
    if Path::new("/usr/sbin/haproxy").exists() { "/usr/sbin/haproxy" } else { "haproxy" }
}
