//! Configuration to snapshot. What can fail fails here, before anything is swapped; what is unchanged is taken over.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

use super::snapshot::{Arm, Plan, RouteEntry, RoutingHeaders, Snapshot};
use crate::config::{Config, model};
use crate::logic::condition::Source;
use crate::logic::route::Table;
use crate::telemetry::{AccessLog, AccessLogError, Metrics, Sink, Target, Weight};
use crate::types::{Generation, UpstreamName};
use crate::upstream::{Upstream, resolve};

/// How long the first look-up of a new endpoint's name may hold up a change.
const FIRST_RESOLVE: Duration = Duration::from_secs(2);

/// Why a valid configuration cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The access log cannot be written.
    #[error("the access log cannot be opened")]
    AccessLog(#[from] AccessLogError),
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
    let upstreams = upstreams(&config, former, metrics).await;
    let places: HashMap<&UpstreamName, usize> =
        config.upstreams.keys().enumerate().map(|(index, name)| (name, index)).collect();
    let routes = config.routes.iter().map(|route| entry(&config, route, &places, metrics)).collect();
    let table = Table::new(config.routes.iter().map(|route| route.matches.clone()).collect());
    Ok(Snapshot {
        generation: former.map_or(Generation(1), |former| former.generation.next()),
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

async fn upstreams(config: &Config, former: Option<&Snapshot>, metrics: &Arc<Metrics>) -> Vec<Arc<Upstream>> {
    let upstreams: Vec<_> = config
        .upstreams
        .values()
        .map(|settings| {
            let kept = former
                .and_then(|former| former.upstreams.iter().find(|upstream| upstream.settings == *settings));
            kept.map_or_else(
                || Arc::new(Upstream::new(Arc::clone(settings), metrics.upstream(settings.name.as_str()))),
                Arc::clone,
            )
        })
        .collect();
    let fresh = upstreams.iter().filter(|upstream| upstream.has_names() && Arc::strong_count(upstream) == 1);
    futures_util::future::join_all(fresh.map(|upstream| resolve::refresh(upstream, FIRST_RESOLVE))).await;
    upstreams
}

fn entry(
    config: &Config,
    route: &Arc<model::Route>,
    places: &HashMap<&UpstreamName, usize>,
    metrics: &Metrics,
) -> RouteEntry {
    let name: Arc<str> = route.name.as_str().into();
    let arm = |split: &str, variant: &str, upstream: &UpstreamName| Arm {
        target: metrics.target(&Target {
            route: Arc::clone(&name),
            split: split.into(),
            variant: variant.into(),
            upstream: upstream.as_str().into(),
        }),
        // A valid configuration names only upstreams that it has.
        upstream: places.get(upstream).copied().unwrap_or_default(),
    };
    let plan = match &route.action {
        model::Action::Split(index) => {
            let split = Arc::clone(&config.splits[*index]);
            let variants = split.split.variants.iter().zip(&split.upstreams);
            let arms = variants
                .map(|(variant, upstream)| arm(split.split.name.as_str(), variant.name.as_str(), upstream))
                .collect();
            Plan::Split { split, arms }
        }
        model::Action::Upstream(upstream) => Plan::Upstream(arm("", "", upstream)),
        model::Action::Redirect(_) | model::Action::Respond(_) => Plan::Answer(metrics.target(&Target {
            route: Arc::clone(&name),
            split: "".into(),
            variant: "".into(),
            upstream: "".into(),
        })),
    };
    RouteEntry { route: Arc::clone(route), name, plan }
}

/// The headers that a key, a condition or an override names, and those that only we may set.
pub fn routing_headers(config: &Config) -> RoutingHeaders {
    let routes = config.routes.iter().flat_map(|route| &route.matches.when);
    let conditions = routes.filter_map(|condition| condition.source.header_name().cloned());
    let splits = config.splits.iter().flat_map(|split| split.split.routing_headers().cloned());
    let default = HeaderName::from_static("x-weir-variant");
    let ours = config.splits.iter().map(|split| split.variant_header.clone()).chain([default]);
    RoutingHeaders::new(conditions.chain(splits), ours)
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

/// The names of the headers and cookies by which responses of `split` differ, for `Vary`.
pub fn varies_by(split: &model::SplitConfig) -> Vec<HeaderName> {
    let pure = &split.split;
    let rules = pure.rules.iter().flat_map(|rule| &rule.when).map(|condition| &condition.source);
    let mut names: Vec<HeaderName> = pure.routing_headers().cloned().collect();
    let cookies = pure.key.iter().chain(rules).any(|source| matches!(source, Source::Cookie(_)))
        || matches!(pure.missing, crate::logic::split::Missing::Cookie(_))
        || pure
            .force
            .as_ref()
            .is_some_and(|force| matches!(force.place, crate::logic::split::OverridePlace::Cookie(_)));
    if cookies {
        names.push(http::header::COOKIE);
    }
    names.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
    names.dedup();
    names
}
