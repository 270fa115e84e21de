//! Header names and values, and changes of them.

use http::{HeaderName, HeaderValue, header};

use super::super::diagnostic::Code;
use super::super::field::{Field, Table, Text};
use super::super::model::HeaderChanges;
use super::super::raw;
use super::Lower;

/// Headers that belong to one connection (RFC 9110 §7.6.1): nobody behind the next hop sees them.
const HOP_BY_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Whether `name` belongs to one connection.
pub(super) fn is_hop_by_hop(name: &HeaderName) -> bool {
    HOP_BY_HOP.contains(name)
}

impl Lower<'_, '_> {
    /// The name of a header that goes through the proxy.
    pub(super) fn header_name(&mut self, field: &Field<Text>) -> Option<HeaderName> {
        let text = field.get()?.as_ref();
        let Ok(name) = HeaderName::from_bytes(text.as_bytes()) else {
            let message = format!("`{}` is not a header name", text.escape_debug());
            self.invalid(Code::InvalidHeader, field, message);
            return None;
        };
        if is_hop_by_hop(&name) {
            let message = format!("`{name}` belongs to one connection and does not go through a proxy");
            self.invalid(Code::HopByHopHeader, field, message);
            return None;
        }
        Some(name)
    }

    /// The name of a header that may be changed.
    fn changed_name(&mut self, field: &Field<Text>) -> Option<HeaderName> {
        let name = self.header_name(field)?;
        let instead = match name {
            header::CONTENT_LENGTH => "it follows from the body",
            header::HOST => "write `rewrite: { host: NAME }` instead",
            _ => return Some(name),
        };
        let message = format!("`{name}` frames the message and cannot be changed here");
        self.invalid(Code::HopByHopHeader, field, message).hint(instead);
        None
    }

    /// The value of a header.
    pub(super) fn header_value(&mut self, field: &Field<Text>) -> Option<HeaderValue> {
        let text = field.get()?.as_ref();
        if let Ok(value) = HeaderValue::from_str(text) {
            return Some(value);
        }
        let message = format!("`{}` is not a header value", text.escape_debug());
        self.invalid(Code::InvalidHeader, field, message).hint("a header value is one line of visible ASCII");
        None
    }

    /// Changes of headers; none when they are not written.
    pub(super) fn changes(&mut self, field: &Field<raw::HeaderChanges>) -> Option<HeaderChanges> {
        let Some(changes) = field.get() else {
            return field.is_absent().then(HeaderChanges::default);
        };
        let names = changes.remove.items();
        let remove: Vec<_> = names.iter().filter_map(|name| self.changed_name(name)).collect();
        let set = self.pairs(&changes.set);
        let add = self.pairs(&changes.add);
        (remove.len() == names.len()).then_some(HeaderChanges { remove, set: set?, add: add? })
    }

    fn pairs(&mut self, table: &Field<Table<Text>>) -> Option<Vec<(HeaderName, HeaderValue)>> {
        let entries = table.entries();
        let mut pairs = Vec::with_capacity(entries.len());
        let mut names = Vec::with_capacity(entries.len());
        for (name, value) in entries {
            let span = name.span;
            let (name, value) = (self.changed_name(name), self.header_value(value));
            names.extend(name.clone().map(|name| (name, span)));
            pairs.extend(name.zip(value));
        }
        self.distinct(Code::DuplicateName, names, "this header stands twice here");
        (pairs.len() == entries.len()).then_some(pairs)
    }
}
