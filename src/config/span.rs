//! Places in texts: which file, which bytes, and from there line, column and the line itself.
//!
//! Must not read files (see [`super::source`]) and must not know what a text means.

use std::ops::Range;
use std::path::{Path, PathBuf};

/// A range of bytes in one of the [`Sources`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Span {
    pub(super) file: u32,
    pub(super) start: u32,
    pub(super) end: u32,
}

impl Span {
    /// Nowhere: of what no text says.
    pub(super) const NONE: Self = Self { file: u32::MAX, start: 0, end: 0 };

    /// The range `bytes` of `file`.
    pub(super) fn new(file: u32, bytes: Range<usize>) -> Self {
        let cut = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Self { file, start: cut(bytes.start), end: cut(bytes.end.max(bytes.start)) }
    }

    /// Whether it is a place at all.
    pub(super) fn is_none(self) -> bool {
        self.file == u32::MAX
    }
}

/// The texts of a configuration, in the order in which they were read.
#[derive(Debug, Default)]
pub(super) struct Sources(Vec<SourceText>);

/// One text and where its lines begin.
#[derive(Debug)]
pub(super) struct SourceText {
    pub(super) path: PathBuf,
    pub(super) text: String,
    lines: Vec<u32>,
}

/// A line of a text and a range of its characters.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Located<'a> {
    pub(super) path: &'a Path,
    /// From 1.
    pub(super) line: usize,
    /// In characters, from 1.
    pub(super) column: usize,
    /// How many characters of this line are meant; 0 or more.
    pub(super) length: usize,
    pub(super) text: &'a str,
}

impl Sources {
    /// The number of `text` under which spans refer to it.
    pub(super) fn add(&mut self, path: PathBuf, text: String) -> u32 {
        let starts = text.bytes().zip(1u32..).filter(|&(byte, _)| byte == b'\n').map(|(_, next)| next);
        let lines = std::iter::once(0).chain(starts).collect();
        self.0.push(SourceText { path, text, lines });
        u32::try_from(self.0.len() - 1).unwrap_or(u32::MAX)
    }

    /// The text of `file`.
    pub(super) fn get(&self, file: u32) -> Option<&SourceText> {
        self.0.get(usize::try_from(file).ok()?)
    }

    /// All texts.
    pub(super) fn iter(&self) -> impl Iterator<Item = &SourceText> {
        self.0.iter()
    }

    /// The bytes of `span`, as text.
    pub(super) fn slice(&self, span: Span) -> Option<&str> {
        self.get(span.file)?.text.get(span.start as usize..span.end as usize)
    }

    /// Line, column and line text of `span`; of a span over several lines its part in the first.
    pub(super) fn locate(&self, span: Span) -> Option<Located<'_>> {
        let source = self.get(span.file)?;
        let length = source.text.len();
        let start = floor_char(&source.text, (span.start as usize).min(length));
        let end = floor_char(&source.text, (span.end as usize).min(length));
        let line = source.lines.partition_point(|&begin| begin as usize <= start).max(1);
        let begin = source.lines[line - 1] as usize;
        let text = source.text[begin..].split('\n').next().unwrap_or_default().trim_end_matches('\r');
        let stop = begin + text.len();
        let count = |from: usize, to: usize| source.text[from..to.max(from)].chars().count();
        Some(Located {
            path: &source.path,
            line,
            column: count(begin, start.min(stop).max(begin)) + 1,
            length: count(start.min(stop), end.min(stop)),
            text,
        })
    }
}

fn floor_char(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn span_is_found_by_line_and_character() {
        let mut sources = Sources::default();
        let file = sources.add("a.yaml".into(), "één: 1\r\nb: ü2\n".to_owned());
        let rows = [
            (0..5, (1, 1, 3, "één: 1")),
            (7..8, (1, 6, 1, "één: 1")),
            (10..11, (2, 1, 1, "b: ü2")),
            (13..16, (2, 4, 2, "b: ü2")),
            (13..17, (2, 4, 2, "b: ü2")),
            (17..17, (3, 1, 0, "")),
            (99..120, (3, 1, 0, "")),
            (14..14, (2, 4, 0, "b: ü2")),
        ];
        for (bytes, (line, column, length, text)) in rows {
            let located = sources.locate(Span::new(file, bytes.clone())).unwrap();
            assert_eq!(
                (located.line, located.column, located.length, located.text),
                (line, column, length, text),
                "{bytes:?}"
            );
        }
        assert_eq!(sources.locate(Span::NONE), None);
    }
}
