//! The users of the load: who they are, in which order they come, and what they ask.

use bytes::Bytes;
use http::header::{HOST, HeaderValue, USER_AGENT};
use http::{HeaderName, Request};
use http_body_util::Empty;

/// The header by which the demo's split tells users apart.
pub(super) const USER: HeaderName = HeaderName::from_static("x-user-id");

/// A number of users, called `user-1` and so on; 1 or more.
#[derive(Debug, Clone, Copy)]
pub(super) struct Users {
    count: u32,
    stride: u32,
}

impl Users {
    /// `count` users, at least one.
    pub(super) fn new(count: u32) -> Self {
        let count = count.max(1);
        // Near the golden section neighbours in time are far apart in number; without a common divisor all come round.
        let golden = u32::try_from(u64::from(count) * 618 / 1000).unwrap_or(count);
        let stride = (golden.max(1)..=count).find(|stride| gcd(*stride, count) == 1).unwrap_or(1);
        Self { count, stride }
    }

    /// How many there are.
    pub(super) fn count(self) -> usize {
        self.count as usize
    }

    /// Who comes at the place `sequence`, in `[0, count)`. Each comes once in `count` places.
    pub(super) fn at(self, sequence: u64) -> u32 {
        let count = u64::from(self.count);
        u32::try_from(sequence % count * u64::from(self.stride) % count).unwrap_or_default()
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// What the user number `user` asks of `host`.
pub(super) fn request(user: u32, host: &HeaderValue) -> Request<Empty<Bytes>> {
    let mut request = Request::new(Empty::new());
    let headers = request.headers_mut();
    headers.insert(HOST, host.clone());
    headers.insert(USER_AGENT, HeaderValue::from_static("weir-demo"));
    let name = HeaderValue::try_from(format!("user-{}", u64::from(user) + 1));
    headers.extend(name.ok().map(|name| (USER, name)));
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_user_comes_once_in_each_round() {
        for count in [1, 2, 3, 6, 10, 500, 5000, 9973, 100_000] {
            let users = Users::new(count);
            for round in [0, 1, 1 << 40] {
                let from = round * u64::from(count);
                let mut came: Vec<_> = (from..from + u64::from(count)).map(|place| users.at(place)).collect();
                came.sort_unstable();
                assert!(came.into_iter().eq(0..count), "{count} users, round {round}");
            }
        }
    }

    #[test]
    fn request_names_the_user_and_the_host() {
        let request = request(41, &HeaderValue::from_static("127.0.0.1:8080"));
        assert_eq!(request.headers()[USER], "user-42");
        assert_eq!(request.headers()[HOST], "127.0.0.1:8080");
        assert_eq!(request.uri(), "/");
    }
}
