//! Routes that can never be taken because an earlier one takes all that they would. For warnings, not for the look-up.

use super::host_index::Map;
use super::{HostPattern, RouteMatch};

/// Pairs of a route that can never be taken and the earlier one that takes its place (indices in file order), each
/// such route once.
///
/// Conservative: a pair is certain, but not every unreachable route is found. The earlier route must know every host
/// and every path of the later one by the very same pattern, have the same number of conditions, none of them in
/// `when`, and allow all of its methods and listeners.
pub fn shadowed(routes: &[RouteMatch]) -> Vec<(usize, usize)> {
    // Only routes with a pattern of host and path in common can shadow each other; one such pair of the later route is
    // enough to find them, so that thousands of routes need not be compared in pairs.
    let mut earlier: Map<(Option<&HostPattern>, Option<String>), Vec<usize>> = Map::default();
    let mut pairs = Vec::new();
    for (index, route) in routes.iter().enumerate().filter(|(_, route)| route.when.is_empty()) {
        let first = (route.hosts.first(), route.paths.first().map(ToString::to_string));
        let shadow =
            earlier.get(&first).and_then(|list| list.iter().find(|&&other| covers(&routes[other], route)));
        if let Some(&shadow) = shadow {
            pairs.push((index, shadow));
            continue;
        }
        for host in options(&route.hosts) {
            for path in options(&route.paths) {
                earlier.entry((host, path.map(ToString::to_string))).or_default().push(index);
            }
        }
    }
    pairs
}

/// Whether `first`, which stands earlier and has no `when`, takes all that `second`, without `when` too, could take.
fn covers(first: &RouteMatch, second: &RouteMatch) -> bool {
    let listeners = match (&first.listeners, &second.listeners) {
        (None, None) => true,
        (Some(first), Some(second)) => second.iter().all(|listener| first.contains(listener)),
        _ => false,
    };
    listeners
        && among(&second.hosts, &first.hosts)
        && among(&second.paths, &first.paths)
        && among(&second.methods, &first.methods)
}

/// Whether all of `items` are in `all`. An empty list means everything, but as another pattern or another rank, so it
/// covers an empty list only.
fn among<T: PartialEq>(items: &[T], all: &[T]) -> bool {
    items.is_empty() == all.is_empty() && items.iter().all(|item| all.contains(item))
}

/// The items, or once `None` when there are none.
fn options<T>(items: &[T]) -> impl Iterator<Item = Option<&T>> {
    items.iter().map(Some).chain(items.is_empty().then_some(None))
}

#[cfg(test)]
mod tests {
    use super::super::oracle::route;
    use super::*;

    #[test]
    fn route_that_an_earlier_one_replaces_is_reported() {
        let check = |texts: &[&str], expected: &[(usize, usize)]| {
            let routes: Vec<_> = texts.iter().map(|text| route(text)).collect();
            assert_eq!(shadowed(&routes), expected, "{texts:?}");
        };
        check(&["", ""], &[(1, 0)]);
        check(&["", "", ""], &[(1, 0), (2, 0)]);
        check(&["a /x", "b /x", "a /y", "a /x"], &[(3, 0)]);
        check(&["a b /x /y", "b /y"], &[(1, 0)]);
        check(&["b /y", "a b /x /y"], &[]);
        check(&["GET POST", "POST"], &[(1, 0)]);
        check(&["GET", "HEAD"], &[]);
        check(&["GET", "GET HEAD"], &[]);
        check(&["", "GET"], &[]);
        check(&["GET", ""], &[]);
        check(&["", "a"], &[]);
        check(&["a", ""], &[]);
        check(&["@0 @1", "@1"], &[(1, 0)]);
        check(&["@0", "@1"], &[]);
        check(&["", "@1"], &[]);
        check(&["#x", ""], &[]);
        check(&["", "#x"], &[]);
        check(&["#x", "#x"], &[]);
        check(&["/x/*", "/x"], &[]);
        check(&["~/x", "~/x"], &[(1, 0)]);
        check(&["a:1 /x", "a /x", "a:1 /x"], &[(2, 0)]);
    }
}
