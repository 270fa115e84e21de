//! What paths come to, against tables, the letter of RFC 3986, and a browser's reading.

use std::borrow::Cow;

use proptest::prelude::*;

use crate::wire::path::{AmbiguousPath, DotSegments, HiddenSlashes, PathRules, Slashes, dot_segments};

const REFUSED: Option<&str> = None;

fn check(rules: PathRules, rows: &[(&str, Option<&str>)]) {
    for (path, expected) in rows {
        let settled = rules.settled(path);
        assert_eq!(settled.as_deref().ok(), *expected, "{path:?} by {rules:?}");
        if let Ok(settled) = settled {
            assert_eq!(rules.settled(&settled).as_deref(), Ok(&*settled), "{path:?}, again");
            assert_eq!(matches!(settled, Cow::Borrowed(_)), settled == *path, "{path:?}");
        }
    }
}

#[test]
fn path_is_resolved_and_one_that_may_be_read_otherwise_is_refused() {
    let rows = [
        ("/", Some("/")),
        ("/a/b", Some("/a/b")),
        ("*", Some("*")),
        ("", Some("")),
        // Dot segments, however the dots are written.
        ("/a/../b", Some("/b")),
        ("/a/./b", Some("/a/b")),
        ("/a/%2e%2e/b", Some("/b")),
        ("/a/%2E%2e/b", Some("/b")),
        ("/a/.%2e/b", Some("/b")),
        ("/a/%2e./b", Some("/b")),
        ("/a/%2e/b", Some("/a/b")),
        ("/..", Some("/")),
        ("/../..", Some("/")),
        ("/../../a", Some("/a")),
        ("/a/..", Some("/")),
        ("/a/.", Some("/a/")),
        ("/a/b/..", Some("/a/")),
        ("/a;x/../b", Some("/b")),
        ("/a;x=1/./b;y", Some("/a;x=1/b;y")),
        ("/a//../b", Some("/a/b")),
        ("/a/..//b", Some("//b")),
        // What only looks like one.
        ("/.well-known/a", Some("/.well-known/a")),
        ("/..a/...", Some("/..a/...")),
        ("/a./b..", Some("/a./b..")),
        ("/a.b/c.d", Some("/a.b/c.d")),
        // Slashes and what is hidden stay, where no segment of dots comes of it.
        ("//a//b/", Some("//a//b/")),
        ("/a%2fb", Some("/a%2Fb")),
        ("/a%5cb", Some("/a%5Cb")),
        ("/a\\b", Some("/a\\b")),
        ("/group%2Fproject/-/raw/a..b", Some("/group%2Fproject/-/raw/a..b")),
        // Escapes: unreserved characters have none, the others one way to be written.
        ("/%61dmin", Some("/admin")),
        ("/%41%7e%2D%5f%39", Some("/A~-_9")),
        ("/caf%c3%a9", Some("/caf%C3%A9")),
        ("/a%20b", Some("/a%20b")),
        ("/a%3fb%23c", Some("/a%3Fb%23c")),
        ("/café", Some("/café")),
        ("/50%25", Some("/50%25")),
        ("/%252f", Some("/%252f")),
        ("/%2561", Some("/%2561")),
        ("/%C0%C1", Some("/%C0%C1")),
        // No escapes, and no tricks either.
        ("/a%", Some("/a%")),
        ("/a%4", Some("/a%4")),
        ("/100%/%zz/%u0061", Some("/100%/%zz/%u0061")),
        // Read otherwise by some.
        ("/a/..%2fb", REFUSED),
        ("/a/..%2Fb", REFUSED),
        ("/a%2f..", REFUSED),
        ("/a%2f../b", REFUSED),
        ("/a%2f.%2fb", REFUSED),
        ("/a/..%5cb", REFUSED),
        ("/a\\..\\b", REFUSED),
        ("/a/..\\b", REFUSED),
        ("/..;/b", REFUSED),
        ("/a/..;x=1/b", REFUSED),
        ("/a/.;/b", REFUSED),
        ("/a/..%3bx/b", REFUSED),
        ("/a/..%3fb", REFUSED),
        ("/a/..%23/b", REFUSED),
        ("/a/%252e%252e/b", REFUSED),
        ("/a/%25%32%65%252e/b", REFUSED),
        ("/a/%25252e%25252e/b", REFUSED),
        ("/a/..%252fb", REFUSED),
        ("/a/%c0%ae%c0%ae/b", REFUSED),
        ("/a/..%c0%afb", REFUSED),
        ("/a/..%c1%9cb", REFUSED),
        ("/a/%e0%80%ae./b", REFUSED),
        ("/a/%f0%80%80%ae./b", REFUSED),
        ("/a/%ef%bc%8e%ef%bc%8e/b", REFUSED),
        ("/a/\u{ff0e}\u{ff0e}/b", REFUSED),
        ("/a/\u{2025}/b", REFUSED),
        ("/a/..\u{2215}b", REFUSED),
        ("/a/..%09/b", REFUSED),
        ("/a/..%20/b", REFUSED),
        ("/a/.%0a./b", REFUSED),
        ("/a/..%00/b", REFUSED),
        ("/a%00", REFUSED),
        ("/a%c0%80", REFUSED),
        ("/a/%%32e./b", REFUSED),
        ("/a/%U002e./b", REFUSED),
        ("/a/%uFF0E%uff0e/b", REFUSED),
        ("/a/..%u2215b", REFUSED),
        ("/a/%u002e%u002e/b", REFUSED),
        // One of both kinds.
        ("/a/../b/..%2fc", REFUSED),
    ];
    check(PathRules::default(), &rows);
    let sent: Vec<_> = rows.iter().map(|(path, _)| (*path, Some(*path))).collect();
    check(PathRules::AS_SENT, &sent);
}

#[test]
fn each_rule_does_its_own() {
    let plain = PathRules::AS_SENT;
    let merge = PathRules { slashes: Slashes::Merge, ..plain };
    check(
        merge,
        &[("//a///b//", Some("/a/b/")), ("/a/../b", Some("/a/../b")), ("/a%2f%2Fb", Some("/a%2f%2Fb"))],
    );
    // As a file system has it: first the slashes, then the dots.
    check(
        PathRules { slashes: Slashes::Merge, ..PathRules::default() },
        &[("/a//../b", Some("/b")), ("//a/.//b", Some("/a/b")), ("/a/..//..//", Some("/"))],
    );
    check(
        PathRules { slashes: Slashes::Refuse, ..plain },
        &[("/a/b/", Some("/a/b/")), ("//", REFUSED), ("/a//b", REFUSED), ("/a/..//b", REFUSED)],
    );
    let decode = PathRules { hidden_slashes: HiddenSlashes::Decode, ..PathRules::default() };
    check(
        decode,
        &[
            ("/a%2fb%5Cc\\d", Some("/a/b/c/d")),
            ("/a/..%2fb", Some("/b")),
            ("/a%2f..%5c..\\b", Some("/b")),
            ("/a/..%252fb", REFUSED),
            ("/%2f", Some("//")),
        ],
    );
    check(
        PathRules { slashes: Slashes::Merge, ..decode },
        &[("/%2f%2Fa", Some("/a")), ("/a%2f/..%2fb", Some("/b"))],
    );
    check(
        PathRules { hidden_slashes: HiddenSlashes::Refuse, ..plain },
        &[("/a%2fb", REFUSED), ("/a%5Cb", REFUSED), ("/a\\b", REFUSED), ("/a%252fb", Some("/a%252fb"))],
    );
    check(
        PathRules { dot_segments: DotSegments::Refuse, ..plain },
        &[
            ("/a/..", REFUSED),
            ("/%2e/a", REFUSED),
            ("/a/..%2f", Some("/a/..%2f")),
            ("/.a/a.", Some("/.a/a.")),
        ],
    );
    check(
        PathRules { dot_segments: DotSegments::Keep, ..PathRules::default() },
        &[("/a/../%2e", Some("/a/../.")), ("/a/..;", REFUSED), ("/a/../..%2f", REFUSED)],
    );
    check(
        PathRules { normalizes_escapes: true, ..plain },
        // A stray `%` gets no digits from what is decoded behind it.
        &[
            ("/%%361", Some("/%%361")),
            ("/%4%31", Some("/%4%31")),
            ("/%%34%31", Some("/%%341")),
            ("/%zz%61", Some("/%zza")),
            ("/%2561%", Some("/%2561%")),
        ],
    );
    check(
        PathRules { normalizes_escapes: false, ..PathRules::default() },
        &[("/%61/%2e%2E/%62", Some("/%62")), ("/%c3%a9", Some("/%c3%a9"))],
    );
}

/// RFC 3986 §5.2.4, step by step.
fn remove_dot_segments(path: &str) -> String {
    let (mut input, mut output) = (path.to_owned(), String::new());
    while !input.is_empty() {
        if input.starts_with("/./") {
            input.replace_range(..2, "");
        } else if input == "/." {
            "/".clone_into(&mut input);
        } else if input.starts_with("/../") || input == "/.." {
            input = if input == "/.." { "/".to_owned() } else { input[3..].to_owned() };
            output.truncate(output.rfind('/').unwrap_or(0));
        } else {
            let end = input[1..].find('/').map_or(input.len(), |at| at + 1);
            output.push_str(&input[..end]);
            input.replace_range(..end, "");
        }
    }
    output
}

fn any_rules() -> impl Strategy<Value = PathRules> {
    let dots = prop_oneof![Just(DotSegments::Resolve), Just(DotSegments::Refuse), Just(DotSegments::Keep)];
    let slashes = prop_oneof![Just(Slashes::Keep), Just(Slashes::Merge), Just(Slashes::Refuse)];
    let hidden =
        prop_oneof![Just(HiddenSlashes::Keep), Just(HiddenSlashes::Decode), Just(HiddenSlashes::Refuse)];
    (dots, slashes, hidden, any::<bool>(), any::<bool>()).prop_map(
        |(dot_segments, slashes, hidden_slashes, normalizes_escapes, refuses_ambiguous)| PathRules {
            dot_segments,
            slashes,
            hidden_slashes,
            normalizes_escapes,
            refuses_ambiguous,
        },
    )
}

/// What tricks are made of.
fn any_path() -> impl Strategy<Value = String> {
    let parts = [
        "/", "/", ".", "..", "/../", "/./", "%2e", "%2E", "%2f", "%5c", "\\", "%25", "%", "2", "e", "%32",
        "%65", "a", "%61", ";", "%3b", "%00", "%c0", "%ae", "é", "\u{ff0e}", "%09", "//",
    ];
    let text = prop::collection::vec(prop::sample::select(parts.to_vec()), 0..12);
    text.prop_map(|parts| format!("/{}", parts.concat()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn settled_path_is_settled_and_has_nothing_that_the_rules_take_out(rules in any_rules(), path in any_path()) {
        check_settled(rules, &path)?;
    }

    #[test]
    fn any_text_is_settled_or_refused(rules in any_rules(), path in "/\\PC{0,20}") {
        check_settled(rules, &path)?;
    }

    #[test]
    fn dots_are_resolved_as_the_standard_has_it_and_as_browsers_do(path in "/[a./]{0,12}") {
        let rules = PathRules { dot_segments: DotSegments::Resolve, ..PathRules::AS_SENT };
        let settled = rules.settled(&path).unwrap();
        prop_assert_eq!(&settled, &remove_dot_segments(&path));
        let url = url::Url::parse(&format!("http://host{path}")).unwrap();
        prop_assert_eq!(&settled, url.path());
    }

    #[test]
    fn path_of_plain_words_is_what_it_was(path in "(/[a-z0-9_.~-]*[a-z0-9][a-z0-9_.~-]*){0,4}/?") {
        for rules in [PathRules::default(), PathRules { slashes: Slashes::Merge, ..PathRules::default() }] {
            prop_assert_eq!(rules.settled(&path), Ok(Cow::Borrowed(&*path)));
        }
    }
}

fn check_settled(rules: PathRules, path: &str) -> Result<(), TestCaseError> {
    let Ok(settled) = rules.settled(path) else {
        prop_assert!(rules != PathRules::AS_SENT);
        return Ok(());
    };
    prop_assert!(settled.starts_with('/'), "{settled:?}");
    prop_assert_eq!(rules.settled(&settled), Ok(Cow::Borrowed(&*settled)), "again, of {:?}", path);
    if rules.dot_segments != DotSegments::Keep {
        prop_assert_eq!(dot_segments(&settled), 0, "{:?}", settled);
    }
    if rules.slashes != Slashes::Keep {
        prop_assert!(!settled.contains("//"), "{settled:?}");
    }
    if rules.hidden_slashes != HiddenSlashes::Keep {
        let lower = settled.to_ascii_lowercase();
        prop_assert!(!["%2f", "%5c", "\\"].iter().any(|hidden| lower.contains(hidden)), "{settled:?}");
    }
    if rules == PathRules::AS_SENT {
        prop_assert_eq!(&settled, path);
    }
    Ok(())
}

#[test]
fn longest_path_is_settled_in_time_that_grows_with_its_length() {
    // No clock: what would take the square of the length does not end within a test's patience.
    for part in ["/..", "/%2e", "%25", "%252e/", "//", "\\", "%c0%ae"] {
        let path = format!("/{}", part.repeat((1 << 20) / part.len()));
        let _: Result<_, AmbiguousPath> = PathRules::default().settled(&path);
    }
}
