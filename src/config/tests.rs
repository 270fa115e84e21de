//! The whole way from text to configuration: examples, golden diagnostics, and texts of any content.

#![expect(clippy::disallowed_methods, reason = "tests read and write their files")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::schema::schema;
use super::*;
use crate::types::UpstreamName;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn no_environment(_: &str) -> Option<String> {
    None
}

/// Writes instead of compares when `WEIR_BLESS=1`.
pub(super) fn golden(path: &Path, actual: &str) {
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
fn health_checks_printed_in_full_load_to_the_same() {
    for endpoint in ["127.0.0.1:1", "https://127.0.0.1:1", "unix:/run/a.sock"] {
        for check in
            ["path: /x", "path: /x, method: HEAD", "tcp: true", "grpc: a.B", "path: /x, interval: 300ms"]
        {
            let text = format!(
                "listeners: [{{ bind: 127.0.0.1:80 }}]\nupstreams: {{ a: {{ endpoints: ['{endpoint}'], protocol: http2, \
                 health: {{ {check} }} }} }}\nroutes: [{{ upstream: a }}]\n"
            );
            let accepted = load_text("a.yaml", &text, &no_environment).unwrap();
            let printed = accepted.effective();
            let again = load_text("a.yaml", &printed, &no_environment)
                .unwrap_or_else(|rejected| panic!("{printed}\n{:#?}", rejected.diagnostics));
            assert_eq!(again.effective(), printed, "{endpoint} {check}");
            assert!(diff(&accepted.config, &again.config).is_empty(), "{endpoint} {check}");
        }
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
    golden(&root().join("config/weir.schema.json"), &schema::text());
    let validator = jsonschema::draft202012::new(&schema()).unwrap();
    let validate = |path: &Path, value: &serde_json::Value| {
        let errors = validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path()));
        assert_eq!(errors.collect::<Vec<_>>(), [""; 0], "{}", path.display());
    };
    let files = examples().into_iter().flat_map(|path| {
        if path.is_dir() {
            fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect()
        } else {
            vec![path]
        }
    });
    for path in files {
        validate(&path, &yaml_to_json(&fs::read_to_string(&path).unwrap()));
    }
    for path in examples() {
        validate(&path, &load_with(&path, &no_environment).unwrap().effective_json());
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
    let mut report = report::Report::new(&sources);
    convert(&yaml::parse(&mut report, file).unwrap())
}

/// The text of all of `diagnostics` for people.
fn rendered(result: &Result<Accepted, Rejected>) -> String {
    let diagnostics = match result {
        Ok(accepted) => &accepted.warnings,
        Err(rejected) => &rejected.diagnostics,
    };
    diagnostics.iter().map(|found| found.render(false)).collect::<Vec<_>>().join("\n")
}

#[test]
fn every_code_has_its_golden_file_and_every_golden_file_its_code() {
    // Tests run in the package's root, so that the texts have the same paths everywhere.
    let folder = Path::new("tests/golden/diagnostics");
    let mut seen = BTreeSet::new();
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.is_dir() || path.extension().is_some_and(|extension| extension == "yaml"));
    paths.sort();
    assert!(!paths.is_empty());
    for path in paths {
        let word = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let result = load_with(&path, &no_environment);
        let found = match &result {
            Ok(accepted) => &accepted.warnings,
            Err(rejected) => &rejected.diagnostics,
        };
        assert!(found.iter().any(|found| found.code.as_str() == word), "{word} does not occur: {found:#?}");
        golden(&folder.join(format!("{word}.txt")), &rendered(&result));
        seen.insert(word);
    }
    let codes: BTreeSet<_> = Code::ALL.iter().map(|code| code.as_str().to_owned()).collect();
    assert_eq!(seen, codes);
}

#[test]
fn ten_mistakes_are_ten_diagnostics_at_their_lines() {
    let text = "\
listeners:
  - bind: 127.0.0.1
    timeout: 5s
upstreams:
  blue: { endpoints: [127.0.0.1:3001], balance: fastest }
  green: { endpoints: 127.0.0.1:3002 }
splits:
  shop:
    key: [header:x-user-id, user]
    variants:
      - { name: blue, weight: 90% }
      - { name: green, weight: 60% }
      - { name: grey, weight: 60%, upstream: green }
routes:
  - split: shop
    upstream: grey
    timeout: 0s
  - split: shop
    methods: GET
";
    let expected = [
        (Code::InvalidAddress, 2),
        (Code::UnknownKey, 3),
        (Code::UnknownWord, 5),
        (Code::WrongType, 6),
        (Code::InvalidSource, 9),
        (Code::BaselineWeight, 11),
        (Code::SharesOverWhole, 13),
        (Code::OneOf, 15),
        (Code::UnknownUpstream, 16),
        (Code::ZeroDuration, 17),
        (Code::WrongType, 19),
    ];
    assert_eq!(errors(&load_text("a.yaml", text, &no_environment)), expected);
}

const SMALL: &str = "\
listeners: [{ bind: 127.0.0.1:8080 }]
upstreams:
  blue: { endpoints: [127.0.0.1:3001] }
  green: { endpoints: [127.0.0.1:3002] }
splits:
  shop:
    key: [\"cookie:a\"]
    variants: [{ name: blue }, { name: green, weight: 5% }]
routes: [{ split: shop }]
";

#[test]
fn variables_stand_in_values_of_every_kind_and_never_add_structure() {
    let set = |name: &str| match name {
        "W" => Some("7.5%".to_owned()),
        "N" => Some("3".to_owned()),
        "T" => Some("true".to_owned()),
        "NAME" => Some("green".to_owned()),
        "EVIL" => Some("1s\nadmin: {}".to_owned()),
        "LIST" => Some("[GET]".to_owned()),
        _ => None,
    };
    let load = |from: &str, to: &str| {
        assert!(SMALL.contains(from));
        load_text("a.yaml", &SMALL.replace(from, to), &set)
    };
    let shares = |result: Result<Accepted, Rejected>| {
        result
            .map(|accepted| accepted.config.splits[0].split.layout.shares()[1].ppm())
            .map_err(|rejected| rejected.to_string())
    };
    assert_eq!(shares(load("weight: 5%", "weight: \"${W}\"")), Ok(75_000));
    assert_eq!(shares(load("weight: 5%", "weight: \"${NO:-2}%\"")), Ok(20_000));
    assert_eq!(shares(load("    key:", "    expose: ${T}\n    key:")), Ok(50_000));
    let plain = load("listeners:", "workers: ${N}\nlisteners:").unwrap();
    assert_eq!(plain.config.workers, 3);
    let quoted = load("listeners:", "workers: \"${N}\"\nlisteners:").unwrap();
    assert_eq!(quoted.config.workers, 3);
    let rows = [
        ("listeners:", "workers: \"3\"\nlisteners:", Code::WrongType),
        ("listeners:", "shutdown_timeout: ${EVIL}\nlisteners:", Code::InvalidDuration),
        ("{ split: shop }", "{ split: shop, methods: \"${LIST}\" }", Code::WrongType),
        ("{ split: shop }", "{ \"${NAME}\": shop }", Code::UnknownKey),
        ("name: green, weight", "name: \"${NO}\", weight", Code::UnsetVariable),
    ];
    for (from, to, code) in rows {
        let found = errors(&load(from, to));
        assert!(found.iter().any(|(found, _)| *found == code), "{to}: {found:?}");
    }
}

/// The places of all scalar values of `text`.
fn values(text: &str) -> Vec<std::ops::Range<usize>> {
    use node::{Kind, Node};
    fn collect(node: &Node, into: &mut Vec<std::ops::Range<usize>>) {
        match &node.kind {
            Kind::Scalar(_) => into.push(node.span.start as usize..node.span.end as usize),
            Kind::Seq(items) => items.iter().for_each(|item| collect(item, into)),
            Kind::Map(entries) => entries.iter().for_each(|(_, value)| collect(value, into)),
            Kind::Null | Kind::Broken => {}
        }
    }
    let mut sources = span::Sources::default();
    let file = sources.add("a.yaml".into(), text.to_owned());
    let mut report = report::Report::new(&sources);
    let mut places = Vec::new();
    collect(&yaml::parse(&mut report, file).unwrap(), &mut places);
    places
}

#[test]
fn value_of_a_variable_is_never_shown() {
    let mut shown = 0;
    for path in examples().iter().filter(|path| path.is_file()) {
        let text = fs::read_to_string(path).unwrap();
        for place in values(&text) {
            for secret in
                ["hunter2", "hunter2 (", "header:hunter2 x", "~hunter2(", "hunter2:99999", "31415926"]
            {
                let mut with = text.clone();
                with.replace_range(place.clone(), "\"${SECRET}\"");
                let environment = |name: &str| (name == "SECRET").then(|| secret.to_owned());
                if let Err(rejected) = load_text("a.yaml", &with, &environment) {
                    shown += rejected.diagnostics.len();
                    for found in &rejected.diagnostics {
                        let all = found.render(false) + &found.to_json().to_string();
                        assert!(!all.contains("hunter2") && !all.contains("31415926"), "{secret}: {all}");
                    }
                }
            }
        }
    }
    assert!(shown > 100, "{shown}");
}

#[test]
fn files_of_a_folder_are_put_together_by_section() {
    const L: &str = "listeners: [{ bind: 127.0.0.1:0 }]\n";
    const A: &str =
        "upstreams: { a: { endpoints: [127.0.0.1:1] } }\nroutes: [{ upstream: a, paths: [/a] }]\n";
    const B: &str = "upstreams: { b: { endpoints: [127.0.0.1:2] } }\nroutes: [{ upstream: b }]\n";
    type Row<'r> = (&'r [(&'r str, &'r str)], Result<&'r [&'r str], &'r [(Code, usize)]>);
    let rows: &[Row<'_>] = &[
        (&[("1.yaml", L), ("2.yaml", A), ("3.yaml", B)], Ok(&["a", "b"])),
        (&[("1.yaml", L), ("3.yaml", A), ("2.yaml", B)], Ok(&["b", "a"])),
        (&[("10.yaml", L), ("9.yaml", A), ("1.yaml", "# nothing yet\n"), ("2.yaml", "")], Ok(&["a"])),
        (&[("1.yaml", L), ("2.yaml", A), (".3.yaml", "?"), ("4.yml", "?"), ("5.yaml~", "?")], Ok(&["a"])),
        (&[("1.yaml", L), ("2.yaml", A), ("3.yaml", A)], Err(&[(Code::DuplicateName, 1)])),
        (
            &[("1.yaml", "workers: 1\n"), ("2.yaml", "workers: 1\n"), ("3.yaml", L), ("4.yaml", A)],
            Err(&[(Code::DuplicateSection, 1)]),
        ),
        (
            &[("1.yaml", "admin: {}\n"), ("2.yaml", "admin: {}\n"), ("3.yaml", L), ("4.yaml", A)],
            Err(&[(Code::DuplicateSection, 1)]),
        ),
        (&[("1.yaml", L), ("2.yaml", A), ("3.yaml", "routes: {}\n")], Err(&[(Code::DuplicateSection, 1)])),
        (&[("1.yaml", L), ("2.yaml", "- a\n")], Err(&[(Code::NoRoutes, 0), (Code::WrongType, 1)])),
        (&[("1.yaml", L), ("2.yaml", A), ("3.yaml", "routes: [\n")], Err(&[(Code::YamlSyntax, 1)])),
        (&[("1.yaml", L)], Err(&[(Code::NoRoutes, 0)])),
        (&[("1.txt", L)], Err(&[(Code::NoFiles, 0)])),
    ];
    for (files, expected) in rows {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in *files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let result = load_with(folder.path(), &no_environment);
        match expected {
            Ok(names) => {
                let accepted = result.unwrap_or_else(|rejected| panic!("{files:?}: {rejected}"));
                let found: Vec<_> = accepted.config.upstreams.keys().map(UpstreamName::as_str).collect();
                assert_eq!(&found, names, "{files:?}");
                let routes: Vec<_> = accepted.config.routes.iter().map(|route| route.name.as_str()).collect();
                assert_eq!(routes, ["route-1", "route-2"][..names.len()]);
                let read = ["1.yaml", "10.yaml", "2.yaml", "3.yaml", "9.yaml"];
                let read = read.iter().filter(|name| files.iter().any(|(file, _)| file == *name));
                let read: Vec<_> = read.map(|name| folder.path().join(name)).collect();
                assert_eq!(accepted.files, [vec![folder.path().to_owned()], read].concat(), "{files:?}");
            }
            Err(codes) => assert_eq!(errors(&result), *codes, "{files:?}"),
        }
    }
}

#[test]
fn key_file_is_found_beside_the_file_that_names_it_and_watched_also_when_missing() {
    let folder = tempfile::tempdir().unwrap();
    let (path, key) = (folder.path().join("weir.yaml"), folder.path().join("keys/override.key"));
    let text =
        SMALL.replace("    key:", "    override: { header: x-force, key_file: keys/override.key }\n    key:");
    fs::write(&path, &text).unwrap();
    let Err(rejected) = load_with(&path, &no_environment) else { panic!("the key file is missing") };
    assert_eq!(rejected.files, [path.clone(), key.clone()]);
    assert_eq!(rejected.diagnostics[0].code, Code::FileUnreadable);
    assert!(!rejected.is_unreadable(), "the configuration itself could be read");
    fs::create_dir(key.parent().unwrap()).unwrap();
    for (content, keys) in
        [("a key of 16 bytes\n", 1), ("a key of 16 bytes\nanother key of 16 bytes\r\n\n", 2)]
    {
        fs::write(&key, content).unwrap();
        let accepted = load_with(&path, &no_environment).unwrap();
        assert_eq!(accepted.files, [path.clone(), key.clone()]);
        assert_eq!(accepted.config.splits[0].split.force.as_ref().unwrap().keys.len(), keys);
    }
    let before = load_with(&path, &no_environment).unwrap();
    fs::write(&key, "another key of 16 bytes\n").unwrap();
    let after = load_with(&path, &no_environment).unwrap();
    assert_eq!(before.hash, after.hash, "a key leaves no trace in the hash");
    assert_eq!(diff(&before.config, &after.config).to_string(), "splits ~shop");
    fs::write(&key, "").unwrap();
    assert_eq!(errors(&load_with(&path, &no_environment)), [(Code::KeyTooShort, 7)]);
}

#[test]
fn change_is_told_by_name() {
    let load = |text: &str| load_text("a.yaml", text, &no_environment).unwrap().config;
    let base = load(SMALL);
    let rows = [
        ("weight: 5%", "weight: 6%", "splits ~shop"),
        (
            "weight: 5% }]",
            "weight: 5% }]\n    rules: [{ when: [{ value: host, in: [a, b] }], variant: green }]",
            "splits ~shop",
        ),
        (":3002]", ":3003]", "upstreams ~green"),
        (":8080", ":8081", "listeners ~listener-1"),
        (":8080", ":8080, strict_host: true", "listeners ~listener-1"),
        (":8080", ":8080, underscores: remove", "listeners ~listener-1"),
        (":8080", ":8080, paths: { slashes: merge }", "listeners ~listener-1"),
        (":8080", ":8080, paths: { dot_segments: resolve, escapes: normalize }", "nothing"),
        (":8080", ":8080, strict_host: false, underscores: keep", "nothing"),
        (
            "routes: [{ split: shop }]",
            "routes: [{ split: shop, timeout: 1s }, { upstream: blue, paths: [/a] }]",
            "routes +route-2 ~route-1",
        ),
        ("upstreams:", "admin: {}\nupstreams:", "admin"),
        ("upstreams:", "access_log: { path: stdout }\nupstreams:", "access_log"),
        ("upstreams:", "# a remark\nupstreams:", "nothing"),
        ("  green:", "  grey: { endpoints: [127.0.0.1:1] }\n  green:", "upstreams +grey"),
        ("  shop:", "  first: { key: [host], variants: [{ name: blue }] }\n  shop:", "splits +first"),
    ];
    for (from, to, expected) in rows {
        assert!(SMALL.contains(from), "{from}");
        let changed = load(&SMALL.replace(from, to));
        assert_eq!(diff(&base, &changed).to_string(), expected, "{to}");
        assert!(diff(&changed, &changed).is_empty(), "{to}");
        let back = diff(&changed, &base);
        assert_eq!(back.is_empty(), expected == "nothing", "{to}");
    }
    let two = "listeners: [{ bind: 127.0.0.1:0 }]\nroutes:\n  - { name: a, respond: {} }\n  - { name: b, respond: {} }\n";
    let turned =
        two.replace("name: a", "name: c").replace("name: b", "name: a").replace("name: c", "name: b");
    assert_eq!(diff(&load(two), &load(&turned)).to_string(), "route order");
}

#[test]
fn file_cut_at_any_byte_is_refused_or_still_serves() {
    let (mut accepted, mut refused) = (0, 0);
    for path in examples().iter().filter(|path| path.is_file()) {
        let bytes = fs::read(path).unwrap();
        for end in 0..bytes.len() {
            let text = String::from_utf8_lossy(&bytes[..end]);
            match load_text("cut.yaml", &text, &no_environment) {
                Ok(loaded) => {
                    assert!(
                        !loaded.config.listeners.is_empty() && !loaded.config.routes.is_empty(),
                        "{text}"
                    );
                    accepted += 1;
                }
                Err(rejected) => {
                    assert!(!errors(&Err(rejected)).is_empty(), "refused without an error: {text}");
                    refused += 1;
                }
            }
        }
    }
    assert!(accepted > 0 && refused > accepted, "{accepted} {refused}");
}

#[test]
fn more_errors_than_anybody_reads_are_counted() {
    let methods = vec!["get"; 5000].join(", ");
    let text = SMALL.replace("{ split: shop }", &format!("{{ split: shop, methods: [{methods}] }}"));
    let Err(rejected) = load_text("a.yaml", &text, &no_environment) else { panic!("small letters") };
    assert_eq!((rejected.errors, rejected.diagnostics.len()), (5000, 1000));
    assert!(rejected.to_string().ends_with("(and 4999 more errors)"), "{rejected}");
    assert!(rejected.diagnostics.iter().all(|found| found.place.as_ref().unwrap().text.len() < 200));
}

#[test]
fn ten_thousand_routes_load() {
    use std::fmt::Write as _;
    let mut text = SMALL.replace("routes: [{ split: shop }]\n", "routes:\n");
    for number in 0..10_000 {
        let _ = writeln!(
            text,
            "  - name: r{number}\n    hosts: [h{number}.example.com]\n    paths: [/a/*, /b]\n    when: [{{ value: header:x-a, in: [b] }}]\n    split: shop"
        );
    }
    let start = std::time::Instant::now();
    let accepted = load_text("big.yaml", &text, &no_environment).unwrap();
    println!("{} bytes, 10000 routes: {:?}", text.len(), start.elapsed());
    assert_eq!(accepted.config.routes.len(), 10_000);
}

/// Texts that look like configurations, in disorder.
fn scraps() -> impl Strategy<Value = String> {
    let words = [
        "listeners",
        "upstreams",
        "splits",
        "routes",
        "bind",
        "endpoints",
        "variants",
        "weight",
        "when",
        "rules",
        "respond",
        "override",
        "trust",
        ":",
        ": ",
        "\n",
        "\n  ",
        "\n    ",
        "- ",
        "\n- ",
        "[",
        "]",
        "{",
        "}",
        ", ",
        "\"",
        "'",
        "&a ",
        "*a",
        "!!str ",
        "|\n",
        ">\n",
        "? ",
        "#",
        "---\n",
        "...\n",
        "${A}",
        "${",
        "$${",
        "${B:-",
        "\t",
        "\u{feff}",
        "\u{0}",
        "é",
        "5%",
        "127.0.0.1:80",
        "header:a",
        "~(",
        "null",
        "<<",
        "%YAML 1.2\n",
        "@",
        "`",
    ];
    prop::collection::vec(prop::sample::select(words.to_vec()), 0..60).prop_map(|words| words.concat())
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let text = String::from_utf8_lossy(&bytes);
        let _ = rendered(&load_text("a.yaml", &text, &|_| Some(text.clone().into_owned())));
    }

    #[test]
    fn no_scraps_panic(text in scraps()) {
        let result = load_text("a.yaml", &text, &|name| (name == "A").then(|| "x".to_owned()));
        let _ = rendered(&result);
        prop_assert_eq!(result.is_err(), !errors(&result).is_empty());
    }

    #[test]
    fn no_damage_to_an_example_panics(
        at in 0usize..10_000, length in 0usize..30, insert in scraps(), which in 0usize..6,
    ) {
        let paths: Vec<_> = examples().into_iter().filter(|path| path.is_file()).collect();
        let mut bytes = fs::read(&paths[which % paths.len()]).unwrap();
        let at = at % bytes.len();
        let end = (at + length).min(bytes.len());
        bytes.splice(at..end, insert.bytes());
        let result = load_text("a.yaml", &String::from_utf8_lossy(&bytes), &no_environment);
        let _ = rendered(&result);
        prop_assert_eq!(result.is_err(), !errors(&result).is_empty());
        if let Ok(accepted) = result {
            let text = accepted.effective();
            let again = load_text("a.yaml", &text, &no_environment);
            prop_assert!(again.is_ok(), "{}\n{:#?}", text, again.err());
            let again = again.unwrap();
            prop_assert!(diff(&accepted.config, &again.config).is_empty(), "{}", text);
        }
    }
}
