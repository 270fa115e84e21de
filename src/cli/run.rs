//! `weir run`: the proxy as a process, with its log and its signals.

use std::cell::Cell;
use std::io::{self, IsTerminal, Write};
use std::pin::pin;
use std::time::Duration;

use anyhow::Context;
use futures_util::FutureExt;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};
use tracing_subscriber::EnvFilter;

use super::Exit;
use super::args::{LogFormat, RunArgs};
use super::pid_file::PidFile;
use crate::app::outcome::Outcome;
use crate::app::service::Service;
use crate::app::upgrade::{Launch, Predecessor, UpgradeError};
use crate::app::{App, Upgraded};
use crate::front::activation;
use crate::front::channel::VARIABLE;
use crate::front::handover::{Inherited, Place};
use crate::state::writer::StartError;
use crate::telemetry::panics;

/// Signals that come closer together than this are one. Short: who means the second one may be quick too.
const SAME_SIGNAL: Duration = Duration::from_millis(5);

/// The variable that sets the log's level.
const LOG: &str = "WEIR_LOG";
/// What is logged unless it says otherwise. The watcher's library tells of watches that ended by themselves: a file
/// replaced is no news. That of HTTP/2 warns of what peers send: strangers must not fill logs.
const USUAL: &str = "info,notify=error,inotify=error,h2=error";

/// Proxies until it is told to end.
pub fn run(args: &RunArgs) -> Exit {
    start_log(args.log_format);
    panics::install();
    raise_file_limit();
    // Before there are threads: it changes the environment.
    let inherited = match inherit() {
        Ok(inherited) => inherited,
        Err(error) => {
            complain(&format!("weir: cannot take over from the former process: {error}\n"));
            return Exit::Failed;
        }
    };
    let served = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the runtime cannot start")
        .and_then(|runtime| {
            let served = runtime.block_on(serve(args, inherited));
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

/// What other processes leave to this one: the service manager, and the one that this one is to replace.
fn inherit() -> io::Result<(Option<Predecessor>, Vec<Place>)> {
    let names = std::env::var_os("LISTEN_FDNAMES").unwrap_or_default();
    let mut places = activation::places(&names.to_string_lossy());
    let Some(version) = std::env::var_os(VARIABLE) else { return Ok((None, places)) };
    let (predecessor, further) = Predecessor::at_stdin(&version.to_string_lossy())?;
    places.extend(further);
    Ok((Some(predecessor), places))
}

async fn serve(args: &RunArgs, inherited: (Option<Predecessor>, Vec<Place>)) -> anyhow::Result<Exit> {
    let (predecessor, places) = inherited;
    // Before anything serves: from the first connection on, a signal finds its ear.
    let signals = Signals::new()?;
    let launch = Launch::of_this_process();
    let service = Service::of_this_process();
    let app = match App::start_with(args.config.clone(), Inherited::new(places), service).await {
        Ok(app) => app,
        Err(error) => {
            let told = predecessor.as_ref();
            let StartError::Refused(rejected) = error else {
                let error = anyhow::Error::from(error);
                told.inspect(|predecessor| predecessor.failed(&format!("{error:#}")));
                return Err(error);
            };
            let render = |colour| rejected.diagnostics.iter().map(move |one| one.render(colour));
            complain(&render(io::stderr().is_terminal()).collect::<String>());
            told.inspect(|predecessor| predecessor.failed(&render(false).collect::<String>()));
            return Ok(if rejected.is_unreadable() { Exit::Failed } else { Exit::Refused });
        }
    };
    info!(version = env!("CARGO_PKG_VERSION"), config = %args.config.display(), "serving");
    let is_successor = predecessor.is_some();
    if let Some(predecessor) = predecessor {
        predecessor.relieve().await;
        app.take_over();
    }
    let pid_file = match args.pid_file.as_deref().map(PidFile::write).transpose() {
        Ok(file) => file,
        Err(error) if is_successor => {
            error!(%error, "the pid file cannot be written, it has the id of the former process");
            None
        }
        Err(error) => return Err(error).context("the pid file cannot be written"),
    };
    service.ready(&app.status().last());
    proceed(app, signals, &launch, args.upgrade_timeout, pid_file).await;
    Ok(Exit::Ok)
}

/// Obeys signals until one ends it.
async fn proceed(
    app: App,
    signals: Signals,
    launch: &Launch,
    limit: Duration,
    mut pid_file: Option<PidFile>,
) {
    let Signals { mut hangup, mut upgrade, mut terminate, mut interrupt } = signals;
    let is_upgrading = Cell::new(false);
    let upgraded = {
        let reloads = async {
            loop {
                hangup.recv().await;
                app.reload("signal").await;
            }
        };
        // However long a reading or an upgrade takes.
        tokio::select! {
            biased;
            _ = terminate.recv() => None,
            _ = interrupt.recv() => None,
            upgraded = upgrades(&app, &mut upgrade, launch, limit, &is_upgrading) => Some(upgraded),
            () = reloads => None,
        }
    };
    if upgraded.is_none() && is_upgrading.get() {
        tell_failed(&UpgradeError::Ending);
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
    let ending = async {
        match upgraded {
            Some(upgraded) => {
                // From now on the new process writes it, and a look at whose it is would be too old by the time it goes.
                if let Some(file) = &mut pid_file {
                    file.leave();
                }
                app.hand_over(upgraded, limit).await
            }
            None => app.shutdown(limit).await,
        }
    };
    tokio::select! {
        finished = ending => {
            if finished {
                info!("ended");
            } else {
                warn!("ended with requests in flight: the time was over");
            }
        }
        () = at_once => warn!("ended at once"),
    }
}

/// Tries to put a new process in place of this one whenever it is asked to, until that comes about.
async fn upgrades(
    app: &App,
    asked: &mut Signal,
    launch: &Launch,
    limit: Duration,
    is_upgrading: &Cell<bool>,
) -> Upgraded {
    let ours = std::process::id();
    loop {
        asked.recv().await;
        is_upgrading.set(true);
        Outcome::Begun.tell(ours);
        let mut attempt = pin!(app.upgrade(launch, limit));
        let outcome = loop {
            tokio::select! {
                outcome = attempt.as_mut() => break outcome,
                _ = asked.recv() => {
                    warn!("upgrade refused, another one is under way");
                    Outcome::Refused.tell(ours);
                }
            }
        };
        is_upgrading.set(false);
        match outcome {
            Ok(upgraded) => {
                let pid = upgraded.pid();
                info!(pid, "upgrade finished, the new process serves");
                Outcome::Finished { pid }.tell(ours);
                return upgraded;
            }
            Err(error) => tell_failed(&error),
        }
    }
}

fn tell_failed(error: &UpgradeError) {
    error!(%error, "upgrade failed, this process goes on");
    Outcome::Failed { reason: error.to_string() }.tell(std::process::id());
}

/// The signals that mean something.
struct Signals {
    hangup: Signal,
    upgrade: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            upgrade: signal(SignalKind::user_defined2())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }
}

fn start_log(format: LogFormat) {
    #[expect(clippy::disallowed_methods, reason = "how much is logged is asked for here alone")]
    let wanted = std::env::var(LOG).unwrap_or_default();
    // A level is for what is ours; libraries keep theirs unless they are named.
    let filter = EnvFilter::try_new(format!("{USUAL},{wanted}")).unwrap_or_else(|_| EnvFilter::new(USUAL));
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
