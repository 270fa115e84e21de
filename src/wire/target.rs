//! What a request asks for: the target of its first line, in the four forms of RFC 9112 §3.2.

use http::Method;

use super::HeadError;

/// What a request asks for, as it was sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) scheme_is_secure: bool,
    pub(super) authority: Option<&'a [u8]>,
    /// What is sent on before the rest, where an absolute target has no path (RFC 9112 §3.2.1, §3.2.4).
    pub(super) path: &'static [u8],
    /// Path and query; empty where the target has neither.
    pub(super) rest: &'a [u8],
}

/// Where a byte may stand: in a path (1), in a query (2). What RFC 3986 does not allow and clients send all the same
/// stays, but for what ends a line, a word or a target; the rare ones are as the `http` crate has them, for what it
/// refuses could not be passed on by HTTP/2.
const TARGET: [u8; 256] = {
    let mut table = [3; 256];
    let mut byte = 0;
    while byte <= b' ' as usize {
        table[byte] = 0;
        byte += 1;
    }
    table[0x7f] = 0;
    table[b'#' as usize] = 0;
    table[b'"' as usize] = 1;
    table[b'<' as usize] = 0;
    table[b'>' as usize] = 0;
    table[b'`' as usize] = 2;
    table
};

impl<'a> Target<'a> {
    /// Reads a target.
    ///
    /// # Errors
    /// [`HeadError::Target`] where it is none that a request by `method` may have.
    pub(super) fn parse(method: &Method, target: &'a [u8]) -> Result<Self, HeadError> {
        let own = Self { scheme_is_secure: false, authority: None, path: b"", rest: target };
        // CONNECT names a host and a port and nothing else, and it alone does (RFC 9112 §3.2.3).
        if method == Method::CONNECT {
            let has_port = target.contains(&b':') && target.last().is_some_and(u8::is_ascii_digit);
            let authority = target;
            let target = Self { authority: Some(authority), rest: &authority[authority.len()..], ..own };
            return if has_port && is_authority(authority) { Ok(target) } else { Err(HeadError::Target) };
        }
        if target.first() == Some(&b'/') {
            check(target)?;
            return Ok(own);
        }
        if target == b"*" {
            return Ok(own);
        }
        let colon = memchr::memchr(b':', target).ok_or(HeadError::Target)?;
        let scheme_is_secure = match &target[..colon] {
            scheme if scheme.eq_ignore_ascii_case(b"http") => false,
            scheme if scheme.eq_ignore_ascii_case(b"https") => true,
            _ => return Err(HeadError::Target),
        };
        let rest = target[colon + 1..].strip_prefix(b"//").ok_or(HeadError::Target)?;
        let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#')).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        if !is_authority(authority) {
            return Err(HeadError::Target);
        }
        check(rest)?;
        let path: &[u8] = match rest.first() {
            Some(b'/') => b"",
            None if method == Method::OPTIONS => b"*",
            _ => b"/",
        };
        Ok(Self { scheme_is_secure, authority: Some(authority), path, rest })
    }
}

/// Whether `text` has the shape of a host and perhaps a port. User information is refused (RFC 9110 §4.2.4), and so is
/// `%`, which the `http` crate does not take.
fn is_authority(text: &[u8]) -> bool {
    let of_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(byte);
    let of_address = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
    let host_end = match text.first() {
        Some(b'[') => memchr::memchr(b']', text).map(|at| at + 1),
        _ => Some(memchr::memchr(b':', text).unwrap_or(text.len())),
    };
    let Some((host, port)) = host_end.and_then(|end| text.split_at_checked(end)) else { return false };
    let is_host = match host {
        [] | [b'[', b']'] => false,
        [b'[', address @ .., b']'] => address.iter().all(of_address),
        name => name.iter().all(of_name),
    };
    let is_port = match port {
        [] => true,
        [b':', digits @ ..] => digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    is_host && is_port
}

/// Whether path and query have no byte that they may not have.
fn check(path_and_query: &[u8]) -> Result<(), HeadError> {
    let end = memchr::memchr(b'?', path_and_query).unwrap_or(path_and_query.len());
    let (path, query) = path_and_query.split_at(end);
    let has = |part: &[u8], bit: u8| part.iter().all(|byte| TARGET[usize::from(*byte)] & bit != 0);
    let is_text = path_and_query.is_ascii() || std::str::from_utf8(path_and_query).is_ok();
    if has(path, 1) && has(query, 2) && is_text { Ok(()) } else { Err(HeadError::Target) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_of_a_target_is_judged_as_http2_would() {
        for byte in 0x21..=0x7f_u8 {
            for (text, bit) in [(format!("/a{}", byte as char), 1), (format!("/a?b{}", byte as char), 2)] {
                if byte == b'?' {
                    continue;
                }
                let fits = text.parse::<http::uri::PathAndQuery>().is_ok() && byte != b'#';
                assert_eq!(TARGET[usize::from(byte)] & bit != 0, fits, "{text:?}");
            }
        }
    }
}
