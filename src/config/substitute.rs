//! Environment variables in values: `${NAME}`, `${NAME:-default}`, and `$${` for `${` itself.
//!
//! What is put in is text of the value and nothing else: it is never read as YAML, so no variable can add a key. Keys
//! are left as they are. Must not read the environment itself: it is handed in.

use std::ops::Range;

use super::diagnostic::Code;
use super::node::{Kind, Node, Scalar};
use super::report::Report;
use super::span::Span;

/// How the environment is asked.
pub(super) type Environment<'e> = &'e dyn Fn(&str) -> Option<String>;

/// Puts the environment's variables into all values of `node`.
pub(super) fn substitute(report: &mut Report<'_>, node: &mut Node, environment: Environment<'_>) {
    let span = node.span;
    match &mut node.kind {
        Kind::Null | Kind::Broken => {}
        Kind::Seq(items) => items.iter_mut().for_each(|item| substitute(report, item, environment)),
        Kind::Map(entries) => {
            for (_, value) in entries {
                substitute(report, value, environment);
            }
        }
        Kind::Scalar(scalar) if !scalar.text.contains("${") => {}
        Kind::Scalar(scalar) => match expand(&scalar.text, environment) {
            Ok(Expanded { text, variables }) => {
                let written = std::mem::replace(&mut scalar.text, text);
                scalar.written = variables.then_some(written);
            }
            Err(problem) => {
                report_problem(report, span, scalar, problem);
                node.kind = Kind::Broken;
            }
        },
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Expanded {
    text: String,
    /// Whether a variable was put in, not only an escape taken out.
    variables: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Problem {
    /// This variable is not set; here it stands.
    Unset(String, Range<usize>),
    /// This is not a substitution.
    Bad(Range<usize>),
}

fn expand(text: &str, environment: Environment<'_>) -> Result<Expanded, Problem> {
    let mut out = Expanded { text: String::with_capacity(text.len()), variables: false };
    let mut at = 0;
    while let Some(found) = text[at..].find('$').map(|offset| at + offset) {
        out.text.push_str(&text[at..found]);
        let rest = &text[found..];
        if rest.starts_with("$${") {
            out.text.push_str("${");
            at = found + 3;
        } else if let Some(inside) = rest.strip_prefix("${") {
            let end = inside.find('}').ok_or(Problem::Bad(found..text.len()))?;
            let range = found..found + 2 + end + 1;
            let (name, default) = match inside[..end].split_once(":-") {
                Some((name, default)) => (name, Some(default)),
                None => (&inside[..end], None),
            };
            if !is_variable(name) {
                return Err(Problem::Bad(range));
            }
            let value = environment(name).filter(|value| default.is_none() || !value.is_empty());
            let value = value.or_else(|| default.map(str::to_owned));
            out.text.push_str(&value.ok_or_else(|| Problem::Unset(name.to_owned(), range.clone()))?);
            out.variables = true;
            at = range.end;
        } else {
            out.text.push('$');
            at = found + 1;
        }
    }
    out.text.push_str(&text[at..]);
    Ok(out)
}

fn is_variable(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn report_problem(report: &mut Report<'_>, span: Span, scalar: &Scalar, problem: Problem) {
    let (Problem::Unset(_, range) | Problem::Bad(range)) = &problem;
    let span = within(report, span, scalar, range);
    match problem {
        Problem::Unset(name, _) => {
            let message = format!("the environment variable `{name}` is not set");
            report
                .error(Code::UnsetVariable, span, message)
                .hint(format!("set it, or give a default: `${{{name}:-default}}`"));
        }
        Problem::Bad(_) => {
            report
                .error(Code::BadSubstitution, span, "`${` begins an environment variable, and this is none")
                .hint("write `${NAME}` or `${NAME:-default}`, or `$${` for `${` itself");
        }
    }
}

/// The place of `range` of the scalar's text, if the file has the text as it is (without escapes and folding).
fn within(report: &Report<'_>, span: Span, scalar: &Scalar, range: &Range<usize>) -> Span {
    let written = report.sources.slice(span).unwrap_or_default();
    match written.find(&scalar.text) {
        Some(offset) => {
            let start = span.start as usize + offset;
            Span::new(span.file, start + range.start..start + range.end)
        }
        None => span,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(name: &str) -> Option<String> {
        match name {
            "A" => Some("x: [1]\ny: 2".to_owned()),
            "W" => Some("9%".to_owned()),
            "EMPTY" => Some(String::new()),
            "NESTED" => Some("${W}".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn variables_are_put_in_once_and_as_they_are() {
        let rows = [
            ("${W}", Ok("9%")),
            ("a${W}b${W}c", Ok("a9%b9%c")),
            ("${A}", Ok("x: [1]\ny: 2")),
            ("${NESTED}", Ok("${W}")),
            ("${EMPTY}", Ok("")),
            ("${EMPTY:-d}", Ok("d")),
            ("${NO:-d}", Ok("d")),
            ("${NO:-}", Ok("")),
            ("${NO:-a:-b}", Ok("a:-b")),
            ("$${W}", Ok("${W}")),
            ("$$${W}", Ok("$${W}")),
            ("$W $ $$", Ok("$W $ $$")),
            ("é${W}", Ok("é9%")),
            ("a${NO}", Err(Problem::Unset("NO".into(), 1..6))),
            ("a${", Err(Problem::Bad(1..3))),
            ("${}", Err(Problem::Bad(0..3))),
            ("${1A}", Err(Problem::Bad(0..5))),
            ("${A-b}", Err(Problem::Bad(0..6))),
            ("${A:?b}", Err(Problem::Bad(0..7))),
            ("${ A }", Err(Problem::Bad(0..6))),
        ];
        for (text, expected) in rows {
            let found = expand(text, &environment).map(|expanded| expanded.text);
            assert_eq!(found, expected.map(str::to_owned), "{text:?}");
        }
    }
}
