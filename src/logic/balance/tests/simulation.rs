//! One endpoint of ten is slow, stalls, or fails at once: what each policy makes of it.

use super::world::{Manner, Told, World};
use super::*;

const TEN_MS: Manner = Manner::Serves(10.0);

/// `count - 1` good endpoints (10 ms, eight requests at a time) and one of this manner, at three eighths of what they can bear.
fn world(policy: Policy, count: usize, manner: Manner) -> World {
    let mut endpoints = vec![(1, TEN_MS); count];
    endpoints[0].1 = manner;
    let rate = 300.0 * count as f64;
    World { policy, endpoints, servers: 8, rate, requests: 50_000, seed: 11, remembers_failures: true }
}

fn run(policy: Policy, count: usize, manner: Manner) -> Told {
    let told = world(policy, count, manner).run();
    println!(
        "{policy:?}, one of {count} {manner:?}: it gets {:.2} %, {} in flight at most; {} fail; p50 {:.1} ms, p99 \
         {:.1} ms",
        100.0 * told.part(0),
        told.most[0],
        told.failed,
        told.percentile(50.0),
        told.percentile(99.0)
    );
    told
}

#[test]
fn slow_endpoint_gets_little_and_few_wait_for_it() {
    let even = run(Policy::LeastRequest, 10, TEN_MS).percentile(99.0);
    let slow = Manner::Serves(100.0);
    let round_robin = run(Policy::RoundRobin, 10, slow);
    let least_request = run(Policy::LeastRequest, 10, slow);
    let peak_ewma = run(Policy::PeakEwma, 10, slow);
    // Taken in turn, it gets four times what it can bear, and its queue grows without end.
    assert!(round_robin.percentile(99.0) > 50.0 * even, "{}", round_robin.percentile(99.0));
    assert!(least_request.percentile(99.0) < 1.6 * even, "{}", least_request.percentile(99.0));
    assert!(peak_ewma.percentile(99.0) < 1.2 * even, "{}", peak_ewma.percentile(99.0));
    assert!(least_request.part(0) < 0.02 && peak_ewma.part(0) < 0.005);
}

#[test]
fn endpoint_that_never_answers_gets_a_handful() {
    for count in [2, 10] {
        for policy in [Policy::LeastRequest, Policy::PeakEwma] {
            let told = run(policy, count, Manner::Stalls);
            assert!(told.taken[0] < 80, "{policy:?}: {}", told.taken[0]);
        }
    }
    assert_eq!(run(Policy::RoundRobin, 10, Manner::Stalls).taken[0], 5_000, "turns know no better");
}

#[test]
fn endpoint_that_fails_at_once_is_no_black_hole() {
    for count in [2, 10] {
        for policy in [Policy::LeastRequest, Policy::PeakEwma] {
            let told = run(policy, count, Manner::Fails);
            assert!(told.part(0) < 0.04, "{policy:?} of {count}: {:.3}", told.part(0));
        }
        // What it would be like: nothing in flight looks idle.
        let blind = World { remembers_failures: false, ..world(Policy::LeastRequest, count, Manner::Fails) };
        let part = blind.run().part(0);
        println!("LeastRequest that does not count failures, one of {count}: it gets {:.1} %", 100.0 * part);
        assert!(part > 1.6 / count as f64, "{part}");
    }
}

#[test]
fn weights_are_kept_at_any_load_and_a_slow_endpoint_is_avoided_whatever_it_weighs() {
    for weights in [&[2u32, 1][..], &[10, 1], &[1, 2, 5]] {
        let whole: f64 = weights.iter().copied().map(f64::from).sum();
        for policy in [Policy::LeastRequest, Policy::PeakEwma] {
            // Requests in flight, on average.
            for flying in [0.2, 1.0, 5.0, 50.0] {
                let mut world = world(policy, weights.len(), TEN_MS);
                world.endpoints = weights.iter().map(|weight| (*weight, TEN_MS)).collect();
                (world.servers, world.rate) = (1000, flying * 100.0);
                let told = world.run();
                for (place, weight) in weights.iter().enumerate() {
                    let due = f64::from(*weight) / whole;
                    let part = told.part(place);
                    assert!(
                        (part - due).abs() < 0.08,
                        "{policy:?} {weights:?} at {flying}: {part:.3} of {due:.3}"
                    );
                }
            }
        }
    }
    for policy in [Policy::LeastRequest, Policy::PeakEwma] {
        let mut world = world(policy, 10, Manner::Serves(100.0));
        world.endpoints[0].0 = 2;
        let part = world.run().part(0);
        assert!(part < 0.04, "{policy:?}: {part}");
    }
}
