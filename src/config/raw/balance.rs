//! `upstreams.NAME.endpoints[]`, `upstreams.NAME.balance` and what belongs to them.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize};

use super::super::field::{Attribute, Field, Percent, Period, Text};
use super::empty;

presets! {
    one: u64 = 1u64;
    s_30: Period = "30s";
    tenth: Percent = "10%";
}

/// The words of `balance`.
pub(in crate::config) const POLICIES: [&str; 4] = ["least_request", "round_robin", "peak_ewma", "hash"];

/// An endpoint: its address alone, or a mapping.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub(in crate::config) enum EndpointEntry {
    /// Its address.
    Address(Text),
    /// Its address and more.
    Full(Endpoint),
}

/// An endpoint with more than its address.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Endpoint {
    /// `host:port`, `https://host:port` for TLS, or `unix:/path`.
    pub(in crate::config) address: Field<Text>,
    /// How much it takes beside the others: one of weight 2 takes twice as much as one of weight 1. Each address that its
    /// name resolves to has it.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1000))]
    pub(in crate::config) weight: Field<u64>,
    /// Where it is. Endpoints in the proxy's own `zone` are preferred.
    #[serde(default)]
    pub(in crate::config) zone: Field<Text>,
}

/// How requests are spread: a word, or a mapping.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub(in crate::config) enum BalanceBy {
    /// One of [`POLICIES`], or what is none.
    Word(Text),
    /// A policy with its settings.
    Full(Balance),
}

/// A policy with its settings.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Balance {
    /// By the hash of a key: requests with the same key go to the same endpoint.
    pub(in crate::config) hash: Field<HashBy>,
}

/// What is hashed.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "HashBalance")]
pub(in crate::config) struct HashBy {
    /// Where the key is read: the first source that has a value. By default the unit key of the request's split; in any
    /// case, where there is none, the client's address.
    #[serde(default = "empty::<Field<Attribute>>")]
    pub(in crate::config) key: Field<Vec<Field<Attribute>>>,
}

/// How the weight of an endpoint rises that is new, or has come back.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct SlowStart {
    /// How long it takes.
    #[serde(default = "s_30")]
    pub(in crate::config) window: Field<Period>,
    /// The part of its weight that it begins with.
    #[serde(default = "tenth")]
    pub(in crate::config) from: Field<Percent>,
}

/// Reads what may be a text or a mapping.
macro_rules! text_or_mapping {
    ($name:ident, $visitor:ident, $text:ident, $mapping:ident, $expected:literal, $schema:ident) => {
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any($visitor)
            }
        }

        struct $visitor;

        impl<'de> Visitor<'de> for $visitor {
            type Value = $name;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($expected)
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok($name::$text(text.into()))
            }

            fn visit_newtype_struct<D: Deserializer<'de>>(
                self,
                deserializer: D,
            ) -> Result<Self::Value, D::Error> {
                $mapping::deserialize(deserializer).map($name::Full)
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                let text = $schema(generator);
                let mapping = generator.subschema_for::<$mapping>();
                json_schema!({ "anyOf": [text, mapping] })
            }
        }
    };
}

text_or_mapping!(EndpointEntry, EndpointVisitor, Address, Endpoint, "an address or a mapping", text);
text_or_mapping!(BalanceBy, BalanceVisitor, Word, Balance, "a word or a mapping", word);

fn text(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<Text>()
}

fn word(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": POLICIES })
}
