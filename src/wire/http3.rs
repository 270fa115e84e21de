//! The frames of an HTTP/3 stream as bytes (RFC 9114 §7.1): how long each is, and whether the stream ends between two of
//! them. What is in a frame is the `h3` crate's to read.
//!
//! That crate keeps a frame other than DATA until it is whole, however long it says that it is, and takes a stream that
//! ends inside of DATA for one that has ended well. So somebody has to look before it does.

/// The type of DATA frames: they stream, and may be as long as they like.
const DATA: u64 = 0;

/// The type of the stream that frames of a connection come on (RFC 9114 §6.2.1).
const CONTROL: u64 = 0;

/// Where in the frames of a stream its bytes have come to.
#[derive(Debug, Clone)]
pub struct StreamFrames {
    at: At,
    /// How long a frame may be that is kept until it is whole.
    limit: u64,
}

#[derive(Debug, Clone)]
enum At {
    /// In the type that a stream in one direction begins with.
    StreamType(Number),
    /// In the type of a frame, or before it.
    Type(Number),
    /// In the length of a frame of this type.
    Length(u64, Number),
    /// In its payload, of which so much is left.
    Payload(u64),
    /// What comes has no frames.
    Unframed,
}

/// A frame that is longer than any that is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {0} bytes")]
pub struct TooLong(pub u64);

/// An integer of variable length that is being read (RFC 9000 §16).
#[derive(Debug, Clone, Copy, Default)]
struct Number {
    value: u64,
    /// How many bytes it still lacks; `None` before its first.
    left: Option<u8>,
}

impl Number {
    /// Takes the next byte; the number where that was its last.
    fn take(&mut self, byte: u8) -> Option<u64> {
        let left = match self.left {
            None => {
                self.value = u64::from(byte & 0x3f);
                (1 << (byte >> 6)) - 1
            }
            Some(left) => {
                self.value = self.value << 8 | u64::from(byte);
                left.saturating_sub(1)
            }
        };
        self.left = Some(left);
        (left == 0).then_some(self.value)
    }

    fn has_begun(self) -> bool {
        self.left.is_some()
    }
}

impl StreamFrames {
    /// The frames of a request's stream. No frame but DATA is longer than `limit` bytes.
    pub fn of_request(limit: u64) -> Self {
        Self { at: At::Type(Number::default()), limit }
    }

    /// The frames of a stream in one direction, where it is the kind that has some.
    pub fn of_one_way(limit: u64) -> Self {
        Self { at: At::StreamType(Number::default()), limit }
    }

    /// Passes over the bytes that come next.
    ///
    /// # Errors
    /// [`TooLong`] as soon as a frame says that it is longer than the limit.
    pub fn pass(&mut self, mut data: &[u8]) -> Result<(), TooLong> {
        while let Some((byte, rest)) = data.split_first() {
            match &mut self.at {
                At::Unframed => return Ok(()),
                At::Payload(left) => {
                    let inside = usize::try_from(*left).unwrap_or(usize::MAX).min(data.len());
                    *left -= inside as u64;
                    data = data.get(inside..).unwrap_or_default();
                    if *left == 0 {
                        self.at = At::Type(Number::default());
                    }
                    continue;
                }
                At::StreamType(number) => {
                    if let Some(kind) = number.take(*byte) {
                        self.at = if kind == CONTROL { At::Type(Number::default()) } else { At::Unframed };
                    }
                }
                At::Type(number) => {
                    if let Some(kind) = number.take(*byte) {
                        self.at = At::Length(kind, Number::default());
                    }
                }
                At::Length(kind, number) => {
                    if let Some(length) = number.take(*byte) {
                        if *kind != DATA && length > self.limit {
                            return Err(TooLong(length));
                        }
                        let is_empty = length == 0;
                        self.at = if is_empty { At::Type(Number::default()) } else { At::Payload(length) };
                    }
                }
            }
            data = rest;
        }
        Ok(())
    }

    /// Whether the stream may end here: no frame has begun that is not whole.
    pub fn is_between(&self) -> bool {
        match &self.at {
            At::Unframed => true,
            At::Type(number) => !number.has_begun(),
            At::StreamType(_) | At::Length(..) | At::Payload(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `value` in the shortest form, or one of 2, 4 or 8 bytes where it fits.
    fn number(value: u64, wide: bool) -> Vec<u8> {
        match value {
            0..=0x3f if !wide => vec![u8::try_from(value).unwrap()],
            0..=0x3fff => (0x4000 | u16::try_from(value).unwrap()).to_be_bytes().to_vec(),
            0x4000..=0x3fff_ffff => (0x8000_0000 | u32::try_from(value).unwrap()).to_be_bytes().to_vec(),
            _ => (0xc000_0000_0000_0000 | value).to_be_bytes().to_vec(),
        }
    }

    fn frame(kind: u64, length: u64, wide: bool) -> Vec<u8> {
        let mut bytes = number(kind, wide);
        bytes.extend(number(length, wide));
        bytes.resize(bytes.len() + usize::try_from(length).unwrap(), 7);
        bytes
    }

    #[test]
    fn frame_over_the_limit_is_refused_at_its_head_unless_it_is_data() {
        for (kind, length, is_taken) in [
            (0, 1000, true),
            (0, (1 << 62) - 1, true),
            (1, 1000, true),
            (1, 1001, false),
            (0x21, 1001, false),
            (1, (1 << 62) - 1, false),
        ] {
            let mut head = number(kind, false);
            head.extend(number(length, false));
            let expected = if is_taken { Ok(()) } else { Err(TooLong(length)) };
            assert_eq!(StreamFrames::of_request(1000).pass(&head), expected, "{kind} {length}");
        }
    }

    #[test]
    fn only_a_control_stream_has_frames_where_streams_go_one_way() {
        for (kind, is_taken) in [(0, false), (1, true), (2, true), (3, true), (0x21, true), (0x54, true)] {
            let mut bytes = number(kind, false);
            bytes.extend(number(4, false));
            bytes.extend(number(1 << 20, false));
            let taken = StreamFrames::of_one_way(1000).pass(&bytes);
            assert_eq!(taken.is_ok(), is_taken, "{kind}");
        }
    }

    proptest! {
        #[test]
        fn end_is_seen_between_frames_alone_however_the_bytes_are_cut(
            frames in prop::collection::vec((0u64..0x50, 0u64..300, any::<bool>()), 1..6),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let mut bytes = Vec::new();
            let mut ends = vec![0];
            for (kind, length, wide) in frames {
                bytes.extend(frame(kind, length, wide));
                ends.push(bytes.len());
            }
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.push(bytes.len());
            cuts.sort_unstable();
            let (mut read, mut at) = (StreamFrames::of_request(300), 0);
            for cut in cuts {
                prop_assert_eq!(read.pass(&bytes[at..cut]), Ok(()));
                at = cut;
                prop_assert_eq!(read.is_between(), ends.contains(&at));
            }
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), limit in any::<u64>()) {
            for mut read in [StreamFrames::of_request(limit), StreamFrames::of_one_way(limit)] {
                let _ = read.pass(&bytes);
                let _ = read.is_between();
            }
        }
    }
}
