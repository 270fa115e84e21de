//! The floors: who may know whom, and what the pure rooms may not touch.

use std::path::Path;

use crate::lexer::{Named, paths, tokens, without_tests};

/// The rooms of each floor, from the ground up. A room knows the rooms of lower floors only.
const FLOORS: &[&[&str]] = &[
    &["types"],
    &["logic", "wire"],
    &["config", "telemetry", "net"],
    &["upstream"],
    &["acme"],
    &["state"],
    &["proxy", "control"],
    &["front"],
    &["admin"],
    &["app"],
    &["cli"],
    &["main"],
];

/// Rooms without I/O, clock, environment and global randomness.
const PURE: &[&str] = &["types", "logic", "wire"];

/// What a pure room does not name, outside its tests.
const IMPURE: &[&[&str]] = &[
    &["tokio"],
    &["mio"],
    &["socket2"],
    &["notify"],
    &["fastrand"],
    &["rand"],
    &["getrandom"],
    &["RandomState"],
    &["std", "fs"],
    &["std", "env"],
    &["std", "process"],
    &["std", "thread"],
    &["std", "os"],
    &["TcpStream"],
    &["TcpListener"],
    &["UdpSocket"],
    &["ToSocketAddrs"],
    &["Instant", "now"],
    &["SystemTime", "now"],
    &["stdin"],
    &["stdout"],
    &["stderr"],
];

/// A file below `src`, without what only tests are built from.
pub(crate) struct Source<'a> {
    /// The path below `src`.
    path: &'a Path,
    paths: Vec<Named>,
}

impl<'a> Source<'a> {
    pub(crate) fn new(path: &'a str, text: &str) -> Self {
        Self { path: Path::new(path), paths: paths(&without_tests(&tokens(text)).0) }
    }

    /// The module directly below the crate that this file belongs to.
    fn room(&self) -> String {
        self.path.iter().next().unwrap().to_string_lossy().trim_end_matches(".rs").to_owned()
    }

    /// How many `super` lead from here to the crate.
    fn depth(&self) -> usize {
        let file = self.path.file_name().unwrap();
        self.path.iter().count()
            - usize::from(["mod.rs", "lib.rs", "main.rs"].iter().any(|name| file == *name))
    }

    /// The path from the root, for complaints.
    fn shown(&self) -> String {
        format!("src/{}", self.path.display())
    }

    /// Imports that do not lead down, and rooms that have no floor.
    pub(crate) fn upward(&self) -> Vec<String> {
        let (room, shown) = (self.room(), self.shown());
        let floor = |room: &str| FLOORS.iter().position(|rooms| rooms.contains(&room));
        if room == "lib" {
            return Vec::new();
        }
        let Some(own) = floor(&room) else { return vec![format!("{shown}: the room {room} has no floor")] };
        let mut wrong = Vec::new();
        for Named { path, line } in &self.paths {
            let climbs = path.iter().take_while(|word| *word == "super").count();
            let target = match path[0].as_str() {
                "crate" => path.get(1),
                "weir" if room == "main" => path.get(1),
                _ if climbs > 0 && climbs == self.depth() => path.get(climbs),
                _ => None,
            };
            let Some(target) = target.filter(|target| **target != room) else { continue };
            let down = floor(target).is_none_or(|floor| floor < own);
            if !down || target == "*" {
                wrong
                    .push(format!("{shown}:{line}: {room} knows {}, which is not below it", path.join("::")));
            }
        }
        wrong
    }

    /// What a pure room does not name.
    pub(crate) fn impure(&self) -> Vec<String> {
        if !PURE.contains(&self.room().as_str()) {
            return Vec::new();
        }
        let names = |path: &[String], words: &[&str]| path.windows(words.len()).any(|window| window == words);
        let bad = self.paths.iter().filter(|named| IMPURE.iter().any(|words| names(&named.path, words)));
        bad.map(|named| format!("{}:{}: {}", self.path.display(), named.line, named.path.join("::")))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn import_that_does_not_lead_down_is_named() {
        let rows = [
            ("logic/route/table.rs", "use crate::config::Config;", true),
            ("logic/route/table.rs", "fn f() { crate::proxy::g() }", true),
            ("logic/route/table.rs", "use crate::{types::Share, state};", true),
            ("logic/route/table.rs", "use super::super::super::config;", true),
            ("logic/mod.rs", "use super::app;", true),
            ("config/mod.rs", "use crate::telemetry::Counter;", true),
            ("upstream/pool.rs", "use crate::state::Snapshot;", true),
            ("proxy/handle.rs", "use crate::{logic::{route, split}, front::{self as f}};", true),
            ("types/name.rs", "use crate::*;", true),
            ("attic/mod.rs", "", true),
            ("app.rs", "use crate::cli::run;", true),
            ("logic/route/table.rs", "use crate::types::Share; use super::super::split;", false),
            (
                "logic/route/table.rs",
                "// crate::config\n#[cfg(test)] mod tests { use crate::config; }",
                false,
            ),
            ("front/http1.rs", "use crate::{logic::{route, split}, proxy::{self as p}};", false),
            ("state/mod.rs", "use crate::upstream; pub(crate) fn f() {}", false),
            ("main.rs", "fn main() { weir::cli::run() }", false),
            ("cli/mod.rs", "use crate::{app, admin};", false),
            ("lib.rs", "pub mod types;", false),
        ];
        for (path, text, wrong) in rows {
            assert_eq!(!Source::new(path, text).upward().is_empty(), wrong, "{path}: {text}");
        }
    }

    #[test]
    fn pure_room_that_touches_the_world_is_named() {
        let rows = [
            ("logic/a.rs", "use tokio::sync::mpsc;", true),
            ("logic/a.rs", "use std::{collections::HashMap, fs};", true),
            ("wire/a.rs", "use std::net::{IpAddr, TcpStream};", true),
            ("types/a.rs", "let now = std::time::Instant::now();", true),
            ("logic/a.rs", "let n = fastrand::u64(..);", true),
            ("logic/a.rs", "use std::net::IpAddr; use std::time::Duration; let tokio_like = 1;", false),
            ("logic/a.rs", "#[cfg(test)] mod tests { use std::fs; }", false),
            ("upstream/a.rs", "use tokio::net::TcpStream;", false),
        ];
        for (path, text, wrong) in rows {
            assert_eq!(!Source::new(path, text).impure().is_empty(), wrong, "{path}: {text}");
        }
    }
}
