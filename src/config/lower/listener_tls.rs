//! `listeners[].tls`.

use std::sync::Arc;

use super::super::acme::Acme;
use super::super::diagnostic::Code;
use super::super::field::Field;
use super::super::raw;
use super::super::span::Span;
use super::super::tls::{Clients, Credentials, ListenerTls, TlsVersion, UnknownName};
use super::Lower;
use crate::wire::SubjectName;

impl Lower<'_, '_> {
    /// The TLS of a listener; `Some(None)` when it is plain.
    #[expect(clippy::option_option, reason = "wrong, absent and present are three things")]
    pub(super) fn listener_tls(
        &mut self,
        field: &Field<raw::ListenerTls>,
    ) -> Option<Option<Arc<ListenerTls>>> {
        let Some(raw) = field.get() else {
            return field.is_absent().then_some(None);
        };
        let acme = self.acme(&raw.acme);
        let certificates = self.listener_certificates(field, raw);
        if let (Some(Some(acme)), Some(certificates)) = (&acme, &certificates) {
            self.acme_apart(&raw.acme, acme, certificates);
        }
        let clients = self.clients(raw);
        Some(Some(Arc::new(ListenerTls {
            certificates: certificates?,
            acme: acme?,
            unknown_name: match raw.unknown_name.get()? {
                raw::UnknownName::First => UnknownName::First,
                raw::UnknownName::Refuse => UnknownName::Refuse,
            },
            min_version: match raw.min_version.get()? {
                raw::TlsVersion::Tls12 => TlsVersion::Tls12,
                raw::TlsVersion::Tls13 => TlsVersion::Tls13,
            },
            clients: clients?,
        })))
    }

    fn listener_certificates(
        &mut self,
        owner: &Field<raw::ListenerTls>,
        raw: &raw::ListenerTls,
    ) -> Option<Vec<Credentials>> {
        let list = &raw.certificates;
        if list.is_absent() && !raw.acme.is_absent() {
            return Some(Vec::new());
        }
        let items = self.require(list, owner.span, "certificates")?;
        if self.empty_list(list, "TLS needs a certificate") {
            return None;
        }
        let mut found = Vec::with_capacity(items.len());
        for item in items {
            let Some(pair) = item.get() else { continue };
            let given = self.require(&pair.cert, item.span, "cert").is_some()
                & self.require(&pair.key, item.span, "key").is_some();
            if !given {
                continue;
            }
            let Some(credentials) = self.credentials(&pair.cert, &pair.key) else { continue };
            let has_name = |name: &SubjectName| matches!(name, SubjectName::Dns(_) | SubjectName::Address(_));
            if credentials.names.iter().any(has_name) {
                found.push((credentials, pair.cert.span));
            } else {
                self.invalid(
                    Code::NamelessCertificate,
                    &pair.cert,
                    "the certificate has no name that a client could ask for",
                )
                .hint("names stand in `subjectAltName`; nobody reads the common name any more");
            }
        }
        let whole = found.len() == items.len();
        self.distinct_certificates(&found);
        whole.then(|| found.into_iter().map(|(credentials, _)| credentials).collect())
    }

    /// Reports names that two certificates with one kind of key have: nothing could tell which is meant.
    fn distinct_certificates(&mut self, certificates: &[(Credentials, Span)]) {
        let mut seen: Vec<(Vec<String>, Span, &Credentials)> = Vec::new();
        for (credentials, span) in certificates {
            let names: Vec<_> =
                credentials.names.iter().map(|name| name.text().to_ascii_lowercase()).collect();
            let kind = credentials.certified.key.algorithm();
            let earlier = seen.iter().find_map(|(others, first, other)| {
                let name = names.iter().find(|name| others.contains(name))?;
                (other.certified.key.algorithm() == kind).then_some((name, *first))
            });
            if let Some((name, first)) = earlier {
                let message = format!(
                    "another certificate has the name `{}` and the same kind of key",
                    name.escape_debug()
                );
                self.report
                    .error(Code::DuplicateCertificate, *span, message)
                    .related(first, "first here")
                    .hint("of two with one name, one may have an ECDSA key and one an RSA key");
            }
            seen.push((names, *span, credentials));
        }
    }

    /// Reports a name that a certificate from files has too, with the kind of key that those got by ACME have.
    fn acme_apart(&mut self, field: &Field<raw::Acme>, acme: &Acme, certificates: &[Credentials]) {
        let mut known = certificates
            .iter()
            .filter(|credentials| credentials.certified.key.algorithm() == rustls::SignatureAlgorithm::ECDSA);
        let is_ours = |name: &SubjectName| matches!(name, SubjectName::Dns(name) if acme.domains.iter().any(|own| own.eq_ignore_ascii_case(name)));
        if let Some(name) = known.find_map(|credentials| credentials.names.iter().find(|name| is_ours(name)))
        {
            let message = format!(
                "a certificate in `certificates` has the name `{}` and the same kind of key",
                name.text().escape_debug()
            );
            self.report
                .error(Code::DuplicateCertificate, field.span, message)
                .hint("take one of the two away; what is got by ACME has an ECDSA key");
        }
    }

    #[expect(clippy::option_option, reason = "wrong, absent and present are three things")]
    fn clients(&mut self, raw: &raw::ListenerTls) -> Option<Option<Clients>> {
        if raw.client_ca.is_absent() {
            self.no_effect(&raw.client_auth, "`client_auth` has an effect with `client_ca` only");
            return (!raw.client_auth.is_given()).then_some(None);
        }
        let authorities = self.authorities(&raw.client_ca);
        let required = match raw.client_auth.get()? {
            raw::ClientAuth::Required => true,
            raw::ClientAuth::Optional => false,
        };
        Some(Some(Clients { authorities: authorities?, required }))
    }
}
