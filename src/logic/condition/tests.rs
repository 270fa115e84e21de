//! Which text names which source, and which bytes each source reads of a request.

use std::num::NonZeroUsize;

use http::HeaderName;
use proptest::prelude::*;

use super::Source;
use super::certificate::Part;
use super::fake::Fake;

fn source(text: &str) -> Source {
    Source::parse(text).unwrap()
}

#[test]
fn text_is_read_as_the_source_it_names() {
    let segment = |n| Source::Path(NonZeroUsize::new(n).unwrap());
    let ip = |v4, v6| Source::ClientIp { v4, v6 };
    let rows = [
        ("header:X-User-Id", Source::Header(HeaderName::from_static("x-user-id")), "header:x-user-id"),
        ("cookie:Sid", Source::Cookie("Sid".into()), "cookie:Sid"),
        ("cookie:a[b]", Source::Cookie("a[b]".into()), "cookie:a[b]"),
        ("query:user id", Source::Query("user id".into()), "query:user id"),
        ("query:a:b", Source::Query("a:b".into()), "query:a:b"),
        ("path:1", segment(1), "path:1"),
        ("path:12", segment(12), "path:12"),
        ("host", Source::Host, "host"),
        ("client_ip", ip(None, None), "client_ip"),
        ("client_ip/0", ip(Some(0), None), "client_ip/0"),
        ("client_ip/32", ip(Some(32), None), "client_ip/32"),
        ("client_ip/33", ip(None, Some(33)), "client_ip/33"),
        ("client_ip/128", ip(None, Some(128)), "client_ip/128"),
        ("client_ip/24/64", ip(Some(24), Some(64)), "client_ip/24/64"),
        ("client_ip/24/20", ip(Some(24), Some(20)), "client_ip/24/20"),
        ("tls:san", Source::Tls(Part::San), "tls:san"),
        ("tls:cn", Source::Tls(Part::CommonName), "tls:cn"),
        ("tls:fingerprint", Source::Tls(Part::Fingerprint), "tls:fingerprint"),
    ];
    for (text, expected, printed) in rows {
        assert_eq!(Source::parse(text).as_ref(), Ok(&expected), "{text}");
        assert_eq!(expected.to_string(), printed, "{text}");
        assert_eq!(Source::parse(printed), Ok(expected), "{printed}");
    }
}

#[test]
fn text_that_is_no_source_is_refused_with_what_may_be_written() {
    let rows = [
        ("", "write `header:NAME`"),
        ("x-user-id", "\"x-user-id\" is not a source, write `header:NAME`"),
        ("hedaer:x", "did you mean `header`?"),
        ("Header:x", "did you mean `header`?"),
        ("client-ip", "did you mean `client_ip`?"),
        ("claim:sub", "\"claim\" is not a source, write `header:NAME`"),
        ("header", "the name is missing, write `header:NAME`"),
        ("header:", "\"\" is not a header name"),
        ("header: x", "\" x\" is not a header name"),
        ("header::authority", "\":authority\" is not a header name"),
        ("cookie:", "\"\" is not a cookie name"),
        ("cookie:a=b", "\"a=b\" is not a cookie name"),
        ("query:", "\"\" is not a parameter name"),
        ("query: q", "\" q\" is not a parameter name"),
        ("path", "the segment is missing, write `path:1`"),
        ("path:0", "\"0\" is not a segment, write `path:1`"),
        ("path:+1", "\"+1\" is not a segment"),
        ("path:01", "\"01\" is not a segment"),
        ("path:99999999999999999999", "is not a segment"),
        ("host:x", "`host` takes no name"),
        ("client_ip:24", "`client_ip` takes no name"),
        ("client_ip/", "write `client_ip/24`"),
        ("client_ip/129", "write `client_ip/24`"),
        ("client_ip/33/64", "write `client_ip/24`"),
        ("client_ip/24/64/96", "write `client_ip/24`"),
        ("tls", "the part is missing, write `tls:san`"),
        ("tls:", "\"\" is not in a certificate, write `tls:san`"),
        ("tls:SAN", "\"SAN\" is not in a certificate, write `tls:san`"),
    ];
    for (text, expected) in rows {
        let error = Source::parse(text).expect_err(text);
        assert!(error.contains(expected), "{text}: {error}");
    }
}

/// What a key reads (`Err` is ambiguous) and what a condition reads, of one request.
type Row<'a> = (&'a str, Fake, Result<Option<&'a str>, ()>, Option<&'a str>);

fn check(rows: Vec<Row<'_>>) {
    for (text, request, key, value) in rows {
        let read = source(text).read(&request).map_err(|_| ());
        assert_eq!(read, key.map(|key| key.map(|key| key.as_bytes().into())), "read {text} of {request:?}");
        let seen = source(text).value(&request);
        assert_eq!(seen.as_deref(), value.map(str::as_bytes), "value {text} of {request:?}");
    }
}

#[test]
fn header_is_read_as_sent_and_never_guessed() {
    let fields = |values: &[&str]| values.iter().fold(Fake::new(), |fake, value| fake.header("x-id", value));
    check(vec![
        ("header:x-id", fields(&[]), Ok(None), None),
        ("header:x-id", fields(&["42"]), Ok(Some("42")), Some("42")),
        ("header:X-ID", fields(&["aB %41+"]), Ok(Some("aB %41+")), Some("aB %41+")),
        ("header:x-id", fields(&["\t 4 2 \t"]), Ok(Some("4 2")), Some("4 2")),
        ("header:x-id", fields(&["1, 2"]), Ok(Some("1, 2")), Some("1, 2")),
        ("header:x-id", fields(&[""]), Ok(None), Some("")),
        ("header:x-id", fields(&[" \t"]), Ok(None), Some("")),
        ("header:x-id", fields(&["", " "]), Ok(None), Some(", ")),
        ("header:x-id", fields(&["1", " 1"]), Ok(Some("1")), Some("1, 1")),
        ("header:x-id", fields(&["1", "2"]), Err(()), Some("1, 2")),
        ("header:x-id", fields(&["1", "1", "2"]), Err(()), Some("1, 1, 2")),
        ("header:x-id", fields(&["a", "A"]), Err(()), Some("a, A")),
        ("header:x-id", fields(&["1", ""]), Err(()), Some("1, ")),
        ("header:x-id", fields(&[" ", "1"]), Err(()), Some(", 1")),
        (
            "header:cookie",
            Fake::new().header("cookie", "a=1").header("cookie", "b=2"),
            Ok(Some("a=1; b=2")),
            { Some("a=1; b=2") },
        ),
    ]);
}

#[test]
fn header_bytes_that_are_no_text_are_kept() {
    let request = Fake::new().header_bytes("x-id", b"\xff\xfe\x80");
    let value = source("header:x-id").read(&request).unwrap();
    assert_eq!(value.as_deref(), Some(&b"\xff\xfe\x80"[..]));
}

#[test]
fn first_cookie_of_the_name_counts_over_all_fields() {
    let fields =
        |values: &[&str]| values.iter().fold(Fake::new(), |fake, value| fake.header("cookie", value));
    check(vec![
        ("cookie:s", fields(&[]), Ok(None), None),
        ("cookie:s", fields(&["s=1"]), Ok(Some("1")), Some("1")),
        ("cookie:s", fields(&["a=0; s=1; s=2"]), Ok(Some("1")), Some("1")),
        ("cookie:s", fields(&["a=0", "s=1", "s=2"]), Ok(Some("1")), Some("1")),
        ("cookie:s", fields(&["a=0;s=1"]), Ok(Some("1")), Some("1")),
        ("cookie:s", fields(&["a=0;\t s = 1 \t; b=2"]), Ok(Some("1")), Some("1")),
        ("cookie:s", fields(&["s=\"1\""]), Ok(Some("\"1\"")), Some("\"1\"")),
        ("cookie:s", fields(&["s=a=b=="]), Ok(Some("a=b==")), Some("a=b==")),
        ("cookie:s", fields(&["s=%41+b"]), Ok(Some("%41+b")), Some("%41+b")),
        ("cookie:s", fields(&["s="]), Ok(None), Some("")),
        ("cookie:s", fields(&["s=; s=1"]), Ok(None), Some("")),
        ("cookie:s", fields(&["s; s=1"]), Ok(Some("1")), Some("1")),
        ("cookie:s", fields(&["S=1; ss=2; =3; ;;"]), Ok(None), None),
    ]);
}

#[test]
fn first_parameter_of_the_name_counts_decoded() {
    let query = |query: &str| Fake::new().query(query);
    check(vec![
        ("query:q", Fake::new(), Ok(None), None),
        ("query:q", query(""), Ok(None), None),
        ("query:q", query("q=1"), Ok(Some("1")), Some("1")),
        ("query:q", query("a=0&q=1&q=2"), Ok(Some("1")), Some("1")),
        ("query:q", query("q=a+b%20c%2Bd"), Ok(Some("a b c+d")), Some("a b c+d")),
        ("query:q", query("%71=1"), Ok(Some("1")), Some("1")),
        ("query:a b", query("a+b=1"), Ok(Some("1")), Some("1")),
        ("query:a=b", query("a%3Db=1"), Ok(Some("1")), Some("1")),
        ("query:q", query("q=%C3%BC"), Ok(Some("ü")), Some("ü")),
        ("query:q", query("q=%zz%4%"), Ok(Some("%zz%4%")), Some("%zz%4%")),
        ("query:q", query("q=%+41"), Ok(Some("% 41")), Some("% 41")),
        ("query:q", query("q=%%34%31"), Ok(Some("%41")), Some("%41")),
        ("query:q", query("q=a=b&&"), Ok(Some("a=b")), Some("a=b")),
        ("query:q", query("q=1;q=2"), Ok(Some("1;q=2")), Some("1;q=2")),
        ("query:q", query("q"), Ok(None), Some("")),
        ("query:q", query("q=&q=1"), Ok(None), Some("")),
        ("query:q", query("Q=1&qq=2"), Ok(None), None),
    ]);
}

#[test]
fn segment_is_counted_from_one_and_decoded() {
    let path = |path: &str| Fake::new().path(path);
    check(vec![
        ("path:1", path("/"), Ok(None), Some("")),
        ("path:2", path("/"), Ok(None), None),
        ("path:1", path("/a/b"), Ok(Some("a")), Some("a")),
        ("path:2", path("/a/b"), Ok(Some("b")), Some("b")),
        ("path:3", path("/a/b"), Ok(None), None),
        ("path:3", path("/a/b/"), Ok(None), Some("")),
        ("path:2", path("/a//b"), Ok(None), Some("")),
        ("path:3", path("/a//b"), Ok(Some("b")), Some("b")),
        ("path:1", path("/a%2Fb/c"), Ok(Some("a/b")), Some("a/b")),
        ("path:1", path("/a+b%20c"), Ok(Some("a+b c")), Some("a+b c")),
        ("path:1", path("/a%4"), Ok(Some("a%4")), Some("a%4")),
        ("path:1", path("/a;v=1/b"), Ok(Some("a;v=1")), Some("a;v=1")),
        ("path:1", path("*"), Ok(None), None),
    ]);
}

#[test]
fn host_is_the_views_host() {
    check(vec![
        (
            "host",
            Fake::new().host("shop.example.com"),
            Ok(Some("shop.example.com")),
            Some("shop.example.com"),
        ),
        ("host", Fake::new().host(""), Ok(None), None),
    ]);
}

#[test]
fn client_address_is_canonical_text_or_its_network() {
    let rows = [
        ("client_ip", "192.0.2.1", "192.0.2.1"),
        ("client_ip", "::ffff:192.0.2.1", "192.0.2.1"),
        ("client_ip", "2001:DB8:0:0:0:0:0:1", "2001:db8::1"),
        ("client_ip", "2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"),
        ("client_ip", "2001:0:0:1:0:0:0:1", "2001:0:0:1::1"),
        ("client_ip/24", "192.0.2.77", "192.0.2.0/24"),
        ("client_ip/24", "::ffff:192.0.2.77", "192.0.2.0/24"),
        ("client_ip/24", "2001:db8::1", "2001:db8::1"),
        ("client_ip/32", "192.0.2.77", "192.0.2.77/32"),
        ("client_ip/0", "192.0.2.77", "0.0.0.0/0"),
        ("client_ip/64", "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("client_ip/64", "192.0.2.77", "192.0.2.77"),
        ("client_ip/24/64", "192.0.2.77", "192.0.2.0/24"),
        ("client_ip/24/64", "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("client_ip/24/20", "2001:db8:1:2:3:4:5:6", "2001::/20"),
    ];
    check(
        rows.iter()
            .map(|(text, ip, expected)| {
                (*text, Fake::new().client_ip(ip), Ok(Some(*expected)), Some(*expected))
            })
            .collect(),
    );
}

proptest! {
    #[test]
    fn source_printed_is_the_source_read(text in "(header|cookie|query|path|host|client_ip)?[:/]?\\PC{0,12}") {
        if let Ok(source) = Source::parse(&text) {
            prop_assert_eq!(Source::parse(&source.to_string()), Ok(source));
        }
    }

    #[test]
    fn any_bytes_are_read_without_harm(field: Vec<u8>, query in "[a&=+%0-9 ]{0,24}", path in "/[a/%0-9]{0,24}") {
        let request = Fake::new().header_bytes("cookie", &field).header_bytes("x", &field);
        let request = request.query(&query).path(&path);
        for text in ["header:x", "cookie:a", "query:a", "path:1", "path:2"] {
            let (source, value) = (source(text), source(text).value(&request));
            prop_assert_eq!(source.read(&request).unwrap(), value.filter(|value| !value.is_empty()));
        }
    }
}
