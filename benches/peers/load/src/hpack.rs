//! Header fields of HTTP/2 as HPACK writes them: read with everything that a peer may use, written plainly.

use std::collections::VecDeque;

use crate::huffman::Code;

/// The room of the dynamic table, in each direction: that of a peer that says nothing.
pub(crate) const ROOM: usize = 4096;

/// What a field costs in the table beside its name and its value.
const OVERHEAD: usize = 32;

/// The fields that have an index from the start, by index less one. Source: RFC 7541, appendix A.
#[rustfmt::skip]
const STATIC: [(&str, &str); 61] = [
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"), (":path", "/index.html"),
    (":scheme", "http"), (":scheme", "https"), (":status", "200"), (":status", "204"), (":status", "206"),
    (":status", "304"), (":status", "400"), (":status", "404"), (":status", "500"), ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"), ("accept-language", ""), ("accept-ranges", ""), ("accept", ""),
    ("access-control-allow-origin", ""), ("age", ""), ("allow", ""), ("authorization", ""), ("cache-control", ""),
    ("content-disposition", ""), ("content-encoding", ""), ("content-language", ""), ("content-length", ""),
    ("content-location", ""), ("content-range", ""), ("content-type", ""), ("cookie", ""), ("date", ""), ("etag", ""),
    ("expect", ""), ("expires", ""), ("from", ""), ("host", ""), ("if-match", ""), ("if-modified-since", ""),
    ("if-none-match", ""), ("if-range", ""), ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""),
    ("location", ""), ("max-forwards", ""), ("proxy-authenticate", ""), ("proxy-authorization", ""), ("range", ""),
    ("referer", ""), ("refresh", ""), ("retry-after", ""), ("server", ""), ("set-cookie", ""),
    ("strict-transport-security", ""), ("transfer-encoding", ""), ("user-agent", ""), ("vary", ""), ("via", ""),
    ("www-authenticate", ""),
];

/// The index that the newest field of the dynamic table has.
pub(crate) const NEWEST: usize = STATIC.len() + 1;

/// What reads the fields that one connection sends.
#[derive(Debug)]
pub(crate) struct Decoder {
    code: Code,
    /// The newest field first.
    fields: VecDeque<(Vec<u8>, Vec<u8>)>,
    size: usize,
    room: usize,
}

impl Decoder {
    /// A decoder of a new connection.
    pub(crate) fn new() -> Self {
        Self { code: Code::new(), fields: VecDeque::new(), size: 0, room: ROOM }
    }

    /// Calls `field` with the name and the value of each field in `block`; `None` where it is not HPACK.
    pub(crate) fn read(&mut self, mut block: &[u8], mut field: impl FnMut(&[u8], &[u8])) -> Option<()> {
        while let Some(&first) = block.first() {
            match first {
                0x80.. => {
                    let index = integer(&mut block, 7)?;
                    let (name, value) = self.at(index)?;
                    field(name, value);
                }
                0x20..0x40 => {
                    self.room = Some(integer(&mut block, 5)?).filter(|room| *room <= ROOM)?;
                    self.make_room(0);
                }
                _ => {
                    let kept = first >= 0x40;
                    let index = integer(&mut block, if kept { 6 } else { 4 })?;
                    let name = if index == 0 { self.string(&mut block)? } else { self.at(index)?.0.to_vec() };
                    let value = self.string(&mut block)?;
                    field(&name, &value);
                    if kept {
                        self.keep(name, value);
                    }
                }
            }
        }
        Some(())
    }

    fn at(&self, index: usize) -> Option<(&[u8], &[u8])> {
        match STATIC.get(index.checked_sub(1)?) {
            Some((name, value)) => Some((name.as_bytes(), value.as_bytes())),
            None => self.fields.get(index - NEWEST).map(|(name, value)| (&name[..], &value[..])),
        }
    }

    fn string(&self, block: &mut &[u8]) -> Option<Vec<u8>> {
        let coded = *block.first()? >= 0x80;
        let length = integer(block, 7)?;
        let (bytes, rest) = block.split_at_checked(length)?;
        *block = rest;
        if !coded {
            return Some(bytes.to_vec());
        }
        let mut out = Vec::with_capacity(2 * length);
        self.code.decode(bytes, &mut out)?;
        Some(out)
    }

    fn keep(&mut self, name: Vec<u8>, value: Vec<u8>) {
        let size = name.len() + value.len() + OVERHEAD;
        self.make_room(size);
        if size <= self.room {
            self.size += size;
            self.fields.push_front((name, value));
        }
    }

    /// Forgets the oldest fields until `size` more fits, or none is left.
    fn make_room(&mut self, size: usize) {
        while self.size + size > self.room {
            let Some((name, value)) = self.fields.pop_back() else { break };
            self.size -= name.len() + value.len() + OVERHEAD;
        }
    }
}

/// An integer whose first byte has `bits` bits of it.
fn integer(block: &mut &[u8], bits: u8) -> Option<usize> {
    let (&first, mut rest) = block.split_first()?;
    let most = (1 << bits) - 1;
    let mut value = usize::from(first) & most;
    if value == most {
        for shift in (0..28).step_by(7) {
            let (&byte, after) = rest.split_first()?;
            rest = after;
            value += usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                *block = rest;
                return Some(value);
            }
        }
        return None;
    }
    *block = rest;
    Some(value)
}

/// Writes `value` behind the `flags` of a first byte that leaves it `bits` bits.
pub(crate) fn write_integer(flags: u8, bits: u8, value: usize, out: &mut Vec<u8>) {
    let most = (1 << bits) - 1;
    let byte = |value: usize| u8::try_from(value).unwrap_or(u8::MAX);
    if value < most {
        return out.push(flags | byte(value));
    }
    out.push(flags | byte(most));
    let mut rest = value - most;
    while rest >= 0x80 {
        out.push(byte(rest & 0x7f | 0x80));
        rest >>= 7;
    }
    out.push(byte(rest));
}

/// Writes a string as it is.
pub(crate) fn write_string(text: &[u8], out: &mut Vec<u8>) {
    write_integer(0, 7, text.len(), out);
    out.extend_from_slice(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(|byte| *byte != b' ').collect();
        digits
            .chunks(2)
            .map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap())
            .collect()
    }

    fn read(decoder: &mut Decoder, block: &[u8]) -> Option<Vec<String>> {
        let mut fields = Vec::new();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        decoder.read(block, |name, value| fields.push(format!("{}: {}", text(name), text(value))))?;
        Some(fields)
    }

    #[test]
    fn fields_of_one_connection_are_read_in_turn() {
        // Source: RFC 7541, C.6, where the table has room for 256 bytes.
        let mut decoder = Decoder::new();
        decoder.room = 256;
        let common = ["cache-control: private", "location: https://www.example.com"];
        for (hex, status, others) in [
            (
                "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad \
                 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
                ":status: 302",
                vec!["date: Mon, 21 Oct 2013 20:13:21 GMT"],
            ),
            ("4883 640e ffc1 c0bf", ":status: 307", vec!["date: Mon, 21 Oct 2013 20:13:21 GMT"]),
            (
                "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 \
                 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
                ":status: 200",
                vec![
                    "date: Mon, 21 Oct 2013 20:13:22 GMT",
                    "content-encoding: gzip",
                    "set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
                ],
            ),
        ] {
            let found = read(&mut decoder, &bytes(hex)).unwrap();
            assert_eq!(found[0], status);
            for field in others.iter().chain(&common) {
                assert!(found.iter().any(|one| one == field), "{field} is not in {found:?}");
            }
        }
        assert_eq!((decoder.fields.len(), decoder.size), (3, 215));
    }

    #[test]
    fn what_is_not_hpack_is_refused() {
        // An index of nothing, one too large, a name cut off, an integer without an end, and too large a table.
        for hex in ["80", "be", "0a", "40 05 61", "ff ff ff ff ff ff", "3f e2 1f"] {
            assert_eq!(read(&mut Decoder::new(), &bytes(hex)), None, "{hex}");
        }
    }

    #[test]
    fn what_is_written_is_read() {
        for value in [0, 14, 15, 16, 127, 128, 1337, 100_000] {
            let mut out = Vec::new();
            write_integer(0x40, 4, value, &mut out);
            assert_eq!((integer(&mut &out[..], 4), out[0] & 0xf0), (Some(value), 0x40));
        }
        let mut block = vec![0];
        write_string(b"x-a", &mut block);
        write_string(b"1", &mut block);
        assert_eq!(read(&mut Decoder::new(), &block), Some(vec!["x-a: 1".to_owned()]));
    }
}
