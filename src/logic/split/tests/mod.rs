//! Tests of the whole: [`golden`] vectors, [`properties`] of the layout, [`cohorts`] over many units, and what
//! [`requests`] get, with [`overrides`].

mod cohorts;
mod golden;
mod overrides;
mod properties;
mod requests;

use proptest::prelude::*;

use super::{Layout, Split};
use crate::types::{Share, UnitKey, VariantName};

fn share(ppm: u32) -> Share {
    Share::from_ppm(ppm).unwrap()
}

fn layout(others: &[u32]) -> Layout {
    Layout::new(&others.iter().map(|&ppm| share(ppm)).collect::<Vec<_>>()).unwrap()
}

fn name(text: &str) -> VariantName {
    VariantName::new(text).unwrap()
}

fn key(text: &str) -> UnitKey {
    UnitKey::new(text.as_bytes()).unwrap()
}

/// A split called `salt` (which may be what no name may be) with these variants, the first the baseline.
fn split(salt: &str, baseline: &str, others: &[(&str, u32)]) -> Split {
    let others: Vec<_> = others.iter().map(|(text, ppm)| (name(text), share(*ppm))).collect();
    let split = Split::new(super::SplitName::new("checkout").unwrap(), name(baseline), &others).unwrap();
    Split { salt: salt.to_owned(), ..split }
}

/// Valid shares of up to `most` other variants, with many zeros and many that leave nothing to the baseline.
fn shares(most: usize) -> impl Strategy<Value = Vec<u32>> {
    let one = prop_oneof![
        2 => Just(0),
        2 => Just(1),
        1 => Just(Share::WHOLE),
        6 => 0..=Share::WHOLE,
        6 => 0..=Share::WHOLE / 5,
    ];
    (prop::collection::vec(one, 0..=most), any::<bool>()).prop_map(|(mut shares, fill)| {
        let mut free = Share::WHOLE;
        for share in &mut shares {
            *share = (*share).min(free);
            free -= *share;
        }
        if let (Some(last), true) = (shares.last_mut(), fill) {
            *last += free;
        }
        shares
    })
}
