//! What must hold of any text that is given for a configuration. The fuzz target is built from this file too.

use std::time::{Duration, Instant};

use crate::config::{Severity, diff, load_text};

/// What a small text may take at the very most, on any machine: it takes a thousandth of it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Checks that a text is refused with what is wrong and where, or means the same when it is written out.
///
/// # Panics
/// Where something does not hold.
#[expect(clippy::disallowed_methods, reason = "a text must not take long, and only a clock can tell")]
pub fn check_configuration(bytes: &[u8]) {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(4096)]);
    let environment = |name: &str| (name == "SET").then(|| "value".to_owned());
    let begun = Instant::now();
    match load_text("any.yaml", &text, &environment) {
        Ok(accepted) => {
            assert!(!accepted.config.listeners.is_empty() && !accepted.config.routes.is_empty(), "{text}");
            assert!(accepted.warnings.iter().all(|found| found.severity != Severity::Error), "{text}");
            let written = accepted.effective();
            let again = load_text("any.yaml", &written, &environment);
            let again = again.unwrap_or_else(|rejected| panic!("{rejected}:\n{written}\nof\n{text}"));
            assert!(diff(&accepted.config, &again.config).is_empty(), "{text}\nwritten as\n{written}");
        }
        Err(rejected) => {
            assert!(rejected.errors > 0, "{text}");
            let lines = text.lines().count() + 1;
            for found in &rejected.diagnostics {
                assert!(!found.message.is_empty() && !found.message.contains('\n'), "{found:?}");
                assert!(
                    found.place.as_ref().is_none_or(|place| (1..=lines).contains(&place.line)),
                    "{found:?}"
                );
                assert!(!found.render(false).is_empty());
            }
        }
    }
    assert!(begun.elapsed() < PATIENCE, "{:?} for {} bytes:\n{text}", begun.elapsed(), text.len());
}
