//! How a snapshot divides the users: route and variant of each, by the very functions that the proxy calls.
//!
//! Nothing here is measured; what really happened is in [`super::ledger`].

use std::net::{IpAddr, Ipv4Addr};

use http::header::HeaderValue;

use super::moves::Moves;
use super::upstreams;
use super::users::{Users, request};
use crate::config::{Config, model};
use crate::logic::route::Lookup;
use crate::logic::split::{self, Draw, Layout, Missing, Split};
use crate::proxy::authority::Authority;
use crate::proxy::headers::strip_identities;
use crate::proxy::view::View;
use crate::state::{Plan, Snapshot};
use crate::types::{Generation, Share, UpstreamName};
use crate::wire::{Fields, RequestHead};

/// Who connects: the load comes over the loopback.
const PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// What a user has whose variant cannot be told beforehand, or who has none.
const NONE: &str = "no variant";

/// The variant of every user under one snapshot.
#[derive(Debug, Clone)]
pub(super) struct Division {
    /// The snapshot's number.
    pub(super) generation: Generation,
    /// The split of the first user, when there is one.
    pub(super) split: Option<String>,
    /// The variants, in the order of the file.
    pub(super) arms: Vec<Arm>,
    /// The variant of each user, an index into `arms`.
    of: Vec<Option<usize>>,
}

/// A variant, or an upstream that a route names directly.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Arm {
    split: String,
    /// The variant's name; the upstream's where there is no split.
    pub(super) name: String,
    /// The share in the file.
    pub(super) configured: Share,
    /// How many of the users it has.
    pub(super) users: usize,
    endpoints: Vec<String>,
}

/// Other shares for the split of this name, to see what they would do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Edit<'a> {
    pub(super) split: &'a str,
    pub(super) layout: &'a Layout,
}

impl Division {
    /// Divides `users`, who ask the first listener as `host`; with the shares of `edit`, when there is one.
    pub(super) fn of(snapshot: &Snapshot, users: Users, host: &HeaderValue, edit: Option<Edit<'_>>) -> Self {
        let edited = edit.and_then(|edit| {
            let found =
                snapshot.config.splits.iter().find(|split| split.split.name.as_str() == edit.split)?;
            Some(Split { layout: edit.layout.clone(), ..found.split.clone() })
        });
        let edited = edited.as_ref();
        let mut division =
            Self { generation: snapshot.generation, split: None, arms: Vec::new(), of: Vec::new() };
        let count = u32::try_from(users.count()).unwrap_or(u32::MAX);
        division.of = (0..count).map(|user| division.place(snapshot, user, host, edited)).collect();
        division
    }

    fn place(
        &mut self,
        snapshot: &Snapshot,
        user: u32,
        host: &HeaderValue,
        edited: Option<&Split>,
    ) -> Option<usize> {
        let head = request(user, host).into_parts().0;
        let fields = Fields::from(&head.headers);
        let mut head = RequestHead::new(head.method, &head.uri, head.version, fields);
        let trust = snapshot.config.listeners.first()?.trust.as_ref();
        let trusted = trust.is_none_or(|networks| networks.contains(PEER));
        strip_identities(&mut head.fields, &snapshot.routing_headers, trusted);
        let authority = Authority::of(&head).ok()?;
        let view = View::new(&head, &authority, PEER, None);
        let Lookup::Found { route, .. } = snapshot.table.lookup(&view, 0) else { return None };
        let index = match &snapshot.routes.get(route)?.plan {
            Plan::Answer(_) => return None,
            Plan::Upstream(arm) => {
                let upstream = &snapshot.upstreams.get(arm.upstream)?.settings.name;
                let name = upstream.as_str();
                self.index_of("", name, || vec![arm_of(&snapshot.config, "", name, Share::ALL, upstream)])?
            }
            Plan::Split { split, .. } => {
                let pure = edited.filter(|edited| edited.name == split.split.name).unwrap_or(&split.split);
                let variant = assigned(pure, &view)?;
                let name = pure.name.as_str();
                self.split.get_or_insert_with(|| name.to_owned());
                let variant = pure.variants.get(variant)?.name.as_str();
                self.index_of(name, variant, || arms_of(&snapshot.config, split, pure))?
            }
        };
        self.arms.get_mut(index)?.users += 1;
        Some(index)
    }

    fn index_of(&mut self, split: &str, name: &str, arms: impl FnOnce() -> Vec<Arm>) -> Option<usize> {
        let find = |arms: &[Arm]| arms.iter().position(|arm| arm.split == split && arm.name == name);
        find(&self.arms).or_else(|| {
            self.arms.extend(arms());
            find(&self.arms)
        })
    }

    /// The name of each user's variant, in the order of the users.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let name = |arm: &Option<usize>| arm.and_then(|arm| self.arms.get(arm)).map_or(NONE, |arm| &arm.name);
        self.of.iter().map(name)
    }

    /// What the users do when `latter` takes the place of this division.
    pub(super) fn moves_to(&self, latter: &Self) -> Moves {
        Moves::between(self.names(), latter.names())
    }

    /// The variant of a user, an index into `arms`; `None` when it cannot be told beforehand.
    pub(super) fn arm(&self, user: u32) -> Option<usize> {
        self.of.get(user as usize).copied().flatten()
    }

    /// The name of a user's variant.
    pub(super) fn name(&self, user: u32) -> &str {
        self.arm(user).and_then(|arm| self.arms.get(arm)).map_or(NONE, |arm| &arm.name)
    }

    /// Whether the variant `arm` is served at `endpoint`.
    pub(super) fn is_at(&self, arm: usize, endpoint: &[u8]) -> bool {
        self.arms.get(arm).is_some_and(|arm| arm.endpoints.iter().any(|known| known.as_bytes() == endpoint))
    }

    /// The first variant that is served at `endpoint`.
    pub(super) fn arm_at(&self, endpoint: &[u8]) -> Option<usize> {
        (0..self.arms.len()).find(|arm| self.is_at(*arm, endpoint))
    }
}

/// The variant that `split` gives to a request, unless chance has a say.
fn assigned(split: &Split, view: &View<'_>) -> Option<usize> {
    let assignment = split::assign(split, view, Draw { random: 0, now: 0 }).ok()?;
    let drawn = assignment.key.is_none() && assignment.position.is_some() && split.missing == Missing::Random;
    (!drawn && !assignment.minted).then_some(assignment.variant)
}

fn arms_of(config: &Config, split: &model::SplitConfig, pure: &Split) -> Vec<Arm> {
    let variants = pure.variants.iter().zip(pure.layout.shares()).zip(&split.upstreams);
    variants
        .map(|((variant, share), upstream)| {
            arm_of(config, pure.name.as_str(), variant.name.as_str(), *share, upstream)
        })
        .collect()
}

fn arm_of(config: &Config, split: &str, name: &str, configured: Share, upstream: &UpstreamName) -> Arm {
    let endpoints = config.upstreams.get(upstream).map(|upstream| upstream.endpoints.as_slice());
    Arm {
        split: split.to_owned(),
        name: name.to_owned(),
        configured,
        users: 0,
        endpoints: endpoints
            .unwrap_or_default()
            .iter()
            .map(|endpoint| upstreams::label(&endpoint.address))
            .collect(),
    }
}

#[cfg(test)]
impl Arm {
    /// An arm of this name, served at an endpoint of the same name.
    pub(super) fn named(name: &str) -> Self {
        Self {
            split: "checkout".to_owned(),
            name: name.to_owned(),
            configured: Share::NONE,
            users: 0,
            endpoints: vec![name.to_owned()],
        }
    }
}

#[cfg(test)]
impl Division {
    /// A division of users who have these variants.
    pub(super) fn named(generation: u64, users: &[&str]) -> Self {
        let mut division =
            Self { generation: Generation(generation), split: None, arms: Vec::new(), of: Vec::new() };
        for name in users {
            let arm = division.index_of("checkout", name, || vec![Arm::named(name)]);
            division.of.push(arm);
        }
        division
    }
}

/// The snapshot of this configuration.
#[cfg(test)]
pub(super) async fn snapshot(text: &str) -> Snapshot {
    let accepted = crate::config::load_text("weir-demo.yaml", text, &|_| None).unwrap();
    crate::state::build::build(accepted.config, None, &crate::telemetry::Metrics::new()).await.unwrap()
}

/// A configuration of three variants whose split and whose first listener have these further settings.
#[cfg(test)]
pub(super) fn three(split: &str, listener: &str) -> String {
    format!(
        "listeners: [{{ bind: 127.0.0.1:0{listener} }}]
upstreams:
  blue: {{ endpoints: [127.0.0.1:1] }}
  green: {{ endpoints: [127.0.0.1:2] }}
  canary: {{ endpoints: [127.0.0.1:3, localhost:4] }}
splits:
  checkout:
    key: [header:x-user-id]
    variants: [{{ name: blue }}, {{ name: green, weight: 9% }}, {{ name: canary, weight: 1% }}]
    {split}
routes: [{{ split: checkout }}]
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::split::assign_key;
    use crate::types::UnitKey;

    const HOST: HeaderValue = HeaderValue::from_static("127.0.0.1:8080");

    #[tokio::test]
    async fn user_has_the_variant_of_his_key_and_the_shares_are_of_all_users() {
        let snapshot = snapshot(&three("", "")).await;
        let division = Division::of(&snapshot, Users::new(5000), &HOST, None);
        assert_eq!(division.split.as_deref(), Some("checkout"));
        let split = &snapshot.config.splits[0].split;
        for (user, name) in (1..).zip(division.names()) {
            let key = UnitKey::new(format!("user-{user}").into_bytes()).unwrap();
            assert_eq!(name, split.variants[assign_key(split, key).variant].name.as_str(), "user-{user}");
        }
        let users: Vec<_> = division.arms.iter().map(|arm| (arm.configured.to_string(), arm.users)).collect();
        assert_eq!(users, [("90%".into(), 4507), ("9%".into(), 443), ("1%".into(), 50)]);
    }

    #[tokio::test]
    async fn ramp_moves_the_least_and_nobody_out_of_the_growing_variant() {
        let snapshot = snapshot(&three("", "")).await;
        let users = Users::new(5000);
        let mut former = Division::of(&snapshot, users, &HOST, None);
        for percent in ["5%", "25%", "50%", "91%"] {
            let shares = ["9%", percent].map(|text| Share::parse(text).unwrap());
            let layout = Layout::new(&shares).unwrap();
            let edit = Edit { split: "checkout", layout: &layout };
            let latter = Division::of(&snapshot, users, &HOST, Some(edit));
            let moves = former.moves_to(&latter);
            assert_eq!(moves.moved, moves.least, "{percent}: {moves}");
            assert_eq!(moves.flows.len(), 1, "{percent}: {moves}");
            assert_eq!((&*moves.flows[0].from, &*moves.flows[0].to), ("blue", "canary"), "{percent}");
            former = latter;
        }
    }

    #[tokio::test]
    async fn division_follows_rules_routes_and_trust_and_tells_nothing_where_chance_decides() {
        let pin = "rules: [{ when: [{ value: header:x-user-id, in: [user-7] }], variant: canary }]";
        let direct = three("", "").replace("routes: [", "routes: [{ paths: [/], upstream: green }, ");
        let respond =
            three("", "").replace("routes: [", "routes: [{ paths: [/], respond: { status: 200 } }, ");
        // Configuration, the name of user 7, and where he is served.
        let rows = [
            (three(pin, ""), "canary", Some("127.0.0.1:4")),
            (three("missing: random", ", trust: [192.0.2.0/24]"), NONE, None),
            (three("missing: baseline", ", trust: [192.0.2.0/24]"), "blue", Some("127.0.0.1:1")),
            (three("missing: cookie", ", trust: [192.0.2.0/24]"), NONE, None),
            (three("missing: reject", ", trust: [192.0.2.0/24]"), NONE, None),
            (three(pin, ", trust: [127.0.0.0/8]"), "canary", Some("127.0.0.1:3")),
            (direct, "green", Some("127.0.0.1:2")),
            (respond, NONE, None),
        ];
        for (text, name, endpoint) in rows {
            let division = Division::of(&snapshot(&text).await, Users::new(10), &HOST, None);
            assert_eq!(division.name(6), name, "{text}");
            let arm = division.arm(6);
            assert_eq!(arm.is_some(), endpoint.is_some(), "{text}");
            if let (Some(arm), Some(endpoint)) = (arm, endpoint) {
                assert!(division.is_at(arm, endpoint.as_bytes()), "{text}");
                assert!(!division.is_at(arm, b"127.0.0.1:9"), "{text}");
            }
        }
    }
}
