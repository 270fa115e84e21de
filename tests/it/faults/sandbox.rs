//! The proxy as a process with files or a network of its own, where the machine lets its users have that; and what it
//! tells of itself, whichever network it is in.

use std::path::Path;
use std::process::Command;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::support::process::Process;
use crate::support::proxy::value;

/// `weir` among files of its own, after the shell has done `script` there (`$0` is the program); the words after it are
/// missing. Nothing where this machine does not do that.
pub fn own_files(script: &str) -> Option<Command> {
    own("--mount", script)
}

/// The same in a network of its own.
pub fn own_network(script: &str) -> Option<Command> {
    own("--net", script)
}

fn own(what: &str, script: &str) -> Option<Command> {
    let script = format!("{script}\nexec \"$0\" \"$@\"");
    let running = |program: &str| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", what, "sh", "-e", "-c", &script, program]);
        command
    };
    // Some containers give nobody namespaces, and some kernels have no devices for them.
    let tried = running("true").output().unwrap();
    if !tried.status.success() {
        println!("skipped: {}", String::from_utf8_lossy(&tried.stderr).trim());
        return None;
    }
    let mut command = running(env!("CARGO_BIN_EXE_weir"));
    command.env("WEIR_LOG", "info");
    Some(command)
}

/// The line of a configuration that puts the pages where [`metric`] finds them.
pub fn pages(folder: &Path) -> String {
    format!("admin: {{ bind: 'unix:{}' }}\n", folder.join("admin.sock").display())
}

/// As `Proxy::metric`, of a process.
pub async fn metric(process: &Process, name: &str, labels: &[&str]) -> f64 {
    let mut stream = UnixStream::connect(process.folder.path().join("admin.sock")).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    value(&text, name, labels)
}
