//! One YAML document to a tree of [`Node`]s.
//!
//! Bounded: nesting and what aliases add have limits, so that no text of any content takes more than a small multiple
//! of its own size. Tags and further documents are refused, for nothing here has a meaning for them. What the keys mean
//! is for [`super::read`].

use std::collections::HashMap;

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError, options};

use super::diagnostic::Code;
use super::node::{Kind, Node, Scalar};
use super::report::Report;
use super::span::Span;

/// How deeply lists and mappings may be nested.
const MAX_DEPTH: usize = 64;
/// How many values a file may have in all.
const MAX_VALUES: usize = 2_000_000;
/// How many values anchors and aliases may repeat in all.
const MAX_REPEATED: usize = 100_000;

/// The tree of `file`, or `None` when it is not YAML, which is then in the report.
pub(super) fn parse(report: &mut Report<'_>, file: u32) -> Option<Node> {
    let source = report.sources.get(file)?;
    let text = source.text.as_str();
    let body = text.strip_prefix('\u{feff}').unwrap_or(text);
    let skipped = text.len() - body.len();
    let options = options! { flow_nesting_limit: MAX_DEPTH, block_nesting_limit: MAX_DEPTH };
    let mut builder = Builder {
        report,
        file,
        length: text.len(),
        skipped,
        open: Vec::new(),
        root: None,
        anchors: HashMap::new(),
        values: 0,
        repeated: 0,
        documents: 0,
    };
    for event in Parser::new_from_str_with_options(body, options) {
        let (event, span) = match event {
            Ok(pair) => pair,
            Err(error) => {
                builder.syntax(&error);
                return None;
            }
        };
        let range = span.byte_range().unwrap_or_default();
        let span = Span::new(file, range.start + skipped..range.end + skipped);
        builder.event(event, span).ok()?;
    }
    let whole = Span::new(file, 0..0);
    Some(builder.root.unwrap_or(Node { span: whole, kind: Kind::Null }))
}

/// A list or mapping that is not closed yet.
struct Open {
    span: Span,
    anchor: usize,
    height: usize,
    content: Content,
}

enum Content {
    Seq(Vec<Node>),
    Map { entries: Vec<(Node, Node)>, seen: HashMap<String, Span>, key: Option<Node> },
}

/// What an anchor stands for.
struct Anchored {
    node: Node,
    /// How many levels of lists and mappings it has.
    height: usize,
    /// How many values it has in all.
    size: usize,
}

/// The report has it; the text is not read further.
struct Stop;

struct Builder<'r, 's> {
    report: &'r mut Report<'s>,
    file: u32,
    length: usize,
    skipped: usize,
    open: Vec<Open>,
    root: Option<Node>,
    anchors: HashMap<usize, Anchored>,
    values: usize,
    repeated: usize,
    documents: usize,
}

impl Builder<'_, '_> {
    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Stop> {
        if event.tag().is_some() {
            self.report
                .error(Code::YamlTag, span, "YAML tags are not used here")
                .hint("remove the word that begins with `!`, or quote the text");
            return Err(Stop);
        }
        self.values += usize::from(event.is_node());
        if self.values > MAX_VALUES {
            let message = format!("the file has more than {MAX_VALUES} values");
            self.report.error(Code::YamlLimit, span, message);
            return Err(Stop);
        }
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    self.report
                        .error(Code::SeveralDocuments, span, "a file holds one YAML document")
                        .hint("remove the `---`, or put the parts into files of one folder");
                    return Err(Stop);
                }
            }
            Event::Scalar(text, style, anchor, _) => {
                let plain = style == ScalarStyle::Plain;
                let kind = match text.as_ref() {
                    "" | "~" | "null" | "Null" | "NULL" if plain => Kind::Null,
                    text => Kind::Scalar(Scalar { text: text.to_owned(), plain, written: None }),
                };
                self.add(Node { span, kind }, anchor, 0)?;
            }
            Event::SequenceStart(_, anchor, _) => self.begin(span, anchor, Content::Seq(Vec::new()))?,
            Event::MappingStart(_, anchor, _) => {
                let content = Content::Map { entries: Vec::new(), seen: HashMap::new(), key: None };
                self.begin(span, anchor, content)?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(span)?,
            Event::Alias(anchor) => self.alias(anchor, span)?,
            _ => {}
        }
        Ok(())
    }

    fn begin(&mut self, span: Span, anchor: usize, content: Content) -> Result<(), Stop> {
        if self.open.len() >= MAX_DEPTH {
            return Err(self.too_deep(span));
        }
        self.open.push(Open { span, anchor, height: 1, content });
        Ok(())
    }

    fn end(&mut self, end: Span) -> Result<(), Stop> {
        let Some(Open { span, anchor, height, content }) = self.open.pop() else { return Ok(()) };
        let kind = match content {
            Content::Seq(items) => Kind::Seq(items),
            Content::Map { entries, .. } => Kind::Map(entries),
        };
        let span = Span { end: end.end.max(span.end), ..span };
        self.add(Node { span, kind }, anchor, height)
    }

    fn alias(&mut self, anchor: usize, span: Span) -> Result<(), Stop> {
        let Some(anchored) = self.anchors.get(&anchor) else {
            self.report.error(Code::YamlSyntax, span, "the alias stands inside of what it repeats");
            return Err(Stop);
        };
        if self.open.len() + anchored.height > MAX_DEPTH {
            return Err(self.too_deep(span));
        }
        let (size, height) = (anchored.size, anchored.height);
        self.repeat(size, span)?;
        let Some(node) = self.anchors.get(&anchor).map(|anchored| anchored.node.clone()) else {
            return Ok(());
        };
        self.add(node, 0, height)
    }

    fn repeat(&mut self, values: usize, span: Span) -> Result<(), Stop> {
        self.repeated += values;
        if self.repeated <= MAX_REPEATED {
            return Ok(());
        }
        let message = format!("the anchors and aliases of this file repeat more than {MAX_REPEATED} values");
        self.report.error(Code::YamlLimit, span, message);
        Err(Stop)
    }

    fn too_deep(&mut self, span: Span) -> Stop {
        let message = format!("lists and mappings are nested more than {MAX_DEPTH} levels deep");
        self.report.error(Code::YamlLimit, span, message);
        Stop
    }

    /// Puts a finished value where it belongs.
    fn add(&mut self, node: Node, anchor: usize, height: usize) -> Result<(), Stop> {
        if anchor != 0 {
            let size = size(&node);
            self.repeat(size, node.span)?;
            self.anchors.insert(anchor, Anchored { size, node: node.clone(), height });
        }
        let Some(parent) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        parent.height = parent.height.max(height + 1);
        match &mut parent.content {
            Content::Seq(items) => items.push(node),
            Content::Map { entries, seen, key } => match key.take() {
                None => *key = Some(node),
                Some(key) => add_entry(self.report, entries, seen, key, node),
            },
        }
        Ok(())
    }

    fn syntax(&mut self, error: &ScanError) {
        let at = error.marker().byte_offset().map_or(self.length, |at| (at + self.skipped).min(self.length));
        let span = Span::new(self.file, at..at);
        let kind = error.kind();
        if matches!(kind, ErrorKind::RecursionLimitExceeded) {
            self.too_deep(span);
            return;
        }
        self.report
            .error(Code::YamlSyntax, span, format!("this is not YAML: {kind}"))
            .maybe_hint(advice(kind));
    }
}

fn add_entry(
    report: &mut Report<'_>,
    entries: &mut Vec<(Node, Node)>,
    seen: &mut HashMap<String, Span>,
    key: Node,
    value: Node,
) {
    let Some(text) = key.text() else {
        let message = format!("a key is a text, this is {}", key.describe());
        report.error(Code::WrongType, key.span, message);
        return;
    };
    if let Some(&first) = seen.get(text) {
        let message = format!("the key `{}` stands twice in one mapping", text.escape_debug());
        report.error(Code::DuplicateKey, key.span, message).related(first, "first here");
        return;
    }
    seen.insert(text.to_owned(), key.span);
    entries.push((key, value));
}

fn size(node: &Node) -> usize {
    1 + match &node.kind {
        Kind::Seq(items) => items.iter().map(size).sum(),
        Kind::Map(entries) => entries.iter().map(|(key, value)| size(key) + size(value)).sum::<usize>(),
        Kind::Null | Kind::Scalar(_) | Kind::Broken => 0,
    }
}

/// What usually helps against an error.
fn advice(kind: &ErrorKind) -> Option<String> {
    let text = match kind {
        ErrorKind::UnknownAnchor => "a text that begins with `*` needs quotes, as in `\"*.example.com\"`",
        ErrorKind::ExpectedFlowMappingSeparator
        | ErrorKind::ExpectedFlowSequenceSeparator
        | ErrorKind::UnexpectedEofFlowSequence
        | ErrorKind::UnexpectedEofFlowMapping
        | ErrorKind::MismatchedFlowCollectionEnd { .. }
        | ErrorKind::UnclosedFlowCollection { .. } => {
            "inside `[ ]` and `{ }` a text with one of `[ ] { } ,` needs quotes, as in `\"${NAME}\"`"
        }
        ErrorKind::UnexpectedCharacter { .. } => {
            "a text that begins with one of `% @ * & ! | > [ ] { } , # ' \"` or a backtick needs quotes"
        }
        ErrorKind::MappingValueNotAllowed | ErrorKind::InvalidMappingValueWhitespace => {
            "a text with `: ` in it needs quotes; otherwise look at the indentation"
        }
        ErrorKind::TabNotAllowed | ErrorKind::TabInBlockIndentation | ErrorKind::TabInIndentation => {
            "indent with spaces"
        }
        ErrorKind::InvalidIndentation
        | ErrorKind::ExpectedBlockMappingKey
        | ErrorKind::ExpectedBlockSequenceEntry
        | ErrorKind::SimpleKeyExpected => "look at the indentation, and for a missing `:` or `-`",
        ErrorKind::UnclosedQuotedScalar => "the closing quote is missing",
        _ => return None,
    };
    Some(text.to_owned())
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::super::span::Sources;
    use super::*;

    fn show(node: &Node) -> String {
        match &node.kind {
            Kind::Null => "null".to_owned(),
            Kind::Scalar(Scalar { text, plain: true, .. }) => text.clone(),
            Kind::Scalar(Scalar { text, .. }) => format!("{text:?}"),
            Kind::Seq(items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(",")),
            Kind::Map(entries) => {
                let entries = entries.iter().map(|(key, value)| format!("{}:{}", show(key), show(value)));
                format!("{{{}}}", entries.collect::<Vec<_>>().join(","))
            }
            Kind::Broken => "broken".to_owned(),
        }
    }

    fn check(text: &str) -> (Option<String>, Vec<(Code, usize, usize)>) {
        let mut sources = Sources::default();
        let file = sources.add("a.yaml".into(), text.to_owned());
        let mut report = Report::new(&sources);
        let tree = parse(&mut report, file).map(|node| show(&node));
        let found = report.finish().into_iter().map(|d| {
            let place = d.place.unwrap();
            (d.code, place.line, place.column)
        });
        (tree, found.collect())
    }

    #[test]
    fn text_becomes_a_tree() {
        let rows = [
            ("", "null"),
            ("# only a comment\n", "null"),
            ("\u{feff}a: 1\n", "{a:1}"),
            (
                "a: 1\nb: [x, 'y', \"z\"]\nc: {d: ~, e: null, f: }\n",
                "{a:1,b:[x,\"y\",\"z\"],c:{d:null,e:null,f:null}}",
            ),
            ("a: &x {b: 1}\nc: *x\n", "{a:{b:1},c:{b:1}}"),
            ("---\na: 'null'\n...\n", "{a:\"null\"}"),
            ("a: |\n  two\n  lines\n", "{a:\"two\\nlines\\n\"}"),
        ];
        for (text, expected) in rows {
            assert_eq!(check(text), (Some(expected.to_owned()), vec![]), "{text:?}");
        }
    }

    #[test]
    fn what_is_not_understood_is_reported_at_its_place() {
        let deep = format!("a: {}{}", "[".repeat(100), "]".repeat(100));
        let rows = [
            ("a: [1, 2\nb: 3\n", Code::YamlSyntax, 2),
            ("a: *.example.com\n", Code::YamlSyntax, 1),
            ("a: 1\na: 2\n", Code::DuplicateKey, 2),
            ("a: !!str 1\n", Code::YamlTag, 1),
            ("a: 1\n---\nb: 2\n", Code::SeveralDocuments, 2),
            ("? [a]\n: 1\n", Code::WrongType, 1),
            ("a: &x [*x]\n", Code::YamlSyntax, 1),
            (&deep, Code::YamlLimit, 1),
        ];
        for (text, code, line) in rows {
            let (_, found) = check(text);
            assert_eq!(found.len(), 1, "{text:?}: {found:?}");
            assert_eq!((found[0].0, found[0].1), (code, line), "{text:?}");
        }
    }

    #[test]
    fn alias_bombs_are_refused() {
        let mut wide = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        let mut deep = "a0: &a0 [x]\n".to_owned();
        for level in 1..80 {
            let before = level - 1;
            let ten = vec![format!("*a{before}"); 10].join(", ");
            writeln!(wide, "a{level}: &a{level} [{ten}]").unwrap();
            writeln!(deep, "a{level}: &a{level} [*a{before}]").unwrap();
        }
        for text in [wide, deep] {
            let (tree, found) = check(&text);
            assert_eq!(tree, None);
            assert_eq!(found.iter().map(|f| f.0).collect::<Vec<_>>(), [Code::YamlLimit]);
        }
    }
}
