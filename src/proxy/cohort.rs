//! What a response of a split tells the client and the caches on its way: the variant where it is exposed, the minted
//! session id, and what keeps a shared cache from giving one cohort's answer to the other.
//!
//! It decides nothing: the variant is known when it is asked. The request's side is [`mod@super::handle`]'s.

use http::HeaderName;

use crate::config::model::{Cache, SplitConfig};
use crate::logic::condition::Source;
use crate::logic::split::{Assignment, Missing};
use crate::state::Varies;
use crate::wire::{Fields, Known};

/// Headers by which an upstream speaks to shared caches past `Cache-Control` (RFC 9213 and its forerunner).
const FOR_SHARED_CACHES: [Known; 2] = [Known::CdnCacheControl, Known::SurrogateControl];

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
    /// Puts into `fields` of the response what there is to tell.
    pub fn tell(&self, fields: &mut Fields) {
        fields.remove(&self.split.variant_header);
        if self.split.expose
            && let Some(variant) = self.split.variant_values.get(self.variant)
        {
            fields.append(&self.split.variant_header, variant.as_bytes());
        }
        match self.split.cache {
            Cache::Unset => {}
            Cache::Private => make_private(fields),
            Cache::Vary if self.is_told_apart() => vary(fields, &self.varies.headers),
            Cache::Vary => fields.set(Known::Vary, b"*"),
        }
        if let Some(cookie) = self.minted() {
            fields.append(Known::SetCookie, cookie.as_bytes());
            // Kept by a shared cache, the id would make one unit of everybody behind it.
            make_private(fields);
        }
    }

    /// Whether the request's headers and target say all that the variant follows from.
    fn is_told_apart(&self) -> bool {
        let of = &self.split.split;
        let source = self.assignment.key_source.and_then(|index| of.key.get(index));
        let by_connection =
            self.varies.by_connection || matches!(source, Some(Source::ClientIp { .. } | Source::Tls(_)));
        let by_chance = self.assignment.key.is_none() && of.missing == Missing::Random;
        !by_connection && !by_chance
    }

    /// The session id that was drawn, as `Set-Cookie` has it.
    fn minted(&self) -> Option<String> {
        let Missing::Cookie(name) = &self.split.split.missing else { return None };
        let key = self.assignment.key.as_ref().filter(|_| self.assignment.minted)?;
        let value = String::from_utf8_lossy(key.as_bytes());
        let age = self.split.cookie_max_age.as_secs();
        let secure = if self.secure { "; Secure" } else { "" };
        Some(format!("{name}={value}; Path=/; Max-Age={age}; HttpOnly; SameSite=Lax{secure}"))
    }
}

/// Makes `Cache-Control` private: what invites shared caches goes, the rest stays.
fn make_private(fields: &mut Fields) {
    let mut directives: Vec<&[u8]> = fields.all(Known::CacheControl).flat_map(elements).collect();
    directives.retain(|one| {
        let name = one.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii();
        !SHARED.iter().any(|gone| name.eq_ignore_ascii_case(gone))
    });
    if !directives.iter().any(|one| one.eq_ignore_ascii_case(b"no-store")) {
        directives.insert(0, b"private");
    }
    let directives = directives.join(&b", "[..]);
    fields.set(Known::CacheControl, &directives);
    for name in FOR_SHARED_CACHES {
        fields.remove(name);
    }
}

/// Adds `names` to `Vary` where they are not in it, as one field; `*` says it all.
fn vary(fields: &mut Fields, names: &[HeaderName]) {
    let mut listed: Vec<&[u8]> = fields.all(Known::Vary).flat_map(elements).collect();
    if listed.contains(&&b"*"[..]) {
        fields.set(Known::Vary, b"*");
        return;
    }
    let before = listed.len();
    for name in names {
        let name = name.as_str().as_bytes();
        if !listed.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            listed.push(name);
        }
    }
    if listed.len() > before {
        let listed = listed.join(&b", "[..]);
        fields.set(Known::Vary, &listed);
    }
}

/// The elements of a list field; a comma inside a quoted string separates nothing (RFC 9110 §5.6.1, §5.6.4).
fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
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
    value.split(separates).map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(rows: &[(&'static str, &'static str)]) -> Fields {
        rows.iter().copied().collect()
    }

    /// The fields sent, and the values that are there in the end.
    type Row<'a> = (&'a [(&'static str, &'static str)], &'a [&'a str]);

    fn check(rows: &[Row], name: Known, change: impl Fn(&mut Fields)) {
        for (sent, expected) in rows {
            let mut headers = map(sent);
            change(&mut headers);
            let values: Vec<_> = headers.all(name).map(String::from_utf8_lossy).collect();
            assert_eq!(values, *expected, "{sent:?}");
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
        check(rows, Known::CacheControl, make_private);
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
        check(rows, Known::Vary, |headers| vary(headers, &["x-a", "x-b"].map(HeaderName::from_static)));
    }
}
