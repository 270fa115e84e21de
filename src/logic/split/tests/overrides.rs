//! Which overrides count, and that the others change nothing.

use super::requests::{DRAW, checkout, run, user, with_rules};
use crate::logic::condition::fake::Fake;
use crate::logic::split::explain::OverrideOutcome;
use crate::logic::split::token::{Claim, Key, TokenError, sign};
use crate::logic::split::{Missing, Override, OverridePlace, Reason, Refusal, Split, assign};
use crate::types::IpSet;

fn signing_key(byte: u8) -> Key {
    Key::new(&[byte; 16]).unwrap()
}

pub(super) fn token_by(byte: u8, split: &str, variant: &str, unit: &str, expires: u64) -> String {
    let claim = Claim { split: split.into(), variant: variant.into(), unit: unit.into(), expires };
    sign(&signing_key(byte), &claim)
}

pub(super) fn with_override(place: OverridePlace) -> Split {
    let bare_from = IpSet::new(vec![IpSet::parse_network("10.0.0.0/8").unwrap()]);
    let force = Override { place, keys: vec![signing_key(1), signing_key(2)], bare_from };
    Split { force: Some(force), ..with_rules(checkout()) }
}

#[test]
fn override_counts_only_when_it_is_proven_or_from_a_bare_network() {
    use OverrideOutcome::{
        Absent, Ambiguous, BareNotAllowed, Honoured, OtherSplit, OtherUnit, Token, UnknownVariant,
    };
    let token = |variant: &str, unit: &str| token_by(1, "checkout", variant, unit, 2_000);
    let signed = Honoured { variant: 1, bare: false };
    let bare = Honoured { variant: 1, bare: true };
    let inside = || user("7").client_ip("10.1.2.3");
    let mapped = || user("7").client_ip("::ffff:10.1.2.3");
    let green = token("green", "*");
    let rows = [
        (user("7"), String::new(), Absent),
        (user("7"), " ".into(), Absent),
        (user("7"), green.clone(), signed),
        (user("7"), format!(" {green}\t"), signed),
        (Fake::new(), green.clone(), signed),
        (inside(), green.clone(), signed),
        (user("7"), token("green", "7"), signed),
        (user("8"), token("green", "7"), OtherUnit),
        (Fake::new(), token("green", "7"), OtherUnit),
        (user("7"), token("green", ""), OtherUnit),
        (user("7"), token("blue", "*"), Honoured { variant: 0, bare: false }),
        (user("7"), token("red", "*"), UnknownVariant),
        (user("7"), token("Green", "*"), UnknownVariant),
        (user("7"), token_by(1, "search", "green", "*", 2_000), OtherSplit),
        (user("7"), token_by(2, "checkout", "green", "*", 2_000), signed),
        (user("7"), token_by(3, "checkout", "green", "*", 2_000), Token(TokenError::Signature)),
        (user("7"), token_by(1, "checkout", "green", "*", 1_001), signed),
        (user("7"), token_by(1, "checkout", "green", "*", 1_000), Token(TokenError::Expired)),
        (user("7"), "green".into(), BareNotAllowed),
        (user("7"), "red".into(), Token(TokenError::Malformed)),
        (inside(), "green".into(), bare),
        (mapped(), "green".into(), bare),
        (inside(), "red".into(), Token(TokenError::Malformed)),
        (inside(), "Green".into(), Token(TokenError::Malformed)),
    ];
    let by_header = with_override(OverridePlace::Header(http::HeaderName::from_static("x-force")));
    let by_cookie = with_override(OverridePlace::Cookie("force".into()));
    let check = |split: &Split, request: &Fake, expected: OverrideOutcome| {
        let (outcome, trace) = run(split, request, DRAW);
        assert_eq!(trace.force, Some(expected), "{request:?}");
        let got = outcome.unwrap();
        if let Honoured { variant, .. } = expected {
            assert_eq!((got.variant, got.reason), (variant, Reason::Override), "{request:?}");
            assert_eq!((got.rule, got.position, got.drawn), (None, None, false), "{request:?}");
            assert!(trace.rules.is_empty() && trace.drawn.is_none(), "{request:?}");
        } else {
            // Whatever does not count changes nothing.
            let without = Split { force: None, ..split.clone() };
            assert_eq!(Ok(got), assign(&without, request, DRAW), "{request:?}");
        }
    };
    for (request, text, expected) in rows {
        check(&by_header, &request.clone().header("x-force", &text), expected);
        check(&by_cookie, &request.clone().header("cookie", &format!("a=b; force={text}")), expected);
        // A rule that pins another variant comes after the override.
        check(&by_header, &request.header("x-tier", "internal").header("x-force", &text), expected);
    }
    let canary = token("canary", "*");
    check(&by_header, &user("7").header("x-force", &green).header("x-force", &canary), Ambiguous);
    check(&by_header, &user("7").header("x-force", &green).header("x-force", ""), Ambiguous);
    check(&by_header, &user("7").header("x-force", &green).header("x-force", &green), signed);
    check(&by_header, &user("7").header_bytes("x-force", b"\xff"), Token(TokenError::Malformed));

    // Who must have a key is refused before an override is looked at, and who is ambiguous too.
    let reject = Split { missing: Missing::Reject, ..by_header.clone() };
    let (outcome, trace) = run(&reject, &Fake::new().header("x-force", &green), DRAW);
    assert_eq!((outcome, trace.force), (Err(Refusal::Missing), None));
    let twice = user("1").header("x-user", "2").header("x-force", &green);
    assert!(matches!(run(&by_header, &twice, DRAW).0, Err(Refusal::Ambiguous(_))));

    // A forced session still gets its cookie.
    let cookie = Split { missing: Missing::Cookie("sid".into()), ..by_header };
    let got = run(&cookie, &Fake::new().header("x-force", &green), DRAW).0.unwrap();
    assert_eq!((got.reason, got.minted, got.drawn), (Reason::Override, true, false));
}

#[test]
fn override_without_keys_then_no_token_is_accepted() {
    let mut split = with_override(OverridePlace::Header(http::HeaderName::from_static("x-force")));
    split.force.as_mut().unwrap().keys.clear();
    let request = user("7").header("x-force", &token_by(1, "checkout", "green", "*", 2_000));
    let trace = run(&split, &request, DRAW).1;
    assert_eq!(trace.force, Some(OverrideOutcome::Token(TokenError::Signature)));
}
