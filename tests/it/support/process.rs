//! The real binary as a process of its own, for what must be seen from outside.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// `weir run` on a configuration of its own. It is killed when dropped.
pub struct Process {
    child: Child,
    /// Where the first listener listens.
    pub address: SocketAddr,
    _folder: TempDir,
}

impl Process {
    /// Runs the binary on `text`, which has one listener, and waits until it listens.
    pub fn start(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weir.yaml");
        std::fs::write(&path, text).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(["run", "--config"])
            .arg(&path)
            .env("WEIR_LOG", "info")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut told = String::new();
        let address = loop {
            let line = lines.next().unwrap_or_else(|| panic!("it ended: {told}")).unwrap();
            if let Some((_, rest)) =
                line.split_once("listening").and_then(|(_, rest)| rest.split_once("address="))
            {
                break rest.split_whitespace().next().unwrap().parse().unwrap();
            }
            told.push_str(&line);
        };
        // Whoever does not read a pipe stops its writer.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address, _folder: folder }
    }

    /// The most memory it ever had, in bytes.
    pub fn peak(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
