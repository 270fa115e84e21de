//! Header fields of a message, in their order. They stay where they were read, in one buffer, and what is added goes to
//! its end; writing them copies whole runs. Both protocols use them: names may be in any case and are compared so.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::Known;

/// A name that fields are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name<'a> {
    /// A known one.
    Known(Known),
    /// Any other; in whatever case. `From` finds the known ones among texts: this is not to be built by hand.
    Other(&'a str),
}

impl<'a> Name<'a> {
    /// The name as text.
    pub fn as_str(&self) -> &'a str {
        match self {
            Self::Known(known) => known.as_str(),
            Self::Other(text) => text,
        }
    }
}

impl From<Known> for Name<'_> {
    fn from(known: Known) -> Self {
        Self::Known(known)
    }
}

impl<'a> From<&'a str> for Name<'a> {
    fn from(text: &'a str) -> Self {
        Known::of(text.as_bytes()).map_or(Self::Other(text), Self::Known)
    }
}

impl<'a> From<&'a HeaderName> for Name<'a> {
    fn from(name: &'a HeaderName) -> Self {
        name.as_str().into()
    }
}

/// Room for what is added to a head on its way: bytes.
const ROOM: usize = 384;

/// The same: fields.
const LINES: usize = 10;

/// The fields of a head or of trailers, in their order.
#[derive(Debug, Clone, Default)]
pub struct Fields {
    /// What was read, and what was added behind it. A head keeps its first line here too.
    text: Vec<u8>,
    lines: Vec<Line>,
    /// The known names that occur, a bit each.
    present: u64,
}

/// Where a field stands in the text.
#[derive(Debug, Clone, Copy)]
struct Line {
    name: u32,
    name_end: u32,
    value: u32,
    value_end: u32,
    known: Option<Known>,
    /// Whether it stands there as it is written: `name: value`, CR, LF.
    is_plain: bool,
}

/// A position in a head. Heads are far below 4 GiB: their size is limited where they are read.
pub(super) fn offset(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

fn range(from: u32, to: u32) -> std::ops::Range<usize> {
    from as usize..to as usize
}

impl Line {
    fn is(&self, text: &[u8], name: Name<'_>) -> bool {
        match name {
            Name::Known(known) => self.known == Some(known),
            Name::Other(other) => {
                self.known.is_none() && self.name(text).eq_ignore_ascii_case(other.as_bytes())
            }
        }
    }

    fn name<'a>(&self, text: &'a [u8]) -> &'a [u8] {
        text.get(range(self.name, self.name_end)).unwrap_or_default()
    }

    fn value<'a>(&self, text: &'a [u8]) -> &'a [u8] {
        text.get(range(self.value, self.value_end)).unwrap_or_default()
    }
}

impl Fields {
    /// No fields; room for what a head usually gets added.
    pub fn new() -> Self {
        Self { text: Vec::with_capacity(256), lines: Vec::with_capacity(8), present: 0 }
    }

    /// Fields that will be found in `text`, with room for `lines` and for what is added to them.
    pub(super) fn with_text(text: &[u8], lines: usize) -> Self {
        let mut own = Vec::with_capacity(text.len() + ROOM);
        own.extend_from_slice(text);
        Self { text: own, lines: Vec::with_capacity(lines + LINES), present: 0 }
    }

    /// The field whose name and value stand at these places of the text.
    pub(super) fn found(
        &mut self,
        name: std::ops::Range<usize>,
        value: std::ops::Range<usize>,
        is_plain: bool,
    ) {
        let known = self.text.get(name.clone()).and_then(Known::of);
        if let Some(known) = known {
            self.present |= known.bit();
        }
        self.lines.push(Line {
            name: offset(name.start),
            name_end: offset(name.end),
            value: offset(value.start),
            value_end: offset(value.end),
            known,
            is_plain,
        });
    }

    /// A part of the text: of the head's first line.
    pub(super) fn text(&self, from: u32, to: u32) -> &[u8] {
        self.text.get(range(from, to)).unwrap_or_default()
    }

    /// Puts `text` behind what is there, and tells where.
    pub(super) fn keep(&mut self, text: &[u8]) -> (u32, u32) {
        let start = self.text.len();
        self.text.extend_from_slice(text);
        (offset(start), offset(self.text.len()))
    }

    /// How many fields there are.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Whether there is a field of this name.
    pub fn contains<'n>(&self, name: impl Into<Name<'n>>) -> bool {
        match name.into() {
            Name::Known(known) => self.has(known),
            name @ Name::Other(_) => self.lines.iter().any(|line| line.is(&self.text, name)),
        }
    }

    fn has(&self, known: Known) -> bool {
        self.present & known.bit() != 0
    }

    /// The value of the first field of this name.
    pub fn get<'n>(&self, name: impl Into<Name<'n>>) -> Option<&[u8]> {
        let name = name.into();
        if let Name::Known(known) = name
            && !self.has(known)
        {
            return None;
        }
        self.lines.iter().find(|line| line.is(&self.text, name)).map(|line| line.value(&self.text))
    }

    /// The values of the fields of this name, in their order.
    pub fn all<'n, N: Into<Name<'n>>>(&self, name: N) -> impl Iterator<Item = &[u8]> + use<'_, 'n, N> {
        let name = name.into();
        let lines = match name {
            Name::Known(known) if !self.has(known) => &[],
            _ => self.lines.as_slice(),
        };
        lines.iter().filter(move |line| line.is(&self.text, name)).map(|line| line.value(&self.text))
    }

    /// Whether the list in the fields of this name has `token`, in whatever case.
    pub fn has_token(&self, name: Known, token: &str) -> bool {
        let mut tokens = self.all(name).flat_map(|value| value.split(|byte| *byte == b','));
        tokens.any(|one| one.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    }

    /// All fields: the name as it was sent, and the value.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.lines.iter().map(|line| (line.name(&self.text), line.value(&self.text)))
    }

    /// The names that the proxy does not know, as they were sent.
    pub fn others(&self) -> impl Iterator<Item = &[u8]> {
        self.lines.iter().filter(|line| line.known.is_none()).map(|line| line.name(&self.text))
    }

    /// Adds a field behind the others. The value must be a field value: without CR, LF and NUL.
    pub fn append<'n>(&mut self, name: impl Into<Name<'n>>, value: &[u8]) {
        let name = name.into();
        self.line(name, |text| text.extend_from_slice(value));
    }

    /// Adds a field whose value `write` puts behind what it is given.
    pub fn append_with<'n>(&mut self, name: impl Into<Name<'n>>, write: impl FnOnce(&mut Vec<u8>)) {
        self.line(name.into(), write);
    }

    fn line(&mut self, name: Name<'_>, write: impl FnOnce(&mut Vec<u8>)) {
        let text = &mut self.text;
        let start = text.len();
        text.extend_from_slice(name.as_str().as_bytes());
        let name_end = text.len();
        text.extend_from_slice(b": ");
        let value = text.len();
        write(text);
        let value_end = text.len();
        debug_assert!(
            !text[value..].iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)),
            "a value is one line"
        );
        text.extend_from_slice(b"\r\n");
        let known = match name {
            Name::Known(known) => {
                self.present |= known.bit();
                Some(known)
            }
            Name::Other(_) => None,
        };
        self.lines.push(Line {
            name: offset(start),
            name_end: offset(name_end),
            value: offset(value),
            value_end: offset(value_end),
            known,
            is_plain: true,
        });
    }

    /// Makes `value` the only one of this name.
    pub fn set<'n>(&mut self, name: impl Into<Name<'n>>, value: &[u8]) {
        let name = name.into();
        self.remove(name);
        self.append(name, value);
    }

    /// Removes every field of this name; whether there was one.
    pub fn remove<'n>(&mut self, name: impl Into<Name<'n>>) -> bool {
        let name = name.into();
        if let Name::Known(known) = name {
            if !self.has(known) {
                return false;
            }
            self.present &= !known.bit();
        }
        let before = self.lines.len();
        let text = &self.text;
        self.lines.retain(|line| !line.is(text, name));
        self.lines.len() < before
    }

    /// Removes the fields whose names the proxy does not know and `is_gone` says so of.
    pub fn remove_others(&mut self, mut is_gone: impl FnMut(&[u8]) -> bool) {
        let text = &self.text;
        self.lines.retain(|line| line.known.is_some() || !is_gone(line.name(text)));
    }

    /// Writes the fields as HTTP/1 has them, without the blank line behind them.
    pub fn write(&self, out: &mut Vec<u8>) {
        // What stands together goes together.
        let mut run = 0..0;
        for line in &self.lines {
            let whole = range(line.name, line.value_end + 2);
            if line.is_plain && run.end == whole.start {
                run.end = whole.end;
                continue;
            }
            out.extend_from_slice(self.text.get(run).unwrap_or_default());
            run = whole;
            if !line.is_plain {
                out.extend_from_slice(line.name(&self.text));
                out.extend_from_slice(b": ");
                out.extend_from_slice(line.value(&self.text));
                out.extend_from_slice(b"\r\n");
                run = 0..0;
            }
        }
        out.extend_from_slice(self.text.get(run).unwrap_or_default());
    }

    /// The same fields as HTTP/2 has them: names in lower case.
    pub fn to_map(&self) -> HeaderMap {
        let mut map = HeaderMap::with_capacity(self.lines.len());
        for (name, value) in self.iter() {
            // What was read or added is valid in both.
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
                map.append(name, value);
            }
        }
        map
    }
}

impl From<&HeaderMap> for Fields {
    fn from(map: &HeaderMap) -> Self {
        let length: usize = map.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        let (text, lines) = (Vec::with_capacity(length + ROOM), Vec::with_capacity(map.len() + LINES));
        let mut fields = Self { text, lines, present: 0 };
        for (name, value) in map {
            // White space around it is none of the value (RFC 9110 §5.5). HTTP/2 forbids it, but gRPC lets peers send
            // it, and who reads it from HTTP/1 does not see it: here nobody does.
            fields.append(name, value.as_bytes().trim_ascii());
        }
        fields
    }
}

/// Equal when the same fields stand in the same order; the case of names does not count.
impl PartialEq for Fields {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len()
            && self.iter().zip(other.iter()).all(|((name, value), (other_name, other_value))| {
                name.eq_ignore_ascii_case(other_name) && value == other_value
            })
    }
}

impl Eq for Fields {}

impl<'n, N: Into<Name<'n>>, V: AsRef<[u8]>> FromIterator<(N, V)> for Fields {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(rows: I) -> Self {
        let mut fields = Self::new();
        for (name, value) in rows {
            fields.append(name, value.as_ref());
        }
        fields
    }
}
