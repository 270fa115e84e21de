//! Signed overrides: who may be forced where, until when.
//!
//! A token is `weir1.PAYLOAD.SIGNATURE`, which is safe in a header, a cookie and a URL:
//!
//! - `weir1` names the version: another format gets another prefix, and a token of one is none of the other;
//! - `PAYLOAD` is base64url without padding (RFC 4648 §5) of a JSON object with exactly the members `split`, `variant`,
//!   `unit` (texts) and `expires` (seconds since the epoch). The texts may hold any characters;
//! - `SIGNATURE` is base64url without padding of `HMAC-SHA-256(key, "weir-override" ‖ 0x00 ‖ "weir1." ‖ PAYLOAD)`
//!   (RFC 2104). It signs the payload as written, so there is no second reading of it, and the first words keep what is
//!   signed here apart from whatever else the same key may sign.
//!
//! Nothing here knows splits or requests: whether a verified claim counts is `super::assign`'s to say.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

/// What every token begins with.
const PREFIX: &str = "weir1.";

/// What is signed before the token's own text.
const DOMAIN: &[u8] = b"weir-override\0";

/// A secret that signs tokens; `Debug` shows nothing of it.
#[derive(Clone)]
pub struct Key {
    bytes: Box<[u8]>,
    /// The key and the domain, already taken in.
    mac: Hmac<Sha256>,
}

impl Key {
    /// The fewest bytes of a key.
    pub const MIN: usize = 16;

    /// A key of these bytes, or `None` when there are fewer than [`Key::MIN`].
    pub fn new(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < Self::MIN {
            return None;
        }
        let mac = Hmac::<Sha256>::new_from_slice(bytes).ok()?.chain_update(DOMAIN);
        Some(Self { bytes: bytes.into(), mac })
    }

    fn mac(&self, signed: &str) -> Hmac<Sha256> {
        self.mac.clone().chain_update(signed.as_bytes())
    }
}

impl PartialEq for Key {
    /// Compares configurations, never what a client sent: the time it takes tells where the keys differ.
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Key {}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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
pub fn sign(key: &Key, claim: &Claim) -> String {
    let claim = serde_json::json!({
        "split": claim.split, "variant": claim.variant, "unit": claim.unit, "expires": claim.expires,
    });
    let signed = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(claim.to_string()));
    let signature = URL_SAFE_NO_PAD.encode(key.mac(&signed).finalize().into_bytes());
    format!("{signed}.{signature}")
}

/// Verifies `token` against `keys` (any may verify) at `now` (seconds since the epoch).
///
/// # Errors
/// [`TokenError`]; the signature is looked at before what it says, and in a time that does not tell how much of it is
/// right. A token whose signature verifies and whose payload is no claim is malformed too.
pub fn verify(keys: &[Key], token: &str, now: u64) -> Result<Claim, TokenError> {
    let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
    let payload = signed.strip_prefix(PREFIX).ok_or(TokenError::Malformed)?;
    let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| TokenError::Malformed);
    let (payload, signature) = (decode(payload)?, decode(signature)?);
    if !keys.iter().any(|key| key.mac(signed).verify_slice(&signature).is_ok()) {
        return Err(TokenError::Signature);
    }
    let claim: Claim = serde_json::from_slice(&payload).map_err(|_| TokenError::Malformed)?;
    if now >= claim.expires { Err(TokenError::Expired) } else { Ok(claim) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(byte: u8) -> Key {
        Key::new(&[byte; 32]).unwrap()
    }

    fn claim() -> Claim {
        Claim { split: "checkout".into(), variant: "canary".into(), unit: "*".into(), expires: 2_000_000_000 }
    }

    fn signed(payload: &str) -> String {
        let signed = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(payload));
        let signature = URL_SAFE_NO_PAD.encode(key(1).mac(&signed).finalize().into_bytes());
        format!("{signed}.{signature}")
    }

    #[test]
    fn short_key_is_no_key_and_a_key_stays_silent() {
        for (length, accepted) in [(0, false), (15, false), (16, true), (64, true), (65, true), (4096, true)]
        {
            assert_eq!(Key::new(&vec![b'k'; length]).is_some(), accepted, "{length}");
        }
        assert_eq!(format!("{:?}", key(b'k')), "Key(..)");
        assert_ne!(key(1), key(2));
        assert_eq!(key(1), key(1));
    }

    #[test]
    fn token_is_honoured_only_whole_signed_and_in_time() {
        let good = sign(&key(1), &claim());
        let other = sign(&key(2), &claim());
        let (body, signature) = good.rsplit_once('.').unwrap();
        let (_, foreign) = other.rsplit_once('.').unwrap();
        let both = [key(2), key(1)];
        let (both, one, none) = (&both[..], &both[1..], &both[..0]);
        let rows = [
            (good.clone(), one, 0, Ok(claim())),
            (good.clone(), both, 0, Ok(claim())),
            (other.clone(), both, 0, Ok(claim())),
            (good.clone(), one, 1_999_999_999, Ok(claim())),
            (good.clone(), one, 2_000_000_000, Err(TokenError::Expired)),
            (good.clone(), one, u64::MAX, Err(TokenError::Expired)),
            (other.clone(), one, 0, Err(TokenError::Signature)),
            (other.clone(), one, u64::MAX, Err(TokenError::Signature)),
            (good.clone(), none, 0, Err(TokenError::Signature)),
            (format!("{body}.{foreign}"), one, 0, Err(TokenError::Signature)),
            (format!("{body}."), one, 0, Err(TokenError::Signature)),
            (format!("{body}.{}", &signature[..40]), one, 0, Err(TokenError::Signature)),
            (format!("{body}.{signature}="), one, 0, Err(TokenError::Malformed)),
            (format!("{body}.{signature}A"), one, 0, Err(TokenError::Signature)),
            (format!("{good}.{signature}"), one, 0, Err(TokenError::Malformed)),
            (good.replacen("weir1", "weir2", 1), one, 0, Err(TokenError::Malformed)),
            (body.to_owned(), one, 0, Err(TokenError::Malformed)),
            (String::new(), one, 0, Err(TokenError::Malformed)),
            ("canary".to_owned(), one, 0, Err(TokenError::Malformed)),
            (" ".to_owned() + &good, one, 0, Err(TokenError::Malformed)),
            (signed("{}"), one, 0, Err(TokenError::Malformed)),
            (signed("no JSON"), one, 0, Err(TokenError::Malformed)),
            (
                signed(r#"{"split":"checkout","variant":"canary","unit":"*","expires":9,"admin":true}"#),
                one,
                0,
                Err(TokenError::Malformed),
            ),
            (
                signed(r#" {"expires":2000000000,"unit":"*","variant":"canary","split":"checkout"} "#),
                one,
                0,
                Ok(claim()),
            ),
        ];
        for (token, keys, now, expected) in rows {
            assert_eq!(verify(keys, &token, now), expected, "{token} at {now}");
        }
    }

    #[test]
    fn token_is_computed_as_documented() {
        // Made with Python's hmac and base64 modules as docs/assignment.md tells.
        let token = "weir1.eyJzcGxpdCI6ICJjaGVja291dCIsICJ2YXJpYW50IjogImNhbmFyeSIsICJ1bml0IjogIjQyIiwgImV4cGlyZXMiOiAyMDAwMDAwMDAwfQ.\
                     X5b-a2fANuVTAAevVDRwh_ljWh762AUwhcyRACKylr4";
        let key = Key::new(b"an example key, not a secret").unwrap();
        let claim = Claim { unit: "42".into(), ..claim() };
        assert_eq!(verify(&[key], token, 0), Ok(claim));
    }

    proptest! {
        #[test]
        fn any_claim_comes_back_and_its_token_is_safe_in_a_header(
            split: String, variant: String, unit: String, expires in 1u64..,
        ) {
            let claim = Claim { split, variant, unit, expires };
            let token = sign(&key(1), &claim);
            prop_assert!(token.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)), "{}", token);
            prop_assert_eq!(verify(&[key(1)], &token, expires - 1), Ok(claim));
        }

        #[test]
        fn token_with_one_character_changed_is_refused(at: prop::sample::Index, to in "[A-Za-z0-9._-]") {
            let mut token = sign(&key(1), &claim());
            let at = at.index(token.len());
            prop_assume!(token[at..=at] != to);
            token.replace_range(at..=at, &to);
            prop_assert!(verify(&[key(1)], &token, 0).is_err(), "{}", token);
        }

        #[test]
        fn any_text_is_refused_without_harm(text in "(weir1\\.)?[\\PC.]{0,80}") {
            prop_assert!(verify(&[key(1)], &text, 0).is_err());
        }
    }
}
