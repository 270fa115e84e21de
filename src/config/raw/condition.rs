//! The tests of `when`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::field::{Attribute, Field, Text};

presets! {
    yes_no: bool = false;
}

/// What must be true of an attribute: exactly one test.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [
    {"required": ["in"]}, {"required": ["prefix"]}, {"required": ["suffix"]},
    {"required": ["matches"]}, {"required": ["present"]}, {"required": ["cidr"]},
]))]
pub(in crate::config) struct Condition {
    /// The attribute: `header:NAME`, `cookie:NAME`, `query:NAME`, `path:N`, `host` or `client_ip`.
    pub(in crate::config) value: Field<Attribute>,
    /// It is one of these.
    #[serde(default, rename = "in")]
    #[schemars(length(min = 1))]
    pub(in crate::config) within: Field<Vec<Field<Text>>>,
    /// It begins with this.
    #[serde(default)]
    pub(in crate::config) prefix: Field<Text>,
    /// It ends with this.
    #[serde(default)]
    pub(in crate::config) suffix: Field<Text>,
    /// This regular expression is found in it.
    #[serde(default)]
    pub(in crate::config) matches: Field<Text>,
    /// It is there, or with `false`: it is not.
    #[serde(default)]
    pub(in crate::config) present: Field<bool>,
    /// It is an IP address in one of these networks.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub(in crate::config) cidr: Field<Vec<Field<Text>>>,
    /// Whether the opposite is wanted. A missing attribute fails every test, so its opposite holds.
    #[serde(default = "yes_no")]
    pub(in crate::config) not: Field<bool>,
}
