//! Signed overrides: who may be forced where, until when.

use std::fmt;

/// A secret that signs tokens; `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(Box<[u8]>);

impl Key {
    /// The fewest bytes of a key.
    pub const MIN: usize = 16;

    /// A key of these bytes, or `None` when there are fewer than [`Key::MIN`].
    pub fn new(bytes: &[u8]) -> Option<Self> {
        (bytes.len() >= Self::MIN).then(|| Self(bytes.into()))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The split it is for.
    pub split: String,
    /// The variant it forces.
    pub variant: String,
    /// The unit it is for, or `*` for all.
    pub unit: String,
    /// Seconds since the epoch; at and after it the token is void.
    pub expires: u64,
}

/// Why a token is not honoured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a token at all.
    #[error("it is not an override token")]
    Malformed,
    /// No key verifies it.
    #[error("the signature does not verify")]
    Signature,
    /// Its time is over.
    #[error("it has expired")]
    Expired,
}

/// Signs `claim`: printable ASCII, safe in a header and in a cookie.
pub fn sign(_key: &Key, _claim: &Claim) -> String {
    unimplemented!()
}

/// Verifies `token` against `keys` (any may verify) at `now` (seconds since the epoch).
///
/// # Errors
/// [`TokenError`]; the signature is looked at before what it says.
pub fn verify(_keys: &[Key], _token: &str, _now: u64) -> Result<Claim, TokenError> {
    unimplemented!()
}
