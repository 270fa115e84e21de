//! Configuration to snapshot. What can fail fails here, before anything is swapped; what is unchanged is taken over.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use tokio::time::Instant;

use super::Limiter;
use super::snapshot::{Arm, Leaving, Plan, RouteEntry, RoutingHeaders, Snapshot, Varies};
use crate::config::{Config, model};
use crate::logic::balance::Policy;
use crate::logic::condition::Source;
use crate::logic::route::Table;
use crate::net::drain::Window;
use crate::telemetry::{AccessLog, AccessLogError, Metrics, Sink, Target, Weight};
use crate::types::{Generation, RouteName, UpstreamName};
use crate::upstream::tls::TlsSetupError;
use crate::upstream::{Upstream, resolve};

/// How long the first look-up of a new endpoint's name may hold up a change.
const FIRST_RESOLVE: Duration = Duration::from_secs(2);

/// How long after its time a variant that is not written any more is known as leaving: who is late finds it there.
const LATE: Duration = Duration::from_mins(10);

/// Why a valid configuration cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The access log cannot be written.
    #[error("the access log cannot be opened")]
    AccessLog(#[from] AccessLogError),
    /// TLS to an upstream cannot be spoken.
    #[error("TLS to the upstream `{upstream}` cannot be spoken")]
    Tls {
        /// Its name.
        upstream: UpstreamName,
        /// Why.
        source: TlsSetupError,
    },
}

/// Builds the snapshot of `config`; upstreams and the access log of `former` are kept where they are unchanged.
///
/// # Errors
/// [`BuildError`]; nothing was changed then.
pub async fn build(
    config: Arc<Config>,
    former: Option<&Snapshot>,
    metrics: &Arc<Metrics>,
) -> Result<Snapshot, BuildError> {
    let access_log = access_log(&config, former, metrics)?;
    let upstreams = upstreams(&config, former, metrics).await?;
    let places: HashMap<&UpstreamName, usize> =
        config.upstreams.keys().enumerate().map(|(index, name)| (name, index)).collect();
    let kept = limiters(former);
    let routes = config.routes.iter().map(|route| entry(&config, route, &places, &kept, metrics)).collect();
    let table = Table::new(config.routes.iter().map(|route| route.matches.clone()).collect());
    let generation = former.map_or(Generation(1), |former| former.generation.next());
    let leaving = former.map(|former| leaving(&config, former, generation)).unwrap_or_default();
    Ok(Snapshot {
        generation,
        leaving,
        table,
        routes,
        upstreams,
        routing_headers: routing_headers(&config),
        access_log,
        config,
    })
}

fn access_log(
    config: &Config,
    former: Option<&Snapshot>,
    metrics: &Arc<Metrics>,
) -> Result<Option<Arc<AccessLog>>, AccessLogError> {
    let Some(wanted) = &config.access_log else { return Ok(None) };
    if let Some(former) = former
        && former.config.access_log.as_ref() == Some(wanted)
    {
        return Ok(former.access_log.clone());
    }
    let sink = match &wanted.path {
        model::LogPath::Stdout => Sink::Stdout,
        model::LogPath::File(path) => Sink::File(path.clone()),
    };
    AccessLog::open(sink, wanted.unit_key, Arc::clone(metrics)).map(|log| Some(Arc::new(log)))
}

async fn upstreams(
    config: &Config,
    former: Option<&Snapshot>,
    metrics: &Arc<Metrics>,
) -> Result<Vec<Arc<Upstream>>, BuildError> {
    let upstream = |settings: &Arc<model::Upstream>| {
        let kept =
            former.and_then(|former| former.upstreams.iter().find(|upstream| upstream.settings == *settings));
        if let Some(kept) = kept {
            return Ok(Arc::clone(kept));
        }
        let is_it = |upstream: &&Arc<Upstream>| upstream.settings.name == settings.name;
        let namesake = former.and_then(|former| former.upstreams.iter().find(is_it));
        let made = Upstream::new(Arc::clone(settings), metrics, namesake.map(|upstream| &**upstream));
        made.map(Arc::new).map_err(|source| BuildError::Tls { upstream: settings.name.clone(), source })
    };
    let upstreams = config.upstreams.values().map(upstream).collect::<Result<Vec<_>, _>>()?;
    let fresh = upstreams.iter().filter(|upstream| upstream.has_names() && Arc::strong_count(upstream) == 1);
    futures_util::future::join_all(fresh.map(|upstream| resolve::refresh(upstream, FIRST_RESOLVE))).await;
    Ok(upstreams)
}

fn entry(
    config: &Config,
    route: &Arc<model::Route>,
    places: &HashMap<&UpstreamName, usize>,
    limiters: &HashMap<&RouteName, &Arc<Limiter>>,
    metrics: &Metrics,
) -> RouteEntry {
    let name: Arc<str> = route.name.as_str().into();
    let target = |split: &str, variant: &str, upstream: &str| {
        metrics.target(&Target {
            route: Arc::clone(&name),
            split: split.into(),
            variant: variant.into(),
            upstream: upstream.into(),
        })
    };
    let arm = |split: &str, variant: &str, upstream: &UpstreamName| Arm {
        target: target(split, variant, upstream.as_str()),
        // A valid configuration names only upstreams that it has.
        upstream: places.get(upstream).copied().unwrap_or_default(),
        by_hash: config.upstreams.get(upstream).filter(|of| of.balance == Policy::Hash).cloned(),
    };
    let plan = match &route.action {
        model::Action::Split(index) => {
            let split = Arc::clone(&config.splits[*index]);
            let variants = split.split.variants.iter().zip(&split.upstreams);
            let arms = variants
                .map(|(variant, upstream)| arm(split.split.name.as_str(), variant.name.as_str(), upstream))
                .collect();
            let refused = target(split.split.name.as_str(), "", "");
            Plan::Split { varies: varies(&split), split, arms, refused }
        }
        model::Action::Upstream(upstream) => Plan::Upstream(arm("", "", upstream)),
        model::Action::Redirect(_) | model::Action::Respond(_) => Plan::Answer(target("", "", "")),
    };
    let limiter = route.rate_limit.as_ref().map(|settings| {
        let kept = limiters.get(&route.name).filter(|limiter| limiter.settings() == settings);
        let made = || Limiter::new(Arc::clone(settings), metrics.limit(&name), Instant::now());
        kept.map_or_else(|| Arc::new(made()), |kept| Arc::clone(kept))
    });
    RouteEntry { route: Arc::clone(route), name, plan, limiter }
}

/// The limits of `former` by route, with what their units have sent.
fn limiters(former: Option<&Snapshot>) -> HashMap<&RouteName, &Arc<Limiter>> {
    let entries = former.map_or(&[][..], |former| &former.routes);
    entries.iter().filter_map(|entry| Some((&entry.route.name, entry.limiter.as_ref()?))).collect()
}

/// The variants that nobody gets any more though `former` gave them out, and those that are leaving since before.
fn leaving(config: &Config, former: &Snapshot, since: Generation) -> Vec<Leaving> {
    let now = Instant::now();
    let mut leaving: Vec<_> =
        former.leaving.iter().filter(|left| is_leaving_still(left, config, now)).cloned().collect();
    for split in &config.splits {
        let Some(limit) = split.drain else { continue };
        let pure = &split.split;
        let Some(old) = former.config.splits.iter().find(|old| old.split.name == pure.name) else { continue };
        for (index, variant) in old.split.variants.iter().enumerate() {
            let is_given_out =
                pure.variant(variant.name.as_str()).is_some_and(|variant| pure.is_given_out(variant));
            if !is_given_out && old.split.is_given_out(index) {
                leaving.push(Leaving {
                    split: pure.name.clone(),
                    variant: variant.name.clone(),
                    since,
                    window: Window { since: now, by: now + limit },
                });
            }
        }
    }
    leaving
}

/// Whether what has been leaving has to go under `config` too: not where it is given out again, or may stay to its end.
/// What is not written any more was taken back all the same.
fn is_leaving_still(left: &Leaving, config: &Config, now: Instant) -> bool {
    let is_remembered = now < left.window.by + LATE;
    let Some(split) = config.splits.iter().find(|split| split.split.name == left.split) else {
        return is_remembered;
    };
    let pure = &split.split;
    split.drain.is_some()
        && pure.variant(left.variant.as_str()).map_or(is_remembered, |variant| !pure.is_given_out(variant))
}

/// The headers that a key (a split's or a rate limit's), a condition or an override names, and those that only we may set.
pub fn routing_headers(config: &Config) -> RoutingHeaders {
    let routes = config.routes.iter().flat_map(|route| &route.matches.when);
    let conditions = routes.filter_map(|condition| condition.source.header_name().cloned());
    let limits = config.routes.iter().filter_map(|route| route.rate_limit.as_ref());
    let limits = limits.flat_map(|limit| &limit.key).filter_map(|source| source.header_name().cloned());
    let splits = config.splits.iter().flat_map(|split| split.split.routing_headers().cloned());
    let default = HeaderName::from_static("x-weir-variant");
    let ours = config.splits.iter().map(|split| split.variant_header.clone()).chain([default]);
    let overrides = config.splits.iter().filter_map(|split| Some(&split.split.force.as_ref()?.place));
    RoutingHeaders::new(conditions.chain(limits).chain(splits), ours, overrides)
}

/// The configured shares of every variant, for the metrics.
pub fn weights(config: &Config) -> Vec<Weight> {
    let splits = config.splits.iter().map(|split| &split.split);
    splits
        .flat_map(|split| {
            split.variants.iter().zip(split.layout.shares()).map(|(variant, share)| Weight {
                split: split.name.as_str().into(),
                variant: variant.name.as_str().into(),
                configured: share.ratio(),
                effective: share.ratio(),
            })
        })
        .collect()
}

/// By what the responses of `split` differ.
fn varies(split: &model::SplitConfig) -> Varies {
    let pure = &split.split;
    let mut headers: Vec<HeaderName> = pure.routing_headers().cloned().collect();
    if pure.reads_cookies() {
        headers.push(http::header::COOKIE);
    }
    headers.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
    headers.dedup();
    let mut conditions = pure.rules.iter().flat_map(|rule| &rule.when);
    let by_connection =
        conditions.any(|condition| matches!(condition.source, Source::ClientIp { .. } | Source::Tls(_)));
    Varies { headers, by_connection }
}
