//! `weir run`: the proxy as a process, with its log and its signals.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use anyhow::Context;
use futures_util::FutureExt;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;

use super::Exit;
use super::args::{LogFormat, RunArgs};
use crate::app::App;
use crate::state::writer::StartError;

/// Signals that come closer together than this are one. Short: who means the second one may be quick too.
const SAME_SIGNAL: Duration = Duration::from_millis(5);

/// The variable that sets the log's level.
const LOG: &str = "WEIR_LOG";

/// Proxies until it is told to end.
pub fn run(args: &RunArgs) -> Exit {
    start_log(args.log_format);
    raise_file_limit();
    let served = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the runtime cannot start")
        .and_then(|runtime| {
            let served = runtime.block_on(serve(args));
            // A file or a resolver that does not answer would hold up the end for as long as it likes.
            runtime.shutdown_background();
            served
        });
    match served {
        Ok(exit) => exit,
        Err(error) => {
            complain(&format!("weir: {error:#}\n"));
            Exit::Failed
        }
    }
}

async fn serve(args: &RunArgs) -> anyhow::Result<Exit> {
    // Before anything serves: from the first connection on, a signal finds its ear.
    let mut hangup = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let app = match App::start(args.config.clone()).await {
        Ok(app) => app,
        Err(StartError::Refused(rejected)) => {
            let colour = io::stderr().is_terminal();
            for diagnostic in &rejected.diagnostics {
                complain(&diagnostic.render(colour));
            }
            return Ok(if rejected.is_unreadable() { Exit::Failed } else { Exit::Refused });
        }
        Err(error) => return Err(error.into()),
    };
    info!(version = env!("CARGO_PKG_VERSION"), config = %args.config.display(), "serving");
    loop {
        tokio::select! {
            _ = hangup.recv() => tokio::select! {
                _ = app.reload("signal") => {}
                // However long the reading takes.
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
            },
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    let limit = app.current().load().config.shutdown_timeout;
    let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
    info!(limit_ms, "finishing what is in flight; a second signal ends at once");
    let at_once = async {
        // Who signals a process and then its group means it once.
        tokio::time::sleep(SAME_SIGNAL).await;
        let _ = (terminate.recv().now_or_never(), interrupt.recv().now_or_never());
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    tokio::select! {
        finished = app.shutdown(limit) => {
            if finished {
                info!("ended");
            } else {
                warn!("ended with requests in flight: the time was over");
            }
        }
        () = at_once => warn!("ended at once"),
    }
    Ok(Exit::Ok)
}

fn start_log(format: LogFormat) {
    // The watcher's library tells of watches that ended by themselves: a file replaced is no news.
    let usual = || EnvFilter::new("info,notify=error,inotify=error");
    let filter = EnvFilter::try_from_env(LOG).unwrap_or_else(|_| usual());
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    // A log that exists already (in a test) stays.
    let _ = match format {
        LogFormat::Text => log.with_ansi(io::stderr().is_terminal()).with_target(false).try_init(),
        LogFormat::Json => log.json().flatten_event(true).with_target(false).try_init(),
    };
}

/// Each connection is a file: takes as many as the system lets us.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
    {
        warn!(%error, "the limit of open files stays as it is");
    }
}

/// Tells a person what is wrong. Nobody may be listening.
fn complain(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}
