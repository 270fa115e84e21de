//! The configuration that a command is about, and the things in it that the command line names.

use std::path::Path;
use std::sync::Arc;

use crate::config::model::SplitConfig;
use crate::config::{self, Config, Rejected};

/// How far a name may be from a known one to be taken for a slip, in edits.
const SLIP: usize = 2;

/// The configuration in the file or folder `path`. Its warnings are `weir check`'s to tell.
///
/// # Errors
/// [`Rejected`], which the edge shows in full and turns into an exit code.
pub(super) fn load(path: &Path) -> Result<Arc<Config>, Rejected> {
    config::load(path).map(|accepted| accepted.config)
}

/// The split called `name`.
///
/// # Errors
/// A sentence that names the splits that there are.
pub(super) fn split<'a>(config: &'a Config, name: &str) -> anyhow::Result<&'a SplitConfig> {
    let found = config.splits.iter().find(|split| split.split.name.as_str() == name);
    let names = config.splits.iter().map(|split| split.split.name.as_str());
    found.map(|split| &**split).ok_or_else(|| unknown("split", name, names))
}

/// What to say where the `kind` of thing called `name` is none of `known`.
pub(super) fn unknown<'a>(kind: &str, name: &str, known: impl Iterator<Item = &'a str>) -> anyhow::Error {
    let known: Vec<&str> = known.collect();
    let distance = |known: &&str| strsim::damerau_levenshtein(name, known);
    let hint = match known.iter().copied().min_by_key(distance).filter(|near| distance(near) <= SLIP) {
        Some(near) => format!(", did you mean `{near}`?"),
        None => String::new(),
    };
    match known.as_slice() {
        [] => anyhow::anyhow!("there is no {kind} `{name}`: the configuration has none"),
        _ if hint.is_empty() => anyhow::anyhow!("there is no {kind} `{name}`, only {}", listed(&known)),
        [_] => anyhow::anyhow!("there is no {kind} `{name}`{hint}"),
        _ => anyhow::anyhow!("there is no {kind} `{name}`{hint} There are {}", listed(&known)),
    }
}

fn listed(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_name_is_answered_with_the_nearest_and_the_known_ones() {
        let rows: [(&[&str], &str); 4] = [
            (&[], "there is no split `chekout`: the configuration has none"),
            (&["cart"], "there is no split `chekout`, only `cart`"),
            (&["checkout"], "there is no split `chekout`, did you mean `checkout`?"),
            (
                &["cart", "checkout"],
                "there is no split `chekout`, did you mean `checkout`? There are `cart`, `checkout`",
            ),
        ];
        for (known, expected) in rows {
            assert_eq!(unknown("split", "chekout", known.iter().copied()).to_string(), expected);
        }
    }
}
