//! Files: the only place of the configuration that reads them. Blocking; never call it from a worker.
//!
//! Remembers every file it was asked for, read or not, so that a watcher can watch what a broken configuration names.
//! What the texts mean is for [`super::yaml`].

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::diagnostic::Code;
use super::report::Report;
use super::span::{Sources, Span};

/// The largest configuration file.
const MAX_TEXT: u64 = 16 << 20;
/// The largest key file of overrides.
const MAX_KEY: u64 = 4 << 10;
/// The largest file of certificates or their keys: some times what all the world's authorities need.
const MAX_PEM: u64 = 1 << 20;

/// The texts of a configuration, and what went wrong with reading them.
#[derive(Debug, Default)]
pub(super) struct Texts {
    pub(super) sources: Sources,
    problems: Vec<Problem>,
    files: Vec<PathBuf>,
}

#[derive(Debug)]
struct Problem {
    code: Code,
    span: Span,
    message: String,
    hint: Option<String>,
}

impl Texts {
    /// One text that stands in no file.
    pub(super) fn of(name: &str, text: &str) -> Self {
        let mut texts = Self::default();
        texts.sources.add(name.into(), text.to_owned());
        texts
    }

    /// The file at `path`, or the `*.yaml` files of the folder there, in name order.
    pub(super) fn read(path: &Path) -> Self {
        let mut texts = Self { files: vec![path.to_owned()], ..Self::default() };
        if !path.is_dir() {
            texts.add(path);
            return texts;
        }
        match yaml_files(path) {
            Ok(paths) if paths.is_empty() => {
                let message = format!("the folder {} has no `*.yaml` file", path.display());
                texts.problem(Code::NoFiles, Span::NONE, message, None);
            }
            Ok(paths) => {
                for path in paths {
                    texts.files.push(path.clone());
                    texts.add(&path);
                }
            }
            Err(error) => texts.unreadable(path, &error),
        }
        texts
    }

    fn add(&mut self, path: &Path) {
        let bytes = match read_at_most(path, MAX_TEXT) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => {
                let message = format!("{} is larger than {} MiB", path.display(), MAX_TEXT >> 20);
                return self.problem(Code::FileTooLarge, Span::NONE, message, None);
            }
            Err(error) => return self.unreadable(path, &error),
        };
        match String::from_utf8(bytes) {
            Ok(text) => {
                self.sources.add(path.to_owned(), text);
            }
            Err(error) => {
                let at = error.utf8_error().valid_up_to();
                let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
                let file = self.sources.add(path.to_owned(), text);
                let span = Span::new(file, at..at + 1);
                let message = "the file is not UTF-8 text".to_owned();
                self.problem(Code::NotUtf8, span, message, Some("save it as UTF-8".to_owned()));
            }
        }
    }

    fn unreadable(&mut self, path: &Path, error: &io::Error) {
        let message = format!("{} cannot be read: {error}", path.display());
        self.problem(Code::FileUnreadable, Span::NONE, message, None);
    }

    fn problem(&mut self, code: Code, span: Span, message: String, hint: Option<String>) {
        self.problems.push(Problem { code, span, message, hint });
    }

    /// Puts what went wrong into `report`; whether all could be read.
    pub(super) fn report(&self, report: &mut Report<'_>) -> bool {
        for Problem { code, span, message, hint } in &self.problems {
            report.error(*code, *span, message.as_str()).maybe_hint(hint.clone());
        }
        self.problems.is_empty()
    }

    /// The files asked for: the path itself, and what a folder holds.
    pub(super) fn files(&self) -> &[PathBuf] {
        &self.files
    }
}

/// Reads the files that a configuration names.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// Every file asked for, in that order, each once.
    pub(super) named: Vec<PathBuf>,
}

/// Why a named file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    /// It cannot be read.
    #[error("{0}")]
    Unreadable(io::Error),
    /// It is too large.
    #[error("it is larger than {0} bytes")]
    TooLarge(u64),
}

impl Files {
    /// The content of the key file at `path`.
    ///
    /// # Errors
    /// [`FileError`] when it is no readable regular file (a pipe or device could keep the reader forever), or too large.
    pub(super) fn key_file(&mut self, path: &Path) -> Result<Vec<u8>, FileError> {
        self.read(path, MAX_KEY)
    }

    /// The content of the file of certificates, or of a key of one, at `path`.
    ///
    /// # Errors
    /// As of [`Files::key_file`].
    pub(super) fn pem_file(&mut self, path: &Path) -> Result<Vec<u8>, FileError> {
        self.read(path, MAX_PEM)
    }

    fn read(&mut self, path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
        if !self.named.iter().any(|known| known == path) {
            self.named.push(path.to_owned());
        }
        let regular = std::fs::metadata(path).map_err(FileError::Unreadable)?.is_file();
        if !regular {
            return Err(FileError::Unreadable(io::Error::other("it is not a regular file")));
        }
        read_at_most(path, limit).map_err(FileError::Unreadable)?.ok_or(FileError::TooLarge(limit))
    }
}

/// `path` as named by a text in the file `by`: relative paths begin at that file's folder.
pub(super) fn resolve(sources: &Sources, by: Span, path: &str) -> PathBuf {
    match sources.get(by.file).and_then(|source| source.path.parent()) {
        Some(folder) => folder.join(path),
        None => PathBuf::from(path),
    }
}

/// The value of an environment variable of this process; `None` also when it is not UTF-8.
pub(super) fn environment(name: &str) -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "this is the place where the environment is read")]
    std::env::var(name).ok()
}

fn read_at_most(path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= limit).then_some(bytes))
}

/// The `*.yaml` files of a folder in name order; hidden ones are an editor's or a mount's own.
fn yaml_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name();
        let path = folder.join(&name);
        let hidden = name.as_encoded_bytes().starts_with(b".");
        if !hidden && path.extension().is_some_and(|extension| extension == "yaml") && !path.is_dir() {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names.into_iter().map(|name| folder.join(name)).collect())
}
