//! Rust as words and signs, and the paths that they spell.
//!
//! It knows comments, strings and `#[cfg(test)]`, no more: paths are seen as they are written, not through renamed
//! imports or macros.

/// A word or a sign of Rust, with its line.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) line: usize,
}

impl Token {
    pub(crate) fn is_word(&self) -> bool {
        self.text.starts_with(|c: char| c.is_alphanumeric() || c == '_')
    }
}

/// The words and signs of `source`, without comments, strings and characters; `::` is one sign.
pub(crate) fn tokens(source: &str) -> Vec<Token> {
    let chars: Vec<char> = source.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let mut found = Vec::new();
    let (mut i, mut line) = (0, 1);
    while i < chars.len() {
        let (start, c) = (i, chars[i]);
        if c == '/' && at(i + 1) == '/' {
            while i < chars.len() && at(i) != '\n' {
                i += 1;
            }
        } else if c == '/' && at(i + 1) == '*' {
            let mut depth = 0;
            loop {
                match (at(i), at(i + 1)) {
                    ('/', '*') => (depth, i) = (depth + 1, i + 2),
                    ('*', '/') => (depth, i) = (depth - 1, i + 2),
                    _ => i += 1,
                }
                if depth == 0 || i >= chars.len() {
                    break;
                }
            }
        } else if c == '"' {
            i = after_quote(&chars, i + 1, '"');
        } else if c == '\'' {
            let character = at(i + 1) == '\\' || at(i + 2) == '\'';
            i = if character { after_quote(&chars, i + 1, '\'') } else { i + 1 };
        } else if c.is_alphanumeric() || c == '_' {
            while at(i).is_alphanumeric() || at(i) == '_' {
                i += 1;
            }
            let text: String = chars[start..i].iter().collect();
            let hashes = chars[i..].iter().take_while(|&&c| c == '#').count();
            if ["r", "br", "cr"].contains(&text.as_str()) && at(i + hashes) == '"' {
                let end: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
                i += hashes + 1;
                while i < chars.len() && !chars[i..].starts_with(&end) {
                    i += 1;
                }
                i += end.len();
            } else {
                found.push(Token { text, line });
            }
        } else if c == ':' && at(i + 1) == ':' {
            found.push(Token { text: "::".to_owned(), line });
            i += 2;
        } else {
            if !c.is_whitespace() {
                found.push(Token { text: c.to_string(), line });
            }
            i += 1;
        }
        line += chars[start..i.min(chars.len())].iter().filter(|&&c| c == '\n').count();
    }
    found
}

fn after_quote(chars: &[char], mut i: usize, quote: char) -> usize {
    while i < chars.len() && chars[i] != quote {
        i += if chars[i] == '\\' { 2 } else { 1 };
    }
    i + 1
}

/// The index after the bracket that closes the one at `open`.
pub(crate) fn after_bracket(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0usize;
    for (i, token) in tokens.iter().enumerate().skip(open) {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return i + 1;
        }
    }
    tokens.len()
}

pub(crate) fn spells(tokens: &[Token], words: &[&str]) -> bool {
    tokens.len() >= words.len() && tokens.iter().zip(words).all(|(token, word)| token.text == *word)
}

/// `tokens` without what only tests are built from, and the modules in files of their own that only tests are.
pub(crate) fn without_tests(tokens: &[Token]) -> (Vec<Token>, Vec<String>) {
    let (mut kept, mut modules) = (Vec::new(), Vec::new());
    let mut i = 0;
    while i < tokens.len() {
        let inner = usize::from(spells(&tokens[i..], &["#", "!"]));
        let attribute = tokens[i].text == "#" && spells(&tokens[i + 1 + inner..], &["[", "cfg", "("]);
        let end = if attribute { after_bracket(tokens, i + 1 + inner) } else { i };
        let condition = &tokens[i..end];
        let test =
            condition.iter().any(|token| token.text == "test") && condition.iter().all(|t| t.text != "not");
        if !test {
            kept.push(tokens[i].clone());
            i += 1;
            continue;
        }
        if inner == 1 {
            return (Vec::new(), modules);
        }
        i = end;
        while tokens.get(i).is_some_and(|token| token.text == "#") {
            i = after_bracket(tokens, i + 1);
        }
        let item = i;
        while let Some(token) = tokens.get(i) {
            match token.text.as_str() {
                "{" => {
                    i = after_bracket(tokens, i);
                    break;
                }
                "(" | "[" => i = after_bracket(tokens, i),
                ";" => {
                    i += 1;
                    break;
                }
                "}" | ")" => break,
                _ => i += 1,
            }
        }
        let module = tokens[item..i].iter().position(|token| token.text == "mod");
        if let Some(module) = module.filter(|_| tokens[i - 1].text == ";") {
            modules.push(tokens[item + module + 1].text.clone());
        }
    }
    (kept, modules)
}

/// A path such as `std::net::IpAddr`, with its line; those of a `use a::{b, c}` each by itself.
pub(crate) struct Named {
    pub(crate) path: Vec<String>,
    pub(crate) line: usize,
}

pub(crate) fn paths(tokens: &[Token]) -> Vec<Named> {
    let mut found = Vec::new();
    let mut i = 0;
    while i < tokens.len() {
        i = if tokens[i].is_word() { tree(tokens, i, &mut Vec::new(), &mut found) } else { i + 1 };
    }
    found
}

/// Reads one path or tree of paths that begins at `i`; the index after it.
fn tree(tokens: &[Token], mut i: usize, prefix: &mut Vec<String>, found: &mut Vec<Named>) -> usize {
    let Some(token) = tokens.get(i) else { return i };
    if token.text == "{" && !prefix.is_empty() {
        i += 1;
        while tokens.get(i).is_some_and(|token| token.text != "}") {
            i = if tokens[i].text == "," { i + 1 } else { tree(tokens, i, prefix, found).max(i + 1) };
        }
        return i + 1;
    }
    prefix.push(token.text.clone());
    let goes_on = |next: &Token| next.is_word() || next.text == "{" || next.text == "*";
    let end = if tokens.get(i + 1).is_some_and(|t| t.text == "::") && tokens.get(i + 2).is_some_and(goes_on) {
        tree(tokens, i + 2, prefix, found)
    } else {
        found.push(Named { path: prefix.clone(), line: token.line });
        i + 1
    };
    prefix.pop();
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> String {
        tokens(text).iter().map(|token| token.text.as_str()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn comment_string_or_character_then_no_token() {
        let rows = [
            ("a // b\nc", "a c"),
            ("a /* b /* c */ d */ e", "a e"),
            (r#"a "b \" c" d"#, "a d"),
            ("a r#\"b \" c\"# d", "a d"),
            ("a br\"b\" r#type d", "a r # type d"),
            (r"a '\'' b 'c' d 'e: f", "a b d e : f"),
            ("a::b", "a :: b"),
        ];
        for (text, expected) in rows {
            assert_eq!(words(text), expected, "{text:?}");
        }
        assert_eq!(tokens("a\n\"\n\"\n b").last().map(|token| token.line), Some(4));
    }

    #[test]
    fn test_code_is_left_out_and_the_rest_stays() {
        let text = "a #[cfg(test)] #[x] mod t { b } c #[cfg(test)] mod d; e #[cfg(not(test))] f \
                    #[cfg(all(test, unix))] fn g(h: [u8; 2]) -> i { j } k";
        let (kept, modules) = without_tests(&tokens(text));
        let kept: Vec<_> =
            kept.iter().filter(|token| token.is_word()).map(|token| token.text.as_str()).collect();
        assert_eq!(kept, ["a", "c", "e", "cfg", "not", "test", "f", "k"]);
        assert_eq!(modules, ["d"]);
        assert!(without_tests(&tokens("#![cfg(test)] a")).0.is_empty());
    }
}
