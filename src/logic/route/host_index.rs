//! Hosts to whatever belongs to them, most specific first. Knows nothing of paths and routes.

use std::collections::HashMap;
use std::net::Ipv6Addr;

use foldhash::fast::FixedState;

use super::host::{HostPattern, ipv6, without_root};

/// A map of the look-up path.
///
/// Strangers choose what is looked up, but never what is stored: the keys come from the configuration. So nobody can
/// make the table collide, and a fast hash without a secret is safe; a look-up ends at the first free slot whatever
/// its hash is. Memory-hard or keyed hashing (`SipHash`) would cost several times as much and protect nothing.
pub(super) type Map<K, V> = HashMap<K, V, FixedState>;

/// Values by host: exact names, wildcards, and one for every host.
#[derive(Debug)]
pub(super) struct HostIndex<T> {
    names: Map<Box<str>, Ports<T>>,
    addresses: Map<Ipv6Addr, Ports<T>>,
    /// By what follows `*.`.
    wildcards: Map<Box<str>, Ports<T>>,
    /// The length of the longest key of `wildcards`, so that a request's host of many labels costs no more look-ups
    /// than the configuration has reason for.
    longest: usize,
    every: Option<T>,
}

/// The values of one name.
#[derive(Debug)]
struct Ports<T> {
    /// By port, ascending.
    numbered: Vec<(u16, T)>,
    any: Option<T>,
}

impl<T> Default for HostIndex<T> {
    fn default() -> Self {
        Self {
            names: Map::default(),
            addresses: Map::default(),
            wildcards: Map::default(),
            longest: 0,
            every: None,
        }
    }
}

impl<T> Default for Ports<T> {
    fn default() -> Self {
        Self { numbered: Vec::new(), any: None }
    }
}

impl<T: Default> HostIndex<T> {
    /// The value of `pattern`, made when there is none yet; `None` is every host.
    pub(super) fn entry(&mut self, pattern: Option<&HostPattern>) -> &mut T {
        let Some(pattern) = pattern else { return self.every.get_or_insert_default() };
        let ports = if pattern.wildcard {
            self.longest = self.longest.max(pattern.name.len());
            self.wildcards.entry(pattern.name.as_str().into()).or_default()
        } else if let Some(address) = pattern.ipv6() {
            self.addresses.entry(address).or_default()
        } else {
            self.names.entry(pattern.name.as_str().into()).or_default()
        };
        let Some(port) = pattern.port else { return ports.any.get_or_insert_default() };
        let at = match ports.numbered.binary_search_by_key(&port, |entry| entry.0) {
            Ok(at) => at,
            Err(at) => {
                ports.numbered.insert(at, (port, T::default()));
                at
            }
        };
        &mut ports.numbered[at].1
    }
}

impl<T> HostIndex<T> {
    /// The most specific value for `host` (lower case, without port) and `port` that `wanted` accepts.
    pub(super) fn find(&self, host: &str, port: Option<u16>, wanted: impl Fn(&T) -> bool) -> Option<&T> {
        let host = without_root(host);
        let named = self.exact(host).into_iter().chain(self.suffixes(host));
        named.flat_map(|ports| ports.of(port)).chain(&self.every).find(|value| wanted(value))
    }

    /// All values.
    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        let named =
            self.names.values_mut().chain(self.addresses.values_mut()).chain(self.wildcards.values_mut());
        named
            .flat_map(|ports| ports.numbered.iter_mut().map(|entry| &mut entry.1).chain(&mut ports.any))
            .chain(&mut self.every)
    }

    fn exact(&self, host: &str) -> Option<&Ports<T>> {
        let name = self.names.get(host);
        // A name has no colon, so that only one of the two maps can know the host.
        if name.is_some() || self.addresses.is_empty() {
            return name;
        }
        self.addresses.get(&ipv6(host)?)
    }

    /// The wildcards over `host`, the longest first.
    fn suffixes(&self, host: &str) -> impl Iterator<Item = &Ports<T>> {
        let host = if self.wildcards.is_empty() { "" } else { host };
        // The dot before the longest suffix that can be known; one at 0 has no label before it.
        let first = host.len().saturating_sub(self.longest + 1).max(1);
        let dots = host.bytes().enumerate().skip(first).filter(|&(_, byte)| byte == b'.');
        dots.filter_map(move |(dot, _)| self.wildcards.get(host.get(dot + 1..)?))
    }
}

impl<T> Ports<T> {
    /// The values for `port`, the one that names it first.
    fn of(&self, port: Option<u16>) -> impl Iterator<Item = &T> {
        let numbered = port
            .and_then(|port| self.numbered.binary_search_by_key(&port, |entry| entry.0).ok())
            .and_then(|at| self.numbered.get(at));
        numbered.map(|entry| &entry.1).into_iter().chain(&self.any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(patterns: &[&str]) -> HostIndex<String> {
        let mut index = HostIndex::default();
        for &text in patterns {
            let pattern = (text != "any").then(|| HostPattern::parse(text).unwrap());
            text.clone_into(index.entry(pattern.as_ref()));
        }
        index
    }

    #[test]
    fn most_specific_host_is_found_first() {
        let index = index(&[
            "any",
            "shop.example.com",
            "shop.example.com:8080",
            "*.example.com",
            "*.example.com:8080",
            "*.shop.example.com",
            "*.com",
            "[::1]",
            "[::1]:90",
            "only.port.net:1",
        ]);
        let rows = [
            ("shop.example.com", None, "shop.example.com"),
            ("shop.example.com", Some(80), "shop.example.com"),
            ("shop.example.com", Some(8080), "shop.example.com:8080"),
            ("shop.example.com.", Some(8080), "shop.example.com:8080"),
            ("cart.example.com", None, "*.example.com"),
            ("cart.example.com", Some(8080), "*.example.com:8080"),
            ("a.shop.example.com", Some(8080), "*.shop.example.com"),
            ("a.b.shop.example.com", None, "*.shop.example.com"),
            ("example.com", None, "*.com"),
            ("com", None, "any"),
            (".com", None, "any"),
            ("", None, "any"),
            (".", None, "any"),
            ("example.org", Some(8080), "any"),
            ("[::1]", None, "[::1]"),
            ("[0::1]", Some(90), "[::1]:90"),
            ("[::2]", None, "any"),
            ("only.port.net", Some(1), "only.port.net:1"),
            ("only.port.net", Some(2), "any"),
            ("only.port.net", None, "any"),
        ];
        for (host, port, expected) in rows {
            let found = index.find(host, port, |_| true).map(String::as_str);
            assert_eq!(found, Some(expected), "{host:?} {port:?}");
        }
    }

    #[test]
    fn value_that_is_not_wanted_gives_way_to_the_next() {
        let index = index(&["any", "a.b.c:1", "a.b.c", "*.b.c", "*.c"]);
        let mut refused: Vec<String> = Vec::new();
        for expected in ["a.b.c:1", "a.b.c", "*.b.c", "*.c", "any"] {
            let found = index.find("a.b.c", Some(1), |value| !refused.contains(value));
            assert_eq!(found.map(String::as_str), Some(expected));
            refused.push(expected.to_owned());
        }
        assert_eq!(index.find("a.b.c", Some(1), |value| !refused.contains(value)), None);
    }

    #[test]
    fn every_value_is_listed_once() {
        let patterns = ["any", "a.b", "a.b:1", "a.b:2", "*.b", "[::1]"];
        let mut index = index(&patterns);
        let mut listed: Vec<_> = index.values_mut().map(|value| value.clone()).collect();
        listed.sort();
        let mut expected = patterns.map(str::to_owned);
        expected.sort();
        assert_eq!(listed, expected);
    }
}
