//! The one list of metrics: name, kind, labels, and a help text that is the doc comment. `docs/metrics.md` and the
//! output of a scrape are tested against it.

/// How a metric behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Rises, and falls to 0 only when the process starts again.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Observations in buckets.
    Histogram,
}

/// What is known of a metric before anything is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Description {
    /// Its name.
    pub name: &'static str,
    /// How it behaves.
    pub kind: Kind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it says, in one line.
    pub help: &'static str,
}

macro_rules! families {
    ($($(#[doc = $help:literal])+ $family:ident = $kind:ident $name:literal [$($label:ident)*];)*) => {
        /// A metric; the doc comment of each is its help text.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Family {
            $($(#[doc = $help])+ $family,)*
        }

        impl Family {
            /// Every metric.
            pub const ALL: &[Self] = &[$(Self::$family),*];

            /// Its name, kind, labels and help text.
            pub const fn description(self) -> Description {
                match self {
                    $(Self::$family => Description {
                        name: $name,
                        kind: Kind::$kind,
                        labels: &[$(stringify!($label)),*],
                        help: concat!($($help),+).trim_ascii(),
                    },)*
                }
            }
        }
    };
}

families! {
    /// Requests by route, destination, the status code that the client got, and why the variant was chosen.
    Requests = Counter "weir_upstream_requests_total" [route split variant upstream code reason];
    /// Requests that an upstream answered or failed, by whether it did well.
    Outcomes = Counter "weir_upstream_outcomes_total" [route split variant upstream outcome];
    /// gRPC requests by the status that the client got.
    GrpcResponses = Counter "weir_upstream_grpc_responses_total" [route split variant upstream grpc_status];
    /// Time from a request's arrival to the end of its response, as the client sees it.
    RequestDuration = Histogram "weir_request_duration_seconds" [route split variant];
    /// Time from the request head sent to the response head received.
    UpstreamDuration = Histogram "weir_upstream_request_duration_seconds" [route split variant];
    /// Attempts that gave no response, by cause.
    Failures = Counter "weir_upstream_failures_total" [upstream cause];
    /// Requests under way at this moment.
    RequestsActive = Gauge "weir_upstream_requests_active" [split variant upstream];
    /// Attempts beyond a request's first one, by why and by outcome.
    Retries = Counter "weir_upstream_retries_total" [split variant upstream reason outcome];
    /// Bytes of request bodies sent to the upstream.
    RequestBytes = Counter "weir_upstream_request_bytes_total" [split variant upstream];
    /// Bytes of response bodies sent to clients.
    ResponseBytes = Counter "weir_upstream_response_bytes_total" [split variant upstream];
    /// Connections to the upstream in use at this moment.
    ConnectionsActive = Gauge "weir_upstream_connections_active" [upstream];
    /// Connections to the upstream that wait for a request at this moment.
    ConnectionsIdle = Gauge "weir_upstream_connections_idle" [upstream];
    /// Connections made to the upstream.
    Connects = Counter "weir_upstream_connects_total" [upstream];
    /// Whether an endpoint gets requests: 1 or 0; of a name with several addresses, the part of them that do.
    EndpointHealthy = Gauge "weir_endpoint_healthy" [upstream endpoint];
    /// Health checks of an endpoint, by result.
    EndpointChecks = Counter "weir_endpoint_checks_total" [upstream endpoint result];
    /// Times an endpoint was ejected, by cause.
    EndpointEjections = Counter "weir_endpoint_ejections_total" [upstream endpoint cause];
    /// Whether so many endpoints are out that all are used: 1 or 0.
    UpstreamPanic = Gauge "weir_upstream_panic" [upstream];
    /// The configured share of a variant, from 0 to 1.
    Weight = Gauge "weir_split_weight_ratio" [split variant];
    /// The share of a variant that is in force, from 0 to 1.
    EffectiveWeight = Gauge "weir_split_effective_weight_ratio" [split variant];
    /// Requests assigned to a variant.
    Assigned = Counter "weir_split_assigned_total" [split variant];
    /// Distinct units assigned to a variant since the start, estimated with 1.6% standard error.
    Units = Gauge "weir_split_units" [split variant];
    /// Requests without a unit key, by the variant they got; empty where they were refused.
    MissingKey = Counter "weir_split_missing_key_total" [split variant];
    /// The number of the configuration that serves; the first is 1.
    ConfigGeneration = Gauge "weir_config_generation" [];
    /// Attempts to load the configuration, the first included, by result.
    ConfigReloads = Counter "weir_config_reloads_total" [result];
    /// Whether the last attempt to load the configuration was successful.
    ConfigLastSuccess = Gauge "weir_config_last_reload_success" [];
    /// When the configuration was last tried to load, whatever the result, in seconds since the Unix epoch.
    ConfigLastTime = Gauge "weir_config_last_reload_timestamp_seconds" [];
    /// Always 1; the label is the hash of the configuration that serves.
    ConfigInfo = Gauge "weir_config_info" [hash];
    /// Answers of the proxy itself in place of an upstream's, by error code and by who is to blame.
    Errors = Counter "weir_errors_total" [code blame];
    /// Requests that the upstream may have at a time, as configured or found out.
    Limit = Gauge "weir_upstream_requests_limit" [upstream];
    /// Requests that wait for others of the upstream to end.
    Pending = Gauge "weir_upstream_requests_pending" [upstream];
    /// Requests turned away because the upstream had as many as it may.
    Shed = Counter "weir_upstream_requests_shed_total" [upstream];
    /// Requests refused because their unit had sent too many.
    RateLimited = Counter "weir_rate_limited_total" [route];
    /// Units that a rate limit forgot before their time, because too many had to be remembered.
    RateLimitForgotten = Counter "weir_rate_limit_forgotten_total" [route];
    /// Connections accepted from clients.
    DownstreamConnections = Counter "weir_downstream_connections_total" [listener];
    /// Connections from clients open at this moment.
    DownstreamActive = Gauge "weir_downstream_connections_active" [listener];
    /// Request heads that could not be parsed.
    DownstreamMalformed = Counter "weir_downstream_malformed_total" [listener];
    /// Failures to accept a connection from a client: the system had no file or no memory for it.
    DownstreamAcceptFailures = Counter "weir_downstream_accept_failures_total" [listener];
    /// Connections from clients that were closed for what they are or did, by cause.
    DownstreamRefused = Counter "weir_downstream_refused_total" [listener cause];
    /// When the certificate of a listener ends, in seconds since the Unix epoch, by the first of its names.
    CertificateExpiry = Gauge "weir_tls_certificate_expiry_timestamp_seconds" [listener name];
    /// Certificates that were asked for by ACME, the first ones included, by result.
    AcmeRenewals = Counter "weir_acme_renewals_total" [result];
    /// Lines that did not reach the access log.
    AccessLogDropped = Counter "weir_access_log_dropped_total" [];
    /// Tasks of this process that panicked: each ended one connection, and is a bug.
    Panics = Counter "weir_panics_total" [];
    /// Always 1; the label is the version of the program.
    BuildInfo = Gauge "weir_build_info" [version];
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn is_name(text: &str) -> bool {
        text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') && !text.is_empty()
    }

    #[test]
    fn every_metric_is_named_as_the_habits_say() {
        let mut names = HashSet::new();
        for family in Family::ALL {
            let Description { name, kind, labels, help } = family.description();
            assert!(name.starts_with("weir_") && is_name(name), "{name}");
            assert!(names.insert(name), "{name} is listed twice");
            assert_eq!(
                name.ends_with("_total"),
                kind == Kind::Counter,
                "{name}: counters, and only they, end so"
            );
            assert!(labels.iter().all(|label| is_name(label)), "{name}: {labels:?}");
            assert_eq!(labels.iter().collect::<HashSet<_>>().len(), labels.len(), "{name}: {labels:?}");
            assert!(help.ends_with('.') && !help.contains('\n'), "{name}: {help:?}");
        }
    }

    #[test]
    fn documentation_names_every_metric_with_its_labels_and_no_other() {
        let page = include_str!("../../docs/metrics.md");
        for family in Family::ALL {
            let Description { name, labels, .. } = family.description();
            let row = page.lines().find(|line| line.starts_with(&format!("| `{name}` |")));
            let row = row.unwrap_or_else(|| panic!("docs/metrics.md has no row for {name}"));
            let listed = row.split('|').nth(3).unwrap_or_default();
            let expected: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
            assert_eq!(listed.trim(), expected.join(", "), "labels of {name}");
        }
        let rows = page.lines().filter(|line| line.starts_with("| `weir_")).count();
        assert_eq!(rows, Family::ALL.len(), "docs/metrics.md has a row that is not listed");
    }
}
