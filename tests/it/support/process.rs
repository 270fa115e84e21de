//! The real binary as a process of its own, for what must be seen from outside.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use tempfile::TempDir;

use super::{PATIENCE, until};

/// `weir run` on a configuration of its own. It is killed when dropped.
pub struct Process {
    /// The process.
    pub child: Child,
    /// Where the first listener listens.
    pub address: SocketAddr,
    /// The folder that holds the configuration, `weir.yaml`.
    pub folder: TempDir,
    log: Mutex<Receiver<String>>,
}

impl Process {
    /// Runs the binary on `text` and waits until its first listener listens.
    pub fn start(text: &str) -> Self {
        Self::start_in(text, &[])
    }

    /// The same with more environment variables.
    pub fn start_in(text: &str, environment: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.envs(environment.iter().copied());
        Self::start_by(command, |_| text.to_owned())
    }

    /// The same with at most `files` open files.
    pub fn start_with_files(text: &str, files: usize) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -n {files} && exec \"$0\" \"$@\"")]);
        command.arg(env!("CARGO_BIN_EXE_weir"));
        Self::start_by(command, |_| text.to_owned())
    }

    /// The same by a command that lacks only the words after `weir`, and on what `text` makes of the folder.
    pub fn start_by(mut command: Command, text: impl FnOnce(&Path) -> String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weir.yaml");
        std::fs::write(&path, text(folder.path())).unwrap();
        if !command.get_envs().any(|(name, _)| name == "WEIR_LOG") {
            command.env("WEIR_LOG", "info");
        }
        let mut child = command.args(["run", "--config"]).arg(&path).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (said, log) = channel();
        // Whoever does not read a pipe stops its writer.
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                // The test may be over.
                let _ = said.send(line);
            }
        });
        let address = loop {
            let line = log.recv_timeout(PATIENCE).expect("it says where it listens");
            if let Some((_, rest)) =
                line.split_once("listening").and_then(|(_, rest)| rest.split_once("address="))
            {
                // One by TCP: a Unix socket is where the test has put it.
                if let Ok(address) = rest.split_whitespace().next().unwrap().parse() {
                    break address;
                }
            }
        };
        Self { child, address, folder, log: Mutex::new(log) }
    }

    /// Sends the signal called `name`.
    pub fn signal(&self, name: &str) {
        let sent =
            Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for a line of the log that contains `text`.
    pub async fn says(&self, text: &str) -> String {
        until(text, || async {
            match self.log.lock().unwrap().recv_timeout(Duration::ZERO) {
                Ok(line) => line.contains(text).then_some(line),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => panic!("ended without saying {text:?}"),
            }
        })
        .await
    }

    /// Waits for the end; its exit code.
    pub async fn code(&mut self) -> Option<i32> {
        let child = Mutex::new(&mut self.child);
        until("it ends", || async { child.lock().unwrap().try_wait().unwrap() }).await.code()
    }

    /// What it has not been asked for of its log, to the end.
    pub async fn rest_of_log(&mut self) -> String {
        self.code().await;
        self.log.lock().unwrap().iter().collect::<Vec<_>>().join("\n")
    }

    /// The most memory it ever had, in bytes.
    pub fn peak(&self) -> u64 {
        memory_of(self.child.id(), "VmHWM:")
    }

    /// The time of processors that it has used, in hundredths of a second.
    pub fn ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let (_, rest) = stat.rsplit_once(") ").unwrap();
        rest.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
    }
}

/// What the kernel says of the memory of the process `id` under `key`, in bytes.
pub fn memory_of(id: u32, key: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
