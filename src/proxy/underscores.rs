//! Request fields whose names have `_`: kept, removed or refused, as the listener says. Many servers take `x_a` for
//! `x-a`, so a stranger's field may pass for another one there. What may pass for a header that routing reads is removed
//! whatever is said here: [`super::headers`].

use super::Failure;
use crate::config::model::Underscores;
use crate::wire::Fields;

/// Whether a name has `_`.
pub fn has_underscore(name: &[u8]) -> bool {
    memchr::memchr(b'_', name).is_some()
}

/// Does to the fields of a head what the listener says.
///
/// # Errors
/// [`Failure::UnderscoreHeader`] where it refuses them and there is one.
pub fn settle(fields: &mut Fields, underscores: Underscores) -> Result<(), Failure> {
    match underscores {
        // No name that the proxy knows itself has one.
        Underscores::Refuse if fields.others().any(has_underscore) => return Err(Failure::UnderscoreHeader),
        Underscores::Remove => fields.remove_others(has_underscore),
        Underscores::Keep | Underscores::Refuse => {}
    }
    Ok(())
}

/// Does the same to trailers. The request is on its way, so that what would be refused is removed.
pub fn strip(trailers: &mut Fields, underscores: Underscores) {
    if underscores != Underscores::Keep {
        trailers.remove_others(has_underscore);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Known;

    /// What is sent, what is left of it, and whether it is refused where that is said.
    type Row<'a> = (&'a [&'static str], &'a [&'static str], bool);

    #[test]
    fn names_with_an_underscore_are_kept_removed_or_refused() {
        let rows: [Row<'_>; 5] = [
            (&[], &[], false),
            (&["host", "x-a", "x.b"], &["host", "x-a", "x.b"], false),
            (&["x_a", "x-a", "X_A", "cookie"], &["x-a", "cookie"], true),
            (&["_", "a_", "_a", "content_length", "content-length"], &["content-length"], true),
            (&["x-a_b", "x-a-b"], &["x-a-b"], true),
        ];
        for (sent, left, is_refused) in rows {
            let fields = || sent.iter().map(|name| (*name, "1")).collect::<Fields>();
            let check = |underscores, expected: &[&'static str]| {
                let (mut head, mut trailers) = (fields(), fields());
                let settled = settle(&mut head, underscores);
                strip(&mut trailers, underscores);
                let expected: Fields = expected.iter().map(|name| (*name, "1")).collect();
                assert_eq!(trailers, expected, "{underscores:?} {sent:?}");
                (settled, head)
            };
            assert_eq!(check(Underscores::Keep, sent), (Ok(()), fields()), "{sent:?}");
            let (settled, head) = check(Underscores::Remove, left);
            assert_eq!((settled, head.len()), (Ok(()), left.len()), "{sent:?}");
            let (settled, _) = check(Underscores::Refuse, left);
            assert_eq!(settled.is_err(), is_refused, "{sent:?}");
        }
        assert!(!Known::ALL.iter().any(|known| has_underscore(known.as_str().as_bytes())));
    }
}
