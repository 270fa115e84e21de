//! `weir check`: whether configurations are right, and everything that is wrong with them.
//!
//! Runs the code that a start and a reload run, and changes nothing. Arguments are parsed elsewhere.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::Exit;
use super::args::Output;
use crate::config::{self, Accepted, Config, Diagnostic, Rejected};

/// What is printed, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// Whether the configuration is printed with every default.
    pub effective: bool,
    /// How results are written.
    pub output: Output,
    /// Whether diagnostics for people have terminal colours.
    pub colour: bool,
}

/// Checks the files and folders `paths`; the exit code is the worst of all.
///
/// Data goes to `out`, diagnostics for people to `err`.
///
/// # Errors
/// When `out` or `err` cannot be written.
pub fn run(
    paths: &[PathBuf],
    options: Options,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<Exit> {
    let mut code = Exit::Ok;
    for path in paths {
        let result = config::load(path);
        code = code.max(match &result {
            Ok(_) => Exit::Ok,
            Err(rejected) if rejected.is_unreadable() => Exit::Failed,
            Err(_) => Exit::Refused,
        });
        match options.output {
            Output::Text => text(path, &result, options, out, err)?,
            Output::Json => writeln!(out, "{}", as_json(path, &result, options))?,
        }
    }
    Ok(code)
}

fn text(
    path: &Path,
    result: &Result<Accepted, Rejected>,
    options: Options,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<()> {
    let name = path.display();
    for found in diagnostics(result) {
        writeln!(err, "{}", found.render(options.colour))?;
    }
    match result {
        Ok(accepted) if options.effective => {
            out.write_all(accepted.effective().as_bytes())?;
            writeln!(err, "{name}: ok, {}", summary(&accepted.config))
        }
        Ok(accepted) => writeln!(out, "{name}: ok, {}", summary(&accepted.config)),
        Err(rejected) => {
            let shown = match rejected.diagnostics.len() {
                some if some < rejected.errors => format!(", {some} of them shown"),
                _ => String::new(),
            };
            writeln!(err, "{name}: refused, {}{shown}", counted(rejected.errors, "error"))
        }
    }
}

fn as_json(path: &Path, result: &Result<Accepted, Rejected>, options: Options) -> serde_json::Value {
    let mut object = json!({
        "file": path.to_string_lossy(),
        "ok": result.is_ok(),
        "diagnostics": diagnostics(result).iter().map(Diagnostic::to_json).collect::<Vec<_>>(),
    });
    if let Err(rejected) = result {
        object["errors"] = json!(rejected.errors);
    }
    if let Ok(accepted) = result {
        let Config { listeners, upstreams, splits, routes, .. } = &*accepted.config;
        object["hash"] = json!(accepted.hash);
        object["listeners"] = json!(listeners.len());
        object["upstreams"] = json!(upstreams.len());
        object["splits"] = json!(splits.len());
        object["routes"] = json!(routes.len());
        if options.effective {
            object["effective"] = accepted.effective_json();
        }
    }
    object
}

fn diagnostics(result: &Result<Accepted, Rejected>) -> &[Diagnostic] {
    match result {
        Ok(accepted) => &accepted.warnings,
        Err(rejected) => &rejected.diagnostics,
    }
}

/// What a configuration has, such as `1 listener, 3 upstreams, 1 split, 2 routes`.
pub fn summary(config: &Config) -> String {
    let parts = [
        counted(config.listeners.len(), "listener"),
        counted(config.upstreams.len(), "upstream"),
        counted(config.splits.len(), "split"),
        counted(config.routes.len(), "route"),
    ];
    parts.join(", ")
}

fn counted(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "listeners: [{ bind: 127.0.0.1:0 }]\nupstreams: { a: { endpoints: [127.0.0.1:1] } }\n\
                        routes: [{ upstream: a }]\n";

    fn check(files: &[(&str, &str)], options: Options) -> (Exit, String, String) {
        let folder = tempfile::tempdir().unwrap();
        let paths = files.iter().map(|(name, text)| {
            let path = folder.path().join(name);
            if !text.is_empty() {
                std::fs::File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
            }
            path
        });
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = run(&paths.collect::<Vec<_>>(), options, &mut out, &mut err).unwrap();
        let folder = format!("{}/", folder.path().display());
        let text = |bytes| String::from_utf8(bytes).unwrap().replace(&folder, "");
        (code, text(out), text(err))
    }

    #[test]
    fn right_configuration_is_one_line_and_code_0() {
        let (code, out, err) = check(&[("a.yaml", GOOD)], Options::default());
        assert_eq!((code, &*err), (Exit::Ok, ""));
        assert_eq!(out, "a.yaml: ok, 1 listener, 1 upstream, 0 splits, 1 route\n");
    }

    #[test]
    fn wrong_configuration_shows_every_error_and_code_2() {
        let wrong = GOOD.replace("upstream: a", "upstream: b").replace("bind", "bint");
        let (code, out, err) = check(&[("a.yaml", &wrong), ("b.yaml", GOOD)], Options::default());
        assert_eq!(code, Exit::Refused);
        assert_eq!(out, "b.yaml: ok, 1 listener, 1 upstream, 0 splits, 1 route\n");
        for part in [
            "a.yaml:1:15\n",
            "error[unknown-key]",
            "did you mean `bind`",
            "error[unknown-upstream]",
            "refused, 2 errors",
        ] {
            assert!(err.contains(part), "{part}: {err}");
        }
    }

    #[test]
    fn missing_file_is_code_1() {
        let (code, out, err) = check(&[("a.yaml", "")], Options::default());
        assert_eq!((code, &*out), (Exit::Failed, ""));
        assert!(
            err.contains("error[file-unreadable]: ") && err.contains("a.yaml: refused, 1 error\n"),
            "{err}"
        );
    }

    #[test]
    fn effective_configuration_goes_to_the_output_and_loads_again() {
        let options = Options { effective: true, ..Options::default() };
        let (code, out, err) = check(&[("a.yaml", GOOD)], options);
        assert_eq!((code, &*err), (Exit::Ok, "a.yaml: ok, 1 listener, 1 upstream, 0 splits, 1 route\n"));
        assert!(out.contains("max_header: 64KiB"), "{out}");
        assert_eq!(check(&[("a.yaml", &out)], options).1, out);
    }

    #[test]
    fn json_is_one_object_a_line() {
        let options = Options { output: Output::Json, effective: true, ..Options::default() };
        let (code, out, err) = check(&[("a.yaml", GOOD), ("b.yaml", "routes: 1\n")], options);
        assert_eq!((code, &*err), (Exit::Refused, ""));
        let lines: Vec<serde_json::Value> =
            out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines[0]["ok"], true);
        assert_eq!(lines[0]["effective"]["upstreams"]["a"]["dns_refresh"], "30s");
        assert_eq!(lines[1]["ok"], false);
        assert_eq!(lines[1]["diagnostics"][1]["code"], "wrong-type");
        assert_eq!(lines[1]["diagnostics"][1]["place"]["line"], 1);
    }
}
