//! The files of a folder put together, section by section.
//!
//! Lists are put one behind the other in the order of the files, named entries are put together, and anything else may
//! stand in one file only.

use std::collections::HashMap;

use super::diagnostic::Code;
use super::node::{Kind, Node};
use super::raw::{LISTS, TABLES};
use super::report::Report;
use super::span::Span;

/// One tree of the trees of all files; what contradicts is in the report and the first stays.
pub(super) fn merge(report: &mut Report<'_>, files: Vec<Node>) -> Node {
    let mut merged: Vec<(Node, Node)> = Vec::new();
    let mut sections: HashMap<String, usize> = HashMap::new();
    let mut names: HashMap<(usize, String), Span> = HashMap::new();
    let mut place = Span::NONE;
    for file in files {
        if place.is_none() {
            place = file.span;
        }
        let entries = match file.kind {
            Kind::Map(entries) => entries,
            Kind::Null | Kind::Broken => continue,
            _ => {
                let message = format!("a mapping of sections is expected, not {}", file.describe());
                report.error(Code::WrongType, file.span, message);
                continue;
            }
        };
        for (key, value) in entries {
            let text = key.text().unwrap_or_default();
            let Some(&index) = sections.get(text) else {
                sections.insert(text.to_owned(), merged.len());
                if TABLES.contains(&text) {
                    remember(&mut names, merged.len(), &value);
                }
                merged.push((key, value));
                continue;
            };
            let first = merged[index].0.span;
            let known = &mut merged[index].1.kind;
            match (known, value.kind) {
                (Kind::Seq(items), Kind::Seq(more)) if LISTS.contains(&text) => items.extend(more),
                (Kind::Map(known), Kind::Map(more)) if TABLES.contains(&text) => {
                    for (name, entry) in more {
                        let text = name.text().unwrap_or_default().to_owned();
                        if let Some(&first) = names.get(&(index, text.clone())) {
                            let message = format!("`{}` is defined in two files", text.escape_debug());
                            report
                                .error(Code::DuplicateName, name.span, message)
                                .related(first, "first here");
                        } else {
                            names.insert((index, text), name.span);
                            known.push((name, entry));
                        }
                    }
                }
                (_, Kind::Broken) => {}
                _ => {
                    let message = format!("the section `{}` is defined in two files", text.escape_debug());
                    report
                        .error(Code::DuplicateSection, key.span, message)
                        .related(first, "first here")
                        .hint("only lists and named entries are merged, and only with their like");
                }
            }
        }
    }
    Node { span: place, kind: Kind::Map(merged) }
}

fn remember(names: &mut HashMap<(usize, String), Span>, section: usize, value: &Node) {
    if let Kind::Map(entries) = &value.kind {
        for (name, _) in entries {
            names.insert((section, name.text().unwrap_or_default().to_owned()), name.span);
        }
    }
}
