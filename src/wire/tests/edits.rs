//! Fields after arbitrary edits, against a slow model: rows of name and value.

use http::HeaderMap;
use proptest::prelude::*;
use proptest::sample::select;

use super::super::{Fields, Known, RequestHead, ResponseHead};
use super::{request, response, rows};

type Rows = Vec<(String, Vec<u8>)>;

#[derive(Debug, Clone)]
enum Edit {
    Append(String, Vec<u8>),
    AppendWith(String, Vec<u8>),
    Set(String, Vec<u8>),
    Remove(String),
    RemoveOthers(u8),
}

fn name() -> impl Strategy<Value = String> {
    let known = select(Known::ALL).prop_map(|known| known.as_str().to_owned());
    let cased = (known, any::<u64>()).prop_map(|(name, upper)| {
        let case = |(at, c): (usize, char)| {
            if upper >> (at % 64) & 1 == 1 { c.to_ascii_uppercase() } else { c }
        };
        name.chars().enumerate().map(case).collect()
    });
    let few = select(&["x-a", "X-A", "x-b", "host", "Host", "HOST", "te"]).prop_map(str::to_owned);
    prop_oneof![2 => few, 2 => cased, 1 => "[!#$%&'*+.^_`|~0-9A-Za-z-]{1,30}"]
}

/// A value as it is kept: without white space at its ends.
fn value() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![Just(b'\t'), b' '..=b'~', 0x80..=0xff_u8];
    prop::collection::vec(byte, 0..20).prop_map(|bytes| bytes.trim_ascii().to_vec())
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        2 => (name(), value()).prop_map(|(name, value)| Edit::Append(name, value)),
        2 => (name(), value()).prop_map(|(name, value)| Edit::AppendWith(name, value)),
        2 => (name(), value()).prop_map(|(name, value)| Edit::Set(name, value)),
        2 => name().prop_map(Edit::Remove),
        1 => any::<u8>().prop_map(Edit::RemoveOthers),
    ]
}

/// Fields as they may be sent: with white space of any kind around their values.
fn sent() -> impl Strategy<Value = Vec<(String, Vec<u8>, &'static str, &'static str)>> {
    let space = || select(&["", " ", " ", " ", "\t", " \t "]);
    prop::collection::vec((name(), value(), space(), select(&["", "", "", " ", "\t \t"])), 0..12)
}

fn text(sent: &[(String, Vec<u8>, &str, &str)]) -> Vec<u8> {
    let mut text = Vec::new();
    for (name, value, before, behind) in sent {
        for part in [name.as_bytes(), b":", before.as_bytes(), value, behind.as_bytes(), b"\r\n"] {
            text.extend_from_slice(part);
        }
    }
    text
}

fn apply(edit: &Edit, fields: &mut Fields, model: &mut Rows) {
    match edit {
        Edit::Append(name, value) => {
            fields.append(name.as_str(), value);
            model.push((name.clone(), value.clone()));
        }
        Edit::AppendWith(name, value) => {
            fields.append_with(name.as_str(), |text| text.extend_from_slice(value));
            model.push((name.clone(), value.clone()));
        }
        Edit::Set(name, value) => {
            fields.set(name.as_str(), value);
            model.retain(|row| !row.0.eq_ignore_ascii_case(name));
            model.push((name.clone(), value.clone()));
        }
        Edit::Remove(name) => {
            let before = model.len();
            model.retain(|row| !row.0.eq_ignore_ascii_case(name));
            assert_eq!(fields.remove(name.as_str()), model.len() < before, "{name}");
        }
        Edit::RemoveOthers(modulus) => {
            let is_gone = |name: &[u8]| name.len().is_multiple_of(usize::from(modulus % 4 + 1));
            fields.remove_others(is_gone);
            model.retain(|(name, _)| Known::of(name.as_bytes()).is_some() || !is_gone(name.as_bytes()));
        }
    }
}

/// Whether the fields answer as the model does.
fn check(fields: &Fields, model: &Rows) {
    let lower = |rows: &Rows| -> Rows {
        rows.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect()
    };
    assert_eq!(lower(&rows(fields)), lower(model));
    assert_eq!((fields.len(), fields.is_empty()), (model.len(), model.is_empty()));
    let asked = Known::ALL.iter().map(|known| known.as_str()).chain(["x-a", "X-B"]);
    for name in asked.chain(model.iter().map(|row| row.0.as_str())) {
        let of_name = model.iter().filter(|row| row.0.eq_ignore_ascii_case(name));
        let expected: Vec<_> = of_name.map(|row| row.1.as_slice()).collect();
        assert_eq!(fields.all(name).collect::<Vec<_>>(), expected, "{name}");
        assert_eq!(fields.get(name), expected.first().copied(), "{name}");
        assert_eq!(fields.contains(name), !expected.is_empty(), "{name}");
    }
    let others = model.iter().map(|row| row.0.as_str()).filter(|name| Known::of(name.as_bytes()).is_none());
    let others: Vec<_> = others.map(str::to_ascii_lowercase).collect();
    let found: Vec<_> =
        fields.others().map(|name| String::from_utf8(name.to_ascii_lowercase()).unwrap()).collect();
    assert_eq!(found, others);
    let mut map = HeaderMap::new();
    for (name, value) in model {
        map.append(
            http::HeaderName::from_bytes(name.as_bytes()).unwrap(),
            value.as_slice().try_into().unwrap(),
        );
    }
    assert_eq!(fields.to_map(), map);
    assert_eq!(Fields::from(&map).to_map(), map);
    let mut written = Vec::new();
    fields.write(&mut written);
    // A known name is written in lower case when it was added, else as it came.
    let expected: Vec<_> = model.iter().map(|(name, value)| (name.clone(), value.clone(), " ", "")).collect();
    assert!(written.eq_ignore_ascii_case(&text(&expected)), "{}", written.escape_ascii());
}

#[test]
fn white_space_around_a_value_of_http2_is_none_of_it() {
    for (sent, value) in [(" a", "a"), ("a\t", "a"), ("\t a b \t", "a b"), ("  ", ""), ("a", "a")] {
        let map: HeaderMap =
            [(http::HeaderName::from_static("x-user"), sent.try_into().unwrap())].into_iter().collect();
        assert_eq!(Fields::from(&map).get("x-user"), Some(value.as_bytes()), "{sent:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn edited_fields_are_those_of_the_model(sent in sent(), edits in prop::collection::vec(edit(), 0..12)) {
        let head = [&b"GET /a?b HTTP/1.1\r\n"[..], &text(&sent), b"\r\n"].concat();
        let mut head = request(&head).unwrap();
        let mut model: Rows = sent.iter().map(|(name, value, ..)| (name.clone(), value.clone())).collect();
        let mut own: Fields = model.iter().map(|(name, value)| (name.as_str(), value)).collect();
        check(&head.fields, &model);
        for edit in &edits {
            apply(edit, &mut head.fields, &mut model);
            check(&head.fields, &model);
        }
        let mut own_model: Rows = sent.iter().map(|(name, value, ..)| (name.clone(), value.clone())).collect();
        for edit in &edits {
            apply(edit, &mut own, &mut own_model);
        }
        check(&own, &own_model);
        prop_assert_eq!(&own, &head.fields);
        prop_assert_eq!((head.path(), head.query()), ("/a", Some("b")));
    }

    #[test]
    fn written_heads_are_read_again(
        sent in sent(),
        edits in prop::collection::vec(edit(), 0..6),
        method in "[!#$%&'*+.^_`|~0-9A-Za-z-]{1,12}",
        target in select(&["/", "/a/b?c=d&e", "/?", "*", "http://h", "http://h:8?q", "https://[::1]/p", "/\u{e9}"]),
        status in 100_u16..=999,
        reason in "[\t -~\u{80}-\u{ff}]{0,12}",
    ) {
        prop_assume!(method != "CONNECT" && method != "OPTIONS");
        let fields = [&text(&sent), &b"\r\n"[..]].concat();
        let mut model: Rows = sent.iter().map(|(name, value, ..)| (name.clone(), value.clone())).collect();
        let mut head = request([format!("{method} {target} HTTP/1.1\r\n").as_bytes(), &fields].concat()).unwrap();
        let mut answer = response([format!("HTTP/1.1 {status} {reason}\r\n").as_bytes(), &fields].concat()).unwrap();
        let mut other = model.clone();
        for edit in &edits {
            apply(edit, &mut head.fields, &mut model);
            apply(edit, &mut answer.fields, &mut other);
        }

        let mut written = Vec::new();
        head.write(head.path_and_query(), &mut written);
        written.extend_from_slice(b"\r\nmore");
        let (again, length) = RequestHead::parse(&written).unwrap().unwrap();
        prop_assert_eq!(length, written.len() - 4);
        prop_assert_eq!((&again.method, again.path_and_query()), (&head.method, head.path_and_query()));
        prop_assert_eq!(&again.fields, &head.fields);
        prop_assert_eq!(super::Length::of_request(&again), super::Length::of_request(&head));
        check(&again.fields, &model);

        written.clear();
        answer.write(&mut written);
        written.extend_from_slice(b"\r\nmore");
        let (again, length) = ResponseHead::parse(&written).unwrap().unwrap();
        prop_assert_eq!((length, again.status), (written.len() - 4, answer.status));
        prop_assert_eq!(&again.fields, &answer.fields);
        for method in [http::Method::GET, http::Method::HEAD] {
            let framing = super::Length::of_response(&again, &method);
            prop_assert_eq!(framing, super::Length::of_response(&answer, &method));
        }
        check(&again.fields, &other);
        if !reason.is_empty() {
            let line = format!("HTTP/1.1 {status} {reason}\r\n");
            prop_assert!(written.starts_with(line.as_bytes()));
        }
    }
}
