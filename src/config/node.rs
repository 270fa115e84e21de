//! YAML as a tree in which everything knows its place.
//!
//! Made by [`super::yaml`], changed by [`super::substitute`] and [`super::merge`], read by [`super::read`].

use super::span::Span;

/// A value and its place.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) span: Span,
    pub(super) kind: Kind,
}

/// What a value is.
#[derive(Debug, Clone)]
pub(super) enum Kind {
    /// Nothing, `null` or `~`.
    Null,
    /// A text; what it means depends on who reads it.
    Scalar(Scalar),
    /// A list.
    Seq(Vec<Node>),
    /// A mapping, in file order; each key stands in it once.
    Map(Vec<(Node, Node)>),
    /// Something that was reported already.
    Broken,
}

/// The text of a value.
#[derive(Debug, Clone)]
pub(super) struct Scalar {
    pub(super) text: String,
    /// Whether it was written without quotes.
    pub(super) plain: bool,
    /// How it was written, if environment variables were put in: what messages show instead of the text.
    pub(super) written: Option<String>,
}

impl Node {
    /// What this is, for messages.
    pub(super) fn describe(&self) -> String {
        match &self.kind {
            Kind::Null => "nothing".to_owned(),
            Kind::Scalar(scalar) => format!("`{}`", scalar.shown().escape_debug()),
            Kind::Seq(_) => "a list".to_owned(),
            Kind::Map(_) => "a mapping".to_owned(),
            Kind::Broken => "an error".to_owned(),
        }
    }

    /// The text of a scalar.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar(scalar) => Some(&scalar.text),
            _ => None,
        }
    }
}

impl Scalar {
    /// The text as messages may show it: values of environment variables are not echoed.
    pub(super) fn shown(&self) -> &str {
        self.written.as_deref().unwrap_or(&self.text)
    }
}
