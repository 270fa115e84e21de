//! The heads of HTTP/2 frames in a stream of bytes, RFC 9113 §4.1: what came and how large it is, not what it means.
//! It keeps nothing but its place, for it looks at bytes that another reader (the `h2` crate) takes apart; `net::flood`
//! counts what it finds.

/// The preface that a client sends before its first frame, RFC 9113 §3.4.
const PREFACE: u32 = 24;
/// Bytes of a frame's head.
const HEAD: usize = 9;

/// What kind of frame it is; the numbers of RFC 9113 §6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    /// A part of a body.
    Data,
    /// A head, or trailers, or their beginning.
    Headers,
    /// What a stream is worth; obsolete and without effect.
    Priority,
    /// The end of a stream before its time.
    Reset,
    /// Settings, or that they were taken in.
    Settings,
    /// An announced stream.
    PushPromise,
    /// Is somebody there, or: yes.
    Ping,
    /// The end of the connection.
    GoAway,
    /// Room for more data.
    WindowUpdate,
    /// More of a head.
    Continuation,
    /// One that RFC 9113 does not have, and that is to be ignored (§5.5).
    Other,
}

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHead {
    /// What it is.
    pub kind: FrameKind,
    /// Bytes that follow its head, `[0, 2^24)`.
    pub length: u32,
}

/// A place in a stream of frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scanner {
    head: [u8; HEAD],
    /// How much of `head` is there.
    filled: usize,
    /// Bytes until the next head.
    skip: u32,
}

impl Scanner {
    /// The place before the preface: what a client sends.
    pub fn of_client() -> Self {
        Self { head: [0; HEAD], filled: 0, skip: PREFACE }
    }

    /// The place before the first frame: what a server sends.
    pub fn of_server() -> Self {
        Self { skip: 0, ..Self::of_client() }
    }

    /// Goes over the next bytes of the stream, however they are cut, and gives each frame whose head ends in them.
    pub fn scan(&mut self, mut bytes: &[u8], mut each: impl FnMut(FrameHead)) {
        loop {
            let skipped = (self.skip as usize).min(bytes.len());
            // No more than `skip`, so it fits.
            self.skip -= u32::try_from(skipped).unwrap_or(self.skip);
            bytes = bytes.get(skipped..).unwrap_or_default();
            let free = self.head.get_mut(self.filled..).unwrap_or_default();
            let taken = free.len().min(bytes.len());
            let (part, rest) = bytes.split_at(taken);
            if let Some(place) = free.get_mut(..taken) {
                place.copy_from_slice(part);
            }
            self.filled += taken;
            bytes = rest;
            if self.filled < HEAD {
                return;
            }
            let head = FrameHead::of(self.head);
            self.filled = 0;
            self.skip = head.length;
            each(head);
        }
    }
}

impl FrameHead {
    fn of(head: [u8; HEAD]) -> Self {
        let [high, middle, low, kind, ..] = head;
        let kind = match kind {
            0 => FrameKind::Data,
            1 => FrameKind::Headers,
            2 => FrameKind::Priority,
            3 => FrameKind::Reset,
            4 => FrameKind::Settings,
            5 => FrameKind::PushPromise,
            6 => FrameKind::Ping,
            7 => FrameKind::GoAway,
            8 => FrameKind::WindowUpdate,
            9 => FrameKind::Continuation,
            _ => FrameKind::Other,
        };
        Self { kind, length: u32::from_be_bytes([0, high, middle, low]) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, length: usize) -> Vec<u8> {
        let size = u32::try_from(length).unwrap().to_be_bytes();
        let mut bytes = vec![size[1], size[2], size[3], kind, 0xff, 0, 0, 0, 1];
        bytes.resize(HEAD + length, kind);
        bytes
    }

    fn scanned(scanner: &mut Scanner, bytes: &[u8]) -> Vec<(FrameKind, u32)> {
        let mut found = Vec::new();
        scanner.scan(bytes, |head| found.push((head.kind, head.length)));
        found
    }

    #[test]
    fn every_kind_is_known_by_its_number_and_the_preface_is_none() {
        use FrameKind::*;
        let kinds = [
            Data,
            Headers,
            Priority,
            Reset,
            Settings,
            PushPromise,
            Ping,
            GoAway,
            WindowUpdate,
            Continuation,
            Other,
        ];
        for (number, kind) in (0..).zip(kinds) {
            let bytes = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(number, 5)].concat();
            assert_eq!(scanned(&mut Scanner::of_client(), &bytes), [(kind, 5)], "{number}");
        }
        assert_eq!(scanned(&mut Scanner::of_server(), &frame(0xfe, 0x01_02_03)), [(Other, 0x01_02_03)]);
    }

    proptest! {
        #[test]
        fn frames_are_the_same_however_the_bytes_are_cut(
            frames in vec((0u8..12, 0usize..40), 0..20),
            cuts in vec(0usize..30, 0..60),
        ) {
            let bytes: Vec<u8> = frames.iter().flat_map(|(kind, length)| frame(*kind, *length)).collect();
            let whole = scanned(&mut Scanner::of_server(), &bytes);
            let lengths: Vec<usize> = whole.iter().map(|(_, length)| *length as usize).collect();
            prop_assert_eq!(lengths, frames.iter().map(|(_, length)| *length).collect::<Vec<_>>());
            let (mut scanner, mut rest, mut found) = (Scanner::of_server(), &bytes[..], Vec::new());
            for cut in cuts {
                let (part, after) = rest.split_at(cut.min(rest.len()));
                found.extend(scanned(&mut scanner, part));
                rest = after;
            }
            found.extend(scanned(&mut scanner, rest));
            prop_assert_eq!(found, whole);
        }

        #[test]
        fn any_bytes_are_scanned(bytes in vec(any::<u8>(), 0..300)) {
            let mut scanner = Scanner::of_client();
            prop_assert!(scanned(&mut scanner, &bytes).len() <= bytes.len() / HEAD);
        }
    }
}
