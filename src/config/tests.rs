//! The whole way from text to configuration: examples, golden diagnostics, and texts of any content.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::schema::schema;
use super::*;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn no_environment(_: &str) -> Option<String> {
    None
}

/// Writes instead of compares when `WEIR_BLESS=1`.
fn golden(path: &Path, actual: &str) {
    if std::env::var_os("WEIR_BLESS").is_some() {
        fs::write(path, actual).unwrap();
    }
    let expected = fs::read_to_string(path).unwrap_or_default();
    assert_eq!(actual, expected, "{} (WEIR_BLESS=1 writes it anew)", path.display());
}

/// The example files and folders in `config/`.
fn examples() -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join("config")).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> =
        entries.filter(|path| path.is_dir() || path.extension().is_some_and(|e| e == "yaml")).collect();
    paths.sort();
    assert!(paths.len() >= 6, "{paths:?}");
    paths
}

fn errors(result: &Result<Accepted, Rejected>) -> Vec<(Code, usize)> {
    let Err(rejected) = result else { return Vec::new() };
    let errors = rejected.diagnostics.iter().filter(|found| found.severity == Severity::Error);
    errors.map(|found| (found.code, found.place.as_ref().map_or(0, |place| place.line))).collect()
}

#[test]
fn examples_load_without_a_warning() {
    for path in examples() {
        let accepted = load_with(&path, &no_environment)
            .unwrap_or_else(|rejected| panic!("{}: {:#?}", path.display(), rejected.diagnostics));
        let warnings = accepted.warnings.iter().filter(|found| found.severity == Severity::Warning);
        assert_eq!(warnings.map(ToString::to_string).collect::<Vec<_>>(), [""; 0], "{}", path.display());
    }
}

#[test]
fn examples_printed_in_full_load_to_the_same() {
    for path in examples() {
        let accepted = load_with(&path, &no_environment).unwrap();
        let text = accepted.effective();
        let folder = if path.is_dir() { path.join("all.yaml") } else { path.clone() };
        let again = load_text(&folder.to_string_lossy(), &text, &no_environment)
            .unwrap_or_else(|rejected| panic!("{text}\n{:#?}", rejected.diagnostics));
        assert_eq!(again.effective(), text, "{}", path.display());
        let changes = diff(&accepted.config, &again.config);
        assert!(changes.is_empty(), "{}: {changes}\n{text}", path.display());
    }
}

#[test]
fn examples_fit_the_shipped_schema_and_it_is_what_the_code_says() {
    let text = format!("{:#}\n", schema());
    golden(&root().join("config/weir.schema.json"), &text);
    let validator = jsonschema::draft202012::new(&schema()).unwrap();
    let files = examples().into_iter().flat_map(|path| {
        if path.is_dir() {
            fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect()
        } else {
            vec![path]
        }
    });
    for path in files {
        let value = yaml_to_json(&fs::read_to_string(&path).unwrap());
        let errors: Vec<_> =
            validator.iter_errors(&value).map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert!(errors.is_empty(), "{}: {errors:#?}", path.display());
    }
}

/// YAML by the core schema, as an editor reads it.
fn yaml_to_json(text: &str) -> serde_json::Value {
    use node::{Kind, Node};
    fn convert(node: &Node) -> serde_json::Value {
        match &node.kind {
            Kind::Null | Kind::Broken => serde_json::Value::Null,
            Kind::Scalar(scalar) if scalar.plain => {
                serde_json::from_str(&scalar.text).unwrap_or_else(|_| scalar.text.clone().into())
            }
            Kind::Scalar(scalar) => scalar.text.clone().into(),
            Kind::Seq(items) => items.iter().map(convert).collect(),
            Kind::Map(entries) => {
                entries.iter().map(|(key, value)| (key.text().unwrap().to_owned(), convert(value))).collect()
            }
        }
    }
    let mut sources = span::Sources::default();
    let file = sources.add("a.yaml".into(), text.to_owned());
    let mut report = diagnostic::Report::new(&sources);
    convert(&yaml::parse(&mut report, file).unwrap())
}
