//! The certificates that are served: for `/status`, and when they end for `/metrics`.

use std::time::SystemTime;

use serde::Serialize;

use crate::acme::Shelf;
use crate::config::tls::Credentials;
use crate::state::Snapshot;
use crate::telemetry::Expiry;
use crate::wire::SubjectName;

/// A certificate of a listener, or one that is to come.
#[derive(Debug, Serialize)]
pub(super) struct Certificate {
    listener: String,
    names: Vec<String>,
    /// `file` or `acme`.
    source: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_before: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_after: Option<String>,
    /// Whole days until it ends, negative when it has; absent before the first certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    days_left: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    acme: Option<Renewal>,
}

/// How it stands with a certificate that is got by ACME.
#[derive(Debug, Serialize)]
struct Renewal {
    directory: String,
    challenge: String,
    /// When the authority is asked next; absent while it is being asked, and where another process does that.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_attempt: Option<String>,
    /// Attempts that failed since the last success.
    failures: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
}

/// The certificates that `snapshot` serves, by listener in file order.
pub(super) fn certificates(snapshot: &Snapshot, shelf: &Shelf) -> Vec<Certificate> {
    let mut found = Vec::new();
    for listener in &snapshot.config.listeners {
        let Some(tls) = &listener.tls else { continue };
        for credentials in &tls.certificates {
            found.push(certificate(listener.name.as_str(), Some(credentials), &[], None));
        }
        if let Some(acme) = &tls.acme {
            let slot = shelf.slot(acme);
            let notes = slot.notes();
            let renewal = Renewal {
                directory: acme.directory.clone(),
                challenge: acme.challenge.to_string(),
                next_attempt: notes.next.map(text),
                failures: notes.failures,
                last_error: notes.last_error,
            };
            let held = slot.held();
            found.push(certificate(listener.name.as_str(), held.as_deref(), &acme.domains, Some(renewal)));
        }
    }
    found
}

/// When the certificates that `snapshot` serves end.
pub(super) fn expiries(snapshot: &Snapshot, shelf: &Shelf) -> Vec<Expiry> {
    let mut found = Vec::new();
    for listener in &snapshot.config.listeners {
        let Some(tls) = &listener.tls else { continue };
        let listener = listener.name.as_str();
        found.extend(tls.certificates.iter().map(|credentials| Expiry {
            listener: listener.to_owned(),
            name: credentials.names.first().map(SubjectName::text).unwrap_or_default(),
            at: *credentials.valid.end(),
        }));
        if let Some(acme) = &tls.acme
            && let Some(held) = shelf.slot(acme).held()
        {
            let name = acme.domains.first().cloned().unwrap_or_default();
            found.push(Expiry { listener: listener.to_owned(), name, at: *held.valid.end() });
        }
    }
    found
}

fn certificate(
    listener: &str,
    held: Option<&Credentials>,
    domains: &[String],
    acme: Option<Renewal>,
) -> Certificate {
    let names = match held {
        Some(held) => held.names.iter().map(SubjectName::text).collect(),
        None => domains.to_vec(),
    };
    Certificate {
        listener: listener.to_owned(),
        names,
        source: if acme.is_some() { "acme" } else { "file" },
        not_before: held.map(|held| text(*held.valid.start())),
        not_after: held.map(|held| text(*held.valid.end())),
        days_left: held.map(|held| (*held.valid.end() - now()).div_euclid(86_400)),
        acme,
    }
}

fn text(second: i64) -> String {
    jiff::Timestamp::from_second(second).map(|time| time.to_string()).unwrap_or_default()
}

#[expect(clippy::disallowed_methods, reason = "certificates are of the wall clock")]
fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
