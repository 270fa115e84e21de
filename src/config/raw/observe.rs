//! `telemetry`, `admin` and `access_log`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::field::{Field, Text};

presets! {
    yes_no: bool = false;
    admin_bind: Text = "127.0.0.1:9900";
}

/// `/metrics`, `/healthz` and `/readyz` only.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Telemetry {
    /// Its address.
    pub(in crate::config) bind: Field<Text>,
}

/// `/metrics`, `/healthz`, `/readyz` and `/status`.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Admin {
    /// Its address.
    #[serde(default = "admin_bind")]
    pub(in crate::config) bind: Field<Text>,
}

/// One line for each request.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct AccessLog {
    /// `stdout`, or a file that is appended to.
    pub(in crate::config) path: Field<Text>,
    /// Whether the unit key is logged as it is. It may be personal data.
    #[serde(default = "yes_no")]
    pub(in crate::config) unit_key: Field<bool>,
}
