//! `splits`.

use std::time::Duration;

use http::HeaderValue;

use super::super::diagnostic::Code;
use super::super::field::{Field, Name, Percent, Table, Text};
use super::super::model::{Cache, SplitConfig};
use super::super::raw;
use super::super::source::{FileError, resolve};
use super::super::span::Span;
use super::{Lower, begin, shown};
use crate::logic::condition::Source;
use crate::logic::split::token::Key;
use crate::logic::split::{
    Layout, Missing, OnUnavailable, Override, OverridePlace, Rule, Split, Then, Variant,
};
use crate::types::{RuleName, Share, SplitName, UpstreamName, VariantName};

/// The most keys of a key file: the current one and the one that is rotated out.
const MOST_KEYS: usize = 2;

/// The splits that are right, in file order.
pub(super) fn splits(cx: &mut Lower<'_, '_>, table: &Field<Table<raw::Split>>) -> Vec<SplitConfig> {
    table.entries().iter().filter_map(|(name, split)| self::split(cx, name, split)).collect()
}

fn split(cx: &mut Lower<'_, '_>, name: &Field<Text>, field: &Field<raw::Split>) -> Option<SplitConfig> {
    let name = cx.name(name, SplitName::new);
    let raw = field.get()?;
    let key = key(cx, field, raw);
    let missing = missing(cx, raw);
    let arms = variants(cx, field, raw);
    let names: Vec<&Field<Name>> =
        raw.variants.items().iter().filter_map(|variant| Some(&variant.get()?.name)).collect();
    let layout = layout(cx, raw);
    let rules = rules(cx, raw, &names);
    let force = force(cx, raw);
    let drain = if raw.drain.is_absent() { Some(None) } else { cx.positive(&raw.drain).map(Some) };
    let variant_header = cx.header_name(&raw.variant_header);
    let salt = raw.hash.get().and_then(|hash| Some(hash.xxh3.get()?.salt.get()?.0.clone()));
    let (variants, upstreams): (Vec<Variant>, Vec<UpstreamName>) = arms?.into_iter().unzip();
    let variant_values =
        variants.iter().map(|variant| HeaderValue::from_bytes(variant.name.as_str().as_bytes()));
    let (missing, cookie_max_age) = missing?;
    Some(SplitConfig {
        variant_values: variant_values.collect::<Result<_, _>>().ok()?,
        upstreams,
        variant_header: variant_header?,
        expose: *raw.expose.get()?,
        cache: match raw.cache.get() {
            Some(raw::Cache::Private) => Cache::Private,
            Some(raw::Cache::Vary) => Cache::Vary,
            None => Cache::Unset,
        },
        cookie_max_age,
        drain: drain?,
        split: Split {
            name: name?,
            key: key?,
            missing,
            salt: salt?,
            variants,
            layout: layout?,
            rules: rules?,
            force: force?,
        },
    })
}

fn key(cx: &mut Lower<'_, '_>, owner: &Field<raw::Split>, raw: &raw::Split) -> Option<Vec<Source>> {
    let keyless = matches!(raw.missing.get(), Some(raw::Missing::Random | raw::Missing::Cookie));
    if raw.key.is_absent() && keyless {
        return Some(Vec::new());
    }
    let items = cx.require(&raw.key, owner.span, "key")?;
    if cx.empty_list(&raw.key, "the key names no source") {
        return None;
    }
    let sources: Vec<_> = items.iter().filter_map(|item| cx.identity(item)).collect();
    (sources.len() == items.len()).then_some(sources)
}

/// What happens without a key, and how long a minted cookie lives.
fn missing(cx: &mut Lower<'_, '_>, raw: &raw::Split) -> Option<(Missing, Duration)> {
    let missing = *raw.missing.get()?;
    if missing != raw::Missing::Cookie {
        cx.no_effect(&raw.cookie, "`cookie` has an effect with `missing: cookie` only");
    }
    let cookie = match raw.cookie.get() {
        Some(cookie) => Some((cookie_name(cx, &cookie.name)?, cx.positive(&cookie.max_age)?)),
        None => None,
    };
    Some(match (missing, cookie) {
        (raw::Missing::Cookie, cookie) => {
            let (name, max_age) = cookie?;
            (Missing::Cookie(name), max_age)
        }
        (raw::Missing::Baseline, _) => (Missing::Baseline, Duration::ZERO),
        (raw::Missing::Random, _) => (Missing::Random, Duration::ZERO),
        (raw::Missing::Reject, _) => (Missing::Reject, Duration::ZERO),
    })
}

/// A cookie's name: a token (RFC 6265 §4.1.1).
fn cookie_name(cx: &mut Lower<'_, '_>, field: &Field<Text>) -> Option<String> {
    let text = field.get()?.as_ref();
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if !text.is_empty() && text.bytes().all(token) {
        return Some(text.to_owned());
    }
    cx.invalid(Code::InvalidCookie, field, format!("`{}` is not a cookie name", text.escape_debug()));
    None
}

fn variants(
    cx: &mut Lower<'_, '_>,
    owner: &Field<raw::Split>,
    raw: &raw::Split,
) -> Option<Vec<(Variant, UpstreamName)>> {
    let items = cx.require(&raw.variants, owner.span, "variants")?;
    if cx.empty_list(&raw.variants, "a split has at least one variant, the baseline") {
        return None;
    }
    let names = items.iter().filter_map(|item| Some(&item.get()?.name));
    let names = names.filter_map(|name| Some((name.get()?.0.clone(), name.span)));
    cx.distinct(Code::DuplicateName, names, "another variant of this split has this name");
    let variants: Vec<_> =
        items.iter().enumerate().filter_map(|(index, item)| variant(cx, item, index == 0)).collect();
    (variants.len() == items.len()).then_some(variants)
}

fn variant(
    cx: &mut Lower<'_, '_>,
    field: &Field<raw::Variant>,
    baseline: bool,
) -> Option<(Variant, UpstreamName)> {
    let raw = field.get()?;
    let name = cx.require(&raw.name, field.span, "name").and_then(|_| cx.name(&raw.name, VariantName::new));
    let upstream = match cx.refer(|names| &names.upstreams, &raw.upstream) {
        Some(_) => UpstreamName::new(raw.upstream.get()?.as_ref()).ok(),
        None => None,
    };
    let on_unavailable = match raw.on_unavailable.get()? {
        raw::OnUnavailable::Baseline if baseline => {
            cx.no_effect(&raw.on_unavailable, "the baseline has no other variant to lead to");
            return None;
        }
        raw::OnUnavailable::Baseline => OnUnavailable::Baseline,
        raw::OnUnavailable::Error => OnUnavailable::Error,
    };
    Some((Variant { name: name?, on_unavailable }, upstream?))
}

/// The split's own shares.
fn layout(cx: &mut Lower<'_, '_>, raw: &raw::Split) -> Option<Layout> {
    let mut variants = raw.variants.items().iter();
    if let Some(baseline) = variants.next().and_then(|baseline| baseline.get()) {
        no_baseline_weight(cx, &baseline.weight, baseline.weight.span);
    }
    let mut shares = Vec::with_capacity(variants.len());
    for variant in variants {
        let weight = &variant.get()?.weight;
        shares.push((cx.share(weight), weight.span));
    }
    shares_to_layout(cx, &shares)
}

fn no_baseline_weight(cx: &mut Lower<'_, '_>, weight: &Field<Percent>, span: Span) {
    if weight.is_given() {
        cx.report
            .error(
                Code::BaselineWeight,
                span,
                "the baseline (the first variant) takes what is left and has no weight",
            )
            .hint("remove the weight, or list another variant first");
    }
}

/// The layout of all shares; the one that goes over the whole is reported.
fn shares_to_layout(cx: &mut Lower<'_, '_>, shares: &[(Option<Share>, Span)]) -> Option<Layout> {
    let known = |(share, span): &(Option<Share>, Span)| share.map(|share| (u64::from(share.ppm()), *span));
    let total: u64 = shares.iter().filter_map(known).map(|(ppm, _)| ppm).sum();
    let mut sum = 0;
    for (ppm, span) in shares.iter().filter_map(known) {
        sum += ppm;
        if sum > u64::from(Share::WHOLE) {
            let message = format!("the weights add up to {}, at most 100% are possible", percent(total));
            cx.report.error(Code::SharesOverWhole, span, message);
            return None;
        }
    }
    let shares: Vec<Share> = shares.iter().map(|(share, _)| *share).collect::<Option<_>>()?;
    Layout::new(&shares).ok()
}

fn percent(ppm: u64) -> String {
    let text = format!("{}.{:04}", ppm / 10_000, ppm % 10_000);
    format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
}

fn rules(cx: &mut Lower<'_, '_>, raw: &raw::Split, variants: &[&Field<Name>]) -> Option<Vec<Rule>> {
    let items = raw.rules.items();
    let names = items.iter().filter_map(|item| Some(&item.get()?.name));
    let names = names.filter_map(|name| Some((name.get()?.0.clone(), name.span)));
    cx.distinct(Code::DuplicateName, names, "another rule of this split has this name");
    let rules: Vec<_> = items.iter().filter_map(|item| rule(cx, item, raw, variants)).collect();
    (rules.len() == items.len() && !raw.rules.is_broken()).then_some(rules)
}

fn rule(
    cx: &mut Lower<'_, '_>,
    field: &Field<raw::Rule>,
    split: &raw::Split,
    variants: &[&Field<Name>],
) -> Option<Rule> {
    let raw = field.get()?;
    let name = cx.name(&raw.name, RuleName::new);
    let when = cx.require(&raw.when, field.span, "when").and_then(|_| cx.conditions(&raw.when));
    let outcomes = [("variant", raw.variant.is_given()), ("weights", raw.weights.is_given())];
    let then = match cx.one_of("a rule", field.span, &outcomes) {
        Some("variant") => refer_variant(cx, &raw.variant, variants).map(Then::Pin),
        Some(_) => weights(cx, &raw.weights, split, variants).map(Then::Weights),
        None => None,
    };
    Some(Rule { name: name?, when: when?, then: then? })
}

/// The index of the variant that `name` refers to.
fn refer_variant<N: AsRef<str>>(
    cx: &mut Lower<'_, '_>,
    name: &Field<N>,
    variants: &[&Field<Name>],
) -> Option<usize> {
    let text = name.get()?.as_ref();
    let found = variants.iter().position(|variant| variant.get().is_some_and(|known| known.as_ref() == text));
    if found.is_none() && variants.iter().all(|variant| variant.get().is_some()) {
        let known: Vec<_> = variants.iter().map(|variant| format!("`{}`", shown(variant))).collect();
        let message = format!("the split has no variant `{}`", shown(name));
        cx.report
            .error(Code::UnknownVariant, name.span, message)
            .hint(format!("it has {}", known.join(", ")));
    }
    found
}

/// The layout of a rule's own weights, in the order of the split's variants.
fn weights(
    cx: &mut Lower<'_, '_>,
    table: &Field<Table<Percent>>,
    split: &raw::Split,
    variants: &[&Field<Name>],
) -> Option<Layout> {
    table.get()?;
    let arms = split.variants.items().len();
    let mut shares = vec![(Some(Share::NONE), Span::NONE); arms.saturating_sub(1)];
    let mut complete = arms == variants.len();
    for (name, weight) in table.entries() {
        match refer_variant(cx, name, variants) {
            Some(0) => {
                no_baseline_weight(cx, weight, name.span);
                complete = false;
            }
            Some(index) => {
                if let Some(slot) = shares.get_mut(index - 1) {
                    *slot = (cx.share(weight), weight.span);
                }
            }
            None => {
                cx.share(weight);
                complete = false;
            }
        }
    }
    shares_to_layout(cx, &shares).filter(|_| complete)
}

/// The split's override; `Some(None)` when there is none.
#[expect(clippy::option_option, reason = "wrong, absent and present are three things")]
fn force(cx: &mut Lower<'_, '_>, split: &raw::Split) -> Option<Option<Override>> {
    let field = &split.force;
    let Some(raw) = field.get() else {
        return field.is_absent().then_some(None);
    };
    let places = [("header", raw.header.is_given()), ("cookie", raw.cookie.is_given())];
    let place = match cx.one_of("an override", field.span, &places) {
        Some("header") => cx.header_name(&raw.header).map(OverridePlace::Header),
        Some(_) => cookie_name(cx, &raw.cookie).map(OverridePlace::Cookie),
        None => None,
    };
    if !raw.key_file.is_given() && !raw.bare_from.is_given() {
        cx.report
            .error(Code::MissingKey, begin(field.span), "nobody may use this override")
            .hint("give it a `key_file` for tokens, or `bare_from` for clients that need none");
        return None;
    }
    let keys = if raw.key_file.is_absent() { Some(Vec::new()) } else { keys(cx, &raw.key_file) };
    let bare_from = if cx.empty_list(&raw.bare_from, "`bare_from` names no network") {
        None
    } else {
        cx.networks(&raw.bare_from)
    };
    Some(Some(Override { place: place?, keys: keys?, bare_from: bare_from? }))
}

/// The keys in a key file: one a line.
fn keys(cx: &mut Lower<'_, '_>, field: &Field<Text>) -> Option<Vec<Key>> {
    let path = resolve(cx.report.sources, field.span, field.get()?.as_ref());
    let content = match cx.files.key_file(&path) {
        Ok(content) => content,
        Err(error) => {
            let code = match error {
                FileError::Unreadable(_) => Code::FileUnreadable,
                FileError::TooLarge(_) => Code::FileTooLarge,
            };
            cx.invalid(code, field, format!("the key file cannot be used: {error}"))
                .hint("a relative path begins at the folder of the file that names it");
            return None;
        }
    };
    let lines = content.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
    let lines: Vec<&[u8]> = lines.filter(|line| !line.is_empty()).collect();
    if lines.len() > MOST_KEYS {
        let message = format!("the key file has {} keys, at most {MOST_KEYS} are used", lines.len());
        cx.report
            .error(Code::TooManyKeys, field.span, message)
            .hint("one key a line: the current one, then the one that is rotated out");
        return None;
    }
    let keys: Option<Vec<_>> = lines.iter().map(|line| Key::new(line)).collect();
    match keys {
        Some(keys) if !keys.is_empty() => Some(keys),
        _ => {
            let message = format!("a key in the key file is shorter than {} bytes", Key::MIN);
            cx.report
                .error(Code::KeyTooShort, field.span, message)
                .hint("32 random bytes in base64 on one line are a good key");
            None
        }
    }
}
