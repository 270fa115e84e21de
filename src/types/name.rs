//! Checked names of the things a configuration defines.
//!
//! Names travel in headers, metric labels, log fields and URLs, so one rule holds for all of them.

use std::fmt;
use std::sync::Arc;

/// The longest name, in bytes.
pub const MAX_NAME: usize = 128;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The text is empty.
    #[error("a name may not be empty")]
    Empty,
    /// The text is longer than [`MAX_NAME`] bytes.
    #[error("a name has at most {MAX_NAME} bytes, this one has {0}")]
    TooLong(usize),
    /// The text has a character that names do not have.
    #[error("a name has letters, digits, `-`, `_` and `.` only, not {0:?}")]
    Character(char),
}

fn check(text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > MAX_NAME {
        return Err(NameError::TooLong(text.len()));
    }
    match text.chars().find(|c| !(c.is_alphanumeric() || matches!(c, '-' | '_' | '.'))) {
        Some(c) => Err(NameError::Character(c)),
        None => Ok(()),
    }
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks `text` and makes it a name.
            ///
            /// # Errors
            /// [`NameError`] when the text is empty, over [`MAX_NAME`] bytes, or has a character other than
            /// a letter, a digit, `-`, `_` or `.`.
            pub fn new(text: &str) -> Result<Self, NameError> {
                check(text)?;
                Ok(Self(text.into()))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &self.0)
            }
        }
    )*};
}

names! {
    /// The name of a zone: of what fails together, and is near to itself.
    ZoneName;
    /// The name of a variant: one arm of a split.
    VariantName;
    /// The name of a split.
    SplitName;
    /// The name of an upstream.
    UpstreamName;
    /// The name of a route.
    RouteName;
    /// The name of a listener.
    ListenerName;
    /// The name of a rule of a split.
    RuleName;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_a_name_only_when_every_character_is_allowed() {
        let long = "x".repeat(MAX_NAME + 1);
        let rows: &[(&str, Result<(), NameError>)] = &[
            ("blue", Ok(())),
            ("v1.10", Ok(())),
            ("ça", Ok(())),
            ("a_b-c", Ok(())),
            ("", Err(NameError::Empty)),
            ("a b", Err(NameError::Character(' '))),
            ("a\nb", Err(NameError::Character('\n'))),
            ("a,b", Err(NameError::Character(','))),
            (&long, Err(NameError::TooLong(MAX_NAME + 1))),
        ];
        for (text, expected) in rows {
            assert_eq!(&VariantName::new(text).map(|_| ()), expected, "{text:?}");
        }
    }
}
