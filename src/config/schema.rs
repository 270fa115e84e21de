//! The JSON schema of the configuration, for editors and for whoever checks files elsewhere.
//!
//! It comes from `raw`; `config/weir.schema.json` is this, shipped.

use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, Transform, transform_subschemas};
use schemars::{Schema, json_schema};
use serde_json::{Map, Value, json};

use super::effective::strip_nulls;
use super::raw::Root;

/// The JSON schema (draft 2020-12) of the configuration.
pub fn schema() -> Value {
    let settings = SchemaSettings::draft2020_12().with_transform(RecursiveTransform(tidy));
    let mut schema = settings.into_generator().into_root_schema_for::<Root>();
    AllowVariables.transform(&mut schema);
    let variable = json_schema!({
        "description": "A value with an environment variable in it: `${NAME}` or `${NAME:-default}`.",
        "type": "string",
        "pattern": "\\$\\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\\}",
    });
    let schema = schema.ensure_object();
    if let Some(definitions) = schema.get_mut("$defs").and_then(Value::as_object_mut) {
        definitions.insert("variable".to_owned(), variable.to_value());
    }
    Value::Object(schema.clone())
}

/// The schema as text, the way it is shipped.
pub fn text() -> String {
    format!("{:#}\n", schema())
}

/// Takes out the defaults that are none, and what only programs in Rust ask for.
fn tidy(schema: &mut Schema) {
    let Some(object) = schema.as_object_mut() else { return };
    if object.get("default").is_some_and(Value::is_null) {
        object.remove("default");
    }
    if let Some(default) = object.get_mut("default") {
        strip_nulls(default);
    }
    if object.get("format").is_some_and(|format| format == "uint64") {
        object.remove("format");
    }
}

/// Lets every scalar that is not any text be an environment variable too, from the innermost outwards.
struct AllowVariables;

impl Transform for AllowVariables {
    fn transform(&mut self, schema: &mut Schema) {
        transform_subschemas(self, schema);
        allow_variables(schema);
    }
}

fn allow_variables(schema: &mut Schema) {
    let Some(object) = schema.as_object_mut() else { return };
    let is_number_or_flag =
        object.get("type").is_some_and(|kind| kind == "integer" || kind == "number" || kind == "boolean");
    let is_word = object
        .get("oneOf")
        .and_then(Value::as_array)
        .is_some_and(|words| words.iter().all(|word| word.get("const").is_some()));
    let is_pattern = object.contains_key("pattern");
    if !(is_number_or_flag || is_word || is_pattern) {
        return;
    }
    let kept = ["description", "default", "title"];
    let (notes, value): (Map<_, _>, Map<_, _>) =
        std::mem::take(object).into_iter().partition(|(key, _)| kept.contains(&key.as_str()));
    *object = notes;
    let alternatives = match value.get("oneOf") {
        Some(words) => {
            let mut words = words.as_array().cloned().unwrap_or_default();
            words.push(json!({ "$ref": "#/$defs/variable" }));
            Value::Array(words)
        }
        None => json!([value, { "$ref": "#/$defs/variable" }]),
    };
    object.insert("anyOf".to_owned(), alternatives);
}
