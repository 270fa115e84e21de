//! The bytes of a request: made once, the user's digits replaced for each.

use crate::hpack::{NEWEST, write_integer, write_string};
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
        let close = if job.close { "Connection: close\r\n" } else { "" };
        let start = format!("GET /{} HTTP/1.1\r\nHost: {}\r\n{close}x-user-id: user-", job.bytes, job.host);
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

    /// Writes the request of `user`, in `[0, USERS)`, behind what `out` has.
    pub(crate) fn write(&self, user: usize, out: &mut Vec<u8>) {
        let digits = out.len() + self.digits;
        out.extend_from_slice(&self.bytes);
        number(user, &mut out[digits..digits + DIGITS]);
    }
}

/// The fields of an HTTP/2 request that are the same but for its user, which comes last.
///
/// A connection's first request puts all of them into the table; the others refer to it, as those of a browser do, but
/// for the user's value.
#[derive(Debug)]
pub(crate) struct Fields {
    first: Vec<u8>,
    next: Vec<u8>,
}

impl Fields {
    /// The fields of the requests of `job`.
    pub(crate) fn new(job: &Job) -> Self {
        let path = format!("/{}", job.bytes);
        let more = MORE.iter().take(job.headers.saturating_sub(2)).copied();
        let kept: Vec<(&str, &str)> =
            [(":path", &path[..]), (":authority", &job.host)].into_iter().chain(more).collect();
        // `:method: GET`, and `:scheme` with the index of `https` or of `http`.
        let mut first = vec![0x82, if job.tls.is_some() { 0x87 } else { 0x86 }];
        let mut next = first.clone();
        for (place, (name, value)) in kept.iter().enumerate() {
            first.push(0x40);
            write_string(name.as_bytes(), &mut first);
            write_string(value.as_bytes(), &mut first);
            write_integer(0x80, 7, NEWEST + kept.len() - place, &mut next);
        }
        first.push(0x40);
        write_string(b"x-user-id", &mut first);
        write_integer(0, 4, NEWEST, &mut next);
        let value = [&b"user-"[..], &[b'0'; DIGITS]].concat();
        write_string(&value, &mut first);
        write_string(&value, &mut next);
        Self { first, next }
    }

    fn block(&self, first: bool) -> &[u8] {
        if first { &self.first } else { &self.next }
    }

    /// How long the fields of one request are, of the connection's first one or of another.
    pub(crate) fn len(&self, first: bool) -> usize {
        self.block(first).len()
    }

    /// Writes the fields of a request of `user`, in `[0, USERS)`, behind what `out` has.
    pub(crate) fn write(&self, first: bool, user: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(self.block(first));
        let digits = out.len() - DIGITS;
        number(user, &mut out[digits..]);
    }
}

/// Writes `user` in decimal over `digits`.
fn number(user: usize, digits: &mut [u8]) {
    let mut rest = user % USERS;
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789"[rest % 10];
        rest /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hpack::Decoder;

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

    #[test]
    fn fields_of_each_request_are_those_of_its_user() {
        let settings =
            ["target=127.0.0.1:80", "bytes=64", "headers=20", "tls=a.pem", "protocol=h2"].map(str::to_owned);
        let fields = Fields::new(&Job::read(&settings).unwrap());
        let mut decoder = Decoder::new();
        for (first, user, value) in
            [(true, 709, "user-0709"), (false, 12, "user-0012"), (false, 9999, "user-9999")]
        {
            let (mut block, mut found) = (Vec::new(), Vec::new());
            fields.write(first, user, &mut block);
            assert_eq!(block.len(), fields.len(first));
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            decoder.read(&block, |name, value| found.push((text(name), text(value)))).unwrap();
            let start =
                [(":method", "GET"), (":scheme", "https"), (":path", "/64"), (":authority", "shop.example")];
            let last = [("x-user-id", value)];
            let expected = start.iter().chain(&MORE).chain(&last);
            assert!(
                found.iter().map(|(name, value)| (&name[..], &value[..])).eq(expected.copied()),
                "{found:?}"
            );
        }
    }
}
