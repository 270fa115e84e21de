//! `upstreams.NAME.tls`.

use rustls::pki_types::ServerName;

use super::super::diagnostic::Code;
use super::super::field::{Field, Text};
use super::super::model::{Endpoint, UpstreamTls};
use super::super::raw;
use super::super::tls::{Credentials, TlsVersion};
use super::Lower;
use crate::types::EndpointAddress;

impl Lower<'_, '_> {
    /// How TLS is spoken to `endpoints`, which are `None` where one of them is wrong; `Some(None)` where none speaks it.
    #[expect(clippy::option_option, reason = "wrong, absent and present are three things")]
    pub(super) fn upstream_tls(
        &mut self,
        upstream: &raw::Upstream,
        endpoints: Option<&[Endpoint]>,
    ) -> Option<Option<UpstreamTls>> {
        if endpoints.is_some_and(|endpoints| !endpoints.iter().any(|endpoint| endpoint.address.is_tls())) {
            let message = "`tls` has an effect on endpoints `https://host:port` only, and there is none";
            self.no_effect(&upstream.tls, message);
            return (!upstream.tls.is_given()).then_some(None);
        }
        let raw = upstream.tls.get()?;
        let authorities = if raw.ca.is_absent() { Some(None) } else { self.authorities(&raw.ca).map(Some) };
        let server_name = if raw.server_name.is_absent() {
            endpoints.is_some_and(|endpoints| self.are_named(upstream, endpoints)).then_some(None)
        } else {
            self.server_name(&raw.server_name).map(Some)
        };
        let credentials =
            if raw.certificate.is_absent() { Some(None) } else { self.own(&raw.certificate).map(Some) };
        Some(Some(UpstreamTls {
            authorities: authorities?,
            server_name: server_name?,
            credentials: credentials?,
            min_version: match raw.min_version.get()? {
                raw::TlsVersion::Tls12 => TlsVersion::Tls12,
                raw::TlsVersion::Tls13 => TlsVersion::Tls13,
            },
            verify: !*raw.insecure_skip_verify.get()?,
        }))
    }

    /// Whether the host of each endpoint that speaks TLS is one that a certificate can be for.
    fn are_named(&mut self, upstream: &raw::Upstream, endpoints: &[Endpoint]) -> bool {
        let mut are_named = true;
        for (endpoint, field) in endpoints.iter().zip(upstream.endpoints.items()) {
            if let EndpointAddress::Tcp { host, tls: true, .. } = &endpoint.address
                && ServerName::try_from(host.as_str()).is_err()
            {
                let message = format!("no certificate can be for the host `{host}`");
                let added = match field.get() {
                    Some(raw::EndpointEntry::Full(full)) => {
                        self.invalid(Code::InvalidAddress, &full.address, message)
                    }
                    _ => self.invalid(Code::InvalidAddress, field, message),
                };
                added.hint("write in `tls.server_name` the host that the certificate is for");
                are_named = false;
            }
        }
        are_named
    }

    fn server_name(&mut self, field: &Field<Text>) -> Option<ServerName<'static>> {
        let text = field.get()?.as_ref();
        // An address as it stands in a URL is meant as the address.
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        let name = ServerName::try_from(bare.to_ascii_lowercase()).ok();
        if name.is_none() {
            let message = format!("`{}` is no host that a certificate can be for", text.escape_debug());
            self.invalid(Code::InvalidHost, field, message)
                .hint("a host such as `cart.internal`, or an IP address; without port or scheme");
        }
        name
    }

    fn own(&mut self, field: &Field<raw::Pair>) -> Option<Credentials> {
        let pair = field.get()?;
        let is_given = self.require(&pair.cert, field.span, "cert").is_some()
            & self.require(&pair.key, field.span, "key").is_some();
        if is_given { self.credentials(&pair.cert, &pair.key) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Severity, load_text};

    /// The first error in an upstream with these endpoints and keys.
    fn error(endpoints: &str, keys: &str) -> Option<Code> {
        let text = format!(
            "listeners: [{{ bind: 127.0.0.1:0 }}]\nupstreams: {{ a: {{ endpoints: [{endpoints}]{keys} }} }}\n\
             routes: [{{ upstream: a }}]\n"
        );
        let rejected = load_text("weir.yaml", &text, &|_| None).err()?;
        let mut errors = rejected.diagnostics.iter().filter(|found| found.severity == Severity::Error);
        errors.next().map(|found| found.code)
    }

    #[test]
    fn tls_that_says_nothing_of_use_is_refused() {
        let secure = "'https://cart:8443'";
        let rows = [
            (secure, "", None),
            (secure, ", protocol: auto", None),
            ("'https://10.0.0.1:8443', 'https://[::1]:8443', 'unix:/run/a.sock', 'cart:80'", "", None),
            (secure, ", tls: { server_name: shop.example.com, min_version: 1.3 }", None),
            (secure, ", tls: { server_name: '[::1]' }", None),
            (secure, ", tls: { server_name: 'shop.example.com:443' }", Some(Code::InvalidHost)),
            (secure, ", tls: { server_name: 'https://shop' }", Some(Code::InvalidHost)),
            (secure, ", tls: { min_version: 1.1 }", Some(Code::UnknownWord)),
            (secure, ", tls: { certificate: { cert: own.pem } }", Some(Code::MissingKey)),
            (secure, ", tls: { ca: missing.pem }", Some(Code::FileUnreadable)),
            ("'http://cart:80', 'unix:/run/a.sock'", ", tls: {}", Some(Code::NoEffect)),
            ("'https://cart'", "", Some(Code::InvalidAddress)),
            ("'https://-cart:8443'", "", Some(Code::InvalidAddress)),
            ("'https://-cart:8443'", ", tls: { server_name: cart }", None),
        ];
        for (endpoints, keys, expected) in rows {
            assert_eq!(error(endpoints, keys), expected, "{endpoints}{keys}");
        }
    }
}
