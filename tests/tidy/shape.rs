//! The shape of files and of the root: sizes, first lines, unfinished work, strays, links.

use crate::lexer::{after_bracket, spells, tokens};

/// What stands at the root, beside dotfiles and what `.gitignore` names.
const ROOT: &[&str] = &[
    "Cargo.lock",
    "Cargo.toml",
    "Makefile",
    "Dockerfile",
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "benches",
    "config",
    "deploy",
    "docs",
    "src",
    "tests",
];

/// The most lines of a file.
const MAX_LINES: usize = 600;

/// `#[allow(…)]` and macros that stand for unfinished work.
pub(crate) fn unfinished(path: &str, text: &str) -> Vec<String> {
    let tokens = tokens(text);
    let mut wrong = Vec::new();
    for (i, token) in tokens.iter().enumerate() {
        let attribute =
            token.text == "#" && tokens.get(i + 1).is_some_and(|t| ["[", "!"].contains(&t.text.as_str()));
        let open = i + 1 + usize::from(spells(&tokens[i..], &["#", "!"]));
        let allows = attribute && {
            let attribute = &tokens[open..after_bracket(&tokens, open)];
            (0..attribute.len()).any(|j| spells(&attribute[j..], &["allow", "("]))
        };
        let call = tokens.get(i + 1).is_some_and(|next| next.text == "!");
        let stub = call && ["todo", "unimplemented", "dbg"].contains(&token.text.as_str());
        if allows || stub {
            let what =
                if allows { "#[allow(…)], write #[expect(…, reason = \"…\")]" } else { &token.text };
            wrong.push(format!("{path}:{}: {what}", token.line));
        }
    }
    wrong
}

/// Too many lines, or (below `src`) no word of what the file is for.
pub(crate) fn misshapen(path: &str, text: &str) -> Vec<String> {
    let lines = text.lines().count();
    let mut wrong = Vec::new();
    if lines > MAX_LINES {
        wrong.push(format!("{path}: {lines} lines, at most {MAX_LINES}"));
    }
    if path.starts_with("src") && !text.starts_with("//!") {
        wrong.push(format!("{path}: does not begin with `//!`"));
    }
    wrong
}

/// Entries of the root that do not belong there.
pub(crate) fn strays(entries: &[String], ignored: &str) -> Vec<String> {
    let ignored: Vec<_> = ignored.lines().map(|line| line.trim().trim_matches('/')).collect();
    let belongs = |name: &str| name.starts_with('.') || ROOT.contains(&name) || ignored.contains(&name);
    entries.iter().filter(|name| !belongs(name)).cloned().collect()
}

/// The local files that a Markdown text links to, outside code.
pub(crate) fn links(text: &str) -> Vec<String> {
    let mut fenced = false;
    let mut found = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        let plain: String = line.split('`').step_by(2).collect::<Vec<_>>().join("code");
        let inline = plain.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next());
        let defined = plain.split_once("]: ").filter(|(name, _)| name.starts_with('[')).map(|(_, rest)| rest);
        for target in inline.chain(defined) {
            let file = target.trim().trim_matches(['<', '>']).split('#').next().unwrap_or_default();
            if !file.is_empty() && !file.contains("://") && !file.starts_with("mailto:") {
                found.push(file.to_owned());
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfinished_or_misshapen_file_is_named() {
        for text in
            ["#[allow(dead_code)]", "#![allow(x)]", "#[cfg_attr(a, allow(x))]", "todo!()", "unimplemented!()"]
        {
            assert_eq!(unfinished("src/a.rs", text).len(), 1, "{text}");
        }
        for text in
            ["#[expect(x, reason = \"allow(\")]", "// todo!()", "fn allow() { allow(1) }", "\"dbg!(\""]
        {
            assert!(unfinished("src/a.rs", text).is_empty(), "{text}");
        }
        assert_eq!(misshapen("tests/a.rs", &"\n".repeat(601)).len(), 1);
        assert_eq!(misshapen("src/a.rs", "use std::fs;").len(), 1);
        assert!(misshapen("src/a.rs", &format!("//! A.{}", "\n".repeat(599))).is_empty());
    }

    #[test]
    fn stray_entry_and_local_link_are_found() {
        let entries = ["src", ".ci", "notes.txt", "target"].map(str::to_owned);
        assert_eq!(strays(&entries, "/target\n"), ["notes.txt"]);
        let text = "[a](b.md#c) `[d](e.md)` [f](https://g.h) [i](#j)\n```\n[k](l.md)\n```\n[m]: n/o.md\n![p](q.svg \"r\")";
        assert_eq!(links(text), ["b.md", "n/o.md", "q.svg"]);
    }
}
