//! Processes that end with this one, whichever way it ends.

use std::process::Stdio;
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader, Lines};
use tokio::process::{Child, Command};

/// A process; it is killed when dropped, and by the kernel when this one is no more.
pub struct Process {
    /// The program.
    pub name: String,
    child: Child,
    /// What it said of trouble, with how often; at most as many kinds as anybody would read.
    pub trouble: Arc<Mutex<Vec<(String, usize)>>>,
}

const KINDS: usize = 100;

impl Process {
    /// Starts `program`; gives what it says first that `read` makes something of.
    pub async fn start<T>(
        program: &str,
        arguments: &[&str],
        mut read: impl FnMut(&str) -> Option<T>,
    ) -> (Self, T) {
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", program])
            .args(arguments)
            .env("WEIR_LOG", "info")
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let trouble = Arc::new(Mutex::new(Vec::new()));
        let told = loop {
            let line = lines.next_line().await.unwrap().unwrap_or_else(|| panic!("{program} ended"));
            if let Some(told) = read(&line) {
                break told;
            }
            note(&trouble, &line);
        };
        tokio::spawn(listen(lines, Arc::clone(&trouble)));
        (Self { name: program.to_owned(), child, trouble }, told)
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.child.id().expect("it was not waited for")
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let id = Pid::from_raw(self.id().cast_signed()).unwrap();
        kill_process(id, signal).unwrap();
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for its end; its exit code.
    pub async fn code(&mut self) -> Option<i32> {
        self.child.wait().await.unwrap().code()
    }

    /// Kills it and waits for its end.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}

async fn listen(
    mut lines: Lines<BufReader<impl AsyncRead + Unpin>>,
    trouble: Arc<Mutex<Vec<(String, usize)>>>,
) {
    while let Ok(Some(line)) = lines.next_line().await {
        note(&trouble, &line);
    }
}

/// Keeps what a person would have to act upon, without its time and its fields; and what took the long way.
fn note(trouble: &Mutex<Vec<(String, usize)>>, line: &str) {
    let line = if line.contains("found=Poll") { "WARN changes found by polling alone" } else { line };
    let Some(at) = ["ERROR", "WARN", "panicked"].iter().filter_map(|word| line.find(word)).min() else {
        return;
    };
    let words: Vec<&str> = line[at..].split_whitespace().take_while(|word| !word.contains('=')).collect();
    let kind = words.join(" ");
    let mut trouble = trouble.lock().unwrap();
    if let Some((_, count)) = trouble.iter_mut().find(|(known, _)| *known == kind) {
        *count += 1;
    } else if trouble.len() < KINDS {
        trouble.push((kind, 1));
    }
}
