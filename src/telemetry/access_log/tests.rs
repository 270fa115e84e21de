//! The log as a whole: real files, real threads, and sinks that fail.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::record::tests::full;
use super::{AccessLog, AccessLogError, Record, Sink};
use crate::telemetry::Metrics;

/// Longer than anything that is waited for takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

#[expect(clippy::disallowed_methods, reason = "the test is the driver")]
fn now() -> Instant {
    Instant::now()
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = now();
    while !holds() {
        assert!(now() - start < PATIENCE, "waited in vain: {what}");
        std::thread::yield_now();
    }
}

fn open(path: &Path) -> (AccessLog, Arc<Metrics>) {
    let metrics = Metrics::new();
    let log = AccessLog::open(Sink::File(path.to_owned()), true, Arc::clone(&metrics)).unwrap();
    (log, metrics)
}

fn record(log: &AccessLog, id: &str) {
    log.record(&Record { request_id: id.as_bytes(), ..full() });
}

/// The request ids in the file, whose lines are all whole.
#[expect(clippy::disallowed_methods, reason = "the test reads what the log wrote")]
fn ids(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    assert!(text.is_empty() || text.ends_with('\n'));
    text.lines().map(id_of).collect()
}

fn id_of(line: &str) -> String {
    let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
    line["request_id"].as_str().unwrap().to_owned()
}

#[test]
fn record_then_its_line_is_in_the_file_soon() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let (log, metrics) = open(&path);
    record(&log, "one");
    wait_until("the line is written while the log stays open", || ids(&path) == ["one"]);
    record(&log, "two");
    log.close();
    assert_eq!(ids(&path), ["one", "two"]);
    assert_eq!(metrics.dropped_lines(), 0);
}

#[test]
fn log_dropped_then_its_lines_are_in_the_file_behind_what_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    for run in ["one", "two"] {
        let (log, _) = open(&path);
        record(&log, run);
        drop(log);
    }
    assert_eq!(ids(&path), ["one", "two"]);
}

#[test]
fn record_after_close_then_it_is_counted_as_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let (log, metrics) = open(&path);
    log.close();
    record(&log, "late");
    log.close();
    assert_eq!(metrics.dropped_lines(), 1);
    assert!(ids(&path).is_empty());
}

#[test]
fn unit_key_is_off_then_no_line_has_it() {
    let folder = tempfile::tempdir().unwrap();
    for unit_key in [false, true] {
        let path = folder.path().join(unit_key.to_string());
        let log = AccessLog::open(Sink::File(path.clone()), unit_key, Metrics::new()).unwrap();
        assert_eq!(log.unit_key(), unit_key);
        log.record(&full());
        log.close();
        #[expect(clippy::disallowed_methods, reason = "the test reads what the log wrote")]
        let line: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(line.get("unit").is_some(), unit_key, "{line}");
        assert!(line.get("position").is_some(), "{line}");
    }
}

#[test]
fn sink_cannot_be_opened_then_the_error_says_which_and_why() {
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().to_owned(), folder.path().join("missing/access.log")] {
        let error = AccessLog::open(Sink::File(path.clone()), false, Metrics::new()).unwrap_err();
        assert!(matches!(&error, AccessLogError::Open { .. }), "{error:?}");
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    }
}

#[test]
fn file_renamed_then_reopen_goes_on_in_a_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let (path, rotated) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
    let (log, metrics) = open(&path);
    record(&log, "one");
    fs::rename(&path, &rotated).unwrap();
    record(&log, "two");
    log.reopen();
    wait_until("the new file is there", || path.exists());
    record(&log, "three");
    log.close();
    assert_eq!(ids(&rotated), ["one", "two"]);
    assert_eq!(ids(&path), ["three"]);
    assert_eq!(metrics.dropped_lines(), 0);
}

#[test]
fn file_cannot_be_opened_anew_then_the_old_one_stays_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let (inside, moved) = (folder.path().join("logs"), folder.path().join("moved"));
    fs::create_dir(&inside).unwrap();
    let (log, metrics) = open(&inside.join("access.log"));
    record(&log, "one");
    fs::rename(&inside, &moved).unwrap();
    log.reopen();
    record(&log, "two");
    log.close();
    assert_eq!(ids(&moved.join("access.log")), ["one", "two"]);
    assert_eq!(metrics.dropped_lines(), 0);
}

#[test]
fn many_workers_then_every_line_is_written_once_or_counted_as_dropped() {
    const WORKERS: usize = 3;
    const LINES: usize = 3000;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let (log, metrics) = open(&path);
    std::thread::scope(|scope| {
        for worker in 0..WORKERS {
            let log = &log;
            scope.spawn(move || (0..LINES).for_each(|n| record(log, &format!("{worker}-{n}"))));
        }
    });
    log.close();
    let mut found = ids(&path);
    let written = found.len();
    found.sort_unstable();
    found.dedup();
    assert_eq!(found.len(), written, "a line is there twice");
    assert_eq!(
        u64::try_from(written).unwrap() + metrics.dropped_lines(),
        u64::try_from(WORKERS * LINES).unwrap()
    );
    assert!(written > 0);
}

/// The most lines for which there is room while nothing is written, and many more.
#[cfg(target_os = "linux")]
const TOO_MANY: u32 = 60_000;

/// Records far more lines than there is room for, and says how long the slowest took.
#[cfg(target_os = "linux")]
fn flood(log: &AccessLog) -> Duration {
    let mut slowest = Duration::ZERO;
    for n in 0..TOO_MANY {
        let start = now();
        record(log, &n.to_string());
        slowest = slowest.max(now() - start);
    }
    slowest
}

#[cfg(target_os = "linux")]
#[test]
fn disk_is_full_then_lines_are_dropped_and_counted_until_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let (link, path) = (folder.path().join("access.log"), folder.path().join("room"));
    std::os::unix::fs::symlink("/dev/full", &link).unwrap();
    let (log, metrics) = open(&link);
    record(&log, "lost");
    wait_until("few lines are counted as well, soon", || metrics.dropped_lines() == 1);
    let slowest = flood(&log);
    assert!(slowest < Duration::from_secs(1), "a worker waited for {slowest:?}");
    wait_until("everything is given up", || metrics.dropped_lines() == u64::from(TOO_MANY) + 1);
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(&path, &link).unwrap();
    log.reopen();
    wait_until("the new file is there", || path.exists());
    record(&log, "kept");
    log.close();
    assert_eq!(ids(&path), ["kept"]);
    assert_eq!(metrics.dropped_lines(), u64::from(TOO_MANY) + 1);
}

#[cfg(target_os = "linux")]
#[test]
fn reader_stands_still_then_no_worker_waits_and_lines_stay_whole() {
    use std::os::fd::AsRawFd;

    let (mut reader, end) = std::io::pipe().unwrap();
    let (log, metrics) = open(Path::new(&format!("/proc/self/fd/{}", end.as_raw_fd())));
    drop(end);
    let slowest = flood(&log);
    assert!(slowest < Duration::from_secs(1), "a worker waited for {slowest:?}");
    let dropped = metrics.dropped_lines();
    assert!(dropped > 0 && dropped < u64::from(TOO_MANY), "{dropped} lines dropped");
    // The reader goes on: what was kept comes out, whole and once.
    let reading = std::thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).map(|_| text)
    });
    log.close();
    let text = reading.join().unwrap().unwrap();
    assert!(text.ends_with('\n'));
    let found: Vec<_> = text.lines().map(id_of).collect();
    let numbers: BTreeSet<u32> = found.iter().map(|id| id.parse().unwrap()).collect();
    assert_eq!(numbers.len(), found.len(), "a line is there twice");
    assert_eq!(u64::try_from(numbers.len()).unwrap() + metrics.dropped_lines(), u64::from(TOO_MANY));
}

#[cfg(target_os = "linux")]
#[test]
fn reader_never_reads_then_close_returns_and_what_was_queued_is_counted() {
    use std::os::fd::AsRawFd;

    let (_reader, end) = std::io::pipe().unwrap();
    let (log, metrics) = open(Path::new(&format!("/proc/self/fd/{}", end.as_raw_fd())));
    flood(&log);
    let before = metrics.dropped_lines();
    let start = now();
    drop(log);
    assert!(now() - start < Duration::from_secs(10), "closing took {:?}", now() - start);
    assert!(metrics.dropped_lines() > before);
}

#[cfg(target_os = "linux")]
#[test]
fn pipe_without_a_reader_then_opening_goes_on_in_the_background() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    let (log, metrics) = open(&path);
    record(&log, "one");
    let reader = fs::File::open(&path).unwrap();
    log.close();
    let found: Vec<_> = BufReader::new(reader).lines().map(|line| id_of(&line.unwrap())).collect();
    assert_eq!(found, ["one"]);
    assert_eq!(metrics.dropped_lines(), 0);
}
