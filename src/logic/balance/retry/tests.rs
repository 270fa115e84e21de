//! When a request is sent again, and how often.

use proptest::prelude::*;

use super::*;

fn status(code: u16) -> Happened {
    Happened::Answered(StatusCode::from_u16(code).unwrap())
}

#[test]
fn request_is_sent_again_only_where_twice_is_once() {
    let all = Retries {
        on_timeout: true,
        on_statuses: vec![Statuses::One(StatusCode::TOO_MANY_REQUESTS), Statuses::GatewayErrors],
        ..Retries::default()
    };
    let opted = Retries { methods: vec![Method::POST], ..all.clone() };
    let never = Retries { on_connect: false, on_reset: false, ..Retries::default() };
    let custom = Method::from_bytes(b"PURGE").unwrap();
    for (retries, happened, method, expected) in [
        (&Retries::default(), Happened::Untouched, Method::POST, true),
        (&Retries::default(), Happened::Broken, Method::GET, true),
        (&Retries::default(), Happened::Broken, Method::POST, false),
        (&Retries::default(), Happened::Silent, Method::GET, false),
        (&Retries::default(), status(503), Method::GET, false),
        (&all, Happened::Silent, Method::GET, true),
        (&all, Happened::Garbled, Method::GET, false),
        (&all, status(429), Method::GET, true),
        (&all, status(503), Method::PUT, true),
        (&all, status(503), Method::DELETE, true),
        (&all, status(503), Method::POST, false),
        (&all, status(503), Method::PATCH, false),
        (&all, status(503), custom, false),
        (&all, status(500), Method::GET, false),
        (&all, status(200), Method::GET, false),
        (&opted, status(502), Method::POST, true),
        (&opted, Happened::Broken, Method::POST, true),
        (&opted, Happened::Broken, Method::PATCH, false),
        (&never, Happened::Untouched, Method::GET, false),
        (&never, Happened::Broken, Method::GET, false),
    ] {
        assert_eq!(retries.allows(happened, &method), expected, "{happened:?} {method} {retries:?}");
    }
}

#[test]
fn server_errors_are_all_from_500_on() {
    let retries = Retries { on_statuses: vec![Statuses::ServerErrors], ..Retries::default() };
    for (code, expected) in [(499, false), (500, true), (503, true), (599, true), (200, false)] {
        assert_eq!(retries.allows(status(code), &Method::GET), expected, "{code}");
    }
}

#[test]
fn budget_is_a_part_of_the_requests_and_some_a_second() {
    let policy = BudgetPolicy { share: Share::from_ppm(200_000).unwrap(), min_per_second: 0 };
    let mut budget = Budget::default();
    assert!(!budget.spend(&policy, 1), "nothing was earned");
    for _ in 0..100 {
        budget.earn(&policy, 1);
    }
    let spent = (0..50).filter(|_| budget.spend(&policy, 2)).count();
    assert_eq!(spent, 20);
    assert!(!budget.spend(&policy, 10));
    assert!(!budget.spend(&policy, 12), "what was earned long ago is gone");
    let floor = BudgetPolicy { share: Share::NONE, min_per_second: 3 };
    let spent = (0..100).filter(|_| budget.spend(&floor, 100)).count();
    assert_eq!(spent, 30, "three a second, of ten seconds");
    assert!(!budget.spend(&floor, 109));
    assert!(budget.spend(&floor, 110), "those of the first second are over");
}

proptest! {
    #[test]
    fn further_attempts_are_never_more_than_the_budget(
        steps in prop::collection::vec((0_u64..3, any::<bool>()), 1..500),
        share in 0_u32..=1_000_000,
        floor in 0_u32..5,
    ) {
        let policy = BudgetPolicy { share: Share::from_ppm(share).unwrap(), min_per_second: floor };
        let mut budget = Budget::default();
        let (mut now, mut log) = (1_000, Vec::new());
        for (seconds, is_request) in steps {
            now += seconds;
            if is_request {
                budget.earn(&policy, now);
                log.push((now, true));
            } else if budget.spend(&policy, now) {
                log.push((now, false));
                let recent = |of: bool| log.iter().filter(|(at, is)| *is == of && now - at < 10).count() as u64;
                let allowed = recent(true) * u64::from(share) + u64::from(floor) * 10_000_000;
                prop_assert!(recent(false) * 1_000_000 <= allowed);
            }
        }
    }

    #[test]
    fn pause_is_random_below_a_bound_that_doubles(count in 1_u32..100, random in any::<u64>()) {
        let retries = Retries::default();
        let bound = Duration::from_millis(25 << (count - 1).min(10)).min(retries.max_backoff);
        prop_assert!(retries.pause(count, random) <= bound);
        prop_assert_eq!(retries.pause(count, 0), Duration::ZERO);
        prop_assert!(retries.pause(count, u64::MAX) + Duration::from_micros(1) > bound);
    }
}
