//! What holds for whatever weights and loads.

use proptest::prelude::*;

use super::super::{choose, zone};
use super::*;

fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
    let weight = prop_oneof![Just(0u32), Just(1), 1..100_000u32, Just(u32::MAX)];
    let seconds = prop_oneof![Just(0.0f64), 0.0..100.0f64, Just(f64::MAX)];
    let load = prop_oneof![0..20u32, Just(u32::MAX)];
    let one = (weight, load, seconds, any::<i32>());
    prop::collection::vec(one, 0..12).prop_map(|list| {
        let candidate = |(index, (weight, in_flight, seconds, credit))| Candidate {
            index,
            weight,
            in_flight,
            seconds,
            credit: i64::from(credit),
        };
        list.into_iter().enumerate().map(candidate).collect()
    })
}

proptest! {
    #[test]
    fn one_of_those_there_is_chosen_and_none_only_where_there_is_none(
        mut candidates in candidates(),
        random: u64,
    ) {
        let some_weigh = candidates.iter().any(|candidate| candidate.weight > 0);
        for policy in POLICIES {
            let chosen = choose(policy, &mut candidates, random);
            prop_assert_eq!(chosen.is_none(), candidates.is_empty());
            if let Some(place) = chosen {
                prop_assert!(place < candidates.len());
                let others_weigh = candidates.iter().filter(|candidate| candidate.weight > 0).count() > 1;
                if some_weigh && (policy == Policy::RoundRobin || others_weigh) {
                    prop_assert!(candidates[place].weight > 0, "{:?}", policy);
                }
            }
        }
    }

    #[test]
    fn part_of_the_own_zone_is_a_part(
        near in (0..1_000_000u64, 0..1_000_000u64),
        far in (0..1_000_000u64, 0..1_000_000u64),
    ) {
        let level = |(some, more): (u64, u64)| zone::Level { usable: some, whole: some + more };
        let part = zone::near_part(level(near), level(far));
        prop_assert!(part <= 1_000_000);
        if near.0 == 0 && far.0 > 0 {
            prop_assert!(part == 0);
        }
    }
}
