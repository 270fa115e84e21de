//! The file that has the id of the process that serves.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// The longest file that may be one.
const LONGEST: u64 = 64;

/// This process's id in a file. The file goes when this is dropped, unless another process has written its own.
#[derive(Debug)]
pub(super) struct PidFile {
    path: PathBuf,
    is_ours: bool,
}

impl PidFile {
    /// Writes the id of this process to `path`, as a whole or not at all.
    pub(super) fn write(path: &Path) -> io::Result<Self> {
        let mut next = path.as_os_str().to_owned();
        next.push(format!(".{}", std::process::id()));
        let written = File::create(&next)
            .and_then(|mut file| writeln!(file, "{}", std::process::id()))
            .and_then(|()| fs::rename(&next, path));
        match written {
            Ok(()) => Ok(Self { path: path.to_owned(), is_ours: true }),
            Err(error) => {
                // What was begun must not stay.
                let _ = fs::remove_file(&next);
                Err(error)
            }
        }
    }

    /// Leaves the file to the process that takes this one's place.
    pub(super) fn leave(&mut self) {
        self.is_ours = false;
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if self.is_ours && read(&self.path).is_ok_and(|pid| pid == std::process::id()) {
            // Somebody may have removed it already.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The id in the file at `path`.
pub(super) fn read(path: &Path) -> io::Result<u32> {
    let mut text = String::new();
    File::open(path)?.take(LONGEST).read_to_string(&mut text)?;
    let pid = text.trim().parse().ok().filter(|pid| *pid > 0);
    pid.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it has no process id"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_has_the_id_and_goes_unless_it_is_of_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weir.pid");
        let file = PidFile::write(&path).unwrap();
        assert_eq!(read(&path).unwrap(), std::process::id());
        drop(file);
        assert!(!path.exists());
        let mut file = PidFile::write(&path).unwrap();
        file.leave();
        drop(file);
        assert_eq!(read(&path).unwrap(), std::process::id(), "it is another's to remove");
        let file = PidFile::write(&path).unwrap();
        fs::rename(&path, folder.path().join("moved")).unwrap();
        writeln!(File::create(&path).unwrap(), "1").unwrap();
        drop(file);
        assert_eq!(read(&path).unwrap(), 1);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing else is left");
    }

    #[test]
    fn what_is_no_id_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weir.pid");
        for text in ["", "0", "-1", "weir", "4294967296"] {
            File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
            assert!(read(&path).is_err(), "{text:?}");
        }
    }
}
