//! One condition: a source and a test of its value.
//!
//! It knows nothing of routes and rules, which both hold lists of these. Where a value is read: [`super::source`].

use std::collections::HashSet;
use std::net::IpAddr;

use ipnet::IpNet;
use regex::bytes::Regex;

use super::certificate::Part;
use super::{RequestView, Source};
use crate::types::IpSet;

/// A condition on a request.
#[derive(Debug, Clone)]
pub struct Condition {
    /// What is looked at.
    pub source: Source,
    /// What must be true of it.
    pub test: Test,
    /// Whether the opposite is wanted (`not: true`). A missing value fails every test, so its opposite holds.
    pub not: bool,
}

/// What must be true of a value.
#[derive(Debug, Clone)]
pub enum Test {
    /// The value is one of these.
    In(HashSet<Box<[u8]>>),
    /// The value begins with this.
    Prefix(Box<[u8]>),
    /// The value ends with this.
    Suffix(Box<[u8]>),
    /// The regular expression is found in the value.
    Matches(Regex),
    /// The value is there (`true`) or not (`false`); an empty value is there.
    Present(bool),
    /// The value is an IP address (white space around it aside) inside one of these networks, or a whole network inside
    /// one of them (`client_ip/24`).
    Cidr(IpSet),
}

impl Condition {
    /// Whether the condition holds for `request`.
    ///
    /// A missing value fails every test but `present: false`; `not` then turns the answer around. A certificate's names
    /// (`tls:san`) pass a test when one of them does.
    pub fn holds<R: RequestView>(&self, request: &R) -> bool {
        let passes = match (&self.test, &self.source) {
            // No text is made of the address only to read it back.
            (Test::Cidr(networks), Source::ClientIp { v4: None, v6: None }) => {
                networks.contains(request.client_ip())
            }
            (Test::Present(wanted), source) => source.value(request).is_some() == *wanted,
            // A certificate may have many names, and which is first says nothing about whose it is.
            (test, Source::Tls(Part::San)) => request
                .certificate()
                .is_some_and(|of| of.names.iter().any(|name| test.passes(name.as_bytes()))),
            (test, source) => source.value(request).is_some_and(|value| test.passes(&value)),
        };
        passes != self.not
    }
}

impl Test {
    fn passes(&self, value: &[u8]) -> bool {
        match self {
            Self::In(values) => values.contains(value),
            Self::Prefix(prefix) => value.starts_with(prefix),
            Self::Suffix(suffix) => value.ends_with(suffix),
            Self::Matches(regex) => regex.is_match(value),
            Self::Present(wanted) => *wanted,
            Self::Cidr(networks) => is_inside(value, networks),
        }
    }
}

fn is_inside(value: &[u8], networks: &IpSet) -> bool {
    let Ok(text) = std::str::from_utf8(value.trim_ascii()) else { return false };
    if let Ok(ip) = text.parse::<IpAddr>() {
        return networks.contains(ip);
    }
    let Ok(network) = text.parse::<IpNet>() else { return false };
    networks.networks().iter().any(|outer| outer.contains(&network))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::condition::fake::Fake;

    fn networks(texts: &[&str]) -> Test {
        Test::Cidr(IpSet::new(texts.iter().map(|text| IpSet::parse_network(text).unwrap()).collect()))
    }

    fn one_of(values: &[&str]) -> Test {
        Test::In(values.iter().map(|value| value.as_bytes().into()).collect())
    }

    fn check(source: &str, rows: Vec<(Test, Fake, bool)>) {
        for (test, request, expected) in rows {
            let source = Source::parse(source).unwrap();
            for (not, expected) in [(false, expected), (true, !expected)] {
                let condition = Condition { source: source.clone(), test: test.clone(), not };
                assert_eq!(condition.holds(&request), expected, "{condition:?} of {request:?}");
            }
        }
    }

    #[test]
    fn value_is_tested_and_a_missing_one_fails() {
        let none = Fake::new;
        let id = |value: &str| Fake::new().header("x-id", value);
        let regex = |text: &str| Test::Matches(Regex::new(text).unwrap());
        let prefix = |text: &str| Test::Prefix(text.as_bytes().into());
        let suffix = |text: &str| Test::Suffix(text.as_bytes().into());
        check(
            "header:x-id",
            vec![
                (one_of(&["a", "b"]), id("b"), true),
                (one_of(&["a", "b"]), id(" b\t"), true),
                (one_of(&["a", "b"]), id("B"), false),
                (one_of(&["a", "b"]), id("a").header("x-id", "b"), false),
                (one_of(&["a, b"]), id("a").header("x-id", "b"), true),
                (one_of(&[]), id("a"), false),
                (one_of(&[""]), id(""), true),
                (one_of(&[""]), none(), false),
                (prefix("eu-"), id("eu-west"), true),
                (prefix("eu-"), id("us-eu-"), false),
                (prefix(""), id(""), true),
                (prefix(""), none(), false),
                (suffix("-west"), id("eu-west"), true),
                (suffix("-west"), id("-west-1"), false),
                (regex("b+"), id("abbc"), true),
                (regex("^b+$"), id("abbc"), false),
                (regex(""), none(), false),
                (regex("(?-u)\\xff"), Fake::new().header_bytes("x-id", b"\xff"), true),
                (Test::Present(true), id("a"), true),
                (Test::Present(true), id(""), true),
                (Test::Present(true), none(), false),
                (Test::Present(false), none(), true),
                (Test::Present(false), id(""), false),
                (Test::Present(false), id("a"), false),
            ],
        );
    }

    #[test]
    fn address_in_a_header_is_tested_when_it_is_one() {
        let id = |value: &str| Fake::new().header("x-id", value);
        check(
            "header:x-id",
            vec![
                (networks(&["10.0.0.0/8"]), id("10.1.2.3"), true),
                (networks(&["10.0.0.0/8"]), id(" 10.1.2.3 "), true),
                (networks(&["10.0.0.0/8"]), id("::ffff:10.1.2.3"), true),
                (networks(&["10.0.0.0/8"]), id("11.1.2.3"), false),
                (networks(&["10.0.0.0/8"]), id("10.1.2.3:80"), false),
                (networks(&["10.0.0.0/8"]), id("10.1.2.3, 10.1.2.3"), false),
                (networks(&["10.0.0.0/8"]), id("010.1.2.3"), false),
                (networks(&["10.0.0.0/8"]), id("ten"), false),
                (networks(&["10.0.0.0/8"]), id(""), false),
                (networks(&["0.0.0.0/0", "::/0"]), Fake::new(), false),
                (networks(&["2001:db8::/32"]), id("2001:DB8::1"), true),
                (networks(&[]), id("10.1.2.3"), false),
            ],
        );
    }

    #[test]
    fn client_address_is_tested_whole_and_as_a_network() {
        let ip = |ip: &str| Fake::new().client_ip(ip);
        for source in ["client_ip", "client_ip/24/64"] {
            check(
                source,
                vec![
                    (networks(&["192.0.2.0/24"]), ip("192.0.2.9"), true),
                    (networks(&["192.0.2.0/24"]), ip("::ffff:192.0.2.9"), true),
                    (networks(&["192.0.0.0/16"]), ip("192.0.2.9"), true),
                    (networks(&["192.0.2.0/24"]), ip("192.0.3.9"), false),
                    (networks(&["2001:db8::/32"]), ip("2001:db8::9"), true),
                    (networks(&["2001:db8::/32", "0.0.0.0/0"]), ip("2001:db9::9"), false),
                ],
            );
        }
        let half = || networks(&["192.0.2.0/25"]);
        check("client_ip", vec![(half(), ip("192.0.2.9"), true)]);
        check("client_ip/24", vec![(half(), ip("192.0.2.9"), false)]);
    }

    #[test]
    fn names_of_a_certificate_pass_where_one_does_and_its_other_parts_are_one_value() {
        let shown = || Fake::new().certificate(&["spiffe://a/b", "b.test"], Some("bob"), "ab12");
        let prefix = |text: &str| Test::Prefix(text.as_bytes().into());
        check(
            "tls:san",
            vec![
                (one_of(&["spiffe://a/b"]), shown(), true),
                (one_of(&["b.test"]), shown(), true),
                (one_of(&["bob"]), shown(), false),
                (prefix("spiffe://a/"), shown(), true),
                (prefix(""), Fake::new().certificate(&[], Some("bob"), "ab12"), false),
                (prefix(""), Fake::new(), false),
                (Test::Present(true), shown(), true),
                (Test::Present(true), Fake::new().certificate(&[], None, "ab12"), false),
                (Test::Present(false), Fake::new(), true),
            ],
        );
        check("tls:cn", vec![(one_of(&["bob"]), shown(), true), (one_of(&["bob"]), Fake::new(), false)]);
        check("tls:fingerprint", vec![(one_of(&["ab12"]), shown(), true), (prefix("AB"), shown(), false)]);
    }
}
