//! From sums and names to the text that Prometheus reads.
//!
//! Several targets may have the same labels of a metric (a route whose variant moved to another upstream, many routes
//! of one split): they are added up here, so no series appears twice.
//!
//! Counters that an alert may ask for before they ever rose are there from the start at 0; requests by code and the
//! histograms appear with the first request, or an idle configuration of a thousand routes would fill megabytes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Encoder, TextEncoder};

use super::crowd::Crowd;
use super::families::{Description, Family, Kind};
use super::histogram::HistogramSnapshot;
use super::labels::{Cause, Outcome, Refused, RetryOutcome, RetryReason};
use super::metrics::{Checks, ConfigState, Ejections, EndpointStates, Expiry, Names, Weight};
use super::sums::Sums;
use crate::logic::split::Reason;
use crate::wire::grpc::Status;

/// What only the control side changes.
pub(super) struct Control<'a> {
    pub(super) weights: &'a [Weight],
    pub(super) config: &'a ConfigState,
    pub(super) dropped_lines: u64,
    pub(super) endpoints: &'a EndpointStates,
    pub(super) ejections: &'a Ejections,
    pub(super) crowds: &'a BTreeMap<Arc<str>, Arc<Crowd>>,
    pub(super) checks: &'a Checks,
    pub(super) expiries: &'a [Expiry],
    /// Successes and failures.
    pub(super) renewals: [u64; 2],
    pub(super) panics: u64,
}

/// A value of one series.
trait Value {
    fn put(&self, kind: Kind, metric: &mut Metric);
}

impl Value for f64 {
    fn put(&self, kind: Kind, metric: &mut Metric) {
        if kind == Kind::Counter {
            let mut counter = Counter::default();
            counter.set_value(*self);
            metric.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(*self);
            metric.set_gauge(gauge);
        }
    }
}

impl Value for u64 {
    fn put(&self, kind: Kind, metric: &mut Metric) {
        #[expect(clippy::cast_precision_loss, reason = "the format has 64-bit floats only")]
        let value = *self as f64;
        value.put(kind, metric);
    }
}

impl Value for HistogramSnapshot {
    fn put(&self, _: Kind, metric: &mut Metric) {
        let buckets = self.cumulative().map(|(bound, count)| {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(bound);
            bucket.set_cumulative_count(count);
            bucket
        });
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(self.count());
        histogram.set_sample_sum(self.sum().as_secs_f64());
        metric.set_histogram(histogram);
    }
}

/// One series of a metric for each label set.
type Series<'a, const N: usize, V = u64> = BTreeMap<[&'a str; N], V>;

fn family<const N: usize, V: Value>(
    family: Family,
    series: impl IntoIterator<Item = ([String; N], V)>,
) -> MetricFamily {
    let Description { name, kind, labels, help } = family.description();
    debug_assert_eq!(labels.len(), N, "labels of {name}");
    let metrics = series.into_iter().map(|(values, value)| {
        let pairs = labels.iter().zip(values).map(|(label, value)| {
            let mut pair = LabelPair::default();
            pair.set_name((*label).to_owned());
            pair.set_value(value);
            pair
        });
        let mut metric = Metric::from_label(pairs.collect());
        value.put(kind, &mut metric);
        metric
    });
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(match kind {
        Kind::Counter => MetricType::COUNTER,
        Kind::Gauge => MetricType::GAUGE,
        Kind::Histogram => MetricType::HISTOGRAM,
    });
    family.set_metric(metrics.collect());
    family
}

fn named<const N: usize, V: Value>(of: Family, series: Series<'_, N, V>) -> MetricFamily {
    family(of, series.into_iter().map(|(values, value)| (values.map(str::to_owned), value)))
}

fn single(of: Family, value: impl Value) -> MetricFamily {
    family(of, [([], value)])
}

/// All families of this crate, those without a series included.
pub(super) fn families(sums: &Sums, names: &Names, control: &Control<'_>) -> Vec<MetricFamily> {
    let mut families = Vec::with_capacity(Family::ALL.len());
    requests(sums, names, &mut families);
    traffic(sums, names, &mut families);
    upstreams(sums, names, &mut families);
    endpoints(control, &mut families);
    splits(sums, names, control.weights, &mut families);
    limits(sums, names, &mut families);
    crowds(control, &mut families);
    listeners(sums, names, &mut families);
    config(control.config, &mut families);
    let errors = sums.errors.iter().map(|((code, blame), number)| ([*code, blame.as_str()], *number));
    families.push(named(Family::Errors, errors.collect()));
    certificates(control, &mut families);
    families.push(single(Family::AccessLogDropped, control.dropped_lines));
    families.push(single(Family::Panics, control.panics));
    families.push(named(Family::BuildInfo, Series::from([([env!("CARGO_PKG_VERSION")], 1)])));
    families
}

/// By route: what grows with the number of routes and codes, so only what has come.
fn requests(sums: &Sums, names: &Names, families: &mut Vec<MetricFamily>) {
    let mut by_code = BTreeMap::<_, u64>::new();
    let mut outcomes = Series::<5>::new();
    let mut grpc = Series::<5>::new();
    let mut whole = Series::<3, HistogramSnapshot>::new();
    let mut head = Series::<3, HistogramSnapshot>::new();
    for (target, sums) in names.targets.iter().zip(&sums.targets) {
        let of = [&*target.route, &*target.split, &*target.variant];
        for ((code, reason), number) in &sums.requests {
            *by_code.entry((of, &*target.upstream, *code, *reason)).or_default() += number;
        }
        let [route, split, variant] = of;
        let with = |label| [route, split, variant, &*target.upstream, label];
        for (outcome, number) in Outcome::ALL.into_iter().zip(sums.outcomes) {
            *outcomes.entry(with(outcome.as_str())).or_default() += number;
        }
        for (status, number) in Status::ALL.into_iter().zip(sums.grpc) {
            *grpc.entry(with(status.as_str())).or_default() += number;
        }
        for (series, snapshot) in [(&mut whole, &sums.whole), (&mut head, &sums.head)] {
            if snapshot.count() > 0 {
                series.entry(of).or_default().merge(snapshot);
            }
        }
    }
    let requests = by_code.into_iter().map(|(([route, split, variant], upstream, code, reason), number)| {
        let reason = reason.map_or("", Reason::as_str);
        let code = code.to_string();
        ([route, split, variant, upstream, &code, reason].map(str::to_owned), number)
    });
    families.push(family(Family::Requests, requests));
    // Only what has come, as of the codes.
    outcomes.retain(|_, number| *number > 0);
    grpc.retain(|_, number| *number > 0);
    families.push(named(Family::Outcomes, outcomes));
    families.push(named(Family::GrpcResponses, grpc));
    families.push(named(Family::RequestDuration, whole));
    families.push(named(Family::UpstreamDuration, head));
}

/// By split, variant and upstream.
fn traffic(sums: &Sums, names: &Names, families: &mut Vec<MetricFamily>) {
    let mut active = Series::<3>::new();
    let mut request_bytes = Series::<3>::new();
    let mut response_bytes = Series::<3>::new();
    let mut retries = Series::<5>::new();
    for (index, target) in names.targets.iter().enumerate().filter(|(_, target)| !target.upstream.is_empty())
    {
        let sums = sums.targets.get(index);
        let of @ [split, variant, upstream] = [&*target.split, &*target.variant, &*target.upstream];
        *active.entry(of).or_default() += sums.map_or(0, |sums| sums.active);
        *request_bytes.entry(of).or_default() += sums.map_or(0, |sums| sums.request_bytes);
        *response_bytes.entry(of).or_default() += sums.map_or(0, |sums| sums.response_bytes);
        for reason in RetryReason::ALL {
            let counts = sums.and_then(|sums| sums.retries.get(reason as usize));
            for outcome in RetryOutcome::ALL {
                let number = counts.and_then(|counts| counts.get(outcome as usize)).copied();
                let of = [split, variant, upstream, reason.as_str(), outcome.as_str()];
                *retries.entry(of).or_default() += number.unwrap_or(0);
            }
        }
    }
    families.push(named(Family::RequestsActive, active));
    families.push(named(Family::RequestBytes, request_bytes));
    families.push(named(Family::ResponseBytes, response_bytes));
    families.push(named(Family::Retries, retries));
}

fn upstreams(sums: &Sums, names: &Names, families: &mut Vec<MetricFamily>) {
    let mut failures = Series::<2>::new();
    let mut active = Series::<1>::new();
    let mut idle = Series::<1>::new();
    let mut connects = Series::<1>::new();
    for (index, name) in names.upstreams.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
        let sums = sums.upstreams.get(index);
        active.insert([name], sums.map_or(0, |sums| sums.active));
        idle.insert([name], sums.map_or(0, |sums| sums.idle));
        connects.insert([name], sums.map_or(0, |sums| sums.connects));
        for cause in Cause::ALL {
            let number = sums.and_then(|sums| sums.failures.get(cause as usize)).copied();
            failures.insert([name, cause.as_str()], number.unwrap_or(0));
        }
    }
    families.push(named(Family::Failures, failures));
    families.push(named(Family::ConnectionsActive, active));
    families.push(named(Family::ConnectionsIdle, idle));
    families.push(named(Family::Connects, connects));
}

fn endpoints(control: &Control<'_>, families: &mut Vec<MetricFamily>) {
    let healthy = control.endpoints.healthy.iter();
    let healthy = healthy.map(|((upstream, endpoint), part)| ([&**upstream, &**endpoint], *part));
    families.push(named(Family::EndpointHealthy, healthy.collect()));
    let in_panic = control.endpoints.in_panic.iter();
    let in_panic = in_panic.map(|(upstream, is_it)| ([&**upstream], u64::from(*is_it)));
    families.push(named(Family::UpstreamPanic, in_panic.collect()));
    let ejections = control.ejections.iter();
    let ejections =
        ejections.map(|((upstream, endpoint, cause), number)| ([&**upstream, &**endpoint, *cause], *number));
    families.push(named(Family::EndpointEjections, ejections.collect()));
    let mut checks = Series::<3>::new();
    for ((upstream, endpoint), [success, failure]) in control.checks {
        checks.insert([upstream, endpoint, "success"], *success);
        checks.insert([upstream, endpoint, "failure"], *failure);
    }
    families.push(named(Family::EndpointChecks, checks));
}

fn splits(sums: &Sums, names: &Names, weights: &[Weight], families: &mut Vec<MetricFamily>) {
    let mut assigned = Series::<2>::new();
    let mut units = Series::<2>::new();
    let mut missing = Series::<2>::new();
    for (index, (split, variant)) in names.arms.iter().enumerate().filter(|(_, (split, _))| !split.is_empty())
    {
        let sums = sums.arms.get(index);
        missing.insert([split, variant], sums.map_or(0, |sums| sums.missing_key));
        if !variant.is_empty() {
            assigned.insert([split, variant], sums.map_or(0, |sums| sums.assigned));
            units.insert([split, variant], sums.map_or(0, |sums| sums.units.estimate()));
        }
    }
    families.push(named(Family::Assigned, assigned));
    families.push(named(Family::Units, units));
    families.push(named(Family::MissingKey, missing));
    let share = |of: fn(&Weight) -> f64| {
        weights.iter().map(move |weight| ([&*weight.split, &*weight.variant], of(weight))).collect()
    };
    families.push(named(Family::Weight, share(|weight| weight.configured)));
    families.push(named(Family::EffectiveWeight, share(|weight| weight.effective)));
}

fn crowds(control: &Control<'_>, families: &mut Vec<MetricFamily>) {
    for (index, of) in [Family::Limit, Family::Pending, Family::Shed].into_iter().enumerate() {
        let series = control.crowds.iter().map(|(upstream, crowd)| ([&**upstream], crowd.read()[index]));
        families.push(named(of, series.collect()));
    }
}

fn limits(sums: &Sums, names: &Names, families: &mut Vec<MetricFamily>) {
    let mut refused = Series::<1>::new();
    let mut forgotten = Series::<1>::new();
    for (index, route) in names.limits.iter().enumerate() {
        let sums = sums.limits.get(index);
        refused.insert([route], sums.map_or(0, |sums| sums.refused));
        forgotten.insert([route], sums.map_or(0, |sums| sums.forgotten));
    }
    families.push(named(Family::RateLimited, refused));
    families.push(named(Family::RateLimitForgotten, forgotten));
}

fn listeners(sums: &Sums, names: &Names, families: &mut Vec<MetricFamily>) {
    let mut accepted = Series::<1>::new();
    let mut active = Series::<1>::new();
    let mut malformed = Series::<1>::new();
    let mut accept_failures = Series::<1>::new();
    let mut refused = Series::<2>::new();
    for (index, name) in names.listeners.iter().enumerate() {
        let sums = sums.listeners.get(index);
        accepted.insert([name], sums.map_or(0, |sums| sums.accepted));
        active.insert([name], sums.map_or(0, |sums| sums.active));
        malformed.insert([name], sums.map_or(0, |sums| sums.malformed));
        accept_failures.insert([name], sums.map_or(0, |sums| sums.accept_failures));
        for cause in Refused::ALL {
            let number = sums.and_then(|sums| sums.refused.get(cause as usize)).copied();
            refused.insert([name, cause.as_str()], number.unwrap_or(0));
        }
    }
    families.push(named(Family::DownstreamConnections, accepted));
    families.push(named(Family::DownstreamActive, active));
    families.push(named(Family::DownstreamMalformed, malformed));
    families.push(named(Family::DownstreamAcceptFailures, accept_failures));
    families.push(named(Family::DownstreamRefused, refused));
}

fn certificates(control: &Control<'_>, families: &mut Vec<MetricFamily>) {
    let mut expiries = Series::<2, f64>::new();
    for Expiry { listener, name, at } in control.expiries {
        #[expect(clippy::cast_precision_loss, reason = "the format has 64-bit floats only")]
        let at = *at as f64;
        // Of several with one name, the one that ends first is what somebody must look after.
        expiries.entry([listener, name]).and_modify(|known| *known = known.min(at)).or_insert(at);
    }
    families.push(named(Family::CertificateExpiry, expiries));
    let [success, failure] = control.renewals;
    families.push(named(Family::AcmeRenewals, [(["success"], success), (["failure"], failure)].into()));
}

fn config(config: &ConfigState, families: &mut Vec<MetricFamily>) {
    let since_epoch = config.last.and_then(|last| last.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    families.push(single(Family::ConfigGeneration, config.generation.0));
    let reloads = [(["success"], config.successes), (["failure"], config.failures)];
    families.push(named(Family::ConfigReloads, reloads.into()));
    families.push(single(Family::ConfigLastSuccess, u64::from(config.last_was_success)));
    families.push(single(Family::ConfigLastTime, since_epoch.as_secs_f64()));
    let info = config.hash.iter().map(|hash| ([hash.as_str()], 1));
    families.push(named(Family::ConfigInfo, info.collect()));
}

/// The text of `families`, in the order of their names; those without a series are left out.
pub(super) fn encode(mut families: Vec<MetricFamily>) -> Result<Vec<u8>, prometheus::Error> {
    families.retain(|family| !family.get_metric().is_empty());
    families.sort_by(|one, other| one.name().cmp(other.name()));
    let mut text = Vec::new();
    TextEncoder::new().encode(&families, &mut text)?;
    Ok(text)
}
