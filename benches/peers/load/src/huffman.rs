//! The Huffman code of HPACK, decoded. The code is canonical: the lengths of its words tell all of it.

/// The length of each symbol's word in bits; the last is the end of a string. Source: RFC 7541, appendix B.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

const LONGEST: usize = 30;

/// What decodes strings.
#[derive(Debug)]
pub(crate) struct Code {
    /// The symbols, by the length of their words and then by themselves.
    symbols: Vec<u16>,
    /// For each length its first word, how many words it has, and where their symbols begin.
    lengths: [(u32, u32, usize); LONGEST + 1],
}

impl Code {
    /// The code of the RFC.
    pub(crate) fn new() -> Self {
        let mut symbols = Vec::with_capacity(LENGTHS.len());
        let mut lengths = [(0, 0, 0); LONGEST + 1];
        let mut word = 0;
        for (bits, length) in lengths.iter_mut().enumerate().skip(1) {
            word <<= 1;
            let start = symbols.len();
            symbols.extend((0..257_u16).filter(|&symbol| usize::from(LENGTHS[usize::from(symbol)]) == bits));
            let count = u32::try_from(symbols.len() - start).unwrap_or(0);
            *length = (word, count, start);
            word += count;
        }
        Self { symbols, lengths }
    }

    /// Adds what `bytes` spell to `out`; `None` where they are not of the code.
    pub(crate) fn decode(&self, bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
        let (mut word, mut length) = (0_u32, 0);
        for byte in bytes {
            for bit in (0..8).rev() {
                word = word << 1 | u32::from(byte >> bit & 1);
                length += 1;
                let (first, count, start) = *self.lengths.get(length)?;
                if let Some(at) = word.checked_sub(first).filter(|at| *at < count) {
                    let symbol = self.symbols[start + usize::try_from(at).ok()?];
                    out.push(u8::try_from(symbol).ok()?);
                    (word, length) = (0, 0);
                }
            }
        }
        // What is left are the first bits of the end of a string: ones, and fewer than a byte.
        (length < 8 && word + 1 == 1 << length).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn string_is_decoded_and_what_is_none_is_refused() {
        let decode = |bytes: &[u8]| {
            let mut out = Vec::new();
            Code::new().decode(bytes, &mut out).map(|()| String::from_utf8(out).unwrap())
        };
        // Source: RFC 7541, C.4.1 and C.6.1.
        let url = [0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
        assert_eq!(decode(&url).as_deref(), Some("www.example.com"));
        assert_eq!(decode(&[0xae, 0xc3, 0x77, 0x1a, 0x4b]).as_deref(), Some("private"));
        assert_eq!(decode(&[]).as_deref(), Some(""));
        // A whole byte of padding, padding of zeros, and the end of a string spelt out.
        for wrong in [&[0xff][..], &[0x00][..], &[0xff, 0xff, 0xff, 0xff]] {
            assert_eq!(decode(wrong), None, "{wrong:?}");
        }
    }
}
