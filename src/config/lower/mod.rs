//! Raw to valid: what the values mean, alone and together. Every error is reported, none hides another.
//!
//! Reading order: [`Lower`] (what all share), [`value`] (one value at a time), [`header`], [`condition`], [`tls`]
//! (certificates and keys), then the sections: [`limits`], [`listener`], [`listener_tls`], [`paths`] and [`acme`], [`admin`],
//! [`upstream`], [`upstream_tls`] and [`balance`], [`split`], [`route`] with [`retry`] and [`rate`]; last [`advice`], what is
//! allowed but odd.
//! A function that returns `None` has reported why.

mod acme;
mod admin;
mod advice;
mod balance;
mod condition;
mod header;
mod health;
mod limits;
mod listener;
mod listener_tls;
mod paths;
mod rate;
mod retry;
mod route;
mod split;
mod tls;
mod upstream;
mod upstream_tls;
mod value;

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::SystemTime;

use indexmap::IndexMap;

use super::diagnostic::Code;
use super::field::{Field, Name, Table};
use super::model::Config;
use super::raw::Root;
use super::report::{Added, Report, did_you_mean, nearest};
use super::source::Files;
use super::span::Span;

/// The configuration that `root` describes; `None` when there are errors, which are in the report.
pub(super) fn lower(report: &mut Report<'_>, files: &mut Files, root: &Root) -> Option<Config> {
    let names = Names::of(report, root);
    let mut cx = Lower { report, files, names, now: now() };
    let workers =
        cx.range(&root.workers, "`workers`", 1, 1024).and_then(|workers| usize::try_from(workers).ok());
    let shutdown_timeout = cx.period(&root.shutdown_timeout);
    let state_dir = acme::state_dir(&mut cx, root);
    let limits = limits::limits(&mut cx, &root.limits);
    let listeners = listener::listeners(&mut cx, root);
    acme::needs(&mut cx, root, &listeners);
    let telemetry = admin::telemetry(&mut cx, &root.telemetry);
    let admin = admin::admin(&mut cx, &root.admin);
    let access_log = admin::access_log(&mut cx, &root.access_log);
    listener::distinct_addresses(&mut cx, root, &listeners, telemetry.as_ref(), admin.as_ref());
    let zone = balance::zone(&mut cx, &root.zone).flatten();
    let upstreams = upstream::upstreams(&mut cx, &root.upstreams, zone.as_ref());
    let splits = split::splits(&mut cx, &root.splits);
    let routes = route::routes(&mut cx, root);
    if cx.report.has_errors() {
        return None;
    }
    let config = Config {
        workers: workers?,
        shutdown_timeout: shutdown_timeout?,
        state_dir,
        limits: limits?,
        listeners: listeners.into_iter().flatten().map(Arc::new).collect(),
        telemetry,
        admin,
        access_log,
        upstreams: upstreams
            .into_iter()
            .map(|upstream| (upstream.name.clone(), Arc::new(upstream)))
            .collect(),
        splits: splits.into_iter().map(Arc::new).collect(),
        routes: routes.into_iter().map(Arc::new).collect(),
    };
    advice::advise(cx.report, root, &config);
    Some(config)
}

/// What lowering works with.
struct Lower<'l, 'r> {
    report: &'l mut Report<'r>,
    files: &'l mut Files,
    names: Names,
    /// When this is, in seconds since 1970: certificates expire.
    now: i64,
}

#[expect(clippy::disallowed_methods, reason = "whether a certificate holds is asked once, when it is read")]
fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// What is defined, so that references can be checked in any order.
struct Names {
    listeners: Known,
    upstreams: Known,
    splits: Known,
}

/// The names of one kind.
struct Known {
    kind: &'static str,
    code: Code,
    /// Whether all definitions could be read: of others nothing can be said.
    complete: bool,
    index: IndexMap<String, usize>,
}

impl Names {
    fn of(report: &Report<'_>, root: &Root) -> Self {
        let mistyped = |section: &str| report.mistyped(Span::NONE, &[section]);
        let listeners = root.listeners.items().iter().enumerate();
        let listeners = listeners.filter_map(|(at, item)| Some((item.get()?.name.get()?.0.clone(), at)));
        let index: IndexMap<_, _> = listeners.collect();
        Self {
            listeners: Known {
                kind: "listener",
                code: Code::UnknownListener,
                complete: !root.listeners.is_broken()
                    && index.len() == root.listeners.items().len()
                    && !mistyped("listeners"),
                index,
            },
            upstreams: Known {
                complete: !root.upstreams.is_broken() && !mistyped("upstreams"),
                ..Known::of_table("upstream", Code::UnknownUpstream, &root.upstreams)
            },
            splits: Known {
                complete: !root.splits.is_broken() && !mistyped("splits"),
                ..Known::of_table("split", Code::UnknownSplit, &root.splits)
            },
        }
    }
}

impl Known {
    fn of_table<T>(kind: &'static str, code: Code, table: &Field<Table<T>>) -> Self {
        let names = table.entries().iter().enumerate();
        let index = names.filter_map(|(at, (name, _))| Some((name.get()?.0.clone(), at))).collect();
        Self { kind, code, complete: true, index }
    }
}

impl Lower<'_, '_> {
    /// The index of what `name` refers to among `known`.
    fn refer(&mut self, known: fn(&Names) -> &Known, name: &Field<Name>) -> Option<usize> {
        let text = name.get()?.as_ref();
        let known = known(&self.names);
        if let Some(&index) = known.index.get(text) {
            return Some(index);
        }
        if known.complete {
            let message = format!("there is no {} `{}`", known.kind, shown(name));
            let hint = match nearest(text, known.index.keys().map(String::as_str)) {
                Some(near) if name.written.is_none() => Some(did_you_mean(near)),
                _ if known.index.is_empty() => Some(format!("no {} is defined", known.kind)),
                _ => None,
            };
            self.report.error(known.code, name.span, message).maybe_hint(hint);
        }
        None
    }

    /// The value of a required key of what begins at `owner`.
    fn require<'f, T>(&mut self, field: &'f Field<T>, owner: Span, key: &str) -> Option<&'f T> {
        if field.is_absent() && !self.report.mistyped(owner, &[key]) {
            self.report.error(Code::MissingKey, begin(owner), format!("the key `{key}` is missing"));
        }
        field.get()
    }

    /// Reports that the value of `field` cannot be read; `message` says why, perhaps with parts of the value.
    fn invalid<T>(&mut self, code: Code, field: &Field<T>, message: impl Into<String>) -> Added<'_> {
        let message = match &field.written {
            Some(written) => format!("{}; the value is that of `{}`", code.meaning(), written.escape_debug()),
            None => message.into(),
        };
        self.report.error(code, field.span, message)
    }

    /// Reports names that stand twice.
    fn distinct<K: Hash + Eq>(
        &mut self,
        code: Code,
        items: impl IntoIterator<Item = (K, Span)>,
        message: &str,
    ) {
        let mut seen: HashMap<K, Span> = HashMap::new();
        for (key, span) in items {
            if let Some(&first) = seen.get(&key) {
                self.report.error(code, span, message).related(first, "first here");
            } else {
                seen.insert(key, span);
            }
        }
    }

    /// Reports that `field` is given and has no effect.
    fn no_effect<T>(&mut self, field: &Field<T>, message: &str) {
        if field.is_given() {
            self.report.error(Code::NoEffect, field.span, message);
        }
    }
}

/// The text of `field` as messages may show it.
fn shown<T: AsRef<str>>(field: &Field<T>) -> String {
    let text = field.written.as_deref().or_else(|| field.get().map(AsRef::as_ref)).unwrap_or_default();
    text.escape_debug().to_string()
}

/// Where `span` begins: of what is missing or spans lines.
fn begin(span: Span) -> Span {
    Span { end: span.start, ..span }
}
