//! What must be watched for a set of paths, and what these contain.
//!
//! A path is followed by hand, link by link, so that each directory on the way is known by the name it really has: an
//! entry may change in any of them. Reading is bounded, and nothing but regular files is opened.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::hash::{Hash, Hasher};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use xxhash_rust::xxh3::Xxh3;

/// How much of a file is read; of a larger one the rest counts by its length.
const READ_LIMIT: u64 = 16 << 20;

/// How many links are followed, as in Linux.
const LINK_LIMIT: usize = 40;

/// How far behind the clock a file system's time may be (the tick of the kernel, with room).
const CLOCK_TICK: Duration = Duration::from_millis(20);

/// What is at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Content {
    /// A file, by its length and what it contains.
    File { length: u64, hash: u128 },
    /// A folder; its files have entries of their own.
    Folder,
    /// Something else, a device for instance.
    Other,
    /// Nothing.
    Absent,
    /// Something that cannot be read.
    Unreadable(io::ErrorKind),
    /// Not known: differs from all that can be found.
    Unknown,
}

/// Contents by path; the files of folders among them.
pub(super) type Contents = BTreeMap<PathBuf, Content>;

/// Returns a digest of names and contents.
pub(super) fn digest(contents: &Contents) -> u64 {
    let mut hasher = Xxh3::new();
    contents.hash(&mut hasher);
    hasher.finish()
}

/// What to watch: equal plans see the same.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Directories and files by their real paths.
    pub(super) places: BTreeMap<PathBuf, Place>,
    /// Whose events matter.
    pub(super) interest: Interest,
}

/// A directory or file to watch; another one under the same name is another place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    device: u64,
    inode: u64,
    /// Why it is watched.
    pub(super) role: Role,
}

/// Why a place is watched, in rising weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    /// A directory on the way: it may be replaced.
    Way,
    /// A file itself: it may be written to under another name (a bind mount, a hard link).
    File,
    /// A directory with an entry that may be replaced: a file, a link, or the place of an absent one.
    Holder,
}

/// The entries whose events matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Interest {
    entries: HashSet<PathBuf>,
    folders: BTreeSet<PathBuf>,
}

impl Interest {
    /// Whether events of this real path matter.
    pub(super) fn covers(&self, path: &Path) -> bool {
        self.entries.contains(path)
            || path.file_name().is_some_and(is_config_name)
                && path.parent().is_some_and(|parent| self.folders.contains(parent))
    }
}

impl Plan {
    /// Whether a directory that holds files is not in `earlier`: what was written there before went unseen.
    pub(super) fn has_new_holder(&self, earlier: &Plan) -> bool {
        self.places
            .iter()
            .any(|(path, place)| place.role == Role::Holder && earlier.places.get(path) != Some(place))
    }

    fn add(&mut self, path: &Path, metadata: &Metadata, role: Role) {
        let (device, inode) = (metadata.dev(), metadata.ino());
        let place = self.places.entry(path.to_owned()).or_insert(Place { device, inode, role });
        place.role = place.role.max(role);
    }

    fn raise(&mut self, path: &Path) {
        if let Some(place) = self.places.get_mut(path) {
            place.role = Role::Holder;
        }
    }
}

/// Where paths lead to at one moment.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// What to watch.
    pub(super) plan: Plan,
    targets: BTreeMap<PathBuf, Target>,
}

#[derive(Debug)]
struct Target {
    end: io::Result<(PathBuf, Metadata)>,
    newest: Option<SystemTime>,
}

impl Survey {
    /// Returns where these absolute paths lead to.
    pub(super) fn take(paths: &[PathBuf]) -> Self {
        let mut survey = Self::default();
        for path in paths {
            survey.follow(path);
            let Some(Target { end: Ok((folder, metadata)), .. }) = survey.targets.get(path) else { continue };
            if !metadata.is_dir() {
                continue;
            }
            let folder = folder.clone();
            survey.plan.raise(&folder);
            match config_names(&folder) {
                Ok(names) => names.iter().for_each(|name| survey.follow(&path.join(name))),
                Err(error) => {
                    survey.targets.insert(path.clone(), Target { end: Err(error), newest: None });
                }
            }
            survey.plan.interest.folders.insert(folder);
        }
        survey
    }

    /// Returns the contents, read now.
    pub(super) fn read(&self) -> Contents {
        self.targets.iter().map(|(path, target)| (path.clone(), target.read())).collect()
    }

    /// Whether `path` or a link to it changed at `time` or later, by the file system's clock.
    pub(super) fn changed_since(&self, path: &Path, time: SystemTime) -> bool {
        let newest = self.targets.get(path).and_then(|target| target.newest);
        newest.is_some_and(|newest| newest + CLOCK_TICK >= time)
    }

    fn follow(&mut self, path: &Path) {
        let mut newest = None;
        let end = follow(path, &mut self.plan, &mut newest);
        self.targets.insert(path.to_owned(), Target { end, newest });
    }
}

impl Target {
    fn read(&self) -> Content {
        let content = match &self.end {
            Ok((_, metadata)) if metadata.is_dir() => Ok(Content::Folder),
            Ok((path, metadata)) if metadata.is_file() => read(path),
            Ok(_) => Ok(Content::Other),
            Err(error) => Err(error.kind()),
        };
        content.unwrap_or_else(|kind| match kind {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Content::Absent,
            kind => Content::Unreadable(kind),
        })
    }
}

/// Follows an absolute path to its end and plans a watch for each directory, link and file on the way.
fn follow(path: &Path, plan: &mut Plan, newest: &mut Option<SystemTime>) -> io::Result<(PathBuf, Metadata)> {
    let mut at = PathBuf::from("/");
    let mut metadata = fs::symlink_metadata(&at)?;
    plan.add(&at, &metadata, Role::Way);
    let mut ahead = Vec::new();
    push(&mut ahead, path);
    let mut links = 0;
    while let Some(step) = ahead.pop() {
        let name = match step {
            Step::Root => {
                at = PathBuf::from("/");
                continue;
            }
            Step::Up => {
                at.pop();
                continue;
            }
            Step::Down(name) => name,
        };
        let entry = at.join(name);
        plan.interest.entries.insert(entry.clone());
        metadata = fs::symlink_metadata(&entry).inspect_err(|_| plan.raise(&at))?;
        if metadata.is_dir() {
            plan.add(&entry, &metadata, Role::Way);
            at = entry;
            continue;
        }
        plan.raise(&at);
        *newest = (*newest).max(changed_at(&metadata));
        if metadata.is_symlink() {
            links += 1;
            if links > LINK_LIMIT {
                return Err(io::Error::other("too many links"));
            }
            push(&mut ahead, &fs::read_link(&entry)?);
        } else if ahead.is_empty() {
            if metadata.is_file() {
                plan.add(&entry, &metadata, Role::File);
            }
            return Ok((entry, metadata));
        } else {
            return Err(io::ErrorKind::NotADirectory.into());
        }
    }
    let metadata = fs::symlink_metadata(&at)?;
    Ok((at, metadata))
}

/// A step of a path that is still ahead.
enum Step {
    Root,
    Up,
    Down(OsString),
}

fn push(ahead: &mut Vec<Step>, path: &Path) {
    ahead.extend(path.components().rev().filter_map(|component| match component {
        Component::RootDir => Some(Step::Root),
        Component::ParentDir => Some(Step::Up),
        Component::Normal(name) => Some(Step::Down(name.to_owned())),
        Component::CurDir | Component::Prefix(_) => None,
    }));
}

/// Returns when the file, its name or its rights last changed; `None` before 1970.
fn changed_at(metadata: &Metadata) -> Option<SystemTime> {
    let seconds = u64::try_from(metadata.ctime()).ok()?;
    let nanos = u32::try_from(metadata.ctime_nsec()).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, nanos))
}

/// Returns the names in `folder` that belong to the configuration.
fn config_names(folder: &Path) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        if is_config_name(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

/// Whether a file of this name in a folder belongs to the configuration: `*.yaml`, as a shell would read it (without
/// a leading dot, where editors keep their locks and swap files).
fn is_config_name(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.ends_with(b".yaml") && !name.starts_with(b".")
}

fn read(path: &Path) -> Result<Content, io::ErrorKind> {
    let file = File::open(path).map_err(|error| error.kind())?;
    let length = file.metadata().map_err(|error| error.kind())?.len();
    let mut file = file.take(READ_LIMIT);
    let mut hasher = Xxh3::new();
    let mut buffer = [0; 16 << 10];
    let mut total = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                hasher.update(&buffer[..count]);
                total += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.kind()),
        }
    }
    // Below the limit what was read counts: the length of some file systems is not to be trusted.
    let length = if total < READ_LIMIT { total } else { length };
    Ok(Content::File { length, hash: hasher.digest128() })
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::symlink;
    use std::process::Command;

    use super::*;

    fn content(text: &str) -> Content {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
        read(&path).unwrap()
    }

    #[test]
    fn names_in_a_folder_then_those_of_the_configuration() {
        let rows = [
            ("weir.yaml", true),
            ("10-base.yaml", true),
            ("weir.yml", false),
            ("yaml", false),
            (".yaml", false),
            (".weir.yaml", false),
            (".#weir.yaml", false),
            ("weir.yaml~", false),
            ("..data", false),
        ];
        for (name, expected) in rows {
            assert_eq!(is_config_name(OsStr::new(name)), expected, "{name}");
        }
    }

    #[test]
    fn what_a_path_leads_to_then_its_content() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("a/b")).unwrap();
        File::create(root.join("a/b/file")).unwrap().write_all(b"text").unwrap();
        symlink("../b/./file", root.join("a/b/link")).unwrap();
        symlink("a/b", root.join("folder")).unwrap();
        symlink("folder/..", root.join("up")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        symlink("nowhere", root.join("dangling")).unwrap();
        assert!(Command::new("mkfifo").arg(root.join("pipe")).status().unwrap().success());
        let text = content("text");
        let rows = [
            ("a/b/file", text),
            ("a/b/link", text),
            ("folder/link", text),
            ("folder/../b/file", text),
            ("up/b/file", text),
            ("folder", Content::Folder),
            ("loop", Content::Unreadable(io::ErrorKind::Other)),
            ("dangling", Content::Absent),
            ("none/file", Content::Absent),
            ("a/b/file/below", Content::Absent),
            ("pipe", Content::Other),
        ];
        for (path, expected) in rows {
            let path = root.join(path);
            let survey = Survey::take(std::slice::from_ref(&path));
            assert_eq!(survey.read().get(&path), Some(&expected), "{}", path.display());
        }
    }

    #[test]
    fn link_chain_then_every_directory_and_entry_on_the_way_is_planned() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        for folder in ["etc", "middle", "end"] {
            fs::create_dir(root.join(folder)).unwrap();
        }
        File::create(root.join("end/file")).unwrap();
        symlink("../middle/link", root.join("etc/file")).unwrap();
        symlink(root.join("end/file"), root.join("middle/link")).unwrap();
        let plan = Survey::take(&[root.join("etc/file")]).plan;
        let role = |path: &str| plan.places.get(&root.join(path)).map(|place| place.role);
        for folder in ["etc", "middle", "end"] {
            assert_eq!(role(folder), Some(Role::Holder), "{folder}");
        }
        assert_eq!(role("end/file"), Some(Role::File));
        assert_eq!(role(""), Some(Role::Way));
        for entry in ["etc", "etc/file", "middle", "middle/link", "end", "end/file"] {
            assert!(plan.interest.covers(&root.join(entry)), "{entry}");
        }
        assert!(!plan.interest.covers(&root.join("etc/other.yaml")));
    }

    #[test]
    fn file_beyond_the_limit_then_known_by_its_start_and_length() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("large");
        let file = File::create(&path).unwrap();
        let mut seen = Vec::new();
        for length in [READ_LIMIT - 1, READ_LIMIT, READ_LIMIT + 1] {
            file.set_len(length).unwrap();
            let content = read(&path).unwrap();
            assert!(matches!(content, Content::File { length: found, .. } if found == length));
            assert!(!seen.contains(&content));
            seen.push(content);
        }
    }
}
