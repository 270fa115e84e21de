//! One condition: a source and a test of its value.

use std::collections::HashSet;

use regex::bytes::Regex;

use super::{RequestView, Source};
use crate::types::IpSet;

/// A condition on a request.
#[derive(Debug, Clone)]
pub struct Condition {
    /// What is looked at.
    pub source: Source,
    /// What must be true of it.
    pub test: Test,
    /// Whether the opposite is wanted (`not: true`). A missing value fails every test, so its opposite holds.
    pub not: bool,
}

/// What must be true of a value.
#[derive(Debug, Clone)]
pub enum Test {
    /// The value is one of these.
    In(HashSet<Box<[u8]>>),
    /// The value begins with this.
    Prefix(Box<[u8]>),
    /// The value ends with this.
    Suffix(Box<[u8]>),
    /// The regular expression is found in the value.
    Matches(Regex),
    /// The value is there (`true`) or not (`false`); an empty value is there.
    Present(bool),
    /// The value is an IP address inside one of these networks.
    Cidr(IpSet),
}

impl Condition {
    /// Whether the condition holds for `request`.
    pub fn holds<R: RequestView>(&self, _request: &R) -> bool {
        unimplemented!()
    }
}
