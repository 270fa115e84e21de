//! What requests get: keys, refusals, keyless requests, rules, and the trace of each.

use std::collections::HashMap;

use proptest::prelude::*;
use regex::bytes::Regex;

use super::overrides::{token_by, with_override};
use super::{key, layout, shares, split};
use crate::logic::condition::fake::Fake;
use crate::logic::condition::{Ambiguous, Condition, Source, Test};
use crate::logic::split::explain::{RuleOutcome, SourceOutcome};
use crate::logic::split::{
    Assignment, Draw, Missing, OverridePlace, Reason, Refusal, Rule, Split, Then, Trace, assign, assign_key,
    assign_traced, assign_unit, hash,
};
use crate::types::unit::UnitKeyError;
use crate::types::{Position, RuleName};

pub(super) const DRAW: Draw = Draw { random: 0x0123_4567_89ab_cdef_0011_2233_4455_6677, now: 1_000 };

/// blue (the baseline), green 9%, canary 1%; by tenant, then user, then the `sid` parameter.
pub(super) fn checkout() -> Split {
    let key = ["header:x-tenant", "header:x-user", "query:sid"].map(|text| Source::parse(text).unwrap());
    Split { key: key.to_vec(), ..split("checkout", "blue", &[("green", 90_000), ("canary", 10_000)]) }
}

fn rule(name: &str, when: Vec<Condition>, then: Then) -> Rule {
    Rule { name: RuleName::new(name).unwrap(), when, then }
}

fn when(source: &str, value: &str) -> Condition {
    let test = Test::In([value.as_bytes().into()].into());
    Condition { source: Source::parse(source).unwrap(), test, not: false }
}

pub(super) fn user(name: &str) -> Fake {
    Fake::new().header("x-user", name)
}

/// The assignment, which is the same again, and the same when it is watched.
pub(super) fn run(split: &Split, request: &Fake, draw: Draw) -> (Result<Assignment, Refusal>, Trace) {
    let (outcome, trace) = assign_traced(split, request, draw);
    assert_eq!(assign(split, request, draw), outcome, "{request:?}");
    assert_eq!(assign_traced(split, request, draw), (outcome.clone(), trace.clone()), "{request:?}");
    (outcome, trace)
}

/// The source and the key that it gives, or none, or a refusal.
type Expected = Result<Option<(usize, String)>, Refusal>;

#[test]
fn first_source_that_is_present_and_not_empty_gives_the_key() {
    use SourceOutcome::{Absent, Ambiguous as Twice, Empty, Key, TooLong};
    let long = |bytes| "k".repeat(bytes);
    let ambiguous = |name: &'static str| Refusal::Ambiguous(Ambiguous(http::HeaderName::from_static(name)));
    let tenant = |value: &str| Fake::new().header("x-tenant", value);
    let rows: [(Fake, Expected, &[SourceOutcome]); 18] = [
        (Fake::new(), Ok(None), &[Absent, Absent, Absent]),
        (tenant("42"), Ok(Some((0, "42".into()))), &[Key]),
        (tenant(" 42\t"), Ok(Some((0, "42".into()))), &[Key]),
        (user("7"), Ok(Some((1, "7".into()))), &[Absent, Key]),
        (tenant("42").header("x-user", "7"), Ok(Some((0, "42".into()))), &[Key]),
        (tenant("").header("x-user", "7"), Ok(Some((1, "7".into()))), &[Empty, Key]),
        (tenant(" \t ").header("x-user", "7"), Ok(Some((1, "7".into()))), &[Empty, Key]),
        (tenant("").header("x-tenant", " "), Ok(None), &[Empty, Absent, Absent]),
        (Fake::new().query("sid=a%2Bb"), Ok(Some((2, "a+b".into()))), &[Absent, Absent, Key]),
        (Fake::new().query("sid=&sid=1"), Ok(None), &[Absent, Absent, Empty]),
        (tenant("42").header("x-tenant", " 42 "), Ok(Some((0, "42".into()))), &[Key]),
        (tenant("42").header("x-tenant", "43"), Err(ambiguous("x-tenant")), &[Twice]),
        (tenant("42").header("x-tenant", ""), Err(ambiguous("x-tenant")), &[Twice]),
        (user("1").header("x-user", "2"), Err(ambiguous("x-user")), &[Absent, Twice]),
        // A source that needs not be looked at refuses nothing.
        (tenant("42").header("x-user", "1").header("x-user", "2"), Ok(Some((0, "42".into()))), &[Key]),
        (tenant("42").query(&format!("sid={}", long(2000))), Ok(Some((0, "42".into()))), &[Key]),
        (tenant(&long(1024)), Ok(Some((0, long(1024)))), &[Key]),
        (tenant(&long(1025)), Err(Refusal::Key(UnitKeyError::TooLong(1025))), &[TooLong]),
    ];
    let split = checkout();
    for (request, expected, sources) in rows {
        let (outcome, trace) = run(&split, &request, DRAW);
        assert_eq!(trace.sources, sources, "{request:?}");
        match (outcome, expected) {
            (Ok(got), Ok(Some((source, text)))) => {
                let by_key = Assignment { key_source: Some(source), ..assign_key(&split, key(&text)) };
                assert_eq!(got, by_key, "{request:?}");
                assert_eq!(got.key, Some(key(&text)), "{request:?}");
                assert_eq!(
                    (got.reason, got.drawn, got.minted),
                    (Reason::Weights, true, false),
                    "{request:?}"
                );
            }
            (Ok(got), Ok(None)) => assert_eq!((got.variant, got.reason), (0, Reason::Missing), "{request:?}"),
            (got, expected) => assert_eq!(got.err(), expected.err(), "{request:?}"),
        }
    }
}

#[test]
fn unit_that_is_given_is_assigned_as_by_a_request_that_carries_it() {
    let tier = |tier: &str| Fake::new().header("x-tier", tier);
    let twice = tier("free").header("x-tenant", "1").header("x-tenant", "2");
    let split = with_rules(checkout());
    for name in ["42", "7", "ünï", &"k".repeat(1024)] {
        for request in [Fake::new(), user("else"), tier("internal"), tier("free")] {
            let given = assign_unit(&split, key(name), &request, DRAW);
            assert_eq!((&given.key, given.key_source), (&Some(key(name)), None), "{name:?} {request:?}");
            let carried = request.header("x-tenant", name);
            let same = Assignment { key_source: Some(0), ..given };
            assert_eq!(run(&split, &carried, DRAW).0, Ok(same), "{name:?} {carried:?}");
        }
        let refused = run(&split, &twice, DRAW).0;
        assert!(refused.is_err(), "{refused:?}");
        assert_eq!(assign_unit(&split, key(name), &twice, DRAW).rule, Some(1), "the sources are not read");
    }
}

/// canary is forced for `internal`, green has half of `free`, everybody else takes the shares.
pub(super) fn with_rules(split: Split) -> Split {
    let rules = vec![
        rule("staff", vec![when("header:x-tier", "internal"), when("host", "localhost")], Then::Pin(2)),
        rule("free", vec![when("header:x-tier", "free")], Then::Weights(layout(&[500_000, 0]))),
    ];
    Split { rules, ..split }
}

#[test]
fn keyless_request_then_the_policy_decides() {
    let tier = |tier: &str| Fake::new().header("x-tier", tier);
    let outcome = |missing: &Missing, request: &Fake| {
        let split = Split { missing: missing.clone(), ..with_rules(checkout()) };
        run(&split, request, DRAW).0
    };
    let plain = |variant, reason, rule, position| Assignment {
        variant,
        reason,
        rule,
        key: None,
        key_source: None,
        position,
        minted: false,
        drawn: false,
    };
    let position = Some(Position(0x0011_2233_4455_6677));
    let rows = [
        (Missing::Baseline, Fake::new(), Ok(plain(0, Reason::Missing, None, None))),
        (Missing::Baseline, tier("internal"), Ok(plain(2, Reason::Rule, Some(0), None))),
        (Missing::Baseline, tier("free"), Ok(plain(0, Reason::Missing, Some(1), None))),
        // 0x0011… is in the lowest thousandth of all positions: within green's 9%, and within its 50%.
        (Missing::Random, Fake::new(), Ok(plain(1, Reason::Missing, None, position))),
        (Missing::Random, tier("internal"), Ok(plain(2, Reason::Rule, Some(0), None))),
        (Missing::Random, tier("free"), Ok(plain(1, Reason::Missing, Some(1), position))),
        (Missing::Reject, Fake::new(), Err(Refusal::Missing)),
        (Missing::Reject, tier("internal"), Err(Refusal::Missing)),
    ];
    for (missing, request, expected) in rows {
        assert_eq!(outcome(&missing, &request), expected, "{missing:?} {request:?}");
    }
}

#[test]
fn random_policy_then_every_arm_gets_its_share_of_requests() {
    let others = [("a", 100_000), ("b", 100_000), ("c", 200_000), ("d", 300_000)];
    let split = Split { missing: Missing::Random, ..split("s", "blue", &others) };
    let mut random = fastrand::Rng::with_seed(11);
    let mut counts = [0u32; 5];
    for _ in 0..40_000 {
        let draw = Draw { random: random.u128(..), now: 0 };
        counts[assign(&split, &Fake::new(), draw).unwrap().variant] += 1;
    }
    for (count, expected) in counts.into_iter().zip([12_000, 4_000, 4_000, 8_000, 12_000]) {
        assert!(count.abs_diff(expected) < 400, "{counts:?}");
    }
}

#[test]
fn cookie_policy_then_a_session_is_minted_once_and_is_the_key_ever_after() {
    let split = Split { missing: Missing::Cookie("weir-sid".into()), ..with_rules(checkout()) };
    let (minted, trace) = run(&split, &Fake::new(), DRAW);
    let minted = minted.unwrap();
    let id = "0123456789abcdef0011223344556677";
    let expected = Assignment { key_source: Some(3), minted: true, ..assign_key(&split, key(id)) };
    assert_eq!(minted, expected);
    assert_eq!(trace.sources, [SourceOutcome::Absent; 4]);

    let back = Fake::new().header("cookie", &format!("a=b; weir-sid={id}"));
    let (again, trace) = run(&split, &back, Draw { random: 1, now: 1 });
    assert_eq!(again.unwrap(), Assignment { minted: false, ..minted });
    assert_eq!(trace.sources.last(), Some(&SourceOutcome::Key));

    let small = run(&split, &Fake::new(), Draw { random: 0xf, now: 0 }).0.unwrap();
    assert_eq!(small.key, Some(key("0000000000000000000000000000000f")));

    let rows = [
        ("weir-sid=", Fake::new(), Ok((Some(3), true, Reason::Weights))),
        ("weir-sid=any text", Fake::new(), Ok((Some(3), false, Reason::Weights))),
        ("weir-sid=1", user("7"), Ok((Some(1), false, Reason::Weights))),
        ("", Fake::new().header("x-tier", "free"), Ok((Some(3), true, Reason::Rule))),
        ("", Fake::new().header("x-tier", "internal"), Ok((Some(3), true, Reason::Rule))),
        (
            &format!("weir-sid={}", "k".repeat(1025)),
            Fake::new(),
            Err(Refusal::Key(UnitKeyError::TooLong(1025))),
        ),
    ];
    for (cookie, request, expected) in rows {
        let request = request.header("cookie", cookie);
        let outcome = run(&split, &request, DRAW).0.map(|got| (got.key_source, got.minted, got.reason));
        assert_eq!(outcome, expected, "{request:?}");
    }
}

#[test]
fn rules_then_the_first_that_matches_decides_by_the_same_position() {
    use RuleOutcome::{Fails, Matches};
    let split = with_rules(checkout());
    let rows: [(Fake, Option<usize>, bool, &[RuleOutcome]); 5] = [
        (user("7").header("x-tier", "internal"), Some(0), false, &[Matches]),
        (user("7").header("x-tier", "internal").host("other"), None, true, &[Fails(1), Fails(0)]),
        (user("7").header("x-tier", "free"), Some(1), true, &[Fails(0), Matches]),
        (user("7").header("x-tier", "gold"), None, true, &[Fails(0), Fails(0)]),
        (user("7"), None, true, &[Fails(0), Fails(0)]),
    ];
    for (request, decided, drawn, tried) in rows {
        let (outcome, trace) = run(&split, &request, DRAW);
        let got = outcome.unwrap();
        assert_eq!((got.rule, got.drawn, &trace.rules[..]), (decided, drawn, tried), "{request:?}");
        assert_eq!(got.reason, if decided.is_some() { Reason::Rule } else { Reason::Weights }, "{request:?}");
        let position = hash::position("checkout", b"7");
        assert_eq!(got.position, drawn.then_some(position), "{request:?}");
        assert_eq!(trace.drawn.map(|drawn| drawn.position), got.position, "{request:?}");
        let layout = if decided == Some(1) { layout(&[500_000, 0]) } else { split.layout.clone() };
        assert_eq!(trace.drawn.map(|drawn| drawn.bounds), drawn.then(|| layout.bounds(got.variant)));
    }

    // Whoever has green among 9% of all still has it among 50% of the free tier.
    let mut kept = 0;
    for unit in 0..2_000 {
        let unit = format!("user-{unit}");
        let (all, free) = (user(&unit), user(&unit).header("x-tier", "free"));
        if assign(&split, &all, DRAW).unwrap().variant == 1 {
            kept += 1;
            assert_eq!(assign(&split, &free, DRAW).unwrap().variant, 1, "{unit}");
        }
    }
    assert!(kept > 100, "{kept}");
}

#[test]
fn own_positions_then_the_trace_has_those_that_were_asked() {
    let others = [("a", 0), ("b", 0), ("c", 0), ("d", 1), ("e", 999_999), ("f", 0)];
    let split = Split { key: checkout().key, ..split("checkout", "blue", &others) };
    let (outcome, trace) = run(&split, &user("7"), DRAW);
    assert_eq!(outcome.unwrap().variant, 5);
    let own = |arm: usize| (arm, hash::variant_position("checkout", &split.variants[arm].name, b"7"));
    assert_eq!(trace.own_positions, [own(4), own(5)]);
    assert_eq!(trace.drawn.unwrap().bounds, split.layout.bounds(5));
}

#[test]
fn routing_headers_then_those_of_key_rules_and_override() {
    let names = |split: &Split| split.routing_headers().map(ToString::to_string).collect::<Vec<_>>();
    let plain = checkout();
    assert_eq!(names(&plain), ["x-tenant", "x-user"]);
    assert!(!plain.reads_cookies());

    let full = with_override(OverridePlace::Header(http::HeaderName::from_static("x-force")));
    assert_eq!(names(&full), ["x-tenant", "x-user", "x-tier", "x-tier", "x-force"]);
    assert!(!full.reads_cookies());

    let with_cookie = |change: fn(&mut Split)| {
        let mut split = checkout();
        change(&mut split);
        assert_eq!(names(&split), ["x-tenant", "x-user"]);
        split.reads_cookies()
    };
    assert!(with_cookie(|split| split.missing = Missing::Cookie("sid".into())));
    assert!(with_cookie(|split| split.key.push(Source::Cookie("sid".into()))));
    assert!(with_cookie(|split| split.rules = vec![rule("r", vec![when("cookie:beta", "1")], Then::Pin(1))]));
    assert!(with_cookie(|split| split.force = with_override(OverridePlace::Cookie("f".into())).force));
    assert!(!with_cookie(|split| split.missing = Missing::Random));
}

#[test]
fn many_threads_then_one_answer() {
    let split = with_rules(checkout());
    let answers = || -> Vec<usize> {
        (0..500).map(|unit| assign(&split, &user(&format!("u{unit}")), DRAW).unwrap().variant).collect()
    };
    let expected = answers();
    std::thread::scope(|scope| {
        for worker in [(); 4].map(|()| scope.spawn(answers)) {
            assert_eq!(worker.join().unwrap(), expected);
        }
    });
}

/// A request with any of the headers that the splits here look at, and values that hit and miss.
fn request() -> impl Strategy<Value = Fake> {
    let name = prop::sample::select(vec!["x-tenant", "x-user", "x-tier", "x-force", "cookie", "accept"]);
    let value = prop_oneof![
        Just(b"internal".to_vec()),
        Just(b"free".to_vec()),
        Just(b"green".to_vec()),
        Just(b"weir-sid=42; force=green".to_vec()),
        Just(token_by(1, "checkout", "canary", "*", 2_000).into_bytes()),
        prop::collection::vec(any::<u8>(), 0..24),
        prop::collection::vec(any::<u8>(), 1020..1030),
    ];
    let fields = prop::collection::vec((name, value), 0..6);
    let ip = prop::sample::select(vec!["10.0.0.1", "192.0.2.1", "2001:db8::1"]);
    (fields, ip, "[a-z=&%+0-9]{0,12}").prop_map(|(fields, ip, query)| {
        let fake = Fake::new().client_ip(ip).query(&query);
        fields.iter().fold(fake, |fake, (name, value)| fake.header_bytes(name, value))
    })
}

fn any_split() -> impl Strategy<Value = Split> {
    let missing = prop_oneof![
        Just(Missing::Baseline),
        Just(Missing::Random),
        Just(Missing::Reject),
        Just(Missing::Cookie("weir-sid".into())),
    ];
    let place = prop_oneof![
        Just(OverridePlace::Header(http::HeaderName::from_static("x-force"))),
        Just(OverridePlace::Cookie("force".into())),
    ];
    let names = ["green", "canary", "gold", "red", "white", "v1.10"];
    (shares(6), any::<bool>(), missing, place).prop_map(move |(others, ruled, missing, place)| {
        let others: Vec<_> = names.into_iter().zip(others).collect();
        let weights = Then::Weights(layout(&vec![0; others.len()]));
        let pattern = Test::Matches(Regex::new("^f.*e$").unwrap());
        let pattern =
            Condition { source: Source::parse("header:x-tier").unwrap(), test: pattern, not: false };
        let rules = vec![
            rule("staff", vec![when("header:x-tier", "internal")], Then::Pin(others.len())),
            rule("free", vec![pattern], weights),
        ];
        Split {
            key: checkout().key,
            missing,
            rules: if ruled { rules } else { Vec::new() },
            force: with_override(place).force,
            ..split("checkout", "blue", &others)
        }
    })
}

proptest! {
    /// (a) and (f): total, and a function of nothing but its arguments.
    #[test]
    fn any_request_then_one_variant_or_a_refusal_each_time(split in any_split(), request in request(), random: u128) {
        let (outcome, trace) = run(&split, &request, Draw { random, now: 1_000 });
        prop_assert!(!trace.sources.is_empty());
        let Ok(got) = outcome else { return Ok(()) };
        prop_assert!(got.variant < split.variants.len());
        prop_assert_eq!(got.drawn, got.key.is_some() && got.position.is_some());
        prop_assert_eq!(got.key.is_some(), got.key_source.is_some());
        prop_assert!(got.reason != Reason::Fallback);
        prop_assert_eq!(got.position, trace.drawn.map(|drawn| drawn.position));
        if got.drawn && got.reason == Reason::Weights {
            prop_assert!(split.layout.bounds(got.variant).is_some(), "0% took a unit");
        }
        if got.minted {
            prop_assert!(matches!(split.missing, Missing::Cookie(_)));
            prop_assert_eq!(got.key_source, Some(split.key.len()));
        }
    }

    /// (f): fields of different names may come in any order.
    #[test]
    fn headers_in_another_order_then_the_same_assignment(
        split in any_split(), request in request(), order: Vec<prop::sample::Index>,
    ) {
        let mut shuffled = request.clone();
        for (at, with) in order.iter().enumerate() {
            if !shuffled.fields.is_empty() {
                let (at, with) = (at % shuffled.fields.len(), with.index(shuffled.fields.len()));
                shuffled.fields.swap(at, with);
            }
        }
        // Fields of one name keep their order among themselves, as every proxy must keep it.
        let mut values: HashMap<_, Vec<_>> = HashMap::new();
        for (name, value) in request.fields.iter().rev() {
            values.entry(name.clone()).or_default().push(value.clone());
        }
        for (name, value) in &mut shuffled.fields {
            *value = values.get_mut(name).unwrap().pop().unwrap();
        }
        prop_assert_eq!(assign(&split, &request, DRAW), assign(&split, &shuffled, DRAW));
    }
}
