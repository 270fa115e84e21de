//! One value at a time: durations, sizes, addresses, names, hosts, paths, regular expressions.

use std::time::Duration;

use ipnet::IpNet;

use super::super::diagnostic::Code;
use super::super::field::{Attribute, Field, Percent, Period, SentPath, Size, Text};
use super::Lower;
use crate::logic::condition::Source;
use crate::types::quantity::parse_duration;
use crate::types::{BindAddress, ByteSize, IpSet, NameError, Share};
use crate::wire::path::dot_segments;

impl Lower<'_, '_> {
    /// A duration, which may be zero.
    pub(super) fn period(&mut self, field: &Field<Period>) -> Option<Duration> {
        let text = &field.get()?.0;
        match parse_duration(text) {
            Ok(duration) => Some(duration),
            Err(error) => {
                self.invalid(Code::InvalidDuration, field, format!("`{}`: {error}", text.escape_debug()))
                    .hint("write a whole number and `ms`, `s`, `m`, `h` or `d`, as in `250ms`");
                None
            }
        }
    }

    /// A duration of more than nothing.
    pub(super) fn positive(&mut self, field: &Field<Period>) -> Option<Duration> {
        let duration = self.period(field)?;
        if duration.is_zero() {
            self.report.error(Code::ZeroDuration, field.span, "a duration of zero has no meaning here");
            return None;
        }
        Some(duration)
    }

    /// A size.
    pub(super) fn size(&mut self, field: &Field<Size>) -> Option<ByteSize> {
        let text = &field.get()?.0;
        match ByteSize::parse(text) {
            Ok(size) => Some(size),
            Err(error) => {
                self.invalid(Code::InvalidSize, field, format!("`{}`: {error}", text.escape_debug()))
                    .hint("write a whole number and `B`, `KiB`, `MiB` or `GiB`, as in `64KiB`");
                None
            }
        }
    }

    /// A percentage.
    pub(super) fn share(&mut self, field: &Field<Percent>) -> Option<Share> {
        let text = &field.get()?.0;
        match Share::parse(text) {
            Ok(share) => Some(share),
            Err(error) => {
                self.invalid(Code::InvalidShare, field, format!("`{}`: {error}", text.escape_debug()))
                    .hint("write for example `5%` or `0.25%`");
                None
            }
        }
    }

    /// A number in `[least, most]`.
    pub(super) fn range(&mut self, field: &Field<u64>, what: &str, least: u64, most: u64) -> Option<u64> {
        let number = *field.get()?;
        if (least..=most).contains(&number) {
            return Some(number);
        }
        self.invalid(Code::OutOfRange, field, format!("{what} is from {least} to {most}, not {number}"));
        None
    }

    /// A name of the kind that `new` makes.
    pub(super) fn name<T, N: AsRef<str>>(
        &mut self,
        field: &Field<N>,
        new: fn(&str) -> Result<T, NameError>,
    ) -> Option<T> {
        match new(field.get()?.as_ref()) {
            Ok(name) => Some(name),
            Err(error) => {
                self.invalid(Code::InvalidName, field, error.to_string());
                None
            }
        }
    }

    /// An address to listen on.
    pub(super) fn bind(&mut self, field: &Field<Text>) -> Option<BindAddress> {
        match BindAddress::parse(field.get()?.as_ref()) {
            Ok(address) => Some(address),
            Err(error) => {
                self.invalid(Code::InvalidAddress, field, error.to_string());
                None
            }
        }
    }

    /// A list of networks, empty when it is not written.
    pub(super) fn networks(&mut self, field: &Field<Vec<Field<Text>>>) -> Option<IpSet> {
        let items = field.items();
        let networks: Vec<_> = items.iter().filter_map(|item| self.network(item)).collect();
        (networks.len() == items.len() && !field.is_broken()).then(|| IpSet::new(networks))
    }

    fn network(&mut self, field: &Field<Text>) -> Option<IpNet> {
        let text = field.get()?.as_ref();
        match IpSet::parse_network(text) {
            Ok(network) => Some(network),
            Err(text) => {
                let message = format!("`{}` is no network and no IP address", text.escape_debug());
                self.invalid(Code::InvalidNetwork, field, message)
                    .hint("write for example `10.0.0.0/8`, `2001:db8::/32` or `192.0.2.1`");
                None
            }
        }
    }

    /// Reports a list that is written and has no items; whether that is so.
    pub(super) fn empty_list<T>(&mut self, field: &Field<Vec<T>>, message: &str) -> bool {
        let empty = field.is_given() && field.get().is_some_and(Vec::is_empty);
        if empty {
            self.report.error(Code::EmptyList, field.span, message);
        }
        empty
    }

    /// Where an attribute is read.
    pub(super) fn attribute(&mut self, field: &Field<Attribute>) -> Option<Source> {
        match Source::parse(field.get()?.as_ref()) {
            Ok(source) => Some(source),
            Err(message) => {
                self.invalid(Code::InvalidSource, field, message);
                None
            }
        }
    }

    /// A host with an optional port, as it stands in a URL.
    pub(super) fn authority(&mut self, field: &Field<Text>) -> Option<String> {
        let text = field.get()?.as_ref();
        let authority = text.parse::<http::uri::Authority>();
        if authority.is_ok_and(|authority| !text.contains('@') && !authority.host().is_empty()) {
            return Some(text.to_owned());
        }
        let message = format!("`{}` is not a host such as `shop.example.com:8443`", text.escape_debug());
        self.invalid(Code::InvalidHost, field, message);
        None
    }

    /// A path that is sent, without a query.
    pub(super) fn sent_path(&mut self, field: &Field<SentPath>) -> Option<String> {
        let text = field.get()?.as_ref();
        let is_path = text.starts_with('/') && !text.contains(['?', '#', '*']);
        if is_path
            && dot_segments(text) == 0
            && text.parse::<http::uri::PathAndQuery>().is_ok_and(|path| path.as_str() == text)
        {
            return Some(text.to_owned());
        }
        if text.starts_with('/') && dot_segments(text) > 0 {
            let message = format!("`{}` has segments of dots", text.escape_debug());
            self.invalid(Code::InvalidPath, field, message).hint("write the path that it comes to");
            return None;
        }
        let message = format!("`{}` is not a path that can be sent", text.escape_debug());
        self.invalid(Code::InvalidPath, field, message)
            .hint("it begins with `/`, has no `?`, `#` or `*`, and other characters are percent-encoded");
        None
    }
}
