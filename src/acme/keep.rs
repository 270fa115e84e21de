//! The folder `acme` in `state_dir`: accounts, certificates with their keys, and what shows that a name is ours. Only
//! its owner can read it. A file is there whole or not at all: it is written beside its place, synced, and renamed.
//!
//! Several processes may share the folder: the one that has the lock asks authorities, the others read what it gets, and
//! show the same proofs. Everything here blocks for a moment; never call it from a worker.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::config::acme::{AccountId, CertificateId};

/// The largest file that is read.
const LARGEST: u64 = 1 << 20;

/// Why the folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the folder {} cannot be used (`state_dir`): {error}", path.display())]
pub struct KeepError {
    path: PathBuf,
    error: io::Error,
}

/// The folder.
#[derive(Debug, Clone)]
pub struct Keep {
    folder: PathBuf,
}

/// The right to ask authorities; it ends when this is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// The word that this process reads what another one gets; it ends when this is dropped.
#[derive(Debug)]
pub struct Following {
    _file: File,
}

impl Keep {
    /// The folder in `state_dir`; both are made where they are not there.
    ///
    /// # Errors
    /// [`KeepError`] where it cannot be made or written to.
    pub fn open(state_dir: &Path) -> Result<Self, KeepError> {
        let keep = Self { folder: state_dir.join("acme") };
        let failed = |error| KeepError { path: keep.folder.clone(), error };
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        for part in ["accounts", "certificates", "proofs"] {
            builder.create(keep.folder.join(part)).map_err(failed)?;
        }
        // Who may not write there is told now, and not when the first certificate has been got.
        keep.file("lock").map_err(failed)?;
        Ok(keep)
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The lock, if no other process has it.
    ///
    /// # Errors
    /// Where the file system has none.
    pub fn lock(&self) -> io::Result<Option<Lock>> {
        let file = self.file("lock")?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Says that this process follows the one that has the lock.
    ///
    /// # Errors
    /// Where the file cannot be opened or locked, or somebody looks just now who follows.
    pub fn follow(&self) -> io::Result<Following> {
        let file = self.file("followers")?;
        file.try_lock_shared().map_err(io::Error::from)?;
        Ok(Following { _file: file })
    }

    /// Whether another process follows.
    pub fn is_followed(&self) -> bool {
        self.file("followers").is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
    }

    /// The certificate `id` with its key, in PEM, where there is one.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn certificate(&self, id: &CertificateId) -> io::Result<Option<Vec<u8>>> {
        read(&self.certificate_path(id))
    }

    /// Keeps the certificate `id` with its key.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn store_certificate(&self, id: &CertificateId, pem: &[u8]) -> io::Result<()> {
        write(&self.certificate_path(id), pem)
    }

    /// The account `id`, where there is one.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn account(&self, id: &AccountId) -> io::Result<Option<Vec<u8>>> {
        read(&self.account_path(id))
    }

    /// Keeps the account `id`.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn store_account(&self, id: &AccountId, account: &[u8]) -> io::Result<()> {
        write(&self.account_path(id), account)
    }

    /// Shows other processes the proof `name`.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn store_proof(&self, name: &str, proof: &[u8]) -> io::Result<()> {
        write(&self.folder.join("proofs").join(name), proof)
    }

    /// The proofs that another process shows, by their names.
    ///
    /// # Errors
    /// Where they cannot be read.
    pub fn proofs(&self) -> io::Result<Vec<(String, Vec<u8>)>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(self.folder.join("proofs"))? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            // What is being written, or is gone again, is none.
            if !name.starts_with('.')
                && let Some(content) = read(&entry.path())?
            {
                found.push((name, content));
            }
        }
        Ok(found)
    }

    /// Takes all proofs away.
    pub fn clear_proofs(&self) {
        let Ok(entries) = std::fs::read_dir(self.folder.join("proofs")) else { return };
        for entry in entries.flatten() {
            // One that stays is of no use to anybody: the authority asks for it once.
            let _ = std::fs::remove_file(entry.path());
        }
    }

    fn certificate_path(&self, id: &CertificateId) -> PathBuf {
        self.folder.join("certificates").join(format!("{}.pem", id.as_str()))
    }

    fn account_path(&self, id: &AccountId) -> PathBuf {
        self.folder.join("accounts").join(format!("{}.json", id.as_str()))
    }

    fn file(&self, name: &str) -> io::Result<File> {
        let path = self.folder.join(name);
        OpenOptions::new().create(true).truncate(false).write(true).read(true).mode(0o600).open(path)
    }
}

/// The content of the file at `path`, where there is one.
fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut content = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut content)?;
    if content.len() as u64 > LARGEST {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(Some(content))
}

/// Puts `content` at `path`: whole and for good, or not at all.
fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidFilename.into());
    };
    let beside = folder.join(format!(".{}.new", name.to_string_lossy()));
    // What a process left that ended in between may have other rights.
    let _ = std::fs::remove_file(&beside);
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&beside)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::config::acme::{Acme, Challenge};

    fn acme() -> Acme {
        Acme {
            domains: vec!["shop.example.com".to_owned()],
            email: None,
            directory: "https://ca.example/directory".to_owned(),
            directory_ca: None,
            challenge: Challenge::TlsAlpn01,
            renew_before: None,
        }
    }

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn what_is_kept_is_there_for_the_next_process_and_for_its_owner_alone() {
        let state = tempfile::tempdir().unwrap();
        let (path, id, account) =
            (state.path().join("deep/state"), acme().certificate_id(), acme().account_id());
        let keep = Keep::open(&path).unwrap();
        assert_eq!((keep.certificate(&id).unwrap(), keep.account(&account).unwrap()), (None, None));
        for text in ["one", "two"] {
            keep.store_certificate(&id, text.as_bytes()).unwrap();
            keep.store_account(&account, text.as_bytes()).unwrap();
            keep.store_proof(text, text.as_bytes()).unwrap();
        }
        let next = Keep::open(&path).unwrap();
        assert_eq!(next.certificate(&id).unwrap().as_deref(), Some(&b"two"[..]));
        assert_eq!(next.account(&account).unwrap().as_deref(), Some(&b"two"[..]));
        let mut proofs = next.proofs().unwrap();
        proofs.sort();
        assert_eq!(proofs, ["one", "two"].map(|text| (text.to_owned(), text.as_bytes().to_vec())));
        for folder in [path, keep.folder().to_owned(), keep.folder().join("certificates")] {
            assert_eq!(mode(&folder), 0o700, "{}", folder.display());
        }
        for file in [keep.certificate_path(&id), keep.account_path(&account), keep.folder().join("lock")] {
            assert_eq!(mode(&file), 0o600, "{}", file.display());
        }
        // Nothing is left of how they were written.
        assert_eq!(std::fs::read_dir(keep.folder().join("certificates")).unwrap().count(), 1);
        next.clear_proofs();
        assert_eq!(keep.proofs().unwrap(), []);
    }

    #[test]
    fn one_process_has_the_lock_and_knows_whether_others_follow() {
        let state = tempfile::tempdir().unwrap();
        let (first, second) = (Keep::open(state.path()).unwrap(), Keep::open(state.path()).unwrap());
        let lock = first.lock().unwrap();
        assert!(lock.is_some());
        assert!(second.lock().unwrap().is_none());
        assert!(!first.is_followed());
        let following = second.follow().unwrap();
        assert!(first.is_followed());
        drop(following);
        assert!(!first.is_followed());
        drop(lock);
        assert!(second.lock().unwrap().is_some());
    }

    #[test]
    fn folder_that_cannot_be_made_is_an_error_that_names_it() {
        let state = tempfile::tempdir().unwrap();
        let path = state.path().join("file");
        File::create(&path).unwrap();
        let error = Keep::open(&path).unwrap_err().to_string();
        assert!(error.contains("file/acme") && error.contains("state_dir"), "{error}");
    }
}
