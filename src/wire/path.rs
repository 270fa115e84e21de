//! What a path comes to: `.` and `..`, escapes and slashes, so that a route is chosen by the same bytes that go to the
//! upstream, and by bytes that the upstream cannot read as another path.
//!
//! What may be done is RFC 3986's: dot segments are taken out (§5.2.4), unreserved characters are written plainly and
//! escapes in upper case (§6.2.2). What reads as a dot segment only by a server that decodes more than it should is not
//! guessed: it is refused. A path without `.` segments, `%` and `\` is looked through once. Which rules a listener has:
//! `config`; where they are applied: `proxy/paths`.

use std::borrow::Cow;

/// What becomes of paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathRules {
    /// Segments `.` and `..`, also where the dots are written `%2e`.
    pub dot_segments: DotSegments,
    /// Empty segments: `//`.
    pub slashes: Slashes,
    /// `%2F`, `%5C` and `\`.
    pub hidden_slashes: HiddenSlashes,
    /// Whether escapes of unreserved characters are decoded, and others written in upper case.
    pub normalizes_escapes: bool,
    /// Whether a path is refused that becomes another one when it is decoded once more than it should be: see
    /// [`PathRules::settled`].
    pub refuses_ambiguous: bool,
}

/// What becomes of segments `.` and `..`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DotSegments {
    /// They are resolved.
    Resolve,
    /// The request is refused.
    Refuse,
    /// They stay.
    Keep,
}

/// What becomes of empty segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slashes {
    /// They stay.
    Keep,
    /// They are taken out.
    Merge,
    /// The request is refused.
    Refuse,
}

/// What becomes of characters that some servers read as a slash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HiddenSlashes {
    /// They stay.
    Keep,
    /// They become slashes.
    Decode,
    /// The request is refused.
    Refuse,
}

/// A path that the rules do not let pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the path may be read in more than one way")]
pub struct AmbiguousPath;

impl Default for PathRules {
    fn default() -> Self {
        Self {
            dot_segments: DotSegments::Resolve,
            slashes: Slashes::Keep,
            hidden_slashes: HiddenSlashes::Keep,
            normalizes_escapes: true,
            refuses_ambiguous: true,
        }
    }
}

impl PathRules {
    /// Rules by which every path stays as it was sent.
    pub const AS_SENT: Self = Self {
        dot_segments: DotSegments::Keep,
        slashes: Slashes::Keep,
        hidden_slashes: HiddenSlashes::Keep,
        normalizes_escapes: false,
        refuses_ambiguous: false,
    };

    /// What `path`, which has no query, comes to. What does not begin with `/` is no path, and stays.
    ///
    /// Ambiguous is `%00`, and a segment that is none of dots as it stands and would be one where a server decodes it again, takes `\`, `%2F`, an overlong or a fullwidth form for what it looks like, drops
    /// white space, or leaves out what is behind a `;`, `?` or `#`: `..%2f`, `%252e%252e`, `..;`, `..\`, `%c0%ae.`.
    ///
    /// What comes out is not changed by the same rules again.
    ///
    /// # Errors
    /// [`AmbiguousPath`] where the rules refuse it.
    pub fn settled(self, path: &str) -> Result<Cow<'_, str>, AmbiguousPath> {
        if !path.starts_with('/') || (is_plain(path) && self.takes_slashes_of(path)) || self == Self::AS_SENT
        {
            return Ok(Cow::Borrowed(path));
        }
        let decoded = self.unescaped(path)?;
        if self.refuses_ambiguous && is_ambiguous(&decoded) {
            return Err(AmbiguousPath);
        }
        let merged = match self.slashes {
            Slashes::Refuse if decoded.contains("//") => return Err(AmbiguousPath),
            Slashes::Merge if decoded.contains("//") => merge(&decoded),
            _ => decoded,
        };
        let resolved = match self.dot_segments {
            DotSegments::Keep => merged,
            _ if dot_segments(&merged) == 0 => merged,
            DotSegments::Refuse => return Err(AmbiguousPath),
            DotSegments::Resolve => resolve(&merged),
        };
        Ok(if resolved == path { Cow::Borrowed(path) } else { Cow::Owned(resolved) })
    }

    fn takes_slashes_of(self, path: &str) -> bool {
        self.slashes == Slashes::Keep || !path.contains("//")
    }

    /// `path` with its escapes and hidden slashes as the rules have them.
    fn unescaped(self, path: &str) -> Result<String, AmbiguousPath> {
        let mut out = String::with_capacity(path.len());
        // Where the last `%` stands that begins no escape: what is decoded behind it must not make it one.
        let mut stray = None;
        let mut rest = path;
        while let Some(at) = memchr::memchr2(b'%', b'\\', rest.as_bytes()) {
            out.push_str(&rest[..at]);
            let (escape, after) = match escape(&rest.as_bytes()[at..]) {
                Some(byte) => (Some(byte), at + 3),
                None => (None, at + 1),
            };
            let written = &rest[at..after];
            rest = &rest[after..];
            match escape.or_else(|| (written == "\\").then_some(b'\\')) {
                Some(b'/' | b'\\') if self.hidden_slashes == HiddenSlashes::Refuse => {
                    return Err(AmbiguousPath);
                }
                Some(b'/' | b'\\') if self.hidden_slashes == HiddenSlashes::Decode => out.push('/'),
                Some(_) if written == "\\" || !self.normalizes_escapes => out.push_str(written),
                Some(byte) if is_unreserved(byte) => {
                    let completes = byte.is_ascii_hexdigit() && stray.is_some_and(|at| out.len() - at <= 2);
                    if completes { push_upper(&mut out, written) } else { out.push(char::from(byte)) }
                }
                Some(_) => push_upper(&mut out, written),
                None => {
                    stray = Some(out.len());
                    out.push('%');
                }
            }
        }
        out.push_str(rest);
        Ok(out)
    }
}

fn push_upper(out: &mut String, escape: &str) {
    out.extend(escape.chars().map(|c| c.to_ascii_uppercase()));
}

/// Whether a path has nothing that any rule but those of slashes could be about.
fn is_plain(path: &str) -> bool {
    let bytes = path.as_bytes();
    let is_of_no_segment = |at: usize| {
        let before = at.checked_sub(1).and_then(|before| bytes.get(before));
        bytes[at] == b'.'
            && (before != Some(&b'/') || !matches!(bytes.get(at + 1), None | Some(b'/' | b'.' | b';')))
    };
    memchr::memchr3_iter(b'%', b'\\', b'.', bytes).all(is_of_no_segment) && path.is_ascii()
}

/// The byte that `%` and two digits at the beginning of `bytes` stand for.
fn escape(bytes: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = bytes else { return None };
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(high)? << 4 | digit(low)?)
}

/// RFC 3986 §2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// How many dots `segment` is, where it is one or two dots and nothing else, each perhaps as `%2e`.
fn dots(segment: &str) -> Option<usize> {
    let (mut rest, mut count) = (segment.as_bytes(), 0);
    while !rest.is_empty() {
        count += 1;
        rest = match rest {
            [b'.', rest @ ..] | [b'%', b'2', b'e' | b'E', rest @ ..] if count <= 2 => rest,
            _ => return None,
        };
    }
    (count > 0).then_some(count)
}

/// How many segments of `path` are `.` or `..`, also where the dots are written `%2e`.
pub fn dot_segments(path: &str) -> usize {
    path.split('/').filter(|segment| dots(segment).is_some()).count()
}

/// `path` without `.` and `..` (RFC 3986 §5.2.4); above the root is the root.
fn resolve(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.strip_prefix('/').unwrap_or(path).split('/').peekable();
    while let Some(segment) = segments.next() {
        let count = dots(segment);
        if count == Some(2) {
            kept.pop();
        }
        match count {
            None => kept.push(segment),
            // What ends with dots is a folder.
            Some(_) if segments.peek().is_none() => kept.push(""),
            Some(_) => {}
        }
    }
    let mut out = String::with_capacity(path.len());
    for segment in kept {
        out.push('/');
        out.push_str(segment);
    }
    out
}

fn merge(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for part in path.chars() {
        if part != '/' || !out.ends_with('/') {
            out.push(part);
        }
    }
    out
}

/// Whether some server could find a dot segment, or the end of a text, where there is none.
fn is_ambiguous(path: &str) -> bool {
    let mut read = once_decoded(path.as_bytes());
    if read.contains(&0) {
        return true;
    }
    // Whoever decodes twice is wrong already; nobody decodes more often than this.
    for _ in 0..3 {
        if !read.contains(&b'%') {
            break;
        }
        read = once_decoded(&read);
    }
    let is_dots = |piece: &[u8]| {
        let end = piece.iter().position(|byte| matches!(byte, b';' | b'?' | b'#')).unwrap_or(piece.len());
        let mut seen = piece[..end].iter().filter(|byte| **byte > b' ' && **byte != 0x7f);
        matches!((seen.next(), seen.next(), seen.next()), (Some(b'.'), None | Some(b'.'), None))
    };
    let pieces = read.split(|byte| matches!(byte, b'/' | b'\\'));
    pieces.filter(|piece| is_dots(piece)).count() > dot_segments(path)
}

/// `bytes` with `%uXXXX`, which never was a standard, as the character that it stands for.
fn wide_decoded(bytes: &[u8]) -> Cow<'_, [u8]> {
    let at = |bytes: &[u8]| bytes.windows(2).position(|pair| matches!(pair, b"%u" | b"%U"));
    let Some(mut next) = at(bytes) else { return Cow::Borrowed(bytes) };
    let (mut out, mut rest) = (Vec::with_capacity(bytes.len()), bytes);
    loop {
        let (before, escape) = rest.split_at(next);
        out.extend_from_slice(before);
        let digits = escape.get(2..6).and_then(|digits| std::str::from_utf8(digits).ok());
        let digits = digits.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let code = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()).and_then(char::from_u32);
        if let Some(code) = code {
            out.extend_from_slice(code.encode_utf8(&mut [0; 4]).as_bytes());
        } else {
            out.extend_from_slice(&escape[..2]);
        }
        rest = &escape[if code.is_some() { 6 } else { 2 }..];
        match at(rest) {
            Some(found) => next = found,
            None => break,
        }
    }
    out.extend_from_slice(rest);
    Cow::Owned(out)
}

/// `bytes` with its escapes decoded, and characters that are mistaken for ASCII as that.
fn once_decoded(bytes: &[u8]) -> Vec<u8> {
    let decoded: Vec<u8> = percent_encoding::percent_decode(&wide_decoded(bytes)).collect();
    let mut out = Vec::with_capacity(decoded.len());
    let mut rest = &decoded[..];
    while let [first, after @ ..] = rest {
        // Overlong forms of what is below 0x80; fullwidth forms; dots and slashes that are written otherwise.
        let (byte, length) = match rest {
            [0xc0 | 0xc1, low @ 0x80..=0xbf, ..] => ((first & 1) << 6 | low & 0x3f, 2),
            [0xe0, high @ (0x80 | 0x81), low @ 0x80..=0xbf, ..] => ((high & 1) << 6 | low & 0x3f, 3),
            [0xf0, 0x80, high @ (0x80 | 0x81), low @ 0x80..=0xbf, ..] => ((high & 1) << 6 | low & 0x3f, 4),
            [0xef, 0xbc, low @ 0x81..=0xbf, ..] => (low - 0x60, 3),
            [0xe2, 0x80, 0xa4, ..] => (b'.', 3),
            [0xe2, 0x80, 0xa5, ..] => {
                out.push(b'.');
                (b'.', 3)
            }
            [0xe2, 0x88, 0x95, ..] | [0xe2, 0x81, 0x84, ..] => (b'/', 3),
            [0xe2, 0x88, 0x96, ..] => (b'\\', 3),
            _ => {
                out.push(*first);
                rest = after;
                continue;
            }
        };
        out.push(byte);
        rest = &rest[length..];
    }
    out
}
