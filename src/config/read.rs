//! A tree to the raw types, collecting what is wrong instead of stopping at it.
//!
//! A [`serde::Deserializer`] over [`Node`]: the types say with their derived `Deserialize` which keys and words there
//! are, so that the types stay the only list of them. Every error goes into the report at its place; the value becomes
//! a broken [`Field`] and the rest is read on. What the values mean is for [`super::lower`].

use std::cell::RefCell;
use std::fmt;

use serde::de::value::{StrDeserializer, U32Deserializer};
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess, Visitor,
};
use serde::{Deserialize, forward_to_deserialize_any};

use super::diagnostic::Code;
use super::field::{FIELD, Field};
use super::node::{Kind, Node};
use super::report::{Added, Report, did_you_mean, nearest};
use super::span::Span;

/// The value in `node`, or a broken one; what is wrong is in the report.
pub(super) fn read<'n, T: Deserialize<'n>>(report: &mut Report<'_>, node: &'n Node) -> Field<T> {
    let report = RefCell::new(report);
    let reader = Reader { node, name: "", report: &report };
    Field::deserialize(reader).unwrap_or_default()
}

/// Why a value could not be read.
#[derive(Debug)]
enum Failed {
    /// The report has it.
    Reported,
    /// A visitor refused it.
    Refused(String),
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reported => f.write_str("reported"),
            Self::Refused(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for Failed {}

impl serde::de::Error for Failed {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Refused(message.to_string())
    }
}

type Shared<'c, 'r, 's> = &'c RefCell<&'r mut Report<'s>>;

/// Reads one value; `name` is its key, for messages.
#[derive(Clone, Copy)]
struct Reader<'n, 'c, 'r, 's> {
    node: &'n Node,
    name: &'n str,
    report: Shared<'c, 'r, 's>,
}

impl Reader<'_, '_, '_, '_> {
    fn wrong_type(&self, wanted: &str, hint: Option<&str>) -> Failed {
        if matches!(self.node.kind, Kind::Broken) {
            return Failed::Reported;
        }
        let subject =
            if self.name.is_empty() { String::new() } else { format!("`{}`: ", self.name.escape_debug()) };
        let message = match &self.node.kind {
            Kind::Null => format!("{subject}{wanted} is expected, and there is nothing"),
            _ => format!("{subject}{wanted} is expected, not {}", self.node.describe()),
        };
        let mut report = self.report.borrow_mut();
        report.error(Code::WrongType, self.node.span, message).maybe_hint(hint.map(str::to_owned));
        Failed::Reported
    }

    fn entries(&self) -> Result<&[(Node, Node)], Failed> {
        match &self.node.kind {
            Kind::Map(entries) => Ok(entries),
            Kind::Null => {
                Err(self.wrong_type("a mapping", Some("write `{}` for an empty one, or remove the key")))
            }
            _ => Err(self.wrong_type("a mapping", None)),
        }
    }
}

impl<'n> Deserializer<'n> for Reader<'n, '_, '_, '_> {
    type Error = Failed;

    /// For what may be a word or a mapping: the visitor gets the word, or reads on by itself.
    fn deserialize_any<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Failed> {
        match &self.node.kind {
            Kind::Scalar(scalar) => visitor.visit_str(&scalar.text),
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_option<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Failed> {
        visitor.visit_some(self)
    }

    fn deserialize_tuple_struct<V: Visitor<'n>>(
        self,
        name: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Failed> {
        if name == FIELD {
            visitor.visit_seq(Parts { reader: self, next: 0 })
        } else {
            self.deserialize_any(visitor)
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'n>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Failed> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'n>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failed> {
        let _ = self.entries()?;
        visitor.visit_map(Entries { reader: self, next: 0, fields: Some(fields) })
    }

    fn deserialize_map<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Failed> {
        let _ = self.entries()?;
        visitor.visit_map(Entries { reader: self, next: 0, fields: None })
    }

    fn deserialize_seq<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Failed> {
        match &self.node.kind {
            Kind::Seq(items) => visitor.visit_seq(Items { reader: self, items: items.iter() }),
            Kind::Scalar(_) => Err(self.wrong_type("a list", Some("put it into `[ ]`"))),
            Kind::Null => Err(self.wrong_type("a list", Some("remove the key, or give it items"))),
            Kind::Map(_) | Kind::Broken => Err(self.wrong_type("a list", None)),
        }
    }

    fn deserialize_string<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Failed> {
        match &self.node.kind {
            Kind::Scalar(scalar) => visitor.visit_str(&scalar.text),
            Kind::Seq(_) | Kind::Map(_) => {
                let hint = "a text with `[`, `{`, `}` or `: ` in it needs quotes";
                Err(self.wrong_type("one text", Some(hint)))
            }
            Kind::Null | Kind::Broken => Err(self.wrong_type("a text", None)),
        }
    }

    fn deserialize_str<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Failed> {
        self.deserialize_string(visitor)
    }

    fn deserialize_bool<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Failed> {
        match &self.node.kind {
            // The words of the YAML 1.2 core schema.
            Kind::Scalar(scalar) if scalar.plain || scalar.written.is_some() => match scalar.text.as_str() {
                "true" | "True" | "TRUE" => visitor.visit_bool(true),
                "false" | "False" | "FALSE" => visitor.visit_bool(false),
                _ => Err(self.wrong_type("`true` or `false`", None)),
            },
            Kind::Scalar(_) => Err(self.wrong_type("`true` or `false` without quotes", None)),
            _ => Err(self.wrong_type("`true` or `false`", None)),
        }
    }

    fn deserialize_u64<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Failed> {
        match &self.node.kind {
            Kind::Scalar(scalar) if scalar.plain || scalar.written.is_some() => {
                let digits = !scalar.text.is_empty() && scalar.text.bytes().all(|byte| byte.is_ascii_digit());
                match scalar.text.parse().ok().filter(|_| digits) {
                    Some(number) => visitor.visit_u64(number),
                    None => Err(self.wrong_type("a whole number", None)),
                }
            }
            Kind::Scalar(_) => Err(self.wrong_type("a whole number without quotes", None)),
            _ => Err(self.wrong_type("a whole number", None)),
        }
    }

    fn deserialize_enum<V: Visitor<'n>>(
        self,
        _: &'static str,
        words: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failed> {
        let Kind::Scalar(scalar) = &self.node.kind else {
            return Err(self.wrong_type("a word", Some(&one_of(words))));
        };
        if words.contains(&scalar.text.as_str()) {
            return visitor.visit_enum(Word(&scalar.text));
        }
        let message = format!("`{}` is not known here", scalar.shown().escape_debug());
        let hint = match nearest(&scalar.text, words.iter().copied()) {
            Some(word) if scalar.written.is_none() => format!("{} {}", did_you_mean(word), one_of(words)),
            _ => one_of(words),
        };
        self.report.borrow_mut().error(Code::UnknownWord, self.node.span, message).hint(hint);
        Err(Failed::Reported)
    }

    forward_to_deserialize_any! {
        <V: Visitor<'n>>
        i8 i16 i32 i64 i128 u8 u16 u32 u128 f32 f64 char bytes byte_buf unit unit_struct tuple identifier ignored_any
    }
}

fn one_of(words: &[&str]) -> String {
    let words: Vec<_> = words.iter().map(|word| format!("`{word}`")).collect();
    format!("known are {}", words.join(", "))
}

/// What a field asks for: the three numbers of its place, how it was written, the value.
struct Parts<'n, 'c, 'r, 's> {
    reader: Reader<'n, 'c, 'r, 's>,
    next: usize,
}

impl<'n> SeqAccess<'n> for Parts<'n, '_, '_, '_> {
    type Error = Failed;

    fn next_element_seed<T: DeserializeSeed<'n>>(&mut self, seed: T) -> Result<Option<T::Value>, Failed> {
        let Span { file, start, end } = self.reader.node.span;
        self.next += 1;
        let number = |number: u32| -> U32Deserializer<Failed> { number.into_deserializer() };
        let value = match self.next {
            1 => seed.deserialize(number(file)),
            2 => seed.deserialize(number(start)),
            3 => seed.deserialize(number(end)),
            4 => seed.deserialize(Written(self.reader.node)),
            _ => seed.deserialize(self.reader),
        };
        value.map(Some).map_err(|error| {
            if let Failed::Refused(message) = error {
                let mut report = self.reader.report.borrow_mut();
                report.error(Code::WrongType, self.reader.node.span, message);
            }
            Failed::Reported
        })
    }
}

/// How a scalar was written, if that is not its text.
struct Written<'n>(&'n Node);

impl<'n> Deserializer<'n> for Written<'n> {
    type Error = Failed;

    fn deserialize_any<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Failed> {
        match &self.0.kind {
            Kind::Scalar(scalar) => match &scalar.written {
                Some(written) => visitor.visit_some(StrDeserializer::new(written)),
                None => visitor.visit_none(),
            },
            _ => visitor.visit_none(),
        }
    }

    forward_to_deserialize_any! {
        <V: Visitor<'n>>
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

struct Items<'n, 'c, 'r, 's> {
    reader: Reader<'n, 'c, 'r, 's>,
    items: std::slice::Iter<'n, Node>,
}

impl<'n> SeqAccess<'n> for Items<'n, '_, '_, '_> {
    type Error = Failed;

    fn next_element_seed<T: DeserializeSeed<'n>>(&mut self, seed: T) -> Result<Option<T::Value>, Failed> {
        self.items.next().map(|node| seed.deserialize(Reader { node, ..self.reader })).transpose()
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

struct Entries<'n, 'c, 'r, 's> {
    reader: Reader<'n, 'c, 'r, 's>,
    next: usize,
    /// The known keys; `None` where all are.
    fields: Option<&'static [&'static str]>,
}

impl<'n> Entries<'n, '_, '_, '_> {
    fn at(&self, index: usize) -> Option<&'n (Node, Node)> {
        match &self.reader.node.kind {
            Kind::Map(entries) => entries.get(index),
            _ => None,
        }
    }

    fn unknown(&self, key: &Node, text: &str, fields: &[&str]) {
        let here = if self.reader.name.is_empty() {
            String::new()
        } else {
            format!(" in `{}`", self.reader.name.escape_debug())
        };
        let mut report = self.reader.report.borrow_mut();
        let message = format!("the key `{}` is not known{here}", text.escape_debug());
        let added: Added<'_> = report.error(Code::UnknownKey, key.span, message);
        match nearest(text, fields.iter().copied()) {
            Some(word) => added.hint(did_you_mean(word)),
            None => added.hint(one_of(fields)),
        };
    }
}

impl<'n> MapAccess<'n> for Entries<'n, '_, '_, '_> {
    type Error = Failed;

    fn next_key_seed<K: DeserializeSeed<'n>>(&mut self, seed: K) -> Result<Option<K::Value>, Failed> {
        while let Some((key, _)) = self.at(self.next) {
            self.next += 1;
            let text = key.text().unwrap_or_default();
            match self.fields {
                None => return seed.deserialize(Reader { node: key, ..self.reader }).map(Some),
                Some(fields) if fields.contains(&text) => {
                    let key: StrDeserializer<'_, Failed> = text.into_deserializer();
                    return seed.deserialize(key).map(Some);
                }
                Some(fields) => self.unknown(key, text, fields),
            }
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'n>>(&mut self, seed: V) -> Result<V::Value, Failed> {
        let (key, node) = self.next.checked_sub(1).and_then(|at| self.at(at)).ok_or(Failed::Reported)?;
        seed.deserialize(Reader { node, name: key.text().unwrap_or_default(), ..self.reader })
    }
}

/// A word of an enum without content.
struct Word<'n>(&'n str);

impl<'n> EnumAccess<'n> for Word<'n> {
    type Error = Failed;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'n>>(self, seed: V) -> Result<(V::Value, Self), Failed> {
        let word: StrDeserializer<'_, Failed> = self.0.into_deserializer();
        Ok((seed.deserialize(word)?, self))
    }
}

impl<'n> VariantAccess<'n> for Word<'n> {
    type Error = Failed;

    fn unit_variant(self) -> Result<(), Failed> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'n>>(self, _: T) -> Result<T::Value, Failed> {
        Err(Failed::Refused("a word has no content".to_owned()))
    }

    fn tuple_variant<V: Visitor<'n>>(self, _: usize, _: V) -> Result<V::Value, Failed> {
        Err(Failed::Refused("a word has no content".to_owned()))
    }

    fn struct_variant<V: Visitor<'n>>(self, _: &'static [&'static str], _: V) -> Result<V::Value, Failed> {
        Err(Failed::Refused("a word has no content".to_owned()))
    }
}
