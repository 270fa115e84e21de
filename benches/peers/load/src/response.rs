//! The head of a response: its status, its length, who sent it, and whether the connection goes on.

/// The names of the upstreams, in the order of the shares.
pub(crate) const UPSTREAMS: [&str; 3] = ["blue", "green", "canary"];

/// What a load needs to know of a response's head.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    /// How many bytes the head has, with its empty line.
    pub(crate) bytes: usize,
    pub(crate) status: u16,
    /// `Content-Length`; a response without one is not what the upstream sent.
    pub(crate) length: Option<usize>,
    /// The index of the upstream that answered.
    pub(crate) upstream: Option<usize>,
    /// Whether this is the last response of the connection.
    pub(crate) closes: bool,
}

impl Head {
    /// The head that `bytes` begin with, or `None` while it is not whole.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let end = end(bytes)?;
        let mut lines = bytes[..end].split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
        let mut head = Self { bytes: end, ..Self::default() };
        head.field(b":status", lines.next().and_then(|line| line.get(9..12)).unwrap_or_default());
        for line in lines {
            let Some(colon) = line.iter().position(|&byte| byte == b':') else { continue };
            head.field(&line[..colon], line[colon + 1..].trim_ascii());
        }
        Some(head)
    }

    /// Notes a field; `:status` is one, as in HTTP/2.
    pub(crate) fn field(&mut self, name: &[u8], value: &[u8]) {
        match name {
            b":status" => self.status = number(value).and_then(|it| u16::try_from(it).ok()).unwrap_or(0),
            name if name.eq_ignore_ascii_case(b"content-length") => self.length = number(value),
            name if name.eq_ignore_ascii_case(b"connection") => {
                self.closes = value.eq_ignore_ascii_case(b"close");
            }
            name if name.eq_ignore_ascii_case(b"x-upstream") => {
                self.upstream = UPSTREAMS.iter().position(|name| name.as_bytes() == value);
            }
            _ => {}
        }
    }
}

/// Where the head that `bytes` begin with ends, after its empty line.
pub(crate) fn end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

fn number(digits: &[u8]) -> Option<usize> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn head_is_read_once_it_is_whole() {
        let bytes = b"HTTP/1.1 200 OK\r\nserver: a\r\nCONTENT-length: 12\r\nx-upstream: green\r\n\r\nbody";
        let whole =
            Head { bytes: bytes.len() - 4, status: 200, length: Some(12), upstream: Some(1), closes: false };
        assert_eq!(Head::read(bytes), Some(whole));
        for cut in 0..bytes.len() - 4 {
            assert_eq!(Head::read(&bytes[..cut]), None);
        }
    }

    #[test]
    fn what_is_not_there_is_not_made_up() {
        let check = |bytes: &[u8], status, length, closes| {
            let head = Head::read(bytes).unwrap();
            let expected = Head { bytes: bytes.len(), status, length, upstream: None, closes };
            assert_eq!(head, expected);
        };
        check(b"HTTP/1.1 503 No\r\nConnection: close\r\n\r\n", 503, None, true);
        check(b"HTTP/1.1 200\r\nx-upstream: red\r\ncontent-length: x\r\n\r\n", 200, None, false);
        check(b"\r\n\r\n", 0, None, false);
    }
}
