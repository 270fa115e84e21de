//! `weir upgrade`: asks a running proxy for a new process in its place, and tells what it came to.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use super::args::UpgradeArgs;
use super::{Exit, pid_file};
use crate::app::outcome::{Ear, Outcome};

/// How long a process may take to say that it has heard.
const ANSWER: Duration = Duration::from_secs(5);

/// How often it is looked whether the process is there at all.
const LOOK: Duration = Duration::from_millis(200);

/// Asks, and waits for the outcome.
///
/// # Errors
/// Where there is no such proxy, it does not answer, or the upgrade failed.
pub fn run(args: &UpgradeArgs, out: &mut impl Write) -> anyhow::Result<Exit> {
    let pid = match (args.pid, &args.pid_file) {
        (Some(pid), _) => pid,
        (None, Some(path)) => pid_file::read(path).with_context(|| path.display().to_string())?,
        (None, None) => bail!("no process is named"),
    };
    let process = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let process = process.ok_or_else(|| anyhow!("{pid} is no process id"))?;
    if !takes_signal(pid).with_context(|| format!("there is no process {pid}"))? {
        bail!("process {pid} is no proxy that can be upgraded: SIGUSR2 would end it");
    }
    // Before it is asked: it answers at once.
    let ear = Ear::for_process(pid).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => anyhow!("somebody waits for an upgrade of process {pid} already"),
        _ => anyhow!(error).context("the outcome cannot be heard"),
    })?;
    kill_process(process, Signal::USR2).with_context(|| format!("process {pid} cannot be asked"))?;
    let outcome = wait(&ear, process)?;
    match outcome {
        Outcome::Finished { pid: new } => {
            writeln!(out, "upgraded: process {new} serves, process {pid} finishes what is in flight")?;
            Ok(Exit::Ok)
        }
        Outcome::Failed { reason } => bail!("process {pid} goes on as before: {reason}"),
        Outcome::Refused => bail!("another upgrade of process {pid} is under way"),
        Outcome::Begun => bail!("process {pid} ended before it told the outcome"),
    }
}

/// The last that is said; what was under way before is not of this upgrade.
fn wait(ear: &Ear, process: Pid) -> anyhow::Result<Outcome> {
    let asked = now();
    let mut has_begun = false;
    loop {
        match ear.hear(LOOK).context("the outcome cannot be heard")? {
            Some(Outcome::Begun) => has_begun = true,
            Some(finished @ Outcome::Finished { .. }) => return Ok(finished),
            Some(Outcome::Refused) if !has_begun => return Ok(Outcome::Refused),
            Some(failed @ Outcome::Failed { .. }) if has_begun => return Ok(failed),
            None if test_kill_process(process).is_err() => return Ok(Outcome::Begun),
            // Once it has begun it ends: the process itself has a limit for it.
            None if !has_begun && asked.elapsed() > ANSWER => {
                bail!(
                    "no answer within {ANSWER:?}: is it in another namespace? What came of it stands in its log"
                )
            }
            Some(_) | None => {}
        }
    }
}

/// Whether the process has a use for SIGUSR2: without one the signal would end it.
fn takes_signal(pid: u32) -> io::Result<bool> {
    let status = io::read_to_string(std::fs::File::open(format!("/proc/{pid}/status"))?)?;
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    Ok(caught & (1 << (Signal::USR2.as_raw() - 1)) != 0)
}

#[expect(clippy::disallowed_methods, reason = "a command waits for as long as a person would")]
fn now() -> Instant {
    Instant::now()
}
