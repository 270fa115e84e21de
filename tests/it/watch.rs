//! Each way in which people and tools write files, on real files: seen, and the watcher lives on.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "helpers of tests are tests"
)]

mod ways;

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use tokio::time::timeout;
use weir::config::watch::{Change, Found, Options, Watcher};

use ways::{ROWS, Row, plain, put, relink, run, text};

/// What a change may take at most on a machine that is busy with other tests.
const BOUND: Duration = Duration::from_secs(5);

/// How long silence must last to prove that nothing is told: well over the 150 ms in which a burst is told at the latest.
const SILENCE: Duration = Duration::from_millis(400);

async fn next(watcher: &mut Watcher) -> Option<Change> {
    timeout(BOUND, watcher.changed()).await.ok()
}

async fn is_silent(watcher: &mut Watcher) -> Result<(), Change> {
    timeout(SILENCE, watcher.changed()).await.map_or(Ok(()), Err)
}

/// A time of reading that no file was changed since: the files of a test are younger than a tick of the clock.
fn read_just_now() -> SystemTime {
    SystemTime::now() + Duration::from_hours(1)
}

fn start(paths: Vec<PathBuf>, options: Options) -> Watcher {
    Watcher::start(paths, read_just_now(), options).unwrap()
}

/// Options under which only events can tell a change within a test.
fn events_only() -> Options {
    Options { poll: Duration::from_mins(10), ..Options::default() }
}

fn polls_only() -> Options {
    let (poll, quiet) = (Duration::from_millis(50), Duration::from_millis(200));
    Options { poll, quiet, events: false, ..Options::default() }
}

/// Checks that each round of a row is told, until what is read is what was written; returns the latencies.
async fn check_row(row: &Row, options: Options, found: Found) -> Result<Vec<Duration>, String> {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().canonicalize().unwrap();
    (row.prepare)(&folder);
    let mut watcher = start(vec![folder.join(row.watched)], options);
    let mut latencies = Vec::new();
    for round in ["1", "2"] {
        (row.write)(&folder, round);
        let written = Instant::now();
        loop {
            let change = next(&mut watcher).await.ok_or_else(|| format!("round {round} is not told"))?;
            if change.found != found {
                return Err(format!("round {round} was found otherwise: {change:?}"));
            }
            let read = fs::read_to_string(folder.join(row.read));
            if row.read.is_empty() || read.is_ok_and(|read| read == text(round)) {
                break;
            }
        }
        latencies.push(written.elapsed());
    }
    match is_silent(&mut watcher).await {
        Ok(()) => Ok(latencies),
        Err(change) => Err(format!("told without a cause: {change:?}")),
    }
}

/// Checks all rows, some at a time: they wait more than they work.
fn check_rows(options: &Options, found: Found) {
    assert!(!ROWS.is_empty());
    let check = |row: &'static Row| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime
            .block_on(check_row(row, options.clone(), found))
            .map_err(|error| format!("{}: {error}", row.name))
    };
    let results: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = ROWS
            .chunks(ROWS.len().div_ceil(4))
            .map(|rows| {
                scope.spawn(move || rows.iter().map(|row| (row.name, check(row))).collect::<Vec<_>>())
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let mut latencies = Vec::new();
    let mut failures = Vec::new();
    for (name, result) in results {
        match result {
            Ok(row) => {
                println!("{name:>60}: {row:.0?}");
                latencies.extend(row);
            }
            Err(error) => failures.push(error),
        }
    }
    latencies.sort_unstable();
    println!("{:>60}: {:.0?}", "median", latencies.get(latencies.len() / 2));
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn any_way_of_writing_then_told_each_time_by_events() {
    check_rows(&events_only(), Found::Event);
}

#[test]
fn any_way_of_writing_without_events_then_told_each_time_by_polling() {
    check_rows(&polls_only(), Found::Poll);
}

/// Writes in place as `chunks` with pauses, the file open all the time.
fn write_slowly(path: &Path, chunks: &[&str], pause: Duration) {
    let mut file = File::create(path).unwrap();
    for chunk in chunks {
        file.write_all(chunk.as_bytes()).unwrap();
        // The pace of the writer is the subject here; nothing waits for it to have passed.
        thread::sleep(pause);
    }
}

#[tokio::test]
async fn slow_writer_then_told_once_when_it_closes() {
    for (name, options) in [("events", events_only()), ("polls", polls_only())] {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("weir.yaml");
        put(&file, "0");
        // The polls of this test need half a second without a difference.
        let options = Options { quiet: options.quiet.max(Duration::from_millis(500)), ..options };
        let mut watcher = start(vec![file.clone()], options);
        for round in ["a", "b"] {
            let chunks = [round, "1\n", "2\n", "3\n", "4\n", "5\n", "6\n"];
            let writer = thread::spawn({
                let file = file.clone();
                move || write_slowly(&file, &chunks, Duration::from_millis(300))
            });
            next(&mut watcher).await.expect("the writer closed");
            assert_eq!(fs::read_to_string(&file).unwrap(), chunks.concat(), "{name}: told before the end");
            writer.join().unwrap();
            assert_eq!(is_silent(&mut watcher).await, Ok(()), "{name}");
        }
    }
}

#[tokio::test]
async fn silent_writer_that_stays_open_then_told_after_the_quiet() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("weir.yaml");
    put(&path, "0");
    let mut watcher = start(vec![path.clone()], events_only());
    let mut file = File::create(&path).unwrap();
    for chunk in ["a", "b"] {
        file.write_all(chunk.as_bytes()).unwrap();
        let written = Instant::now();
        next(&mut watcher).await.expect("the writer is silent");
        assert!(written.elapsed() >= Duration::from_millis(900), "told after {:?}", written.elapsed());
    }
}

#[tokio::test]
async fn burst_of_writes_then_few_changes_and_the_last_content() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("weir.yaml");
    put(&file, "0");
    let mut watcher = start(vec![file.clone()], events_only());
    for burst in 1..=2 {
        for write in 1..=20 {
            put(&file, &format!("{burst}.{write}"));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let mut changes = 1;
        next(&mut watcher).await.expect("the burst is told");
        while is_silent(&mut watcher).await.is_err() {
            changes += 1;
        }
        assert!(changes <= 4, "{changes} changes for one burst");
        assert_eq!(fs::read_to_string(&file).unwrap(), text(&format!("{burst}.20")));
    }
}

#[tokio::test]
async fn same_contents_then_nothing_is_told() {
    let acts: &[(&str, &str)] = &[
        ("touch", "touch weir.yaml"),
        ("chmod", "chmod 600 weir.yaml"),
        ("the same written again", "echo 'round: 0' > weir.yaml"),
        ("a copy renamed over", "cp weir.yaml new; mv new weir.yaml"),
        ("files that do not belong", "echo > notes.txt; echo > .weir.yaml.swp; echo > weir.yaml~; mkdir sub"),
        ("a lock of emacs", "ln -s me@host.1:2 .#weir.yaml; rm .#weir.yaml"),
        (
            "a backup file made and removed",
            "mv weir.yaml weir.yaml.bak; cp weir.yaml.bak weir.yaml; rm weir.yaml.bak",
        ),
        ("read", "cat weir.yaml; ls"),
    ];
    for watched in [".", "weir.yaml"] {
        let root = tempfile::tempdir().unwrap();
        plain(root.path());
        let mut watcher = start(vec![root.path().join(watched)], Options::default());
        for (name, script) in acts {
            run(root.path(), &format!("exec >/dev/null; {script}"));
            assert_eq!(is_silent(&mut watcher).await, Ok(()), "{name} in {watched}");
        }
        put(root.path().join("weir.yaml"), "1");
        assert!(next(&mut watcher).await.is_some(), "deaf after acts without a change");
    }
}

#[tokio::test]
async fn bad_file_then_told_and_good_again_then_told() {
    // A link to itself cannot be read by anybody; rights would not hold up the superuser.
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("weir.yaml");
    put(&file, "0");
    let mut watcher = start(vec![file.clone()], events_only());
    for round in ["1", "2"] {
        relink(root.path(), "weir.yaml", "weir.yaml");
        let change = next(&mut watcher).await.expect("the bad one is told");
        assert_eq!(change.files, std::slice::from_ref(&file));
        put(root.path().join("new"), round);
        fs::rename(root.path().join("new"), &file).unwrap();
        next(&mut watcher).await.expect("the good one is told");
        assert_eq!(fs::read_to_string(&file).unwrap(), text(round));
    }
}

#[tokio::test]
async fn rights_taken_and_given_then_told_each_time() {
    let root = tempfile::tempdir().unwrap();
    plain(root.path());
    let file = root.path().join("weir.yaml");
    let mut watcher = start(vec![file.clone()], events_only());
    run(root.path(), "chmod 000 weir.yaml");
    if fs::read(&file).is_ok() {
        // The superuser reads it as before: then nothing may be told.
        assert_eq!(is_silent(&mut watcher).await, Ok(()));
        return;
    }
    next(&mut watcher).await.expect("the loss is told");
    run(root.path(), "chmod 600 weir.yaml");
    next(&mut watcher).await.expect("the recovery is told");
}

#[tokio::test]
async fn changed_back_during_the_load_then_told_again() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("weir.yaml");
    put(&file, "0");
    let mut watcher = start(vec![file.clone()], events_only());
    put(&file, "1");
    let change = next(&mut watcher).await.expect("the first change");
    // The load goes on: it may read this ...
    put(&file, "2");
    // ... and not this, though this is what was told.
    put(&file, "1");
    let again = next(&mut watcher).await.expect("what the load may have missed");
    assert_eq!((again.files, again.digest), (Vec::new(), change.digest));
    // This call says that the load is over: from here on the same is no change.
    assert_eq!(is_silent(&mut watcher).await, Ok(()));
    put(&file, "1");
    assert_eq!(is_silent(&mut watcher).await, Ok(()));
}

#[tokio::test]
async fn other_paths_then_these_are_watched_and_those_not() {
    let root = tempfile::tempdir().unwrap();
    let [first, second, third] = ["1.pem", "2.pem", "3.pem"].map(|name| root.path().join(name));
    for path in [&first, &second, &third] {
        put(path, "0");
    }
    let mut watcher = start(vec![first.clone(), second.clone()], events_only());
    assert!(!watcher.set_paths(vec![second.clone(), first.clone()], read_just_now()), "the same set");
    assert!(watcher.set_paths(vec![second.clone(), third.clone()], read_just_now()));
    assert_eq!(is_silent(&mut watcher).await, Ok(()), "other paths alone are no change");
    put(&first, "1");
    assert_eq!(is_silent(&mut watcher).await, Ok(()), "not watched any longer");
    for (path, round) in [(&third, "1"), (&second, "1"), (&third, "2")] {
        put(path, round);
        assert_eq!(next(&mut watcher).await.expect("a watched file").files, std::slice::from_ref(path));
    }
}

#[tokio::test]
async fn file_changed_between_its_reading_and_its_watching_then_told() {
    let root = tempfile::tempdir().unwrap();
    let [first, second] = ["1.yaml", "2.pem"].map(|name| root.path().join(name));
    put(&first, "0");
    let mut watcher = start(vec![first.clone()], events_only());
    let read_at = SystemTime::now();
    put(&second, "changed after it was read");
    watcher.set_paths(vec![first, second.clone()], read_at);
    assert_eq!(next(&mut watcher).await.expect("the newer content").files, [second]);
    assert_eq!(is_silent(&mut watcher).await, Ok(()));
}

#[tokio::test]
async fn events_and_polls_together_then_each_change_is_told_once() {
    let root = tempfile::tempdir().unwrap();
    plain(root.path());
    let quick = Options { events: true, ..polls_only() };
    let mut watcher = start(vec![root.path().to_owned()], quick);
    for round in ["1", "2", "3"] {
        put(root.path().join("weir.yaml"), round);
        next(&mut watcher).await.expect("told");
        assert_eq!(is_silent(&mut watcher).await, Ok(()), "told twice");
    }
}

#[tokio::test]
async fn waits_cancelled_then_no_change_is_lost() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("weir.yaml");
    put(&file, "0");
    let mut watcher = start(vec![file.clone()], events_only());
    for round in ["1", "2", "3"] {
        put(&file, round);
        let start = Instant::now();
        // Each wait is far shorter than the gathering.
        while timeout(Duration::from_millis(2), watcher.changed()).await.is_err() {
            assert!(start.elapsed() < BOUND, "round {round} is lost");
        }
    }
}
