//! The position of a unit: one function per algorithm, each with its source.

use crate::types::{Position, VariantName};

/// The position of `key` under `salt`: `XXH3_64(salt ‖ 0x00 ‖ key)`, seed 0.
pub fn position(_salt: &str, _key: &[u8]) -> Position {
    unimplemented!()
}

/// The independent position of the third and later variants: `XXH3_64(salt ‖ 0x00 ‖ variant ‖ 0x00 ‖ key)`, seed 0.
pub fn variant_position(_salt: &str, _variant: &VariantName, _key: &[u8]) -> Position {
    unimplemented!()
}
