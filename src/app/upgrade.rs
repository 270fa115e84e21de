//! A new process in place of a running one: it is started beside it, gets its sockets, and serves; only then the former
//! one takes no more. Until that moment nothing has changed: what fails leaves the former one serving.
//!
//! [`start`] is the former process's side, [`Predecessor`] the new one's.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tracing::{info, warn};

use crate::front::channel::{Channel, Message, VARIABLE, VERSION};
use crate::front::handover::Place;

/// How long the new process waits for a word of the former one, which answers at once.
const ANSWER: Duration = Duration::from_secs(10);

/// Variables that are for this process alone: sockets of the service manager come by the talk.
const OUR_OWN: [&str; 3] = ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"];

/// How this process was started: what an upgrade starts again.
#[derive(Debug, Clone)]
pub struct Launch {
    program: PathBuf,
    args: Vec<OsString>,
}

/// Why there is no new process, and the former one goes on.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// The container, or the machine, would end with this process.
    #[error(
        "this is the first process (PID 1) of its container, which would end with it; replace the container instead"
    )]
    First,
    /// The program cannot be started.
    #[error("{} cannot be started: {source}", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The talk with the new process broke.
    #[error("the new process cannot be talked to: {0}")]
    Talk(#[from] io::Error),
    /// The new process says why.
    #[error("the new process says: {0}")]
    Failed(String),
    /// The new process ended without a word.
    #[error("the new process ended before it was ready ({0})")]
    Ended(ExitStatus),
    /// The new process does not get ready.
    #[error("the new process was not ready within {0:?} and was killed")]
    Silent(Duration),
    /// A change of the configuration does not come to its end.
    #[error("a change of the configuration was still under way after {0:?}")]
    Busy(Duration),
    /// This process is ending.
    #[error("this process is ending")]
    Ending,
}

impl Launch {
    /// How this process was started. To be asked early: where a program was found may change.
    pub fn of_this_process() -> Self {
        let mut args = std::env::args_os();
        let name = args.next().map(PathBuf::from).unwrap_or_default();
        let args = args.collect();
        // Not the file that runs: that one may be gone, and its name may be a link that leads to a new one by now.
        let found = if name.components().count() > 1 || name.is_absolute() {
            std::path::absolute(&name).ok()
        } else {
            let paths = std::env::var_os("PATH").unwrap_or_default();
            let mut found = std::env::split_paths(&paths).map(|folder| folder.join(&name));
            found.find(|path| path.is_file()).and_then(|path| std::path::absolute(path).ok())
        };
        let program = found.or_else(|| std::env::current_exe().ok()).unwrap_or(name);
        Self { program, args }
    }
}

/// A new process that serves already, beside this one. It is killed when dropped, unless it is told to take over.
#[derive(Debug)]
pub struct Successor {
    child: Option<Child>,
    pid: u32,
    channel: Channel<UnixStream>,
}

impl Successor {
    /// Its id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Tells it that everything is its own now, and lets it go.
    pub fn take_over(mut self) {
        // If it has died in this moment, there is nobody else to tell.
        let _ = self.channel.send(&Message::Yours);
        self.child = None;
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let process = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
            if let (Ok(Some((Message::Ready, _))), Some(process)) = (self.channel.receive(), process) {
                // It has connections already: it ends as this process does that wants it no more.
                let _ = kill_process(process, Signal::TERM);
            } else {
                // It may have ended by itself. The runtime waits for what is left of it.
                let _ = child.start_kill();
            }
        }
    }
}

/// Starts the program anew, gives it `places`, and waits until it serves, at most for `limit`.
///
/// # Errors
/// [`UpgradeError`]; there is no new process then.
pub async fn start(launch: &Launch, places: Vec<Place>, limit: Duration) -> Result<Successor, UpgradeError> {
    if std::process::id() == 1 {
        return Err(UpgradeError::First);
    }
    let (channel, theirs) = Channel::pair()?;
    let mut command = Command::new(&launch.program);
    command.args(&launch.args).stdin(Stdio::from(theirs)).env(VARIABLE, VERSION);
    for variable in OUR_OWN {
        command.env_remove(variable);
    }
    let spawned = command.spawn();
    // With the command goes our handle of the other end: when the process is gone, so is the talk.
    drop(command);
    let child = spawned.map_err(|source| UpgradeError::Start { program: launch.program.clone(), source })?;
    let pid = child.id().unwrap_or_default();
    info!(pid, program = %launch.program.display(), "upgrade begun");
    let mut successor = Successor { child: Some(child), pid, channel };
    match tokio::time::timeout(limit, successor.become_ready(places)).await {
        Ok(Ok(())) => Ok(successor),
        Ok(Err(error)) => Err(error),
        // It may have said so in this moment.
        Err(_) => match successor.channel.receive() {
            Ok(Some((Message::Ready, _))) => Ok(successor),
            Ok(_) | Err(_) => Err(UpgradeError::Silent(limit)),
        },
    }
}

impl Successor {
    async fn become_ready(&mut self, places: Vec<Place>) -> Result<(), UpgradeError> {
        let Self { child, channel, .. } = self;
        let talk = async {
            for place in &places {
                let mut from = 0;
                while from < place.sockets.len() {
                    from =
                        channel.when(Interest::WRITABLE, |channel| channel.send_place(place, from)).await?;
                }
            }
            channel.when(Interest::WRITABLE, |channel| channel.send(&Message::AllPlaces)).await?;
            channel.when(Interest::READABLE, Channel::receive).await
        };
        let said = match child {
            Some(child) => tokio::select! {
                biased;
                said = talk => match said {
                    Ok(Some((message, _))) => Ok(message),
                    Err(error) if !is_end(&error) => return Err(error.into()),
                    // It is gone, or about to be: how it ended tells more.
                    Ok(None) | Err(_) => Err(child.wait().await?),
                },
                status = child.wait() => Err(status?),
            },
            None => return Err(UpgradeError::Ending),
        };
        // What it said last may not have been read when it was found dead.
        let said = said.or_else(|status| match channel.receive() {
            Ok(Some((message, _))) => Ok(message),
            Ok(None) | Err(_) => Err(UpgradeError::Ended(status)),
        })?;
        match said {
            Message::Ready => Ok(()),
            Message::Failed { reason } => Err(UpgradeError::Failed(reason)),
            other => {
                let message = format!("{other:?} was not to be expected");
                Err(UpgradeError::Talk(io::Error::new(io::ErrorKind::InvalidData, message)))
            }
        }
    }
}

fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

/// The process that this one is to replace.
#[derive(Debug)]
pub struct Predecessor(Channel);

impl Predecessor {
    /// The process at the other end of the standard input, and the places where it listens. `version` is the value of
    /// [`VARIABLE`].
    ///
    /// # Errors
    /// Where there is no such process, or it speaks otherwise.
    pub fn at_stdin(version: &str) -> io::Result<(Self, Vec<Place>)> {
        let channel = Channel::at_stdin(ANSWER)?;
        if version != VERSION {
            let message = format!("it hands over in version {version}, this one takes over in {VERSION}");
            let _ = channel.send_failed(&message);
            return Err(io::Error::new(io::ErrorKind::Unsupported, message));
        }
        match channel.receive_places() {
            Ok(places) => Ok((Self(channel), places)),
            Err(error) => {
                let _ = channel.send_failed(&format!("the sockets cannot be taken over: {error}"));
                Err(error)
            }
        }
    }

    /// Tells it why this process will not serve.
    pub fn failed(&self, reason: &str) {
        // Nobody may be listening.
        let _ = self.0.send_failed(reason);
    }

    /// Tells it that this process serves, and waits until it takes no more. It may be gone: then it takes no more
    /// either.
    pub async fn relieve(self) {
        let told = tokio::task::spawn_blocking(move || {
            self.0.send(&Message::Ready)?;
            self.0.receive()
        });
        if let Ok(Ok(Some((Message::Yours, _)))) = told.await {
            info!("took over from the former process");
        } else {
            warn!("the former process did not say that it takes no more");
        }
    }
}
