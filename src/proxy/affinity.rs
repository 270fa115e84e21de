//! The hashes by which a request finds its endpoint where an upstream balances by hash. They are computed while the
//! request is as the client sent it, for every upstream that it may go to; which endpoint that is, `upstream` knows.

use crate::logic::balance::maglev;
use crate::logic::condition::{RequestView, Source};
use crate::state::Arm;
use crate::types::UnitKey;

/// The hashes of a request: that of its variant's upstream, and that of its baseline's.
#[derive(Debug, Clone, Copy, Default)]
pub struct Affinity([Option<(usize, u64)>; 2]);

impl Affinity {
    /// The hashes of the request that `view` shows, for the arms that it may take; `unit` is its key in the split.
    pub fn of<R: RequestView>(arm: &Arm, baseline: Option<&Arm>, view: &R, unit: Option<&UnitKey>) -> Self {
        let hash = |arm: &Arm| Some((arm.upstream, hash(arm, view, unit)?));
        Self([hash(arm), baseline.and_then(hash)])
    }

    /// The hash for `upstream`, where that one balances by hash.
    pub fn hash(&self, upstream: usize) -> Option<u64> {
        self.0.iter().flatten().find(|(of, _)| *of == upstream).map(|(_, hash)| *hash)
    }
}

/// The hash of the first source that has a value; without sources of the unit key; else of the client's address.
fn hash<R: RequestView>(arm: &Arm, view: &R, unit: Option<&UnitKey>) -> Option<u64> {
    let settings = arm.by_hash.as_ref()?;
    let upstream = settings.name.as_str();
    // A header that came twice with different values says nothing.
    let value = settings.hash_key.iter().find_map(|source| source.read(view).ok().flatten());
    let unit = unit.filter(|_| settings.hash_key.is_empty()).map(UnitKey::as_bytes);
    if let Some(key) = value.as_deref().or(unit) {
        return Some(maglev::hash(upstream, key));
    }
    let address = Source::ClientIp { v4: None, v6: None }.value(view);
    Some(maglev::hash(upstream, address.as_deref().unwrap_or_default()))
}
