//! `weir explain`: how a request would be routed, which variant it would get, and why; and what the proxy would say
//! where it would refuse it.
//!
//! It calls what the proxy calls, in the order in which the proxy calls it, on a configuration file and a request that
//! nobody sent: nothing is connected, resolved or counted. That it can tell is its success, whatever it tells: a refused
//! request is explained too, with exit code 0.
//!
//! Reading order: [`request`] (what is asked), [`way`] (the phases of a request), [`choice`] (what a split decides),
//! [`obstacle`] (why a route is not taken), [`explanation`] (the shape of it all, and of the JSON), [`text`] (the page for
//! people), [`words`]. For users: `docs/commands.md`.

mod choice;
mod explanation;
mod obstacle;
mod request;
mod text;
mod way;
mod words;

use std::io::{self, Write};

use self::explanation::Explanation;
use super::args::{ExplainArgs, Output};
use super::{Exit, configuration};

/// Explains the request that `args` are about.
///
/// # Errors
/// When the configuration is refused or has no such listener, no client could send such a request, or the explanation
/// cannot be written.
pub fn run(args: &ExplainArgs, out: &mut impl Write) -> anyhow::Result<Exit> {
    let asked = request::read(&args.request, &args.headers, args.absolute)?;
    let config = configuration::load(&args.config)?;
    let mut names = config.listeners.iter().map(|listener| listener.name.as_str());
    let listener = match &args.listener {
        None => 0,
        Some(name) => names
            .clone()
            .position(|known| known == name)
            .ok_or_else(|| configuration::unknown("listener", name, &mut names))?,
    };
    let explanation = Explanation::new(&config, listener, args.peer, asked);
    match args.output {
        Output::Text => out.write_all(text::page(&explanation).as_bytes())?,
        Output::Json => {
            serde_json::to_writer_pretty(&mut *out, &explanation).map_err(io::Error::from)?;
            out.write_all(b"\n")?;
        }
    }
    Ok(Exit::Ok)
}
