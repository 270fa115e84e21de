//! What is hashed, and where the hash puts it.

use std::fmt;

/// The bytes of a unit: one tenant, one user, one session. Never empty, at most [`UnitKey::MAX`] bytes.
///
/// `Debug` shows the length only: a unit key is personal data and stays out of logs unless somebody asks for it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct UnitKey(Box<[u8]>);

/// Why bytes are not a unit key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnitKeyError {
    /// No bytes at all: the key is missing, not empty.
    #[error("the unit key is empty")]
    Empty,
    /// More than [`UnitKey::MAX`] bytes.
    #[error("the unit key has {0} bytes, at most {max} are accepted", max = UnitKey::MAX)]
    TooLong(usize),
}

impl UnitKey {
    /// The longest unit key, in bytes: 1 KiB.
    pub const MAX: usize = 1024;

    /// Checks `bytes` and makes them a unit key.
    ///
    /// # Errors
    /// [`UnitKeyError`] when there are none, or more than [`UnitKey::MAX`].
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Result<Self, UnitKeyError> {
        let bytes = bytes.into();
        match bytes.len() {
            0 => Err(UnitKeyError::Empty),
            length if length > Self::MAX => Err(UnitKeyError::TooLong(length)),
            _ => Ok(Self(bytes)),
        }
    }

    /// The key's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for UnitKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UnitKey({} bytes)", self.0.len())
    }
}

/// A unit's place in `[0, 2^64)`, from the hash of salt and key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
