//! The position of a unit: one function per algorithm, each with its source.
//!
//! The bytes that are hashed are part of the contract: users compute them elsewhere (`docs/assignment.md`), and the
//! vectors in `tests/golden` hold them. Nothing here allocates. From position to arm: [`super::layout`].

use xxhash_rust::xxh3::Xxh3Default;

use crate::types::{Position, VariantName};

/// The position of `key` under `salt`: `XXH3_64(salt ‖ 0x00 ‖ key)`, seed 0.
///
/// Source: the XXH3 64-bit hash of the xxHash specification; vectors in `tests/golden/weir-split.jsonl`.
pub fn position(salt: &str, key: &[u8]) -> Position {
    Position(xxh3(&[salt.as_bytes(), &[0], key]))
}

/// The independent position of the third and later variants: `XXH3_64(salt ‖ 0x00 ‖ variant ‖ 0x00 ‖ key)`, seed 0.
///
/// Source: as [`position`].
pub fn variant_position(salt: &str, variant: &VariantName, key: &[u8]) -> Position {
    Position(xxh3(&[salt.as_bytes(), &[0], variant.as_str().as_bytes(), &[0], key]))
}

/// The hash of `parts`, one behind the other.
///
/// The streaming hasher lives on the stack. Gathering the parts in a buffer there and hashing it in one go was measured
/// and is not faster for keys of 8 to 230 bytes: within 2 ns of 11 to 28 ns.
fn xxh3(parts: &[&[u8]]) -> u64 {
    let mut hasher = Xxh3Default::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.digest()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use xxhash_rust::xxh3::xxh3_64;

    use super::*;

    #[test]
    fn hash_is_that_of_the_specification() {
        // The reference implementation's values for no bytes, and for one zero byte (empty salt and empty key).
        assert_eq!(xxh3(&[]), 0x2d06_8005_38d3_94c2);
        assert_eq!(position("", b"").0, 0xc44b_dff4_074e_ecdb);
        // The worked example of docs/assignment.md.
        assert_eq!(position("checkout", b"42").0, 17_739_231_498_898_832_363);
    }

    proptest! {
        #[test]
        fn parts_hash_as_their_concatenation_at_any_length(
            salt in "\\PC{0,40}",
            name in "[a-z0-9._-]{1,128}",
            key in prop::collection::vec(any::<u8>(), 0..1100),
        ) {
            let name = VariantName::new(&name).unwrap();
            let whole = [salt.as_bytes(), &[0], &key].concat();
            prop_assert_eq!(position(&salt, &key).0, xxh3_64(&whole));
            let whole = [salt.as_bytes(), &[0], name.as_str().as_bytes(), &[0], &key].concat();
            prop_assert_eq!(variant_position(&salt, &name, &key).0, xxh3_64(&whole));
        }
    }
}
