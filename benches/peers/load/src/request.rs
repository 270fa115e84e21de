//! The bytes of a request: made once, the user's digits replaced for each.

use crate::job::{Job, USERS};

/// Headers as a browser and the proxies before this one send them, beside `Host` and `x-user-id`.
const MORE: [(&str, &str); 18] = [
    ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"),
    ("accept-language", "en-GB,en;q=0.7,de;q=0.3"),
    ("accept-encoding", "gzip, deflate, br, zstd"),
    ("referer", "https://shop.example/articles/lamps?page=3&sort=price"),
    ("cookie", "session=5f0c1e7a9b3d4c2e8f6a1b0d; theme=dark; consent=1; cart=8d2f41"),
    ("cache-control", "no-cache"),
    ("pragma", "no-cache"),
    ("dnt", "1"),
    ("sec-fetch-dest", "document"),
    ("sec-fetch-mode", "navigate"),
    ("sec-fetch-site", "same-origin"),
    ("sec-fetch-user", "?1"),
    ("upgrade-insecure-requests", "1"),
    ("authorization", "Bearer eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiI0MiJ9.c2lnbmF0dXJlLW9mLXRoZS10b2tlbg"),
    ("x-tenant", "lamps-and-more"),
    ("x-client-version", "web-4.18.2"),
    ("if-none-match", "\"5f0c1e7a9b3d\""),
];

const DIGITS: usize = 4;

/// A request that is the same but for its user.
#[derive(Debug)]
pub(crate) struct Template {
    bytes: Vec<u8>,
    /// Where the user's digits begin.
    digits: usize,
}

impl Template {
    /// The requests of `job`.
    pub(crate) fn new(job: &Job) -> Self {
        let start = format!("GET /{} HTTP/1.1\r\nHost: {}\r\nx-user-id: user-", job.bytes, job.host);
        let digits = start.len();
        let mut bytes = start.into_bytes();
        bytes.extend_from_slice(&[b'0'; DIGITS]);
        bytes.extend_from_slice(b"\r\n");
        for (name, value) in MORE.iter().take(job.headers.saturating_sub(2)) {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        Self { bytes, digits }
    }

    /// Writes the request of `user`, in `[0, USERS)`, over `out`.
    pub(crate) fn write(&self, user: usize, out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(&self.bytes);
        let mut rest = user % USERS;
        for digit in out[self.digits..self.digits + DIGITS].iter_mut().rev() {
            *digit = b"0123456789"[rest % 10];
            rest /= 10;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_headers_stand_in_the_request() {
        let settings = ["target=127.0.0.1:80", "bytes=64", "headers=20"].map(str::to_owned);
        let mut out = Vec::new();
        Template::new(&Job::read(&settings).unwrap()).write(709, &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.starts_with("GET /64 HTTP/1.1\r\nHost: shop.example\r\nx-user-id: user-0709\r\n"),
            "{text}"
        );
        assert!(text.ends_with("\r\n\r\n"));
        assert_eq!(text.matches("\r\n").count(), 22);
    }
}
