//! `weir assign`: units in, variants out.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};

use serde_json::{Value, json};
use weir::logic::split::hash::position;

use super::{Folder, SHOP};

/// The golden vectors of which every tenth is asked, each as a split of its own.
const VECTORS: &str = include_str!("../../golden/weir-split.jsonl");

#[test]
fn golden_unit_then_its_position_and_its_variant_are_printed() {
    let vectors: Vec<Value> =
        VECTORS.lines().step_by(10).map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(vectors.len(), 60);
    let mut text =
        "listeners: [{ bind: 127.0.0.1:0 }]\nupstreams: { one: { endpoints: [127.0.0.1:1] } }\n".to_owned();
    text += "routes: [{ upstream: one }]\nsplits:\n";
    for (index, vector) in vectors.iter().enumerate() {
        // JSON texts are YAML texts.
        let _ = writeln!(
            text,
            "  s{index}:\n    key: [header:x-user-id]\n    hash: {{ xxh3: {{ salt: {} }} }}",
            vector["salt"]
        );
        let _ = writeln!(text, "    variants:");
        for variant in vector["variants"].as_array().unwrap() {
            let weight = variant.get("ppm").map(|ppm| {
                let ppm = ppm.as_u64().unwrap();
                format!(", weight: {}.{:04}%", ppm / 10_000, ppm % 10_000)
            });
            let _ = writeln!(
                text,
                "      - {{ name: {}, upstream: one{} }}",
                variant["name"],
                weight.unwrap_or_default()
            );
        }
    }
    let folder = Folder::new(&text);
    for (index, vector) in vectors.iter().enumerate() {
        let split = format!("s{index}");
        let key = vector["key"].as_str().unwrap();
        let (variant, position) = (&vector["variant"], &vector["position"]);
        // By argument, by line, and as JSON: one after the other.
        let (args, input): (&[&str], String) = match index % 3 {
            0 => (&["--", key], String::new()),
            1 => (&[], key.to_owned()),
            _ => (&["--input", "json", "--output", "json"], json!({ "unit": key }).to_string()),
        };
        let done = folder.weir_with(&[&["assign", "--split", &split], args].concat(), input.as_bytes());
        let printed = done.printed(0);
        if index % 3 == 2 {
            let expected =
                json!({ "unit": key, "variant": variant, "position": position, "reason": "weights" });
            assert_eq!(serde_json::from_str::<Value>(&printed).unwrap(), expected, "{vector}");
        } else {
            let expected = format!("{key}\t{}\t{}\n", variant.as_str().unwrap(), position.as_str().unwrap());
            assert_eq!(printed, expected, "{vector}");
        }
    }
}

#[test]
fn unit_of_any_bytes_is_hashed_and_printed_as_it_is() {
    let folder = Folder::new(SHOP);
    let long = [b'k'; 1024];
    let units: [&[u8]; 7] = [b"42", " ünï\t".as_bytes(), b"\xff\xfe", b"a\rb", b"-", b"\"quoted\"", &long];
    let mut input = units.join(&b"\n"[..]);
    // The last line may end like a line of Windows.
    input.extend_from_slice(b"\r\n");
    let done = folder.weir_with(&["assign", "-s", "checkout"], &input);
    assert_eq!((done.code, &*done.err), (0, ""));
    let mut printed = done.out.split(|byte| *byte == b'\n');
    for unit in units {
        let line = printed.next().unwrap();
        let rest = line.strip_prefix(unit).and_then(|rest| rest.strip_prefix(b"\t")).unwrap();
        let (_, place) = std::str::from_utf8(rest).unwrap().split_once('\t').unwrap();
        assert_eq!(place, position("checkout", unit).to_string(), "{unit:?}");
    }
    assert_eq!(printed.collect::<Vec<_>>(), [b""]);

    let lines = r#"{"unit":"a\nb"}
{"unit_base64":"//4="}
{"unit":"\ud83d\ude00"}
"#;
    let args = ["assign", "-s", "checkout", "--input", "json", "--output", "json"];
    let printed = folder.weir_with(&args, lines.as_bytes()).printed(0);
    let rows: Vec<Value> = printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let expected = [
        ("a\nb", None, &b"a\nb"[..]),
        ("\u{fffd}\u{fffd}", Some("//4="), b"\xff\xfe"),
        ("😀", None, "😀".as_bytes()),
    ];
    assert_eq!(rows.len(), expected.len());
    for (row, (text, base64, bytes)) in rows.iter().zip(expected) {
        assert_eq!(row["unit"], text);
        assert_eq!(row.get("unit_base64").and_then(Value::as_str), base64);
        assert_eq!(row["position"], position("checkout", bytes).to_string());
    }
    // As a line of text it would be two.
    let done = folder.weir_with(&args[..5], lines.as_bytes());
    assert_eq!(done.code, 1);
    assert_eq!(done.err, "weir: line 1: its unit has a line break, which needs `--output json`\n");
    assert_eq!(String::from_utf8_lossy(&done.out).lines().count(), 2);
}

/// What `weir assign --input json` says of a line: the variant, the reason and the rule, or the complaint.
fn asked(folder: &Folder, split: &str, line: &str) -> String {
    let args = ["assign", "-s", split, "--input", "json", "-o", "json"];
    let done = folder.weir_with(&args, line.as_bytes());
    if done.code == 1 {
        assert_eq!(done.out, b"");
        return done.err.strip_prefix("weir: line 1: ").unwrap().trim_end().to_owned();
    }
    let row = done.json();
    let text = |name: &str| row.get(name).and_then(Value::as_str).unwrap_or("-").to_owned();
    ["variant", "reason", "rule"].map(text).join(" ")
}

#[test]
fn attributes_of_a_line_count_for_the_rules() {
    let rules = "\
listeners: [{ bind: 127.0.0.1:0 }]
upstreams: { one: { endpoints: [127.0.0.1:1] } }
routes: [{ upstream: one }]
splits:
  all:
    key: [header:x-id]
    variants: [{ name: base, upstream: one }, { name: pinned, upstream: one }]
    rules:
      - { name: header, when: [{ value: header:x-tier, in: [free] }], variant: pinned }
      - { name: twice, when: [{ value: header:x-twice, in: ['a, b'] }], variant: pinned }
      - { name: cookie, when: [{ value: cookie:c, in: ['1=2'] }], variant: pinned }
      - { name: query, when: [{ value: query:q r, in: ['a&b'] }], variant: pinned }
      - { name: raw, when: [{ value: query:raw, in: ['x y'] }], variant: pinned }
      - { name: path, when: [{ value: path:2, in: [cart] }], variant: pinned }
      - { name: host, when: [{ value: host, in: [shop.example.com] }], variant: pinned }
      - { name: office, when: [{ value: client_ip, cidr: [10.0.0.0/8] }], variant: pinned }
      - { name: key, when: [{ value: header:x-id, in: [vip] }], variant: pinned }
  ip: { key: [client_ip/24], variants: [{ name: base, upstream: one }] }
";
    let folder = Folder::new(rules);
    let rows = [
        (r#"{"unit":"1"}"#, "base weights -"),
        (r#"{"unit":"1","headers":{"X-Tier":"free"}}"#, "pinned rule header"),
        (r#"{"unit":"1","headers":{"x-twice":["a","b"]}}"#, "pinned rule twice"),
        (r#"{"unit":"1","cookies":{"b":"0","c":"1=2"}}"#, "pinned rule cookie"),
        (r#"{"unit":"1","query":{"q r":"a&b"}}"#, "pinned rule query"),
        (r#"{"unit":"1","path":"/a?raw=x+y"}"#, "pinned rule raw"),
        (r#"{"unit":"1","path":"/a/cart","method":"POST"}"#, "pinned rule path"),
        (r#"{"unit":"1","host":"SHOP.example.com:8080"}"#, "pinned rule host"),
        (r#"{"unit":"1","client_ip":"10.1.2.3"}"#, "pinned rule office"),
        // A given unit is carried by the first source of the key, unless the line says what stands there.
        (r#"{"unit":"vip"}"#, "pinned rule key"),
        (r#"{"unit":"vip","headers":{"x-id":"other"}}"#, "base weights -"),
        (r#"{"headers":{"x-id":"vip"}}"#, "pinned rule key"),
        (r#"{"headers":{"x-id":"1"}}"#, "base weights -"),
        ("{}", "base missing -"),
        (r#"{"headers":{"x-tier":"free"}}"#, "pinned rule header"),
    ];
    for (line, expected) in rows {
        assert_eq!(asked(&folder, "all", line), expected, "{line}");
    }
    assert_eq!(folder.weir(&["assign", "-s", "all", "vip", "1"]).printed(0).matches("pinned").count(), 1);
    assert_eq!(asked(&folder, "ip", r#"{"client_ip":"192.0.2.7"}"#), "base weights -");
    assert_eq!(asked(&folder, "ip", "{}"), "its unit is the client's address, and it has no `client_ip`");
}

#[test]
fn keyless_line_then_the_policy_of_the_split_decides() {
    let folder = Folder::new(SHOP);
    for (split, expected) in [
        ("checkout", "blue missing -"),
        ("session", "- weights -"),
        (
            "strict",
            "the proxy would refuse it with 400 (missing_key): the split needs a unit key and the request has none",
        ),
    ] {
        assert_eq!(asked(&folder, split, "{}"), expected, "{split}");
    }
    let twice = asked(&folder, "strict", r#"{"headers":{"x-user-id":["1","2"]}}"#);
    assert!(twice.contains("400 (ambiguous_key)"), "{twice}");
    let text = folder.weir_with(&["assign", "-s", "session", "--input", "json"], b"{}").printed(0);
    assert_eq!(text, "\t\t\n", "what has no value is empty");
}

#[test]
fn line_that_is_no_unit_is_told_and_the_others_are_assigned() {
    let folder = Folder::new(SHOP);
    let long = "k".repeat(1025);
    let done = folder.weir_with(&["assign", "-s", "checkout"], format!("1\n\n2\r\n\r\n{long}\n3").as_bytes());
    assert_eq!(done.code, 1);
    let units = String::from_utf8(done.out).unwrap();
    let units: Vec<_> = units.lines().map(|line| line.split_once('\t').unwrap().0).collect();
    assert_eq!(units, ["1", "2", "3"]);
    let expected = "weir: line 2: the unit key is empty\nweir: line 4: the unit key is empty\n\
                    weir: line 5: the unit key has 1025 bytes, at most 1024 are accepted\n";
    assert_eq!(done.err, expected);

    let done = folder.weir_with(&["assign", "-s", "checkout"], &[b'\n'; 1000]);
    assert_eq!((done.code, done.err.lines().count()), (1, 21));
    assert!(done.err.ends_with("weir: line 20: the unit key is empty\nweir: and 980 more\n"), "{}", done.err);

    let done = folder.weir_with(&["assign", "-s", "checkout", "1", "", "-", "2"], b"a\nb\n");
    assert_eq!((done.code, &*done.err), (1, "weir: argument 2: the unit key is empty\n"));
    let lines = String::from_utf8(done.out).unwrap();
    let units: Vec<_> = lines.lines().map(|line| line.split_once('\t').unwrap().0).collect();
    assert_eq!(units, ["1", "a", "b", "2"], "`-` is the standard input");

    for (line, part) in [
        ("42", "invalid type"),
        ("{", "EOF while parsing"),
        (r#"{"unit":42}"#, "invalid type: integer `42`, expected a string at column 10"),
        (r#"{"unit":"1","unit_base64":"MQ=="}"#, "give one"),
        (r#"{"unit_base64":"?"}"#, "`unit_base64` cannot be read"),
        (r#"{"unit":"1","header":{}}"#, "unknown field `header`"),
        (r#"{"unit":"1","headers":{"x-a":1}}"#, r#"`headers`: "x-a" is 1, write a text such as "1""#),
        (r#"{"unit":"1","headers":{"x a":"1"}}"#, "is not a header name"),
        (r#"{"unit":"1","cookies":{"a":"1;b=2"}}"#, "no request can carry"),
        (r#"{"unit":"1","path":"a"}"#, "does not begin with `/`"),
        (r#"{"unit":"1","host":"a b"}"#, "is not a host"),
        (r#"{"unit":"1","method":"GE T"}"#, "is not a method"),
        (r#"{"unit":"1","client_ip":"here"}"#, "invalid IP address"),
        (r#"{"unit":""}"#, "the unit key is empty"),
    ] {
        let complaint = asked(&folder, "checkout", line);
        assert!(complaint.contains(part), "{line}: {complaint}");
    }
}

#[test]
fn line_is_answered_before_the_next_is_given() {
    let folder = Folder::new(SHOP);
    let mut child = folder.command(&["assign", "-s", "checkout"]).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    for unit in ["1", "2", "3"] {
        stdin.write_all(format!("{unit}\n").as_bytes()).unwrap();
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        assert!(line.starts_with(&format!("{unit}\t")), "{line:?}");
    }
    drop(stdin);
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert_eq!((&*rest, child.wait().unwrap().code()), ("", Some(0)));
}

#[test]
fn reader_that_has_seen_enough_is_no_failure() {
    let folder = Folder::new(SHOP);
    let mut child = folder.command(&["assign", "-s", "checkout"]).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writing = std::thread::spawn(move || {
        // It ends when nobody reads any more.
        while stdin.write_all(&b"42\n".repeat(1000)).is_ok() {}
    });
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdout.read_line(&mut line).unwrap();
    drop(stdout);
    writing.join().unwrap();
    let done = child.wait_with_output().unwrap();
    assert_eq!((done.status.code(), done.stderr.as_slice()), (Some(0), &b""[..]));
}
