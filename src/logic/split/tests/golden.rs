//! Every line of `tests/golden`, through the public functions.

use std::collections::HashMap;

use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{key, share, split};
use crate::logic::condition::Source;
use crate::logic::condition::fake::Fake;
use crate::logic::split::{Draw, Layout, Reason, Split, assign, assign_key, assign_traced, hash};
use crate::types::Position;

const SPLIT: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/weir-split.jsonl"));
const LAYOUT: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/weir-layout.jsonl"));

#[derive(Deserialize)]
struct Arm {
    name: String,
    #[serde(default)]
    ppm: u32,
}

#[derive(Deserialize)]
struct SplitLine {
    salt: String,
    key: String,
    variants: Vec<Arm>,
    position: String,
    variant: String,
}

#[derive(Deserialize)]
struct LayoutLine {
    position: String,
    p_k: HashMap<String, String>,
    variants: Vec<Arm>,
    variant: String,
}

fn lines<T: DeserializeOwned>(text: &str, expected: usize) -> Vec<T> {
    let lines: Vec<T> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), expected, "a line is never taken away");
    lines
}

fn position(text: &str) -> Position {
    Position(text.parse().unwrap())
}

fn split_of(line: &SplitLine) -> Split {
    let others: Vec<_> = line.variants[1..].iter().map(|arm| (arm.name.as_str(), arm.ppm)).collect();
    split(&line.salt, &line.variants[0].name, &others)
}

#[test]
fn unit_of_each_vector_then_its_position_and_variant() {
    for line in lines::<SplitLine>(SPLIT, 600) {
        let split = split_of(&line);
        let context = format!("salt {:?}, key {:?}", line.salt, line.key);
        assert_eq!(hash::position(&line.salt, line.key.as_bytes()), position(&line.position), "{context}");
        let assignment = assign_key(&split, key(&line.key));
        assert_eq!(assignment.position, Some(position(&line.position)), "{context}");
        assert_eq!(split.variants[assignment.variant].name.as_str(), line.variant, "{context}");
        assert_eq!((assignment.reason, assignment.drawn), (Reason::Weights, true), "{context}");
    }
}

#[test]
fn request_with_the_key_of_each_vector_then_the_same() {
    let draw = Draw { random: 7, now: 7 };
    let mut as_header = 0;
    for line in lines::<SplitLine>(SPLIT, 600) {
        let mut split = split_of(&line);
        split.key = vec![Source::parse("header:x-unit").unwrap(), Source::parse("query:unit").unwrap()];
        let encoded = percent_encode(line.key.as_bytes(), NON_ALPHANUMERIC);
        let mut requests = vec![Fake::new().query(&format!("unit={encoded}"))];
        if line.key.trim() == line.key {
            as_header += 1;
            requests.push(Fake::new().header("x-unit", &line.key));
        }
        for request in requests {
            let assignment = assign(&split, &request, draw).unwrap();
            assert_eq!(split.variants[assignment.variant].name.as_str(), line.variant, "{request:?}");
            assert_eq!(assignment.position, Some(position(&line.position)), "{request:?}");
            assert_eq!(assign_traced(&split, &request, draw).0.as_ref(), Ok(&assignment), "{request:?}");
        }
    }
    assert!(as_header > 300, "most keys may stand in a header: {as_header}");
}

#[test]
fn position_at_and_beside_each_bound_then_the_arm_of_the_vector() {
    for line in lines::<LayoutLine>(LAYOUT, 500) {
        let shares: Vec<_> = line.variants[1..].iter().map(|arm| share(arm.ppm)).collect();
        let layout = Layout::new(&shares).unwrap();
        let arm = layout.arm(position(&line.position), |arm| position(&line.p_k[&line.variants[arm].name]));
        let names: Vec<_> = line.variants.iter().map(|arm| (&arm.name, arm.ppm)).collect();
        assert_eq!(line.variants[arm].name, line.variant, "{} {:?} {names:?}", line.position, line.p_k);
    }
}
