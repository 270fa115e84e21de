//! Targets of requests, in each form and in none.

use super::super::HeadError;
use super::request;

/// What a target is understood as: the authority, the path, and the query.
fn check_target(method: &str, target: &str, expected: Option<(Option<&str>, &str, Option<&str>)>) {
    let head = request(format!("{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
    let found = head.as_ref().map(|head| (head.authority(), head.path(), head.query()));
    assert_eq!(found.map_err(|error| *error), expected.ok_or(HeadError::Target), "{method} {target}");
    if let Ok(head) = head {
        let whole =
            head.query().map_or_else(|| head.path().to_owned(), |query| format!("{}?{query}", head.path()));
        assert_eq!(head.path_and_query(), whole, "{target}");
        assert_eq!(head.fields.get("host"), Some(&b"a"[..]), "{target}");
    }
}

#[test]
fn target_of_each_form_is_understood() {
    let rows = [
        ("/", None, "/", None),
        ("/a/b", None, "/a/b", None),
        ("/a?b=c", None, "/a", Some("b=c")),
        ("/?", None, "/", Some("")),
        ("/??", None, "/", Some("?")),
        ("/a?b?c/d", None, "/a", Some("b?c/d")),
        ("//a/b", None, "//a/b", None),
        ("/http://b/", None, "/http://b/", None),
        ("/a%00%zz%", None, "/a%00%zz%", None),
        ("/../..;a=b", None, "/../..;a=b", None),
        ("/{\"a\":[1]}", None, "/{\"a\":[1]}", None),
        ("/a\\b|c^d", None, "/a\\b|c^d", None),
        ("/\u{e9}?\u{20ac}", None, "/\u{e9}", Some("\u{20ac}")),
        ("*", None, "*", None),
        ("http://b", Some("b"), "/", None),
        ("http://b/", Some("b"), "/", None),
        ("http://b?c", Some("b"), "/", Some("c")),
        ("http://b:80/c?d", Some("b:80"), "/c", Some("d")),
        ("http://b:/c", Some("b:"), "/c", None),
        ("HTTP://B/", Some("B"), "/", None),
        ("http://127.0.0.1:1/", Some("127.0.0.1:1"), "/", None),
        ("http://[::1]/", Some("[::1]"), "/", None),
        ("http://[::ffff:1.2.3.4]:8", Some("[::ffff:1.2.3.4]:8"), "/", None),
        ("http://b//c", Some("b"), "//c", None),
    ];
    for (target, authority, path, query) in rows {
        check_target("GET", target, Some((authority, path, query)));
    }
}

#[test]
fn target_that_is_none_is_refused() {
    for target in [
        "a",
        "a/b",
        "?a",
        "?",
        "#",
        "/a#b",
        "/a?b#c",
        "/#",
        "\\",
        "\\a",
        "%2f",
        "**",
        "*a",
        "*/",
        "*?a",
        ".",
        "./a",
        "../a",
        "a:80",
        "b:80/c",
        "[::1]:80",
        "http:",
        "http:/",
        "http:/b",
        "http:b",
        "http://",
        "http:///",
        "http:///a",
        "http://?a",
        "http://#",
        "http://b#c",
        "http://b/c#d",
        "http://b/c?d#e",
        "http:\\\\b",
        "http://b\\c",
        "http://u@b/",
        "http://u:p@b/",
        "http://@b/",
        "http://b@/",
        "http://b@c@d/",
        "http://:80/",
        "http://b:80:80/",
        "http://b:c/",
        "http://b:-1/",
        "http://b:+1/",
        "http://[::1",
        "http://::1/",
        "http://[]/",
        "http://[::1]a/",
        "http://[::1]80/",
        "http://[g]/",
        "http://[::1%25eth0]/",
        "http://b%41/",
        "http://b\"/",
        "http://b<c>/",
        "http://b{c}/",
        "http://\u{e9}/",
        "ftp://b/",
        "ws://b/",
        "httpx://b/",
        "https//b/",
        "://b/",
        ":",
        "ahttp://b/",
        "javascript:alert(1)",
        "file:///etc",
        "/a<b",
        "/a>b",
        "/a`b",
        "/a?b\"c",
        "/a?<b",
        "/a?>b",
    ] {
        check_target("GET", target, None);
    }
}

#[test]
fn connect_names_host_and_port_and_only_options_is_about_the_server() {
    for target in ["b:443", "b.c:1", "127.0.0.1:80", "[::1]:443"] {
        check_target("CONNECT", target, Some((Some(target), "", None)));
        check_target("connect", target, None);
        check_target("GET", target, None);
    }
    for target in [
        "/",
        "*",
        "b",
        "b1",
        "b:",
        ":443",
        "[::1]",
        "u@b:443",
        "b:443/",
        "b:443?",
        "http://b:443",
        "http://b:443/",
        "b:4x",
    ] {
        check_target("CONNECT", target, None);
    }
    // Without a path and a query `OPTIONS` asks about the server (RFC 9112 §3.2.4).
    check_target("OPTIONS", "http://b", Some((Some("b"), "*", None)));
    check_target("OPTIONS", "http://b:80", Some((Some("b:80"), "*", None)));
    check_target("OPTIONS", "http://b/", Some((Some("b"), "/", None)));
    check_target("OPTIONS", "http://b?", Some((Some("b"), "/", Some(""))));
    check_target("OPTIONS", "*", Some((None, "*", None)));
}

#[test]
fn target_with_any_byte_is_accepted_or_refused_by_the_table() {
    for byte in 0..=255_u8 {
        // Alone the last are no UTF-8.
        let is_refused = matches!(byte, 0..=b' ' | 0x7f | b'#' | b'<' | b'>' | b'`' | 0x80..);
        let head = [b"GET /a", &[byte][..], b"b HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
        let found = request(&head);
        assert_eq!(found.is_err(), is_refused, "{byte:#x}");
        if let Ok(found) = found {
            assert_eq!(found.path_and_query().as_bytes(), [b'/', b'a', byte, b'b'], "{byte:#x}");
        }
    }
}

#[test]
fn scheme_of_the_target_is_known() {
    for (target, is_secure) in [("/", false), ("http://b/", false), ("https://b/", true), ("HTTPS://b", true)]
    {
        let head = request(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")).unwrap();
        assert_eq!(head.names_https(), is_secure, "{target}");
    }
}
