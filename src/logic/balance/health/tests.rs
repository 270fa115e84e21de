//! The machine of an endpoint's health: rows of events, and what holds over all of them.

use proptest::prelude::*;

use super::*;

fn at(seconds: u64) -> Tick {
    Tick::after(Duration::from_secs(seconds))
}

fn policy() -> Ejection {
    Ejection { failures: 3, gateway_errors: 2, server_errors: 4, ..Ejection::default() }
}

/// What `events`, each at its second, make of an endpoint that is new.
fn after(events: &[(u64, Event)]) -> Health {
    events.iter().fold(Health::new(at(0)), |health, (second, event)| {
        health.after(*event, &policy(), at(*second), false)
    })
}

#[test]
fn failures_in_a_row_eject_and_a_success_between_them_does_not() {
    use Event::{Failed, GatewayError, ServerError, Succeeded};
    let (passing, ejected) = (State::Passing, State::Ejected);
    for (events, state) in [
        (vec![Failed, Failed], passing),
        (vec![Failed, Failed, Failed], ejected),
        (vec![Failed, Failed, Succeeded, Failed, Failed], passing),
        (vec![Failed, Failed, ServerError, Failed], passing),
        (vec![GatewayError, GatewayError], ejected),
        (vec![GatewayError, Succeeded, GatewayError], passing),
        (vec![GatewayError, ServerError, GatewayError], passing),
        (vec![GatewayError, ServerError, GatewayError, ServerError], ejected),
        (vec![ServerError; 3], passing),
        (vec![ServerError; 4], ejected),
    ] {
        let timed: Vec<_> = events.iter().map(|event| (1, *event)).collect();
        assert_eq!(after(&timed).state(), state, "{events:?}");
    }
}

#[test]
fn nothing_ejects_where_every_count_is_zero() {
    let policy = Ejection { failures: 0, gateway_errors: 0, server_errors: 0, ..policy() };
    let mut health = Health::new(at(0));
    for event in [Event::Failed, Event::GatewayError, Event::ServerError].repeat(100) {
        health = health.after(event, &policy, at(1), false);
        assert_eq!(health.state(), State::Passing);
    }
}

#[test]
fn unreachable_endpoint_comes_back_by_a_connection_and_then_one_request() {
    let ejected = after(&[(1, Event::Failed), (1, Event::Failed), (1, Event::Failed)]);
    assert_eq!(ejected.cause(), Some(Cause::Unreachable));
    assert!(!ejected.is_to_be_reached(at(3)), "its time is not over");
    assert!(ejected.is_to_be_reached(at(4)));
    assert!(!ejected.is_probe_due(at(100), true), "no request before a connection");
    assert_eq!(ejected.after(Event::Probe, &policy(), at(100), false), ejected);
    let reached = ejected.after(Event::Reached, &policy(), at(4), false);
    assert_eq!(reached.state(), State::Probing);
    assert!(reached.is_probe_due(at(4), true));
    assert!(!reached.is_probe_due(at(4), false), "one that cannot be sent again waits");
    assert!(reached.is_probe_due(at(9), false), "… but not for ever");
    let probed = reached.after(Event::Probe, &policy(), at(4), false);
    assert!(!probed.is_probe_due(at(4), true), "one at a time");
    assert!(probed.is_probe_due(at(14), true), "nobody heard of that one again");
    let back = probed.after(Event::Succeeded, &policy(), at(5), false);
    assert_eq!((back.state(), back.cause()), (State::Passing, None));
    assert!(back.is_settled());
}

#[test]
fn each_ejection_in_a_row_lasts_twice_as_long_up_to_the_longest_and_quiet_is_forgiven() {
    let policy = Ejection { max_time: Duration::from_secs(20), ..policy() };
    let step = |health: Health, event, now| health.after(event, &policy, now, false);
    let mut health = Health::new(at(0));
    let mut now = at(1);
    for _ in 0..3 {
        health = step(health, Event::Failed, now);
    }
    for seconds in [3, 6, 12, 20, 20, 20] {
        assert_eq!(health.out_for(now), Duration::from_secs(seconds));
        now = now.plus(Duration::from_secs(seconds));
        for event in [Event::Reached, Event::Probe, Event::Failed] {
            health = step(health, event, now);
        }
    }
    now = now.plus(Duration::from_secs(20));
    for event in [Event::Reached, Event::Probe, Event::Succeeded] {
        health = step(health, event, now);
    }
    now = now.plus(Duration::from_secs(41));
    for _ in 0..3 {
        health = step(health, Event::Failed, now);
    }
    assert_eq!(health.out_for(now), Duration::from_secs(3), "as the first time");
}

#[test]
fn outlier_is_probed_by_a_request_and_a_server_error_does_not_bring_it_back() {
    let ejected = after(&[(1, Event::GatewayError), (1, Event::GatewayError)]);
    assert_eq!(ejected.cause(), Some(Cause::Outlier));
    assert!(!ejected.is_probe_due(at(3), true));
    assert!(ejected.is_probe_due(at(4), true));
    let probed = ejected.after(Event::Probe, &policy(), at(4), false);
    let out = probed.after(Event::ServerError, &policy(), at(5), false);
    assert_eq!((out.state(), out.out_for(at(5))), (State::Ejected, Duration::from_secs(6)));
    let back = probed.after(Event::Succeeded, &policy(), at(5), true);
    assert_eq!((back.state(), back.warming_since()), (State::Passing, Some(at(5))));
    assert!(!back.is_plain(), "it begins slowly");
    assert!(back.after(Event::Warm, &policy(), at(35), true).is_plain());
}

#[test]
fn health_check_decides_whatever_requests_say() {
    let down = after(&[(1, Event::CheckFailed)]);
    assert_eq!((down.state(), down.cause()), (State::Ejected, Some(Cause::Unhealthy)));
    assert!(!down.is_probe_due(at(1000), true));
    assert_eq!(down.after(Event::Succeeded, &policy(), at(2), false).state(), State::Ejected);
    let up = down.after(Event::CheckPassed, &policy(), at(3), true);
    assert_eq!((up.state(), up.warming_since()), (State::Passing, Some(at(3))));
    let failed = [(1, Event::Failed), (1, Event::Failed), (1, Event::Failed), (2, Event::CheckPassed)];
    assert_eq!(after(&failed).state(), State::Ejected, "that it answers checks does not say that it answers");
    let unchecked = Health::unchecked(at(0));
    assert_eq!(unchecked.state(), State::Ejected);
    assert!(unchecked.after(Event::CheckPassed, &policy(), at(1), false).is_settled());
}

#[test]
fn all_are_used_where_more_are_out_than_may_be() {
    let half = Ejection::default();
    let none = Ejection { max_ejected: Share::NONE, ..half };
    let all = Ejection { max_ejected: Share::ALL, ..half };
    // Ejected, passing, taken out by their check.
    for (policy, out, passing, down, expected) in [
        (&half, 0, 0, 0, false),
        (&half, 1, 0, 0, true),
        (&half, 1, 1, 0, false),
        (&half, 2, 1, 0, true),
        (&half, 5, 5, 0, false),
        (&half, 6, 4, 0, true),
        (&half, 0, 1, 9, false),
        (&half, 0, 0, 9, true),
        (&half, 1, 1, 9, false),
        (&half, 1, 0, 9, true),
        (&none, 0, 5, 0, false),
        (&none, 1, 4, 0, true),
        (&all, 4, 1, 0, false),
        (&all, 5, 0, 0, true),
    ] {
        let causes = std::iter::repeat_n(Some(Cause::Outlier), out)
            .chain(std::iter::repeat_n(None, passing))
            .chain(std::iter::repeat_n(Some(Cause::Unhealthy), down));
        assert_eq!(is_panic(causes, policy), expected, "{out} of {passing} beside {down}");
    }
}

#[test]
fn endpoint_is_out_of_line_where_it_fails_far_more_often_than_all_others_together() {
    let quarter = Share::from_ppm(250_000).unwrap();
    let policy = SuccessRate { interval: Duration::from_secs(10), min_requests: 100, margin: quarter };
    for (endpoints, out) in [
        (vec![], vec![]),
        (vec![(1000, 1000)], vec![]),
        (vec![(1000, 251), (1000, 0)], vec![0]),
        (vec![(1000, 250), (1000, 0)], vec![]),
        (vec![(99, 99), (1000, 0)], vec![]),
        (vec![(1000, 900), (99, 0)], vec![]),
        (vec![(1000, 900), (60, 0), (60, 0)], vec![0]),
        (vec![(1000, 990), (1000, 1000), (1000, 995)], vec![]),
        (vec![(1000, 990), (1000, 1000), (1000, 0)], vec![0, 1]),
        (vec![(u32::MAX, u32::MAX), (u32::MAX, 0)], vec![0]),
    ] {
        assert_eq!(out_of_line(&endpoints, &policy), out, "{endpoints:?}");
    }
}

fn events() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => Just(Event::Succeeded),
        2 => Just(Event::GatewayError),
        2 => Just(Event::ServerError),
        4 => Just(Event::Failed),
        1 => Just(Event::OutOfLine),
        2 => Just(Event::Reached),
        2 => Just(Event::Probe),
        1 => Just(Event::CheckPassed),
        1 => Just(Event::CheckFailed),
        1 => Just(Event::Joined),
        1 => Just(Event::Warm),
    ]
}

proptest! {
    #[test]
    fn health_survives_packing_and_every_ejection_comes_to_an_end(
        events in prop::collection::vec((events(), 0_u64..20_000, any::<bool>()), 0..200),
        failures in 0_u8..=31,
        errors in 0_u8..=31,
    ) {
        let policy = Ejection { failures, server_errors: errors, ..policy() };
        let mut health = Health::new(at(0));
        let mut now = at(0);
        for (event, millis, slow) in events {
            now = now.plus(Duration::from_millis(millis));
            health = health.after(event, &policy, now, slow);
            prop_assert_eq!(Health::unpack(health.pack()), health);
            prop_assert!(health.out_for(now) <= policy.max_time + Duration::from_millis(10));
            prop_assert_eq!(health.cause().is_none(), health.state() == State::Passing);
            prop_assert!(!health.is_settled() || health.is_plain());
        }
        // Whatever happened: a check that passes, time, a connection and a request bring it back.
        now = now.plus(policy.max_time + PROBE);
        for event in [Event::CheckPassed, Event::Reached, Event::Probe, Event::Succeeded, Event::Warm] {
            health = health.after(event, &policy, now, false);
        }
        prop_assert!(health.is_settled(), "{:?}", health);
    }

    #[test]
    fn every_word_is_some_health(word in 0..1_u64 << 61) {
        let health = Health::unpack(word);
        prop_assert_eq!(Health::unpack(health.pack()), health);
    }
}

#[test]
fn endpoint_that_is_restarted_again_and_again_rests_no_longer_each_time() {
    let mut health = Health::new(at(0));
    for round in 1..20 {
        let now = at(round * 11);
        for _ in 0..3 {
            health = health.after(Event::Failed, &policy(), now, false);
        }
        assert_eq!(health.out_for(now), Duration::from_secs(3), "{round}");
        let now = now.plus(Duration::from_secs(3));
        for event in [Event::Reached, Event::Probe, Event::Succeeded] {
            health = health.after(event, &policy(), now, false);
        }
        assert_eq!(health.state(), State::Passing, "{round}");
    }
}
