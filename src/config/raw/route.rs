//! `routes`.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize};

use super::super::field::{Field, Name, PathText, Percent, Period, SentPath, Size, Table, Text};
use super::condition::Condition;
use super::limit::RateLimit;
use super::{empty, empty_table};

presets! {
    found: u64 = 302u64;
    ok: u64 = 200u64;
    no_body: Text = "";
    plain_text: Text = "text/plain; charset=utf-8";
    two: u64 = 2u64;
    ten: u64 = 10u64;
    fifth: Percent = "20%";
    kib_64: Size = "64KiB";
    ms_25: Period = "25ms";
    ms_250: Period = "250ms";
    no_limit: Size = "0";
}

/// What happens to requests: exactly one of `split`, `upstream`, `redirect` and `respond`.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [
    {"required": ["split"]}, {"required": ["upstream"]}, {"required": ["redirect"]}, {"required": ["respond"]},
]))]
pub(in crate::config) struct Route {
    /// Its name. `route-N` by default, N from 1.
    #[serde(default)]
    pub(in crate::config) name: Field<Name>,
    /// One of these hosts: `shop.example.com`, `*.example.com`. By default any.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub(in crate::config) hosts: Field<Vec<Field<Text>>>,
    /// On one of these listeners. By default any.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub(in crate::config) listeners: Field<Vec<Field<Name>>>,
    /// One of these paths: `/a` exactly, `/a/*` and what is below, `~REGEX` for the whole path. By default any.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub(in crate::config) paths: Field<Vec<Field<PathText>>>,
    /// One of these methods. By default any.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub(in crate::config) methods: Field<Vec<Field<Text>>>,
    /// What else must hold: all of these.
    #[serde(default = "empty::<Field<Condition>>")]
    pub(in crate::config) when: Field<Vec<Field<Condition>>>,
    /// The split that gives the request its variant.
    #[serde(default)]
    pub(in crate::config) split: Field<Name>,
    /// The upstream that the request goes to.
    #[serde(default)]
    pub(in crate::config) upstream: Field<Name>,
    /// Where the client is sent; `https` is `{ scheme: https, status: 308 }`.
    #[serde(default)]
    pub(in crate::config) redirect: Field<RedirectTo>,
    /// What the client is answered.
    #[serde(default)]
    pub(in crate::config) respond: Field<Respond>,
    /// What the upstream sees instead of what the client sent.
    #[serde(default)]
    pub(in crate::config) rewrite: Field<Rewrite>,
    /// Changes of the request's headers.
    #[serde(default)]
    pub(in crate::config) request_headers: Field<HeaderChanges>,
    /// Changes of the response's headers.
    #[serde(default)]
    pub(in crate::config) response_headers: Field<HeaderChanges>,
    /// How long the whole request may take. By default without limit.
    #[serde(default)]
    pub(in crate::config) timeout: Field<Period>,
    /// Further attempts, after one that failed. By default 2 attempts in all, where no connection was made or it broke.
    #[serde(default)]
    pub(in crate::config) retry: Field<Retry>,
    /// The largest request body; 0 is without limit.
    #[serde(default = "no_limit")]
    pub(in crate::config) max_body: Field<Size>,
    /// How many requests a unit may send. By default any number.
    #[serde(default)]
    pub(in crate::config) rate_limit: Field<RateLimit>,
}

/// Where the client is sent. What is not named stays as it is; the query always does.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Redirect {
    /// 301, 302, 303, 307 or 308.
    #[serde(default = "found")]
    pub(in crate::config) status: Field<u64>,
    /// The scheme.
    #[serde(default)]
    pub(in crate::config) scheme: Field<Scheme>,
    /// The host, with its port if it needs one.
    #[serde(default)]
    pub(in crate::config) host: Field<Text>,
    /// The whole path.
    #[serde(default)]
    pub(in crate::config) path: Field<SentPath>,
    /// What replaces the part of the path that the route's path names.
    #[serde(default)]
    pub(in crate::config) prefix: Field<SentPath>,
}

/// A redirect, or the word `https`.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub(in crate::config) struct RedirectTo(pub(in crate::config) Redirect);

impl<'de> Deserialize<'de> for RedirectTo {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RedirectVisitor)
    }
}

struct RedirectVisitor;

impl<'de> Visitor<'de> for RedirectVisitor {
    type Value = RedirectTo;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`https` or a mapping")
    }

    fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<Self::Value, E> {
        if word != "https" {
            return Err(E::custom("`redirect`: `https` or a mapping is expected"));
        }
        let (status, scheme) = (Field::preset(308), Field::preset(Scheme::Https));
        Ok(RedirectTo(Redirect {
            status,
            scheme,
            host: Field::absent(),
            path: Field::absent(),
            prefix: Field::absent(),
        }))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        Redirect::deserialize(deserializer).map(RedirectTo)
    }
}

impl JsonSchema for RedirectTo {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "RedirectTo".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mapping = generator.subschema_for::<Redirect>();
        json_schema!({ "anyOf": [{ "type": "string", "const": "https" }, mapping] })
    }
}

/// The scheme of a redirect.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Scheme {
    /// `http`.
    Http,
    /// `https`.
    Https,
}

/// What the client is answered.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Respond {
    /// From 200 to 599.
    #[serde(default = "ok")]
    #[schemars(range(min = 200, max = 599))]
    pub(in crate::config) status: Field<u64>,
    /// The body.
    #[serde(default = "no_body")]
    pub(in crate::config) body: Field<Text>,
    /// The `Content-Type` of the body.
    #[serde(default = "plain_text")]
    pub(in crate::config) content_type: Field<Text>,
}

/// What the upstream sees instead of what the client sent.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Rewrite {
    /// What replaces the part of the path that the route's path names.
    #[serde(default)]
    pub(in crate::config) prefix: Field<SentPath>,
    /// The host: a name, or `{endpoint}` for that of the endpoint. By default what the client sent.
    #[serde(default)]
    pub(in crate::config) host: Field<Text>,
}

/// Changes of headers, in this order: removed, set, added.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct HeaderChanges {
    /// These headers are removed.
    #[serde(default = "empty::<Field<Text>>")]
    pub(in crate::config) remove: Field<Vec<Field<Text>>>,
    /// These headers replace all of their name.
    #[serde(default = "empty_table::<Text>")]
    pub(in crate::config) set: Field<Table<Text>>,
    /// These headers are added to those of their name.
    #[serde(default = "empty_table::<Text>")]
    pub(in crate::config) add: Field<Table<Text>>,
}

/// Further attempts: at another endpoint first, and never outside of the variant. A connection that is refused costs no
/// attempt.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Retry {
    /// Attempts in all, the first counted; 1 is none but the first.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 100))]
    pub(in crate::config) attempts: Field<u64>,
    /// After what: `connect` (no connection was made, or the endpoint said that it has not looked at the request), `reset`
    /// (it broke off before its response began), `timeout` (its response did not begin in time), a status such as `503`,
    /// `gateway_error` (502, 503, 504), `5xx`. All but `connect` for methods that may be repeated: GET, HEAD, OPTIONS, PUT,
    /// DELETE and those of `methods`.
    #[serde(default = "connect_and_reset")]
    pub(in crate::config) on: Field<Vec<Field<Text>>>,
    /// Further methods that may be repeated, such as `POST`: what doing them twice does is yours to know.
    #[serde(default = "empty::<Field<Text>>")]
    pub(in crate::config) methods: Field<Vec<Field<Text>>>,
    /// How long one attempt may take until its response begins. By default as long as the upstream's `timeouts` say.
    #[serde(default)]
    pub(in crate::config) per_try_timeout: Field<Period>,
    /// The largest request body that is kept to be sent again; a request with a larger one is sent once.
    #[serde(default = "kib_64")]
    pub(in crate::config) max_body: Field<Size>,
    /// How many further attempts there may be: a part of the upstream's requests of the last ten seconds.
    #[serde(default = "fifth")]
    pub(in crate::config) budget: Field<Percent>,
    /// … and so many a second beside it, each worker.
    #[serde(default = "ten")]
    pub(in crate::config) min_per_second: Field<u64>,
    /// The longest first pause before an attempt that is not at another endpoint; each is random from 0 on, and may be
    /// twice as long as the one before.
    #[serde(default = "ms_25")]
    pub(in crate::config) backoff: Field<Period>,
    /// The longest pause.
    #[serde(default = "ms_250")]
    pub(in crate::config) max_backoff: Field<Period>,
    /// After how long without a response a second attempt is made beside the first, at another endpoint: the response that
    /// begins first is taken. For requests without a body whose method may be repeated. Off by default.
    #[serde(default)]
    pub(in crate::config) hedge_after: Field<Period>,
}

fn connect_and_reset() -> Field<Vec<Field<Text>>> {
    Field::preset(["connect", "reset"].map(|word| Field::preset(word.into())).into())
}
