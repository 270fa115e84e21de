//! The chunked coding (RFC 9112 §7.1), undone in place: whatever the chunks were, their data stands together afterwards.

use super::lines;
use super::{Fields, HeadError};

/// The most bytes of extensions in all the chunks of a body.
const MAX_EXTENSIONS: usize = 16 * 1024;

/// The most bytes of trailers.
const MAX_TRAILERS: usize = 16 * 1024;

/// The most digits of a size: what 64 bits hold.
const MAX_DIGITS: u8 = 16;

/// Reads a chunked body, however its bytes are cut.
#[derive(Debug, Clone, Default)]
pub struct Chunked {
    place: Place,
    extensions: usize,
    /// Trailers of which the end has not come.
    trailers: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In a size, after so many digits.
    Size {
        size: u64,
        digits: u8,
    },
    /// White space behind a size: only an extension may follow.
    Space(u64),
    /// In an extension.
    Extension(u64),
    /// Behind the CR of a size's line.
    SizeEnd(u64),
    /// In a chunk's data: so much is left.
    Data(u64),
    /// Behind a chunk's data.
    DataCr,
    DataLf,
    Trailers,
    Done,
}

impl Default for Place {
    fn default() -> Self {
        Self::Size { size: 0, digits: 0 }
    }
}

/// What became of the bytes given.
#[derive(Debug, PartialEq, Eq)]
pub struct Read {
    /// How many of them are data: they stand at the beginning now.
    pub data: usize,
    /// How many of them were of the body. Fewer than given: the body has ended, and the rest is not of it.
    pub used: usize,
    /// The trailers, when the body has ended.
    pub end: Option<Fields>,
}

impl Chunked {
    /// Reads on, and puts the data among `bytes` together at their beginning.
    ///
    /// # Errors
    /// [`HeadError`] where they are no chunked body; nothing more is to be read then.
    pub fn read(&mut self, bytes: &mut [u8]) -> Result<Read, HeadError> {
        let (mut at, mut data) = (0, 0);
        while let Some(&byte) = bytes.get(at) {
            self.place = match self.place {
                Place::Data(left) => {
                    let here = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len() - at);
                    if at > data {
                        bytes.copy_within(at..at + here, data);
                    }
                    data += here;
                    at += here;
                    match left - here as u64 {
                        0 => Place::DataCr,
                        left => Place::Data(left),
                    }
                }
                Place::Trailers => {
                    let (end, used) = self.read_trailers(&bytes[at..])?;
                    if end.is_some() {
                        self.place = Place::Done;
                    }
                    return Ok(Read { data, used: at + used, end });
                }
                Place::Done => break,
                place => {
                    at += 1;
                    self.step(place, byte)?
                }
            };
        }
        Ok(Read { data, used: at, end: None })
    }

    /// One byte that is not data.
    fn step(&mut self, place: Place, byte: u8) -> Result<Place, HeadError> {
        if matches!(place, Place::Space(_) | Place::Extension(_)) {
            self.extensions += 1;
            if self.extensions > MAX_EXTENSIONS {
                return Err(HeadError::Malformed);
            }
        }
        Ok(match (place, byte) {
            (Place::Size { size, digits }, digit) if digit.is_ascii_hexdigit() && digits < MAX_DIGITS => {
                let value = (digit as char).to_digit(16).unwrap_or_default();
                Place::Size { size: (size << 4) | u64::from(value), digits: digits + 1 }
            }
            (Place::Size { size, digits: 1.. } | Place::Extension(size), b'\r') => Place::SizeEnd(size),
            (Place::Size { size, digits: 1.. } | Place::Space(size), b';')
            | (Place::Extension(size), b'\t' | b' '..=b'~' | 0x80..) => Place::Extension(size),
            (Place::Size { size, digits: 1.. } | Place::Space(size), b' ' | b'\t') => Place::Space(size),
            (Place::SizeEnd(0), b'\n') => Place::Trailers,
            (Place::SizeEnd(size), b'\n') => Place::Data(size),
            (Place::DataCr, b'\r') => Place::DataLf,
            (Place::DataLf, b'\n') => Place::default(),
            _ => return Err(HeadError::Malformed),
        })
    }

    /// Reads trailers from `bytes`; those that came before are kept.
    fn read_trailers(&mut self, bytes: &[u8]) -> Result<(Option<Fields>, usize), HeadError> {
        if self.trailers.is_empty() && bytes.starts_with(b"\r\n") {
            return Ok((Some(Fields::default()), 2));
        }
        let before = self.trailers.len();
        self.trailers.extend_from_slice(&bytes[..bytes.len().min(MAX_TRAILERS + 1 - before)]);
        match lines::trailers(&self.trailers)? {
            Some((fields, length)) => {
                self.trailers = Vec::new();
                Ok((Some(fields), length - before))
            }
            None if self.trailers.len() > MAX_TRAILERS => Err(HeadError::Malformed),
            None => Ok((None, bytes.len())),
        }
    }
}

/// The longest line that [`size_line`] makes.
pub const MAX_SIZE_LINE: usize = 18;

/// Writes the line before a chunk of `length` bytes; a length of 0 would be the last one's.
pub fn size_line(length: usize, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let digits = (usize::BITS - length.leading_zeros()).div_ceil(4).max(1);
    for digit in (0..digits).rev() {
        out.push(HEX[(length >> (4 * digit)) & 15]);
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes what ends a chunked body: the last chunk, the trailers and the blank line.
pub fn last_chunk(trailers: Option<&Fields>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n");
    if let Some(trailers) = trailers {
        trailers.write(out);
    }
    out.extend_from_slice(b"\r\n");
}
