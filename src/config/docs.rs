//! The tables of `docs/configuration.md`, made from the schema and the list of codes, so that they cannot drift.

#![expect(clippy::disallowed_methods, reason = "tests read and write their files")]

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Map, Value};

use super::{Code, schema::schema};

/// The mappings in reading order: how the documentation calls them, and how the schema does.
const SECTIONS: &[(&str, &str)] = &[
    ("The file", ""),
    ("`limits`", "Limits"),
    ("`listeners[]`", "Listener"),
    ("`listeners[].timeouts`", "ListenerTimeouts"),
    ("`listeners[].limits`", "ListenerLimits"),
    ("`listeners[].min_rate`", "MinRate"),
    ("`listeners[].paths`", "Paths"),
    ("`listeners[].tls`", "ListenerTls"),
    ("`listeners[].tls.certificates[]`", "Certificate"),
    ("`listeners[].tls.acme`", "Acme"),
    ("`telemetry`", "Telemetry"),
    ("`admin`", "Admin"),
    ("`access_log`", "AccessLog"),
    ("`upstreams.NAME`", "Upstream"),
    ("`upstreams.NAME.endpoints[]`", "Endpoint"),
    ("`upstreams.NAME.balance`", "Balance"),
    ("`upstreams.NAME.balance.hash`", "HashBalance"),
    ("`upstreams.NAME.slow_start`", "SlowStart"),
    ("`upstreams.NAME.tls`", "UpstreamTls"),
    ("`upstreams.NAME.limits`", "UpstreamLimits"),
    ("`upstreams.NAME.health`", "Health"),
    ("`upstreams.NAME.timeouts`", "UpstreamTimeouts"),
    ("`upstreams.NAME.ejection`", "Ejection"),
    ("`upstreams.NAME.ejection.success_rate`", "SuccessRate"),
    ("`splits.NAME`", "Split"),
    ("`splits.NAME.variants[]`", "Variant"),
    ("`splits.NAME.cookie`", "Cookie"),
    ("`splits.NAME.hash`", "Hash"),
    ("`splits.NAME.hash.xxh3`", "Xxh3"),
    ("`splits.NAME.rules[]`", "Rule"),
    ("`splits.NAME.override`", "Override"),
    ("`routes[]`", "Route"),
    ("`routes[].redirect`", "Redirect"),
    ("`routes[].respond`", "Respond"),
    ("`routes[].rewrite`", "Rewrite"),
    ("`routes[].request_headers`, `routes[].response_headers`", "HeaderChanges"),
    ("`routes[].retry`", "Retry"),
    ("`routes[].rate_limit`", "RateLimit"),
    ("`routes[].when[]`, `splits.NAME.rules[].when[]`", "Condition"),
];

/// What a value is, in a word or two.
fn kind(value: &Value, definitions: &Map<String, Value>) -> String {
    if let Some(reference) = value["$ref"].as_str() {
        let definition = &definitions[reference.trim_start_matches("#/$defs/")];
        return if definition["type"] == "object" {
            "mapping".to_owned()
        } else {
            kind(definition, definitions)
        };
    }
    if let Some(alternatives) = value["anyOf"].as_array() {
        // Words, or what the first is; beside it there may be a mapping, and `${NAME}`.
        let words: Vec<_> =
            alternatives.iter().filter_map(|word| Some(format!("`{}`", word["const"].as_str()?))).collect();
        let is_mapping = |one: &Value| {
            one["$ref"]
                .as_str()
                .is_some_and(|name| definitions[name.trim_start_matches("#/$defs/")]["type"] == "object")
        };
        let first = if words.is_empty() { kind(&alternatives[0], definitions) } else { words.join(", ") };
        let mapping = !is_mapping(&alternatives[0]) && alternatives.iter().any(is_mapping);
        let list = alternatives.iter().skip(1).find(|one| one["type"] == "array");
        if let Some(list) = list.filter(|_| words.is_empty()) {
            return format!("{first} or {}", kind(list, definitions));
        }
        return if mapping { format!("{first}, mapping") } else { first };
    }
    if let Some(word) = value["const"].as_str() {
        return format!("`{word}`");
    }
    if let Some(words) = value["enum"].as_array() {
        let words: Vec<_> = words.iter().filter_map(Value::as_str).map(|word| format!("`{word}`")).collect();
        return words.join(", ");
    }
    match (value["pattern"].as_str(), &value["type"]) {
        (Some(pattern), _) if pattern.contains("ms|s|m") => "duration".to_owned(),
        (Some(pattern), _) if pattern.contains("KiB") => "size".to_owned(),
        (Some(pattern), _) if pattern.contains('%') => "percentage".to_owned(),
        (Some(pattern), _) if pattern.contains("[2-5]") => "status".to_owned(),
        (Some(pattern), _) if pattern.contains("header:") => "source".to_owned(),
        (Some(pattern), _) if pattern.contains("^/") || pattern.contains('~') => "path".to_owned(),
        (_, kind_) if kind_ == "integer" || kind_ == "number" => "number".to_owned(),
        (_, kind_) if kind_ == "boolean" => "`true`, `false`".to_owned(),
        (_, kind_) if kind_ == "array" => match kind(&value["items"], definitions).as_str() {
            "mapping" => "list of mappings".to_owned(),
            "status" => "list of statuses".to_owned(),
            "text, mapping" => "list of texts or mappings".to_owned(),
            item => format!("list of {item}s"),
        },
        (_, kind_) if kind_ == "object" => match kind(&value["additionalProperties"], definitions).as_str() {
            "mapping" => "mappings by name".to_owned(),
            item => format!("{item}s by name"),
        },
        _ if value["maxLength"] == 128 => "name".to_owned(),
        _ => "text".to_owned(),
    }
}

fn default(value: &Value) -> String {
    match &value["default"] {
        Value::Null => String::new(),
        Value::String(text) => format!("`{}`", if text.is_empty() { "\"\"" } else { text }),
        Value::Object(map) if !map.is_empty() => "see below".to_owned(),
        other => format!("`{other}`"),
    }
}

fn keys() -> String {
    let schema = schema();
    let definitions = schema["$defs"].as_object().unwrap();
    let mut documented: Vec<_> =
        SECTIONS.iter().map(|(_, name)| *name).filter(|name| !name.is_empty()).collect();
    let mut known: Vec<_> =
        definitions.iter().filter(|(_, d)| d["type"] == "object").map(|(name, _)| name.as_str()).collect();
    documented.sort_unstable();
    known.sort_unstable();
    assert_eq!(documented, known);
    let mut out = String::new();
    for (title, name) in SECTIONS {
        let section = if name.is_empty() { &schema } else { &definitions[*name] };
        writeln!(out, "\n### {title}\n\n| key | value | default | meaning |\n|---|---|---|---|").unwrap();
        for (key, value) in section["properties"].as_object().unwrap() {
            let required =
                section["required"].as_array().is_some_and(|keys| keys.contains(&key.as_str().into()));
            let default = if required { "**required**".to_owned() } else { default(value) };
            let meaning = value["description"].as_str().unwrap().replace('\n', " ");
            writeln!(out, "| `{key}` | {} | {default} | {meaning} |", kind(value, definitions)).unwrap();
        }
    }
    out
}

fn codes() -> String {
    let mut out = "\n| code | meaning |\n|---|---|\n".to_owned();
    for code in Code::ALL {
        writeln!(out, "| `{code}` | {} |", code.meaning()).unwrap();
    }
    out
}

/// `text` with `content` between the marks of `name`.
fn between(text: &str, name: &str, content: &str) -> String {
    let (begin, end) = (format!("<!-- {name}: made by a test -->"), format!("<!-- /{name} -->"));
    let (before, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("{begin} is missing"));
    let (_, after) = rest.split_once(&end).unwrap_or_else(|| panic!("{end} is missing"));
    format!("{before}{begin}\n{content}\n{end}{after}")
}

#[test]
fn documentation_lists_every_key_with_its_default_and_every_code() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let text = std::fs::read(&path).map(|bytes| String::from_utf8(bytes).unwrap()).unwrap();
    let made = between(&between(&text, "keys", &keys()), "codes", &codes());
    super::tests::golden(&path, &made);
}
