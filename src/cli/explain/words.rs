//! Words for what has no words in `logic`: conditions, values, places in the order of a list.

use crate::logic::condition::{Condition, RequestView, Test};

/// How many values of a list are shown.
const SHOWN: usize = 5;

/// Bytes as text in quotes: what is no text is replaced, what is not printable escaped.
pub(super) fn quoted(bytes: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(bytes))
}

/// A condition as one reads it: `header:x-tier in "free"`.
pub(super) fn condition(condition: &Condition) -> String {
    let not = if condition.not { "not " } else { "" };
    let test = match &condition.test {
        Test::In(values) => {
            let mut values: Vec<_> = values.iter().map(|value| quoted(value)).collect();
            values.sort_unstable();
            format!("{not}in {}", listed(&values))
        }
        Test::Prefix(prefix) => format!("{not}prefix {}", quoted(prefix)),
        Test::Suffix(suffix) => format!("{not}suffix {}", quoted(suffix)),
        Test::Matches(regex) => format!("{not}matches {:?}", regex.as_str()),
        Test::Present(wanted) => if *wanted == condition.not { "not present" } else { "present" }.to_owned(),
        Test::Cidr(networks) => {
            let networks: Vec<_> = networks.networks().iter().map(ToString::to_string).collect();
            format!("{not}cidr {}", listed(&networks))
        }
    };
    format!("{} {test}", condition.source)
}

/// What `request` has where the condition looks; `None` where there is nothing.
pub(super) fn value<R: RequestView>(condition: &Condition, request: &R) -> Option<String> {
    condition.source.value(request).map(|value| String::from_utf8_lossy(&value).into_owned())
}

/// `1st`, `2nd`, `3rd`, `4th`, `11th`, …
pub(super) fn ordinal(number: usize) -> String {
    let ending = match (number % 10, number % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{number}{ending}")
}

fn listed(values: &[String]) -> String {
    match values {
        [] => "nothing".to_owned(),
        values if values.len() <= SHOWN => values.join(", "),
        values => format!("{} and {} more", values[..SHOWN].join(", "), values.len() - SHOWN),
    }
}

#[cfg(test)]
mod tests {
    use regex::bytes::Regex;

    use super::*;
    use crate::logic::condition::Source;
    use crate::types::IpSet;

    #[test]
    fn condition_is_told_as_it_is_meant() {
        let one_of = |values: &[&str]| Test::In(values.iter().map(|value| value.as_bytes().into()).collect());
        let network = || Test::Cidr(IpSet::new(vec![IpSet::parse_network("10.0.0.0/8").unwrap()]));
        let rows = [
            (one_of(&["b", "a"]), false, r#"host in "a", "b""#),
            (
                one_of(&["a", "b", "c", "d", "e", "f", "g"]),
                true,
                r#"host not in "a", "b", "c", "d", "e" and 2 more"#,
            ),
            (one_of(&[]), false, "host in nothing"),
            (Test::Prefix(b"\"\xff"[..].into()), false, "host prefix \"\\\"\u{fffd}\""),
            (Test::Suffix(b"x"[..].into()), true, r#"host not suffix "x""#),
            (Test::Matches(Regex::new("^a+$").unwrap()), false, r#"host matches "^a+$""#),
            (Test::Present(true), false, "host present"),
            (Test::Present(true), true, "host not present"),
            (Test::Present(false), false, "host not present"),
            (Test::Present(false), true, "host present"),
            (network(), false, "host cidr 10.0.0.0/8"),
        ];
        for (test, not, expected) in rows {
            assert_eq!(condition(&Condition { source: Source::Host, test, not }), expected);
        }
    }

    #[test]
    fn place_in_a_list_has_its_ending() {
        let rows = [
            (1, "1st"),
            (2, "2nd"),
            (3, "3rd"),
            (4, "4th"),
            (11, "11th"),
            (12, "12th"),
            (21, "21st"),
            (113, "113th"),
        ];
        for (number, expected) in rows {
            assert_eq!(ordinal(number), expected);
        }
    }
}
