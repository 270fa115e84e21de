//! Who gets which variant, over real sockets: held against the library's own assignment of a split that is built here
//! and not read from the file.

use weir::logic::split::{Split, assign_key};
use weir::types::{Share, SplitName, UnitKey, VariantName};

use crate::support::Proxy;

mod answers;
mod forces;
mod keys;
mod missing;
mod rules;
mod shares;

/// A split as the library has it.
struct Library(Split);

impl Library {
    /// A split of this salt; the first variant is the baseline, whose share is not looked at.
    fn new(salt: &str, variants: &[(&str, &str)]) -> Self {
        let name = |name: &str| VariantName::new(name).unwrap();
        let others: Vec<_> =
            variants[1..].iter().map(|(other, share)| (name(other), Share::parse(share).unwrap())).collect();
        let mut split = Split::new(SplitName::new("any").unwrap(), name(variants[0].0), &others).unwrap();
        salt.clone_into(&mut split.salt);
        Self(split)
    }

    /// The variant of the unit `key`.
    fn variant(&self, key: impl AsRef<[u8]>) -> &str {
        let assigned = assign_key(&self.0, UnitKey::new(key.as_ref()).unwrap());
        self.0.variants[assigned.variant].name.as_str()
    }

    /// The variants of `units`.
    fn all(&self, units: &[String]) -> Vec<String> {
        units.iter().map(|unit| self.variant(unit).to_owned()).collect()
    }
}

/// `count` units that look like users.
fn units(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("user-{number}")).collect()
}

/// The item `variants` of a split: the first is the baseline.
fn variants_yaml(variants: &[(&str, &str)]) -> String {
    let rows = variants.iter().enumerate().map(|(index, (name, share))| match index {
        0 => format!("{{ name: {name} }}"),
        _ => format!("{{ name: {name}, weight: {share} }}"),
    });
    format!("variants: [{}]", rows.collect::<Vec<_>>().join(", "))
}

/// Whether `hits` of `tries` are what a chance of `share` gives, within 4 standard deviations.
#[track_caller]
fn assert_share(hits: usize, tries: usize, share: f64, what: &str) {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    let (hits, tries) = (hits as f64, tries as f64);
    let (expected, sigma) = (share * tries, (tries * share * (1.0 - share)).sqrt());
    let off = (hits - expected).abs();
    assert!(off <= 4.0 * sigma, "{what}: {hits} of {tries}, expected {expected} ± {:.1}", 4.0 * sigma);
}

/// How many of `answers` are `name`.
fn count(answers: &[String], name: &str) -> usize {
    answers.iter().filter(|answer| *answer == name).count()
}

/// Starts a proxy on `sections` with one route to the split `checkout`.
async fn one_split(upstreams: &str, split: &str) -> Proxy {
    Proxy::start(&format!(
        "{upstreams}splits: {{ checkout: {{ {split} }} }}\nroutes: [{{ split: checkout }}]\n"
    ))
    .await
}
