//! The commands. Data goes to the standard output, everything else to the standard error; exit codes stand in
//! [`Exit`] and nowhere else.
//!
//! Reading order: [`args`] (what may be typed), then a file for each command.

pub mod args;
pub mod assign;
pub mod check;
pub mod completions;
mod configuration;
pub mod demo;
pub mod explain;
mod pid_file;
pub mod run;
pub mod schema;
pub mod token;
pub mod upgrade;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use args::{Args, Command};

use crate::config::Rejected;

/// What a command came to: the process's exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// Fine.
    Ok,
    /// It failed: a file cannot be read, an address is in use.
    Failed,
    /// Refused by a check: the configuration is not valid.
    Refused,
    /// The command line is wrong.
    Usage,
}

impl Exit {
    /// The exit code.
    pub const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failed => 1,
            Self::Refused => 2,
            Self::Usage => 64,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Help and version are answers, all else is a wrong command line.
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            // Nobody may be listening.
            let _ = error.print();
            return if asked { Exit::Ok } else { Exit::Usage }.into();
        }
    };
    let (mut out, mut err) = (io::stdout().lock(), io::stderr());
    let done = match args.command {
        Command::Run(args) => {
            drop(out);
            return run::run(&args).into();
        }
        Command::Demo(args) => {
            drop(out);
            demo::run(&args)
        }
        Command::Check(args) => {
            let colour = io::stderr().is_terminal();
            let options = check::Options { effective: args.effective, output: args.output, colour };
            check::run(&args.files, options, &mut out, &mut err).map_err(Into::into)
        }
        Command::Explain(args) => explain::run(&args, &mut out),
        Command::Assign(args) => assign::run(&args, io::stdin().lock(), &mut out, &mut err),
        Command::Schema => schema::run(&mut out).map_err(Into::into),
        Command::Completions(args) => completions::run(&args, &mut out),
        Command::Token(args) => token::run(&args, &mut out),
        Command::Upgrade(args) => upgrade::run(&args, &mut out),
    };
    match done {
        Ok(exit) => exit.into(),
        // A reader that has seen enough (`weir assign … | head`) is no failure.
        Err(error) if is_broken_pipe(&error) => Exit::Ok.into(),
        Err(error) => complain(&error, &mut err).into(),
    }
}

/// The arguments fit the parser and say nothing that can be done.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Misuse(String);

/// Tells a person what went wrong; the exit code for it. Nobody may be listening.
fn complain(error: &anyhow::Error, err: &mut io::Stderr) -> Exit {
    if let Some(rejected) = error.downcast_ref::<Rejected>() {
        let colour = err.is_terminal();
        for diagnostic in &rejected.diagnostics {
            let _ = writeln!(err, "{}", diagnostic.render(colour));
        }
        return if rejected.is_unreadable() { Exit::Failed } else { Exit::Refused };
    }
    let _ = writeln!(err, "weir: {error:#}");
    if error.is::<Misuse>() { Exit::Usage } else { Exit::Failed }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>());
    io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
