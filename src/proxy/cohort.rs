//! What a response of a split tells the client and the caches on its way: the variant where it is exposed, the minted
//! session id, and what keeps a shared cache from giving one cohort's answer to the other.
//!
//! It decides nothing: the variant is known when it is asked. The request's side is [`mod@super::handle`]'s.

use http::header::{CACHE_CONTROL, SET_COOKIE, VARY};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::config::model::{Cache, SplitConfig};
use crate::logic::condition::Source;
use crate::logic::split::{Assignment, Missing};
use crate::state::Varies;

/// Headers by which an upstream speaks to shared caches past `Cache-Control` (RFC 9213 and its forerunner).
const FOR_SHARED_CACHES: [HeaderName; 2] =
    [HeaderName::from_static("cdn-cache-control"), HeaderName::from_static("surrogate-control")];

/// Directives that invite shared caches, or that `private` takes the place of.
const SHARED: [&[u8]; 4] = [b"public", b"s-maxage", b"proxy-revalidate", b"private"];

/// A response of a split.
#[derive(Debug, Clone, Copy)]
pub struct Cohort<'a> {
    /// The split.
    pub split: &'a SplitConfig,
    /// By what its responses differ.
    pub varies: &'a Varies,
    /// The variant that answers; after a fall-back not the one that was drawn.
    pub variant: usize,
    /// The draw.
    pub assignment: &'a Assignment,
    /// Whether the client's way to us is encrypted.
    pub secure: bool,
}

impl Cohort<'_> {
    /// Puts into `headers` of the response what there is to tell.
    pub fn tell(&self, headers: &mut HeaderMap) {
        headers.remove(&self.split.variant_header);
        if self.split.expose {
            headers.insert(&self.split.variant_header, self.split.variant_values[self.variant].clone());
        }
        match self.split.cache {
            Cache::Unset => {}
            Cache::Private => make_private(headers),
            Cache::Vary if self.is_told_apart() => vary(headers, &self.varies.headers),
            Cache::Vary => {
                headers.insert(VARY, HeaderValue::from_static("*"));
            }
        }
        if let Some(cookie) = self.minted() {
            headers.append(SET_COOKIE, cookie);
            // Kept by a shared cache, the id would make one unit of everybody behind it.
            make_private(headers);
        }
    }

    /// Whether the request's headers and target say all that the variant follows from.
    fn is_told_apart(&self) -> bool {
        let of = &self.split.split;
        let source = self.assignment.key_source.and_then(|index| of.key.get(index));
        let by_address = self.varies.by_address || matches!(source, Some(Source::ClientIp { .. }));
        let by_chance = self.assignment.key.is_none() && of.missing == Missing::Random;
        !by_address && !by_chance
    }

    fn minted(&self) -> Option<HeaderValue> {
        let Missing::Cookie(name) = &self.split.split.missing else { return None };
        let key = self.assignment.key.as_ref().filter(|_| self.assignment.minted)?;
        let value = String::from_utf8_lossy(key.as_bytes());
        let age = self.split.cookie_max_age.as_secs();
        let secure = if self.secure { "; Secure" } else { "" };
        HeaderValue::from_str(&format!(
            "{name}={value}; Path=/; Max-Age={age}; HttpOnly; SameSite=Lax{secure}"
        ))
        .ok()
    }
}

/// Makes `Cache-Control` private: what invites shared caches goes, the rest stays.
fn make_private(headers: &mut HeaderMap) {
    let mut directives: Vec<&[u8]> = headers.get_all(CACHE_CONTROL).iter().flat_map(elements).collect();
    directives.retain(|one| {
        let name = one.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii();
        !SHARED.iter().any(|gone| name.eq_ignore_ascii_case(gone))
    });
    if !directives.iter().any(|one| one.eq_ignore_ascii_case(b"no-store")) {
        directives.insert(0, b"private");
    }
    if let Ok(value) = HeaderValue::from_bytes(&directives.join(&b", "[..])) {
        headers.insert(CACHE_CONTROL, value);
    }
    for name in FOR_SHARED_CACHES {
        headers.remove(name);
    }
}

/// Adds `names` to `Vary` where they are not in it, as one field; `*` says it all.
fn vary(headers: &mut HeaderMap, names: &[HeaderName]) {
    let mut listed: Vec<&[u8]> = headers.get_all(VARY).iter().flat_map(elements).collect();
    if listed.contains(&&b"*"[..]) {
        headers.insert(VARY, HeaderValue::from_static("*"));
        return;
    }
    let before = listed.len();
    for name in names {
        let name = name.as_str().as_bytes();
        if !listed.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            listed.push(name);
        }
    }
    if listed.len() > before
        && let Ok(value) = HeaderValue::from_bytes(&listed.join(&b", "[..]))
    {
        headers.insert(VARY, value);
    }
}

/// The elements of a list field; a comma inside a quoted string separates nothing (RFC 9110 §5.6.1, §5.6.4).
fn elements(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    let separates = move |byte: &u8| {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = quoted,
            b'"' => quoted = !quoted,
            b',' => return !quoted,
            _ => {}
        }
        false
    };
    value.as_bytes().split(separates).map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(rows: &[(&'static str, &'static str)]) -> HeaderMap {
        rows.iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    /// The fields sent, and the values that are there in the end.
    type Row<'a> = (&'a [(&'static str, &'static str)], &'a [&'a str]);

    fn check(rows: &[Row], name: &HeaderName, change: impl Fn(&mut HeaderMap)) {
        for (sent, expected) in rows {
            let mut headers = map(sent);
            change(&mut headers);
            assert_eq!(headers.get_all(name).iter().collect::<Vec<_>>(), *expected, "{sent:?}");
        }
    }

    #[test]
    fn private_takes_the_place_of_what_invites_shared_caches() {
        let rows: &[Row] = &[
            (&[], &["private"]),
            (&[("cache-control", "public, max-age=60")], &["private, max-age=60"]),
            (&[("cache-control", "max-age=60"), ("cache-control", "s-maxage=9")], &["private, max-age=60"]),
            (&[("cache-control", "NO-STORE")], &["NO-STORE"]),
            (&[("cache-control", "private=\"a, public\", x=\"\\\", y\"")], &["private, x=\"\\\", y\""]),
            (&[("cache-control", " , ,")], &["private"]),
        ];
        check(rows, &CACHE_CONTROL, make_private);
        let mut headers = map(&[("cdn-cache-control", "max-age=60"), ("surrogate-control", "max-age=60")]);
        make_private(&mut headers);
        assert_eq!(headers, map(&[("cache-control", "private")]));
    }

    #[test]
    fn vary_is_completed_and_never_doubled() {
        let rows: &[Row] = &[
            (&[], &["x-a, x-b"]),
            (&[("vary", "accept")], &["accept, x-a, x-b"]),
            (&[("vary", "X-B"), ("vary", "accept")], &["X-B, accept, x-a"]),
            (&[("vary", "x-a"), ("vary", "x-b")], &["x-a", "x-b"]),
            (&[("vary", "accept"), ("vary", "*")], &["*"]),
        ];
        check(rows, &VARY, |headers| vary(headers, &["x-a", "x-b"].map(HeaderName::from_static)));
    }
}
