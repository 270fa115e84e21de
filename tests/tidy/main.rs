//! The habits that no other tool holds: floors, purity, sizes, what stands at the root, links.
//!
//! Each rule is a function from text to complaints, tried on bad samples beside it; here they run over the real tree.
//! Reading order: [`floors`], [`shape`], [`lexer`] (the reader of Rust below both).
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "the whole program is a test, and reads files"
)]

mod floors;
mod lexer;
mod shape;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use floors::Source;
use lexer::{tokens, without_tests};
use shape::{links, misshapen, strays, unfinished};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files below `folder` with this ending, as paths from the root; hidden and ignored folders are left out.
fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && !name.starts_with('.') && !["target", "vendor"].contains(&name.as_str()) {
                folders.push(path);
            } else if name.ends_with(ending) {
                found.push(path.strip_prefix(root()).unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// The files of Rust in these folders with their texts; there must be some.
fn rust(folders: &[&str]) -> Vec<(String, String)> {
    let read = |path: PathBuf| {
        (path.to_string_lossy().into_owned(), fs::read_to_string(root().join(&path)).unwrap())
    };
    let found: Vec<_> = folders.iter().flat_map(|folder| files(folder, ".rs")).map(read).collect();
    assert!(found.len() > 10, "too few files: {}", found.len());
    found
}

/// The files below `src` that only tests are built from: `#[cfg(test)] mod name;` of another file.
fn test_files(sources: &[(String, String)]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (path, text) in sources {
        let folder = match path.strip_suffix("/mod.rs").or_else(|| path.strip_suffix("/lib.rs")) {
            Some(folder) => folder,
            None => path.trim_end_matches(".rs"),
        };
        for module in without_tests(&tokens(text)).1 {
            let below = format!("{folder}/{module}");
            let own =
                |path: &&String| **path == format!("{below}.rs") || path.starts_with(&format!("{below}/"));
            found.extend(sources.iter().map(|(path, _)| path).filter(own).cloned());
        }
    }
    found
}

fn check(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn every_room_knows_lower_floors_only() {
    let sources = rust(&["src"]);
    let tests = test_files(&sources);
    let built = sources.iter().filter(|(path, _)| !tests.contains(path));
    let sources: Vec<_> =
        built.map(|(path, text)| Source::new(path.strip_prefix("src/").unwrap(), text)).collect();
    check(&sources.iter().flat_map(Source::upward).collect::<Vec<_>>());
    check(&sources.iter().flat_map(Source::impure).collect::<Vec<_>>());
}

#[test]
fn every_file_is_finished_and_of_a_size_to_read() {
    let files = rust(&["src", "tests", "benches"]);
    check(&files.iter().flat_map(|(path, text)| misshapen(path, text)).collect::<Vec<_>>());
    check(&files.iter().flat_map(|(path, text)| unfinished(path, text)).collect::<Vec<_>>());
}

#[test]
fn root_holds_what_people_look_for_and_nothing_else() {
    let entries = fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().file_name());
    let entries: Vec<_> = entries.map(|name| name.to_string_lossy().into_owned()).collect();
    check(&strays(&entries, &fs::read_to_string(root().join(".gitignore")).unwrap()));
}

#[test]
fn every_link_to_a_file_leads_to_one() {
    let pages = files("", ".md");
    assert!(!pages.is_empty(), "there are no pages");
    let mut wrong = Vec::new();
    for page in pages {
        for link in links(&fs::read_to_string(root().join(&page)).unwrap()) {
            if !root().join(&page).with_file_name(&link).exists() {
                wrong.push(format!("{}: {link} is not there", page.display()));
            }
        }
    }
    check(&wrong);
}

#[test]
fn module_that_only_tests_build_then_its_files_are_known() {
    let sources =
        [("src/a/mod.rs", "#[cfg(test)] mod b;"), ("src/a/b.rs", ""), ("src/a/b/c.rs", ""), ("src/b.rs", "")];
    let sources = sources.map(|(path, text)| (path.to_owned(), text.to_owned()));
    assert_eq!(test_files(&sources).into_iter().collect::<Vec<_>>(), ["src/a/b.rs", "src/a/b/c.rs"]);
}
