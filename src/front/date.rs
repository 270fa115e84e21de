//! The date that a response without one gets (RFC 9110 §6.6.1), written anew once a second and not for each response.

use std::cell::Cell;
use std::time::{SystemTime, UNIX_EPOCH};

/// `Sun, 06 Nov 1994 08:49:37 GMT`
const LENGTH: usize = 29;

thread_local! {
    /// The second that was written last, and its text.
    static WRITTEN: Cell<(i64, [u8; LENGTH])> = const { Cell::new((-1, [0; LENGTH])) };
}

/// The present second as `Date` has it.
#[expect(clippy::disallowed_methods, reason = "a response tells when it was made")]
pub(super) fn now() -> [u8; LENGTH] {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let second = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    let (written, text) = WRITTEN.get();
    if written == second {
        return text;
    }
    let text = date(second);
    WRITTEN.set((second, text));
    text
}

/// The second so many behind the epoch, in text (IMF-fixdate, RFC 9110 §5.6.7).
fn date(second: i64) -> [u8; LENGTH] {
    // What is no date (nobody's clock says so) is the epoch.
    let time = jiff::Timestamp::from_second(second).unwrap_or_default();
    let text = time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    text.as_bytes().try_into().unwrap_or(*b"Thu, 01 Jan 1970 00:00:00 GMT")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_is_written_as_imf_fixdate() {
        for (second, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (i64::MAX, "Thu, 01 Jan 1970 00:00:00 GMT"),
        ] {
            assert_eq!(date(second), text.as_bytes(), "{second}");
        }
    }

    #[test]
    fn date_that_was_written_before_is_the_present_one_again() {
        let read = |date: [u8; LENGTH]| {
            jiff::fmt::rfc2822::parse(std::str::from_utf8(&date).unwrap()).unwrap().timestamp()
        };
        let before = jiff::Timestamp::now().as_second();
        let (first, second) = (read(now()).as_second(), read(now()).as_second());
        let after = jiff::Timestamp::now().as_second();
        assert!(before <= first && first <= second && second <= after, "{before} {first} {second} {after}");
    }
}
