//! Paths of one host to the routes that want them, most specific path first. Knows nothing of hosts and conditions.

use regex::Regex;

use super::host_index::Map;
use super::path::PathPattern;

/// A route of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate {
    /// The route (index in file order).
    pub(super) route: usize,
    /// The path pattern of the route that matched; `None` when it names none.
    pub(super) path: Option<usize>,
    /// The number of its conditions beside host and path.
    pub(super) rank: usize,
}

/// The routes of one host by path.
#[derive(Debug, Default)]
pub(super) struct PathIndex {
    exact: Map<Box<str>, Vec<Candidate>>,
    /// By the prefix without its `/*`.
    prefixes: Map<Box<str>, Vec<Candidate>>,
    /// The length of the longest key of `prefixes`. A request's path of many segments costs no more look-ups than the
    /// configuration has reason for; without this bound a long path would cost the square of its length.
    longest: usize,
    /// In file order, tried one after the other: 25 to 35 ns each where they share their beginning with the path, less
    /// where they do not. A `RegexSet` would go over the path once, but allocate for every request that comes so far.
    regexes: Vec<(Regex, Vec<Candidate>)>,
    every: Vec<Candidate>,
}

impl PathIndex {
    /// Adds `candidate` under `pattern`; `None` is every path. Candidates come in file order.
    pub(super) fn add(&mut self, pattern: Option<&PathPattern>, candidate: Candidate) {
        let candidates = match pattern {
            None => &mut self.every,
            Some(PathPattern::Exact(path)) => self.exact.entry(path.as_str().into()).or_default(),
            Some(PathPattern::Prefix(path)) => {
                self.longest = self.longest.max(path.len());
                self.prefixes.entry(path.as_str().into()).or_default()
            }
            Some(PathPattern::Regex(regex)) => {
                let known = self.regexes.iter().position(|(known, _)| known.as_str() == regex.as_str());
                let at = known.unwrap_or_else(|| {
                    self.regexes.push((regex.clone(), Vec::new()));
                    self.regexes.len() - 1
                });
                &mut self.regexes[at].1
            }
        };
        // A route may name a path twice; its first mention counts.
        if candidates.last().is_none_or(|last| last.route != candidate.route) {
            candidates.push(candidate);
        }
    }

    /// Puts the candidates of each path into the order in which they are tried: more conditions, then file order.
    pub(super) fn sort(&mut self) {
        let lists = self.exact.values_mut().chain(self.prefixes.values_mut());
        for list in lists.chain(self.regexes.iter_mut().map(|(_, list)| list)).chain([&mut self.every]) {
            list.sort_by_key(|candidate| std::cmp::Reverse(candidate.rank));
            list.shrink_to_fit();
        }
    }

    /// The candidates for `path`, those of the most specific pattern first.
    pub(super) fn find(&self, path: &str) -> impl Iterator<Item = &[Candidate]> {
        let exact = self.exact.get(path);
        let regexes =
            self.regexes.iter().filter(move |(regex, _)| regex.is_match(path)).map(|(_, list)| list);
        exact.into_iter().chain(self.above(path)).chain(regexes).chain([&self.every]).map(Vec::as_slice)
    }

    /// The candidates of the prefixes of `path`, the longest first.
    fn above(&self, path: &str) -> impl Iterator<Item = &Vec<Candidate>> {
        let path = if self.prefixes.is_empty() { "" } else { path };
        let whole = (path.len() <= self.longest).then_some(path.len());
        let reach = path.as_bytes().get(..=self.longest).unwrap_or(path.as_bytes());
        let slashes = reach.iter().enumerate().rev().filter(|&(_, &byte)| byte == b'/').map(|(at, _)| at);
        whole.into_iter().chain(slashes).filter_map(move |end| self.prefixes.get(path.get(..end)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The patterns of `texts` that match `path`, in the order in which they are tried; `any` is a route without paths.
    fn order<'t>(texts: &[&'t str], path: &str) -> Vec<&'t str> {
        let mut index = PathIndex::default();
        for (route, &text) in texts.iter().enumerate() {
            let pattern = (text != "any").then(|| PathPattern::parse(text).unwrap());
            index.add(pattern.as_ref(), Candidate { route, path: None, rank: 0 });
        }
        index.sort();
        index.find(path).flatten().map(|candidate| texts[candidate.route]).collect()
    }

    #[test]
    fn most_specific_path_comes_first() {
        let texts =
            ["any", "~/api/.*", "~/.*", "/*", "/api/*", "/api/v1/*", "/api/v1", "/api/v1/", "/api//*", "/"];
        let rows: &[(&str, &[&str])] = &[
            ("/", &["/", "/*", "~/.*", "any"]),
            ("/api", &["/api/*", "/*", "~/.*", "any"]),
            ("/api/", &["/api//*", "/api/*", "/*", "~/api/.*", "~/.*", "any"]),
            ("/api/v1", &["/api/v1", "/api/v1/*", "/api/*", "/*", "~/api/.*", "~/.*", "any"]),
            ("/api/v1/", &["/api/v1/", "/api/v1/*", "/api/*", "/*", "~/api/.*", "~/.*", "any"]),
            ("/api/v1x", &["/api/*", "/*", "~/api/.*", "~/.*", "any"]),
            ("/api//v1", &["/api//*", "/api/*", "/*", "~/api/.*", "~/.*", "any"]),
            ("/apix", &["/*", "~/.*", "any"]),
            ("/é", &["/*", "~/.*", "any"]),
            ("*", &["any"]),
            ("", &["/*", "any"]),
        ];
        for (path, expected) in rows {
            assert_eq!(order(&texts, path), *expected, "{path:?}");
        }
    }

    #[test]
    fn long_path_is_searched_only_as_far_as_the_longest_prefix() {
        let path = "/a".repeat(4096);
        assert_eq!(order(&["/a/a/*", "/b/*"], &path), ["/a/a/*"]);
        let deep = format!("{path}/*");
        assert_eq!(order(&["/a/*", &deep], &path), [deep.as_str(), "/a/*"]);
    }

    #[test]
    fn candidates_of_one_path_are_ordered_by_rank_then_file() {
        let mut index = PathIndex::default();
        for (route, rank) in [0, 2, 1, 2].into_iter().enumerate() {
            index.add(Some(&PathPattern::parse("~/a").unwrap()), Candidate { route, path: Some(0), rank });
            index.add(Some(&PathPattern::parse("~/a").unwrap()), Candidate { route, path: Some(1), rank });
        }
        index.sort();
        let found: Vec<_> =
            index.find("/a").flatten().map(|candidate| (candidate.route, candidate.path)).collect();
        assert_eq!(found, [(1, Some(0)), (3, Some(0)), (2, Some(0)), (0, Some(0))]);
    }
}
