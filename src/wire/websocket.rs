//! As much of the WebSocket protocol (RFC 6455) as a proxy needs that passes frames on: where a frame ends, so that a
//! close frame of our own can stand between two of them; and the two header fields of the handshake, which HTTP/2 has not
//! (RFC 8441 §5). What is in a frame is nobody's business here.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

/// What is appended to a key before it is hashed. Source: RFC 6455 §1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The longest head of a frame: two bytes, a length of eight, a mask.
const LONGEST_HEAD: usize = 14;

/// The endpoint is going away. Source: RFC 6455 §7.4.1.
pub const GOING_AWAY: u16 = 1001;
/// The service restarts: the client may come back at once. Source: the registry of close codes, RFC 6455 §11.7.
pub const SERVICE_RESTART: u16 = 1012;

/// Where in a stream of frames one is.
#[derive(Debug, Clone, Default)]
pub struct Frames {
    /// So much of a frame's head has come.
    head: [u8; LONGEST_HEAD],
    known: usize,
    /// So many bytes of the frame's payload are still to come.
    payload: u64,
}

impl Frames {
    /// Whether the next byte begins a frame.
    pub fn is_between(&self) -> bool {
        self.known == 0 && self.payload == 0
    }

    /// Passes over `bytes`.
    pub fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let length = self.pass_frame(bytes);
            bytes = bytes.get(length..).unwrap_or_default();
        }
    }

    /// Passes over what `bytes` have of the present frame, or of the next one where none is under way; how many bytes
    /// that is. At least one where there is one.
    pub fn pass_frame(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        if self.payload == 0 {
            loop {
                let Some(byte) = bytes.get(at) else { return at };
                if let Some(place) = self.head.get_mut(self.known) {
                    *place = *byte;
                }
                self.known += 1;
                at += 1;
                if let Some(payload) = self.payload_of_head() {
                    self.payload = payload;
                    self.known = 0;
                    break;
                }
            }
        }
        let rest = (bytes.len() - at) as u64;
        let here = self.payload.min(rest);
        self.payload -= here;
        at + usize::try_from(here).unwrap_or(usize::MAX)
    }

    /// The length of the payload, once the head is whole.
    fn payload_of_head(&self) -> Option<u64> {
        let head = self.head.get(..self.known)?;
        let (_, second) = (head.first()?, head.get(1)?);
        let mask = if second & 0x80 == 0 { 0 } else { 4 };
        let (extended, payload) = match second & 0x7f {
            126 => (2, u64::from(u16::from_be_bytes(head.get(2..4)?.try_into().ok()?))),
            // The topmost bit is always 0; a peer that sets it will not live to see the end of its frame.
            127 => (8, u64::from_be_bytes(head.get(2..10)?.try_into().ok()?)),
            short => (0, u64::from(short)),
        };
        (self.known == 2 + extended + mask).then_some(payload)
    }
}

/// A close frame with this code, as a server sends it, or with `mask` as a client does (RFC 6455 §5.3).
pub fn close(code: u16, mask: Option<[u8; 4]>) -> Vec<u8> {
    let payload = code.to_be_bytes();
    let Some(mask) = mask else { return [&[0x88, 2][..], &payload].concat() };
    let masked = payload.iter().zip(mask).map(|(byte, key)| byte ^ key);
    [0x88, 0x82].into_iter().chain(mask).chain(masked).collect()
}

/// The value of `Sec-WebSocket-Accept` that answers `key`.
pub fn accept(key: &[u8]) -> String {
    STANDARD.encode(Sha1::new().chain_update(key).chain_update(GUID).finalize())
}

/// The value of `Sec-WebSocket-Key` that these random bits make.
pub fn key(random: u128) -> String {
    STANDARD.encode(random.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn key_is_answered_as_the_standard_has_it() {
        assert_eq!(accept(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(key(0), "AAAAAAAAAAAAAAAAAAAAAA==");
    }

    #[test]
    fn close_frame_is_as_the_standard_has_it() {
        assert_eq!(close(1012, None), [0x88, 2, 0x03, 0xf4]);
        let masked = close(1001, Some([1, 2, 3, 4]));
        assert_eq!(masked, [0x88, 0x82, 1, 2, 3, 4, 0x03 ^ 1, 0xe9 ^ 2]);
    }

    /// A frame with a payload of this length.
    fn frame(length: usize, is_masked: bool) -> Vec<u8> {
        let bit = if is_masked { 0x80 } else { 0 };
        let mut bytes = vec![0x82];
        match length {
            0..=125 => bytes.push(bit | u8::try_from(length).unwrap()),
            126..=65_535 => {
                bytes.push(bit | 0x7e);
                bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
            }
            _ => {
                bytes.push(bit | 0x7f);
                bytes.extend((length as u64).to_be_bytes());
            }
        }
        if is_masked {
            bytes.extend([9; 4]);
        }
        // Payload that looks like heads.
        bytes.extend(std::iter::repeat_n(0xff, length));
        bytes
    }

    proptest! {
        #[test]
        fn end_of_each_frame_is_found_however_the_bytes_come(
            frames in prop::collection::vec((prop_oneof![0..200_usize, 65_500..65_600_usize], any::<bool>()), 1..8),
            pieces in prop::collection::vec(1..40_000_usize, 1..20),
        ) {
            let whole: Vec<Vec<u8>> = frames.iter().map(|(length, mask)| frame(*length, *mask)).collect();
            let mut ends = Vec::new();
            let mut total = 0;
            for frame in &whole {
                total += frame.len();
                ends.push(total);
            }
            let bytes = whole.concat();
            let (mut one, mut all) = (Frames::default(), Frames::default());
            let (mut at, mut found) = (0, Vec::new());
            let mut sizes = pieces.iter().cycle();
            while at < bytes.len() {
                let piece = &bytes[at..(at + sizes.next().unwrap()).min(bytes.len())];
                all.pass(piece);
                let mut rest = piece;
                while !rest.is_empty() {
                    let passed = one.pass_frame(rest);
                    prop_assert!(passed > 0);
                    at += passed;
                    rest = &rest[passed..];
                    if one.is_between() {
                        found.push(at);
                    }
                }
                prop_assert_eq!(all.is_between(), ends.contains(&at));
            }
            prop_assert_eq!(found, ends);
        }

        #[test]
        fn any_bytes_are_passed_over(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
            let mut frames = Frames::default();
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let passed = frames.pass_frame(rest);
                prop_assert!(passed > 0 && passed <= rest.len());
                rest = &rest[passed..];
            }
        }
    }
}
