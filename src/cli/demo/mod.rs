//! `weir demo`: three small upstreams, the proxy, a load, and a live view, with a file to edit. For people: `docs/demo.md`.
//!
//! Everything real but the users: `file` (what is edited), `upstreams` and `stage` (upstreams and the proxy),
//! `users` and `load` (who asks). What must happen is computed in `division` and `moves` by the proxy's own
//! functions, ahead of an edit in `hints`; what happened is counted in `ledger`, `round` and `latency`.
//! `show` runs it all; `figures` is what `view` (of `paint`, on a `screen`) and `plain` show.

mod division;
mod figures;
mod file;
mod hints;
mod latency;
mod ledger;
mod load;
mod moves;
mod paint;
mod plain;
mod round;
mod screen;
mod show;
mod stage;
mod upstreams;
mod users;
mod view;

use std::io::{self, IsTerminal, Write};

use anyhow::Context;

use super::Exit;
use super::args::DemoArgs;
use stage::{Failed, Stage};

/// Threads beside the proxy's own workers: for the load, the upstreams and the view.
const THREADS: usize = 2;

/// Runs the demo until it is told to end, or its time is over. [`Exit::Failed`] when a request was lost.
///
/// # Errors
/// When the file cannot be written, an address is in use, or the output is gone.
pub fn run(args: &DemoArgs) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build()
        .context("the runtime cannot start")?;
    runtime.block_on(async {
        let signals = show::Signals::new()?;
        match Stage::set(&args.config).await {
            Ok(stage) => show::show(args, stage, signals).await,
            Err(Failed::Error(error)) => Err(error),
            Err(Failed::Refused(rejected)) => {
                let mut out = io::stderr().lock();
                let colour = io::stderr().is_terminal();
                for diagnostic in &rejected.diagnostics {
                    out.write_all(diagnostic.render(colour).as_bytes())?;
                }
                let file = args.config.display();
                writeln!(
                    out,
                    "weir: {file} is taken as it stands; repair it, or move it away to get a new one"
                )?;
                Ok(if rejected.is_unreadable() { Exit::Failed } else { Exit::Refused })
            }
        }
    })
}
