//! Path patterns: exact `/a`, prefix by whole segments `/a/*`, regular expression `~/v[0-9]+/.*`.
//!
//! Paths are compared byte by byte as they are sent on: what the listener makes of them is done before, and nothing is
//! decoded, folded or normalised here. Which of several
//! patterns wins is `path_index`'s.

use std::fmt;

use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use regex::{Regex, RegexBuilder};

/// The largest compiled regular expression, in bytes: a bound on what one line of configuration can cost.
const MAX_REGEX: usize = 1 << 20;

/// What [`PathPattern::parse`] puts around a regular expression, so that it must match the whole path.
const ANCHORS: (&str, &str) = ("^(?:", ")$");

/// A path that a route is for.
#[derive(Debug, Clone)]
pub enum PathPattern {
    /// The whole path.
    Exact(String),
    /// This path or anything below it, by whole segments; without the `/*`, so `/*` is the empty text.
    Prefix(String),
    /// An anchored regular expression (the whole path must match).
    Regex(Regex),
}

impl PathPattern {
    /// Parses `/a`, `/a/*` or `~regex`.
    ///
    /// # Errors
    /// A sentence that says what is wrong and what may be written.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(source) = text.strip_prefix('~') {
            return parse_regex(source);
        }
        if text.is_empty() {
            return Err("the path is empty, write `/` for the root or `/*` for every path".to_owned());
        }
        if !text.starts_with('/') {
            return Err(format!(
                "a path begins with `/`, write `/{text}` (or `~` before a regular expression)"
            ));
        }
        let (path, prefix) = match text.strip_suffix("/*") {
            Some(path) => (path, true),
            None => (text, false),
        };
        check_path(path)?;
        Ok(if prefix { Self::Prefix(path.to_owned()) } else { Self::Exact(path.to_owned()) })
    }

    /// Whether a request for `path` (as sent) is for this pattern.
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => path == exact,
            Self::Prefix(prefix) => below(path, prefix).is_some(),
            Self::Regex(regex) => regex.is_match(path),
        }
    }

    /// The path with `replacement` in place of the matched prefix (of an exact path: of all of it); `None` when
    /// `path` does not match or the pattern is a regular expression. A route without paths rewrites as `/*` does.
    ///
    /// `/api/*` to `/v2` maps `/api` to `/v2`, `/api/` to `/v2/`, `/api/x` to `/v2/x`; to `/` it maps `/api/x` to `/x`.
    ///
    /// The result begins with one `/`, and with no second `/` nor `\` after it, whatever the path and the replacement
    /// are: in a `Location` header, `//host` and `/\host` lead a browser to another site, so `/api//evil.example`
    /// may not become `//evil.example`.
    pub fn rewrite(&self, path: &str, replacement: &str) -> Option<String> {
        let rest = match self {
            Self::Exact(exact) => (path == exact).then_some("")?,
            Self::Prefix(prefix) => below(path, prefix)?,
            Self::Regex(_) => return None,
        };
        let slash = |c: char| matches!(c, '/' | '\\');
        let base = replacement.trim_start_matches(slash);
        if base.is_empty() {
            return Some(format!("/{}", rest.trim_start_matches(slash)));
        }
        // One slash between the two: the one that `rest` begins with.
        let base = if rest.is_empty() { base } else { base.trim_end_matches('/') };
        Some(format!("/{base}{rest}"))
    }

    /// The regular expression as it was written, when this is one.
    pub(super) fn regex_source(&self) -> Option<&str> {
        let Self::Regex(regex) = self else { return None };
        let text = regex.as_str();
        let (before, after) = ANCHORS;
        Some(text.strip_prefix(before).and_then(|text| text.strip_suffix(after)).unwrap_or(text))
    }
}

/// The same text; regular expressions that are written differently differ.
impl PartialEq for PathPattern {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(a), Self::Exact(b)) | (Self::Prefix(a), Self::Prefix(b)) => a == b,
            (Self::Regex(a), Self::Regex(b)) => a.as_str() == b.as_str(),
            _ => false,
        }
    }
}

impl Eq for PathPattern {}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(path) => f.write_str(path),
            Self::Prefix(path) => write!(f, "{path}/*"),
            Self::Regex(regex) => write!(f, "~{}", self.regex_source().unwrap_or(regex.as_str())),
        }
    }
}

/// What follows `prefix` in `path`: nothing, or a text that begins with `/`.
fn below<'p>(path: &'p str, prefix: &str) -> Option<&'p str> {
    path.strip_prefix(prefix).filter(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn parse_regex(source: &str) -> Result<PathPattern, String> {
    if source.is_empty() {
        return Err("the regular expression is empty, write one after `~`, such as `~/v[0-9]+/.*`".to_owned());
    }
    let compile = |text: &str| RegexBuilder::new(text).size_limit(MAX_REGEX).build();
    let (before, after) = ANCHORS;
    // Alone first: `a)|(?:b` would fit between the anchors and get rid of them.
    match compile(source).and_then(|_| compile(&format!("{before}{source}{after}"))) {
        Ok(regex) => Ok(PathPattern::Regex(regex)),
        Err(regex::Error::CompiledTooBig(_)) => {
            Err("the regular expression is too large, write smaller repetitions or several paths".to_owned())
        }
        Err(error) => Err(format!("the regular expression is not valid: {}", last_line(&error.to_string()))),
    }
}

/// What a parse error of `regex` says, without the drawing above it.
fn last_line(error: &str) -> &str {
    let line = error.lines().last().unwrap_or(error);
    line.strip_prefix("error: ").unwrap_or(line)
}

fn check_path(path: &str) -> Result<(), String> {
    if path.contains('*') {
        return Err(
            "`*` may stand only as the last segment, write `/api/*`, or a regular expression after `~`"
                .into(),
        );
    }
    if path.contains(['?', '#']) {
        return Err(
            "a path has no query and no fragment, write a condition on `query:NAME` under `when`".to_owned()
        );
    }
    match path.chars().find(|c| !c.is_ascii_graphic()) {
        Some(c) => {
            let mut buffer = [0; 4];
            let encoded = percent_encode(c.encode_utf8(&mut buffer).as_bytes(), NON_ALPHANUMERIC);
            Err(format!("paths are compared as they are sent, write `{encoded}` for {c:?}"))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pattern(text: &str) -> PathPattern {
        PathPattern::parse(text).unwrap()
    }

    #[test]
    fn text_is_a_pattern_and_is_shown_as_it_was_written() {
        let rows = [
            ("/", PathPattern::Exact("/".into())),
            ("/a/b", PathPattern::Exact("/a/b".into())),
            ("/a/", PathPattern::Exact("/a/".into())),
            ("/*", PathPattern::Prefix(String::new())),
            ("/a/*", PathPattern::Prefix("/a".into())),
            ("/a//*", PathPattern::Prefix("/a/".into())),
            ("/caf%C3%A9", PathPattern::Exact("/caf%C3%A9".into())),
            ("~/v[0-9]+/.*", PathPattern::Regex(Regex::new("^(?:/v[0-9]+/.*)$").unwrap())),
        ];
        for (text, expected) in rows {
            assert_eq!(pattern(text), expected, "{text:?}");
            assert_eq!(expected.to_string(), text);
        }
        assert_ne!(pattern("/a"), pattern("/a/*"));
        assert_ne!(pattern("~/a"), pattern("~/b"));
    }

    #[test]
    fn text_that_is_no_pattern_is_refused_with_what_to_write() {
        let rows = [
            ("", "write `/`"),
            ("api", "write `/api`"),
            ("*", "begins with `/`"),
            ("/a*", "`*` may stand only as the last segment"),
            ("/a/**", "`*` may stand only as the last segment"),
            ("/*/b", "`*` may stand only as the last segment"),
            ("/*/*", "`*` may stand only as the last segment"),
            ("/a?b=c", "no query"),
            ("/a#b", "no fragment"),
            ("/a b", "write `%20` for ' '"),
            ("/café", "write `%C3%A9` for 'é'"),
            ("/a\n", "write `%0A`"),
            ("~", "is empty"),
            ("~/(a", "unclosed group"),
            ("~a)|(?:b", "unopened group"),
            ("~(?x)/a # note", "not valid"),
            ("~(?:[0-9]{1000}){1000}", "too large"),
        ];
        for (text, part) in rows {
            let error = PathPattern::parse(text).unwrap_err();
            assert!(error.contains(part), "{text:?}: {error}");
            assert!(!error.starts_with(char::is_uppercase) && !error.contains('\n'), "{text:?}: {error}");
        }
    }

    #[test]
    fn path_is_matched_whole_by_segments_or_by_expression() {
        let rows = [
            ("/a", "/a", true),
            ("/a", "/a/", false),
            ("/a", "/A", false),
            ("/a/", "/a/", true),
            ("/a/", "/a", false),
            ("/*", "/", true),
            ("/*", "/x/y", true),
            ("/*", "//", true),
            ("/*", "*", false),
            ("/api/*", "/api", true),
            ("/api/*", "/api/", true),
            ("/api/*", "/api/x", true),
            ("/api/*", "/api//x", true),
            ("/api/*", "/apix", false),
            ("/api/*", "/ap", false),
            ("/api/*", "/x/api", false),
            ("~/v[0-9]+", "/v12", true),
            ("~/v[0-9]+", "/v12/", false),
            ("~/v[0-9]+", "/x/v12", false),
            ("~/a|/b", "/b", true),
            ("~/a|/b", "/a/b", false),
            ("~^/v[0-9]+/$", "/v1/", true),
            ("~(?m)/a", "/b\n/a", false),
        ];
        for (text, path, expected) in rows {
            assert_eq!(pattern(text).matches(path), expected, "{text} for {path:?}");
        }
    }

    #[test]
    fn matched_part_is_replaced_and_slashes_are_joined() {
        let rows = [
            ("/api/*", "/api/x", "/", Some("/x")),
            ("/api/*", "/api", "/", Some("/")),
            ("/api/*", "/api/", "/", Some("/")),
            ("/api/*", "/api/x", "", Some("/x")),
            ("/api/*", "/api", "", Some("/")),
            ("/api/*", "/api/x", "/v2", Some("/v2/x")),
            ("/api/*", "/api", "/v2", Some("/v2")),
            ("/api/*", "/api/", "/v2", Some("/v2/")),
            ("/api/*", "/api", "/v2/", Some("/v2/")),
            ("/api/*", "/api/x", "/v2/", Some("/v2/x")),
            ("/api/*", "/api//x", "/v2", Some("/v2//x")),
            ("/api/*", "/api//evil.example", "/", Some("/evil.example")),
            ("/api/*", "/api/\\evil.example", "/", Some("/evil.example")),
            ("/api/*", "/api/x", "//evil.example", Some("/evil.example/x")),
            ("/api/*", "/apix", "/", None),
            ("/*", "/x", "/v2", Some("/v2/x")),
            ("/*", "//x", "/", Some("/x")),
            ("/*", "/", "/v2", Some("/v2/")),
            ("/a", "/a", "/b", Some("/b")),
            ("/a", "/a", "", Some("/")),
            ("/a", "/a/", "/b", None),
            ("~/a", "/a", "/b", None),
        ];
        for (text, path, replacement, expected) in rows {
            let rewritten = pattern(text).rewrite(path, replacement);
            assert_eq!(rewritten.as_deref(), expected, "{text} for {path:?} to {replacement:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn rewritten_path_begins_with_one_slash_and_keeps_what_was_not_matched(
            prefix in "(/[a/]{0,3})?",
            rest in r"(/[ab/\\]{0,5})?",
            replacement in r"[/\\]{0,2}[ab/\\]{0,4}",
        ) {
            let path = format!("{prefix}{rest}");
            let rewritten = PathPattern::Prefix(prefix).rewrite(&path, &replacement);
            let rewritten = rewritten.expect("a path below its own prefix matches");
            prop_assert!(rewritten.starts_with('/'), "{rewritten:?}");
            prop_assert!(!rewritten[1..].starts_with(['/', '\\']), "{rewritten:?}");
            let kept = rest.trim_start_matches(['/', '\\']);
            prop_assert!(rewritten.ends_with(kept), "{rewritten:?} ends with {kept:?}");
        }

        #[test]
        fn replacement_by_the_prefix_itself_changes_nothing(prefix in "(/[ab]{1,2}){1,3}", rest in "(/[ab/]{0,5})?") {
            let path = format!("{prefix}{rest}");
            prop_assert_eq!(PathPattern::Prefix(prefix.clone()).rewrite(&path, &prefix), Some(path));
        }
    }
}
