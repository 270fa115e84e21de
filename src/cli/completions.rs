//! `weir completions`: from the same registry as the parser and the help.

use std::io::Write;

use clap::CommandFactory;

use super::Exit;
use super::args::{Args, CompletionsArgs};

/// Prints the completions for a shell.
///
/// # Errors
/// When they cannot be written.
pub fn run(args: &CompletionsArgs, out: &mut impl Write) -> anyhow::Result<Exit> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Args::command(), "weir", &mut text);
    out.write_all(&text)?;
    Ok(Exit::Ok)
}
