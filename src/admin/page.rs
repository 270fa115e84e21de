//! What `/status` tells, as JSON: what serves since when, what the last change came to, and how each split divides.

use std::time::SystemTime;

use serde::Serialize;

use super::Ask;
use super::certificates::{Certificate, certificates};
use super::endpoints::{Endpoint, endpoints};
use crate::state::status::ReloadError;

#[derive(Serialize)]
struct StatusPage {
    version: &'static str,
    pid: u32,
    /// When the process began to serve: after an upgrade it is another one.
    started: String,
    generation: u64,
    file: String,
    hash: String,
    ready: bool,
    last_reload: LastReload,
    listeners: Vec<Listener>,
    certificates: Vec<Certificate>,
    upstreams: Vec<Upstream>,
    splits: Vec<Split>,
}

#[derive(Serialize)]
struct LastReload {
    at: String,
    success: bool,
    errors: Vec<ReloadError>,
}

#[derive(Serialize)]
struct Listener {
    name: String,
    bind: String,
}

#[derive(Serialize)]
struct Upstream {
    name: String,
    endpoints: Vec<Endpoint>,
}

#[derive(Serialize)]
struct Split {
    name: String,
    variants: Vec<Variant>,
}

#[derive(Serialize)]
struct Variant {
    name: String,
    upstream: String,
    /// The share in the file, in `[0, 1]`.
    configured: f64,
    /// The part of the requests assigned so far, in `[0, 1]`; absent before the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    observed: Option<f64>,
    /// Requests assigned since the start.
    assigned: u64,
    /// Distinct units since the start, estimated.
    units: u64,
}

/// `/status`.
pub(super) fn status(ask: &Ask) -> Vec<u8> {
    let snapshot = ask.current.load();
    let last = ask.status.last();
    let counted = ask.metrics.assigned();
    let splits = snapshot.config.splits.iter().map(|config| {
        let split = &config.split;
        let count = |name: &str| {
            counted.iter().find(|row| *row.split == *split.name.as_str() && &*row.variant == name)
        };
        let total: u64 = split
            .variants
            .iter()
            .filter_map(|variant| count(variant.name.as_str()))
            .map(|row| row.count)
            .sum();
        let variants = split.variants.iter().zip(split.layout.shares()).zip(&config.upstreams);
        let variants = variants.map(|((variant, share), upstream)| {
            let row = count(variant.name.as_str());
            let assigned = row.map_or(0, |row| row.count);
            Variant {
                name: variant.name.to_string(),
                upstream: upstream.to_string(),
                configured: share.ratio(),
                observed: ratio(assigned, total),
                assigned,
                units: row.map_or(0, |row| row.units),
            }
        });
        Split { name: split.name.to_string(), variants: variants.collect() }
    });
    let page = StatusPage {
        version: env!("CARGO_PKG_VERSION"),
        pid: std::process::id(),
        started: rfc3339(ask.started),
        generation: snapshot.generation.0,
        file: ask.file.clone(),
        hash: last.hash,
        ready: ask.ready.load(std::sync::atomic::Ordering::Relaxed),
        last_reload: LastReload {
            at: rfc3339(last.at),
            success: last.errors.is_empty(),
            errors: last.errors,
        },
        listeners: snapshot
            .config
            .listeners
            .iter()
            .map(|listener| Listener { name: listener.name.to_string(), bind: listener.bind.to_string() })
            .collect(),
        certificates: certificates(&snapshot, &ask.shelf),
        upstreams: snapshot
            .upstreams
            .iter()
            .map(|upstream| Upstream {
                name: upstream.settings.name.to_string(),
                endpoints: endpoints(upstream),
            })
            .collect(),
        splits: splits.collect(),
    };
    // Serialising plain data to memory cannot fail; an empty page would say that it did.
    serde_json::to_vec_pretty(&page).unwrap_or_default()
}

#[expect(clippy::cast_precision_loss, reason = "a ratio for people; 2^53 requests are far away")]
fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

fn rfc3339(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).map(|time| format!("{time:.3}")).unwrap_or_default()
}
