//! The chunked coding (RFC 9112 §7.1), undone in place: whatever the chunks were, their data stands together afterwards.

use super::framing::MAX_LENGTH;
use super::{Fields, HeadError, lines};

/// The most bytes of extensions in all the chunks of a body.
const MAX_EXTENSIONS: usize = 16 * 1024;

/// The most bytes of trailers.
const MAX_TRAILERS: usize = 16 * 1024;

/// The most digits of a size.
const MAX_DIGITS: u8 = 16;

/// Reads a chunked body, however its bytes are cut.
#[derive(Debug, Clone, Default)]
pub struct Chunked {
    place: Place,
    /// The chunk's size as far as it was read; then what is left of its data.
    left: u64,
    extensions: usize,
    /// Trailers of which the end has not come.
    trailers: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In a size, after so many digits.
    Size(u8),
    /// Behind a size.
    Extension(Extension),
    /// Behind the CR of a size's line.
    SizeEnd,
    /// In a chunk's data.
    Data,
    /// Behind a chunk's data.
    DataCr,
    DataLf,
    Trailers,
    Done,
}

impl Default for Place {
    fn default() -> Self {
        Self::Size(0)
    }
}

/// A place in `*( BWS ";" BWS name [ BWS "=" BWS value ] )`. Extensions mean nothing here, but whoever does not read
/// them as all do is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extension {
    /// White space behind a size or a value.
    Space,
    /// Before a name.
    Start,
    Name,
    NameSpace,
    /// Before a value.
    ValueStart,
    Value,
    Quoted,
    Escaped,
    QuotedEnd,
}

impl Extension {
    /// The next place, where there is one.
    fn step(self, byte: u8) -> Option<Self> {
        Some(match (self, byte) {
            (Self::Quoted, b'"') => Self::QuotedEnd,
            (Self::Quoted, b'\\') => Self::Escaped,
            (Self::Quoted | Self::Escaped, b'\t' | b' '..=b'~' | 0x80..) | (Self::ValueStart, b'"') => {
                Self::Quoted
            }
            (Self::Space | Self::Value | Self::QuotedEnd, b' ' | b'\t') => Self::Space,
            (Self::Name | Self::NameSpace, b' ' | b'\t') => Self::NameSpace,
            (Self::Start | Self::ValueStart, b' ' | b'\t') => self,
            (Self::Space | Self::Name | Self::NameSpace | Self::Value | Self::QuotedEnd, b';') => Self::Start,
            (Self::Name | Self::NameSpace, b'=') => Self::ValueStart,
            (Self::Start | Self::Name, byte) if is_token(byte) => Self::Name,
            (Self::ValueStart | Self::Value, byte) if is_token(byte) => Self::Value,
            _ => return None,
        })
    }

    /// Whether the line may end here.
    fn may_end(self) -> bool {
        matches!(self, Self::Name | Self::Value | Self::QuotedEnd)
    }
}

/// Whether `byte` may stand in a token (RFC 9110 §5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
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
                Place::Data => {
                    let here = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len() - at);
                    if at > data {
                        bytes.copy_within(at..at + here, data);
                    }
                    data += here;
                    at += here;
                    self.left -= here as u64;
                    if self.left == 0 { Place::DataCr } else { Place::Data }
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
                    self.step(place, byte).ok_or(HeadError::Malformed)?
                }
            };
        }
        Ok(Read { data, used: at, end: None })
    }

    /// One byte that is not data.
    fn step(&mut self, place: Place, byte: u8) -> Option<Place> {
        if matches!(place, Place::Extension(_)) {
            self.extensions += 1;
            if self.extensions > MAX_EXTENSIONS {
                return None;
            }
        }
        Some(match (place, byte) {
            (Place::Size(digits), digit) if digit.is_ascii_hexdigit() && digits < MAX_DIGITS => {
                if self.left > MAX_LENGTH >> 4 {
                    return None;
                }
                let value = (digit as char).to_digit(16)?;
                self.left = (self.left << 4) | u64::from(value);
                Place::Size(digits + 1)
            }
            (Place::Size(1..), b'\r') => Place::SizeEnd,
            (Place::Size(1..), b';' | b' ' | b'\t') => Place::Extension(Extension::Space.step(byte)?),
            (Place::Extension(extension), b'\r') if extension.may_end() => Place::SizeEnd,
            (Place::Extension(extension), byte) => Place::Extension(extension.step(byte)?),
            (Place::SizeEnd, b'\n') if self.left == 0 => Place::Trailers,
            (Place::SizeEnd, b'\n') => Place::Data,
            (Place::DataCr, b'\r') => Place::DataLf,
            (Place::DataLf, b'\n') => Place::Size(0),
            _ => return None,
        })
    }

    /// Reads trailers from `bytes`; those that came before are kept.
    fn read_trailers(&mut self, bytes: &[u8]) -> Result<(Option<Fields>, usize), HeadError> {
        if self.trailers.is_empty() && bytes.starts_with(b"\r\n") {
            return Ok((Some(Fields::default()), 2));
        }
        let before = self.trailers.len();
        self.trailers.extend_from_slice(&bytes[..bytes.len().min(MAX_TRAILERS - before)]);
        // They are read again from their beginning, so only to the end of a line and when one has come: sending them a
        // byte at a time is no attack.
        let whole = memchr::memrchr(b'\n', &self.trailers[before..]).map_or(0, |last| before + last + 1);
        if whole > 0
            && let Some((fields, length)) = lines::trailers(&self.trailers[..whole])?
        {
            self.trailers = Vec::new();
            return Ok((Some(fields), length - before));
        }
        if self.trailers.len() < MAX_TRAILERS { Ok((None, bytes.len())) } else { Err(HeadError::Malformed) }
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
