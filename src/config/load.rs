//! The whole way from a path to a valid configuration.
//!
//! `weir check` and a reload call the same functions. Blocking: they read files.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3;

use super::diagnostic::{Code, Diagnostic};
use super::effective::{self, complete};
use super::lower::lower;
use super::model::Config;
use super::raw::Root;
use super::report::Report;
use super::source::{self, Files, Texts};
use super::substitute::{Environment, substitute};
use super::{merge::merge, read::read, yaml};

/// A configuration that may be applied.
#[derive(Clone)]
pub struct Accepted {
    /// The configuration.
    pub config: Arc<Config>,
    /// Warnings and notes, in the order of the files.
    pub warnings: Vec<Diagnostic>,
    /// Every file that was read or looked for, as named: the path itself, the files of a folder, key files.
    pub files: Vec<PathBuf>,
    /// XXH3-64 of the texts in lower case hex. Key files and the environment are not part of it: equal hashes do not
    /// mean equal configurations.
    pub hash: String,
    raw: Box<Root>,
}

impl Accepted {
    /// The configuration as YAML with every default and environment variable filled in; it loads to the same
    /// configuration from a file in the same folder.
    pub fn effective(&self) -> String {
        effective::render(&self.raw)
    }

    /// The same as JSON.
    pub fn effective_json(&self) -> serde_json::Value {
        effective::to_json(&self.raw)
    }
}

impl fmt::Debug for Accepted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { config, warnings, files, hash, raw: _ } = self;
        f.debug_struct("Accepted")
            .field("config", config)
            .field("warnings", warnings)
            .field("files", files)
            .field("hash", hash)
            .finish_non_exhaustive()
    }
}

/// A configuration that may not be applied.
#[derive(Debug, Clone)]
pub struct Rejected {
    /// Errors, and the warnings and notes found on the way, in the order of the files: at least one error, and of
    /// more than a thousand diagnostics the first found.
    pub diagnostics: Vec<Diagnostic>,
    /// How many errors there are in all.
    pub errors: usize,
    /// Every file that was read or looked for: a change of one of them may be the repair.
    pub files: Vec<PathBuf>,
}

impl Rejected {
    /// Whether the configuration itself could not be read, so that nothing can be said of it.
    pub fn is_unreadable(&self) -> bool {
        self.diagnostics.iter().any(|found| found.code == Code::FileUnreadable && found.place.is_none())
    }
}

impl fmt::Display for Rejected {
    /// The first error in one line, and how many more there are.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let error = self.diagnostics.iter().find(|found| found.severity == super::Severity::Error);
        if let Some(first) = error {
            write!(f, "{first}")?;
        }
        match self.errors {
            0 | 1 => Ok(()),
            2 => f.write_str(" (and one more error)"),
            all => write!(f, " (and {} more errors)", all - 1),
        }
    }
}

impl std::error::Error for Rejected {}

/// The configuration in the file or folder `path`, with this process's environment.
///
/// # Errors
/// [`Rejected`] with everything that is wrong.
pub fn load(path: &Path) -> Result<Accepted, Rejected> {
    load_with(path, &source::environment)
}

/// The configuration in the file or folder `path`, with `environment` for `${NAME}`.
///
/// # Errors
/// [`Rejected`] with everything that is wrong.
pub fn load_with(path: &Path, environment: Environment<'_>) -> Result<Accepted, Rejected> {
    load_texts(&Texts::read(path), environment)
}

/// The configuration in `text`, which diagnostics call `name`. Paths in it are relative to the folder of `name`.
///
/// # Errors
/// [`Rejected`] with everything that is wrong.
pub fn load_text(name: &str, text: &str, environment: Environment<'_>) -> Result<Accepted, Rejected> {
    load_texts(&Texts::of(name, text), environment)
}

fn load_texts(texts: &Texts, environment: Environment<'_>) -> Result<Accepted, Rejected> {
    let mut report = Report::new(&texts.sources);
    let mut files = Files { named: texts.files().to_vec() };
    let built = build(texts, environment, &mut report, &mut files);
    let errors = report.errors();
    let (diagnostics, files) = (report.finish(), files.named);
    match built {
        Some((raw, config)) if errors == 0 => Ok(Accepted {
            config: Arc::new(config),
            warnings: diagnostics,
            files,
            hash: hash(texts),
            raw: Box::new(raw),
        }),
        _ => Err(Rejected { diagnostics, errors, files }),
    }
}

fn build(
    texts: &Texts,
    environment: Environment<'_>,
    report: &mut Report<'_>,
    files: &mut Files,
) -> Option<(Root, Config)> {
    let mut whole = texts.report(report);
    let mut trees = Vec::new();
    for file in (0..).take(texts.sources.iter().count()) {
        match yaml::parse(report, file) {
            Some(mut tree) => {
                substitute(report, &mut tree, environment);
                trees.push(tree);
            }
            None => whole = false,
        }
    }
    let tree = merge(report, trees);
    let mut raw = read::<Root>(report, &tree);
    // With a file missing or cut off, whatever the others refer to would seem to be missing too.
    if !whole {
        return None;
    }
    let root = raw.get_mut()?;
    complete(root);
    let config = lower(report, files, root)?;
    Some((root.clone(), config))
}

fn hash(texts: &Texts) -> String {
    let mut hasher = Xxh3::new();
    for source in texts.sources.iter() {
        hasher.update(&(source.text.len() as u64).to_le_bytes());
        hasher.update(source.text.as_bytes());
    }
    format!("{:016x}", hasher.digest())
}
