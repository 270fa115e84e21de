//! The file that a person edits: written once where there is none, never written over.
//!
//! An existing file is somebody's work, whatever is in it: it is served as it is. What it means is for `config`.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;

use anyhow::Context;

use crate::front::{Socket, bind};
use crate::types::BindAddress;

const TEMPLATE: &str = include_str!("template.yaml");

/// What stands for a port in the template, and the port that is taken when it is free.
const PORTS: [(&str, u16); 5] =
    [("{listener}", 8080), ("{admin}", 9900), ("{blue}", 8081), ("{green}", 8082), ("{canary}", 8083)];

/// Which ports a new file names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ports {
    /// The usual ones, where they are free.
    Usual,
    /// Those that the kernel chooses.
    Any,
}

/// Writes the file at `path` unless something is there; true when it was written.
///
/// # Errors
/// When it cannot be written, with what to do about it.
pub(super) fn provide(path: &Path) -> anyhow::Result<bool> {
    if path.symlink_metadata().is_ok() {
        return Ok(false);
    }
    let text = text(Ports::Usual)?;
    let created = OpenOptions::new().write(true).create_new(true).open(path);
    created.and_then(|mut file| file.write_all(text.as_bytes())).with_context(|| refused(path))?;
    Ok(true)
}

/// Writes anew the file at `path`, which this process has just written.
///
/// # Errors
/// When it cannot be written, with what to do about it.
pub(super) fn renew(path: &Path) -> anyhow::Result<()> {
    let text = text(Ports::Any)?;
    let opened = OpenOptions::new().write(true).truncate(true).open(path);
    opened.and_then(|mut file| file.write_all(text.as_bytes())).with_context(|| refused(path))
}

fn refused(path: &Path) -> String {
    format!(
        "{} cannot be written; start the demo in a folder that you may write to, or name another file with --config",
        path.display()
    )
}

/// The text of a new file.
fn text(ports: Ports) -> anyhow::Result<String> {
    let mut held = Vec::new();
    let mut text = TEMPLATE.to_owned();
    for (place, usual) in PORTS {
        let wanted = if ports == Ports::Usual { usual } else { 0 };
        let (socket, port) =
            free(wanted).or_else(|_| free(0)).context("no port of 127.0.0.1 can be listened on")?;
        held.push(socket);
        text = text.replace(place, &port.to_string());
    }
    Ok(text)
}

/// A socket that holds `port` (0: any) of 127.0.0.1 as long as it lives.
fn free(port: u16) -> io::Result<(Vec<Socket>, u16)> {
    let address = BindAddress::Tcp(([127, 0, 0, 1], port).into());
    match bind::bind(&address, 1).map_err(io::Error::other)? {
        (sockets, BindAddress::Tcp(bound)) => Ok((sockets, bound.port())),
        (_, BindAddress::Unix(_)) => Err(io::ErrorKind::AddrNotAvailable.into()),
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests look at the file that was written")]
mod tests {
    use super::*;

    #[test]
    fn file_is_written_where_there_is_none_and_loads() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weir-demo.yaml");
        assert!(provide(&path).unwrap());
        for text in [std::fs::read_to_string(&path).unwrap(), text(Ports::Any).unwrap()] {
            let accepted = crate::config::load_text("weir-demo.yaml", &text, &|_| None).unwrap();
            assert_eq!(accepted.config.upstreams.len(), 3, "{text}");
            assert_eq!(accepted.config.splits[0].split.rules.len(), 1, "{text}");
            let errors: Vec<_> = accepted
                .warnings
                .iter()
                .filter(|found| found.severity == crate::config::Severity::Warning)
                .collect();
            assert!(errors.is_empty(), "{errors:?}");
        }
    }

    #[test]
    fn file_that_is_there_is_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weir-demo.yaml");
        std::fs::write(&path, "mine").unwrap();
        assert!(!provide(&path).unwrap());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    }

    #[test]
    fn folder_that_cannot_be_written_is_told_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        for path in [folder.path().join("absent/weir-demo.yaml"), file.join("weir-demo.yaml")] {
            let told = format!("{:#}", provide(&path).unwrap_err());
            assert!(told.contains("weir-demo.yaml cannot be written") && told.contains("--config"), "{told}");
        }
    }
}
