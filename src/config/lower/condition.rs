//! Conditions: one list everywhere (`routes[].when`, `rules[].when`).

use regex::bytes::Regex;

use super::super::diagnostic::Code;
use super::super::field::{Field, Text};
use super::super::raw;
use super::Lower;
use super::header::is_hop_by_hop;
use crate::logic::condition::{Condition, Source, Test};

impl Lower<'_, '_> {
    /// A list of conditions; `None` when one of them is wrong.
    pub(super) fn conditions(&mut self, list: &Field<Vec<Field<raw::Condition>>>) -> Option<Vec<Condition>> {
        let items = list.items();
        let conditions: Vec<_> = items.iter().filter_map(|item| self.condition(item)).collect();
        (conditions.len() == items.len() && !list.is_broken()).then_some(conditions)
    }

    fn condition(&mut self, field: &Field<raw::Condition>) -> Option<Condition> {
        let raw = field.get()?;
        let source = self.require(&raw.value, field.span, "value").and_then(|_| self.identity(&raw.value));
        let test = self.test(field, raw);
        Some(Condition { source: source?, test: test?, not: *raw.not.get()? })
    }

    /// Where an attribute is read that a client may send through a proxy.
    pub(super) fn identity(&mut self, field: &Field<super::super::field::Attribute>) -> Option<Source> {
        let source = self.attribute(field)?;
        if let Some(name) = source.header_name().filter(|name| is_hop_by_hop(name)) {
            let message = format!("`{name}` belongs to one connection and says nothing about the client");
            self.invalid(Code::HopByHopHeader, field, message);
            return None;
        }
        Some(source)
    }

    fn test(&mut self, field: &Field<raw::Condition>, raw: &raw::Condition) -> Option<Test> {
        let raw::Condition { value: _, within, prefix, suffix, matches, present, cidr, not: _ } = raw;
        let tests = [
            ("in", within.is_given()),
            ("prefix", prefix.is_given()),
            ("suffix", suffix.is_given()),
            ("matches", matches.is_given()),
            ("present", present.is_given()),
            ("cidr", cidr.is_given()),
        ];
        match self.one_of("a condition", field.span, &tests)? {
            "in" => {
                if self.empty_list(within, "`in` names no value, so nothing can be in it") {
                    return None;
                }
                let values = within.get()?;
                let set: Vec<_> = values.iter().filter_map(|value| Some(bytes(value.get()?))).collect();
                (set.len() == values.len()).then(|| Test::In(set.into_iter().collect()))
            }
            "prefix" => Some(Test::Prefix(bytes(prefix.get()?))),
            "suffix" => Some(Test::Suffix(bytes(suffix.get()?))),
            "matches" => match Regex::new(matches.get()?.as_ref()) {
                Ok(regex) => Some(Test::Matches(regex)),
                Err(error) => {
                    let text = error.to_string();
                    let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
                    let message = format!("the regular expression is not valid: {reason}");
                    self.invalid(Code::InvalidRegex, matches, message);
                    None
                }
            },
            "present" => Some(Test::Present(*present.get()?)),
            _ => {
                if self.empty_list(cidr, "`cidr` names no network, so nothing can be in it") {
                    return None;
                }
                cidr.get()?;
                self.networks(cidr).map(Test::Cidr)
            }
        }
    }

    /// The one key of `keys` that is given, of `subject` at `span`.
    pub(super) fn one_of<'k>(
        &mut self,
        subject: &str,
        span: super::super::span::Span,
        keys: &[(&'k str, bool)],
    ) -> Option<&'k str> {
        let given: Vec<_> = keys.iter().filter(|(_, given)| *given).map(|(key, _)| *key).collect();
        if let [key] = given[..] {
            return Some(key);
        }
        let names: Vec<_> = keys.iter().map(|(key, _)| *key).collect();
        if given.is_empty() && self.report.mistyped(span, &names) {
            return None;
        }
        let quoted = |keys: &mut dyn Iterator<Item = &str>| {
            keys.map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ")
        };
        let all = quoted(&mut names.into_iter());
        let found = match given.len() {
            0 => "none of them".to_owned(),
            _ => quoted(&mut given.iter().copied()),
        };
        let message = format!("{subject} has exactly one of {all}; this one has {found}");
        self.report.error(Code::OneOf, super::begin(span), message);
        None
    }
}

fn bytes(text: &Text) -> Box<[u8]> {
    text.0.as_bytes().into()
}
