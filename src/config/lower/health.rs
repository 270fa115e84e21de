//! `upstreams.NAME.health`.

use std::ops::RangeInclusive;

use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method, header};

use super::super::diagnostic::Code;
use super::super::field::{Field, SentPath, StatusRange, Table, Text};
use super::super::health::{Health, HttpProbe, Probe};
use super::super::model::Endpoint;
use super::super::raw;
use super::Lower;
use crate::logic::balance::check::{Pace, Thresholds};
use crate::types::Share;

/// The statuses of final responses.
const STATUSES: RangeInclusive<u16> = 200..=599;

impl Lower<'_, '_> {
    /// How `endpoints`, which are `None` where one of them is wrong, are checked; `Some(None)` where they are not.
    #[expect(clippy::option_option, reason = "wrong, absent and present are three things")]
    pub(super) fn health(
        &mut self,
        field: &Field<raw::Health>,
        endpoints: Option<&[Endpoint]>,
    ) -> Option<Option<Health>> {
        if field.is_absent() {
            return Some(None);
        }
        let raw = field.get()?;
        let probe = self.probe(field, raw);
        let host = if raw.host.is_absent() { Some(None) } else { self.host_value(&raw.host).map(Some) };
        let headers = self.check_headers(&raw.headers);
        let port = if raw.port.is_absent() {
            Some(None)
        } else {
            self.range(&raw.port, "a port", 1, 65535).map(Some)
        };
        let (pace, timeout) = (self.pace(raw), self.timeout(raw));
        let healthy = self.range(&raw.healthy, "the number of checks", 1, 1000);
        let unhealthy = self.range(&raw.unhealthy, "the number of checks", 1, 1000);
        if let Some(endpoints) = endpoints {
            self.useless(raw, endpoints);
        }
        Some(Some(Health {
            probe: probe?,
            host: host?,
            headers: headers?,
            port: match port? {
                Some(port) => Some(u16::try_from(port).ok()?),
                None => None,
            },
            tls: raw.tls.is_absent() || *raw.tls.get()?,
            pace: pace?,
            timeout: timeout?,
            thresholds: Thresholds {
                healthy: u32::try_from(healthy?).ok()?,
                unhealthy: u32::try_from(unhealthy?).ok()?,
            },
            wait: *raw.wait.get()?,
        }))
    }

    fn probe(&mut self, field: &Field<raw::Health>, raw: &raw::Health) -> Option<Probe> {
        let is_tcp = raw.tcp.is_broken() || raw.tcp.get() == Some(&true);
        let kinds = [("path", raw.path.is_given()), ("tcp", is_tcp), ("grpc", raw.grpc.is_given())];
        let kind = self.one_of("a health check", field.span, &kinds)?;
        if kind != "path" {
            let message = "this has an effect on a check by HTTP only, which has a `path`";
            self.no_effect(&raw.method, message);
            self.no_effect(&raw.status, message);
            self.no_effect(&raw.body, message);
        }
        match kind {
            "path" => self.http_probe(raw).map(Probe::Http),
            "tcp" => {
                let message = "a check that only connects sends nothing";
                self.no_effect(&raw.host, message);
                self.no_effect(&raw.headers, message);
                raw.tcp.get().map(|_| Probe::Tcp)
            }
            _ => raw.grpc.get().map(|service| Probe::Grpc { service: service.0.clone() }),
        }
    }

    fn http_probe(&mut self, raw: &raw::Health) -> Option<HttpProbe> {
        let path = self.asked_path(&raw.path);
        let status = self.statuses(&raw.status);
        let method = match raw.method.get()? {
            raw::Method::Get => Method::GET,
            raw::Method::Head => Method::HEAD,
        };
        if method == Method::HEAD {
            self.no_effect(&raw.body, "the answer to `HEAD` has no body");
        }
        let body = match raw.body.get() {
            Some(text) if text.0.is_empty() => {
                self.no_effect(&raw.body, "every body has a text without characters");
                None
            }
            Some(text) => Some(Some(text.0.clone().into_bytes())),
            None => raw.body.is_absent().then_some(None),
        };
        Some(HttpProbe { method, path: path?, status: status?, body: body? })
    }

    /// A path that is asked for, with a query where it has one.
    fn asked_path(&mut self, field: &Field<SentPath>) -> Option<PathAndQuery> {
        let text = field.get()?.as_ref();
        let path = text.parse::<PathAndQuery>().ok();
        let path = path.filter(|path| text.starts_with('/') && path.as_str() == text);
        if path.is_none() {
            let message = format!("`{}` is not a path that can be sent", text.escape_debug());
            self.invalid(Code::InvalidPath, field, message)
                .hint("it begins with `/`, has no `#`, and other characters are percent-encoded");
        }
        path
    }

    fn statuses(&mut self, field: &Field<Vec<Field<StatusRange>>>) -> Option<Vec<RangeInclusive<u16>>> {
        if self.empty_list(field, "no status is listed, so no endpoint would be well") {
            return None;
        }
        let items = field.items();
        let ranges: Vec<_> = items.iter().filter_map(|item| self.status_range(item)).collect();
        (ranges.len() == items.len() && !field.is_broken()).then_some(ranges)
    }

    fn status_range(&mut self, field: &Field<StatusRange>) -> Option<RangeInclusive<u16>> {
        let text = field.get()?.as_ref();
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let status = |text: &str| text.trim().parse().ok().filter(|status| STATUSES.contains(status));
        let range = status(first).zip(status(last)).filter(|(first, last)| first <= last);
        if range.is_none() {
            let message = format!("`{}` is no status from 200 to 599", text.escape_debug());
            self.invalid(Code::InvalidStatus, field, message)
                .hint("write a number such as `204`, or a range such as `200-299`");
        }
        range.map(|(first, last)| first..=last)
    }

    fn host_value(&mut self, field: &Field<Text>) -> Option<HeaderValue> {
        self.authority(field).and_then(|host| HeaderValue::try_from(host).ok())
    }

    fn check_headers(&mut self, table: &Field<Table<Text>>) -> Option<Vec<(HeaderName, HeaderValue)>> {
        let entries = table.entries();
        let mut pairs = Vec::with_capacity(entries.len());
        let mut names = Vec::with_capacity(entries.len());
        for (name, value) in entries {
            let span = name.span;
            let (name, value) = (self.check_header(name), self.header_value(value));
            names.extend(name.clone().map(|name| (name, span)));
            pairs.extend(name.zip(value).map(|(name, mut value)| {
                // Often there is a token among them.
                value.set_sensitive(true);
                (name, value)
            }));
        }
        self.distinct(Code::DuplicateName, names, "this header stands twice here");
        (pairs.len() == entries.len() && !table.is_broken()).then_some(pairs)
    }

    fn check_header(&mut self, field: &Field<Text>) -> Option<HeaderName> {
        let name = self.header_name(field)?;
        let instead = match name {
            header::CONTENT_LENGTH => "a check has no body of its own",
            header::HOST => "write `host: NAME` beside `headers`",
            _ => return Some(name),
        };
        let message = format!("`{name}` frames the message and cannot be set here");
        self.invalid(Code::HopByHopHeader, field, message).hint(instead);
        None
    }

    fn pace(&mut self, raw: &raw::Health) -> Option<Pace> {
        let interval = self.positive(&raw.interval);
        // One that follows the other is reported once.
        let unhealthy_interval =
            if raw.unhealthy_interval.is_given() { self.positive(&raw.unhealthy_interval) } else { interval };
        let jitter = raw.jitter.get().and_then(|text| match Share::parse(&text.0) {
            Ok(share) => Some(share),
            Err(error) => {
                let message = format!("`{}`: {error}", text.0.escape_debug());
                self.invalid(Code::InvalidShare, &raw.jitter, message).hint("write for example `10%`");
                None
            }
        });
        Some(Pace { interval: interval?, unhealthy_interval: unhealthy_interval?, jitter: jitter? })
    }

    /// How long a check may take: it has ended when the next one begins.
    fn timeout(&mut self, raw: &raw::Health) -> Option<std::time::Duration> {
        if !raw.timeout.is_given() {
            // By default it is not above an interval that is one.
            return crate::types::quantity::parse_duration(&raw.timeout.get()?.0).ok();
        }
        let timeout = self.positive(&raw.timeout)?;
        let quiet = |field: &Field<super::super::field::Period>| {
            crate::types::quantity::parse_duration(&field.get()?.0).ok().filter(|period| !period.is_zero())
        };
        for (key, field) in [("interval", &raw.interval), ("unhealthy_interval", &raw.unhealthy_interval)] {
            if quiet(field).is_some_and(|interval| timeout > interval) {
                let message = format!("a check may take longer than `{key}`, when the next one begins");
                self.report
                    .error(Code::OutOfRange, raw.timeout.span, message)
                    .hint(format!("write a `timeout` that is not above `{key}`"));
                return None;
            }
        }
        Some(timeout)
    }

    /// Reports what says nothing of use of these endpoints.
    fn useless(&mut self, raw: &raw::Health, endpoints: &[Endpoint]) {
        if !endpoints.iter().any(|endpoint| endpoint.address.is_tls()) {
            let message = "`tls` has an effect on endpoints `https://host:port` only, and there is none";
            self.no_effect(&raw.tls, message);
        }
        if endpoints.iter().all(|endpoint| endpoint.address.unix_path().is_some()) {
            self.no_effect(&raw.port, "a Unix socket has no port");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Severity, load_text};
    use std::time::Duration;

    fn load(endpoints: &str, health: &str) -> Result<Health, Option<Code>> {
        let text = format!(
            "listeners: [{{ bind: 127.0.0.1:0 }}]\nupstreams: {{ a: {{ endpoints: [{endpoints}], health: {health} }} }}\n\
             routes: [{{ upstream: a }}]\n"
        );
        match load_text("weir.yaml", &text, &|_| None) {
            Ok(accepted) => Ok(accepted.config.upstreams[0].health.clone().unwrap()),
            Err(rejected) => {
                let mut errors =
                    rejected.diagnostics.iter().filter(|found| found.severity == Severity::Error);
                Err(errors.next().map(|found| found.code))
            }
        }
    }

    #[test]
    fn check_that_contradicts_itself_is_refused() {
        let (plain, secure, unix) = ("'cart:80'", "'https://cart:8443'", "'unix:/run/a.sock'");
        let rows = [
            (plain, "{ path: /healthz }", None),
            (plain, "{ path: '/ready?full=1', status: [200-299, 304], body: ok, host: shop }", None),
            (plain, "{ path: /, headers: { authorization: secret }, port: 9000 }", None),
            (plain, "{ tcp: true }", None),
            (plain, "{ grpc: '' }", None),
            (plain, "{ grpc: cart.v1.Cart, headers: { authorization: secret } }", None),
            (secure, "{ path: /, tls: false, port: 9000 }", None),
            (plain, "{}", Some(Code::OneOf)),
            (plain, "{ tcp: false }", Some(Code::OneOf)),
            (plain, "{ path: /, tcp: true }", Some(Code::OneOf)),
            (plain, "{ path: /, grpc: '' }", Some(Code::OneOf)),
            (plain, "{ path: healthz }", Some(Code::InvalidPath)),
            (plain, "{ path: '/a#b' }", Some(Code::InvalidPath)),
            (plain, "{ path: '/a b' }", Some(Code::InvalidPath)),
            (plain, "{ path: /, method: POST }", Some(Code::UnknownWord)),
            (plain, "{ path: /, method: HEAD, body: ok }", Some(Code::NoEffect)),
            (plain, "{ path: /, body: '' }", Some(Code::NoEffect)),
            (plain, "{ path: /, status: [] }", Some(Code::EmptyList)),
            (plain, "{ path: /, status: [299-200] }", Some(Code::InvalidStatus)),
            (plain, "{ path: /, status: [100] }", Some(Code::InvalidStatus)),
            (plain, "{ path: /, status: [2xx] }", Some(Code::InvalidStatus)),
            (plain, "{ path: /, headers: { host: a } }", Some(Code::HopByHopHeader)),
            (plain, "{ path: /, headers: { connection: close } }", Some(Code::HopByHopHeader)),
            (plain, "{ path: /, host: 'a b' }", Some(Code::InvalidHost)),
            (plain, "{ path: /, port: 0 }", Some(Code::OutOfRange)),
            (unix, "{ path: /, port: 80 }", Some(Code::NoEffect)),
            (plain, "{ path: /, tls: false }", Some(Code::NoEffect)),
            (plain, "{ tcp: true, status: [200] }", Some(Code::NoEffect)),
            (plain, "{ tcp: true, host: a }", Some(Code::NoEffect)),
            (plain, "{ grpc: '', body: ok }", Some(Code::NoEffect)),
            (plain, "{ tcp: true, timeout: 6s }", Some(Code::OutOfRange)),
            (plain, "{ tcp: true, unhealthy_interval: 500ms, timeout: 1s }", Some(Code::OutOfRange)),
            (plain, "{ tcp: true, interval: 0s }", Some(Code::ZeroDuration)),
            (plain, "{ tcp: true, interval: often }", Some(Code::InvalidDuration)),
            (plain, "{ tcp: true, jitter: 101% }", Some(Code::InvalidShare)),
            (plain, "{ tcp: true, healthy: 0 }", Some(Code::OutOfRange)),
        ];
        for (endpoints, health, expected) in rows {
            assert_eq!(load(endpoints, health).err(), expected.map(Some), "{health}");
        }
    }

    #[test]
    fn times_that_are_not_written_follow_from_those_that_are() {
        let times = |health: &str| {
            let found = load("'cart:80'", health).unwrap();
            [found.pace.interval, found.pace.unhealthy_interval, found.timeout].map(|time| time.as_millis())
        };
        for (health, expected) in [
            ("{ tcp: true }", [5000, 5000, 1000]),
            ("{ tcp: true, interval: 10s }", [10_000, 10_000, 1000]),
            ("{ tcp: true, interval: 200ms }", [200, 200, 200]),
            ("{ tcp: true, unhealthy_interval: 300ms }", [5000, 300, 300]),
            ("{ tcp: true, interval: 200ms, unhealthy_interval: 1m }", [200, 60_000, 200]),
            ("{ tcp: true, timeout: 5s }", [5000, 5000, 5000]),
        ] {
            assert_eq!(times(health), expected, "{health}");
        }
        let Probe::Http(http) = load("'cart:80'", "{ path: / }").unwrap().probe else { panic!() };
        assert_eq!(http.status, [200..=299]);
        assert_eq!(load("'cart:80'", "{ tcp: true }").unwrap().timeout, Duration::from_secs(1));
    }

    #[test]
    fn value_of_a_header_shows_nowhere() {
        let found = load("'cart:80'", "{ path: /, headers: { authorization: 'Bearer abc123' } }").unwrap();
        assert_eq!(found.headers[0].1, "Bearer abc123");
        assert!(!format!("{found:?}").contains("abc123"));
    }
}
