//! A process and those that take its place: the binary stands in a folder of its own, so that a test may put another one
//! there.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use rustix::process::{
    Pid, Signal, WaitOptions, kill_process, set_child_subreaper, test_kill_process, waitpid,
};
use tempfile::TempDir;

use super::{PATIENCE, until};

/// `weir run`, upgraded now and then. The processes that have not ended are killed when it is dropped.
pub struct Lineage {
    /// Holds the binary `weir` and the configuration `weir.yaml`.
    pub folder: TempDir,
    log: Mutex<Receiver<String>>,
    /// In order, each with its exit code.
    processes: Mutex<Vec<(Pid, Option<i32>)>>,
}

impl Lineage {
    /// Runs the binary on `text` and waits until it serves.
    pub async fn start(text: &str) -> Self {
        Self::start_with(text, |_, _| {}).await
    }

    /// Runs the binary on `text` with what `prepare` does to the command in its folder; waits until it serves.
    pub async fn start_with(text: &str, prepare: impl FnOnce(&mut Command, &Path)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(folder.path().join("weir"));
        command.args(["run", "--config"]).arg(folder.path().join("weir.yaml"));
        prepare(&mut command, folder.path());
        Self::run(folder, text, command).await
    }

    /// Runs the binary on `text` with these sockets, as a service manager that calls them `names`.
    pub async fn activated(text: &str, sockets: [OwnedFd; 2], names: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // A shell can place descriptors, and knows the id that the process will have.
        let script = "exec 3<&0 4<&1 0</dev/null 1>&2; LISTEN_PID=$$ exec ./weir run";
        let [first, second] = sockets.map(Stdio::from);
        let mut command = Command::new("sh");
        command.args(["-c", script]).current_dir(folder.path()).stdin(first).stdout(second);
        command.env("LISTEN_FDS", "2").env("LISTEN_FDNAMES", names);
        Self::run(folder, text, command).await
    }

    #[expect(clippy::zombie_processes, reason = "waited for by its id, as those that take its place")]
    async fn run(folder: TempDir, text: &str, mut command: Command) -> Self {
        // Whoever loses its parent becomes ours: its exit code is told to us.
        set_child_subreaper(Some(rustix::process::getpid())).unwrap();
        let (said, log) = channel();
        let this = Self { folder, log: Mutex::new(log), processes: Mutex::default() };
        this.configure(text);
        this.install_weir();
        let mut child = command.env("WEIR_LOG", "info").stderr(Stdio::piped()).spawn().unwrap();
        this.processes.lock().unwrap().push((Pid::from_child(&child), None));
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        drop(command);
        // Whoever does not read a pipe stops its writer. All processes of the lineage have the same.
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                // The test may be over.
                let _ = said.send(line);
            }
        });
        this
    }

    /// Waits until the first listener listens; where.
    pub async fn address(&self) -> SocketAddr {
        let line = self.says("listening listener=").await;
        let address = line.split_once("address=").unwrap().1.split_whitespace().next().unwrap();
        address.parse().unwrap()
    }

    /// Replaces the configuration.
    pub fn configure(&self, text: &str) {
        let next = self.folder.path().join("next.yaml");
        fs::write(&next, text).unwrap();
        fs::rename(next, self.folder.path().join("weir.yaml")).unwrap();
    }

    /// Replaces the binary by a script of the shell.
    pub fn install_script(&self, script: &str) {
        let next = self.folder.path().join("next");
        // Not written by this process: a child of another test could have it open for writing still, and what is open
        // for writing cannot be run.
        let write = r#"printf '%s\n' '#!/bin/sh' "$1" > "$0" && chmod 755 "$0""#;
        let written = Command::new("sh").args(["-c", write]).arg(&next).arg(script).status().unwrap();
        assert!(written.success());
        self.install(&next);
    }

    /// Replaces the binary by the one under test, as a new file.
    pub fn install_weir(&self) {
        let next = self.folder.path().join("next");
        let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_weir")).arg(&next).status().unwrap();
        assert!(copied.success());
        self.install(&next);
    }

    fn install(&self, next: &Path) {
        fs::rename(next, self.folder.path().join("weir")).unwrap();
    }

    /// The id of the process that serves.
    pub fn pid(&self) -> u32 {
        let (pid, _) = *self.processes.lock().unwrap().last().unwrap();
        u32::try_from(pid.as_raw_nonzero().get()).unwrap()
    }

    /// Sends a signal to the process that serves.
    pub fn signal(&self, signal: Signal) {
        let (pid, _) = *self.processes.lock().unwrap().last().unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Puts a new process in the place of the one that serves; the id of the former one.
    pub async fn upgrade(&self) -> u32 {
        let former = self.pid();
        self.signal(Signal::USR2);
        self.succeeds().await;
        former
    }

    /// Waits until a new process has taken over.
    pub async fn succeeds(&self) {
        let line = self.says("upgrade finished").await;
        let pid = number(&line, "pid=");
        self.processes.lock().unwrap().push((Pid::from_raw(pid).unwrap(), None));
    }

    /// Waits for a line of the log that contains `text`.
    pub async fn says(&self, text: &str) -> String {
        until(text, || async {
            loop {
                match self.log.lock().unwrap().recv_timeout(Duration::ZERO) {
                    Ok(line) if line.contains(text) => return Some(line),
                    Ok(_) => {}
                    Err(RecvTimeoutError::Timeout) => return None,
                    Err(RecvTimeoutError::Disconnected) => panic!("ended without saying {text:?}"),
                }
            }
        })
        .await
    }

    /// Waits for the end of a process; its exit code.
    pub async fn code(&self, pid: u32) -> i32 {
        let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        let code = until("the process ends", || async { ended(pid) }).await;
        let mut processes = self.processes.lock().unwrap();
        processes.iter_mut().filter(|(known, _)| *known == pid).for_each(|(_, known)| *known = Some(code));
        code
    }
}

impl Drop for Lineage {
    fn drop(&mut self) {
        for (pid, code) in self.processes.lock().unwrap().iter() {
            if code.is_none() {
                // It may have ended by itself; it is ours until it was waited for.
                let _ = kill_process(*pid, Signal::KILL);
                let started = std::time::Instant::now();
                while ended(*pid).is_none() && started.elapsed() < PATIENCE {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        }
    }
}

/// The exit code of a process that has ended: -1 where a signal ended it.
fn ended(pid: Pid) -> Option<i32> {
    match waitpid(Some(pid), WaitOptions::NOHANG) {
        Ok(Some((_, status))) => Some(status.exit_status().unwrap_or(-1)),
        // Not ours yet: its parent, which it has replaced, still lives. Or it is gone.
        Err(_) if test_kill_process(pid).is_err() => Some(-1),
        Ok(None) | Err(_) => None,
    }
}

/// The number behind `key` in a line of the log.
pub fn number(line: &str, key: &str) -> i32 {
    let rest = line.split_once(key).unwrap_or_else(|| panic!("no {key} in {line:?}")).1;
    let end = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().unwrap()
}
