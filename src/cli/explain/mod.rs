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
use std::path::Path;

use anyhow::Context;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use self::explanation::Explanation;
use super::args::{ExplainArgs, Output};
use super::{Exit, Misuse, configuration};
use crate::proxy::Identity;

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
    let identity = args.client_cert.as_deref().map(identity).transpose()?;
    let explanation = Explanation::new(&config, listener, args.peer, identity.as_ref(), asked);
    match args.output {
        Output::Text => out.write_all(text::page(&explanation).as_bytes())?,
        Output::Json => {
            serde_json::to_writer_pretty(&mut *out, &explanation).map_err(io::Error::from)?;
            out.write_all(b"\n")?;
        }
    }
    Ok(Exit::Ok)
}

/// Whom the first certificate in the file at `path` names. Whether the listener would believe it is not asked.
#[expect(clippy::disallowed_methods, reason = "a command reads the file that it is given")]
fn identity(path: &Path) -> anyhow::Result<Identity> {
    let content = std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let certificate = CertificateDer::from_pem_slice(&content)
        .map_err(|_| Misuse(format!("there is no certificate (PEM) in {}", path.display())))?;
    let identity = Identity::of(&certificate);
    Ok(identity.map_err(|error| Misuse(format!("{}: {error}", path.display())))?)
}
