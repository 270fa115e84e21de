//! The clock of the machine is set while the proxy runs: what tells or checks the time of day follows, and no limit of
//! time does.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use super::load::{Door, Load};
use super::sandbox::pages;
use super::tell;
use crate::support::process::Process;
use crate::support::raw::{Client, exchange, status};
use crate::support::{Arms, Upstream, until};

const HOUR: i64 = 3600;

/// The library that tells a process another time than it is.
fn faketime() -> PathBuf {
    let folders = std::fs::read_dir("/usr/lib").unwrap().map(|entry| entry.unwrap().path());
    let found = folders.map(|folder| folder.join("faketime/libfaketime.so.1")).find(|path| path.exists());
    found.expect("`make peers` installs faketime")
}

/// A process whose clock is that of the machine, and as many seconds more as it is told.
struct Clocked {
    process: Process,
    offset: PathBuf,
}

impl Clocked {
    fn start(text: &str) -> Self {
        let offset = tempfile::NamedTempFile::new().unwrap().into_temp_path().keep().unwrap();
        std::fs::write(&offset, "+0").unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command
            .env("WEIR_LOG", "info")
            .env("LD_PRELOAD", faketime())
            .env("FAKETIME_TIMESTAMP_FILE", &offset)
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        let process = Process::start_by(command, |folder| {
            std::fs::write(folder.join("override.key"), "an example key, not a secret\n").unwrap();
            let log = folder.join("access.log");
            format!(
                "workers: 1\nlisteners: [{{ bind: 127.0.0.1:0, timeouts: {{ header: 1s }} }}]\n{}access_log: {{ path: {} }}\n{text}",
                pages(folder),
                log.display()
            )
        });
        Self { process, offset }
    }

    /// What `/own` answers, and the date that it tells.
    async fn own(&self) -> (String, Timestamp) {
        let request = "GET /own HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        let answer = exchange(self.process.address, request).await;
        let date = answer.lines().find_map(|line| line.strip_prefix("date: ")).expect("a date");
        let told = jiff::fmt::rfc2822::parse(date).unwrap().timestamp();
        (answer.rsplit("\r\n\r\n").next().unwrap().to_owned(), told)
    }

    /// Lets `/own` answer otherwise, by a change of the file; how long that took.
    async fn change(&self, from: &str, to: &str) -> Duration {
        let path = self.process.folder.path().join("weir.yaml");
        let text = std::fs::read_to_string(&path).unwrap().replace(from, to);
        let next = path.with_extension("next");
        std::fs::write(&next, text).unwrap();
        std::fs::rename(&next, &path).unwrap();
        let began = Instant::now();
        until("the change serves", || async { (self.own().await.0 == to).then_some(()) }).await;
        began.elapsed()
    }

    /// Sets the clock; returns when the process tells it.
    async fn set(&self, seconds: i64) {
        // It is read at any time, so it is never half there.
        let next = self.offset.with_extension("next");
        std::fs::write(&next, format!("{seconds:+}")).unwrap();
        std::fs::rename(&next, &self.offset).unwrap();
        until("answers have the new date", || async { is_about(self.own().await.1, seconds).then_some(()) })
            .await;
    }
}

impl Drop for Clocked {
    fn drop(&mut self) {
        // It is gone, or it is litter.
        let _ = std::fs::remove_file(&self.offset);
    }
}

/// Whether a time is that of the machine and this many seconds more, with some for the way.
fn is_about(told: Timestamp, seconds: i64) -> bool {
    let expected = Timestamp::now() + SignedDuration::from_secs(seconds);
    told.duration_since(expected).abs() < SignedDuration::from_secs(60)
}

/// A token for canary that is good for an hour, by the clock of the machine.
fn token(folder: &Path) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args([
            "token",
            "--split",
            "shop",
            "--variant",
            "canary",
            "--unit",
            "*",
            "--expires",
            "1h",
            "--config",
        ])
        .arg(folder.join("weir.yaml"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clock_that_jumps_then_what_tells_the_time_follows_and_no_limit_does() {
    let arms = Arms::start(&["blue", "canary"]).await;
    let (slow, gate) = Upstream::gated().await;
    let silent = Upstream::answering(|_| std::future::pending()).await;
    let clocked = Clocked::start(&format!(
        "{}  slow: {{ endpoints: ['{}'] }}\n  silent: {{ endpoints: ['{}'], timeouts: {{ response: 500ms }} }}\nsplits: {{ shop: {{ \
         key: [header:x-user], variants: [{{ name: blue }}, {{ name: canary, weight: 0% }}], override: {{ header: x-override, \
         key_file: override.key }} }} }}\nroutes:\n  - {{ paths: [/own], respond: {{ body: own-0 }} }}\n  - {{ paths: [/slow], \
         upstream: slow }}\n  - {{ paths: [/silent], upstream: silent }}\n  - {{ split: shop }}\n",
        arms.yaml(),
        slow.address,
        silent.address
    ));
    let process = &clocked.process;
    let token = token(process.folder.path());
    let load = Load::begin(&Door::Tcp(process.address), 100);
    load.goes_on(50).await;
    // One under way all the time, and a connection that waits.
    let mut under_way = Client::connect(process.address).await;
    under_way.send("GET /slow HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    until("it is under way", || async { (slow.count() == 1).then_some(()) }).await;
    let mut kept = Client::connect(process.address).await;
    let jumps = [(0, true), (-24 * HOUR, true), (24 * HOUR, false), (0, true), (-365 * 24 * HOUR, true)];
    for (round, (jump, is_good)) in jumps.into_iter().enumerate() {
        clocked.set(jump).await;
        // An override ends by the time of day.
        kept.send(format!("GET / HTTP/1.1\r\nhost: a\r\nx-override: {token}\r\nx-id: {jump}\r\n\r\n")).await;
        let answer = kept.read_response().await;
        assert_eq!(status(&answer), 200, "{jump}: {answer}");
        let arm = if is_good { "canary" } else { "blue" };
        assert!(answer.contains(&format!("x-upstream: {arm}\r\n")), "{jump}: {answer}");
        // An endpoint that is silent has its time, not less and not a day more.
        let began = Instant::now();
        let answer =
            exchange(process.address, "GET /silent HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
        let took = began.elapsed();
        assert!(answer.contains("x-weir-error: response_timeout\r\n"), "{jump}: {answer}");
        assert!((Duration::from_millis(450)..Duration::from_secs(10)).contains(&took), "{jump}: {took:?}");
        // And so has a client that does not end its head.
        let mut stranger = Client::connect(process.address).await;
        stranger.send("GET / HTT").await;
        let began = Instant::now();
        assert_eq!(status(&stranger.read_to_end().await), 408, "{jump}");
        let took = began.elapsed();
        assert!((Duration::from_millis(900)..Duration::from_secs(10)).contains(&took), "{jump}: {took:?}");
        // Files are followed by what they contain, not by when.
        let took = clocked.change(&format!("own-{round}"), &format!("own-{}", round + 1)).await;
        assert!(took < Duration::from_secs(10), "{jump}: {took:?}");
        println!("fault: a change of the file takes {took:.2?} with the clock at {jump:+} s");
        load.goes_on(50).await;
    }
    gate.send_replace(true);
    assert!(under_way.read_to_end().await.ends_with("at last"), "it was waited for");
    let report = load.stop().await;
    tell("the clock jumps by a day and a year, forth and back", &report, None);
    assert_eq!(report.lost(), 0);
    // Stamps follow, durations do not.
    let path = process.folder.path().join("access.log");
    until("a stamp of each clock", || async {
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<serde_json::Value> =
            text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let stamp = |line: &serde_json::Value| line["time"].as_str().unwrap().parse::<Timestamp>().unwrap();
        let is_there = |jump| lines.iter().any(|line| is_about(stamp(line), jump));
        [0, -24 * HOUR, 24 * HOUR, -365 * 24 * HOUR].into_iter().all(is_there).then_some(())
    })
    .await;
}
