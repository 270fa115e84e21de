//! What a request reads: taken once, never looked at again.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use http::HeaderName;

use super::Limiter;
use crate::config::{Config, model};
use crate::logic::route::Table;
use crate::logic::split::OverridePlace;
use crate::net::drain::Window;
use crate::telemetry::{AccessLog, EndpointStates, TargetId};
use crate::types::{Generation, SplitName, VariantName};
use crate::upstream::Upstream;
use crate::wire::Known;

/// A configuration made ready to serve.
#[derive(Debug)]
pub struct Snapshot {
    /// Its number.
    pub generation: Generation,
    /// The configuration that it was built from.
    pub config: Arc<Config>,
    /// The route look-up.
    pub table: Table,
    /// What happens on each route, in file order.
    pub routes: Vec<RouteEntry>,
    /// The upstreams, in file order; their connections are the workers'.
    pub upstreams: Vec<Arc<Upstream>>,
    /// The headers that carry identity.
    pub routing_headers: RoutingHeaders,
    /// The access log, when it is on.
    pub access_log: Option<Arc<AccessLog>>,
    /// The variants that were taken back and that nothing is to live on with.
    pub leaving: Vec<Leaving>,
}

/// A variant that was taken back: nobody gets it any more, and its split says how long what lives on may do so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaving {
    /// Its split.
    pub split: SplitName,
    /// The variant.
    pub variant: VariantName,
    /// The first snapshot without it: what came by an older one has to go.
    pub since: Generation,
    /// When.
    pub window: Window,
}

/// What happens on a route.
#[derive(Debug)]
pub struct RouteEntry {
    /// The route as configured.
    pub route: Arc<model::Route>,
    /// Its name, as a label.
    pub name: Arc<str>,
    /// What is to be done.
    pub plan: Plan,
    /// How much may come, where that is limited.
    pub limiter: Option<Arc<Limiter>>,
}

/// What is to be done with a request of a route.
#[derive(Debug)]
pub enum Plan {
    /// Draw a variant.
    Split {
        /// The split.
        split: Arc<model::SplitConfig>,
        /// Where each variant goes, in the order of the split's variants.
        arms: Vec<Arm>,
        /// The labels of requests that get no variant.
        refused: TargetId,
        /// By what its responses differ.
        varies: Varies,
    },
    /// Forward.
    Upstream(Arm),
    /// Answer without an upstream: a redirect or a response of our own.
    Answer(TargetId),
}

/// One destination of a route.
#[derive(Debug, Clone)]
pub struct Arm {
    /// Its labels, interned.
    pub target: TargetId,
    /// The upstream, an index into [`Snapshot::upstreams`].
    pub upstream: usize,
    /// Its settings, where it balances by hash.
    pub by_hash: Option<Arc<model::Upstream>>,
}

/// By what the responses of a split differ, beside the target of the request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Varies {
    /// The headers that the key, the rules and the override read, in the order of their names.
    pub headers: Vec<HeaderName>,
    /// Whether a rule looks at the client's address or certificate, which no header tells.
    pub by_connection: bool,
}

impl Snapshot {
    /// How the endpoints are at the moment.
    pub fn endpoints(&self) -> EndpointStates {
        let mut states = EndpointStates::default();
        for upstream in &self.upstreams {
            let name = upstream.settings.name.as_str();
            states.in_panic.insert(name.to_owned(), upstream.is_in_panic());
            for (endpoint, healthy) in upstream.healthy() {
                states.healthy.insert((name.to_owned(), endpoint.to_string()), healthy);
            }
        }
        states
    }

    /// The index of the listener that a connection came in by, as it was configured then; `None` when nobody listens
    /// there any more (its connections drain).
    ///
    /// The address is what a listener is: one may be renamed, and two that have no names change theirs when they change
    /// places in the file. (The name still tells two apart for which the kernel chose the ports.)
    pub fn listener(&self, accepted: &model::Listener) -> Option<usize> {
        let listeners = &self.config.listeners;
        let is_there = |known: &Arc<model::Listener>| known.bind == accepted.bind;
        listeners
            .iter()
            .position(|known| is_there(known) && known.name == accepted.name)
            .or_else(|| listeners.iter().position(is_there))
    }
}

/// The headers that carry identity: named by a key, a condition or an override. Strangers' ones are removed, and so are
/// everybody's aliases of them, for many servers take `x_tenant_id` and `x.tenant.id` for `x-tenant-id`.
#[derive(Debug, Default)]
pub struct RoutingHeaders {
    named: Vec<HeaderName>,
    ours: Vec<HeaderName>,
    override_headers: Vec<HeaderName>,
    override_cookies: Vec<String>,
    canonical: HashSet<Box<[u8]>>,
    /// Whether one of the headers is not spelt with `-` alone, so that a name that is may be an alias.
    is_spelt_otherwise: bool,
    known_aliases: Vec<Known>,
}

/// `name` in lower case, with its separators made one.
fn canonical(name: &[u8]) -> Box<[u8]> {
    let one = |byte: &u8| if matches!(byte, b'_' | b'.') { b'-' } else { byte.to_ascii_lowercase() };
    name.iter().map(one).collect()
}

fn has_other_separators(name: &[u8]) -> bool {
    memchr::memchr2(b'_', b'.', name).is_some()
}

/// Headers that a condition may name but that are needed to understand the message at all.
const KEPT: [HeaderName; 5] = [
    http::header::HOST,
    http::header::CONTENT_LENGTH,
    http::header::CONTENT_TYPE,
    http::header::COOKIE,
    http::header::TRAILER,
];

/// Headers by which we or a trusted peer vouch for a client: an alias of them would be a stranger's word.
const VOUCHED: [&str; 5] =
    ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-client-cert", "x-request-id"];

impl RoutingHeaders {
    /// `named` are the headers that routing reads, `ours` those that only we may set, `overrides` where overrides are.
    pub fn new<'a>(
        named: impl Iterator<Item = HeaderName>,
        ours: impl Iterator<Item = HeaderName>,
        overrides: impl Iterator<Item = &'a OverridePlace>,
    ) -> Self {
        let unique = |names: &mut dyn Iterator<Item = HeaderName>| {
            let mut seen = HashSet::new();
            names.filter(|name| !KEPT.contains(name) && seen.insert(name.clone())).collect::<Vec<_>>()
        };
        let named = unique(&mut { named });
        let ours = unique(&mut { ours });
        let texts = named.iter().chain(&ours).map(HeaderName::as_str).chain(VOUCHED);
        let is_spelt_otherwise = texts.clone().any(|name| has_other_separators(name.as_bytes()));
        let canonical = texts.map(|name| canonical(name.as_bytes())).collect();
        let (mut override_headers, mut override_cookies) = (Vec::new(), Vec::new());
        for place in overrides {
            match place {
                OverridePlace::Header(name) if !override_headers.contains(name) => {
                    override_headers.push(name.clone());
                }
                OverridePlace::Cookie(name) if !override_cookies.contains(name) => {
                    override_cookies.push(name.clone());
                }
                OverridePlace::Header(_) | OverridePlace::Cookie(_) => {}
            }
        }
        let mut headers = Self {
            named,
            ours,
            override_headers,
            override_cookies,
            canonical,
            is_spelt_otherwise,
            known_aliases: Vec::new(),
        };
        let is_alias = |known: &&Known| headers.is_alias(known.as_str().as_bytes());
        headers.known_aliases = Known::ALL.iter().filter(is_alias).copied().collect();
        headers
    }

    /// The headers that routing reads: they count from trusted peers only.
    pub fn named(&self) -> &[HeaderName] {
        &self.named
    }

    /// The headers that only we may set: they count from nobody.
    pub fn ours(&self) -> &[HeaderName] {
        &self.ours
    }

    /// The headers that carry overrides: for us, never for an upstream.
    pub fn override_headers(&self) -> &[HeaderName] {
        &self.override_headers
    }

    /// The cookies that carry overrides: for us, never for an upstream.
    pub fn override_cookies(&self) -> &[String] {
        &self.override_cookies
    }

    /// The names that the proxy knows itself and that are aliases; none, but for a header that is spelt oddly.
    pub fn known_aliases(&self) -> &[Known] {
        &self.known_aliases
    }

    /// Whether `name`, in whatever case, is another spelling of one of the headers, or of one that vouches for the
    /// client, and not one of them itself.
    pub fn is_alias(&self, name: &[u8]) -> bool {
        let is_it = |known: &str| known.as_bytes().eq_ignore_ascii_case(name);
        (self.is_spelt_otherwise || has_other_separators(name))
            && self.canonical.contains(&canonical(name))
            && !self.named.iter().chain(&self.ours).any(|known| is_it(known.as_str()))
            && !VOUCHED.into_iter().any(is_it)
            && !KEPT.iter().any(|kept| is_it(kept.as_str()))
    }
}

/// The current snapshot. A worker keeps its own `Arc` and looks only at the generation.
#[derive(Debug)]
pub struct Current {
    generation: AtomicU64,
    snapshot: ArcSwap<Snapshot>,
}

impl Current {
    /// The first snapshot.
    pub fn new(snapshot: Snapshot) -> Self {
        Self { generation: AtomicU64::new(snapshot.generation.0), snapshot: ArcSwap::from_pointee(snapshot) }
    }

    /// The generation of the current snapshot: a relaxed look, one plain load on the hot path.
    pub fn generation(&self) -> Generation {
        Generation(self.generation.load(Ordering::Relaxed))
    }

    /// The current snapshot.
    pub fn load(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Replaces the snapshot, then announces its generation: who sees the number finds the snapshot.
    pub(super) fn store(&self, snapshot: Arc<Snapshot>) {
        let generation = snapshot.generation.0;
        self.snapshot.store(snapshot);
        self.generation.store(generation, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alias_of_a_routing_header_is_recognised_and_the_header_itself_is_not() {
        let named = ["x-tenant-id", "host"].map(HeaderName::from_static);
        let ours = [HeaderName::from_static("x-weir-variant")];
        let headers = RoutingHeaders::new(named.into_iter(), ours.into_iter(), std::iter::empty());
        assert_eq!(headers.named(), [HeaderName::from_static("x-tenant-id")], "host is never stripped");
        for (name, alias) in [
            ("x_tenant_id", true),
            ("X_Tenant_Id", true),
            ("x.tenant-id", true),
            ("x_weir_variant", true),
            ("x_forwarded_for", true),
            ("x-forwarded-for", false),
            ("x-tenant-id", false),
            ("X-Tenant-Id", false),
            ("x-weir-variant", false),
            ("x_other", false),
            ("x-tenant-idd", false),
        ] {
            assert_eq!(headers.is_alias(name.as_bytes()), alias, "{name}");
        }
        let named = [HeaderName::from_static("x_tenant_id")];
        let headers = RoutingHeaders::new(named.into_iter(), std::iter::empty(), std::iter::empty());
        for (name, alias) in [("x-tenant-id", true), ("x_tenant_id", false), ("x-forwarded-for", false)] {
            assert_eq!(headers.is_alias(name.as_bytes()), alias, "{name}");
        }
        assert_eq!(headers.known_aliases(), []);
        let named = ["retry_after", "content_length"].map(HeaderName::from_static);
        let headers = RoutingHeaders::new(named.into_iter(), std::iter::empty(), std::iter::empty());
        assert_eq!(headers.known_aliases(), [Known::RetryAfter], "the length is never stripped");
    }
}
