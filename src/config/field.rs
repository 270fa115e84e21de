//! The leaves and containers of the raw types: values that know their place, and may be missing or broken.
//!
//! A broken value has been reported and hides no other: whoever reads it goes on without. How these meet the tree is
//! for [`super::read`].

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::{Error as ValueError, MapDeserializer};
use serde::de::{DeserializeOwned, MapAccess, SeqAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::span::Span;

/// The name by which a [`Field`] asks its deserializer for the place beside the value.
pub(super) const FIELD: &str = "\u{0}weir field";

/// A value with its place.
#[derive(Debug, Clone)]
pub(super) struct Field<T> {
    pub(super) span: Span,
    /// How it was written, if environment variables were put in.
    pub(super) written: Option<String>,
    state: State<T>,
}

#[derive(Debug, Clone)]
enum State<T> {
    /// Not written, and there is no default.
    Absent,
    /// Not written.
    Default(T),
    /// Reported.
    Broken,
    /// Written.
    Given(T),
}

impl<T> Field<T> {
    /// What is not written.
    pub(super) fn absent() -> Self {
        Self { span: Span::NONE, written: None, state: State::Absent }
    }

    /// What holds when nothing is written.
    pub(super) fn preset(value: T) -> Self {
        Self { state: State::Default(value), ..Self::absent() }
    }

    fn broken(span: Span) -> Self {
        Self { span, written: None, state: State::Broken }
    }

    /// The value, written or by default.
    pub(super) fn get(&self) -> Option<&T> {
        match &self.state {
            State::Given(value) | State::Default(value) => Some(value),
            State::Absent | State::Broken => None,
        }
    }

    /// The value, written or by default, to complete it.
    pub(super) fn get_mut(&mut self) -> Option<&mut T> {
        match &mut self.state {
            State::Given(value) | State::Default(value) => Some(value),
            State::Absent | State::Broken => None,
        }
    }

    /// Whether somebody wrote it (perhaps wrongly).
    pub(super) fn is_given(&self) -> bool {
        matches!(self.state, State::Given(_) | State::Broken)
    }

    /// Whether nobody wrote it and it has no default.
    pub(super) fn is_absent(&self) -> bool {
        matches!(self.state, State::Absent)
    }

    /// Whether it was reported.
    pub(super) fn is_broken(&self) -> bool {
        matches!(self.state, State::Broken)
    }

    /// Gives it a default that follows from something at `span`, if it has no value.
    pub(super) fn complete(&mut self, span: Span, value: impl FnOnce() -> T) {
        if self.is_absent() {
            *self = Self { span, written: None, state: State::Default(value()) };
        }
    }

    /// Gives it the value of `other` as its default, if it has no value. What messages may show of that holds here too.
    pub(super) fn follow(&mut self, other: &Self)
    where
        T: Clone,
    {
        if let (true, Some(value)) = (self.is_absent(), other.get()) {
            *self = Self {
                span: other.span,
                written: other.written.clone(),
                state: State::Default(value.clone()),
            };
        }
    }
}

impl<T> Field<Vec<T>> {
    /// The items, none if there is no list.
    pub(super) fn items(&self) -> &[T] {
        self.get().map_or(&[], Vec::as_slice)
    }
}

impl<T> Field<Table<T>> {
    /// The entries, none if there is no mapping.
    pub(super) fn entries(&self) -> &[(Field<Text>, Field<T>)] {
        self.get().map_or(&[], |table| table.0.as_slice())
    }
}

impl<T> Default for Field<T> {
    fn default() -> Self {
        Self::absent()
    }
}

/// A section in which every key has its default.
pub(super) fn section<T: DeserializeOwned>() -> Field<T> {
    let nothing = std::iter::empty::<(&str, &str)>();
    T::deserialize(MapDeserializer::<_, ValueError>::new(nothing))
        .map_or_else(|_| Field::absent(), Field::preset)
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_option(FieldVisitor(PhantomData))
    }
}

struct FieldVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for FieldVisitor<T> {
    type Value = Field<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_none<E>(self) -> Result<Self::Value, E> {
        Ok(Field::absent())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_tuple_struct(FIELD, 5, self)
    }

    /// Place, how it was written, and the value; an error of the value has been reported.
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut number = || seq.next_element::<u32>().map(Option::unwrap_or_default);
        let span = Span { file: number()?, start: number()?, end: number()? };
        let written = seq.next_element::<Option<String>>()?.flatten();
        Ok(match seq.next_element::<T>() {
            Ok(Some(value)) => Field { span, written, state: State::Given(value) },
            Ok(None) | Err(_) => Field::broken(span),
        })
    }
}

impl<T: Serialize> Serialize for Field<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.get().serialize(serializer)
    }
}

impl<T: JsonSchema> JsonSchema for Field<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }
    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }
    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// A mapping whose keys the user chooses, in file order.
#[derive(Debug, Clone)]
pub(super) struct Table<T>(pub(super) Vec<(Field<Text>, Field<T>)>);

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Table<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(TableVisitor(PhantomData))
    }
}

struct TableVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for TableVisitor<T> {
    type Value = Table<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Table(entries))
    }
}

impl<T: Serialize> Serialize for Table<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in &self.0 {
            map.serialize_entry(key.get().map_or("", AsRef::as_ref), value)?;
        }
        map.end()
    }
}

impl<T: JsonSchema> JsonSchema for Table<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        format!("Table of {}", T::schema_name()).into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let value = generator.subschema_for::<T>();
        json_schema!({ "type": "object", "additionalProperties": value })
    }
}

macro_rules! texts {
    ($($(#[doc = $doc:literal])* $name:ident $schema:tt;)*) => {$(
        $(#[doc = $doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
        #[serde(transparent)]
        pub(super) struct $name(pub(super) String);

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    )*};
}

texts! {
    /// Any text; numbers and words are taken as they are written.
    Text { "type": ["string", "number", "boolean"] };
    /// A name: letters, digits, `-`, `_` and `.`.
    Name { "type": ["string", "number"], "minLength": 1, "maxLength": 128 };
    /// A duration: a whole number and its unit.
    Period { "type": "string", "pattern": "^[0-9]+ *(ms|s|m|h|d)$" };
    /// A size: a whole number and its unit, or 0.
    Size { "type": ["string", "integer"], "maximum": 0, "pattern": "^([0-9]+ *(B|KiB|MiB|GiB|TiB)|0)$" };
    /// A percentage of all units.
    Percent { "type": "string", "pattern": "^[0-9]+(\\.[0-9]{1,4})? *%$" };
    /// A status of a final response, or a range of them.
    StatusRange { "type": ["string", "integer"], "minimum": 200, "maximum": 599, "pattern": "^[2-5][0-9]{2}( *- *[2-5][0-9]{2})?$" };
    /// Where an attribute of a request is read.
    Attribute {
        "type": "string",
        "pattern": "^(header:.+|cookie:.+|query:.+|path:[1-9][0-9]*|host|client_ip(/[0-9]+){0,2}|tls:(san|cn|fingerprint))$"
    };
    /// A path: exact, prefix by whole segments with `/*`, or a regular expression with `~`.
    PathText { "type": "string", "pattern": "^[/~]" };
    /// A path that is sent.
    SentPath { "type": "string", "pattern": "^/" };
}

/// A decimal number; kept as it is written, for no binary fraction is a tenth.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(super) struct Decimal(String);

impl AsRef<str> for Decimal {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match (self.0.parse::<u64>(), self.0.parse::<f64>()) {
            (Ok(whole), _) => serializer.serialize_u64(whole),
            (_, Ok(number)) => serializer.serialize_f64(number),
            _ => serializer.serialize_str(&self.0),
        }
    }
}

impl JsonSchema for Decimal {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Decimal".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "number", "exclusiveMinimum": 0 })
    }
}

/// One source, or a list of them.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub(super) struct Sources(Vec<Field<Attribute>>);

impl Sources {
    /// The sources; `field` is where they stand, and where one stands that is written without a list.
    pub(super) fn of(&self, field: &Field<Self>) -> Vec<Field<Attribute>> {
        let placed = |item: &Field<Attribute>| match item.state {
            State::Default(_) => Field { span: field.span, written: field.written.clone(), ..item.clone() },
            _ => item.clone(),
        };
        self.0.iter().map(placed).collect()
    }
}

impl<'de> Deserialize<'de> for Sources {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SourcesVisitor)
    }
}

struct SourcesVisitor;

impl<'de> Visitor<'de> for SourcesVisitor {
    type Value = Sources;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a source, or a list of sources")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Sources(vec![Field::preset(text.into())]))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        Vec::deserialize(deserializer).map(Sources)
    }
}

impl JsonSchema for Sources {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Sources".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<Attribute>();
        json_schema!({ "anyOf": [one, { "type": "array", "items": one, "minItems": 1 }] })
    }
}
