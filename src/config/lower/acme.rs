//! `listeners[].tls.acme`, and what it needs of the rest of the file.

use std::path::PathBuf;
use std::sync::Arc;

use super::super::acme::{Acme, Challenge};
use super::super::diagnostic::Code;
use super::super::field::{Field, Text};
use super::super::model::Listener;
use super::super::raw::{self, Root};
use super::super::source::resolve;
use super::super::span::Span;
use super::{Lower, begin};

/// How many names a certificate has at most: what Let's Encrypt puts in one.
const NAMES: usize = 100;

impl Lower<'_, '_> {
    /// The certificate got by ACME; `Some(None)` when there is none.
    #[expect(clippy::option_option, reason = "wrong, absent and present are three things")]
    pub(super) fn acme(&mut self, field: &Field<raw::Acme>) -> Option<Option<Arc<Acme>>> {
        let Some(raw) = field.get() else {
            return field.is_absent().then_some(None);
        };
        let domains = self.domains(field, &raw.domains);
        let agreed = self.agreed(field, &raw.terms_agreed);
        let email = self.email(&raw.email);
        let directory = self.directory(&raw.directory);
        let directory_ca = if raw.directory_ca.is_absent() {
            Some(None)
        } else {
            self.authorities(&raw.directory_ca).map(Some)
        };
        let renew_before = if raw.renew_before.is_absent() {
            Some(None)
        } else {
            self.positive(&raw.renew_before).map(Some)
        };
        agreed.then_some(())?;
        Some(Some(Arc::new(Acme {
            domains: domains?,
            email: email?,
            directory: directory?,
            directory_ca: directory_ca?,
            challenge: match raw.challenge.get()? {
                raw::AcmeChallenge::TlsAlpn01 => Challenge::TlsAlpn01,
                raw::AcmeChallenge::Http01 => Challenge::Http01,
            },
            renew_before: renew_before?,
        })))
    }

    fn domains(&mut self, owner: &Field<raw::Acme>, list: &Field<Vec<Field<Text>>>) -> Option<Vec<String>> {
        let items = self.require(list, owner.span, "domains")?;
        if self.empty_list(list, "a certificate needs a name") {
            return None;
        }
        if items.len() > NAMES {
            let message = format!("a certificate has at most {NAMES} names, not {}", items.len());
            self.report
                .error(Code::OutOfRange, list.span, message)
                .hint("give the others to another listener");
            return None;
        }
        let domains: Vec<_> = items.iter().map(|item| (self.domain(item), item.span)).collect();
        let named = domains.iter().filter_map(|(name, span)| Some((name.clone()?, *span)));
        self.distinct(Code::DuplicateName, named, "the certificate has this name already");
        domains.into_iter().map(|(name, _)| name).collect()
    }

    /// A name for which an authority can be asked.
    fn domain(&mut self, field: &Field<Text>) -> Option<String> {
        let text = field.get()?.as_ref();
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let shown = text.escape_debug();
        let (message, hint) = if name.starts_with("*.") {
            (
                format!(
                    "`{shown}`: a wildcard can only be had by the challenge dns-01, which is not offered"
                ),
                "list the names, or give a wildcard certificate in `certificates`",
            )
        } else if name.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok() {
            (
                format!("`{shown}` is an address, and certificates by ACME are for names"),
                "give a certificate for an address in `certificates`",
            )
        } else if !name.is_ascii() {
            (format!("`{shown}` is not ASCII"), "write it as DNS has it: `xn--…`")
        } else if name.len() > 253 || !name.contains('.') || !name.split('.').all(is_label) {
            (format!("`{shown}` is no name of the public DNS"), "write for example `shop.example.com`")
        } else {
            return Some(name);
        };
        self.invalid(Code::InvalidHost, field, message).hint(hint);
        None
    }

    fn agreed(&mut self, owner: &Field<raw::Acme>, field: &Field<bool>) -> bool {
        if field.get() == Some(&true) {
            return true;
        }
        if !field.is_broken() && !self.report.mistyped(owner.span, &["terms_agreed"]) {
            let span = if field.is_given() { field.span } else { begin(owner.span) };
            self.report
                .error(
                    Code::TermsNotAgreed,
                    span,
                    "the authority issues to those who agree to its terms only",
                )
                .hint("read them (its directory says where they are), then write `terms_agreed: true`");
        }
        false
    }

    /// The address to write to; `Some(None)` when there is none.
    #[expect(clippy::option_option, reason = "wrong, absent and present are three things")]
    fn email(&mut self, field: &Field<Text>) -> Option<Option<String>> {
        let Some(text) = field.get().map(AsRef::as_ref) else {
            return field.is_absent().then_some(None);
        };
        let is_plain = |byte: u8| byte.is_ascii_graphic() && !b",;:?<>()[]\\\"".contains(&byte);
        let is_address = text.split_once('@').is_some_and(|(user, host)| {
            !user.is_empty() && !host.is_empty() && !host.contains('@') && text.bytes().all(is_plain)
        });
        if is_address && text.len() <= 254 {
            return Some(Some(text.to_owned()));
        }
        let message = format!("`{}` is no e-mail address", text.escape_debug());
        self.invalid(Code::InvalidEmail, field, message).hint("write one address, as in `ops@example.com`");
        None
    }

    fn directory(&mut self, field: &Field<Text>) -> Option<String> {
        let text = field.get()?.as_ref();
        let is_https = text.parse::<http::Uri>().is_ok_and(|uri| {
            let host = uri.authority().filter(|authority| !authority.as_str().contains('@'));
            uri.scheme() == Some(&http::uri::Scheme::HTTPS)
                && host.is_some_and(|host| !host.host().is_empty())
        });
        if is_https {
            return Some(text.to_owned());
        }
        let message = format!("`{}` is no URL that begins with `https://`", text.escape_debug());
        self.invalid(Code::InvalidUrl, field, message).hint(
            "what is asked for must not be changed on its way; `directory_ca` names a private authority",
        );
        None
    }
}

fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// The folder of what is kept; `None` where there is none or it is wrong, which is reported.
pub(super) fn state_dir(cx: &mut Lower<'_, '_>, root: &Root) -> Option<PathBuf> {
    let text = root.state_dir.get()?.as_ref();
    if text.is_empty() {
        cx.report.error(Code::InvalidPath, root.state_dir.span, "the path is empty");
        return None;
    }
    Some(resolve(cx.report.sources, root.state_dir.span, text))
}

/// Reports what ACME needs and the file does not have.
pub(super) fn needs(cx: &mut Lower<'_, '_>, root: &Root, listeners: &[Option<Listener>]) {
    let raw = root.listeners.items().iter().filter_map(|item| item.get()?.tls.get());
    let asked: Vec<_> = raw.map(|tls| &tls.acme).filter(|acme| acme.is_given()).collect();
    let Some(first) = asked.first() else { return };
    if root.state_dir.is_absent() && !cx.report.mistyped(Span::NONE, &["state_dir"]) {
        cx.report
            .error(
                Code::NoStateDir,
                begin(first.span),
                "certificates got by ACME must be kept, and nothing says where",
            )
            .hint("write for example `state_dir: /var/lib/weir`, beside `listeners`");
    }
    let by_page = asked
        .iter()
        .find(|acme| acme.get().and_then(|acme| acme.challenge.get()) == Some(&raw::AcmeChallenge::Http01));
    let answers =
        |listener: &Option<Listener>| listener.as_ref().is_none_or(|listener| listener.tls.is_none());
    if let Some(acme) = by_page
        && !listeners.iter().any(answers)
    {
        cx.report
            .error(
                Code::NoChallengeListener,
                begin(acme.span),
                "the authority asks for a page by plain HTTP, and every listener has TLS",
            )
            .hint("add a listener without `tls` behind port 80, or write `challenge: tls-alpn-01`");
    }
}
