//! `weir demo` as a process, edited while it runs.

use std::path::Path;
use std::process::{Output, Stdio};

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use crate::support::PATIENCE;

/// A demo that runs with its file in a folder of its own.
struct Demo {
    folder: TempDir,
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
    /// What it said so far.
    said: String,
}

fn command(config: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.arg("demo").arg("--plain").arg("--config").arg(config).args(more).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

impl Demo {
    async fn start(more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut process = command(&folder.path().join("weir-demo.yaml"), more).spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { folder, process, lines, said: String::new() }
    }

    /// Reads until it says `word`, and returns that line.
    async fn says(&mut self, word: &str) -> String {
        loop {
            let next = timeout(PATIENCE, self.lines.next_line()).await;
            let line = next.unwrap_or_else(|_| panic!("it never said {word:?}:\n{}", self.said)).unwrap();
            let line = line.unwrap_or_else(|| panic!("it ended before it said {word:?}:\n{}", self.said));
            self.said.push_str(&line);
            self.said.push('\n');
            if line.contains(word) {
                return line;
            }
        }
    }

    /// Replaces `old` by `new` in its file, as an editor does.
    fn edit(&self, old: &str, new: &str) {
        let path = self.folder.path().join("weir-demo.yaml");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(old), "{old:?} is not in\n{text}");
        let next = self.folder.path().join("next");
        std::fs::write(&next, text.replace(old, new)).unwrap();
        std::fs::rename(next, path).unwrap();
    }

    /// Waits for its end: the exit code, and all that it said.
    async fn ended(&mut self) -> (i32, String) {
        while let Some(line) = timeout(PATIENCE, self.lines.next_line()).await.unwrap().unwrap() {
            self.said.push_str(&line);
            self.said.push('\n');
        }
        let mut complaints = String::new();
        self.process.stderr.take().unwrap().read_to_string(&mut complaints).await.unwrap();
        let status = timeout(PATIENCE, self.process.wait()).await.unwrap().unwrap();
        (status.code().unwrap_or(-1), format!("{}{complaints}", self.said))
    }
}

/// The numbers in `line`, in order.
fn numbers(line: &str) -> Vec<u64> {
    line.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
}

#[tokio::test]
async fn edit_moves_exactly_the_users_that_it_must_and_loses_no_request() {
    let mut demo = Demo::start(&["--for", "6s", "--rate", "200", "--users", "200"]).await;
    demo.says("req/s").await;
    demo.edit("canary, weight: 1%", "canary, weight: 5%");
    let applied = demo.says("reload applied").await;
    let [generation, moved, users, least, flow] = numbers(&applied)[..] else { panic!("{applied}") };
    assert_eq!((generation, users), (2, 200), "{applied}");
    assert!(moved > 0 && moved == least && moved == flow, "{applied}");
    assert!(applied.ends_with(&format!("blue → canary {moved}")), "{applied}");

    demo.edit("canary, weight: 5%", "canary, weight: 500%");
    let refused = demo.says("reload refused").await;
    assert!(refused.contains("weir-demo.yaml:") && refused.contains("generation 2 serves on"), "{refused}");
    let place = refused.split_once("weir-demo.yaml:").map(|(_, place)| numbers(place)).unwrap();
    assert!(place[0] > 1 && place[1] > 1, "line and column: {refused}");

    let (code, said) = demo.ended().await;
    assert_eq!(code, 0, "{said}");
    assert!(said.contains(", failed 0\n"), "no request was lost or repeated: {said}");
    assert!(said.contains("reloads: 1 applied, 1 refused"), "{said}");
    assert!(said.contains("answers from another variant than computed: 0"), "{said}");
    let traffic = said.lines().find(|line| line.contains("in the traffic:")).expect("it sums up");
    let [again, moved, due, others] = numbers(traffic)[..] else { panic!("{traffic}") };
    assert!(again > 0 && moved == due && others == 0, "{traffic}");
}

#[tokio::test]
async fn file_of_an_earlier_run_is_taken_as_it_is_and_a_signal_ends_in_order() {
    let demo = &mut Demo::start(&["--rate", "50", "--users", "50"]).await;
    demo.says("req/s").await;
    demo.edit("green, weight: 9%", "green, weight: 30%");
    demo.says("reload applied").await;
    let path = demo.folder.path().join("weir-demo.yaml");
    let edited = std::fs::read_to_string(&path).unwrap();
    let id = demo.process.id().and_then(|id| rustix::process::Pid::from_raw(id.cast_signed())).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    // The summary comes before the end.
    demo.says("summary:").await;
    let (code, said) = demo.ended().await;
    assert_eq!(code, 0, "{said}");

    let again = command(&path, &["--for", "1500ms", "--rate", "50", "--users", "50"]).output();
    let Output { status, stdout, stderr } = timeout(PATIENCE, again).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&stdout);
    assert_eq!(status.code(), Some(0), "{said}{}", String::from_utf8_lossy(&stderr));
    assert!(said.contains("| green 30% observed"), "{said}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), edited, "the file is a person's");
}

#[tokio::test]
async fn start_that_cannot_be_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    let (bad, absent) = (folder.path().join("bad.yaml"), folder.path().join("absent/weir-demo.yaml"));
    std::fs::write(&bad, "listeners: [{ bind: 127.0.0.1:0 }]\nroutes: [{ split: nobody }]\n").unwrap();
    let none: &[&str] = &[];
    let rows = [
        (&bad, none, 2, "bad.yaml:2:"),
        (&absent, none, 1, "cannot be written"),
        (&absent, &["--rate", "0"], 64, "--rate"),
        (&absent, &["--users", "0"], 64, "--users"),
        (&absent, &["--for", "10"], 64, "the unit is missing"),
    ];
    for (path, more, code, told) in rows {
        let output = timeout(PATIENCE, command(path, more).output()).await.unwrap().unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{complaint}");
        assert!(complaint.contains(told), "{told:?} is not in {complaint}");
    }
}
