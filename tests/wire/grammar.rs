//! RFC 9112 §7.1 as it is printed, for comparison: slow, and of one piece.

use std::sync::LazyLock;

use regex::bytes::Regex;

const TOKEN: &str = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+";

fn regex(pattern: &str) -> Regex {
    Regex::new(&format!("(?s-u)^(?:{pattern})$")).unwrap()
}

/// `chunk-size [ chunk-ext ]`; the size is the first group.
static SIZE_LINE: LazyLock<Regex> = LazyLock::new(|| {
    let quoted = r#""(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*""#;
    let extension = format!(r"[ \t]*;[ \t]*{TOKEN}(?:[ \t]*=[ \t]*(?:{TOKEN}|{quoted}))?");
    regex(&format!("([0-9A-Fa-f]{{1,16}})(?:{extension})*"))
});

/// `field-line`
static FIELD_LINE: LazyLock<Regex> = LazyLock::new(|| regex(&format!(r"{TOKEN}:[\t\x20-\x7e\x80-\xff]*")));

/// The line at the beginning of `bytes`, and what stands behind its CR and LF.
fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    Some((&bytes[..end], &bytes[end + 2..]))
}

/// The data of the chunked body at the beginning of `bytes`, and how many of them it is; `None` where there is none.
pub fn chunked_body(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut rest, mut data) = (bytes, Vec::new());
    loop {
        let (size_line, behind) = line(rest)?;
        let size = SIZE_LINE.captures(size_line)?.get(1)?.as_bytes();
        let size = i64::from_str_radix(std::str::from_utf8(size).ok()?, 16).ok()?;
        rest = behind;
        if size == 0 {
            break;
        }
        let size = usize::try_from(size).ok()?;
        data.extend_from_slice(rest.get(..size)?);
        rest = rest[size..].strip_prefix(b"\r\n")?;
    }
    for _ in 0..=crate::wire::MAX_FIELDS {
        let (field, behind) = line(rest)?;
        rest = behind;
        if field.is_empty() {
            return Some((data, bytes.len() - rest.len()));
        }
        FIELD_LINE.is_match(field).then_some(())?;
    }
    None
}
