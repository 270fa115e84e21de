//! One request's way through a configuration: the phases of `proxy/handle` up to the first byte that would be sent, in
//! its order and with its functions.

use std::net::IpAddr;
use std::sync::Arc;

use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method};

use super::choice::Choice;
use super::explanation::{
    Answer, Asking, Client, Destination, Explanation, Field, Limited, Removed, Sent, Taken, Why,
};
use super::obstacle::Obstacle;
use super::request::Asked;
use crate::config::Config;
use crate::config::model::{Action, Protocol, RateLimit, Route, SplitConfig, Underscores};
use crate::logic::condition::RequestView;
use crate::logic::limit;
use crate::logic::route::{HostPattern, Lookup, PathPattern, Table};
use crate::logic::split::{Draw, OnUnavailable, assign_traced};
use crate::proxy::authority::Authority;
use crate::proxy::handle::seconds_now;
use crate::proxy::headers::{self, Forwarding};
use crate::proxy::host::Host;
use crate::proxy::identify::{Trust, addressee, identify, is_about_server};
use crate::proxy::peer::Peer;
use crate::proxy::view::View;
use crate::proxy::{Failure, Identity, Response, paths, respond, underscores};
use crate::state::RoutingHeaders;
use crate::state::build::routing_headers;
use crate::types::UpstreamName;
use crate::wire::{Fields, Known, PathRules, RequestHead};

/// A request that is refused.
struct Refused {
    failure: Failure,
    /// What is wrong with it, where the failure's own sentence does not say it all.
    why: Option<String>,
    /// The methods that its path takes, where another one is refused.
    allowed: Vec<Method>,
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self { failure, why: None, allowed: Vec::new() }
    }
}

impl Explanation {
    /// The way of `asked` from `peer`, which has shown the certificate of `identity` and came in by number `listener` of the configuration's listeners.
    pub(super) fn new(
        config: &Config,
        listener: usize,
        peer: IpAddr,
        identity: Option<&Identity>,
        asked: Asked,
    ) -> Self {
        let settings = config.listeners.get(listener).map(|listener| &**listener);
        let trust = settings.and_then(|listener| listener.trust.as_ref());
        let name = settings.map(|listener| listener.name.to_string());
        let mut explanation = Self {
            request: Asking {
                method: asked.head.method.to_string(),
                target: asked.head.path_and_query().to_owned(),
                read_as: None,
                host: Authority::of(&asked.head).ok().map(|authority| authority.as_str().to_owned()),
            },
            client: Client {
                peer: peer.to_canonical(),
                listener: name.unwrap_or_default(),
                trusted: trust.map(|set| set.contains(peer)),
                address: peer.to_canonical(),
            },
            removed: Vec::new(),
            route: None,
            obstacles: Vec::new(),
            rate_limit: None,
            split: None,
            upstream: None,
            sent: None,
            answer: None,
        };
        let peer = Peer::new(peer);
        let way = Way {
            config,
            listener,
            peer: &peer,
            trust: Trust::of(trust, peer.ip()),
            strict_host: settings.is_some_and(|listener| listener.strict_host),
            underscores: settings.map(|listener| listener.underscores).unwrap_or_default(),
            paths: settings.map(|listener| listener.paths).unwrap_or_default(),
            secure: asked.secure
                || identity.is_some()
                || settings.is_some_and(|listener| listener.tls.is_some()),
            identity,
        };
        if let Err(refused) = way.follow(asked.head, &mut explanation) {
            let Refused { failure, why, allowed } = refused;
            let response = match failure {
                Failure::MethodNotAllowed => respond::method_not_allowed(&allowed),
                failure => respond::failure(failure),
            };
            let why = why.unwrap_or_else(|| failure.sentence().to_owned());
            explanation.upstream = None;
            explanation.answer =
                Some(Answer { error: Some(failure.code()), why: Some(why), ..Answer::new(&response) });
        }
        explanation
    }
}

/// What does not change on a request's way.
struct Way<'a> {
    config: &'a Config,
    listener: usize,
    peer: &'a Peer,
    trust: Trust<'a>,
    strict_host: bool,
    underscores: Underscores,
    paths: PathRules,
    secure: bool,
    identity: Option<&'a Identity>,
}

impl Way<'_> {
    /// Follows the request as far as it goes; the order is that of the proxy.
    fn follow(&self, mut head: RequestHead, told: &mut Explanation) -> Result<(), Refused> {
        let authority = addressee(&head, self.strict_host, self.secure || self.trust.forwarding);
        let asked = head.fields.clone();
        underscores::settle(&mut head.fields, self.underscores)
            .map_err(|failure| badly_named(failure, &asked))?;
        if paths::settle(&mut head, self.paths)?.is_some() {
            told.request.read_as = Some(head.path_and_query().to_owned());
        }
        if is_about_server(&head, &authority)? {
            told.answer = Some(Answer::new(&respond::options()));
            return Ok(());
        }
        let authority = authority?;
        let routing = routing_headers(self.config);
        let client_ip = identify(&mut head.fields, &routing, self.trust, self.peer.ip(), self.identity);
        let secure = headers::is_secure(&head.fields, self.trust.forwarding, self.secure);
        told.client.address = client_ip;
        told.removed = removed(&asked, &head.fields, &routing, self.underscores);
        let counted = head.fields.clone();
        headers::request_id(&mut head.fields, self.trust.identity, fastrand::u128(..));
        let id = head.fields.get(Known::XRequestId).map(<[u8]>::to_vec);

        let view = View::new(&head, &authority, client_ip, self.identity.map(Identity::certificate));
        let table = Table::new(self.config.routes.iter().map(|route| route.matches.clone()).collect());
        let (index, pattern) = match table.lookup(&view, self.listener) {
            Lookup::Found { route, path } => (route, path),
            lookup => {
                let obstacle =
                    |route: &Arc<Route>| Obstacle::of(route, &view, &self.config.listeners, self.listener);
                told.obstacles = self.config.routes.iter().map(obstacle).collect();
                return Err(unrouted(lookup));
            }
        };
        let Some(route) = self.config.routes.get(index) else { return Err(Failure::Internal.into()) };
        let pattern = pattern.and_then(|path| route.matches.paths.get(path));
        told.route = Some(self.taken(index, route, &view, pattern));
        if let Some(settings) = &route.rate_limit {
            told.rate_limit = Some(limited(settings, &view)?);
        }
        let (split, variant) = match &route.action {
            Action::Redirect(redirect) => {
                let response = respond::redirect(redirect, &head, &authority, secure, pattern);
                told.answer = Some(Answer::of_route(route, response));
                return Ok(());
            }
            Action::Respond(answer) => {
                told.answer = Some(Answer::of_route(route, respond::fixed(answer)));
                return Ok(());
            }
            Action::Upstream(upstream) => {
                told.upstream = self.destination(upstream, route, OnUnavailable::Error);
                (None, None)
            }
            Action::Split(index) => {
                let Some(split) = self.config.splits.get(*index) else {
                    return Err(Failure::Internal.into());
                };
                (Some(&**split), self.choose(split, route, &view, told)?)
            }
        };

        let length =
            head.fields.get(Known::ContentLength).and_then(|length| text(length).parse::<u64>().ok());
        if length.zip(route.max_body).is_some_and(|(length, limit)| length > limit.0) {
            return Err(Failure::BodyTooLarge.into());
        }
        let target = respond::rewritten(&head, route.rewrite_prefix.as_deref(), pattern)?;
        let host = Host::of(&head, &authority, &route.host)?;
        let forwarding = Forwarding {
            peer: self.peer,
            trusted: self.trust.forwarding,
            secure: self.secure,
            host: authority.as_str(),
            version: head.version,
        };
        headers::strip_overrides(&mut head.fields, &routing);
        headers::forward(&mut head.fields, &forwarding);
        route.request_headers.apply(&mut head.fields);
        if let Some(split) = split {
            let value = variant.and_then(|index: usize| split.variant_values.get(index));
            let value = value.map(HeaderValue::as_bytes).unwrap_or_default();
            head.fields.set(&split.variant_header, value);
        }
        let host = match (host, told.upstream.as_ref().map(|upstream| upstream.endpoints.as_slice())) {
            (Host::Kept, _) => head.fields.get(Known::Host).map(text),
            (Host::Named(name), _) => Some(text(name.as_bytes())),
            (Host::Endpoint, Some([endpoint])) => Some(endpoint.clone()),
            (Host::Endpoint, _) => None,
        };
        let made = |name: &[u8], value: &[u8]| {
            let is_id = Known::of(name) == Some(Known::XRequestId)
                && id.as_deref() == Some(value)
                && counted.get(Known::XRequestId) != Some(value);
            is_id || (variant.is_none() && split.is_some_and(|split| is(&split.variant_header, name)))
        };
        told.sent = Some(Sent {
            target: target.as_ref().map_or_else(|| head.path_and_query(), PathAndQuery::as_str).to_owned(),
            host,
            headers: fields(&head.fields, &counted, made),
        });
        Ok(())
    }

    /// Assigns the variant; `None` where chance decides.
    fn choose(
        &self,
        split: &SplitConfig,
        route: &Route,
        view: &View<'_>,
        told: &mut Explanation,
    ) -> Result<Option<usize>, Refused> {
        let draw = Draw { random: fastrand::u128(..), now: seconds_now() };
        let (outcome, trace) = assign_traced(&split.split, view, draw);
        let choice = Choice::new(split, view, &outcome, &trace);
        let by_chance = choice.by_chance;
        told.split = Some(choice);
        let assignment = outcome.map_err(|refusal| {
            let failure = Failure::from(&refusal);
            Refused { why: Some(refusal.to_string()), ..failure.into() }
        })?;
        if by_chance {
            return Ok(None);
        }
        let variant = split.split.variants.get(assignment.variant);
        if let (Some(variant), Some(upstream)) = (variant, split.upstreams.get(assignment.variant)) {
            // There is nowhere to fall back to from the baseline.
            let otherwise =
                if assignment.variant == 0 { OnUnavailable::Error } else { variant.on_unavailable };
            told.upstream = self.destination(upstream, route, otherwise);
        }
        Ok(Some(assignment.variant))
    }

    fn taken(&self, index: usize, route: &Route, view: &View<'_>, pattern: Option<&PathPattern>) -> Taken {
        let fits = |host: &&HostPattern| host.matches(view.host(), view.port());
        let specific = |host: &&HostPattern| (!host.wildcard, host.name.len(), host.port.is_some());
        Taken {
            name: route.name.to_string(),
            place: index + 1,
            of: self.config.routes.len(),
            host: route.matches.hosts.iter().filter(fits).max_by_key(specific).map(ToString::to_string),
            path: pattern.map(ToString::to_string),
            action: match route.action {
                Action::Split(_) => "split",
                Action::Upstream(_) => "upstream",
                Action::Redirect(_) => "redirect",
                Action::Respond(_) => "respond",
            },
        }
    }

    fn destination(
        &self,
        name: &UpstreamName,
        route: &Route,
        on_unavailable: OnUnavailable,
    ) -> Option<Destination> {
        let upstream = self.config.upstreams.get(name)?;
        Some(Destination {
            name: name.to_string(),
            protocol: match upstream.protocol {
                Protocol::Http1 => "http1",
                Protocol::Http2 => "http2",
                Protocol::Auto => "auto",
            },
            endpoints: upstream.endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect(),
            attempts: route.retries.attempts,
            on_unavailable: match on_unavailable {
                OnUnavailable::Baseline => "baseline",
                OnUnavailable::Error => "error",
            },
        })
    }
}

impl Answer {
    fn new(response: &Response) -> Self {
        Self {
            status: response.head.status.as_u16(),
            error: None,
            why: None,
            headers: fields(&response.head.fields, &Fields::default(), |_, _| false),
        }
    }

    fn of_route(route: &Route, mut response: Response) -> Self {
        route.response_headers.apply(&mut response.head.fields);
        Self::new(&response)
    }
}

fn unrouted(lookup: Lookup) -> Refused {
    match lookup {
        Lookup::MethodNotAllowed(allowed) => {
            let names: Vec<_> = allowed.iter().map(Method::as_str).collect();
            let failure = Failure::MethodNotAllowed;
            let why = format!("{}, only {}", failure.sentence(), names.join(", "));
            Refused { failure, why: Some(why), allowed }
        }
        Lookup::UnknownHost => Failure::UnknownHost.into(),
        Lookup::NoRoute | Lookup::Found { .. } => Failure::NoRoute.into(),
    }
}

fn badly_named(failure: Failure, fields: &Fields) -> Refused {
    let name = fields.others().find(|name| underscores::has_underscore(name)).map(text);
    let why = format!("{}: `{}`", failure.sentence(), name.unwrap_or_default());
    Refused { why: Some(why), ..failure.into() }
}

/// The headers of `asked` that are not in `left`, and why.
fn removed(
    asked: &Fields,
    left: &Fields,
    routing: &RoutingHeaders,
    underscores: Underscores,
) -> Vec<Removed> {
    let mut between = asked.clone();
    headers::strip_hop_by_hop(&mut between);
    let mut removed: Vec<Removed> = Vec::new();
    for (name, _) in asked.iter() {
        let header = text(name);
        if left.contains(&*header) || removed.iter().any(|known| known.header == header) {
            continue;
        }
        let why = if !between.contains(&*header) {
            Why::HopByHop
        } else if routing.is_alias(name) {
            Why::Alias
        } else if routing.ours().iter().any(|ours| is(ours, name)) {
            Why::Ours
        } else if underscores == Underscores::Remove && underscores::has_underscore(name) {
            Why::Underscore
        } else {
            Why::Untrusted
        };
        removed.push(Removed { header, why });
    }
    removed
}

/// Whether `name`, in whatever case, is this one.
fn is(known: &HeaderName, name: &[u8]) -> bool {
    known.as_str().as_bytes().eq_ignore_ascii_case(name)
}

/// All fields but the host; `sent` are those of the client that count, `made` those whose value is another one each time.
fn fields(fields: &Fields, sent: &Fields, made: impl Fn(&[u8], &[u8]) -> bool) -> Vec<Field> {
    let told = fields.iter().filter(|(name, _)| Known::of(name) != Some(Known::Host));
    let told = told.map(|(name, value)| {
        let from_client = sent.all(&*text(name)).any(|sent| sent == value);
        Field { name: text(name), value: (!made(name, value)).then(|| text(value)), from_client }
    });
    told.collect()
}

/// What `settings` say of the unit of a request.
fn limited(settings: &RateLimit, view: &View<'_>) -> Result<Limited, Refused> {
    let unit = limit::unit(&settings.key, view)
        .map_err(|ambiguous| Refused { why: Some(ambiguous.to_string()), ..Failure::AmbiguousKey.into() })?;
    let (requests, per) = settings.rate.parts();
    let named = |index: usize| settings.key.get(index).map(ToString::to_string).unwrap_or_default();
    let (source, unit) = unit.map(|(index, value)| (named(index), text(&value))).unzip();
    Ok(Limited { requests, seconds: per.as_secs(), burst: settings.burst, source, unit })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
