//! A new process in the place of a running one: nobody notices, or nothing happens.

mod load;
mod queues;
mod refusals;
mod service;

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::support::ask::Ask;
use crate::support::lineage::Lineage;
use crate::support::load::Plain;
use crate::support::raw::{Client, status};
use crate::support::{Upstream, Via, until};

/// A configuration before `upstream`, with `rest`.
fn before(upstream: impl std::fmt::Display, workers: usize, rest: &str) -> String {
    format!(
        "workers: {workers}\nlisteners: [{{ bind: 127.0.0.1:0 }}]\nshutdown_timeout: 20s\n{rest}\
         upstreams: {{ one: {{ endpoints: ['{upstream}'] }} }}\nroutes: [{{ upstream: one }}]\n"
    )
}

#[tokio::test]
async fn number_of_workers_changes_and_the_port_stays() {
    let upstream = Plain::named("one").await;
    let text = |workers| before(upstream.address, workers, "");
    let lineage = Lineage::start(&text(4)).await;
    let address = lineage.address().await;
    for workers in [1, 3, 3, 2] {
        lineage.configure(&text(workers));
        let former = lineage.upgrade().await;
        assert_eq!(lineage.code(former).await, 0);
        for _ in 0..40 {
            assert_eq!(Ask::get("/").send(Via::Http1, address).await.status, 200, "{workers} workers");
        }
    }
    lineage.signal(Signal::TERM);
    assert_eq!(lineage.code(lineage.pid()).await, 0);
}

#[tokio::test]
async fn request_in_flight_ends_in_the_former_process_and_the_next_one_comes_to_the_new() {
    let (upstream, open) = Upstream::gated().await;
    let lineage = Lineage::start(&before(upstream.address, 2, "")).await;
    let address = lineage.address().await;
    let mut client = Client::connect(address).await;
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    until("the request is on its way", || async { (upstream.count() == 1).then_some(()) }).await;
    let former = lineage.upgrade().await;
    open.send_replace(true);
    let answer = client.read_to_end().await;
    assert_eq!(status(&answer), 200, "{answer}");
    assert!(answer.contains("connection: close") && answer.ends_with("at last"), "{answer}");
    assert_eq!(lineage.code(former).await, 0);
    assert_eq!(Ask::get("/").send(Via::Http1, address).await.status, 200);
}

#[tokio::test]
async fn unix_socket_stays_at_its_path_and_goes_with_the_last_process() {
    let upstream = Plain::named("one").await;
    let folder = tempfile::tempdir().unwrap();
    let (kept, dropped) = (folder.path().join("kept.sock"), folder.path().join("dropped.sock"));
    let text = |more: &str| {
        before(upstream.address, 2, "")
            .replace("[{ bind", &format!("[{{ name: kept, bind: 'unix:{}' }}{more}, {{ bind", kept.display()))
    };
    let lineage = Lineage::start(&text(&format!(", {{ bind: 'unix:{}' }}", dropped.display()))).await;
    lineage.says("serving").await;
    let ask = || async {
        let mut stream = UnixStream::connect(&kept).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert_eq!(status(&answer), 200, "{answer}");
    };
    ask().await;
    assert!(dropped.exists());
    // The new process is started with another file: the former one does not know.
    lineage.install_script(
        &format!(
            "sed -i 's|, {{ bind: .unix:{}. }}||' weir.yaml; exec {} \"$@\"",
            dropped.display(),
            env!("CARGO_BIN_EXE_weir"),
        )
        .replace("weir.yaml", &lineage.folder.path().join("weir.yaml").display().to_string()),
    );
    let former = lineage.upgrade().await;
    ask().await;
    assert_eq!(lineage.code(former).await, 0);
    ask().await;
    until("the other file is gone", || async { (!dropped.exists()).then_some(()) }).await;
    lineage.install_weir();
    let former = lineage.upgrade().await;
    assert_eq!(lineage.code(former).await, 0);
    ask().await;
    lineage.signal(Signal::TERM);
    assert_eq!(lineage.code(lineage.pid()).await, 0);
    assert!(!kept.exists(), "nobody listens there any more");
}

#[tokio::test]
async fn pages_in_the_place_of_a_listener_are_for_the_user_alone() {
    let upstream = Plain::named("one").await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weir.sock");
    let further = format!(", {{ bind: 'unix:{}' }}]", path.display());
    let lineage =
        Lineage::start(&before(upstream.address, 1, "").replacen("}]", &format!("}}{further}"), 1)).await;
    lineage.says("serving").await;
    let rights = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_ne!(rights(), 0o600, "others may use a listener");
    // The running process refuses it, for it listens there itself.
    lineage.configure(&before(
        upstream.address,
        1,
        &format!("admin: {{ bind: 'unix:{}' }}\n", path.display()),
    ));
    let former = lineage.upgrade().await;
    assert_eq!(lineage.code(former).await, 0);
    assert_eq!(rights(), 0o600);
    lineage.signal(Signal::TERM);
    assert_eq!(lineage.code(lineage.pid()).await, 0);
}

#[tokio::test]
async fn pages_answer_all_the_time_and_tell_the_new_process() {
    let upstream = Plain::named("one").await;
    let folder = tempfile::tempdir().unwrap();
    let pages = "admin: { bind: 127.0.0.1:0 }\ntelemetry: { bind: 127.0.0.1:0 }\n";
    let socket = folder.path().join("weir.pid");
    let lineage = Lineage::start_with(&before(upstream.address, 1, pages), |command, _| {
        command.arg("--pid-file").arg(&socket);
    })
    .await;
    let line = lineage.says("pages=Admin").await;
    let admin = line.split_once("address=").unwrap().1.trim().parse().unwrap();
    lineage.says("serving").await;
    let pid = || async {
        let reply = Ask::get("/status").with("host", "localhost").send(Via::Http1, admin).await;
        assert_eq!(reply.status, 200);
        let status: serde_json::Value = serde_json::from_str(&reply.body).unwrap();
        assert!(status["started"].as_str().unwrap().ends_with('Z'), "{status}");
        u32::try_from(status["pid"].as_u64().unwrap()).unwrap()
    };
    assert_eq!(pid().await, lineage.pid());
    for _ in 0..3 {
        let former = lineage.upgrade().await;
        until("the new process tells of itself", || async { (pid().await == lineage.pid()).then_some(()) })
            .await;
        until("the new process has written its id", || async {
            (std::fs::read_to_string(&socket).unwrap().trim() == lineage.pid().to_string()).then_some(())
        })
        .await;
        assert_eq!(lineage.code(former).await, 0);
        assert_eq!(pid().await, lineage.pid());
    }
    lineage.signal(Signal::TERM);
    assert_eq!(lineage.code(lineage.pid()).await, 0);
    assert!(!socket.exists(), "the id of nobody");
}

#[tokio::test]
async fn command_tells_what_came_of_it() {
    let upstream = Plain::named("one").await;
    let file = tempfile::tempdir().unwrap().path().join("weir.pid");
    let lineage = Lineage::start(&before(upstream.address, 1, "")).await;
    lineage.says("serving").await;
    let command = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_weir")).arg("upgrade").args(args).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        (output.status.code().unwrap(), said)
    };
    let former = lineage.pid().to_string();
    let (code, said) = command(&["--pid", &former]);
    lineage.succeeds().await;
    let expected =
        format!("upgraded: process {} serves, process {former} finishes what is in flight\n", lineage.pid());
    assert_eq!((code, said), (0, expected));
    lineage.install_script("exit 3");
    let serving = lineage.pid().to_string();
    let mut sleeper = Command::new("sleep").arg("1000").spawn().unwrap();
    let rows = [
        (
            vec!["--pid", &*serving],
            1,
            "goes on as before: the new process ended before it was ready (exit status: 3)",
        ),
        (vec!["--pid", &*sleeper.id().to_string().leak()], 1, "SIGUSR2 would end it"),
        (vec!["--pid", "4194305"], 1, "there is no process"),
        (vec!["--pid", "0"], 64, "--pid"),
        (vec!["--pid-file", file.to_str().unwrap()], 1, "weir.pid"),
        (vec![], 64, "--pid"),
    ];
    for (args, expected, text) in rows {
        let (code, said) = command(&args);
        assert_eq!(code, expected, "{args:?}: {said}");
        assert!(said.contains(text), "{args:?}: {said}");
    }
    assert!(sleeper.try_wait().unwrap().is_none(), "it was not harmed");
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
}
