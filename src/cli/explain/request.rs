//! The request that is asked about: as a client such as curl would send it over HTTP/1.1.

use http::{HeaderName, HeaderValue, Method, Uri, Version};

use crate::cli::Misuse;
use crate::wire::{Fields, Known, RequestHead};

/// A request that nobody sent.
#[derive(Debug)]
pub(super) struct Asked {
    /// Its head.
    pub(super) head: RequestHead,
    /// Whether the connection is encrypted.
    pub(super) secure: bool,
}

/// Reads `[METHOD] URL` and the headers. The URL's host becomes the `host` header, unless that is given. Where it
/// `is_absolute` the whole URL is the target, and the connection is plain whatever its scheme says.
///
/// # Errors
/// [`Misuse`] when no client could send it.
pub(super) fn read(
    words: &[String],
    headers: &[(HeaderName, HeaderValue)],
    is_absolute: bool,
) -> Result<Asked, Misuse> {
    let (method, url) = match words {
        [url] => ("GET", url),
        [method, url] => (method.as_str(), url),
        _ => return Err(Misuse("what is asked about is a method and a URL".to_owned())),
    };
    let method: Method = method.parse().map_err(|_| Misuse(format!("{method:?} is not a method")))?;
    let wrong = |why: &str| Misuse(format!("{url:?} is not a URL: {why}"));
    // As browsers and curl have it: a fragment is not sent, and a host without a scheme is asked over HTTP.
    let sent = url.split_once('#').map_or(&**url, |(sent, _)| sent);
    let whole = if sent.starts_with('/') || sent == "*" || sent.contains("://") {
        sent.to_owned()
    } else {
        format!("http://{sent}")
    };
    let uri: Uri = whole.parse().map_err(|error: http::uri::InvalidUri| wrong(&error.to_string()))?;
    let secure = match uri.scheme_str() {
        None | Some("http") => false,
        Some("https") => true,
        Some(scheme) => return Err(wrong(&format!("the scheme `{scheme}` is not HTTP"))),
    };
    let mut fields = Fields::new();
    if let Some(authority) = uri.authority() {
        if authority.as_str().contains('@') {
            return Err(wrong("a user name is sent as an `authorization` header"));
        }
        if !headers.iter().any(|(name, _)| name == http::header::HOST) {
            fields.append(Known::Host, authority.as_str().as_bytes());
        }
    }
    for (name, value) in headers {
        fields.append(name, value.as_bytes());
    }
    if is_absolute {
        if uri.authority().is_none() {
            return Err(wrong("there is no host in it"));
        }
        let mut bytes = format!("{method} {whole} HTTP/1.1\r\n").into_bytes();
        fields.write(&mut bytes);
        bytes.extend_from_slice(b"\r\n");
        let (head, _) = RequestHead::parse(&bytes)
            .ok()
            .flatten()
            .ok_or_else(|| wrong("a request with such a target and such headers cannot be read"))?;
        return Ok(Asked { head, secure: false });
    }
    // Behind a bare authority a query has no path, and what is sent has one.
    let target = uri.query().map_or_else(|| uri.path().to_owned(), |query| format!("{}?{query}", uri.path()));
    let target: Uri = target.parse().map_err(|error: http::uri::InvalidUri| wrong(&error.to_string()))?;
    Ok(Asked { head: RequestHead::new(method, &target, Version::HTTP_11, fields), secure })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(
        words: &[&str],
        headers: &[(&'static str, &'static str)],
        is_absolute: bool,
    ) -> Result<String, String> {
        let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
        let headers: Vec<_> = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        let Asked { head, secure } =
            read(&words, &headers, is_absolute).map_err(|error| error.to_string())?;
        let hosts: Vec<_> = head.fields.all(Known::Host).map(String::from_utf8_lossy).collect();
        let target = head.authority().unwrap_or_default().to_owned() + head.path_and_query();
        Ok(format!("{} {target} {} {secure}", head.method, hosts.join("+")))
    }

    /// The words, the headers, what is sent.
    type Row<'a> = (&'a [&'a str], &'a [(&'static str, &'static str)], &'a str);

    #[test]
    fn words_are_a_request_as_a_client_sends_it() {
        let rows: [Row; 9] = [
            (&["http://a/x?y=1"], &[], "GET /x?y=1 a false"),
            (&["POST", "https://a:8443"], &[], "POST / a:8443 true"),
            (&["a/x"], &[], "GET /x a false"),
            (&["a"], &[], "GET / a false"),
            (&["http://a?y#z"], &[], "GET /?y a false"),
            (&["/x"], &[("host", "b")], "GET /x b false"),
            (&["http://a/x"], &[("host", "b")], "GET /x b false"),
            (&["/x"], &[("host", "b"), ("host", "c")], "GET /x b+c false"),
            (&["OPTIONS", "*"], &[("host", "b")], "OPTIONS * b false"),
        ];
        for (words, headers, expected) in rows {
            let sent = asked(words, headers, false);
            assert_eq!(sent.as_deref(), Ok(expected), "{words:?} {headers:?}");
        }
    }

    #[test]
    fn whole_url_is_the_target_where_that_is_asked_for() {
        let rows: [Row; 6] = [
            (&["http://a/x?y=1"], &[], "GET a/x?y=1 a false"),
            (&["https://a:8443/x#z"], &[("x-a", "b")], "GET a:8443/x a:8443 false"),
            (&["a?y"], &[], "GET a/?y a false"),
            (&["OPTIONS", "http://a"], &[], "OPTIONS a* a false"),
            (&["http://a/x"], &[("host", "b")], "GET a/x b false"),
            (&["http://a/x"], &[("host", "b"), ("host", "c")], "GET a/x b+c false"),
        ];
        for (words, headers, expected) in rows {
            let sent = asked(words, headers, true);
            assert_eq!(sent.as_deref(), Ok(expected), "{words:?} {headers:?}");
        }
        for target in ["/x", "*", "http://a/`"] {
            assert!(asked(&[target], &[], true).unwrap_err().contains("is not a URL"), "{target}");
        }
    }

    #[test]
    fn words_that_no_client_sends_are_refused() {
        for (words, part) in [
            (&["GE T", "http://a/"][..], "is not a method"),
            (&["ftp://a/"], "`ftp` is not HTTP"),
            (&["http://me@a/"], "authorization"),
            (&["http://a/ b"], "is not a URL"),
            (&["http://"], "is not a URL"),
            (&[""], "is not a URL"),
        ] {
            let error = asked(words, &[], false).unwrap_err();
            assert!(error.contains(part), "{words:?}: {error}");
        }
    }
}
